"""Losses for Dask arrays: of whole rows, block by block; sums and means meet lazily."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import dask.array as da
from array_api_compat import array_namespace

from ._dask_blocks import Blocks
from ._dispatch import library_of
from ._fused import loss_of_all_scores
from ._generic._frame import dtype_name, shape_text
from ._generic._losses import MARGIN
from ._generic._rows import ABOVE_ONE, ABOVE_ZERO, TEMPERATURE

if TYPE_CHECKING:
    from ._typing import Array

RULES = {"entmax": ABOVE_ZERO, "normmax": ABOVE_ONE, "rankmax": MARGIN}


def linear_loss(kind: str, h: Array, matrix: Array, target: Array, parameter: Array, **options: Any) -> Any:  # noqa: ANN401
    """Compute the loss that `kind` names of the scores h W^T + b, and its gradients if that is not "none"."""
    return loss_of_all_scores(da, loss, kind, h, matrix, target, parameter, library="dask", **options)


def loss(
    kind: str,
    scores: Array,
    target: Array,
    parameter: Array,
    *,
    axis: int,
    where: Array,
    weight: Array,
    ignore_index: int | None,
    label_smoothing: float,
    reduction: str,
    temperature: Array,
    gradient: str,
) -> Any:  # noqa: ANN401  an array, or a pair
    """Compute the loss that `kind` names, and its gradient if that is not "none"."""
    if gradient == "sparse":
        raise TypeError("sparse_grad is given with a Dask array, must be False; its size depends on the data")
    blocks = Blocks("scores", scores, axis)
    target, is_of_ids = _target(blocks, target)
    name = "margin" if kind == "rankmax" else "alpha"
    order = blocks.parameter(name, parameter, RULES[kind]) if kind in RULES else parameter
    given = {
        "target": target,
        "parameter": order,
        "where": blocks.mask(where),
        "weight": _weight(blocks, weight),
        "temperature": blocks.parameter("temperature", temperature, TEMPERATURE),
    }
    options = {"ignore_index": ignore_index, "label_smoothing": label_smoothing}

    def on_block(block: Array, *, axis: int, target: Array, parameter: Array, reduction: str, **others: Any) -> Any:  # noqa: ANN401
        library = library_of(block)
        target = array_namespace(target).reshape(target, _batch(block, axis)) if is_of_ids else target
        weight = others.pop("weight")
        weight = weight if weight is None else array_namespace(weight).reshape(weight, (-1,))
        backend = library.backend if library else None
        return backend.loss(  # type: ignore[union-attr]  # a block is an array of some library
            kind, block, target, parameter, axis=axis, weight=weight, reduction=reduction, **options, **others
        )

    def losses_and_weights(block: Array, **others: Any) -> tuple[Array, Array]:  # noqa: ANN401
        losses = on_block(block, reduction="rows", gradient="none", **others)
        return losses, _label_weights(
            block, others["target"], others["weight"], ignore_index, others["axis"], is_of_ids
        )

    def losses_alone(block: Array, **others: Any) -> Array:  # noqa: ANN401
        return on_block(block, reduction="none", gradient="none", **others)

    def gradients(block: Array, **others: Any) -> Array:  # noqa: ANN401
        return on_block(block, reduction="none", gradient="dense", **others)[1]

    divisor: Any = 1.0
    if reduction == "none":
        result = blocks.reduction(losses_alone, given)
    else:
        rows, weights = blocks.reductions(losses_and_weights, given, count=2)
        divisor = da.sum(weights) if reduction == "mean" else 1.0  # type: ignore[no-untyped-call, unused-ignore]
        result = (da.sum(rows) / divisor).astype(blocks.dtype)  # type: ignore[no-untyped-call, unused-ignore]
    if gradient == "none":
        return result
    slopes = blocks.like_scores(gradients, given)
    return result, slopes if reduction != "mean" else (slopes / divisor).astype(blocks.dtype)


def _batch(block: Array, axis: int) -> tuple[int, ...]:
    return tuple(length for index, length in enumerate(block.shape) if index != axis) if block.ndim else ()


def _target(blocks: Blocks, target: Array) -> tuple[Array, bool]:
    """Return a target with as many axes as the scores, and whether it is of class ids."""
    target = target if isinstance(target, da.Array) else da.asarray(target)  # type: ignore[no-untyped-call, unused-ignore]
    frame, name = blocks.frame, dtype_name(target.dtype)
    is_of_ids = name.strip("u").startswith("int")
    needed = frame.batch if is_of_ids else frame.shape
    if tuple(target.shape) != needed:
        kind = "class ids" if is_of_ids else "shares"
        raise ValueError(f"target of {kind} has shape {shape_text(target.shape)}, must have shape {shape_text(needed)}")
    return (target.reshape(frame.lengths) if is_of_ids else target), is_of_ids


def _weight(blocks: Blocks, weight: Array) -> Array:
    """Return a weight of each class along the axis of the classes."""
    if weight is None:
        return None
    frame = blocks.frame
    weight = weight if isinstance(weight, da.Array) else da.asarray(weight)  # type: ignore[no-untyped-call, unused-ignore]
    if tuple(weight.shape) != (frame.classes,):
        raise ValueError(f"weight has shape {shape_text(weight.shape)}, must have shape ({frame.classes},)")
    shape = tuple(length if index in frame.axes else 1 for index, length in enumerate(frame.shape))
    return weight.reshape(shape)


def _label_weights(
    block: Array, target: Array, weight: Array, ignore_index: int | None, axis: int, is_of_ids: bool
) -> Array:
    """Return what each row adds to the divisor of a mean."""
    xp = array_namespace(block)
    shape = _batch(block, axis)
    ones = xp.ones(shape, dtype=xp.float64)
    if not is_of_ids:
        return ones
    labels = xp.reshape(target, shape)
    if weight is not None:
        weight = xp.reshape(weight, (-1,))
        inside = xp.clip(labels, 0, max(weight.shape[0] - 1, 0))
        ones = xp.reshape(xp.take(xp.astype(weight, xp.float64), xp.reshape(inside, (math.prod(shape),))), shape)
    return ones if ignore_index is None else xp.where(labels == ignore_index, 0.0, ones)
