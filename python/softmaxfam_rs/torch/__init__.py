"""Modules and data sets for torch, and in `entmax` a drop-in for the entmax package."""

from .head import LinearHead as LinearHead
from .maps import Entmax as Entmax
from .maps import LogSoftmax as LogSoftmax
from .maps import Softmax as Softmax
from .maps import Sparsemax as Sparsemax
from .sampling import NegativeSampler as NegativeSampler
