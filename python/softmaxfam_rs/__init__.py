"""Log-sum-exp, softmax, sparsemax, entmax and top-k over many classes, computed in Rust.

Arrays of NumPy, torch, JAX, Dask, CuPy and of any other library with the array-API standard are taken and returned;
those of NumPy, and of torch in CPU memory, are read in place by the compiled core.

The contract at the edges, the same for every function:

- NaN in a row: that row is NaN, other rows are untouched;
- +inf in a row: logsumexp is +inf, every map NaN in that row;
- -inf is an absent class: its probability is exactly 0; a row of nothing else: logsumexp -inf, maps NaN;
- ``where`` False is an absent class too, whatever its score;
- a row that is masked as a whole: logsumexp -inf, maps 0, log_softmax -inf;
- an empty axis: logsumexp -inf, maps empty; a 0-d array is one class; integers and bool become float64 (of torch and
  JAX their default float);
- float16 and bfloat16 (of ml_dtypes) are computed in float32 or better and rounded once.

Results of the core have the same bits for any number of threads, any batch size and any instruction set.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ._config import get_num_threads, set_num_threads, show_config
from ._core import __version__
from ._drawn_losses import (
    nce,
    nce_and_grad,
    negative_sampling,
    negative_sampling_and_grad,
    sampled_softmax,
    sampled_softmax_and_grad,
)
from ._entmax import budget_sparsemax, entmax, entmax_sparse, entmax_threshold, normmax, sparsemax, tsallis_entropy
from ._exponential import log_softmax, logsumexp, softmax, top_log_probs
from ._gradients import entmax_alpha_grad, entmax_vjp, log_softmax_vjp, logsumexp_vjp, softmax_vjp
from ._head import EntmaxState, LinearHead, ScoreState
from ._linear_losses import (
    linear_cross_entropy,
    linear_cross_entropy_and_grad,
    linear_entmax_loss,
    linear_entmax_loss_and_grad,
    linear_rankmax_loss,
    linear_rankmax_loss_and_grad,
)
from ._losses import (
    cross_entropy,
    cross_entropy_and_grad,
    entmax_loss,
    entmax_loss_and_grad,
    normmax_loss,
    normmax_loss_and_grad,
    perceptron_loss,
    perceptron_loss_and_grad,
    rankmax_loss,
    rankmax_loss_and_grad,
    sparsemax_loss,
    sparsemax_loss_and_grad,
)
from ._results import IndexedRows, LinearGradients, Scores, SparseRows, Threshold, TopK
from ._sampled_losses import (
    SampledGradients,
    nce_loss,
    nce_loss_and_grad,
    negative_sampling_loss,
    negative_sampling_loss_and_grad,
    sampled_softmax_loss,
    sampled_softmax_loss_and_grad,
)
from ._samplers import AliasTable, LogUniformSampler, Samples, UniformSampler, sample_scores
from ._streams import Stream

if TYPE_CHECKING:
    from ._bias_variance import BiasVariance, estimate_bias_variance
    from ._factorizer import RGFactorizer
    from ._factors import (
        FactorGradients,
        rg2_loss,
        rg2_loss_and_grad,
        rg2_loss_hvp,
        rgx_loss,
        rgx_loss_and_grad,
        rgx_loss_hvp,
    )
    from ._hierarchical import HierarchicalSoftmax
    from ._words import Corpus, SkipGram

# Imported when first asked for: with what it needs, it takes nearly as long to import as all the rest.
_LATER = {
    "_bias_variance": ("BiasVariance", "estimate_bias_variance"),
    "_factorizer": ("RGFactorizer",),
    "_factors": (
        "FactorGradients",
        "rg2_loss",
        "rg2_loss_and_grad",
        "rg2_loss_hvp",
        "rgx_loss",
        "rgx_loss_and_grad",
        "rgx_loss_hvp",
    ),
    "_hierarchical": ("HierarchicalSoftmax",),
    "_words": ("Corpus", "SkipGram"),
}
_HOMES = {name: module for module, names in _LATER.items() for name in names}

__all__ = [
    "AliasTable",
    "BiasVariance",
    "Corpus",
    "EntmaxState",
    "FactorGradients",
    "HierarchicalSoftmax",
    "IndexedRows",
    "LinearGradients",
    "LinearHead",
    "LogUniformSampler",
    "RGFactorizer",
    "SampledGradients",
    "Samples",
    "ScoreState",
    "Scores",
    "SkipGram",
    "SparseRows",
    "Stream",
    "Threshold",
    "TopK",
    "UniformSampler",
    "__version__",
    "budget_sparsemax",
    "cross_entropy",
    "cross_entropy_and_grad",
    "entmax",
    "entmax_alpha_grad",
    "entmax_loss",
    "entmax_loss_and_grad",
    "entmax_sparse",
    "entmax_threshold",
    "entmax_vjp",
    "estimate_bias_variance",
    "get_num_threads",
    "linear_cross_entropy",
    "linear_cross_entropy_and_grad",
    "linear_entmax_loss",
    "linear_entmax_loss_and_grad",
    "linear_rankmax_loss",
    "linear_rankmax_loss_and_grad",
    "log_softmax",
    "log_softmax_vjp",
    "logsumexp",
    "logsumexp_vjp",
    "nce",
    "nce_and_grad",
    "nce_loss",
    "nce_loss_and_grad",
    "negative_sampling",
    "negative_sampling_and_grad",
    "negative_sampling_loss",
    "negative_sampling_loss_and_grad",
    "normmax",
    "normmax_loss",
    "normmax_loss_and_grad",
    "perceptron_loss",
    "perceptron_loss_and_grad",
    "rankmax_loss",
    "rankmax_loss_and_grad",
    "rg2_loss",
    "rg2_loss_and_grad",
    "rg2_loss_hvp",
    "rgx_loss",
    "rgx_loss_and_grad",
    "rgx_loss_hvp",
    "sample_scores",
    "sampled_softmax",
    "sampled_softmax_and_grad",
    "sampled_softmax_loss",
    "sampled_softmax_loss_and_grad",
    "set_num_threads",
    "show_config",
    "softmax",
    "softmax_vjp",
    "sparsemax",
    "sparsemax_loss",
    "sparsemax_loss_and_grad",
    "top_log_probs",
    "tsallis_entropy",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
