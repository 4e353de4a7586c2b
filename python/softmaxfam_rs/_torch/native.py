"""Maps and products off the core by few of torch's own operations, of one class axis, without mask or temperature.

On a GPU these read the scores a few times where the array calls read them many times. Each gives what the contract says
of rows with NaN, with +inf and with nothing but -inf, or None for a call that is left to the array calls. logsumexp is
max - log p of the largest class, whose log p = -log sum exp(x - max) has all its digits. The cross entropy of class c
is log(1 + exp(lse)), lse = logsumexp of x - x_c over the others, so that those of confident rows have theirs.
entmax of order 1.5 or 2 is p = [a (x - max) - t]_+^(1/a), a = alpha - 1, and its loss for class c a sum of terms >= 0:
with q the sum of the others' p and r = max(t - a (x_c - max), 0) it is (q^2 + sum of their p^2) / 2 + r at order 2, and
2/3 ((q / (1 + s))^2 (2 + s) + sum of their p^(3/2)) + 2 r with s^2 = p_c at order 1.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from . import formulas

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from .operators import Value

    Axes = Sequence[int]


def _is_bare(scores: Tensor, where: Value, temperatures: Value, temperature: float, axes: Axes) -> bool:
    has_classes = len(axes) == 1 and scores.ndim > 0 and scores.shape[axes[0]] > 0
    return has_classes and where is None and temperatures is None and temperature == 1.0


def softmax(scores: Tensor, where: Value, temperatures: Value, temperature: float, axes: Axes) -> Tensor | None:
    if not _is_bare(scores, where, temperatures, temperature, axes):
        return None
    return torch.softmax(scores, axes[0])


def log_softmax(scores: Tensor, where: Value, temperatures: Value, temperature: float, axes: Axes) -> Tensor | None:
    if not _is_bare(scores, where, temperatures, temperature, axes):
        return None
    return torch.log_softmax(scores, axes[0])


def logsumexp(
    scores: Tensor, where: Value, temperatures: Value, temperature: float, keepdims: bool, axes: Axes
) -> Tensor | None:
    if not _is_bare(scores, where, temperatures, temperature, axes):
        return None
    (axis,) = axes
    (wide,) = formulas.widened(scores)
    result = _of_rows(wide, axis).to(scores.dtype)
    return result if keepdims else result.squeeze(axis)


def _of_rows(x: Tensor, axis: int) -> Tensor:
    highest, place = x.max(axis, keepdim=True)
    result = highest - torch.log_softmax(x, axis).gather(axis, place)
    return torch.where(highest.isfinite(), result, highest)


def softmax_vjp(p: Tensor, g: Tensor, temperatures: Value, temperature: float, axes: Axes) -> Tensor | None:
    if not _is_bare(p, None, temperatures, temperature, axes):
        return None
    wide, g = formulas.widened(p, g)
    g = torch.where(wide == 0, 0, g)
    return torch._softmax_backward_data(g, wide, axes[0], wide.dtype).to(p.dtype)  # noqa: SLF001  an operator of ATen


def log_softmax_vjp(log_p: Tensor, g: Tensor, temperatures: Value, temperature: float, axes: Axes) -> Tensor | None:
    if not _is_bare(log_p, None, temperatures, temperature, axes):
        return None
    wide, g = formulas.widened(log_p, g)
    g = torch.where(wide == -torch.inf, 0, g)
    return torch._log_softmax_backward_data(g, wide, axes[0], wide.dtype).to(log_p.dtype)  # noqa: SLF001


def logsumexp_vjp(
    scores: Tensor, lse: Tensor, g: Tensor, where: Value, temperatures: Value, temperature: float, axes: Axes
) -> Tensor | None:
    if not _is_bare(scores, where, temperatures, temperature, axes):
        return None
    wide, lse, g = formulas.widened(scores, lse, g)
    p = (wide - torch.where(lse == -torch.inf, torch.inf, lse)).exp_()  # 0 in rows without a class
    return p.mul_(g).to(scores.dtype)


def loss(scores: Tensor, *options: Value) -> Tensor | None:
    given = _labels(scores, options) if _is_known(scores) else None
    if given is None:
        return None
    labels, counts, axis, order = given
    is_odd = (labels < 0) | (labels >= scores.shape[axis])  # which the array calls refuse
    labels = labels.clamp(0, scores.shape[axis] - 1)
    (x,) = formulas.widened(scores)
    own = x.gather(axis, labels)
    is_odd = is_odd | ~own.isfinite()
    if order == 1.0:
        others = _of_rows((x - own).scatter_(axis, labels, -torch.inf), axis)
        is_odd = is_odd | ~(others < torch.inf)
        losses = torch.logaddexp(others, torch.zeros_like(others))
    else:
        losses = _entmax_losses(x, labels, axis, order)
    if bool(is_odd.any()):
        return None
    return (losses if counts is None else torch.where(counts, losses, 0)).squeeze(axis)


def _entmax_losses(x: Tensor, labels: Tensor, axis: int, order: float) -> Tensor:
    labels = labels.movedim(axis, -1)
    z, threshold = _climbed(x, axis, order)
    p, outside = _above(z, threshold, order), (threshold - z.gather(-1, labels)).clamp_(min=0)
    own, p = p.gather(-1, labels), p.scatter_(-1, labels, 0)
    others = p.sum(-1, keepdim=True)
    if order == 2.0:  # noqa: PLR2004
        losses = (others.square() + p.square().sum(-1, keepdim=True)) / 2 + outside
    else:
        root, rest = own.sqrt(), (p * p.sqrt()).sum(-1, keepdim=True)
        losses = ((others / (1 + root)).square() * (2 + root) + rest) * (2 / 3) + 2 * outside
    return losses.movedim(-1, axis)


def loss_grad(scores: Tensor, g: Tensor, *options: Value) -> Tensor | None:
    given = _labels(scores, options)
    if given is None:
        return None
    labels, counts, axis, order = given
    (x,) = formulas.widened(scores)
    if order == 1.0:
        slopes = torch.softmax(x, axis)
    elif _is_known(scores):
        slopes = _above(*_climbed(x, axis, order), order).movedim(-1, axis)
    else:
        return None
    slopes = slopes.scatter_(axis, labels, 0)
    slopes.scatter_(axis, labels, -slopes.sum(axis, keepdim=True)).mul_(g.to(x.dtype))
    slopes = slopes if counts is None else slopes.masked_fill_(~counts, 0)
    return slopes.to(scores.dtype)


def _labels(scores: Tensor, options: Value) -> tuple[Tensor, Tensor | None, int, float] | None:
    """Return class ids, 0 in rows that do not count, which rows count if not all do, the class axis, and the order.

    None for what is not the cross entropy, of order 1, or the loss of order 1.5 or 2 of labels alone.
    """
    where, temperatures, temperature, rows, number, kind, target, weight, ignore_index, label_smoothing, axes = options
    order = {"cross_entropy": 1.0, "entmax": number if rows is None and number in _CLOSED else None}.get(kind)
    is_of_labels = not target.is_floating_point() and weight is None and not label_smoothing
    if order is None or not (is_of_labels and _is_bare(scores, where, temperatures, temperature, axes)):
        return None
    axis = axes[0] % scores.ndim
    labels = target.expand([1 if index == axis else length for index, length in enumerate(scores.shape)])
    counts = None if ignore_index is None else labels != ignore_index
    return (labels if counts is None else torch.where(counts, labels, 0)), counts, axis, order


def entmax(
    scores: Tensor,
    where: Value,
    temperatures: Value,
    temperature: float,
    rows: Value,
    number: float,
    axes: Axes,
) -> Tensor | None:
    is_closed = rows is None and number in _CLOSED
    if not (is_closed and _is_bare(scores, where, temperatures, temperature, axes) and _is_known(scores)):
        return None
    (x,) = formulas.widened(scores)
    return _above(*_climbed(x, axes[0], number), number).movedim(-1, axes[0]).to(scores.dtype)


def _climbed(x: Tensor, axis: int, order: float) -> tuple[Tensor, Tensor]:
    """Climb to the threshold t of order 1.5 or 2 by Newton's method; return a (x - max), the classes last, and t.

    sum p - 1 is convex and falls with t, so that from t = -1, below the root, each turn climbs. At order 2 the turns
    are finite (Michelot 1986).
    """
    from softmaxfam_rs._generic._known import candidates  # noqa: PLC0415  slow to import

    z = x - x.amax(axis, keepdim=True)  # NaN throughout in rows without probabilities, which stays
    z = z.mul_(order - 1).movedim(axis, -1)
    few = candidates(z, lambda: (z > -1).to(torch.int32))
    threshold = torch.full_like(z[..., :1], -1.0)
    for turn in range(_TURNS):
        above = torch.relu(few - threshold)
        if order == 2.0:  # noqa: PLR2004
            change = (above.sum(-1, keepdim=True) - 1) / (above > 0).sum(-1, keepdim=True)
        else:
            change = (above.square().sum(-1, keepdim=True) - 1) / (2 * above.sum(-1, keepdim=True))
        threshold = threshold + change.clamp_(min=0)
        if turn % _LOOK == _LOOK - 1 and not bool((change > _TOLERANCE * torch.finfo(x.dtype).eps).any()):
            break
    return z, threshold


def _above(z: Tensor, threshold: Tensor, order: float) -> Tensor:
    """Return the probabilities, divided by their sum, which rounding leaves near 1."""
    p = torch.relu(z - threshold)
    p = p if order == 2.0 else p.square_()  # noqa: PLR2004
    return p.div_(p.sum(-1, keepdim=True))


def _is_known(tensor: Tensor) -> bool:
    from softmaxfam_rs._generic._known import is_known  # noqa: PLC0415  slow to import

    return is_known(tensor)


_CLOSED = frozenset({1.5, 2.0})  # orders whose thresholds are climbed to
_TURNS = 40  # at most
_LOOK = 4  # turns between two looks at the rows, for which the device must come to rest
_TOLERANCE = 2.0  # in rounding units of 1, which the threshold is of the order of
