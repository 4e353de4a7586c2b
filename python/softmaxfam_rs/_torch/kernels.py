"""The maps on tensors without derivatives: by the compiled core in CPU memory, else by the generic path on the device.

Options come as an operator takes them: where a tensor `rows` or `temperatures` holds a number for each row, `number`
and `temperature` do not count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Buffer, Parameter

from softmaxfam_rs import _core

from . import formulas, native

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .operators import Value

    Axes = Sequence[int]

core: Any = _core  # its stub speaks of NumPy's arrays


def _empty(model: Tensor, shape: tuple[int, ...], dtype: str) -> Tensor:
    return model.new_empty(shape, dtype=getattr(torch, dtype))


_core.adopt(
    Tensor,
    getattr(Tensor, "__dlpack_c_exchange_api__", None),  # of torch 2.10 and later
    lambda tensor: tensor.detach().__dlpack__(),
    torch.empty_like,
    _empty,
)

PLAIN = frozenset({Tensor, Parameter, Buffer})  # classes that add nothing to what a tensor is


def is_plain(tensor: Tensor) -> bool:
    """Whether the core can read the memory of a tensor."""
    return type(tensor) in PLAIN and tensor.is_cpu and tensor.layout is torch.strided and not tensor.is_neg()


def per_row(rows: Tensor | None, number: float) -> Value:
    """Give the core float64: one number, or one for each row."""
    return number if rows is None else rows.detach().double().resolve_neg()


def chosen(rows: Tensor | None, number: float) -> Value:
    """Give others the numbers for each row, or the one for all."""
    return number if rows is None else rows


def generic(function: str, scores: Tensor, *args: Value, **options: Value) -> Value:
    """Call the generic path, on the device of the tensor."""
    from softmaxfam_rs import _generic  # noqa: PLC0415  slow to import, and rare

    return getattr(_generic, function)(scores, *args, **options)


def logsumexp(
    scores: Tensor,
    where: Tensor | None,
    temperatures: Tensor | None,
    temperature: float,
    keepdims: bool,
    axes: Axes,
    out: Tensor | None = None,
) -> Value:
    if is_plain(scores):
        return core.logsumexp(scores, axes, keepdims, where, per_row(temperatures, temperature), out)
    result = native.logsumexp(scores, where, temperatures, temperature, keepdims, axes)
    if result is not None:
        return result
    return generic(
        "logsumexp",
        scores,
        axis=tuple(axes),
        keepdims=keepdims,
        where=where,
        temperature=chosen(temperatures, temperature),
    )


def weighted_logsumexp(
    scores: Tensor,
    where: Tensor | None,
    temperatures: Tensor | None,
    temperature: float,
    weights: Tensor,
    keepdims: bool,
    axes: Axes,
    out: Tensor | None = None,
) -> Value:
    if is_plain(scores):
        weights = weights.detach().double()
        temperatures = per_row(temperatures, temperature)
        return core.weighted_logsumexp(scores, weights, axes, keepdims, True, where, temperatures, out)
    options = {
        "axis": tuple(axes),
        "keepdims": keepdims,
        "where": where,
        "temperature": chosen(temperatures, temperature),
    }
    return generic("logsumexp", scores, weights=weights, return_sign=True, **options)


def _normalisation(function: str) -> Callable[..., Value]:
    """Make the kernel of a map without a parameter."""
    of_core, of_torch = getattr(core, function), getattr(native, function)

    def kernel(
        scores: Tensor,
        where: Tensor | None,
        temperatures: Tensor | None,
        temperature: float,
        axes: Axes,
        out: Tensor | None = None,
    ) -> Value:
        if is_plain(scores):
            return of_core(scores, axes, where, per_row(temperatures, temperature), out)
        result = of_torch(scores, where, temperatures, temperature, axes)
        if result is not None:
            return result
        return generic(function, scores, axis=tuple(axes), where=where, temperature=chosen(temperatures, temperature))

    return kernel


softmax = _normalisation("softmax")
log_softmax = _normalisation("log_softmax")


def top_log_probs(
    scores: Tensor, where: Tensor | None, temperatures: Tensor | None, temperature: float, k: int, axes: Axes
) -> Value:
    if is_plain(scores):
        return core.top_log_probs(scores, k, axes[0], where, per_row(temperatures, temperature))
    return tuple(
        generic("top_log_probs", scores, k, axis=axes[0], where=where, temperature=chosen(temperatures, temperature))
    )


def _projection(function: str) -> Callable[..., Value]:
    """Make the kernel of a map with a number for each row: an order or a budget."""
    of_core, of_torch = getattr(core, function), getattr(native, function, None)

    def kernel(
        scores: Tensor,
        where: Tensor | None,
        temperatures: Tensor | None,
        temperature: float,
        rows: Tensor | None,
        number: float,
        axes: Axes,
        out: Tensor | None = None,
    ) -> Value:
        if is_plain(scores):
            return of_core(scores, per_row(rows, number), axes[0], where, per_row(temperatures, temperature), out)
        if of_torch is not None:
            result = of_torch(scores, where, temperatures, temperature, rows, number, axes)
            if result is not None:
                return result
        options = {"axis": axes[0], "where": where, "temperature": chosen(temperatures, temperature)}
        return generic(function, scores, chosen(rows, number), **options)

    return kernel


entmax = _projection("entmax")
normmax = _projection("normmax")
budget_sparsemax = _projection("budget_sparsemax")


def entmax_threshold(
    scores: Tensor,
    where: Tensor | None,
    temperatures: Tensor | None,
    temperature: float,
    rows: Tensor | None,
    number: float,
    axes: Axes,
) -> Value:
    if is_plain(scores):
        parameter, temperatures = per_row(rows, number), per_row(temperatures, temperature)
        return core.entmax_threshold(scores, parameter, axes[0], where, temperatures)
    parameter = chosen(rows, number)
    return tuple(
        generic(
            "entmax_threshold",
            scores,
            parameter,
            axis=axes[0],
            where=where,
            temperature=chosen(temperatures, temperature),
        )
    )


def entmax_sparse(
    scores: Tensor,
    where: Tensor | None,
    temperatures: Tensor | None,
    temperature: float,
    rows: Tensor | None,
    number: float,
    max_support: int | None,
    axes: Axes,
) -> Value:
    if is_plain(scores):
        parameter, temperatures = per_row(rows, number), per_row(temperatures, temperature)
        return core.entmax_sparse(scores, parameter, axes[0], where, temperatures, max_support)[0]
    parameter = chosen(rows, number)
    options = {
        "axis": axes[0],
        "where": where,
        "temperature": chosen(temperatures, temperature),
        "max_support": max_support,
    }
    return tuple(generic("entmax_sparse", scores, parameter, **options))[:3]


def tsallis_entropy(p: Tensor, rows: Tensor | None, number: float, axes: Axes) -> Value:
    if is_plain(p):
        return core.tsallis_entropy(p, per_row(rows, number), axes[0])
    return generic("tsallis_entropy", p, chosen(rows, number), axis=axes[0])


def loss(scores: Tensor, *args: Value) -> Value:
    """Compute the losses of rows, in float64 where the device has it."""
    losses = None if is_plain(scores) else native.loss(scores, *args)
    if losses is None:
        losses = loss_as_asked(scores, *args, reduction="rows", gradient="none")
    return losses.to(formulas.dtype_of_sums(scores))


def loss_as_asked(
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
    axes: Axes,
    *,
    reduction: str,
    factor: Tensor | float = 1.0,
    gradient: str,
) -> Value:
    """Compute losses with any reduction, and the gradient if it is asked for."""
    axis = axes[0]
    if target.is_floating_point():
        target = target.expand(scores.shape)
    elif scores.ndim:
        target = target.expand([1 if index == axis % scores.ndim else n for index, n in enumerate(scores.shape)])
    else:
        target = target.reshape(())
    if is_plain(scores):
        options = (weight, ignore_index, label_smoothing, reduction, factor, gradient)
        parameters = per_row(rows, number), axis, where, per_row(temperatures, temperature)
        return core.loss(kind, scores, target, *parameters, *options)
    from softmaxfam_rs import _generic  # noqa: PLC0415  slow to import, and rare

    return _generic.loss(
        kind,
        scores,
        target,
        chosen(rows, number),
        axis=axis,
        where=where,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        temperature=chosen(temperatures, temperature),
        gradient=gradient,
    )
