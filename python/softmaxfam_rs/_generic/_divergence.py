"""The terms of Fenchel-Young losses of Tsallis entropies: Bregman divergences, each >= 0 and with all its digits.

D(y, p) = (y^alpha + a p^alpha - alpha p^a y) / (alpha a), a = alpha - 1, is formed as the core forms it: with
r = log(p/y), delta = (p - y)/y and x = -a r it is (y p^a / alpha) [(e^x - 1 - x)/a + (delta - log1p delta)] for
x < 1 and (1/alpha) [-y^alpha expm1(-x)/a - p^a (y - p)] beyond. Orders 3/2 and 2 have closed forms.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from softmaxfam_rs._typing import Array

TERMS = 16  # of the series: the next one is below 2^-53
NEAR = 0.5  # where series take over


def of_others(xp: Any, a: Any, p: Array) -> Array:  # noqa: ANN401  a namespace; a number or an array (..., 1)
    """Return D(0, p) = p^alpha / alpha, 0 at p = 0."""
    if isinstance(a, float) and a in (0.0, 0.5, 1.0):
        return p if a == 0 else p * xp.sqrt(p) / 1.5 if a < 1 else p * p / 2
    finite = _finite(xp, a)
    power = xp.where(p > 0, xp.exp((1 + finite) * xp.log(xp.where(p > 0, p, 1.0))), 0.0)
    return _unless_infinite(xp, a, power / (1 + finite))


def of_shares(xp: Any, a: Any, y: Array, p: Array, difference: Array, log_p: Array, is_in: Array) -> Array:  # noqa: ANN401
    """Return D(y, p) of y > 0, given p - y, log p and where p is in the support; anything finite elsewhere."""
    y = xp.where(y > 0, y, 1.0)
    if isinstance(a, float) and a == 1:
        return difference * difference / 2
    if isinstance(a, float) and a == 0.5:  # noqa: PLR2004  alpha = 3/2
        apart = difference / (xp.sqrt(y) + xp.sqrt(p))
        return apart * apart * (2 * xp.sqrt(y) + xp.sqrt(p)) / 1.5
    finite = _finite(xp, a)
    alpha = 1 + finite
    log_y = xp.log(y)
    delta = difference / y
    is_near = xp.abs(delta) < NEAR
    inside = xp.where(is_near, delta, 0.0)
    r = xp.where(is_near, xp.log1p(inside), xp.where(is_in, log_p, 0.0) - log_y)
    x = -finite * r
    is_small = (x < 1) & ((finite >= 0) | (x > -1))
    small = xp.where(is_small, x, 0.0)
    bent = _over(xp, finite, _exp_less_line(xp, small))
    straight = xp.where(is_near, _line_less_log(xp, inside), delta - r)
    power = xp.exp(alpha * log_y)
    near = power * xp.exp(-small) / alpha * (bent + straight)
    large = xp.where(is_small, 1.0, x)
    far = (-_over(xp, finite, power * xp.expm1(-large)) + xp.exp(finite * log_y - large) * difference) / alpha
    off = _over(xp, finite, power) / alpha
    return _unless_infinite(xp, a, xp.where(is_in, xp.where(is_small, near, far), off))


def _finite(xp: Any, a: Any) -> Any:  # noqa: ANN401
    """Return a, and anything finite where it is infinite."""
    return (a if a < math.inf else 1.0) if isinstance(a, float) else xp.where(a < math.inf, a, 1.0)


def _unless_infinite(xp: Any, a: Any, terms: Array) -> Array:  # noqa: ANN401
    """Return terms, and 0 where a is infinite, which has no entropy."""
    if isinstance(a, float):
        return terms if a < math.inf else xp.zeros_like(terms)
    return xp.where(a < math.inf, terms, 0.0)


def _over(xp: Any, a: Any, above: Array) -> Array:  # noqa: ANN401
    """Divide by a; at a = 0 what is divided vanishes too, or does not count."""
    if isinstance(a, float):
        return above / a if a != 0 else xp.zeros_like(above)
    return xp.where(a == 0, 0.0, above / xp.where(a == 0, 1.0, a))


def _exp_less_line(xp: Any, x: Array) -> Array:  # noqa: ANN401
    """Return e^x - 1 - x."""
    is_near = xp.abs(x) < NEAR
    near = xp.where(is_near, x, 0.0)
    series = xp.zeros_like(x)
    for k in range(TERMS, 2, -1):
        series = (series + 1) * near / k
    return xp.where(is_near, near * near / 2 * (1 + series), xp.expm1(x) - x)


def _line_less_log(xp: Any, t: Array) -> Array:  # noqa: ANN401
    """Return t - log(1 + t) of |t| < 1/2, by log(1 + t) = 2 atanh s, s = t / (2 + t)."""
    s = t / (2 + t)
    series = xp.zeros_like(t)
    for k in range(TERMS, 0, -1):
        series = (series + 1 / (2 * k + 1)) * s * s
    return s * t - 2 * s * series
