"""Maps and products off the core by few of torch's own operations, of one class axis, without mask or temperature.

On a GPU these read the scores a few times where the array calls read them many times. Each gives what the contract says
of rows with NaN, with +inf and with nothing but -inf, or None for a call that is left to the array calls. logsumexp is
max - log p of the largest class, whose log p = -log sum exp(x - max) has all its digits. The cross entropy of class c
is log(1 + exp(lse)), lse = logsumexp of x - x_c over the others, so that those of confident rows have theirs.
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
    from softmaxfam_rs._generic._known import is_known  # noqa: PLC0415  slow to import

    given = _labels(scores, options) if is_known(scores) else None
    if given is None:
        return None
    labels, counts, axis = given
    is_odd = (labels < 0) | (labels >= scores.shape[axis])  # which the array calls refuse
    labels = labels.clamp(0, scores.shape[axis] - 1)
    (x,) = formulas.widened(scores)
    own = x.gather(axis, labels)
    others = _of_rows((x - own).scatter_(axis, labels, -torch.inf), axis)
    is_odd = is_odd | ~own.isfinite() | ~(others < torch.inf)
    if bool(is_odd.any()):
        return None
    losses = torch.logaddexp(others, torch.zeros_like(others))
    return (losses if counts is None else torch.where(counts, losses, 0)).squeeze(axis)


def loss_grad(scores: Tensor, g: Tensor, *options: Value) -> Tensor | None:
    given = _labels(scores, options)
    if given is None:
        return None
    labels, counts, axis = given
    (x,) = formulas.widened(scores)
    slopes = torch.softmax(x, axis).scatter_(axis, labels, 0)
    slopes.scatter_(axis, labels, -slopes.sum(axis, keepdim=True)).mul_(g.to(x.dtype))
    slopes = slopes if counts is None else slopes.masked_fill_(~counts, 0)
    return slopes.to(scores.dtype)


def _labels(scores: Tensor, options: Value) -> tuple[Tensor, Tensor | None, int] | None:
    """Return class ids, 0 in rows that do not count, which rows count if not all do, and the axis of the classes.

    None for what is not the cross entropy of labels alone.
    """
    where, temperatures, temperature, _, _, kind, target, weight, ignore_index, label_smoothing, axes = options
    is_of_labels = kind == "cross_entropy" and not target.is_floating_point() and weight is None and not label_smoothing
    if not (is_of_labels and _is_bare(scores, where, temperatures, temperature, axes)):
        return None
    axis = axes[0] % scores.ndim
    labels = target.expand([1 if index == axis else length for index, length in enumerate(scores.shape)])
    counts = None if ignore_index is None else labels != ignore_index
    return (labels if counts is None else torch.where(counts, labels, 0)), counts, axis


def entmax(
    scores: Tensor,
    where: Value,
    temperatures: Value,
    temperature: float,
    rows: Value,
    number: float,
    axes: Axes,
) -> Tensor | None:
    """Climb to the threshold t of orders 1.5 and 2, where p = [a (x - max) - t]_+^(1/a), by Newton's method.

    sum p - 1 is convex and falls with t, so that from t = -1, below the root, each turn climbs. At order 2 the turns
    are finite (Michelot 1986); the probabilities are divided by their sum at last.
    """
    from softmaxfam_rs._generic._known import candidates, is_known  # noqa: PLC0415  slow to import

    is_closed = rows is None and number in {1.5, 2.0}
    if not (is_closed and _is_bare(scores, where, temperatures, temperature, axes) and is_known(scores)):
        return None
    (axis,) = axes
    (x,) = formulas.widened(scores)
    z = x - x.amax(axis, keepdim=True)  # NaN throughout in rows without probabilities, which stays
    a = number - 1
    z = z.mul_(a).movedim(axis, -1)
    few = candidates(z, lambda: (z > -1).to(torch.int32))
    threshold = torch.full_like(z[..., :1], -1.0)
    for turn in range(_TURNS):
        above = torch.relu(few - threshold)
        if number == 2.0:  # noqa: PLR2004
            change = (above.sum(-1, keepdim=True) - 1) / (above > 0).sum(-1, keepdim=True)
        else:
            change = (above.square().sum(-1, keepdim=True) - 1) / (2 * above.sum(-1, keepdim=True))
        threshold = threshold + change.clamp_(min=0)
        if turn % _LOOK == _LOOK - 1 and not bool((change > _TOLERANCE * torch.finfo(x.dtype).eps).any()):
            break
    p = torch.relu(z - threshold)
    p = p if number == 2.0 else p.square_()  # noqa: PLR2004
    return (p / p.sum(-1, keepdim=True)).movedim(-1, axis).to(scores.dtype)


_TURNS, _LOOK = (
    40,
    4,
)  # turns at most, and after how many the rows are looked at, for which the device must come to rest
_TOLERANCE = 2.0  # in rounding units of 1, which the threshold is of the order of
