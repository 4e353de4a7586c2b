"""Losses along the paths of a tree for autograd.

The forward pass computes the gradients of a sum or a mean with its value, and keeps them; the backward pass hands them
over once. Asked again, or with a loss for each query, it computes them anew. Other types and devices, transforms and
second derivatives take a loop over the levels of the tree in torch's operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch._C import _are_functorch_transforms_active as transforms_are_active
from torch._C import _len_torch_dispatch_stack as dispatch_modes
from torch.autograd import Function
from torch.compiler import is_compiling
from torch.nn.functional import embedding, softplus

from softmaxfam_rs import _core

from .arguments import HALVES
from .kernels import is_plain
from .operators import LIBRARY, is_abstract, is_differentiated, is_in_forward_mode

if TYPE_CHECKING:
    from .operators import Context, Value


def loss(
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    parents: Tensor,
    target: Tensor,
    ignore_index: int | None,
    reduction: str,
    *,
    sparse: bool = False,
) -> Tensor:
    """Compute -log p of targets, reduced; with `sparse` the gradient of `weight` is a sparse tensor of rows."""
    if reduction not in {"none", "mean", "sum"}:
        raise ValueError(f"reduction is {reduction!r}, must be 'none', 'mean' or 'sum'")
    _check(h, weight, target)
    layers = (h, weight) if bias is None else (h, weight, bias)
    shape = target.shape
    rows, classes = h.reshape(-1, h.shape[-1]), target.reshape(-1).long()
    if h.dtype in HALVES:  # computed in float32, rounded once
        rows = rows.float()
    numbers = tuple(layer.float() if layer.dtype in HALVES else layer for layer in layers[1:])
    if rows.dtype is not numbers[0].dtype and rows.dtype is torch.float32:
        rows = rows.to(numbers[0].dtype)
    call = (rows, numbers[0], numbers[1] if bias is not None else None, parents, classes, ignore_index, reduction)
    used = [tensor for tensor in call[:3] if tensor is not None]
    is_traced = is_compiling() or bool(dispatch_modes()) or any(map(is_abstract, used))
    is_of_core = (
        all(tensor.dtype is torch.float32 and tensor.device.type == "cpu" for tensor in used)
        and (is_traced or all(map(is_plain, used)))
        and not (transforms_are_active() or is_in_forward_mode())
    )
    if not is_of_core:
        result = _by_levels(*call, sparse=sparse)
    elif is_traced:
        needs = [tensor is not None and tensor.requires_grad and torch.is_grad_enabled() for tensor in call[:3]]
        result = _REGISTERED(*call, needs)[0]
    elif is_differentiated(*used):
        result = _Paths.apply(sparse, *call)
    else:
        result = _computed(call, None, (False, False, False))[0]
    result = result.reshape(shape) if reduction == "none" else result
    return result.to(h.dtype) if h.dtype in HALVES else result


def _check(h: Tensor, weight: Tensor, target: Tensor) -> None:
    if not h.is_floating_point():
        raise TypeError(f"h has dtype {h.dtype}, must be of real floats; convert it with h.float()")
    if h.ndim == 0 or h.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"h has shape {tuple(h.shape)}, must have {weight.shape[1]} numbers along its last axis, as rows of weight"
        )
    if target.is_floating_point() or target.is_complex() or target.dtype is torch.bool:
        raise TypeError(f"target has dtype {target.dtype}, must be class ids of integers")
    if target.shape != h.shape[:-1]:
        raise ValueError(
            f"target has shape {tuple(target.shape)}, must have shape {tuple(h.shape[:-1])}, a class id for each query"
        )


def _by_levels(
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    parents: Tensor,
    target: Tensor,
    ignore_index: int | None,
    reduction: str,
    *,
    sparse: bool = False,
) -> Tensor:
    """Walk all paths a level at a time, in operations of torch."""
    nodes, root = len(weight), len(parents)
    counts = torch.ones_like(target, dtype=torch.bool) if ignore_index is None else target != ignore_index
    wrong = counts & ((target < 0) | (target > nodes))
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise ValueError(f"target of row {row} is {int(target[row])}, must lie in [0, {nodes}]")
    ids = torch.where(counts, target, root)
    h = torch.where(counts[:, None], h, 0)
    losses = h.new_zeros(len(target))
    parents = parents.to(h.device)
    while bool((ids != root).any()):
        active = ids != root
        codes = parents[ids.clamp(max=root - 1)].long()
        at = codes >> 1
        logits = (h * embedding(at, weight, sparse=sparse)).sum(-1)
        logits = logits if bias is None else logits + bias[at]
        losses = losses + torch.where(active, softplus(torch.where(codes % 2 == 1, -logits, logits), threshold=1e4), 0)
        ids = torch.where(active, at + nodes + 1, root)
    if reduction == "none":
        return losses
    return losses.sum() / counts.sum() if reduction == "mean" else losses.sum()


def _computed(call: Value, factor: Tensor | None, wants: tuple[bool, bool, bool]) -> tuple[Tensor, Value]:
    """Return the loss and its gradients: of the queries, then indices, rows and biases of nodes."""
    h, weight, bias, parents, target, ignore_index, reduction = call
    counts = target.numel() if ignore_index is None else int((target != ignore_index).sum())
    each = None if factor is None else factor.detach().double().contiguous()
    if factor is None and reduction == "mean":
        each = h.new_full(target.shape, 1 / max(1, counts), dtype=torch.float64)
    of_h = torch.empty_like(h, memory_format=torch.contiguous_format) if wants[0] else None
    found, touched = _core.tree_loss(
        (_array(weight), None if bias is None else _array(bias), _array(parents)),
        _array(h),
        _array(target),
        ignore_index,
        None if each is None else each.numpy(),
        None if of_h is None else of_h.numpy(),
        wants[1] or wants[2],
    )
    losses = torch.from_numpy(found)
    if reduction != "none":
        losses = losses.sum()
        losses = losses / counts if reduction == "mean" else losses
    return losses.float(), (of_h, *(map(torch.from_numpy, touched) if touched else (None, None, None)))


def _array(tensor: Tensor) -> Value:
    return tensor.detach().resolve_neg().contiguous().numpy()


class _Paths(Function):
    """The loss at once, outside of compilers and transforms."""

    @staticmethod
    def forward(ctx: Context, sparse: bool, *call: Value) -> Tensor:
        ctx.sparse, ctx.numbers, ctx.found = sparse, call[5:], None
        ctx.save_for_backward(*call[:5])
        ctx.wants = tuple(ctx.needs_input_grad[1:4])
        if ctx.numbers[-1] == "none":
            return _computed(call, None, (False, False, False))[0]
        result, ctx.found = _computed(call, None, ctx.wants)
        return result

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> Value:
        call = (*ctx.saved_tensors, *ctx.numbers)
        nothing = (None,) * (len(call) - 3)
        if torch.is_grad_enabled():  # the result will be differentiated again
            return (None, *_of_levels(call, g, ctx.wants), *nothing)
        if ctx.found is not None:
            # handed over, not copied: the next backward pass computes it anew
            found, ctx.found = ctx.found, None
            for part in (found[0], found[2], found[3]):
                if part is not None and g != 1:
                    part.mul_(g)
        else:
            factor = g.expand(len(call[4]))
            if call[-1] == "mean":
                counts = call[4].numel() if call[5] is None else int((call[4] != call[5]).sum())
                factor = factor / max(1, counts)
            found = _computed(call, factor, ctx.wants)[1]
        of_h, indices, values, biases = found
        of_weight = of_bias = None
        if ctx.wants[1] and ctx.sparse:
            of_weight = torch.sparse_coo_tensor(
                indices[None], values, call[1].shape, is_coalesced=True, check_invariants=False
            )
        elif ctx.wants[1]:
            of_weight = torch.zeros_like(call[1]).index_copy_(0, indices, values)
        if ctx.wants[2]:
            of_bias = torch.zeros_like(call[2]).index_copy_(0, indices, biases)
        return (None, of_h, of_weight, of_bias, *nothing)


def _of_levels(call: Value, g: Tensor, wants: tuple[bool, ...]) -> Value:
    """Return gradients that can be differentiated again."""
    with torch.enable_grad():
        value = _by_levels(*call)
        places = [place for place, is_wanted in enumerate(wants) if is_wanted]
        inputs = [call[place] for place in places]
        found = torch.autograd.grad(value, inputs, g.to(value.dtype), create_graph=True, allow_unused=True)
    of_call: list[Tensor | None] = [None, None, None]
    for place, gradient in zip(places, found, strict=True):
        of_call[place] = gradient
    return of_call


_SCHEMA = (
    "hierarchical_loss(Tensor h, Tensor weight, Tensor? bias, Tensor parents, Tensor target, int? ignore_index, "
    "str reduction, bool[] needs) -> (Tensor, Tensor, Tensor, Tensor)"
)


def _kernel(*args: Value) -> tuple[Tensor, ...]:
    *call, needs = args
    result, (of_h, indices, values, biases) = _computed(
        call, None, (False, False, False) if call[-1] == "none" else needs
    )
    empty = call[0].new_empty(0)
    if call[-1] == "none" or not any(needs):
        return result, empty, empty.clone(), empty.clone()
    of_weight = torch.zeros_like(call[1]).index_copy_(0, indices, values) if needs[1] else empty.clone()
    of_bias = torch.zeros_like(call[2]).index_copy_(0, indices, biases) if needs[2] else empty.clone()
    return result, of_h if needs[0] else empty, of_weight, of_bias


def _fake(*args: Value) -> tuple[Tensor, ...]:
    h, weight, bias, _, target, _, reduction, needs = args
    is_each = reduction == "none"
    pairs = zip((h, weight, bias), needs, strict=True)
    shapes = (tensor.shape if is_wanted and not is_each else (0,) for tensor, is_wanted in pairs)
    return (h.new_empty(target.shape if is_each else ()), *(h.new_empty(shape) for shape in shapes))


def _setup_context(ctx: Context, inputs: Value, output: Value) -> None:
    if inputs[-2] == "none":
        raise RuntimeError("reduction is 'none' under torch.compile, must be 'mean' or 'sum' for a gradient")
    ctx.needs, ctx.count = inputs[-1], len(inputs)
    ctx.save_for_backward(*output[1:])


def _backward(ctx: Context, g: Tensor, *_: Value) -> Value:
    found = (g * part if need else None for part, need in zip(ctx.saved_tensors, ctx.needs, strict=True))
    return (*found, *(None,) * (ctx.count - 3))


LIBRARY.define(_SCHEMA)  # type: ignore[no-untyped-call]
torch.library.impl("softmaxfam_rs::hierarchical_loss", "default", _kernel, lib=LIBRARY)
torch.library.register_fake("softmaxfam_rs::hierarchical_loss", _fake, lib=LIBRARY)
torch.library.register_autograd(
    "softmaxfam_rs::hierarchical_loss", _backward, setup_context=_setup_context, lib=LIBRARY
)
_REGISTERED = torch.ops.softmaxfam_rs.hierarchical_loss.default
