"""logsumexp, softmax and the most probable classes of Dask arrays whose classes lie in several blocks.

Each block gives a state of its rows: a reference r, log sum_i w_i exp((x_i - r) / T), the sign of the sum, whether a
class is present. States merge into that of all classes, which is a few numbers for each row; a second, independent call
on each block makes the map from it. All in float64, rounded once.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

from ._dask_blocks import Blocks
from ._generic import quietly
from ._generic._rows import TEMPERATURE
from ._results import TopK

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._typing import Array, Axes


def logsumexp(
    scores: Array,
    /,
    *,
    axis: Axes = -1,
    keepdims: bool = False,
    where: Array = None,
    weights: Array = None,
    return_sign: bool = False,
    temperature: Array = 1.0,
    out: Array = None,
) -> Array:
    """Log of the sum of exponentials, weighted or not, and its sign."""
    blocks = Blocks("scores", scores, axis, several=True, out=out)
    temperature = blocks.parameter("temperature", temperature, TEMPERATURE)
    weights = weights if weights is None else blocks.frame.fitting("weights", weights)
    reference, log, sign, _ = _states(blocks, blocks.mask(where), temperature, weights)
    log = reference / temperature + log
    log = log if return_sign else da.where(sign < 0, math.nan, log)
    log, sign = (
        (number if keepdims else da.squeeze(number, axis=blocks.axes)).astype(blocks.dtype) for number in (log, sign)
    )
    return (log, sign) if return_sign else log


def softmax(
    scores: Array, /, *, axis: Axes = -1, where: Array = None, temperature: Array = 1.0, out: Array = None
) -> Array:
    """Softmax."""
    return _map(scores, axis, where, temperature, out, is_log=False)


def log_softmax(
    scores: Array, /, *, axis: Axes = -1, where: Array = None, temperature: Array = 1.0, out: Array = None
) -> Array:
    """Logarithm of softmax."""
    return _map(scores, axis, where, temperature, out, is_log=True)


def top_log_probs(scores: Array, k: int, /, *, axis: int = -1, where: Array = None, temperature: Array = 1.0) -> TopK:
    """Find the k most probable classes, of those that are so in their blocks."""
    if not scores.ndim:
        scores = scores.reshape(1)
    blocks = Blocks("scores", scores, axis)
    classes, k, (class_axis,) = blocks.frame.classes, operator.index(k), blocks.axes
    if not 1 <= k <= classes:
        raise ValueError(f"k is {k}, must lie in [1, {classes}], the number of classes; take min(k, n_classes)")
    temperature = blocks.parameter("temperature", temperature, TEMPERATURE)
    mask = blocks.mask(where)
    lengths = tuple(classes if axis == class_axis else 1 for axis in range(scores.ndim))
    index = da.arange(classes, chunks=(scores.chunks[class_axis],)).reshape(lengths)
    found = blocks.call(
        _largest_of_block(k), {"mask": mask, "index": index}, classes=lambda n: min(k, n), stacked=2, dtype="float64"
    )
    found, index = Blocks("scores", found, class_axis + 1).call(_largest(k), {}, is_whole=True, classes=k)
    reference, log, _, present = _states(blocks, mask, temperature, None)
    of_rows = {"reference": reference, "log": log, "present": present, "temperature": temperature}
    log_probs = Blocks("scores", found, class_axis).call(_results(is_log=True), {**of_rows, "mask": None})
    return TopK(
        log_probs.astype(blocks.dtype),
        da.where(log_probs > -math.inf, index, -1).astype("int64"),
        da.squeeze(reference / temperature + log, axis=class_axis).astype(blocks.dtype),
    )


def _map(scores: Array, axis: Axes, where: Array, temperature: Array, out: Array, *, is_log: bool) -> Array:
    blocks = Blocks("scores", scores, axis, several=True, out=out)
    temperature = blocks.parameter("temperature", temperature, TEMPERATURE)
    mask = blocks.mask(where)
    reference, log, _, present = _states(blocks, mask, temperature, None)
    of_rows = {"reference": reference, "log": log, "present": present, "temperature": temperature}
    return blocks.call(_results(is_log=is_log, dtype=blocks.dtype), {**of_rows, "mask": mask})


def _results(*, is_log: bool, dtype: Any = np.float64) -> Callable[..., Array]:  # noqa: ANN401
    """Return what makes the results of a block from the states of its rows."""
    absent = -math.inf if is_log else 0.0

    def of_block(
        block: Array,
        *,
        reference: Array,
        log: Array,
        present: Array,
        temperature: Any,  # noqa: ANN401
        mask: Array,
        axis: Any,  # noqa: ANN401, ARG001
    ) -> Array:
        z = (block.astype(np.float64) - reference) / temperature - log
        results = np.where(np.isfinite(log), z if is_log else np.exp(z), math.nan)
        if mask is not None:
            results = np.where(mask | ~np.isfinite(log), results, absent)
        return np.where(present > 0, results, absent).astype(dtype)

    return quietly(of_block)


def _states(blocks: Blocks, mask: Array, temperature: Any, weights: Array) -> Array:  # noqa: ANN401
    """Return the four parts of the states of rows, with the class axes at length 1."""
    given = {"mask": mask, "temperature": temperature, "weights": weights}
    states = blocks.call(_state, given, classes=1, stacked=4, dtype="float64")
    merged = Blocks("states", states, tuple(axis + 1 for axis in blocks.axes), several=True)
    if not isinstance(temperature, float):
        temperature = temperature[None]
    return merged.call(_merge, {"temperature": temperature}, is_whole=True, classes=1)


@quietly
def _state(block: Array, *, mask: Array, temperature: Any, weights: Array, axis: Any) -> Array:  # noqa: ANN401
    x = block.astype(np.float64)
    if weights is not None:
        mask = weights != 0 if mask is None else mask & (weights != 0)
    if mask is not None:
        x = np.where(mask, x, -math.inf)
    reference = x.max(axis=axis, keepdims=True, initial=-math.inf)
    reference = np.where(np.isfinite(reference), reference, 0.0)
    log, sign = _public().logsumexp(
        x - reference, axis=axis, keepdims=True, weights=weights, return_sign=True, temperature=temperature
    )
    mask = np.ones_like(x, dtype=bool) if mask is None else np.broadcast_to(mask, x.shape)
    return np.stack([reference, log, sign, mask.any(axis=axis, keepdims=True)])


@quietly
def _merge(states: Array, *, temperature: Any, axis: Any) -> Array:  # noqa: ANN401
    """Merge the states along axes of a block, whose first axis are the parts of a state."""
    axis = tuple(axis - 1 for axis in axis)
    temperature = temperature if isinstance(temperature, float) else temperature[0]
    reference, log, sign, present = states
    reference = np.where(log == -math.inf, -math.inf, reference)
    highest = reference.max(axis=axis, keepdims=True, initial=-math.inf)
    highest = np.where(np.isfinite(highest), highest, 0.0)
    log, sign = _public().logsumexp(
        log + (reference - highest) / temperature, axis=axis, keepdims=True, weights=sign, return_sign=True
    )
    return np.stack([highest, log, sign, present.max(axis=axis, keepdims=True, initial=0.0)])


def _largest_of_block(k: int) -> Callable[..., Array]:
    def of_block(block: Array, *, mask: Array, index: Array, axis: int) -> Array:
        return _gathered(block, np.broadcast_to(index, block.shape), mask, k, axis)

    return of_block


def _largest(k: int) -> Callable[..., Array]:
    return lambda block, *, axis: _gathered(block[0], block[1], None, k, axis - 1)


def _gathered(scores: Array, index: Array, mask: Array, k: int, axis: int) -> Array:
    """Return the largest scores and their classes, -inf and -1 where there are none."""
    k = min(k, scores.shape[axis])
    scores = scores.astype(np.float64)
    if k == 0:
        return np.stack([scores, scores])
    place = _public().top_log_probs(scores, k, axis=axis, where=mask).indices
    is_there = place >= 0
    place = np.where(is_there, place, 0)
    return np.stack(
        [
            np.where(is_there, np.take_along_axis(scores, place, axis=axis), -math.inf),
            np.where(is_there, np.take_along_axis(index, place, axis=axis), -1),
        ]
    )


def _public() -> Any:  # noqa: ANN401  the package, complete by now
    import softmaxfam_rs  # noqa: PLC0415

    return softmaxfam_rs
