"""What losses that draw their own negatives share: the draws and their corrections, and the core's call.

With offsets c the loss of a slot with the score s is that of o = s / T - c: c holds what the correction subtracts. The
core adds -T c, and the bias, to inner products. A constant that all slots of a row share changes no softmax, so
log(1 - q) of the target, by which "negatives" divides, stands beside the target alone.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _core
from ._results import IndexedRows, LinearGradients
from ._sampled import CORRECTIONS
from ._sampled_losses import nce_loss_and_grad, sampled_softmax_loss_and_grad
from ._transfer import to_count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._samplers import Rng
    from ._typing import Array


class Draws(NamedTuple):
    """Targets and negatives, with what is subtracted from their scores over T."""

    target: NDArray[np.int64]
    negative: NDArray[np.int64]  # (m,) or (B, m)
    of_target: NDArray[np.float64]
    of_negative: NDArray[np.float64]
    is_binary: bool
    is_refined: bool
    removes_hits: bool
    temperature: float


def drawn(
    kind: str,
    target: NDArray[np.int64],
    classes: int,
    sampler: Any,  # noqa: ANN401  of any law
    m: int,
    *,
    rng: Rng,
    correction: str,
    shared: bool,
    unique: bool,
    removes_hits: bool,
    temperature: float,
) -> Draws:
    """Check the options, draw, and correct."""
    if not (hasattr(sampler, "sample") and hasattr(sampler, "logq")):
        raise TypeError(
            f"sampler is a {type(sampler).__name__}, must be one of this package, such as AliasTable(weights)"
        )
    if len(sampler) != classes:
        raise ValueError(f"sampler has {len(sampler)} classes, must have {classes}, as many as W has rows")
    m = to_count("m", m)
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature is {temperature}, must be > 0 and finite")
    if target.size and not (target.min() >= 0 and target.max() < classes):
        wrong = int(np.flatnonzero((target < 0) | (target >= classes))[0])
        raise ValueError(f"target of query {wrong} is {target[wrong]}, must lie in [0, {classes - 1}]")
    samples = sampler.sample(m if shared else (len(target), m), rng=rng, unique=unique)
    ids = np.ascontiguousarray(samples.ids)
    of_target, of_negative = np.zeros(target.shape), np.zeros(ids.shape)
    if kind == "nce" or (kind == "sampled_softmax" and correction != "none"):
        if unique:  # the chance to be among the classes drawn
            tries = np.asarray(samples.tries)
            of_negative += _log(sampler.expected_count(ids, tries if shared else tries[:, None]))
            of_target += _log(sampler.expected_count(target, tries))
        else:
            count = 0.0 if correction == "all" and kind == "sampled_softmax" else math.log(m)
            of_negative += np.asarray(samples.logq, np.float64) + count
            of_target += np.asarray(sampler.logq(target), np.float64) + count
        if kind == "sampled_softmax" and correction != "all":
            q = np.exp(of_target - (0.0 if unique else math.log(m)))
            of_target = np.zeros(target.shape) if removes_hits else np.log1p(-q)
    is_refined = kind == "sampled_softmax" and correction == "refined"
    is_binary = kind != "sampled_softmax"
    return Draws(target, ids, of_target, of_negative, is_binary, is_refined, removes_hits, float(temperature))


def _log(counts: Array) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(counts, np.float64))


def treatment(kind: str, correction: str, *, unique: bool, remove_hits: bool | None, stacklevel: int = 3) -> bool:
    """Return whether negatives that are the target are left out; warn where the choice is biased."""
    if correction not in CORRECTIONS:
        raise ValueError(f"correction is {correction!r}, must be one of {', '.join(map(repr, CORRECTIONS))}")
    if kind == "sampled_softmax":
        removes = unique or correction in {"negatives", "refined"}
        reason = "the target counts twice" if removes else "log-probabilities are no longer the optimum"
    else:
        removes, reason = False, "noise that the theory counts is left out"
    if remove_hits is None or remove_hits == removes:
        return removes
    if kind != "negative_sampling" and not (kind == "sampled_softmax" and correction == "none"):
        name = f"the correction {correction!r}" if kind == "sampled_softmax" else "noise-contrastive estimation"
        how = "distinct draws" if unique else "draws with replacement"
        warnings.warn(f"remove_hits={remove_hits} is biased under {name} with {how}: {reason}", stacklevel=stacklevel)
    return remove_hits


def by_core(
    draws: Draws,
    h: NDArray[np.float32],
    matrix: NDArray[np.float32],
    bias: NDArray[Any] | None,
    factors: NDArray[np.float64] | None,
    *,
    wants_h: bool,
    wants_rows: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float32] | None, Any]:
    """Return the loss of each query, and the gradients of their sum, each times its factor."""
    of_target, of_negative = (-draws.temperature * offsets for offsets in (draws.of_target, draws.of_negative))
    if bias is not None:
        of_target, of_negative = of_target + bias[draws.target], of_negative + bias[draws.negative]
    of_h = np.empty(h.shape, np.float32) if wants_h else None
    classes = (draws.target, of_target.astype(np.float32), draws.negative, of_negative.astype(np.float32))
    numbers = (draws.is_binary, draws.removes_hits, draws.temperature)
    losses, touched = _core.sampled_loss(h, matrix, classes, numbers, factors, of_h, wants_rows)
    return (refined(losses) if draws.is_refined else losses), of_h, touched


def refined(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (1 - p) (log sum of the negatives' exponentials - s) from the cross entropy log(1 + that sum / e^s)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        others = -np.expm1(-losses)  # 1 - p
        found: NDArray[np.float64] = np.where(others == 0, 0.0, others * (losses + np.log(others)))
    return found


def by_formulas(
    draws: Draws,
    h: NDArray[np.float64],
    matrix: NDArray[np.float64],
    bias: NDArray[Any] | None,
    factors: NDArray[np.float64] | None,
    *,
    wants_gradient: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, Any]:
    """As `by_core` in float64, which the core does not take, by array calls."""
    target, negative, count = draws.target, draws.negative, len(draws.target)
    rows = matrix[target]
    positive = np.einsum("bd,bd->b", h, rows)
    others = matrix[negative]
    scores = h @ others.T if negative.ndim == 1 else np.einsum("bd,bmd->bm", h, others)
    if bias is not None:
        positive, scores = positive + bias[target], scores + bias[negative]
    of_negative = np.broadcast_to(draws.of_negative, scores.shape)
    hits = negative == target[:, None] if draws.removes_hits else None
    options: dict[str, Any] = {"hits": hits, "temperature": draws.temperature, "reduction": "none"}
    if draws.is_binary:
        log_m = math.log(negative.shape[-1])  # which the function adds
        logs = (draws.of_target - log_m, of_negative - log_m)
        losses, (g, of_scores) = nce_loss_and_grad(positive, scores, *logs, **options)
    else:
        logs = (draws.of_target, of_negative)
        losses, (g, of_scores) = sampled_softmax_loss_and_grad(positive, scores, *logs, **options)
    losses = refined(np.asarray(losses)) if draws.is_refined else np.asarray(losses)
    if not wants_gradient:
        return losses, None, None
    if factors is not None:
        g, of_scores = g * factors, of_scores * factors[:, None]
    product = of_scores @ others if negative.ndim == 1 else np.einsum("bm,bmd->bd", of_scores, others)
    of_h = g[:, None] * rows + product
    classes, places = np.unique(np.concatenate([target, negative.reshape(-1)]), return_inverse=True)
    values, biases = np.zeros((len(classes), h.shape[1])), np.zeros(len(classes))
    np.add.at(values, places[:count], g[:, None] * h)
    np.add.at(biases, places[:count], g)
    if negative.ndim == 1:
        np.add.at(values, places[count:], of_scores.T @ h)
        np.add.at(biases, places[count:], of_scores.sum(axis=0))
    else:
        np.add.at(values, places[count:], (of_scores[..., None] * h[:, None, :]).reshape(-1, h.shape[1]))
        np.add.at(biases, places[count:], of_scores.reshape(-1))
    return losses, of_h, (classes, values, biases)


def compacted(draws: Draws, matrix: Array, bias: Array | None) -> tuple[Draws, NDArray[np.int64], Array, Array | None]:
    """Return the same over the rows that are named alone, and which those are: for types that are to be converted."""
    named, places = np.unique(np.concatenate([draws.target, draws.negative.reshape(-1)]), return_inverse=True)
    places = np.asarray(places, np.int64)
    count = len(draws.target)
    fewer = draws._replace(target=places[:count], negative=places[count:].reshape(draws.negative.shape))
    return fewer, named, matrix[named], None if bias is None else bias[named]


def loss_of_numpy(
    kind: str,
    h: Array,
    matrix: Array,
    target: Array,
    sampler: Any,  # noqa: ANN401
    m: int,
    *,
    bias: Array | None,
    reduction: str,
    wants_gradient: bool,
    sparse_grad: bool,  # noqa: ARG001  of torch
    **options: Any,  # noqa: ANN401  passed on
) -> Any:  # noqa: ANN401  an array, or a pair
    """Compute a loss of arrays of NumPy, and its gradients if they are wanted."""
    from ._fused import checked, common_dtype  # noqa: PLC0415  which takes much

    h, matrix, target = np.asarray(h), np.asarray(matrix), np.asarray(target)
    bias = None if bias is None else np.asarray(bias)
    given = {"h": h, "W": matrix, "target": target} | ({} if bias is None else {"bias": bias})
    for name in {"h", "W", "bias"} & set(given):
        if given[name].dtype.kind not in "iufb" and given[name].dtype.name != "bfloat16":
            raise TypeError(f"{name} has dtype {given[name].dtype}, must be real; convert it to numpy.float32")
    batch = checked({name: array.shape for name, array in given.items()}, {"target": target.dtype})
    check_reduction(reduction)
    dtype = common_dtype(h.dtype, matrix.dtype)
    wide = np.float64 if dtype == np.float64 else np.float32
    labels = np.ascontiguousarray(target, np.int64).reshape(-1)
    draws = drawn(kind, labels, len(matrix), sampler, m, **options)
    queries = np.ascontiguousarray(h, wide).reshape(-1, h.shape[-1])
    factors = np.full(len(labels), 1 / max(1, len(labels))) if reduction == "mean" else None
    named = None
    if wide is np.float64 or not (matrix.dtype == np.float32 and matrix.flags.c_contiguous and matrix.flags.aligned):
        draws, named, rows, bias = compacted(draws, matrix, bias)
    else:
        rows = matrix
    of_h: Any
    numbers: Any = queries
    if wide is np.float64:
        wide_rows = np.asarray(rows, np.float64)
        losses, of_h, touched = by_formulas(draws, numbers, wide_rows, bias, factors, wants_gradient=wants_gradient)
    else:
        rows = np.ascontiguousarray(rows, np.float32)
        losses, of_h, touched = by_core(
            draws, numbers, rows, bias, factors, wants_h=wants_gradient, wants_rows=wants_gradient
        )
    value = reduced(losses, reduction).astype(dtype).reshape(batch if reduction == "none" else ())
    value = value if value.ndim else value[()]
    if not wants_gradient:
        return value
    indices, values, biases = touched
    indices = indices if named is None else named[indices]
    of_rows = IndexedRows(indices, values.astype(dtype, copy=False), (matrix.shape[0], matrix.shape[1]))
    of_bias = None if bias is None else IndexedRows(indices, biases.astype(dtype, copy=False), (matrix.shape[0],))
    return value, LinearGradients(of_h.reshape(h.shape).astype(dtype, copy=False), of_rows, of_bias)


def reduced(losses: NDArray[np.float64], reduction: str) -> NDArray[np.float64]:
    """Return losses as asked for; the mean of none is NaN."""
    if reduction == "none":
        return losses
    total = losses.sum()
    return np.asarray((total / len(losses) if len(losses) else math.nan) if reduction == "mean" else total)


def check_reduction(reduction: str) -> None:
    if reduction not in {"none", "mean", "sum"}:
        raise ValueError(f"reduction is {reduction!r}, must be 'none', 'mean' or 'sum'")
