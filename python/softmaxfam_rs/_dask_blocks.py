"""Calls on the blocks of a Dask array, with masks and parameters cut likewise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import dask.array as da
from array_api_compat import array_namespace
from dask.array.utils import meta_from_array

from ._generic._frame import Frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._generic._frame import Rule
    from ._typing import Array, Axes


class Blocks:
    """An array in blocks, and which of its axes are classes."""

    def __init__(self, name: str, array: Array, axis: Axes, *, several: bool = False, out: Array = None) -> None:
        if out is not None:
            raise TypeError("out is given with a Dask array, which cannot be written, must be None; assign the result")
        if any(math.isnan(length) for length in array.shape):
            raise ValueError(
                f"{name} has blocks of unknown sizes, shape {array.shape}; call {name}.compute_chunk_sizes() first"
            )
        self.array, self.several = array, several
        self.frame = Frame(array_namespace(array), name, array, axis, several=several)
        self.axes = self.frame.axes
        self.dtype = self.frame.dtype

    def parameter(self, name: str, given: Array, rule: Rule) -> Any:  # noqa: ANN401
        """Return a number, or an array with one for each row and as many axes as the scores."""
        return self.frame.parameter(name, given, rule)

    def mask(self, where: Array) -> Array:
        """Return the mask of present classes, or None."""
        return None if where is None else self.frame.mask(where)

    def beside(self, name: str, given: Array) -> Array:
        """Return a second input of the shape and dtype of the first."""
        return self.frame.fitting(name, self.frame.beside(name, given))

    def results(self, name: str, given: Array) -> Array:
        """Return the results of a reduction, with its axes."""
        rows = self.frame.results(name, self.frame.beside(name, given))
        return rows.reshape(self.frame.lengths).astype(self.dtype)

    def like_scores(self, function: Callable[..., Any], given: dict[str, Any], first: tuple[str, ...] = ()) -> Array:
        """Call a map on whole rows; the given arrays named in `first` go by position."""
        return self.call(function, given, first, is_whole=True)

    def reduction(self, function: Callable[..., Any], given: dict[str, Any], first: tuple[str, ...] = ()) -> Array:
        """Call what reduces whole rows to a number."""
        numbers = self.call(_keeping_axes(function, self.axes), given, first, is_whole=True, classes=1)
        return da.squeeze(numbers, axis=self.axes)

    def reductions(self, function: Callable[..., Any], given: dict[str, Any], *, count: int) -> tuple[Array, ...]:
        """Call what reduces whole rows to several numbers, each of which float64 holds."""
        kept = _keeping_axes(function, self.axes)
        numbers = self.call(kept, given, is_whole=True, classes=1, stacked=count, dtype="float64")
        return tuple(da.squeeze(one, axis=self.axes) for one in numbers)

    def call(
        self,
        function: Callable[..., Any],
        given: dict[str, Any],
        first: tuple[str, ...] = (),
        *,
        is_whole: bool = False,
        classes: int | Callable[[int], int] | None = None,
        stacked: int | None = None,
        dtype: Any = None,  # noqa: ANN401
    ) -> Array:
        """Call a function on each block; of whole rows, with other lengths of the class axes, stacked along a new axis.

        A function gets its block, the blocks of the given arrays, numbers and None as they are, and `axis`.
        """
        scores = self.array.rechunk(dict.fromkeys(self.axes, -1)) if is_whole else self.array
        names = tuple(name for name, value in given.items() if isinstance(value, da.Array))
        constants = {name: value for name, value in given.items() if name not in names}
        axis = self.axes if self.several else self.axes[0] if self.axes else -1

        def on_blocks(block: Array, *others: Array) -> Array:
            options = {**constants, **dict(zip(names, others, strict=True))}
            return function(block, *(options.pop(name) for name in first), axis=axis, **options)

        indices = tuple(range(scores.ndim))
        new = () if stacked is None else (scores.ndim,)
        dtype = self.dtype if dtype is None else dtype
        arguments = [part for name in names for part in (_cut_like(scores, given[name]), indices)]
        return da.blockwise(  # type: ignore[no-untyped-call, unused-ignore]
            on_blocks,
            (*new, *indices),
            scores,
            indices,
            *arguments,
            new_axes=dict.fromkeys(new, stacked),
            adjust_chunks=None if classes is None else dict.fromkeys(self.axes, classes),
            dtype=dtype,
            meta=meta_from_array(scores, ndim=len(new) + scores.ndim, dtype=dtype),  # type: ignore[no-untyped-call, unused-ignore]
        )


def _cut_like(scores: Array, other: Array) -> Array:
    """Cut an array as the scores are cut, but for the axes along which it has length 1."""
    lengths = zip(other.chunks, scores.chunks, other.shape, scores.shape, strict=True)
    return other.rechunk(tuple(own if short != long else wanted for own, wanted, short, long in lengths))


def _keeping_axes(function: Callable[..., Any], axes: tuple[int, ...]) -> Callable[..., Any]:
    def kept(block: Array, *others: Array, **options: Any) -> Array:  # noqa: ANN401
        xp = array_namespace(block)
        results = function(block, *others, **options)
        if isinstance(results, tuple):
            results = xp.stack([xp.astype(xp.asarray(one), xp.float64) for one in results])
            return xp.expand_dims(results, axis=tuple(axis + 1 for axis in axes)) if axes else results
        return xp.expand_dims(xp.asarray(results), axis=axes) if axes else xp.asarray(results)

    return kept
