"""Losses of a linear layer's scores for autograd, in blocks of queries: gradients are computed with the value.

As the gradient of a sum or a mean is a multiple of one that is known in the forward pass, that pass computes it, while
scores are in cache, and keeps it instead of them. The backward pass hands it over once; asked again, or with a loss for
each query, it computes it anew. Second derivatives go through all scores, as do other types and devices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._C import _are_functorch_transforms_active as transforms_are_active
from torch._C import _len_torch_dispatch_stack as dispatch_modes
from torch.autograd import Function
from torch.compiler import is_compiling

from softmaxfam_rs._fused import Options, Wanted, by_blocks, checked, loss_of_all_scores
from softmaxfam_rs._results import IndexedRows, LinearGradients

from .arguments import HALVES, as_tensor
from .kernels import is_plain
from .losses import loss
from .operators import LIBRARY, Context, Value, is_abstract, is_differentiated, is_in_forward_mode


def linear_loss(
    kind: str,
    h: Tensor,
    matrix: Tensor,
    target: Tensor,
    parameter: float | Tensor,
    *,
    bias: Tensor | None,
    where: Tensor | None,
    weight: Tensor | None,
    ignore_index: int | None,
    label_smoothing: float,
    reduction: str,
    temperature: float | Tensor,
    gradient: str,
    sparse: bool = False,
) -> Value:
    """Compute the loss that `kind` names of the scores h W^T + b, and its gradients if that is not "none".

    With `sparse` autograd gets the gradient of W as a sparse tensor of rows, as `torch.nn.Embedding` has it.
    """
    target = as_tensor(target, h.device)
    others = {"bias": bias, "where": where, "weight": weight}
    tensors = {name: as_tensor(array, h.device) for name, array in others.items() if array is not None}
    bias, where, weight = (tensors.get(name) for name in others)
    layers: tuple[Tensor, ...] = (h, matrix) if bias is None else (h, matrix, bias)
    if h.dtype in HALVES and all(layer.dtype is h.dtype for layer in layers):
        # computed in float32, rounded once; autograd brings gradients back
        wide = linear_loss(
            kind,
            h.float(),
            matrix.float(),
            target,
            parameter,
            bias=None if bias is None else bias.float(),
            where=where,
            weight=weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction=reduction,
            temperature=temperature,
            gradient=gradient,
            sparse=sparse,
        )
        return wide.to(h.dtype) if gradient == "none" else _rounded(wide, h.dtype)
    options: Value = {
        "where": where,
        "weight": weight,
        "ignore_index": ignore_index,
        "label_smoothing": label_smoothing,
    }
    is_traced = is_compiling() or bool(dispatch_modes()) or any(map(is_abstract, layers))
    is_of_core = (
        all(layer.dtype is torch.float32 and layer.device.type == "cpu" for layer in layers)
        and (is_traced or all(map(is_plain, layers)))
        and not (is_traced and (reduction == "none" or gradient != "none"))
        and not isinstance(parameter, Tensor)
        and not isinstance(temperature, Tensor)
        and not (transforms_are_active() or is_in_forward_mode())
    )
    if not is_of_core:
        if sparse and matrix.requires_grad and not (is_traced or transforms_are_active()):
            matrix = _ByRows.apply(matrix)
        options |= {"reduction": reduction, "temperature": temperature}
        more: dict[str, Any] = {"bias": bias, "gradient": "dense" if gradient == "sparse_or_dense" else gradient}
        numbers: Value = parameter
        return loss_of_all_scores(torch, loss, kind, h, matrix, target, numbers, library="torch", **more, **options)
    given = {"h": h, "W": matrix, "target": target, **tensors}
    batch = checked({name: tuple(tensor.shape) for name, tensor in given.items()}, {"target": target.dtype})
    rows = layers[0].reshape(-1, h.shape[-1])
    target = target.reshape(-1).long()
    where = None if where is None else where.bool().contiguous()
    weight = None if weight is None else weight.detach().double().contiguous()
    kinds = (kind, float(parameter), ignore_index, float(label_smoothing), float(temperature))
    call = (rows, layers[1], layers[2] if bias is not None else None, target, where, weight, *kinds, reduction)
    if gradient != "none":
        with torch.no_grad():
            wanted = Wanted(True, True, bias is not None, gradient != "dense")
            value, (of_h, of_weight, of_bias) = _computed(call, wanted)
        if isinstance(of_weight, tuple):
            of_weight = IndexedRows(of_weight[0], of_weight[1], (matrix.shape[0], matrix.shape[1]))
        value = value.reshape(batch) if reduction == "none" else value
        return value, LinearGradients(of_h.reshape(h.shape), of_weight, of_bias)
    if is_traced:
        needs = [layer is not None and layer.requires_grad and torch.is_grad_enabled() for layer in call[:3]]
        result = _REGISTERED(*call, needs)[0]
    elif is_differentiated(*layers):
        result = _Fused.apply(sparse, *call)
    else:
        result = _computed(call, Wanted())[0]
    result = result.reshape(batch) if reduction == "none" else result
    return result.to(h.dtype)


def _rounded(found: tuple[Tensor, LinearGradients[Tensor]], dtype: torch.dtype) -> Value:
    value, (of_h, of_weight, of_bias) = found
    if isinstance(of_weight, IndexedRows):
        of_weight = of_weight._replace(values=of_weight.values.to(dtype))
    else:
        of_weight = of_weight.to(dtype)
    of_bias = None if of_bias is None else of_bias.to(dtype)
    return value.to(dtype), LinearGradients(of_h.to(dtype), of_weight, of_bias)


def _computed(call: Value, wanted: Wanted, factor: Tensor | None = None) -> tuple[Tensor, Value]:
    """Call the core over the memory of tensors."""
    h, matrix, bias, target, where, weight, kind, parameter, ignore_index, label_smoothing, temperature, reduction = (
        call
    )
    options = Options(kind, parameter, _array(where), _array(weight), ignore_index, label_smoothing, temperature)
    value, losses, gradients = by_blocks(
        _array(h),
        _array(matrix),
        _array(bias),
        _array(target),
        options,
        wanted,
        is_mean=reduction == "mean",
        factor=None if factor is None else _array(factor.double().contiguous()),
    )
    result = torch.from_numpy(losses if reduction == "none" else np.asarray(value))
    return result.float(), tuple(map(_as_tensors, gradients))


def _array(tensor: Tensor | None) -> Value:
    return None if tensor is None else tensor.detach().resolve_neg().numpy()


def _as_tensors(part: Value) -> Value:
    if isinstance(part, tuple):
        return tuple(map(torch.from_numpy, part))
    return None if part is None else torch.from_numpy(part)


class _Fused(Function):
    """The loss at once, outside of compilers and transforms."""

    @staticmethod
    def forward(ctx: Context, sparse: bool, *call: Value) -> Tensor:
        h, matrix, bias, target, where, weight, *ctx.numbers = call
        ctx.save_for_backward(h, matrix, bias, target, where, weight)
        of_h, of_weight, of_bias = ctx.needs_input_grad[1:4]
        ctx.wanted = Wanted(of_h, of_weight, of_bias, by_rows=sparse)
        ctx.found = None
        if ctx.numbers[-1] == "none":
            return _computed(call, Wanted())[0]
        result, ctx.found = _computed(call, ctx.wanted)
        return result

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> Value:
        call = (*ctx.saved_tensors, *ctx.numbers)
        if torch.is_grad_enabled():  # the result will be differentiated again
            found = _of_all_scores(call, g, ctx.wanted)
        elif ctx.found is not None:
            # handed over, not copied: the next backward pass computes it anew
            found, ctx.found = ctx.found, None
            if g != 1:
                parts = (part[1] if isinstance(part, tuple) else part for part in found)
                for part in parts:
                    if part is not None:
                        part.mul_(g)
        else:
            factor = g if ctx.numbers[-1] == "none" else g.expand(len(ctx.saved_tensors[0]))
            found = _computed(call, ctx.wanted, factor)[1]
        of_h, of_weight, of_bias = found
        if isinstance(of_weight, tuple):
            shape = ctx.saved_tensors[1].shape
            of_weight = IndexedRows(of_weight[0], of_weight[1], (shape[0], shape[1])).to_torch()
        return (None, of_h, of_weight, of_bias, *(None,) * (len(call) - 3))


class _ByRows(Function):
    """A matrix as it is, whose gradient becomes a sparse tensor of the rows that are not 0."""

    @staticmethod
    def forward(_: Context, matrix: Tensor) -> Tensor:
        return matrix.view_as(matrix)

    @staticmethod
    def backward(_: Context, g: Tensor) -> Tensor:
        rows = g.any(1).nonzero()[:, 0]
        sparse: Tensor = IndexedRows(rows, g[rows], (g.shape[0], g.shape[1])).to_torch()
        return sparse


def _of_all_scores(call: tuple[Value, ...], g: Tensor, wanted: Wanted) -> Value:
    """Return gradients that can be differentiated again."""
    h, matrix, bias, target, where, weight, kind, parameter, ignore_index, label_smoothing, temperature, reduction = (
        call
    )
    options = {"where": where, "weight": weight, "ignore_index": ignore_index, "label_smoothing": label_smoothing}
    options |= {"reduction": reduction, "temperature": temperature, "gradient": "none", "bias": bias}
    with torch.enable_grad():
        value = loss_of_all_scores(torch, loss, kind, h, matrix, target, parameter, library="torch", **options)
        places = [place for place, is_wanted in enumerate(wanted[:3]) if is_wanted]
        found = torch.autograd.grad(value, [call[place] for place in places], g.to(value.dtype), create_graph=True)
    of_call: list[Tensor | None] = [None, None, None]
    for place, gradient in zip(places, found, strict=True):
        of_call[place] = gradient
    return of_call


_SCHEMA = (
    "linear_loss(Tensor h, Tensor matrix, Tensor? bias, Tensor target, Tensor? present, Tensor? weight, str kind, "
    "float parameter, int? ignore_index, float label_smoothing, float temperature, str reduction, bool[] needs) "
    "-> (Tensor, Tensor, Tensor, Tensor)"
)


def _kernel(*args: Value) -> tuple[Tensor, ...]:
    *call, needs = args
    result, gradients = _computed(call, Wanted(*needs))
    return (result, *(call[0].new_empty(0) if part is None else part for part in gradients))


def _fake(*args: Value) -> tuple[Tensor, ...]:
    h, matrix, bias, *_, needs = args
    shapes = (tensor.shape if is_wanted else (0,) for tensor, is_wanted in zip((h, matrix, bias), needs, strict=True))
    return (h.new_empty(()), *(h.new_empty(shape) for shape in shapes))


def _setup_context(ctx: Context, inputs: Value, output: Value) -> None:
    ctx.needs, ctx.count = inputs[-1], len(inputs)
    ctx.save_for_backward(*output[1:])


def _backward(ctx: Context, g: Tensor, *_: Value) -> Value:
    found = (g * part if need else None for part, need in zip(ctx.saved_tensors, ctx.needs, strict=True))
    return (*found, *(None,) * (ctx.count - 3))


LIBRARY.define(_SCHEMA)  # type: ignore[no-untyped-call]
torch.library.impl("softmaxfam_rs::linear_loss", "default", _kernel, lib=LIBRARY)
torch.library.register_fake("softmaxfam_rs::linear_loss", _fake, lib=LIBRARY)
torch.library.register_autograd("softmaxfam_rs::linear_loss", _backward, setup_context=_setup_context, lib=LIBRARY)
_REGISTERED = torch.ops.softmaxfam_rs.linear_loss.default
