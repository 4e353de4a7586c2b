"""Sparse projections between softmax and argmax: entmax and its relatives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from softmaxfam_rs._results import SparseRows, Threshold

from ._differentiable import solve
from ._frame import on_device_of
from ._known import is_known
from ._rows import Rows, order_less_one

if TYPE_CHECKING:
    from softmaxfam_rs._typing import Array


def sparsemax(
    scores: Array, /, *, axis: int = -1, where: Array = None, temperature: Array = 1.0, out: Array = None
) -> Array:
    """Entmax of order 2."""
    return entmax(scores, 2.0, axis=axis, where=where, temperature=temperature, out=out)


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
    rows = Rows(scores, axis, where, temperature)
    p = solve(rows.xp, rows.z, order_less_one(rows.frame, alpha))[0]
    return rows.like_scores(rows.settled(p), out)


def entmax_threshold(
    scores: Array, /, alpha: Array = 1.5, *, axis: int = -1, where: Array = None, temperature: Array = 1.0
) -> Threshold:
    """Find the threshold of entmax."""
    rows = Rows(scores, axis, where, temperature)
    xp, frame = rows.xp, rows.frame
    a = order_less_one(frame, alpha)
    p, u = solve(xp, rows.z, a)
    is_in = (p > 0) | ((rows.z > -math.inf) & (a <= 0))  # up to order 1 all are, also where p underflows
    support = xp.sum(xp.astype(is_in, _index_dtype(xp)), axis=-1, keepdims=True)
    is_empty = rows.is_undefined if rows.is_absent is None else rows.is_undefined | rows.is_absent
    normalizer = rows.highest / rows.divisor + _below_highest(xp, a, u)
    return Threshold(
        frame.dropped(frame.as_float(rows.settled(normalizer, absent=-math.inf))),
        frame.dropped(xp.where(is_empty, xp.zeros_like(support), support)),
        frame.dropped(frame.as_float(rows.settled(-u, absent=-math.inf))),
    )


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
    """Entmax in compressed rows, whose size depends on the data."""
    rows = Rows(scores, axis, where, temperature)
    if not is_known(rows.z):
        raise TypeError(
            "entmax_sparse got an array without values, as in a traced or compiled function: the size of its result "
            "depends on them, call it outside, or take entmax"
        )
    xp, frame = rows.xp, rows.frame
    p = rows.settled(solve(xp, rows.z, order_less_one(frame, alpha))[0])
    p = frame.as_float(xp.reshape(p, (math.prod(frame.batch), frame.classes)))
    is_in = p != 0  # NaN too
    sizes = xp.sum(xp.astype(is_in, _index_dtype(xp)), axis=-1)
    if max_support is not None and p.shape[0] and bool(xp.any(sizes > max_support)):
        row = int(xp.argmax(xp.astype(sizes > max_support, xp.int32)))
        raise ValueError(
            f"row {row} has a support of {int(sizes[row])} classes, max_support allows {max_support}; "
            "raise max_support, or alpha"
        )
    before = xp.zeros((1,), dtype=sizes.dtype, **on_device_of(p))
    indptr = xp.concat([before, xp.cumulative_sum(sizes)])
    flat = xp.nonzero(xp.reshape(is_in, (-1,)))[0]
    return SparseRows(indptr, flat % max(frame.classes, 1), xp.take(xp.reshape(p, (-1,)), flat), tuple(p.shape))


def _below_highest(xp: Any, a: Any, u: Array) -> Array:  # noqa: ANN401
    """Return nu, where p_i = [1 + a (z_i - nu)]_+^(1/a)."""
    if isinstance(a, float):
        return u if a == 0 else xp.zeros_like(u) if a == math.inf else -xp.expm1(-a * u) / a
    safe = xp.where((a == 0) | (a == math.inf), 1.0, a)
    return xp.where(a == 0, u, xp.where(a == math.inf, 0.0, -xp.expm1(-safe * u) / safe))


def _index_dtype(xp: Any) -> Any:  # noqa: ANN401
    return xp.__array_namespace_info__().default_dtypes()["indexing"]
