"""Entmax of rows below their maximum: the root u = -log p_max of G(u) = log sum_i r_i(u) - u, a = alpha - 1.

With r_i = p_i / p_max = [1 + a e^(au) z_i]_+^(1/a), which is exp(z_i) at a = 0, nothing in u loses its digits, neither
near alpha = 1 nor for confident rows.

Up to order 2 (and below 1): Newton's method on N = (sum_i w_i^(1/a))^a, which is convex, in u; it climbs to the root
from any start below, and a bracket guards it against rounding. At order 2 this is finite (Michelot 1986) and ends in
the closed form of its support. Sorting would give orders 1.5 and 2 in closed form at once, but takes five times as long
under XLA, and the running sums lose digits in flat rows. Above order 2 the curve is vertical at the cut: `_steep.py`.

All loops have a fixed number of turns, and stop before where values may be looked at.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ._known import is_known, repeat
from ._steep import steep

if TYPE_CHECKING:
    from collections.abc import Callable

    from softmaxfam_rs._typing import Array

TURNS = 40  # normal rows need 4 to 13; bisection alone would give float32 its 24 digits


def solve(xp: Any, z: Array, a: Any) -> tuple[Array, Array]:  # noqa: ANN401  a namespace; a number or an array (..., 1)
    """Return the probabilities and u of rows z <= 0 whose maximum is 0."""
    if isinstance(a, float):
        if a == math.inf:
            return _shared(xp, z)
        return steep(xp, z, a) if a > 1 else _flat(xp, z, a)
    p, u = _flat(xp, z, xp.where(a > 1, 1.0, a))
    some_are_steep = xp.any(a > 1)
    if is_known(some_are_steep) and not bool(some_are_steep):
        return p, u
    for of_some, (p_some, u_some) in (
        (a > 1, steep(xp, z, xp.where((a > 1) & (a < math.inf), a, 2.0))),
        (a == math.inf, _shared(xp, z)),
    ):
        p, u = xp.where(of_some, p_some, p), xp.where(of_some, u_some, u)
    return p, u


def _shared(xp: Any, z: Array) -> tuple[Array, Array]:  # noqa: ANN401
    is_highest = z == 0
    ties = xp.sum(xp.astype(is_highest, z.dtype), axis=-1, keepdims=True)
    return xp.where(is_highest, 1 / ties, 0.0), xp.log(ties)


def _flat(xp: Any, z: Array, a: Any) -> tuple[Array, Array]:  # noqa: ANN401
    curve = _curve(xp, a)
    if isinstance(a, float) and a == 0:
        r, others = _apart(xp, z, curve(z, 0.0)[0])
        return r / (1 + others), xp.log1p(others)
    highest = math.log(max(z.shape[-1], 1))
    tolerance = 2 * float(xp.finfo(z.dtype).eps)

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        u, low, high, _ = state
        r, slope = curve(z, u)
        _, others = _apart(xp, z, r)
        g = xp.log1p(others) - u
        low, high = xp.where(g >= 0, u, low), xp.where(g < 0, u, high)
        total, slopes = 1 + others, xp.sum(slope, axis=-1, keepdims=True)
        newton = u + _newton(xp, a, g, total / slopes)
        inside = (newton >= low) & (newton <= high)  # false where it is NaN
        following = xp.where(inside, newton, (low + high) / 2)
        return following, low, high, xp.abs(following - u) <= tolerance * u

    none = xp.sum(xp.zeros_like(z), axis=-1, keepdims=True)
    state = (none, none, none + highest, none != 0)
    u = repeat(xp, step, state, times=TURNS, done=lambda state: state[3])[0]
    r, others = _apart(xp, z, curve(z, u)[0])
    return r / (1 + others), u


def _apart(xp: Any, z: Array, r: Array) -> tuple[Array, Array]:  # noqa: ANN401
    """Return r, and its sum but for one maximum, whose r is 1: this keeps the digits of confident rows."""
    is_highest = z == 0
    ties = xp.sum(xp.astype(is_highest, z.dtype), axis=-1, keepdims=True)
    return r, xp.sum(xp.where(is_highest, 0.0, r), axis=-1, keepdims=True) + (ties - 1)


def _newton(xp: Any, a: Any, g: Array, ratio: Array) -> Array:  # noqa: ANN401
    if isinstance(a, float):
        return -xp.log1p(ratio * xp.expm1(-a * g)) / a
    safe = xp.where(a == 0, 1.0, a)
    return xp.where(a == 0, g * ratio, -xp.log1p(ratio * xp.expm1(-safe * g)) / safe)


def _curve(xp: Any, a: Any) -> Callable[[Array, Any], tuple[Array, Array]]:  # noqa: ANN401
    """Return what gives r and r^(1-a), the slopes, at z and u."""

    def curve(z: Array, u: Any) -> tuple[Array, Array]:  # noqa: ANN401
        if isinstance(a, float) and a == 0:
            return xp.exp(z), xp.exp(z)
        if isinstance(a, float) and a in (0.5, 1.0):
            w = 1 + a * z * xp.exp(a * u)
            w = xp.where(w > 0, w, 0.0)
            return (w * w, w) if a < 1 else (w, xp.astype(w > 0, w.dtype))
        scaled = a * z * xp.exp(a * u)
        safe = a if isinstance(a, float) else xp.where(a == 0, 1.0, a)
        log_r = xp.log1p(xp.where(scaled > -1, scaled, -1.0)) / safe
        log_r = log_r if isinstance(a, float) else xp.where(a == 0, z, log_r)
        r = xp.exp(log_r)
        return r, xp.where(r > 0, xp.exp((1 - a) * log_r), 0.0)

    return curve
