"""Derivatives of the maps in torch's own operations: differentiable again, on any device and under any transform.

The compiled kernels compute the first ones; these are what a second derivative, vmap or another device needs. Sums are
in float32 or better. With respect to scores, J g = s (g - <s, g> / sum s), s = p^(2-alpha) on the support (Peters,
Niculae, Martins 2019), and dp/dalpha = -J k, k = l^2 phi'(a l), l = log p, a = alpha - 1,
phi'(x) = (e^x (x-1) + 1) / x^2.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

Rows = Tensor | float

SERIES_TERMS = 20  # of phi' for |x| < 1/2: the next one is below 2^-53


def widened(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors in at least float32, in which sums over classes are safe."""
    narrow = {torch.float16, torch.bfloat16}
    return tuple(tensor.float() if tensor.dtype in narrow else tensor for tensor in tensors)


def dtype_of_sums(tensor: Tensor) -> torch.dtype:
    """Return the dtype of sums that need more than float32, where the device has it."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def total(tensor: Tensor, axes: Sequence[int]) -> Tensor:
    """Sum over the classes, their axes kept."""
    return tensor.sum(tuple(axes), keepdim=True) if axes else tensor


def safe_ratio(above: Tensor, below: Tensor) -> Tensor:
    """Divide, with 0 for 0 / 0: rows without any class have the gradient 0."""
    return above / torch.where(below == 0, 1, below)


def less_mean(s: Tensor, g: Tensor, axes: Sequence[int]) -> Tensor:
    """Return g - <s, g> / sum s; where s is 0 an infinite g does not count."""
    g = torch.where(s == 0, 0, g)
    return g - safe_ratio(total(s * g, axes), total(s, axes))


def exponent_weights(p: Tensor, alpha: Rows) -> Tensor:
    """S = p^(2-alpha) on the support, and NaN where p is."""
    outside = p <= 0
    powers = torch.where(outside, 0, torch.where(outside, 1, p) ** (2 - alpha))
    return powers if isinstance(alpha, float) and alpha != 2 else torch.where(p.isnan(), p, powers)  # noqa: PLR2004


def finite(alpha: Rows) -> Rows:
    """Return the orders, and any other for an infinite one, whose Jacobian is 0."""
    if isinstance(alpha, Tensor):
        return torch.where(alpha == torch.inf, 2, alpha)
    return 2.0 if alpha == math.inf else alpha


def support_logs(p: Tensor) -> Tensor:
    """Log p on the support, 0 elsewhere."""
    return torch.where(p <= 0, 1, p).log()


def curvature(logs: Tensor, alpha: Rows) -> Tensor:
    """l^2 phi'((alpha - 1) l), by the series of phi' near 0: sum_n x^n / (n! (n + 2))."""
    x = (alpha - 1) * logs
    is_near = x.abs() < 0.5  # noqa: PLR2004  where the closed form starts to lose digits
    near, far = torch.where(is_near, x, 0), torch.where(is_near, 1, x)
    series = torch.zeros_like(x)
    for n in reversed(range(SERIES_TERMS)):
        series = 1 / (n + 2) + series * near / (n + 1)
    return logs**2 * torch.where(is_near, series, (far.exp() * (far - 1) + 1) / far**2)


def softmax_vjp(p: Tensor, g: Tensor, axes: Sequence[int], temperature: Rows) -> Tensor:
    """Gradient of softmax, from its result."""
    wide, g_wide = widened(p, g)
    g_wide = torch.where(wide == 0, 0, g_wide)
    return (wide * (g_wide - total(wide * g_wide, axes)) / temperature).to(p.dtype)


def log_softmax_vjp(log_p: Tensor, g: Tensor, axes: Sequence[int], temperature: Rows) -> Tensor:
    """Gradient of log_softmax, from its result; an absent class has none."""
    wide, g_wide = widened(log_p, g)
    g_wide = torch.where(wide == -torch.inf, 0, g_wide)
    return ((g_wide - wide.exp() * total(g_wide, axes)) / temperature).to(log_p.dtype)


def logsumexp_vjp(scores: Tensor, lse: Tensor, g: Tensor, where: Tensor | None, temperature: Rows) -> Tensor:
    """Gradient of logsumexp, from scores and result; `lse` and `g` have axes of length 1."""
    wide, lse_wide, g_wide = widened(scores, lse, g)
    absent = torch.broadcast_to(lse_wide == -torch.inf, wide.shape)
    if where is not None:
        absent = absent | ~where
    x = torch.where(absent, 0, wide)
    lse_wide = torch.where(lse_wide == -torch.inf, 0, lse_wide)
    p = torch.where(absent, 0, (x / temperature - lse_wide).exp())
    return (g_wide * p / temperature).to(scores.dtype)


def entmax_vjp(p: Tensor, g: Tensor, alpha: Rows, axes: Sequence[int], temperature: Rows) -> Tensor:
    """Gradient of entmax with respect to the scores, from its result."""
    wide, g_wide = widened(p, g)
    return (entmax_jacobian(wide, g_wide, alpha, axes) / temperature).to(p.dtype)


def entmax_jacobian(p: Tensor, g: Tensor, alpha: Rows, axes: Sequence[int]) -> Tensor:
    """J g = s (g - <s, g> / sum s)."""
    s = exponent_weights(p, finite(alpha))
    if not _is_bounded(alpha):
        s = s.clamp(max=torch.finfo(p.dtype).max)
    return _unless_infinite(alpha, p, s * _centred(p, g, alpha, axes))


def entmax_alpha_grad(p: Tensor, g: Tensor, alpha: Rows, axes: Sequence[int]) -> Tensor:
    """<g, dp/dalpha> for each row, axes kept, from the result of entmax."""
    wide, g_wide = p.to(dtype_of_sums(p)), g.to(dtype_of_sums(p))  # nearly equal sums are subtracted
    return -total(bends(wide, alpha) * _centred(wide, g_wide, alpha, axes), axes).to(p.dtype)


def entmax_alpha_jvp(p: Tensor, alpha: Rows, axes: Sequence[int]) -> Tensor:
    """dp/dalpha of entmax."""
    (wide,) = widened(p)
    moved, (s, _) = bends(wide, alpha), _relative_weights(wide, alpha, axes)
    return (safe_ratio(s, total(s, axes)) * total(moved, axes) - moved).to(p.dtype)


def _is_bounded(alpha: Rows) -> bool:
    """Whether s is at most 1."""
    return not isinstance(alpha, Tensor) and alpha <= 2  # noqa: PLR2004


def _relative_weights(p: Tensor, alpha: Rows, axes: Sequence[int]) -> tuple[Tensor, Tensor | None]:
    """Return s, for alpha > 2, where it is unbounded, relative to its largest, and where that is."""
    if _is_bounded(alpha) or p.ndim == 0 or p.shape[axes[0]] == 0:
        return exponent_weights(p, finite(alpha)), None
    order = torch.as_tensor(alpha, dtype=p.dtype, device=p.device)
    lowest, place = torch.where(p <= 0, torch.inf, p).min(axes[0], keepdim=True)
    return exponent_weights(p / torch.where(order > 2, lowest, 1), finite(order)), place  # noqa: PLR2004


def _centred(p: Tensor, g: Tensor, alpha: Rows, axes: Sequence[int]) -> Tensor:
    """Return g - <s, g> / sum s; where s is relative, g is centred at its largest first, which J does not see."""
    s, place = _relative_weights(p, alpha, axes)
    if place is not None:
        g = torch.where(p == 0, 0, g - g.gather(axes[0], place))
    return less_mean(s, g, axes)


def bends(p: Tensor, alpha: Rows) -> Tensor:
    """Return s k, and for alpha > 2 less s / a^2, which J does not see: p (a l - 1) / a^2, small where p is."""
    logs = support_logs(p)
    if isinstance(alpha, Tensor):
        is_high = (alpha > 2) & (alpha < torch.inf)  # noqa: PLR2004
        low, high = torch.where(is_high, 2, finite(alpha)), torch.where(is_high, alpha, 2)
        found = torch.where(is_high, _high_bends(p, logs, high), exponent_weights(p, low) * curvature(logs, low))
    elif 2 < alpha < math.inf:  # noqa: PLR2004
        found = _high_bends(p, logs, alpha)
    else:
        found = exponent_weights(p, finite(alpha)) * curvature(logs, finite(alpha))
    return _unless_infinite(alpha, p, found)


def _high_bends(p: Tensor, logs: Tensor, alpha: Rows) -> Tensor:
    return p * ((alpha - 1) * logs - 1) / (alpha - 1) ** 2


def _unless_infinite(alpha: Rows, p: Tensor, derivative: Tensor) -> Tensor:
    """Return a derivative, but 0 where alpha is infinite: shares of 1 among the maxima do not move."""
    if isinstance(alpha, Tensor):
        return torch.where(alpha == torch.inf, 0 * p, derivative)
    return 0 * p if alpha == math.inf else derivative


def budget_vjp(p: Tensor, g: Tensor, axes: Sequence[int], temperature: Rows) -> Tensor:
    """Gradient of budget_sparsemax: sparsemax's, over the classes strictly between 0 and 1."""
    wide, g_wide = widened(p, g)
    s = _between(wide)
    return (s * less_mean(s, g_wide, axes) / temperature).to(p.dtype)


def budget_grad(p: Tensor, g: Tensor, axes: Sequence[int]) -> Tensor:
    """<g, dp/dbudget> for each row, axes kept: the mean of g over those classes."""
    wide, g_wide = widened(p, g)
    s = _between(wide)
    return safe_ratio(total(s * torch.where(s == 0, 0, g_wide), axes), total(s, axes)).to(p.dtype)


def budget_jvp(p: Tensor, axes: Sequence[int]) -> Tensor:
    """dp/dbudget of budget_sparsemax."""
    s = _between(*widened(p))
    return safe_ratio(s, total(s, axes)).to(p.dtype)


def _between(p: Tensor) -> Tensor:
    return torch.where(p.isnan(), p, ((p > 0) & (p < 1)).to(p.dtype))


def normmax_vjp(p: Tensor, g: Tensor, alpha: Rows, axes: Sequence[int], temperature: Rows) -> Tensor:
    """Gradient of normmax, from its result; see `_normmax_parts`."""
    wide, g_wide = widened(p, g)
    slope, weight, norm = _normmax_parts(wide, g_wide, alpha, axes)
    w = weight * slope * norm ** (alpha - 1) / (alpha - 1)
    return ((w - wide * total(w, axes)) / temperature).to(p.dtype)


def normmax_alpha_grad(p: Tensor, g: Tensor, alpha: Rows, axes: Sequence[int]) -> Tensor:
    """<g, dp/dalpha> of normmax for each row, axes kept."""
    wide, g_wide = widened(p, g)
    change = normmax_alpha_jvp(wide, alpha, axes)
    return total(torch.where(change == 0, 0, g_wide) * change, axes).to(p.dtype)


def normmax_alpha_jvp(p: Tensor, alpha: Rows, axes: Sequence[int]) -> Tensor:
    """dp/dalpha of normmax: of v, then of v / sum v."""
    (wide,) = widened(p)
    _, weight, norm = _normmax_parts(wide, wide, alpha, axes)
    logs = support_logs(wide) - norm.log()  # of v
    powers = torch.where(wide <= 0, 0, torch.where(wide <= 0, 1, wide / norm) ** alpha)
    # d tau / d alpha, of sum v^alpha = 1
    shift = -total(powers * logs, axes) * norm / alpha
    change = -(wide * logs + weight * norm ** (alpha - 1) * shift) / (alpha - 1)
    return (change - wide * total(change, axes)).to(p.dtype)


def _normmax_parts(p: Tensor, g: Tensor, alpha: Rows, axes: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """(g - <p, g>, p^(2-alpha) on the support, |p|_alpha).

    normmax is v / sum v with v_i = [x_i/T - tau]_+^(1/(alpha-1)), sum v^alpha = 1: so v = p / |p|_alpha, and along a
    change of the scores dv = v^(2-alpha) (dx/T - <p, dx/T>) / (alpha-1).
    """
    norm = total(torch.where(p <= 0, 0, torch.where(p <= 0, 1, p) ** alpha), axes)
    norm = torch.where(norm == 0, 1, norm) ** (1 / alpha)
    g = torch.where(p == 0, 0, g)
    return g - total(p * g, axes), exponent_weights(p, alpha), norm


def tsallis_grad(p: Tensor, g: Tensor, alpha: Rows) -> Tensor:
    """Gradient of the entropy -sum p l phi(a l) / alpha, phi(x) = expm1(x) / x: -(l phi(a l) + p^a) / alpha."""
    wide, g_wide = widened(p, g)
    a, logs = alpha - 1, support_logs(wide)
    slope = -(logs * _phi(a * logs) + (a * logs).exp()) / alpha
    order = torch.as_tensor(a, dtype=wide.dtype, device=wide.device)
    at_zero = torch.where(order > 0, 1 / (torch.where(order > 0, order, 1) * alpha), torch.inf)
    return (g_wide * torch.where(wide == 0, at_zero, slope)).to(p.dtype)


def tsallis_alpha_grad(p: Tensor, alpha: Rows, axes: Sequence[int]) -> Tensor:
    """Differentiate the entropy with respect to alpha, axes kept."""
    (wide,) = widened(p)
    logs = support_logs(wide)
    terms = logs * _phi((alpha - 1) * logs) / alpha**2 - curvature(logs, alpha) / alpha
    return total(torch.where(wide == 0, 0, wide * terms), axes).to(p.dtype)


def _phi(x: Tensor) -> Tensor:
    """expm1(x) / x, by its series near 0, which keeps digits in derivatives too."""
    is_near = x.abs() < 0.5  # noqa: PLR2004  as in `curvature`
    near, far = torch.where(is_near, x, 0), torch.where(is_near, 1, x)
    series = torch.ones_like(x)
    for n in reversed(range(2, SERIES_TERMS)):
        series = 1 + series * near / n
    return torch.where(is_near, series, far.expm1() / far)


def temperature_grad(scores: Tensor, gradient: Tensor, temperature: Tensor) -> Tensor:
    """Gradient with respect to the temperature, from that with respect to the scores: -<gradient, x> / T."""
    x, gradient_wide = widened(scores, gradient)
    x = torch.where(gradient_wide == 0, 0, x)  # an absent class may have any score
    return to_rows(-gradient_wide * x / temperature, temperature)


def to_rows(gradient: Tensor, rows: Tensor) -> Tensor:
    """Sum a gradient down to the shape that was broadcast, in its dtype."""
    return gradient.sum_to_size(rows.shape).to(rows.dtype)
