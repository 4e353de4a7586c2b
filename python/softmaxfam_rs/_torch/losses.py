"""Losses of tensors: the core's values and gradients for autograd, and formulas that torch can differentiate again.

An operator gives a loss for each row, in float64; the reduction, which is of small tensors, is left to torch. Its
gradient is computed anew from the scores in the backward pass, scaled by the gradient that comes in: this reads the
scores once more, and keeps nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from softmaxfam_rs._results import SparseRows

from . import formulas, kernels, native
from .arguments import Call, as_tensor
from .exponential import SOFTMAX, change_of, kept, of_temperature, reduced
from .gradients import Product
from .kernels import chosen
from .operators import Context, Map, Operator, Value, save
from .projections import ENTMAX, NORMMAX, PARAMETER

if TYPE_CHECKING:
    from collections.abc import Sequence

TARGET = "str kind, Tensor target, Tensor? weight, int? ignore_index, float label_smoothing"


class Loss(Map):
    schema = f"loss({PARAMETER}, {TARGET}, int[] axes) -> Tensor"
    forward = staticmethod(kernels.loss)

    @staticmethod
    def fake(scores: Tensor, *args: Value) -> Tensor:
        return scores.new_empty(reduced(scores, args[-1], keepdims=False), dtype=formulas.dtype_of_sums(scores))

    @staticmethod
    def setup_context(ctx: Context, inputs: Value, output: Value) -> None:  # noqa: ARG004  by name
        scores, where, temperatures, ctx.temperature, rows, ctx.number, kind, target, weight, *others = inputs
        ctx.kind, (ctx.ignore_index, ctx.label_smoothing, ctx.axes) = kind, others
        save(ctx, scores, where, temperatures, rows, target, weight)

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> Value:
        scores, where, temperatures, rows, target, weight = ctx.saved_tensors
        given = (where, temperatures, ctx.temperature, rows, ctx.number)
        wanted = (ctx.kind, target, weight, ctx.ignore_index, ctx.label_smoothing)
        g = kept(scores, g, ctx.axes)
        gradient = of_temperatures = of_rows = of_target = None
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[2]:
            gradient = OF_LOSS(scores, g, *given, *wanted, ctx.axes)
            of_temperatures = of_temperature(ctx, scores, gradient, temperatures)
        if ctx.needs_input_grad[4] or ctx.needs_input_grad[7]:
            at = _Point(scores, *given, *wanted, ctx.axes)
            of_rows = formulas.to_rows(g * at.by_order(), rows) if ctx.needs_input_grad[4] else None
            of_target = formulas.to_rows(g * at.by_target(), target) if ctx.needs_input_grad[7] else None
        return gradient, None, of_temperatures, None, of_rows, None, None, of_target, None, None, None, None

    @staticmethod
    def jvp(
        ctx: Context,
        x: Tensor | None,
        _: None,
        temperature: Tensor | None,
        __: None,
        of_rows: Tensor | None,
        ___: None,
        ____: None,
        of_target: Tensor | None,
        *_____: None,
    ) -> Tensor:
        scores, where, temperatures, rows, target, weight = ctx.saved_tensors
        given = (where, temperatures, ctx.temperature, rows, ctx.number)
        at = _Point(scores, *given, ctx.kind, target, weight, ctx.ignore_index, ctx.label_smoothing, ctx.axes)
        change = change_of(scores, scores, x, temperatures, ctx.temperature, temperature)
        slope = at.by_scores()
        terms = slope * torch.where(slope == 0, 0, change)
        if of_target is not None:
            terms = terms + at.by_target() * of_target
        result = formulas.total(terms, ctx.axes)
        if of_rows is not None:
            result = result + at.by_order() * of_rows
        result = result.reshape(reduced(scores, ctx.axes, keepdims=False))
        return result.to(formulas.dtype_of_sums(scores))


class _Point:
    """Where a loss is differentiated, in operations that torch differentiates again."""

    def __init__(
        self,
        scores: Tensor,
        where: Tensor | None,
        temperatures: Tensor | None,
        temperature: float,
        rows: Tensor | None,
        number: float,
        kind: str,
        target: Tensor,
        weight: Tensor | None,
        ignore_index: int | None,
        label_smoothing: float,
        axes: Sequence[int],
    ) -> None:
        self.given = (where, temperatures, temperature)
        self.rows, self.number, self.kind, self.axes = rows, number, kind, axes
        self.scores, self.label_smoothing = scores, label_smoothing
        (x,) = formulas.widened(scores)
        self.is_there = x > -torch.inf
        if where is not None:
            self.is_there = self.is_there & where
        self.is_there = self.is_there | x.isnan() if where is None else self.is_there | (x.isnan() & where)
        self.z = torch.where(self.is_there, x, 0) / chosen(temperatures, temperature)
        self.weight = None if weight is None else weight.to(x.dtype)
        if target.is_floating_point():
            shares, counts = target.to(x.dtype).expand(x.shape), torch.ones_like(self.total(x), dtype=torch.bool)
        else:
            target = target if x.ndim else target.reshape(())
            place = torch.arange(x.shape[axes[0]] if x.ndim else 1, device=x.device)
            place = place.reshape(-1, *(1,) * (x.ndim - 1 - axes[0] % x.ndim)) if x.ndim else place.reshape(())
            shares = (target == place).to(x.dtype).expand(x.shape)
            counts = torch.ones_like(target, dtype=torch.bool) if ignore_index is None else target != ignore_index
        if label_smoothing > 0:
            present = self.total(self.is_there.to(x.dtype)).clamp(min=1)
            shares = (1 - label_smoothing) * shares + torch.where(self.is_there, label_smoothing / present, 0)
        self.shares = shares if self.weight is None else shares * self.weight
        self.sum = self.total(self.shares)
        self.counts = counts & (self.sum != 0)
        self.is_empty = ~self.is_there.any(axes[0], keepdim=True) if x.ndim else ~self.is_there

    def total(self, tensor: Tensor) -> Tensor:
        return formulas.total(tensor, self.axes)

    def settled(self, results: Tensor) -> Tensor:
        """Put what the contract says into rows that do not count, or are empty."""
        return torch.where(self.counts, torch.where(self.is_empty, torch.nan, results), 0)

    def probabilities(self) -> Tensor:
        if self.kind == "cross_entropy":
            (p,) = formulas.widened(SOFTMAX(self.scores, *self.given, self.axes))
        else:
            map_ = ENTMAX if self.kind == "entmax" else NORMMAX
            (p,) = formulas.widened(map_(self.scores, *self.given, self.rows, self.number, self.axes))
        return p

    def by_scores(self) -> Tensor:
        """Return the derivatives with respect to scores / T."""
        if self.kind == "rankmax":
            return self._of_rankmax()
        p = self.probabilities()
        is_all = (self.shares == self.sum) & (self.sum > 0)
        others = self.total(torch.where(is_all, 0, p))
        return self.settled(torch.where(is_all, -self.sum * others, self.sum * p - self.shares))

    def _of_rankmax(self) -> Tensor:
        margin, is_own = chosen(self.rows, self.number), self.shares > 0
        own = self.total(torch.where(is_own, self.z, 0))
        has_own = self.total((is_own & self.is_there).to(self.z.dtype)) > 0
        above = (self.z - own) / margin + 1
        is_active = self.is_there & ~is_own & has_own & ~(above <= 0)
        g = self.sum / (margin * (1 + self.total(torch.where(is_active, above, 0))))
        count = self.total(is_active.to(g.dtype))
        slopes = torch.where(is_active, g, 0) - torch.where(is_own, count * g, 0)
        return self.settled(torch.where(g.isfinite() & self._is_defined(), slopes, torch.nan))

    def _is_defined(self) -> Tensor:
        # a row with +inf or NaN has neither loss nor gradient
        return self.total((~(self.z < torch.inf)).to(self.z.dtype)) == 0

    def by_order(self) -> Tensor:
        """Return the derivative of each row with respect to alpha."""
        losses, xp = _generic()
        p, shares = self._last(self.probabilities()), self._last(self.shares)
        return self.settled(self._back(losses.order_slope(xp, self.kind, p, shares, self._order())))

    def by_target(self) -> Tensor:
        """Return the derivatives with respect to a distribution, before smoothing and weights."""
        losses, xp = _generic()
        z = torch.where(self.is_there, self.z, -torch.inf)
        highest = z.amax(self.axes[0], keepdim=True) if z.ndim else z
        z = torch.where(self.is_there, self.z - torch.where(highest.isfinite(), highest, 0), -torch.inf)
        p = z if self.kind == "cross_entropy" else self.probabilities()
        parts = (self._last(part) for part in (z, p, self.shares))
        slopes = self._back(losses.target_slope(xp, self.kind, *parts, self._order()))
        slopes = slopes if self.weight is None else slopes * self.weight
        return self.settled((1 - self.label_smoothing) * slopes)

    def _order(self) -> Value:
        if self.kind == "cross_entropy":
            return 0.0
        less = 1 if self.kind == "entmax" else 0
        if self.rows is None:
            return self.number - less
        missing = self.z.ndim - self.rows.ndim
        rows = self.rows.reshape(*(1,) * missing, *self.rows.shape)
        return self._last((rows - less).to(self.z.dtype))

    def _last(self, tensor: Tensor) -> Tensor:
        return tensor.movedim(self.axes[0], -1) if tensor.ndim else tensor.reshape(1)

    def _back(self, tensor: Tensor) -> Tensor:
        return tensor.movedim(-1, self.axes[0]) if self.z.ndim else tensor.reshape(())


def _generic() -> tuple[Value, Value]:
    """Return the formulas of the generic path, and the namespace that they take."""
    import array_api_compat.torch as xp  # noqa: PLC0415  slow to import

    from softmaxfam_rs._generic import _losses  # noqa: PLC0415

    return _losses, xp


def _kernel(scores: Tensor, g: Tensor, *args: Value) -> Value:
    return kernels.loss_as_asked(scores, *args, reduction="rows", factor=g.double(), gradient="dense")[1]


def _formula(scores: Tensor, g: Tensor, *args: Value) -> Value:
    at = _Point(scores, *args)
    _, temperatures, temperature = at.given
    slopes = at.by_scores() / chosen(temperatures, temperature)
    return (g.to(slopes.dtype) * slopes).to(scores.dtype)


OF_LOSS = Product(
    f"loss_grad(Tensor scores, Tensor g, {PARAMETER.removeprefix('Tensor scores, ')}, {TARGET}, int[] axes) -> Tensor",
    _kernel,
    _formula,
    native.loss_grad,
)
LOSS = Operator(Loss)


def loss(
    kind: str,
    scores: Tensor,
    target: Tensor,
    parameter: Tensor | float,
    *,
    axis: int,
    where: Tensor | None,
    weight: Tensor | None,
    ignore_index: int | None,
    label_smoothing: float,
    reduction: str,
    temperature: Tensor | float,
    gradient: str,
) -> Value:
    """Compute the loss that `kind` names, and its gradient if that is not "none"."""
    call = Call(scores, axis, where, temperature)
    target = _target(call, target)
    weight = None if weight is None else _weight(call, weight)
    order = call.parameter("margin" if kind == "rankmax" else "alpha", parameter)
    options = (*call.options, *order, kind, target, weight, ignore_index, float(label_smoothing), call.axes)
    if gradient != "none":
        with torch.no_grad():
            result = kernels.loss_as_asked(*options, reduction=reduction, gradient=gradient)
        if gradient == "dense" or isinstance(result[1], SparseRows):
            return result
        value, ((indptr, indices, values), shape) = result
        return value, SparseRows(indptr, indices, values, shape)
    losses = LOSS(*options)
    if reduction == "mean":
        losses = losses.sum() / _divisor(losses, target, weight, ignore_index, call)
    elif reduction == "sum":
        losses = losses.sum()
    return losses.to(call.scores.dtype)


def _target(call: Call, target: Value) -> Value:
    scores, (axis,) = call.scores, call.axes
    target = as_tensor(target, scores.device)
    if target.device != scores.device:
        raise ValueError(f"target is on {target.device}, must be on {scores.device} as scores; move it there")
    if target.dtype is torch.bool or target.dtype.is_complex:
        raise TypeError(
            f"target has dtype {target.dtype}, must be class ids or a distribution; convert with target.long()"
        )
    if target.is_floating_point():
        if target.shape != scores.shape:
            given, needed = tuple(target.shape), tuple(scores.shape)
            raise ValueError(f"target of shares has shape {given}, must have shape {needed} as the scores")
        return target if target.dtype is scores.dtype else target.double()
    batch = reduced(scores, call.axes, keepdims=False)
    if list(target.shape) != batch:
        raise ValueError(
            f"target of class ids has shape {tuple(target.shape)}, must have shape {tuple(batch)}, that of the scores "
            "without the class axis"
        )
    return target.long().unsqueeze(axis) if scores.ndim else target.long().reshape(1)


def _weight(call: Call, weight: Value) -> Value:
    scores, (axis,) = call.scores, call.axes
    dtype = formulas.dtype_of_sums(scores)
    weight = as_tensor(weight, scores.device, dtype)
    classes = scores.shape[axis] if scores.ndim else 1
    if tuple(weight.shape) != (classes,):
        raise ValueError(f"weight has shape {tuple(weight.shape)}, must have shape ({classes},): one for each class")
    return weight.detach().to(dtype).reshape(-1, *(1,) * (scores.ndim - 1 - axis)) if scores.ndim else weight.double()


def _divisor(losses: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int | None, call: Call) -> Value:
    """Return what a mean divides by."""
    if target.is_floating_point() or (weight is None and ignore_index is None):
        return losses.numel()
    counts = torch.ones_like(target, dtype=torch.bool) if ignore_index is None else target != ignore_index
    if weight is None:
        return counts.sum()
    classes = call.scores.shape[call.axes[0]] if call.scores.ndim else 1
    of_labels = weight.reshape(-1)[target.clamp(0, max(classes - 1, 0))]
    return torch.where(counts, of_labels, 0).sum()
