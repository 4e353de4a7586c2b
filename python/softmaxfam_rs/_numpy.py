"""The public functions for NumPy: arrays of any class, numbers and lists, by the compiled core, which checks them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from ._fused import loss_of_numpy as linear_loss
from ._results import SparseRows, Threshold, TopK

if TYPE_CHECKING:
    from ._typing import Array, Axes

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


def logsumexp(
    scores: Array,
    /,
    *,
    axis: Axes = -1,
    keepdims: bool = False,
    where: Array = None,
    weights: Array = None,
    return_sign: bool = False,
    temperature: Array = 1.0,
    out: Array = None,
) -> Array:
    """Log-sum-exp; in one pass without weights."""
    if weights is None and not return_sign:
        return _core.logsumexp(scores, axis, keepdims, where, temperature, out)
    weights = 1.0 if weights is None else weights
    log, sign = _core.weighted_logsumexp(scores, weights, axis, keepdims, return_sign, where, temperature, out)
    return log if sign is None else (log, sign)


def softmax(
    scores: Array, /, *, axis: Axes = -1, where: Array = None, temperature: Array = 1.0, out: Array = None
) -> Array:
    """Softmax."""
    return _core.softmax(scores, axis, where, temperature, out)


def log_softmax(
    scores: Array, /, *, axis: Axes = -1, where: Array = None, temperature: Array = 1.0, out: Array = None
) -> Array:
    """Logarithm of softmax."""
    return _core.log_softmax(scores, axis, where, temperature, out)


def top_log_probs(scores: Array, k: int, /, *, axis: int = -1, where: Array = None, temperature: Array = 1.0) -> TopK:
    """Find the k most probable classes."""
    return TopK(*_core.top_log_probs(scores, k, axis, where, temperature))


def sparsemax(
    scores: Array, /, *, axis: int = -1, where: Array = None, temperature: Array = 1.0, out: Array = None
) -> Array:
    """Entmax of order 2."""
    return _core.entmax(scores, 2.0, axis, where, temperature, out)


def entmax(
    scores: Array,
    /,
    alpha: Array = 1.5,
    *,
    axis: int = -1,
    where: Array = None,
    temperature: Array = 1.0,
    out: Array = None,
) -> Array:
    """Entmax of any order above 0."""
    return _core.entmax(scores, alpha, axis, where, temperature, out)


def normmax(
    scores: Array,
    /,
    alpha: Array = 2.0,
    *,
    axis: int = -1,
    where: Array = None,
    temperature: Array = 1.0,
    out: Array = None,
) -> Array:
    """Normmax of any order above 1."""
    return _core.normmax(scores, alpha, axis, where, temperature, out)


def budget_sparsemax(
    scores: Array,
    /,
    budget: Array,
    *,
    axis: int = -1,
    where: Array = None,
    temperature: Array = 1.0,
    out: Array = None,
) -> Array:
    """Projection onto the capped simplex with this sum."""
    return _core.budget_sparsemax(scores, budget, axis, where, temperature, out)


def entmax_threshold(
    scores: Array, /, alpha: Array = 1.5, *, axis: int = -1, where: Array = None, temperature: Array = 1.0
) -> Threshold:
    """Find the threshold of entmax."""
    return Threshold(*_core.entmax_threshold(scores, alpha, axis, where, temperature))


def entmax_sparse(
    scores: Array,
    /,
    alpha: Array = 1.5,
    *,
    axis: int = -1,
    where: Array = None,
    temperature: Array = 1.0,
    max_support: int | None = None,
) -> SparseRows:
    """Entmax in compressed rows."""
    parts, shape = _core.entmax_sparse(scores, alpha, axis, where, temperature, max_support)
    return SparseRows(*parts, shape)


def tsallis_entropy(p: Array, /, alpha: Array, *, axis: int = -1) -> Array:
    """Tsallis entropy of any order above 0."""
    return _core.tsallis_entropy(p, alpha, axis)


def softmax_vjp(p: Array, g: Array, /, *, axis: Axes = -1) -> Array:
    """Gradient of softmax."""
    return _core.softmax_vjp(p, g, axis, 1.0)


def log_softmax_vjp(log_p: Array, g: Array, /, *, axis: Axes = -1) -> Array:
    """Gradient of log_softmax."""
    return _core.log_softmax_vjp(log_p, g, axis, 1.0)


def logsumexp_vjp(scores: Array, lse: Array, g: Array, /, *, axis: Axes = -1) -> Array:
    """Gradient of logsumexp."""
    return _core.logsumexp_vjp(scores, lse, g, axis, None, 1.0)


def entmax_vjp(p: Array, g: Array, /, alpha: Array, *, axis: int = -1) -> Array:
    """Gradient of entmax with respect to the scores."""
    return _core.entmax_vjp(p, g, alpha, axis, 1.0)


def entmax_alpha_grad(p: Array, g: Array, /, alpha: Array, *, axis: int = -1) -> Array:
    """Gradient of entmax with respect to alpha."""
    return _core.entmax_alpha_grad(p, g, alpha, axis)


def loss(
    kind: str,
    scores: Array,
    target: Array,
    parameter: Array,
    *,
    axis: int,
    where: Array,
    weight: Array,
    ignore_index: int | None,
    label_smoothing: float,
    reduction: str,
    temperature: Array,
    gradient: str,
) -> Any:  # noqa: ANN401  an array, or a pair
    """Compute the loss that `kind` names, and its gradient if that is not "none"."""
    if weight is not None:
        weight = _along(np.asarray(weight), np.shape(scores), axis)
    options = (weight, ignore_index, label_smoothing, reduction, 1.0, gradient)
    result: Any = _core.loss(kind, scores, target, parameter, axis, where, temperature, *options)
    if gradient != "sparse":
        return result
    value, ((indptr, indices, values), shape) = result
    return value, SparseRows(indptr, indices, values, shape)


def _along(weight: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Bring a weight of each class to the axis of the classes."""
    if not shape or not -len(shape) <= axis < len(shape):
        return weight  # the core says what is wrong, or takes it as of one class
    if weight.shape != (shape[axis],):
        raise ValueError(f"weight has shape {weight.shape}, must have shape ({shape[axis]},): one for each class")
    return weight.reshape(-1, *(1,) * ((-1 - axis) % len(shape)))
