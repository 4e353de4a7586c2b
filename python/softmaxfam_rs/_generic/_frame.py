"""From arrays of any library to rows of classes and back: what all functions check and prepare."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from array_api_compat import device as device_of
from array_api_compat import is_jax_array, is_torch_array

from ._known import is_known

if TYPE_CHECKING:
    from collections.abc import Callable

    from softmaxfam_rs._typing import Array, Axes

Rule: TypeAlias = "tuple[Callable[[Any], Any], str]"  # whether a number fits, and what is accepted
LOW_PRECISION = ("float16", "bfloat16")  # computed in float32, rounded once
FLOATS = (*LOW_PRECISION, "float32", "float64")


def dtype_name(dtype: Any) -> str:  # noqa: ANN401  libraries have no common type of dtypes
    """Return the name of a dtype, as all libraries write it."""
    return str(getattr(dtype, "name", None) or dtype).rpartition(".")[-1]


def shape_text(shape: tuple[int, ...]) -> str:
    """Write a shape as Python writes a tuple."""
    return str(tuple(shape))


def on_device_of(array: Array) -> dict[str, Any]:
    """Return the option that makes new arrays on the device of an array."""
    return {} if is_jax_array(array) else {"device": device_of(array)}  # JAX places them itself


def places(xp: Any, rows: Array) -> Array:  # noqa: ANN401  a namespace
    """Return 1, 2, ... along the classes."""
    return xp.arange(1, rows.shape[-1] + 1, dtype=xp.int32, **on_device_of(rows))


class Frame:
    """The axes of an array that are classes, and the dtypes of results and of the work."""

    def __init__(self, xp: Any, name: str, array: Array, axis: Axes, *, several: bool) -> None:  # noqa: ANN401  a namespace
        self.xp = xp
        self.name = name
        self.array = array
        self.shape = tuple(array.shape)
        self.axes = _axes(name, self.shape, axis, several=several)
        self.batch_axes = tuple(i for i in range(array.ndim) if i not in self.axes)
        self.batch = tuple(self.shape[i] for i in self.batch_axes)
        self.classes = math.prod(self.shape[i] for i in self.axes)
        self.lengths = tuple(1 if i in self.axes else length for i, length in enumerate(self.shape))  # of reductions
        self.dtype = self._float_dtype(name, array)
        self.work_dtype = xp.float32 if dtype_name(self.dtype) in LOW_PRECISION else self.dtype

    def _float_dtype(self, name: str, array: Array) -> Any:  # noqa: ANN401
        given = dtype_name(array.dtype)
        if given in FLOATS:
            return array.dtype
        if given == "bool" or given.strip("u").startswith("int"):
            return self.xp.__array_namespace_info__().default_dtypes()["real floating"]
        raise TypeError(
            f"{name} has dtype {given}, must be {', '.join(FLOATS)}, an integer or bool; "
            f"convert with astype({name}, float64)"
        )

    def beside(self, name: str, given: Array) -> Array:
        """Return a second input as an array of the same dtype and device as the first."""
        array = self._on_device(name, given)
        dtype = self._float_dtype(name, array)
        if dtype != self.dtype:
            given, needed = dtype_name(dtype), dtype_name(self.dtype)
            raise TypeError(f"{name} has dtype {given}, must be {needed} as the first argument; convert it")
        return array

    def rows(self, array: Array, *, is_mask: bool = False) -> Array:
        """Bring an array of the frame's shape to (batch axes, classes); in the dtype of the work, if it is no mask."""
        xp = self.xp
        if array.dtype != self.work_dtype and not is_mask:
            array = xp.astype(array, self.work_dtype)
        if self.axes != (len(self.shape) - 1,):
            array = xp.permute_dims(array, (*self.batch_axes, *self.axes))
        return array if len(self.axes) == 1 else xp.reshape(array, (*self.batch, self.classes))

    def broadcast(self, name: str, given: Array, *, is_mask: bool = False) -> Array:
        """Bring an array that broadcasts to the frame's shape to rows."""
        return self.rows(self.xp.broadcast_to(self.fitting(name, given), self.shape), is_mask=is_mask)

    def fitting(self, name: str, given: Array) -> Array:
        """Return an array that broadcasts to the frame's shape, with as many axes."""
        array = self._on_device(name, given)
        self._fitting(name, array, self.shape)
        return self._full(array)

    def mask(self, where: Array) -> Array:
        """Return the mask of present classes, with as many axes as the frame."""
        array = self._on_device("where", where)
        if dtype_name(array.dtype) != "bool":
            raise TypeError(
                f"where has dtype {dtype_name(array.dtype)}, must be bool; compare to get a mask, such as where != 0"
            )
        return self.fitting("where", array)

    def parameter(self, name: str, given: Array, rule: Rule) -> Any:  # noqa: ANN401
        """Return a number, or an array with one for each row; checked where values are known."""
        check, accepted = rule
        if isinstance(given, np.generic):
            given = given.item()
        if isinstance(given, bool | int | float):
            if not check(given):
                raise ValueError(f"{name} is {_number(given)}, {accepted}")
            return float(given)
        array = self._on_device(name, given)
        self._fitting(name, array, self.lengths)
        self._float_dtype(name, array)
        fits = self.xp.all(check(array))
        if is_known(fits) and not bool(fits):
            values = self.xp.reshape(array, (-1,))
            first = int(self.xp.argmax(self.xp.astype(~check(values), self.xp.int32)))
            raise ValueError(f"{name} is {_number(float(values[first]))}, {accepted}")
        return self._full(array)

    def per_row(self, name: str, given: Array, rule: Rule) -> Any:  # noqa: ANN401
        """Return a parameter as a number or as rows (batch axes, 1)."""
        array = self.parameter(name, given, rule)
        if isinstance(array, float):
            return array
        lengths = (*(array.shape[i] for i in self.batch_axes), 1)
        return self.xp.reshape(self.xp.permute_dims(array, (*self.batch_axes, *self.axes)), lengths)

    def _full(self, array: Array) -> Array:
        """Return an array with as many axes as the frame, new ones first."""
        missing = len(self.shape) - array.ndim
        return self.xp.reshape(array, (*(1 for _ in range(missing)), *array.shape)) if missing else array

    def results(self, name: str, given: Array) -> Array:
        """Bring results of a reduction, with or without its axes of length 1, to (batch axes, 1)."""
        shape = self._fitting(name, given, self.lengths if given.ndim == len(self.shape) else self.batch)
        return self.xp.reshape(self.xp.astype(self.xp.broadcast_to(given, shape), self.work_dtype), (*self.batch, 1))

    def work(self, number: Any) -> Any:  # noqa: ANN401  a number or an array
        """Return a number, or numbers for rows, in the dtype of the work."""
        return number if isinstance(number, float) else self.xp.astype(number, self.work_dtype)

    def precise(self, rows: Array) -> Array:
        """Return rows in float64 where library and device have it, for sums that subtract nearly equal terms."""
        if is_jax_array(rows):
            return rows  # it has one default precision, and warns of others
        info = self.xp.__array_namespace_info__()
        has_float64 = "float64" in info.dtypes(kind="real floating", **on_device_of(rows))
        return self.xp.astype(rows, self.xp.float64) if has_float64 else rows

    def of_rows(self, rows: Array) -> Array:
        """Bring a result of (batch axes, classes) to the frame's shape, and round it to the dtype of results."""
        rows = self.as_float(rows)
        if len(self.axes) != 1:
            rows = self.xp.reshape(rows, (*self.batch, *(self.shape[i] for i in self.axes)))
        return self._in_order(rows)

    def in_place_of_classes(self, rows: Array) -> Array:
        """Bring a result of (batch axes, anything) to where the one class axis was."""
        return self._in_order(rows) if self.shape else rows

    def _in_order(self, rows: Array) -> Array:
        order = (*self.batch_axes, *self.axes)
        is_in_order = order == tuple(range(len(order)))
        return rows if is_in_order else self.xp.permute_dims(rows, tuple(map(order.index, range(len(order)))))

    def dropped(self, rows: Array, *, keepdims: bool = False) -> Array:
        """Bring a result of (batch axes, 1) to the frame's shape without the class axes, or with them at length 1."""
        return self.xp.reshape(rows, self.lengths if keepdims else self.batch)

    def as_float(self, rows: Array) -> Array:
        """Round to the dtype of results."""
        return self.xp.astype(rows, self.dtype, copy=False)

    def write(self, out: Array, result: Array) -> Array:
        """Return a result, through `out` if it is given."""
        if out is None:
            return result
        if not hasattr(out, "dtype"):
            raise TypeError(f"out is a {type(out).__name__}, must be an array of the library of {self.name}")
        if is_jax_array(out):
            raise TypeError("out is a JAX array, which cannot be written, must be None; assign the result")
        if tuple(out.shape) != tuple(result.shape):
            raise ValueError(f"out has shape {shape_text(out.shape)}, must have shape {shape_text(result.shape)}")
        if out.dtype != result.dtype:
            raise ValueError(f"out has dtype {dtype_name(out.dtype)}, must have dtype {dtype_name(result.dtype)}")
        self._same_device("out", out)
        out[...] = result
        return out

    def _fitting(self, name: str, array: Array, shape: tuple[int, ...]) -> tuple[int, ...]:
        own = tuple(array.shape)
        fits = len(own) <= len(shape) and all(
            length in (1, needed) for length, needed in zip(own[::-1], shape[::-1], strict=False)
        )
        if not fits:
            raise ValueError(
                f"{name} has shape {shape_text(own)}, must broadcast to {shape_text(shape)}; reshape it first"
            )
        return shape

    def _on_device(self, name: str, given: Array) -> Array:
        if not hasattr(given, "dtype") or isinstance(given, np.generic):
            return self.xp.asarray(given, **on_device_of(self.array))
        self._same_device(name, given)
        return given

    def _same_device(self, name: str, array: Array) -> None:
        if is_jax_array(array) or (is_torch_array(array) and array.ndim == 0):
            return  # JAX says so itself, where an array is bound to a device; torch takes a number from any
        first, other = device_of(self.array), device_of(array)
        if first != other:
            raise ValueError(
                f"{self.name} is on {first}, {name} is on {other}; must be on one device; move {name} to {first}"
            )


def _axes(name: str, shape: tuple[int, ...], axis: Axes, *, several: bool) -> tuple[int, ...]:
    try:
        if several and axis is None:
            axes = tuple(range(len(shape)))
        elif several and isinstance(axis, tuple):
            axes = tuple(map(operator.index, axis))
        else:
            axes = (operator.index(axis),)  # type: ignore[arg-type]  # what is no index is refused below
    except TypeError:
        accepted = "an int, a tuple of ints or None" if several else "an int"
        raise TypeError(f"axis is {axis!r}, must be {accepted}") from None
    count = max(len(shape), 1)
    for one in axes:
        if not -count <= one < count:
            raise ValueError(
                f"axis is {one}, must lie in [{-count}, {count - 1}] for {name} of shape {shape_text(shape)}"
            )
    if not shape:
        return ()
    axes = tuple(one % count for one in axes)
    twice = next((one for one in axes if axes.count(one) > 1), None)
    if twice is not None:
        raise ValueError(f"axis names axis {twice} twice, must name each once")
    return axes


def _number(number: float) -> str:
    return "NaN" if math.isnan(number) else f"{number:g}"
