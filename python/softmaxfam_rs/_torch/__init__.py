"""The public functions for tensors, with gradients: the compiled core in CPU memory, elsewhere the generic path.

- `arguments`: what callers give, checked;
- `kernels`: the maps without derivatives;
- `operators`: the ways in which torch calls a map: at once, for autograd, under transforms, when it compiles;
- `exponential`, `projections`: the maps with their derivatives, by subject, and the functions;
- `losses`: losses, whose gradients are computed in the backward pass; `linear`: those of a linear layer's scores;
- `gradients`: vector-Jacobian products; `formulas`: all derivatives in operations of torch.
"""

from .exponential import log_softmax, logsumexp, softmax, top_log_probs
from .gradients import entmax_alpha_grad, entmax_vjp, log_softmax_vjp, logsumexp_vjp, softmax_vjp
from .linear import linear_loss
from .losses import loss
from .projections import (
    budget_sparsemax,
    entmax,
    entmax_sparse,
    entmax_threshold,
    normmax,
    sparsemax,
    tsallis_entropy,
)

__all__ = [
    "budget_sparsemax",
    "entmax",
    "entmax_alpha_grad",
    "entmax_sparse",
    "entmax_threshold",
    "entmax_vjp",
    "linear_loss",
    "log_softmax",
    "log_softmax_vjp",
    "logsumexp",
    "logsumexp_vjp",
    "loss",
    "normmax",
    "softmax",
    "softmax_vjp",
    "sparsemax",
    "top_log_probs",
    "tsallis_entropy",
]
