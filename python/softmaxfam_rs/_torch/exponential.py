"""Maps of exponentials for tensors: logsumexp, softmax, log_softmax, and the most probable classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, is_grad_enabled

from softmaxfam_rs._results import TopK

from . import formulas, gradients, kernels
from .arguments import Call, is_simple, written
from .kernels import core
from .operators import Context, Map, Operator, Value, save

if TYPE_CHECKING:
    from collections.abc import Sequence

    Axis = int | Sequence[int] | None

OPTIONS = "Tensor scores, Tensor? where, Tensor? temperatures, float temperature"


class Softmax(Map):
    schema = f"softmax({OPTIONS}, int[] axes) -> Tensor"
    forward = staticmethod(kernels.softmax)

    @staticmethod
    def setup_context(ctx: Context, inputs: Value, output: Value) -> None:
        scores, _, temperatures, ctx.temperature, ctx.axes = inputs
        save(ctx, output, *scaled(scores, temperatures))

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> Value:
        p, scores, temperatures = ctx.saved_tensors
        gradient = gradients.OF_SOFTMAX(p, g, temperatures, ctx.temperature, ctx.axes)
        return gradient, None, of_temperature(ctx, scores, gradient, temperatures), None, None

    @staticmethod
    def jvp(ctx: Context, x: Tensor | None, _: None, temperature: Tensor | None, *__: None) -> Tensor:
        p, scores, temperatures = ctx.saved_tensors
        change = change_of(p, scores, x, temperatures, ctx.temperature, temperature)
        return formulas.softmax_vjp(p, change, ctx.axes, 1.0)


class LogSoftmax(Map):
    schema = f"log_softmax({OPTIONS}, int[] axes) -> Tensor"
    forward = staticmethod(kernels.log_softmax)
    setup_context = Softmax.setup_context

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> Value:
        log_p, scores, temperatures = ctx.saved_tensors
        gradient = gradients.OF_LOG_SOFTMAX(log_p, g, temperatures, ctx.temperature, ctx.axes)
        return gradient, None, of_temperature(ctx, scores, gradient, temperatures), None, None

    @staticmethod
    def jvp(ctx: Context, x: Tensor | None, _: None, temperature: Tensor | None, *__: None) -> Tensor:
        log_p, scores, temperatures = ctx.saved_tensors
        change = change_of(log_p, scores, x, temperatures, ctx.temperature, temperature)
        change = torch.where(log_p == -torch.inf, 0, change)
        mean = formulas.total(log_p.exp() * change, ctx.axes)
        return torch.where(log_p == -torch.inf, 0, change - mean).to(log_p.dtype)


class LogSumExp(Map):
    schema = f"logsumexp({OPTIONS}, bool keepdims, int[] axes) -> Tensor"
    forward = staticmethod(kernels.logsumexp)

    @staticmethod
    def fake(scores: Tensor, _: Value, __: Value, ___: Value, keepdims: bool, axes: Sequence[int]) -> Tensor:
        return scores.new_empty(reduced(scores, axes, keepdims))

    @staticmethod
    def setup_context(ctx: Context, inputs: Value, output: Value) -> None:
        scores, where, temperatures, ctx.temperature, ctx.keepdims, ctx.axes = inputs
        save(ctx, scores, where, temperatures, output)

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> Value:
        scores, where, temperatures, lse = ctx.saved_tensors
        lse, g = (kept(scores, tensor, ctx.axes) for tensor in (lse, g))
        gradient = gradients.OF_LOGSUMEXP(scores, lse, g, where, temperatures, ctx.temperature, ctx.axes)
        return gradient, None, of_temperature(ctx, scores, gradient, temperatures), None, None, None

    @staticmethod
    def jvp(ctx: Context, x: Tensor | None, _: None, temperature: Tensor | None, *__: None) -> Tensor:
        scores, where, temperatures, lse = ctx.saved_tensors
        p = terms(scores, where, temperatures, ctx, lse)
        change = change_of(scores, scores, x, temperatures, ctx.temperature, temperature)
        return formulas.total(absent_aside(p, change), ctx.axes).reshape(lse.shape).to(scores.dtype)


class WeightedLogSumExp(Map):
    schema = f"weighted_logsumexp({OPTIONS}, Tensor weights, bool keepdims, int[] axes) -> (Tensor, Tensor)"
    forward = staticmethod(kernels.weighted_logsumexp)

    @staticmethod
    def fake(
        scores: Tensor, _: Value, __: Value, ___: Value, ____: Value, keepdims: bool, axes: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        shape = reduced(scores, axes, keepdims)
        return scores.new_empty(shape), scores.new_empty(shape)

    @staticmethod
    def setup_context(ctx: Context, inputs: Value, output: Value) -> None:
        scores, where, temperatures, ctx.temperature, weights, ctx.keepdims, ctx.axes = inputs
        log, sign = output
        ctx.mark_non_differentiable(sign)
        save(ctx, scores, where, temperatures, weights, log, sign)

    @staticmethod
    def backward(ctx: Context, g: Tensor, _: Value) -> Value:
        scores, where, temperatures, weights, log, sign = ctx.saved_tensors
        log, g, sign = (kept(scores, tensor, ctx.axes) for tensor in (log, g, sign))
        # the sum is sign exp(log): a term has the sign of its weight
        terms = gradients.OF_LOGSUMEXP(scores, log, g * sign, where, temperatures, ctx.temperature, ctx.axes)
        # a class of weight 0 is absent
        gradient = torch.where(weights == 0, 0, terms * weights).to(scores.dtype)
        temperature = ctx.temperature if temperatures is None else temperatures
        of_weights = formulas.to_rows(terms * temperature, weights) if ctx.needs_input_grad[4] else None
        return gradient, None, of_temperature(ctx, scores, gradient, temperatures), None, of_weights, None, None

    @staticmethod
    def jvp(
        ctx: Context,
        x: Tensor | None,
        _: None,
        temperature: Tensor | None,
        __: None,
        of_weights: Tensor | None,
        *___: None,
    ) -> tuple[Tensor, None]:
        scores, where, temperatures, weights, log, sign = ctx.saved_tensors
        p = terms(scores, where, temperatures, ctx, log) * kept(scores, sign, ctx.axes)
        change = change_of(scores, scores, x, temperatures, ctx.temperature, temperature)
        product = absent_aside(p * weights, change)
        if of_weights is not None:
            product = product + p * of_weights
        return formulas.total(product, ctx.axes).reshape(log.shape).to(scores.dtype), None


class TopLogProbs(Map):
    schema = f"top_log_probs({OPTIONS}, int k, int[] axes) -> (Tensor, Tensor, Tensor)"
    forward = staticmethod(kernels.top_log_probs)

    @staticmethod
    def fake(
        scores: Tensor, _: Value, __: Value, ___: Value, k: int, axes: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        shape = list(scores.shape)
        if shape:
            shape[axes[0]] = k
        log_probs, indices = scores.new_empty(shape), scores.new_empty(shape, dtype=torch.int64)
        return log_probs, indices, scores.new_empty(reduced(scores, axes, False))

    @staticmethod
    def setup_context(ctx: Context, inputs: Value, output: Value) -> None:
        scores, where, temperatures, ctx.temperature, _, ctx.axes = inputs
        _, indices, lse = output
        ctx.mark_non_differentiable(indices)
        save(ctx, scores, where, temperatures, indices, lse)

    @staticmethod
    def backward(ctx: Context, of_log_probs: Tensor, _: Value, of_lse: Tensor) -> Value:
        scores, where, temperatures, indices, lse = ctx.saved_tensors
        (axis,) = ctx.axes
        found = torch.where(indices < 0, 0, of_log_probs)
        g = kept(scores, of_lse, ctx.axes) - formulas.total(found, ctx.axes)
        lse = kept(scores, lse, ctx.axes)
        gradient = gradients.OF_LOGSUMEXP(scores, lse, g, where, temperatures, ctx.temperature, ctx.axes)
        temperature = ctx.temperature if temperatures is None else temperatures
        direct = (found / temperature).to(gradient.dtype)
        gradient = gradient.scatter_add(axis, indices.clamp(min=0), direct)
        return gradient, None, of_temperature(ctx, scores, gradient, temperatures), None, None, None

    @staticmethod
    def jvp(
        ctx: Context, x: Tensor | None, _: None, temperature: Tensor | None, *__: None
    ) -> tuple[Tensor, None, Tensor]:
        scores, where, temperatures, indices, lse = ctx.saved_tensors
        p = terms(scores, where, temperatures, ctx, lse)
        change = change_of(scores, scores, x, temperatures, ctx.temperature, temperature)
        of_lse = formulas.total(absent_aside(p, change), ctx.axes)
        found = change.gather(ctx.axes[0], indices.clamp(min=0)) - of_lse
        of_log_probs = torch.where(indices < 0, 0, found).to(scores.dtype)
        return of_log_probs, None, of_lse.reshape(lse.shape).to(scores.dtype)


LOGSUMEXP, WEIGHTED_LOGSUMEXP = Operator(LogSumExp), Operator(WeightedLogSumExp)
SOFTMAX, LOG_SOFTMAX, TOP_LOG_PROBS = Operator(Softmax), Operator(LogSoftmax), Operator(TopLogProbs)


def scaled(scores: Tensor, temperatures: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Return what the derivative with respect to a temperature needs, where there may be one."""
    return (None, None) if temperatures is None else (scores, temperatures)


def of_temperature(ctx: Context, scores: Tensor, gradient: Tensor, temperatures: Tensor | None) -> Tensor | None:
    """Gradient with respect to the temperatures, where it is asked for."""
    if temperatures is None or not ctx.needs_input_grad[2]:
        return None
    return formulas.temperature_grad(scores, gradient, temperatures)


def change_of(
    like: Tensor,
    scores: Tensor | None,
    change: Tensor | None,
    temperatures: Tensor | None,
    temperature: float,
    of_temperature: Tensor | None,
) -> Tensor:
    """Return the change of scores / T that goes with changes of both."""
    (like,) = formulas.widened(like)
    divisor = temperature if temperatures is None else temperatures
    result = torch.zeros_like(like) if change is None else change / divisor
    if of_temperature is not None and scores is not None:
        result = result - scores * of_temperature / divisor**2
    return result


def terms(scores: Tensor, where: Tensor | None, temperatures: Tensor | None, ctx: Context, lse: Tensor) -> Tensor:
    """Return exp(scores / T - lse)."""
    temperature = ctx.temperature if temperatures is None else temperatures
    (lse,) = formulas.widened(kept(scores, lse, ctx.axes))
    return temperature * formulas.logsumexp_vjp(scores, lse, torch.ones_like(lse), where, temperature)


def absent_aside(p: Tensor, change: Tensor) -> Tensor:
    """Multiply, with 0 where p is 0 whatever the change."""
    return p * torch.where(p == 0, 0, change)


def reduced(scores: Tensor, axes: Sequence[int], keepdims: bool) -> list[Value]:
    """Return the shape of a number for each row."""
    classes = {axis % scores.ndim for axis in axes} if scores.ndim else set()
    if keepdims:
        return [1 if axis in classes else length for axis, length in enumerate(scores.shape)]
    return [length for axis, length in enumerate(scores.shape) if axis not in classes]


def kept(scores: Tensor, tensor: Tensor, axes: Sequence[int]) -> Tensor:
    """View a number for each row with axes of length 1 for the classes."""
    return tensor.reshape(reduced(scores, axes, keepdims=True))


def logsumexp(
    scores: Tensor,
    /,
    *,
    axis: Axis = -1,
    keepdims: bool = False,
    where: Tensor | None = None,
    weights: Tensor | None = None,
    return_sign: bool = False,
    temperature: Tensor | float = 1.0,
    out: Tensor | None = None,
) -> Value:
    """Log-sum-exp; in one pass without weights."""
    if weights is None and not return_sign:
        if out is None and where is None and is_simple(scores, temperature):
            if not (scores.requires_grad and is_grad_enabled()):
                return core.logsumexp(scores, axis, keepdims, None, temperature, None)
            if type(axis) is int:
                return LOGSUMEXP.for_autograd(scores, None, None, temperature, keepdims, (axis,))
        call = Call(scores, axis, where, temperature, several=True)
        return written(LOGSUMEXP, (*call.options, keepdims, call.axes), out, call)
    call = Call(scores, axis, where, temperature, several=True)
    weights = call.beside("weights", 1.0 if weights is None else weights)
    log, sign = WEIGHTED_LOGSUMEXP(*call.options, weights, keepdims, call.axes)
    if not return_sign:
        log = torch.where(sign < 0, torch.nan, log)
    if out is not None:
        out = call.check_out(out, log.shape).copy_(log)
        log = out
    return (log, sign) if return_sign else log


def softmax(
    scores: Tensor,
    /,
    *,
    axis: Axis = -1,
    where: Tensor | None = None,
    temperature: Tensor | float = 1.0,
    out: Tensor | None = None,
) -> Value:
    """Softmax."""
    if out is None and where is None and is_simple(scores, temperature):
        if not (scores.requires_grad and is_grad_enabled()):
            return core.softmax(scores, axis, None, temperature, None)
        if type(axis) is int:
            return SOFTMAX.for_autograd(scores, None, None, temperature, (axis,))
    call = Call(scores, axis, where, temperature, several=True)
    return written(SOFTMAX, (*call.options, call.axes), out, call)


def log_softmax(
    scores: Tensor,
    /,
    *,
    axis: Axis = -1,
    where: Tensor | None = None,
    temperature: Tensor | float = 1.0,
    out: Tensor | None = None,
) -> Value:
    """Logarithm of softmax."""
    if out is None and where is None and is_simple(scores, temperature):
        if not (scores.requires_grad and is_grad_enabled()):
            return core.log_softmax(scores, axis, None, temperature, None)
        if type(axis) is int:
            return LOG_SOFTMAX.for_autograd(scores, None, None, temperature, (axis,))
    call = Call(scores, axis, where, temperature, several=True)
    return written(LOG_SOFTMAX, (*call.options, call.axes), out, call)


def top_log_probs(
    scores: Tensor, k: int, /, *, axis: int = -1, where: Tensor | None = None, temperature: Tensor | float = 1.0
) -> TopK:
    """Find the k most probable classes."""
    call = Call(scores, axis, where, temperature)
    return TopK(*TOP_LOG_PROBS(*call.options, call.count_of_classes("k", k), call.axes))
