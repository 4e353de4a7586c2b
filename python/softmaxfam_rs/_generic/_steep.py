"""Entmax above order 2, where the curve is vertical at the cut.

With x = a z sorted, x_(k) is in the support iff sum_(i<k) (x_i - x_(k))^(1/a) < 1, which bisection over k finds. Then
f(pi) = sum_(i in S) (x_i - x_(k) + pi^a)^(1/a), pi the smallest probability, is convex, and Newton's method falls to
f = 1 from pi = 1/k. All in logarithms: nothing underflows at any order.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ._frame import places
from ._known import either, largest, repeat

if TYPE_CHECKING:
    from softmaxfam_rs._typing import Array

TURNS = 20  # 12 are the most seen
FEW = 128  # classes of a row that are searched instead of all, where no row has more within reach of its maximum


def steep(xp: Any, z: Array, a: Any) -> tuple[Array, Array]:  # noqa: ANN401  a namespace; a number or an array (..., 1)
    """Return the probabilities and u = -log p_max of rows z <= 0 whose maximum is 0, for finite a > 1."""
    log_a = math.log(a) if isinstance(a, float) else xp.log(a)
    if z.shape[-1] > FEW:
        reach = xp.sum(within_reach(xp, z, a), axis=-1, dtype=xp.int32)
        cut, log_pi, excess, log_highest = either(
            xp.all(reach <= FEW),
            lambda: _search(xp, largest(xp, z, FEW)[0], a, log_a),
            lambda: _search(xp, xp.sort(z, axis=-1, descending=True), a, log_a),
        )
    else:
        cut, log_pi, excess, log_highest = _search(xp, xp.sort(z, axis=-1, descending=True), a, log_a)
    log_p = xp.where(z >= cut, xp.logaddexp(_log_gap(xp, z, cut, log_a), a * log_pi) / a, -math.inf)
    return xp.exp(log_p) / (1 + excess), xp.log1p(excess) - log_highest


def within_reach(xp: Any, z: Array, a: Any) -> Array:  # noqa: ANN401
    """Return 1 for classes that may be in the support: others are more than 1/a below the maximum."""
    return xp.astype(a * z >= -1 - 8 * float(xp.finfo(z.dtype).eps), xp.int32)


def _log_gap(xp: Any, z: Array, cut: Array, log_a: Any) -> Array:  # noqa: ANN401
    """Return the logarithm of x - x_(k)."""
    is_above = z > cut
    return xp.where(is_above, xp.log(xp.where(is_above, z - cut, 1.0)) + log_a, -math.inf)


def _search(xp: Any, ordered: Array, a: Any, log_a: Any) -> tuple[Array, Array, Array, Array]:  # noqa: ANN401
    """Return x_(k), log pi, f(pi) - 1 and the logarithm of the largest term of f, of scores in descending order."""
    cut = _cut(xp, ordered, a, log_a)
    in_support = ordered >= cut
    log_gap = _log_gap(xp, ordered, cut, log_a)
    is_highest = ordered == 0
    size, ties = (xp.sum(xp.astype(of, cut.dtype), axis=-1, keepdims=True) for of in (in_support, is_highest))
    highest_gap = log_gap[..., :1] if ordered.shape[-1] else cut
    tolerance = 2 * float(xp.finfo(cut.dtype).eps)

    def at(log_pi: Array) -> tuple[Array, Array, Array]:
        log_p = xp.where(in_support, xp.logaddexp(log_gap, a * log_pi) / a, -math.inf)
        log_highest = xp.logaddexp(highest_gap, a * log_pi) / a
        others = xp.sum(xp.where(is_highest, 0.0, xp.exp(log_p)), axis=-1, keepdims=True)
        return log_p, log_highest, others + (ties - 1) * xp.exp(log_highest) + xp.expm1(log_highest)

    def step(state: tuple[Array, Array]) -> tuple[Array, Array]:
        log_pi, is_done = state
        log_p, _, excess = at(log_pi)
        slopes = xp.where(in_support, xp.exp((a - 1) * (log_pi - log_p)), 0.0)
        change = -excess / (xp.sum(slopes, axis=-1, keepdims=True) * xp.exp(log_pi))
        change = xp.log1p(xp.where(change > -0.999, change, -0.999))  # noqa: PLR2004  pi stays positive
        is_done = is_done | (change >= -tolerance)  # it falls, and rises only by rounding
        return xp.where(is_done, log_pi, log_pi + change), is_done

    start = -xp.log(size)
    log_pi = repeat(xp, step, (start, start > 1), times=TURNS, done=lambda state: state[1])[0]
    _, log_highest, excess = at(log_pi)
    return cut, log_pi, excess, log_highest


def _cut(xp: Any, ordered: Array, a: Any, log_a: Any) -> Array:  # noqa: ANN401
    """Return the lowest score in the support, of scores in descending order."""
    if ordered.shape[-1] == 0:
        return xp.sum(ordered, axis=-1, keepdims=True)
    place = places(xp, ordered)

    def score_at(k: Array) -> Array:
        return xp.sum(xp.where(place == k, ordered, 0.0), axis=-1, keepdims=True)

    def step(state: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = state
        middle = (low + high + 1) // 2
        score = score_at(middle)
        powers = xp.exp(_log_gap(xp, ordered, score, log_a) / a)
        is_inside = (xp.sum(powers, axis=-1, keepdims=True) < 1) & (score > -math.inf)
        return xp.where(is_inside, middle, low), xp.where(is_inside, high, middle - 1)

    high = xp.sum(within_reach(xp, ordered, a), axis=-1, keepdims=True, dtype=xp.int32)
    low = xp.ones_like(high)  # the maximum is in the support
    turns = (ordered.shape[-1] - 1).bit_length()
    return score_at(repeat(xp, step, (low, high), times=turns, done=lambda state: state[0] >= state[1])[0])
