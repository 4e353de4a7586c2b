"""Vector-Jacobian products of the maps, from their results, and the entropies behind entmax.

The Jacobian of entmax at p is diag(s) - s s^T / sum s with s_i = p_i^(2-alpha) on the support (Peters, Niculae, Martins
2019); softmax is alpha = 1. Above order 2 the s_i are unbounded: they are taken relative to the largest, at whose class
the gradient is centred, which is legal for J 1 = 0. At alpha = inf, which shares 1 among the maxima, J is 0.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from array_api_compat import array_namespace

from ._frame import Frame, places
from ._rows import order_less_one

if TYPE_CHECKING:
    from softmaxfam_rs._typing import Array, Axes


def softmax_vjp(p: Array, g: Array, /, *, axis: Axes = -1) -> Array:
    """Gradient of softmax."""
    frame = Frame(array_namespace(p), "p", p, axis, several=True)
    p, g = frame.rows(p), frame.broadcast("g", frame.beside("g", g))
    return frame.of_rows(product(frame.xp, p, g, 0.0))


def log_softmax_vjp(log_p: Array, g: Array, /, *, axis: Axes = -1) -> Array:
    """Gradient of log_softmax."""
    frame = Frame(array_namespace(log_p), "log_p", log_p, axis, several=True)
    log_p, g = frame.rows(log_p), frame.broadcast("g", frame.beside("g", g))
    return frame.of_rows(g - frame.xp.exp(log_p) * frame.xp.sum(g, axis=-1, keepdims=True))


def logsumexp_vjp(scores: Array, lse: Array, g: Array, /, *, axis: Axes = -1) -> Array:
    """Gradient of logsumexp, whose result is with or without its axes of length 1."""
    xp = array_namespace(scores)
    frame = Frame(xp, "scores", scores, axis, several=True)
    lse, g = (frame.results(name, frame.beside(name, given)) for name, given in (("lse", lse), ("g", g)))
    has_classes = lse != -math.inf
    z = frame.rows(scores) - xp.where(has_classes, lse, 0.0)
    return frame.of_rows(xp.where(has_classes, g * xp.exp(xp.where(has_classes, z, 0.0)), 0.0))


def entmax_vjp(p: Array, g: Array, /, alpha: Array, *, axis: int = -1) -> Array:
    """Gradient of entmax with respect to the scores."""
    frame = Frame(array_namespace(p), "p", p, axis, several=False)
    a = order_less_one(frame, alpha)
    p, g = frame.rows(p), frame.broadcast("g", frame.beside("g", g))
    return frame.of_rows(product(frame.xp, p, g, a))


def entmax_alpha_grad(p: Array, g: Array, /, alpha: Array, *, axis: int = -1) -> Array:
    """Gradient of entmax with respect to alpha."""
    xp = array_namespace(p)
    frame = Frame(xp, "p", p, axis, several=False)
    a = order_less_one(frame, alpha)
    p, g = (frame.precise(part) for part in (frame.rows(p), frame.broadcast("g", frame.beside("g", g))))
    a = a if isinstance(a, float) else xp.astype(a, p.dtype)
    gradient = -xp.sum(_bends(xp, p, a) * _above(xp, p, g, a), axis=-1, keepdims=True)
    return frame.dropped(frame.as_float(gradient))


def tsallis_entropy(p: Array, /, alpha: Array, *, axis: int = -1) -> Array:
    """Tsallis entropy: sum of p (1 - p^a) / a / alpha, whose terms are all >= 0."""
    xp = array_namespace(p)
    frame = Frame(xp, "p", p, axis, several=False)
    a = order_less_one(frame, alpha)
    p = frame.rows(p)
    log_p = xp.log(xp.where(p == 0, 1.0, p))
    is_whole = a == math.inf
    safe = _select(xp, (a == 0) | is_whole, xp.ones_like(p), a)
    terms = _select(xp, a == 0, -p * log_p, _select(xp, is_whole, p * 0, -p * xp.expm1(safe * log_p) / safe))
    return frame.dropped(frame.as_float(xp.sum(terms, axis=-1, keepdims=True) / (a + 1)))


def product(xp: Any, p: Array, g: Array, a: Any) -> Array:  # noqa: ANN401  a namespace; a number or an array
    """Return J g at rows of probabilities, a = alpha - 1; it is linear in g, as derivatives must be."""
    is_in = p != 0  # NaN too, which stays
    if isinstance(a, float) and a == 0:
        above = xp.where(is_in, g, 0.0)  # outside the support an infinite g does not count
        return p * (above - xp.sum(p * above, axis=-1, keepdims=True))
    return _unless_infinite(xp, a, p, _weights(xp, p, is_in, a) * _above(xp, p, g, a))


def along_order(xp: Any, p: Array, a: Any) -> Array:  # noqa: ANN401
    """Return dp / dalpha at rows of probabilities."""
    bends, (s, _) = _bends(xp, p, a), _relative_weights(xp, p, a)
    return s / _not_zero(xp, xp.sum(s, axis=-1, keepdims=True)) * xp.sum(bends, axis=-1, keepdims=True) - bends


def _relative_weights(xp: Any, p: Array, a: Any) -> tuple[Array, Array | None]:  # noqa: ANN401
    """Return p^(1 - a), above order 2 relative to its largest, and the place of that as ones and zeros."""
    is_in = p != 0
    if (isinstance(a, float) and a <= 1) or p.shape[-1] == 0:
        return _weights(xp, p, is_in, a), None
    lowest = xp.min(xp.where(is_in, p, math.inf), axis=-1, keepdims=True)
    place = places(xp, p)
    first = xp.min(xp.where(p == lowest, place, p.shape[-1] + 1), axis=-1, keepdims=True)
    reference = xp.where((a > 1) & (lowest < math.inf), lowest, 1.0)
    return _weights(xp, p / reference, is_in, a), (place == first) & (a > 1)


def _above(xp: Any, p: Array, g: Array, a: Any) -> Array:  # noqa: ANN401
    """Return g less its mean by the weights; where they are relative, g is centred at the largest first."""
    s, largest = _relative_weights(xp, p, a)
    if largest is not None:
        g = g - xp.sum(xp.where(largest, g, 0.0), axis=-1, keepdims=True)
    g = xp.where(p != 0, g, 0.0)
    return g - xp.sum(s * g, axis=-1, keepdims=True) / _not_zero(xp, xp.sum(s, axis=-1, keepdims=True))


def _not_zero(xp: Any, total: Array) -> Array:  # noqa: ANN401
    """Return the totals, and 1 for those of rows without any class."""
    return xp.where(total == 0, 1.0, total)


def _unless_infinite(xp: Any, a: Any, p: Array, derivative: Array) -> Array:  # noqa: ANN401
    """Return a derivative, but 0 where alpha is infinite: shares of 1 among the maxima do not move."""
    if isinstance(a, float):
        return derivative if a < math.inf else p * 0
    return xp.where(a < math.inf, derivative, p * 0)


def _bends(xp: Any, p: Array, a: Any) -> Array:  # noqa: ANN401
    """Return the weights times `curvature`, and above order 2 less the weights / a^2, which J does not see.

    That is p (a l - 1) / a^2, small where p is.
    """
    order = _finite(xp, a)
    if isinstance(order, float):
        found = _high_bends(xp, p, order) if order > 1 else _weights(xp, p, p != 0, order) * curvature(xp, p, order)
    else:
        is_high = order > 1
        low, high = xp.where(is_high, 1.0, order), xp.where(is_high, order, 2.0)
        of_low = _weights(xp, p, p != 0, low) * curvature(xp, p, low)
        found = xp.where(is_high, _high_bends(xp, p, high), of_low)
    return _unless_infinite(xp, a, p, found)


def _high_bends(xp: Any, p: Array, a: Any) -> Array:  # noqa: ANN401
    return p * (a * xp.log(xp.where(p == 0, 1.0, p)) - 1) / (a * a)


def _weights(xp: Any, p: Array, is_in: Array, a: Any) -> Array:  # noqa: ANN401
    """Return p^(1 - a), finite, and 0 outside the support."""
    inside = xp.where(is_in, p, 1.0)
    if isinstance(a, float) and a == 0:
        return xp.where(is_in, p, 0.0)
    if isinstance(a, float) and a in (0.5, 1.0):
        return xp.where(is_in, xp.sqrt(inside) if a < 1 else inside * 0 + 1, 0.0)
    logs = (1 - _finite(xp, a)) * xp.log(inside)
    highest = math.log(float(xp.finfo(p.dtype).max)) - 1
    return xp.where(is_in, xp.exp(xp.where(logs > highest, highest, logs)), 0.0)


def _finite(xp: Any, a: Any) -> Any:  # noqa: ANN401
    """Return a, and anything finite where it is infinite."""
    return (a if a < math.inf else 1.0) if isinstance(a, float) else xp.where(a < math.inf, a, 1.0)


def curvature(xp: Any, p: Array, a: Any) -> Array:  # noqa: ANN401
    """Return l^2 phi'(a l), l = log p on the support, phi(x) = expm1(x) / x: dp / dalpha = -J of it."""
    log_p = xp.log(xp.where(p == 0, 1.0, p))
    x = _finite(xp, a) * log_p
    is_small = xp.abs(x) < 0.5  # noqa: PLR2004  the series below has its digits there, the closed form beyond
    near = xp.where(is_small, x, 0.0)
    series = xp.zeros_like(x)
    for n in range(_TERMS, -1, -1):  # phi'(x) = sum_n x^n / (n! (n + 2))
        series = series * near + 1 / (math.factorial(n) * (n + 2))
    far = xp.where(is_small, 1.0, x)
    return log_p * log_p * xp.where(is_small, series, (xp.exp(far) * (far - 1) + 1) / (far * far))


_TERMS = 14


def _select(xp: Any, condition: Any, yes: Any, no: Any) -> Any:  # noqa: ANN401
    """Choose by a condition that is a bool or an array."""
    return (yes if condition else no) if isinstance(condition, bool) else xp.where(condition, yes, no)
