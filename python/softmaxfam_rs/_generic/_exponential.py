"""Maps of exponentials: logsumexp, softmax, log_softmax, and the most probable classes."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING

from softmaxfam_rs._results import TopK

from ._known import largest
from ._rows import Rows

if TYPE_CHECKING:
    from softmaxfam_rs._typing import Array, Axes


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
    """Log of the sum of exponentials, weighted or not, and its sign."""
    weights = 1.0 if weights is None and return_sign else weights
    rows = Rows(scores, axis, where, temperature, several=True, weights=weights)
    xp, frame = rows.xp, rows.frame
    e = xp.exp(rows.z)
    if rows.weights is None:
        sign = None
        log = rows.highest / rows.divisor + xp.log(xp.sum(e, axis=-1, keepdims=True))
        log = xp.where(rows.is_undefined, rows.highest_given, log)
    else:
        log, sign = _weighted(rows, rows.weights, rows.mask, e)
        log = log if return_sign else xp.where(sign < 0, math.nan, log)
    log = frame.write(out, frame.dropped(frame.as_float(log), keepdims=keepdims))
    return (log, frame.dropped(frame.as_float(sign), keepdims=keepdims)) if return_sign else log


def _weighted(rows: Rows, weights: Array, mask: Array, e: Array) -> tuple[Array, Array]:
    xp, highest = rows.xp, rows.highest_given
    total = xp.sum(xp.where(mask, weights * e, 0.0), axis=-1, keepdims=True)
    infinite = (rows.frame.rows(rows.frame.array) == math.inf) & mask
    infinities = xp.sum(xp.where(infinite, weights * math.inf, 0.0), axis=-1, keepdims=True)
    total = xp.where(rows.is_undefined, xp.where(highest == math.inf, infinities, highest), total)
    total = xp.where(highest == -math.inf, 0.0, total)
    return rows.highest / rows.divisor + xp.log(xp.abs(total)), xp.sign(total)


def softmax(
    scores: Array, /, *, axis: Axes = -1, where: Array = None, temperature: Array = 1.0, out: Array = None
) -> Array:
    """Softmax."""
    rows = Rows(scores, axis, where, temperature, several=True)
    e = rows.xp.exp(rows.z)
    return rows.like_scores(rows.settled(e / rows.xp.sum(e, axis=-1, keepdims=True)), out)


def log_softmax(
    scores: Array, /, *, axis: Axes = -1, where: Array = None, temperature: Array = 1.0, out: Array = None
) -> Array:
    """Logarithm of softmax."""
    rows = Rows(scores, axis, where, temperature, several=True)
    total = rows.xp.sum(rows.xp.exp(rows.z), axis=-1, keepdims=True)
    return rows.like_scores(rows.settled(rows.z - rows.xp.log(total), absent=-math.inf), out)


def top_log_probs(scores: Array, k: int, /, *, axis: int = -1, where: Array = None, temperature: Array = 1.0) -> TopK:
    """Find the k most probable classes: of equal ones those with lower indices first."""
    rows = Rows(scores, axis, where, temperature)
    xp, frame = rows.xp, rows.frame
    k = operator.index(k)
    if not 1 <= k <= frame.classes:
        raise ValueError(f"k is {k}, must lie in [1, {frame.classes}], the number of classes; take min(k, n_classes)")
    log_total = xp.log(xp.sum(xp.exp(rows.z), axis=-1, keepdims=True))
    log = xp.where(rows.is_undefined, rows.highest_given, rows.highest / rows.divisor + log_total)
    z, indices = largest(xp, rows.z, k)
    log_probs = rows.settled(z - log_total, absent=-math.inf)
    indices = xp.where(log_probs > -math.inf, indices, -1)  # neither absent classes nor undefined rows have one
    return TopK(
        frame.in_place_of_classes(frame.as_float(log_probs)),
        frame.in_place_of_classes(indices),
        frame.dropped(frame.as_float(log)),
    )
