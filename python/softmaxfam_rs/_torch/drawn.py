"""Losses that draw their negatives, for autograd: by the core, which computes the gradient with the value.

The forward pass keeps the gradient of a sum or a mean, and the backward pass hands it over once; asked again, or with a
loss for each query, it computes it anew from the same draws. Other types and devices, transforms and second derivatives
gather with torch's operations.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch._C import _are_functorch_transforms_active as transforms_are_active
from torch.autograd import Function
from torch.nn.functional import embedding

from softmaxfam_rs import _drawn
from softmaxfam_rs._results import IndexedRows, LinearGradients
from softmaxfam_rs._sampled_losses import nce_loss, sampled_softmax_loss

from .arguments import HALVES, as_tensor
from .kernels import is_plain
from .operators import is_differentiated, is_in_forward_mode

if TYPE_CHECKING:
    from softmaxfam_rs._drawn import Draws

    from .operators import Context, Value


@torch.compiler.disable  # type: ignore[untyped-decorator]
def loss(
    kind: str,
    h: Tensor,
    matrix: Tensor,
    target: Tensor,
    sampler: Value,
    m: int,
    *,
    bias: Tensor | None,
    reduction: str,
    sparse_grad: bool,
    wants_gradient: bool,
    **options: Value,
) -> Value:
    """Compute the loss that `kind` names, and its gradients if they are wanted."""
    _drawn.check_reduction(reduction)
    device = next(tensor.device for tensor in (h, matrix, bias, target) if isinstance(tensor, Tensor))
    h, matrix, target = (as_tensor(given, device) for given in (h, matrix, target))
    bias = None if bias is None else as_tensor(bias, device)
    _check(h, matrix, bias, target)
    labels = target.detach().reshape(-1).long().cpu()
    draws = _drawn.drawn(kind, labels.numpy(), len(matrix), sampler, m, **options)
    rows = h.reshape(-1, h.shape[-1])
    layers = [rows, matrix] if bias is None else [rows, matrix, bias]
    is_of_core = (
        all(layer.dtype is torch.float32 and layer.device.type == "cpu" and is_plain(layer) for layer in layers)
        and matrix.is_contiguous()
        and not (transforms_are_active() or is_in_forward_mode())
    )
    if wants_gradient:
        value, gradients = _with_gradients(draws, rows, matrix, bias, reduction, is_of_core=is_of_core)
        value = value.reshape(target.shape) if reduction == "none" else value
        return value, gradients._replace(h=gradients.h.reshape(h.shape))
    if not is_of_core:
        result = _by_operations(draws, rows, matrix, bias, reduction, sparse=sparse_grad)
    elif is_differentiated(*layers):
        result = _Drawn.apply(sparse_grad, draws, reduction, rows, matrix, bias)
    else:
        result = _computed(draws, (rows, matrix, bias), reduction, None, (False, False))[0]
    return result.reshape(target.shape) if reduction == "none" else result


def _check(h: Tensor, matrix: Tensor, bias: Tensor | None, target: Tensor) -> None:
    from softmaxfam_rs._fused import checked  # noqa: PLC0415  which takes much

    given = {"h": h, "W": matrix, "target": target} | ({} if bias is None else {"bias": bias})
    for name in {"h", "W", "bias"} & set(given):
        if not given[name].is_floating_point():
            raise TypeError(
                f"{name} has dtype {given[name].dtype}, must be of real floats; convert with {name}.float()"
            )
    checked({name: tuple(tensor.shape) for name, tensor in given.items()}, {"target": target.dtype})
    devices = {tensor.device for tensor in (h, matrix)}
    if len(devices) > 1:
        raise ValueError(f"h is on {h.device} and W on {matrix.device}, must be on one device; move one")


def _by_operations(
    draws: Draws, h: Tensor, matrix: Tensor, bias: Tensor | None, reduction: str, *, sparse: bool
) -> Tensor:
    """Gather, score and take the losses of scores, in operations that torch differentiates."""
    dtype, device = h.dtype, h.device
    target, negative = (torch.as_tensor(ids, device=device) for ids in (draws.target, draws.negative))
    rows, others = (embedding(ids, matrix, sparse=sparse and bias is None) for ids in (target, negative))
    if dtype in HALVES or rows.dtype is not dtype:  # computed in float32 or better, rounded once
        wide = torch.promote_types(torch.promote_types(dtype, rows.dtype), torch.float32)
        h, rows, others = h.to(wide), rows.to(wide), others.to(wide)
    positive = (h * rows).sum(-1)
    scores = h @ others.T if negative.ndim == 1 else (others @ h[..., None])[..., 0]
    if bias is not None:
        positive, scores = positive + bias[target], scores + bias[negative]
    logs = [torch.as_tensor(log, dtype=scores.dtype, device=device) for log in (draws.of_target, draws.of_negative)]
    of_negative = logs[1].expand(scores.shape)
    hits = negative == target[:, None] if draws.removes_hits else None
    options: Value = {"hits": hits, "temperature": draws.temperature, "reduction": reduction}
    if draws.is_binary:
        log_m = math.log(draws.negative.shape[-1])  # which the function adds
        result = nce_loss(positive, scores, logs[0] - log_m, of_negative - log_m, **options)
    elif draws.is_refined:
        options |= {"reduction": "none", "correction": "all"}
        result = _refined(sampled_softmax_loss(positive, scores, logs[0], of_negative, **options))
        result = result if reduction == "none" else result.mean() if reduction == "mean" else result.sum()
    else:
        result = sampled_softmax_loss(positive, scores, logs[0], of_negative, correction="all", **options)
    rounded: Tensor = result.to(dtype)
    return rounded


def _refined(losses: Tensor) -> Tensor:
    """Return (1 - p) log(others / e^s) from the cross entropy, with the gradient of that: 1 - p is a constant."""
    others = -torch.expm1(-losses.detach())
    value = torch.where(others == 0, 0, others * (losses.detach() + torch.log(others)))
    return losses + (value - losses.detach())


def _array(tensor: Tensor) -> Value:
    return tensor.detach().resolve_neg().contiguous().numpy()


def _computed(
    draws: Draws,
    layers: tuple[Tensor, Tensor, Tensor | None],
    reduction: str,
    factor: Tensor | None,
    wants: tuple[bool, bool],
) -> tuple[Tensor, Value]:
    """Return the loss and its gradients: of the queries, then indices, rows and biases of classes."""
    h, matrix, bias = layers
    each = None if factor is None else factor.detach().double().contiguous()
    if factor is None and reduction == "mean":
        each = h.new_full((len(h),), 1 / max(1, len(h)), dtype=torch.float64)
    losses, of_h, touched = _drawn.by_core(
        draws,
        _array(h),
        _array(matrix),
        None if bias is None else _array(bias),
        None if each is None else each.numpy(),
        wants_h=wants[0],
        wants_rows=wants[1],
    )
    result = torch.from_numpy(_drawn.reduced(losses, reduction)).float()
    of_rows = map(torch.from_numpy, touched) if touched else (None, None, None)
    return result, (None if of_h is None else torch.from_numpy(of_h), *of_rows)


def _with_gradients(
    draws: Draws, h: Tensor, matrix: Tensor, bias: Tensor | None, reduction: str, *, is_of_core: bool
) -> tuple[Tensor, LinearGradients[Tensor]]:
    shape = (matrix.shape[0], matrix.shape[1])
    if is_of_core:
        with torch.no_grad():
            value, (of_h, rows, values, biases) = _computed(draws, (h, matrix, bias), reduction, None, (True, True))
    else:
        layers = [layer.detach().requires_grad_() for layer in (h, matrix, bias) if layer is not None]
        fewer, named, some, of_some = _drawn.compacted(draws, layers[1], layers[2] if bias is not None else None)
        with torch.enable_grad():
            value = _by_operations(fewer, layers[0], some, of_some, reduction, sparse=False)
            wanted = [layers[0], some] if of_some is None else [layers[0], some, of_some]
            of_h, values, *rest = torch.autograd.grad(value.sum(), wanted)
        value, biases = value.detach(), rest[0] if rest else None
        rows = torch.as_tensor(named, device=h.device)
    of_bias = None if bias is None else IndexedRows(rows, biases, (shape[0],))
    return value, LinearGradients(of_h, IndexedRows(rows, values, shape), of_bias)


class _Drawn(Function):
    """The loss at once, outside of transforms."""

    @staticmethod
    def forward(
        ctx: Context, sparse: bool, draws: Draws, reduction: str, h: Tensor, matrix: Tensor, bias: Tensor | None
    ) -> Tensor:
        ctx.sparse, ctx.draws, ctx.reduction, ctx.found = sparse, draws, reduction, None
        ctx.save_for_backward(h, matrix, bias)
        of_h, of_matrix, of_bias = ctx.needs_input_grad[3:]
        ctx.wants = (of_h, of_matrix or of_bias)
        if reduction == "none":
            return _computed(draws, (h, matrix, bias), reduction, None, (False, False))[0]
        result, ctx.found = _computed(draws, (h, matrix, bias), reduction, None, ctx.wants)
        return result

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> Value:
        h, matrix, bias = ctx.saved_tensors
        _, of_matrix, of_bias = needs = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():  # the result will be differentiated again
            return (None, None, None, *_of_operations(ctx, g, needs))
        if ctx.found is not None:
            # handed over, not copied: the next backward pass computes it anew
            found, ctx.found = ctx.found, None
            for part in (found[0], found[2], found[3]):
                if part is not None and g != 1:
                    part.mul_(g)
        else:
            factor = g.expand(len(h)) / (max(1, len(h)) if ctx.reduction == "mean" else 1)
            found = _computed(ctx.draws, (h, matrix, bias), ctx.reduction, factor, ctx.wants)[1]
        of_h, rows, values, biases = found
        to_matrix = to_bias = None
        if of_matrix and ctx.sparse:
            to_matrix = IndexedRows(rows, values, (matrix.shape[0], matrix.shape[1])).to_torch()
        elif of_matrix:
            to_matrix = torch.zeros_like(matrix).index_copy_(0, rows, values)
        if of_bias:
            to_bias = torch.zeros_like(bias).index_copy_(0, rows, biases)
        return (None, None, None, of_h, to_matrix, to_bias)


def _of_operations(ctx: Context, g: Tensor, needs: tuple[bool, ...]) -> Value:
    """Return gradients that can be differentiated again."""
    inputs = ctx.saved_tensors
    with torch.enable_grad():
        value = _by_operations(ctx.draws, inputs[0], inputs[1], inputs[2], ctx.reduction, sparse=False)
        wanted = [layer for layer, is_wanted in zip(inputs, needs, strict=True) if is_wanted]
        found = iter(torch.autograd.grad(value, wanted, g.to(value.dtype), create_graph=True))
    return tuple(next(found) if is_wanted else None for is_wanted in needs)
