"""Entmax above order 2, where the curve is vertical at the cut.

With x = a z sorted, x_(k) is in the support iff sum_(i<k) (x_i - x_(k))^(1/a) < 1, which bisection over k finds. Then
f(pi) = sum_(i in S) (x_i - x_(k) + pi^a)^(1/a), pi the smallest probability, is convex, and Newton's method falls to
f = 1 from pi = 1/k. All in logarithms: nothing underflows at any order.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ._frame import places
from ._known import repeat

if TYPE_CHECKING:
    from softmaxfam_rs._typing import Array

TURNS = 20  # 12 are the most seen


def steep(xp: Any, z: Array, a: Any) -> tuple[Array, Array]:  # noqa: ANN401  a namespace; a number or an array (..., 1)
    """Return the probabilities and u = -log p_max of rows z <= 0 whose maximum is 0, for finite a > 1."""
    log_a = math.log(a) if isinstance(a, float) else xp.log(a)
    cut = _cut(xp, z, a, log_a)
    in_support = z >= cut
    log_gap = xp.where(z > cut, xp.log(xp.where(z > cut, z - cut, 1.0)) + log_a, -math.inf)
    size = xp.sum(xp.astype(in_support, z.dtype), axis=-1, keepdims=True)
    is_highest = z == 0
    ties = xp.sum(xp.astype(is_highest, z.dtype), axis=-1, keepdims=True)
    highest_gap = xp.max(log_gap, axis=-1, keepdims=True) if z.shape[-1] else log_a - size
    tolerance = 2 * float(xp.finfo(z.dtype).eps)

    def at(log_pi: Array) -> tuple[Array, Array, Array]:
        log_p = xp.where(in_support, xp.logaddexp(log_gap, a * log_pi) / a, -math.inf)
        log_highest = xp.logaddexp(highest_gap, a * log_pi) / a
        others = xp.sum(xp.where(is_highest, 0.0, xp.exp(log_p)), axis=-1, keepdims=True)
        excess = others + (ties - 1) * xp.exp(log_highest) + xp.expm1(log_highest)
        return log_p, log_highest, excess

    def step(state: tuple[Array, Array]) -> tuple[Array, Array]:
        log_pi, _ = state
        log_p, _, excess = at(log_pi)
        slopes = xp.where(in_support, xp.exp((a - 1) * (log_pi - log_p)), 0.0)
        change = -excess / (xp.sum(slopes, axis=-1, keepdims=True) * xp.exp(log_pi))
        change = xp.log1p(xp.where(change > -0.999, change, -0.999))  # noqa: PLR2004  pi stays positive
        return log_pi + change, xp.abs(change) <= tolerance

    start = -xp.log(size)
    log_pi = repeat(xp, step, (start, start > 1), times=TURNS, done=lambda state: state[1])[0]
    log_p, log_highest, excess = at(log_pi)
    return xp.exp(log_p) / (1 + excess), xp.log1p(excess) - log_highest


def _cut(xp: Any, z: Array, a: Any, log_a: Any) -> Array:  # noqa: ANN401
    """Return the lowest score in the support."""
    classes = z.shape[-1]
    if classes == 0:
        return xp.sum(z, axis=-1, keepdims=True)
    ordered = xp.sort(z, axis=-1, descending=True)
    place = places(xp, z)

    def score_at(k: Array) -> Array:
        return xp.sum(xp.where(place == k, ordered, 0.0), axis=-1, keepdims=True)

    def step(state: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = state
        middle = (low + high + 1) // 2
        score = score_at(middle)
        is_above = z > score
        powers = xp.exp((xp.log(xp.where(is_above, z - score, 1.0)) + log_a) / a)
        total = xp.sum(xp.where(is_above, powers, 0.0), axis=-1, keepdims=True)
        is_inside = (total < 1) & (score > -math.inf)
        return xp.where(is_inside, middle, low), xp.where(is_inside, high, middle - 1)

    near = a * z >= -1 - 8 * float(xp.finfo(z.dtype).eps)  # others have no probability
    high = xp.sum(xp.astype(near, xp.int32), axis=-1, keepdims=True, dtype=xp.int32)
    low = xp.ones_like(high)  # the maximum is in the support
    turns = (classes - 1).bit_length()
    return score_at(repeat(xp, step, (low, high), times=turns, done=lambda state: state[0] >= state[1])[0])
