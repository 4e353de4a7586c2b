"""Modules and data sets for torch, and in `entmax` a drop-in for the entmax package."""

from .head import LinearHead as LinearHead
from .hierarchical import HierarchicalSoftmax as HierarchicalSoftmax
from .linear import LinearCrossEntropyLoss as LinearCrossEntropyLoss
from .linear import LinearEntmaxLoss as LinearEntmaxLoss
from .losses import AdaptiveEntmaxLoss as AdaptiveEntmaxLoss
from .losses import CrossEntropyLoss as CrossEntropyLoss
from .losses import EntmaxLoss as EntmaxLoss
from .losses import PerceptronLoss as PerceptronLoss
from .losses import RankmaxLoss as RankmaxLoss
from .losses import SparsemaxLoss as SparsemaxLoss
from .maps import Entmax as Entmax
from .maps import LogSoftmax as LogSoftmax
from .maps import Softmax as Softmax
from .maps import Sparsemax as Sparsemax
from .sampled import NCELoss as NCELoss
from .sampled import NegativeSamplingLoss as NegativeSamplingLoss
from .sampled import SampledSoftmaxLoss as SampledSoftmaxLoss
from .sampling import NegativeSampler as NegativeSampler
