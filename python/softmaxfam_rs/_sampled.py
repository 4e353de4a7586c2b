"""Formulas of the losses from sampled negatives, in operations of any array library.

A row has the positive's score and those of m negatives: slots. Sampled softmax is cross entropy over the slots, and
taken from there; the others are sums of softplus.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ._dispatch import library_of
from ._transfer import is_torch

if TYPE_CHECKING:
    from ._typing import Array

CORRECTIONS = ("none", "all", "negatives", "refined")


class Slots(NamedTuple):
    """Scores over the temperature, of a row's positive (...) and of its negatives (..., m)."""

    xp: Any
    positive: Array
    negative: Array
    logq_positive: Array
    logq_negative: Array
    present: Array  # or None: all
    shape: tuple[int, ...]  # of the negatives as they were given
    dtype: Any  # of the results
    temperature: Any


def slots(
    positive: Array,
    negative: Array,
    logq_positive: Array,
    logq_negative: Array,
    hits: Array,
    temperature: Array,
) -> Slots:
    """Check what was given, and bring it to one shape: a positive each, and slots along the last axis."""
    xp = _namespace(positive, negative)
    positive, negative = (_array(xp, array) for array in (positive, negative))
    dtype = positive.dtype
    if "complex" in str(dtype):
        raise TypeError(f"positive has dtype {dtype}, must be real; take positive.real")
    if _kind(dtype) not in {"float16", "bfloat16", "float32", "float64"}:
        dtype = xp.float64 if xp.__name__.rpartition(".")[2] != "torch" else xp.get_default_dtype()
    wide = dtype if _kind(dtype) in {"float32", "float64"} else xp.float32
    positive, negative = (_cast(xp, array, wide) for array in (positive, negative))
    shape = tuple(positive.shape)
    given = tuple(negative.shape)
    if not given or given[:-1] != shape[: len(given) - 1]:
        raise ValueError(
            f"negative has shape {given}, must have shape (m,) for all rows or {(*shape[:1], 'm')} "
            f"for the positives of shape {shape}"
        )
    logs: list[Array] = [
        _logq(xp, name, log, positive, like)
        for name, log, like in (("logq_positive", logq_positive, shape), ("logq_negative", logq_negative, given))
    ]
    present = None if hits is None else ~_beside(xp, _hits(xp, hits, positive, given), shape)
    if isinstance(temperature, int | float) and not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature is {temperature}, must be > 0 and finite")
    negative = _beside(xp, negative, shape)
    log_negative = None if logs[1] is None else _beside(xp, logs[1], shape)
    return Slots(
        xp, positive / temperature, negative / temperature, logs[0], log_negative, present, given, dtype, temperature
    )


def _logq(xp: Any, name: str, log: Array, scores: Array, shape: tuple[int, ...]) -> Array:  # noqa: ANN401
    if log is None:
        return None
    array = _cast(xp, _array(xp, log, scores), scores.dtype)
    if tuple(array.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(array.shape)}, must have shape {shape}, one for each score")
    return array


def _hits(xp: Any, hits: Array, positive: Array, given: tuple[int, ...]) -> Array:  # noqa: ANN401
    hits = _array(xp, hits, positive)
    if _kind(hits.dtype) != "bool":
        raise TypeError(f"hits has dtype {hits.dtype}, must be bool: True where a negative is the positive's class")
    whole = (*positive.shape, given[-1])
    if tuple(hits.shape) not in {given, tuple(whole)}:
        raise ValueError(f"hits has shape {tuple(hits.shape)}, must have shape {tuple(whole)}")
    return hits


def sampled_softmax(of: Slots, correction: str, reduction: str) -> tuple[Array, Array]:
    """Return the scores of the slots, corrected: the positive's, and the negatives'."""
    if correction not in CORRECTIONS:
        raise ValueError(f"correction is {correction!r}, must be one of {', '.join(map(repr, CORRECTIONS))}")
    _check_reduction(reduction)
    xp, positive, negative = of.xp, of.positive, of.negative
    if correction == "none":
        return positive, negative
    if of.logq_positive is None or of.logq_negative is None:
        raise ValueError(
            f"logq_positive or logq_negative is None, must be given for the correction {correction!r}; "
            "samplers return it: sampler.logq(ids)"
        )
    if correction == "all":
        return positive - of.logq_positive, negative - of.logq_negative
    tries = of.shape[-1]
    log_weight = of.logq_negative + (math.log(tries) if tries else 0.0)
    if of.present is None:  # drawn from the other classes alone
        log_weight = log_weight - xp.log1p(-xp.exp(of.logq_positive))[..., None]
    return positive, negative - log_weight


def joined(of: Slots, positive: Array, negative: Array) -> tuple[Array, Array, Array]:
    """Return rows of slots, the positive first, the label of each, and which slots are there."""
    xp, present = of.xp, of.present
    shape = (*positive.shape, of.shape[-1])
    rows = xp.concat([positive[..., None], xp.broadcast_to(negative, shape)], axis=-1)
    labels = xp.zeros_like(positive, dtype=xp.int32)
    if present is None:
        return rows, labels, None
    first = xp.ones_like(positive, dtype=xp.bool)[..., None]
    return rows, labels, xp.concat([first, xp.broadcast_to(present, shape)], axis=-1)


def binary(of: Slots, *, corrected: bool) -> tuple[Array, Array]:
    """Return by how much the odds of each slot lie above those of noise, in logarithms."""
    if not corrected:
        return of.positive, of.negative
    if of.logq_positive is None or of.logq_negative is None:
        raise ValueError("logq_positive or logq_negative is None, must be given; samplers return it: sampler.logq(ids)")
    log_tries = math.log(of.shape[-1]) if of.shape[-1] else 0.0
    return of.positive - of.logq_positive - log_tries, of.negative - of.logq_negative - log_tries


def binary_losses(of: Slots, positive: Array, negative: Array) -> Array:
    """Return for each row -log sigma(positive) - sum log sigma(-negative)."""
    xp = of.xp
    terms = softplus(xp, negative)
    if of.present is not None:
        terms = xp.where(of.present, terms, xp.zeros_like(terms))
    of_negatives = xp.sum(xp.broadcast_to(terms, (*positive.shape, of.shape[-1])), axis=-1)
    return softplus(xp, -positive) + of_negatives


def binary_gradients(of: Slots, positive: Array, negative: Array) -> tuple[Array, Array]:
    """Return the derivatives of the rows' losses by scores over T."""
    xp = of.xp
    slopes = sigmoid(xp, negative)
    if of.present is not None:
        slopes = xp.where(of.present, slopes, xp.zeros_like(slopes))
    return -sigmoid(xp, -positive), xp.broadcast_to(slopes, (*positive.shape, of.shape[-1]))


def softplus(xp: Any, x: Array) -> Array:  # noqa: ANN401  an array namespace
    """log(1 + e^x), never negative."""
    if (library := library_of(x)) is not None and library.name in {"torch", "jax"}:
        return xp.logaddexp(x, xp.zeros_like(x))  # differentiated at 0 too
    return xp.where(x > 0, x, xp.zeros_like(x)) + xp.log1p(xp.exp(-xp.abs(x)))


def sigmoid(xp: Any, x: Array) -> Array:  # noqa: ANN401
    """1 / (1 + e^-x)."""
    return xp.exp(-softplus(xp, -x))


def refined(xp: Any, above: Array) -> Array:  # noqa: ANN401
    """X sigmoid(x) for the log odds x of the negatives, the weight a constant; 0 where no negative is left."""
    is_alone = above == -math.inf
    above = xp.where(is_alone, xp.zeros_like(above), above)
    weight = stopped(xp.where(is_alone, xp.zeros_like(above), sigmoid(xp, above)))
    return weight * above


def reduced(of: Slots, losses: Array, reduction: str) -> Array:
    """Return the losses, their sum or their mean, in the type of the scores."""
    _check_reduction(reduction)
    if reduction != "none":
        losses = (of.xp.mean if reduction == "mean" else of.xp.sum)(losses)
    return _cast(of.xp, losses, of.dtype)


def returned(of: Slots, of_positive: Array, of_negative: Array, reduction: str) -> tuple[Array, Array]:
    """Return derivatives by the scores as they were given: of the sum, or of the mean."""
    count = math.prod(of.positive.shape)
    scale = (1 / count if reduction == "mean" and count else 1.0) / of.temperature
    kept = len(of.shape) - 1
    axes = tuple(range(kept, of_negative.ndim - 1))
    if axes:  # negatives that several positives share
        of_negative = of.xp.sum(of_negative, axis=axes)
    return _cast(of.xp, of_positive * scale, of.dtype), _cast(of.xp, of_negative * scale, of.dtype)


def stopped(array: Array) -> Array:
    """Return an array through which nothing is differentiated."""
    library = library_of(array)
    if library is not None and library.name == "jax":
        import jax  # noqa: PLC0415  the user imported it

        return jax.lax.stop_gradient(array)
    return array.detach() if library is not None and library.name == "torch" else array


def _namespace(*arrays: Array) -> Any:  # noqa: ANN401
    """Return the namespace of the library of the scores."""
    if any(map(is_torch, arrays)):  # whose compiler cannot follow how array_namespace finds it
        from array_api_compat import torch  # noqa: PLC0415  slow to import

        return torch
    found = [array for array in arrays if library_of(array) is not None]
    if not found:
        from array_api_compat import numpy  # noqa: PLC0415

        return numpy
    from array_api_compat import array_namespace  # noqa: PLC0415

    return array_namespace(*found)


def _array(xp: Any, array: Array, like: Array | None = None) -> Array:  # noqa: ANN401
    if library_of(array) is not None and not isinstance(array, np.generic):
        return array
    device = getattr(like, "device", None)
    return xp.asarray(array) if device is None or xp.__name__.endswith("numpy") else xp.asarray(array, device=device)


def _cast(xp: Any, array: Array, dtype: Any) -> Array:  # noqa: ANN401
    return array if array.dtype == dtype else xp.astype(array, dtype)


def _kind(dtype: Any) -> str:  # noqa: ANN401
    return str(getattr(dtype, "name", dtype)).rpartition(".")[2]


def _beside(xp: Any, array: Array, shape: tuple[int, ...]) -> Array:  # noqa: ANN401
    """Insert the axes of rows that an array of slots does not have."""
    missing = len(shape) + 1 - array.ndim
    if missing <= 0:
        return array
    return xp.reshape(array, (*array.shape[:-1], *(1,) * missing, array.shape[-1]))


def _check_reduction(reduction: str) -> None:
    if reduction not in {"none", "mean", "sum"}:
        raise ValueError(f"reduction is {reduction!r}, must be 'none', 'mean' or 'sum'")
