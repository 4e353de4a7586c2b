"""Sparse projections of tensors: entmax and its relatives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, is_grad_enabled

from softmaxfam_rs._results import SparseRows, Threshold

from . import formulas, gradients, kernels
from .arguments import Call, is_simple, written
from .exponential import OPTIONS, change_of, kept, of_temperature, reduced, scaled
from .kernels import chosen, core
from .operators import Context, Map, Operator, Value, save

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PARAMETER = f"{OPTIONS}, Tensor? rows, float number"


def _in_forward_mode(by_scores: Callable[..., Tensor], by_number: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Make the jvp of a map whose derivatives, by its scores and by the number of a row, are formulas of its result."""

    def jvp(
        ctx: Context,
        x: Tensor | None,
        _: None,
        temperature: Tensor | None,
        __: None,
        number: Tensor | None,
        *___: None,
    ) -> Tensor:
        p, rows, scores, temperatures = ctx.saved_tensors
        at = chosen(rows, ctx.number)
        change = change_of(p, scores, x, temperatures, ctx.temperature, temperature)
        result = by_scores(p, change, at, ctx.axes, 1.0)
        if number is not None:
            result = result + number * by_number(p, at, ctx.axes)
        return result.to(p.dtype)

    return jvp


class Entmax(Map):
    schema = f"entmax({PARAMETER}, int[] axes) -> Tensor"
    forward = staticmethod(kernels.entmax)

    @staticmethod
    def setup_context(ctx: Context, inputs: Value, output: Value) -> None:
        scores, _, temperatures, ctx.temperature, rows, ctx.number, ctx.axes = inputs
        save(ctx, output, rows, *scaled(scores, temperatures))

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> Value:
        p, rows, scores, temperatures = ctx.saved_tensors
        gradient = gradients.OF_ENTMAX(p, g, rows, ctx.number, temperatures, ctx.temperature, ctx.axes)
        of_alpha = None
        if ctx.needs_input_grad[4]:
            of_alpha = formulas.to_rows(gradients.OF_ALPHA(p, g, rows, ctx.number, ctx.axes), rows)
        return gradient, None, of_temperature(ctx, scores, gradient, temperatures), None, of_alpha, None, None

    jvp = staticmethod(_in_forward_mode(formulas.entmax_vjp, formulas.entmax_alpha_jvp))


class Normmax(Map):
    schema = f"normmax({PARAMETER}, int[] axes) -> Tensor"
    forward = staticmethod(kernels.normmax)
    setup_context = Entmax.setup_context

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> Value:
        p, rows, scores, temperatures = ctx.saved_tensors
        alpha, temperature = chosen(rows, ctx.number), chosen(temperatures, ctx.temperature)
        gradient = formulas.normmax_vjp(p, g, alpha, ctx.axes, temperature)
        of_alpha = None
        if ctx.needs_input_grad[4]:
            of_alpha = formulas.to_rows(formulas.normmax_alpha_grad(p, g, alpha, ctx.axes), rows)
        return gradient, None, of_temperature(ctx, scores, gradient, temperatures), None, of_alpha, None, None

    jvp = staticmethod(_in_forward_mode(formulas.normmax_vjp, formulas.normmax_alpha_jvp))


class BudgetSparsemax(Map):
    schema = f"budget_sparsemax({PARAMETER}, int[] axes) -> Tensor"
    forward = staticmethod(kernels.budget_sparsemax)
    setup_context = Entmax.setup_context

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> Value:
        p, rows, scores, temperatures = ctx.saved_tensors
        temperature = chosen(temperatures, ctx.temperature)
        gradient = formulas.budget_vjp(p, g, ctx.axes, temperature)
        of_budget = None
        if ctx.needs_input_grad[4]:
            of_budget = formulas.to_rows(formulas.budget_grad(p, g, ctx.axes), rows)
        return gradient, None, of_temperature(ctx, scores, gradient, temperatures), None, of_budget, None, None

    jvp = staticmethod(
        _in_forward_mode(
            lambda p, change, _, *rest: formulas.budget_vjp(p, change, *rest),
            lambda p, _, axes: formulas.budget_jvp(p, axes),
        )
    )


class EntmaxThreshold(Map):
    schema = f"entmax_threshold({PARAMETER}, int[] axes) -> (Tensor, Tensor, Tensor)"
    forward = staticmethod(kernels.entmax_threshold)

    @staticmethod
    def fake(scores: Tensor, *args: Value) -> tuple[Tensor, Tensor, Tensor]:
        shape = reduced(scores, args[-1], keepdims=False)
        return scores.new_empty(shape), scores.new_empty(shape, dtype=torch.int64), scores.new_empty(shape)

    @staticmethod
    def setup_context(ctx: Context, inputs: Value, output: Value) -> None:
        scores, where, temperatures, ctx.temperature, rows, ctx.number, ctx.axes = inputs
        ctx.mark_non_differentiable(output[1])
        save(ctx, scores, where, temperatures, rows)

    @staticmethod
    def backward(ctx: Context, of_normalizer: Tensor, _: Value, of_log_p_max: Tensor) -> Value:
        scores, where, temperatures, rows = ctx.saved_tensors
        alpha, temperature = chosen(rows, ctx.number), chosen(temperatures, ctx.temperature)
        p = ENTMAX(scores, where, temperatures, ctx.temperature, rows, ctx.number, ctx.axes)
        g, g_max = (kept(scores, g, ctx.axes) for g in (of_normalizer, of_log_p_max))
        wide, g, g_max = formulas.widened(p, g, g_max)
        # along a change: d normalizer = <s, dx - k dalpha> / sum s, and p^a dl + k dalpha = dx - d normalizer
        s, logs = formulas.exponent_weights(wide, alpha), formulas.support_logs(wide)
        mean = formulas.safe_ratio(s, formulas.total(s, ctx.axes))
        largest = _one_hot_max(wide, ctx.axes)
        g_max = g_max / formulas.total(largest * (logs * (alpha - 1)).exp(), ctx.axes)
        slope = mean * (g - g_max) + largest * g_max
        gradient = (slope / temperature).to(scores.dtype)
        of_alpha = None
        if ctx.needs_input_grad[4]:
            change = -formulas.total(slope * formulas.curvature(logs, alpha), ctx.axes)
            of_alpha = formulas.to_rows(change, rows)
        return gradient, None, of_temperature(ctx, scores, gradient, temperatures), None, of_alpha, None, None

    @staticmethod
    def jvp(
        ctx: Context,
        x: Tensor | None,
        _: None,
        temperature: Tensor | None,
        __: None,
        of_alpha: Tensor | None,
        *___: None,
    ) -> tuple[Tensor, None, Tensor]:
        scores, where, temperatures, rows = ctx.saved_tensors
        alpha = chosen(rows, ctx.number)
        p = ENTMAX(scores, where, temperatures, ctx.temperature, rows, ctx.number, ctx.axes)
        (p,) = formulas.widened(p)
        s, logs = formulas.exponent_weights(p, alpha), formulas.support_logs(p)
        change = change_of(scores, scores, x, temperatures, ctx.temperature, temperature)
        if of_alpha is not None:
            change = change - of_alpha * formulas.curvature(logs, alpha)
        change = torch.where(s == 0, 0, change)
        of_normalizer = formulas.safe_ratio(formulas.total(s * change, ctx.axes), formulas.total(s, ctx.axes))
        largest = _one_hot_max(p, ctx.axes)
        slope = formulas.total(largest * (logs * (alpha - 1)).exp(), ctx.axes)
        of_log_p_max = (formulas.total(largest * change, ctx.axes) - of_normalizer) / slope
        shape = reduced(scores, ctx.axes, keepdims=False)
        return (
            of_normalizer.reshape(shape).to(scores.dtype),
            None,
            of_log_p_max.reshape(shape).to(scores.dtype),
        )


class EntmaxSparse(Map):
    schema = f"entmax_sparse({PARAMETER}, int? max_support, int[] axes) -> (Tensor, Tensor, Tensor)"
    forward = staticmethod(kernels.entmax_sparse)

    @staticmethod
    def fake(scores: Tensor, *args: Value) -> tuple[Tensor, Tensor, Tensor]:
        (axis,) = args[-1]
        rows = scores.numel() // scores.shape[axis] if scores.ndim else 1
        support = torch.library.get_ctx().new_dynamic_size()
        indptr = scores.new_empty(rows + 1, dtype=torch.int64)
        return indptr, scores.new_empty(support, dtype=torch.int64), scores.new_empty(support)

    @staticmethod
    def setup_context(ctx: Context, inputs: Value, output: Value) -> None:
        scores, _, temperatures, ctx.temperature, rows, ctx.number, _, ctx.axes = inputs
        indptr, indices, values = output
        ctx.mark_non_differentiable(indptr, indices)
        ctx.shape = scores.shape
        save(ctx, indptr, indices, values, rows, *scaled(scores, temperatures))

    @staticmethod
    def backward(ctx: Context, _: Value, __: Value, g: Tensor) -> Value:
        indptr, indices, values, rows, scores, temperatures = ctx.saved_tensors
        (axis,) = ctx.axes
        p, g_wide = formulas.widened(values, g)
        count = indptr.shape[0] - 1
        row = torch.repeat_interleave(torch.arange(count, device=g.device), indptr.diff(), output_size=p.shape[0])
        alpha, temperature = (
            given if isinstance(given, float) else _of_each_row(given, ctx.shape, axis)[row]
            for given in (chosen(rows, ctx.number), chosen(temperatures, ctx.temperature))
        )

        def mean(terms: Tensor) -> Tensor:
            return terms.new_zeros(count).index_add(0, row, terms)[row]

        s = formulas.exponent_weights(p, alpha)
        above = g_wide - formulas.safe_ratio(mean(s * g_wide), mean(s))
        product = s * above
        # the rows in C order, the class axis last
        shape = [length for index, length in enumerate(ctx.shape) if index != axis]
        classes = ctx.shape[axis] if ctx.shape else 1
        dense = p.new_zeros(count * classes).index_put((row * classes + indices,), product / temperature)
        gradient = dense.reshape(*shape, classes).movedim(-1, axis) if ctx.shape else dense.reshape(())
        gradient = gradient.to(values.dtype)
        of_alpha = None
        if ctx.needs_input_grad[4]:
            terms = formulas.bends(p, alpha) * above
            change = -terms.new_zeros(count).index_add(0, row, terms).reshape(shape)
            of_alpha = formulas.to_rows(change.unsqueeze(axis) if ctx.shape else change, rows)
        return gradient, None, of_temperature(ctx, scores, gradient, temperatures), None, of_alpha, None, None, None


class TsallisEntropy(Map):
    schema = "tsallis_entropy(Tensor p, Tensor? rows, float number, int[] axes) -> Tensor"
    forward = staticmethod(kernels.tsallis_entropy)

    @staticmethod
    def fake(p: Tensor, _: Value, __: Value, axes: Sequence[int]) -> Tensor:
        return p.new_empty(reduced(p, axes, keepdims=False))

    @staticmethod
    def setup_context(ctx: Context, inputs: Value, output: Value) -> None:  # noqa: ARG004  by name
        p, rows, ctx.number, ctx.axes = inputs
        save(ctx, p, rows)

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> Value:
        p, rows = ctx.saved_tensors
        g = kept(p, g, ctx.axes)
        alpha = chosen(rows, ctx.number)
        of_alpha = None
        if ctx.needs_input_grad[1]:
            of_alpha = formulas.to_rows(g * formulas.tsallis_alpha_grad(p, alpha, ctx.axes), rows)
        return formulas.tsallis_grad(p, g, alpha), of_alpha, None, None

    @staticmethod
    def jvp(ctx: Context, change: Tensor | None, of_alpha: Tensor | None, *_: None) -> Tensor:
        p, rows = ctx.saved_tensors
        alpha = chosen(rows, ctx.number)
        change = torch.zeros_like(p) if change is None else change
        result = formulas.total(formulas.tsallis_grad(p, change, alpha), ctx.axes)
        if of_alpha is not None:
            result = result + of_alpha * formulas.tsallis_alpha_grad(p, alpha, ctx.axes)
        return result.reshape(reduced(p, ctx.axes, keepdims=False)).to(p.dtype)


ENTMAX, NORMMAX, BUDGET_SPARSEMAX = Operator(Entmax), Operator(Normmax), Operator(BudgetSparsemax)
ENTMAX_THRESHOLD, ENTMAX_SPARSE = Operator(EntmaxThreshold), Operator(EntmaxSparse)
TSALLIS_ENTROPY = Operator(TsallisEntropy)


def _one_hot_max(p: Tensor, axes: Sequence[int]) -> Tensor:
    if not p.ndim:
        return torch.ones_like(p)
    (axis,) = axes
    return torch.zeros_like(p).scatter(axis, p.argmax(axis, keepdim=True), 1)


def _of_each_row(given: Tensor, shape: Sequence[int], axis: int) -> Tensor:
    rows = [1 if index == axis else length for index, length in enumerate(shape)]
    return given.expand(rows).reshape(-1)


def sparsemax(
    scores: Tensor,
    /,
    *,
    axis: int = -1,
    where: Tensor | None = None,
    temperature: Tensor | float = 1.0,
    out: Tensor | None = None,
) -> Value:
    """Entmax of order 2."""
    return entmax(scores, 2.0, axis=axis, where=where, temperature=temperature, out=out)


def entmax(
    scores: Tensor,
    /,
    alpha: Tensor | float = 1.5,
    *,
    axis: int = -1,
    where: Tensor | None = None,
    temperature: Tensor | float = 1.0,
    out: Tensor | None = None,
) -> Value:
    """Entmax of any order above 0."""
    if out is None and where is None and type(alpha) is float and is_simple(scores, temperature):
        if not (scores.requires_grad and is_grad_enabled()):
            return core.entmax(scores, alpha, axis, None, temperature, None)
        if type(axis) is int:
            return ENTMAX.for_autograd(scores, None, None, temperature, None, alpha, (axis,))
    return _with_parameter(ENTMAX, scores, "alpha", alpha, axis, where, temperature, out)


def normmax(
    scores: Tensor,
    /,
    alpha: Tensor | float = 2.0,
    *,
    axis: int = -1,
    where: Tensor | None = None,
    temperature: Tensor | float = 1.0,
    out: Tensor | None = None,
) -> Value:
    """Normmax of any order above 1."""
    if out is None and where is None and type(alpha) is float and is_simple(scores, temperature):
        if not (scores.requires_grad and is_grad_enabled()):
            return core.normmax(scores, alpha, axis, None, temperature, None)
        if type(axis) is int:
            return NORMMAX.for_autograd(scores, None, None, temperature, None, alpha, (axis,))
    return _with_parameter(NORMMAX, scores, "alpha", alpha, axis, where, temperature, out)


def budget_sparsemax(
    scores: Tensor,
    /,
    budget: Tensor | float,
    *,
    axis: int = -1,
    where: Tensor | None = None,
    temperature: Tensor | float = 1.0,
    out: Tensor | None = None,
) -> Value:
    """Projection onto the capped simplex with this sum."""
    if out is None and where is None and type(budget) is float and is_simple(scores, temperature):
        if not (scores.requires_grad and is_grad_enabled()):
            return core.budget_sparsemax(scores, budget, axis, None, temperature, None)
        if type(axis) is int:
            return BUDGET_SPARSEMAX.for_autograd(scores, None, None, temperature, None, budget, (axis,))
    return _with_parameter(BUDGET_SPARSEMAX, scores, "budget", budget, axis, where, temperature, out)


def _with_parameter(
    map_: Operator,
    scores: Tensor,
    name: str,
    parameter: Value,
    axis: int,
    where: Tensor | None,
    temperature: Tensor | float,
    out: Tensor | None,
) -> Value:
    call = Call(scores, axis, where, temperature)
    return written(map_, (*call.options, *call.parameter(name, parameter), call.axes), out, call)


def entmax_threshold(
    scores: Tensor,
    /,
    alpha: Tensor | float = 1.5,
    *,
    axis: int = -1,
    where: Tensor | None = None,
    temperature: Tensor | float = 1.0,
) -> Threshold:
    """Find the threshold of entmax."""
    call = Call(scores, axis, where, temperature)
    return Threshold(*ENTMAX_THRESHOLD(*call.options, *call.parameter("alpha", alpha), call.axes))


def entmax_sparse(
    scores: Tensor,
    /,
    alpha: Tensor | float = 1.5,
    *,
    axis: int = -1,
    where: Tensor | None = None,
    temperature: Tensor | float = 1.0,
    max_support: int | None = None,
) -> SparseRows:
    """Entmax in compressed rows."""
    call = Call(scores, axis, where, temperature)
    options = *call.options, *call.parameter("alpha", alpha), max_support, call.axes
    indptr, indices, values = ENTMAX_SPARSE(*options)
    classes = call.scores.shape[call.axes[0]] if call.scores.ndim else 1
    return SparseRows(indptr, indices, values, (indptr.shape[0] - 1, classes))


def tsallis_entropy(p: Tensor, /, alpha: Tensor | float, *, axis: int = -1) -> Value:
    """Tsallis entropy of any order above 0."""
    call = Call(p, axis, name="p")
    return TSALLIS_ENTROPY(call.scores, *call.parameter("alpha", alpha), call.axes)
