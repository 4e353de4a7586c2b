"""The maps on tensors without derivatives: by the compiled core in CPU memory, else by the generic path on the device.

Options come as an operator takes them: where a tensor `rows` or `temperatures` holds a number for each row, `number` and
`temperature` do not count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Buffer, Parameter

from softmaxfam_rs import _core

if TYPE_CHECKING:
    from collections.abc import Sequence

    Axes = Sequence[int]



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


def per_row(rows: Tensor | None, number: float) -> Any:
    """Give the core float64: one number, or one for each row."""
    return number if rows is None else rows.detach().double().resolve_neg()


def generic(function: str, scores: Tensor, *args: Any, **options: Any) -> Any:
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
) -> Tensor:
    if is_plain(scores):
        return _core.logsumexp(scores, axes, keepdims, where, per_row(temperatures, temperature), out)
    temperatures = temperature if temperatures is None else temperatures
    return generic("logsumexp", scores, axis=tuple(axes), keepdims=keepdims, where=where, temperature=temperatures)


def weighted_logsumexp(
    scores: Tensor,
    where: Tensor | None,
    temperatures: Tensor | None,
    temperature: float,
    weights: Tensor,
    keepdims: bool,
    axes: Axes,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    if is_plain(scores):
        weights = weights.detach().double()
        temperatures = per_row(temperatures, temperature)
        return _core.weighted_logsumexp(scores, weights, axes, keepdims, True, where, temperatures, out)
    temperatures = temperature if temperatures is None else temperatures
    options = {"axis": tuple(axes), "keepdims": keepdims, "where": where, "temperature": temperatures}
    return generic("logsumexp", scores, weights=weights, return_sign=True, **options)


def softmax(
    scores: Tensor,
    where: Tensor | None,
    temperatures: Tensor | None,
    temperature: float,
    axes: Axes,
    out: Tensor | None = None,
) -> Tensor:
    if is_plain(scores):
        return _core.softmax(scores, axes, where, per_row(temperatures, temperature), out)
    temperatures = temperature if temperatures is None else temperatures
    return generic("softmax", scores, axis=tuple(axes), where=where, temperature=temperatures)


def log_softmax(
    scores: Tensor,
    where: Tensor | None,
    temperatures: Tensor | None,
    temperature: float,
    axes: Axes,
    out: Tensor | None = None,
) -> Tensor:
    if is_plain(scores):
        return _core.log_softmax(scores, axes, where, per_row(temperatures, temperature), out)
    temperatures = temperature if temperatures is None else temperatures
    return generic("log_softmax", scores, axis=tuple(axes), where=where, temperature=temperatures)


def top_log_probs(
    scores: Tensor, where: Tensor | None, temperatures: Tensor | None, temperature: float, k: int, axes: Axes
) -> tuple[Tensor, Tensor, Tensor]:
    if is_plain(scores):
        return _core.top_log_probs(scores, k, axes[0], where, per_row(temperatures, temperature))
    temperatures = temperature if temperatures is None else temperatures
    return tuple(generic("top_log_probs", scores, k, axis=axes[0], where=where, temperature=temperatures))


def entmax(
    scores: Tensor,
    where: Tensor | None,
    temperatures: Tensor | None,
    temperature: float,
    rows: Tensor | None,
    number: float,
    axes: Axes,
    out: Tensor | None = None,
) -> Tensor:
    return _with_parameter("entmax", scores, where, temperatures, temperature, rows, number, axes, out)


def normmax(
    scores: Tensor,
    where: Tensor | None,
    temperatures: Tensor | None,
    temperature: float,
    rows: Tensor | None,
    number: float,
    axes: Axes,
    out: Tensor | None = None,
) -> Tensor:
    return _with_parameter("normmax", scores, where, temperatures, temperature, rows, number, axes, out)


def budget_sparsemax(
    scores: Tensor,
    where: Tensor | None,
    temperatures: Tensor | None,
    temperature: float,
    rows: Tensor | None,
    number: float,
    axes: Axes,
    out: Tensor | None = None,
) -> Tensor:
    return _with_parameter("budget_sparsemax", scores, where, temperatures, temperature, rows, number, axes, out)


def _with_parameter(
    function: str,
    scores: Tensor,
    where: Tensor | None,
    temperatures: Tensor | None,
    temperature: float,
    rows: Tensor | None,
    number: float,
    axes: Axes,
    out: Tensor | None,
) -> Tensor:
    if is_plain(scores):
        parameter, temperatures = per_row(rows, number), per_row(temperatures, temperature)
        return getattr(_core, function)(scores, parameter, axes[0], where, temperatures, out)
    parameter = number if rows is None else rows
    temperatures = temperature if temperatures is None else temperatures
    return generic(function, scores, parameter, axis=axes[0], where=where, temperature=temperatures)


def entmax_threshold(
    scores: Tensor,
    where: Tensor | None,
    temperatures: Tensor | None,
    temperature: float,
    rows: Tensor | None,
    number: float,
    axes: Axes,
) -> tuple[Tensor, Tensor, Tensor]:
    if is_plain(scores):
        parameter, temperatures = per_row(rows, number), per_row(temperatures, temperature)
        return _core.entmax_threshold(scores, parameter, axes[0], where, temperatures)
    parameter = number if rows is None else rows
    temperatures = temperature if temperatures is None else temperatures
    return tuple(generic("entmax_threshold", scores, parameter, axis=axes[0], where=where, temperature=temperatures))


def entmax_sparse(
    scores: Tensor,
    where: Tensor | None,
    temperatures: Tensor | None,
    temperature: float,
    rows: Tensor | None,
    number: float,
    max_support: int | None,
    axes: Axes,
) -> tuple[Tensor, Tensor, Tensor]:
    if is_plain(scores):
        parameter, temperatures = per_row(rows, number), per_row(temperatures, temperature)
        return _core.entmax_sparse(scores, parameter, axes[0], where, temperatures, max_support)[0]
    parameter = number if rows is None else rows
    temperatures = temperature if temperatures is None else temperatures
    options = {"axis": axes[0], "where": where, "temperature": temperatures, "max_support": max_support}
    return tuple(generic("entmax_sparse", scores, parameter, **options))[:3]


def tsallis_entropy(p: Tensor, rows: Tensor | None, number: float, axes: Axes) -> Tensor:
    if is_plain(p):
        return _core.tsallis_entropy(p, per_row(rows, number), axes[0])
    return generic("tsallis_entropy", p, number if rows is None else rows, axis=axes[0])
