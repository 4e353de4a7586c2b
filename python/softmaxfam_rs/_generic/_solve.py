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

from ._known import candidates, is_known, repeat
from ._steep import steep, within_reach

if TYPE_CHECKING:
    from collections.abc import Callable

    from softmaxfam_rs._typing import Array

TURNS = 40  # rows need 4 to 13; bisection alone would give float32 its 24 digits


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
    """Climb from u = 0, below the root; a row is done where it climbs no further, and then stays."""
    if isinstance(a, float) and a == 0:
        e = xp.exp(z)
        others = sum_of_others(xp, z, e)
        return e / (1 + others), xp.log1p(others)
    reachable = candidates(z, lambda: within_reach(xp, z, a))
    ties = _ties(xp, reachable)
    # the others alone are summed: their digits are those of confident rows
    curve = _curve(xp, xp.where(reachable == 0, -math.inf, reachable), a)
    highest = math.log(max(z.shape[-1], 1))
    tolerance = 2 * float(xp.finfo(z.dtype).eps)

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        u, low, high, was_newton, is_done = state
        r, slope = curve(u)
        others = xp.sum(r, axis=-1, keepdims=True) + (ties - 1)
        g = xp.log1p(others) - u
        low, high = xp.where(g >= 0, u, low), xp.where(g < 0, u, high)
        newton = u + _newton(xp, a, g, (1 + others) / (xp.sum(slope, axis=-1, keepdims=True) + ties))
        inside = (newton >= low) & (newton <= high)  # false where it is NaN
        # past the root by a step of Newton, which only rounding takes it to
        is_done = is_done | (was_newton & (g < 0)) | (inside & (xp.abs(newton - u) <= tolerance * u))
        following = xp.where(inside, newton, (low + high) / 2)
        return xp.where(is_done, u, following), low, high, inside, is_done

    none = xp.sum(xp.zeros_like(z), axis=-1, keepdims=True)
    state = (none, none, none + highest, none == 0, none != 0)
    u = repeat(xp, step, state, times=TURNS, done=lambda state: state[4])[0]
    r = _curve(xp, z, a)(u)[0]
    return r / (1 + sum_of_others(xp, z, r)), u


def _ties(xp: Any, z: Array) -> Array:  # noqa: ANN401
    return xp.sum(xp.astype(z == 0, z.dtype), axis=-1, keepdims=True)


def sum_of_others(xp: Any, z: Array, r: Array) -> Array:  # noqa: ANN401
    """Return the sum of r but for one maximum, whose r is 1: this keeps the digits of confident rows."""
    return xp.sum(xp.where(z == 0, 0.0, r), axis=-1, keepdims=True) + (_ties(xp, z) - 1)


def _newton(xp: Any, a: Any, g: Array, ratio: Array) -> Array:  # noqa: ANN401
    if isinstance(a, float):
        return -xp.log1p(ratio * xp.expm1(-a * g)) / a
    safe = xp.where(a == 0, 1.0, a)
    return xp.where(a == 0, g * ratio, -xp.log1p(ratio * xp.expm1(-safe * g)) / safe)


def _curve(xp: Any, z: Array, a: Any) -> Callable[[Any], tuple[Array, Array]]:  # noqa: ANN401
    """Return what gives r and r^(1-a), the slopes, of z at u."""
    scaled = a * z

    def curve(u: Any) -> tuple[Array, Array]:  # noqa: ANN401
        bent = scaled * xp.exp(a * u)
        if isinstance(a, float) and a in (0.5, 1.0):
            w = xp.maximum(1 + bent, xp.zeros_like(u))
            return (w * w, w) if a < 1 else (w, xp.astype(w > 0, w.dtype))
        log_r = xp.log1p(xp.where(bent > -1, bent, -1.0))
        log_r = log_r / a if isinstance(a, float) else xp.where(a == 0, z, log_r / xp.where(a == 0, 1.0, a))
        r = xp.exp(log_r)
        return r, xp.where(r > 0, xp.exp((1 - a) * log_r), 0.0)

    return curve
