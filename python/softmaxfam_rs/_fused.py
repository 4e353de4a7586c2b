"""Losses of scores h W^T + b: by the core in blocks of queries, or by all scores at once in any library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _core
from ._results import IndexedRows, LinearGradients

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ._typing import Array

    Gradients = tuple[Any, Any, Any]  # of h, of W (an array, or (indices, values)), of the bias; None where not wanted


class Options(NamedTuple):
    """What a loss takes besides h, W, the target and the bias; arrays have one number a class."""

    kind: str
    parameter: float
    where: Any
    weight: Any
    ignore_index: int | None
    label_smoothing: float
    temperature: float


class Wanted(NamedTuple):
    """Which gradients are wanted; that of W maybe by rows."""

    h: bool = False
    weight: bool = False
    bias: bool = False
    by_rows: bool = False


def by_blocks(
    h: NDArray[np.float32],
    matrix: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    target: NDArray[np.int64],
    options: Options,
    wanted: Wanted,
    *,
    is_mean: bool,
    factor: NDArray[np.float64] | None = None,
) -> tuple[float, NDArray[np.float64], Gradients]:
    """Return the sum or the mean, the loss of each query, and gradients, of queries as rows: by the core."""
    of_h = np.zeros(h.shape, np.float32) if wanted.h else None
    of_weight = np.zeros(matrix.shape, np.float32) if wanted.weight and not wanted.by_rows else None
    of_bias = np.zeros((1, len(matrix)), np.float32) if wanted.bias else None
    into = (of_h, of_weight, of_bias, wanted.weight and wanted.by_rows)
    numbers = (
        options.kind,
        float(options.parameter),
        float(options.temperature),
        options.ignore_index,
        float(options.label_smoothing),
        is_mean,
    )
    value, losses, rows = _core.linear_loss(
        h, matrix, bias, target, options.where, options.weight, factor, numbers, into
    )
    found = of_weight if rows is None else rows
    return value, losses, (of_h, found, None if of_bias is None else of_bias[0])


def checked(
    shapes: dict[str, tuple[int, ...]],
    dtypes: dict[str, object],
) -> tuple[int, ...]:
    """Check the shapes of h, W and what else there is; return the shape of the queries."""
    h, matrix = shapes["h"], shapes["W"]
    if len(matrix) != 2:  # noqa: PLR2004  rows and columns
        raise ValueError(f"W has shape {matrix}, must have two axes: a row for each class")
    if not h or h[-1] != matrix[1]:
        raise ValueError(f"h has shape {h}, must have {matrix[1]} numbers along its last axis, as the rows of W")
    if not str(dtypes["target"]).rpartition(".")[2].startswith(("int", "uint")):
        raise TypeError(
            f"target has dtype {dtypes['target']}, must be class ids of integers; "
            "for distributions take the loss of the scores h @ W.T"
        )
    if shapes["target"] != h[:-1]:
        raise ValueError(f"target has shape {shapes['target']}, must have shape {h[:-1]}, a class id for each query")
    for name in ("bias", "where", "weight"):
        if name in shapes and shapes[name] != matrix[:1]:
            raise ValueError(f"{name} has shape {shapes[name]}, must have shape {matrix[:1]}: one for each class")
    return h[:-1]


def loss_of_numpy(
    kind: str,
    h: Array,
    matrix: Array,
    target: Array,
    parameter: float,
    *,
    bias: Array,
    where: Array,
    weight: Array,
    ignore_index: int | None,
    label_smoothing: float,
    reduction: str,
    temperature: float,
    gradient: str,
) -> Any:  # noqa: ANN401  an array, or a pair
    """Compute a loss of arrays of NumPy: float32 and smaller by blocks, float64 by all scores."""
    h, matrix, target = np.asarray(h), np.asarray(matrix), np.asarray(target)
    given: dict[str, NDArray[Any]] = {"h": h, "W": matrix, "target": target}
    given |= {
        name: np.asarray(array)
        for name, array in (("bias", bias), ("where", where), ("weight", weight))
        if array is not None
    }
    for name in {"h", "W", "bias"} & set(given):
        if given[name].dtype.kind not in "iufb" and given[name].dtype.name != "bfloat16":
            raise TypeError(f"{name} has dtype {given[name].dtype}, must be real; convert it to numpy.float32")
    batch = checked({name: array.shape for name, array in given.items()}, {"target": target.dtype})
    dtype = common_dtype(h.dtype, matrix.dtype)
    target = target.astype(np.int64, copy=False)
    if dtype == np.float64:
        from . import _numpy  # noqa: PLC0415  which takes this module

        scores = np.matmul(h, matrix.T, dtype=dtype) + (0 if bias is None else given["bias"])
        more: dict[str, Any] = {"where": where, "weight": weight, "ignore_index": ignore_index, "axis": -1}
        more |= {"label_smoothing": label_smoothing, "reduction": reduction, "temperature": temperature}
        parts = "none" if gradient == "none" else "dense"
        result = _numpy.loss(kind, scores, target, parameter, gradient=parts, **more)
        if gradient == "none":
            return result
        value, g = result
        found = of_all_scores(np, g, h, matrix, has_bias=bias is not None)
        if gradient == "dense":
            return value, found
        touched = np.flatnonzero(np.reshape(g, (-1, len(matrix))).any(axis=0))
        return value, found._replace(weight=IndexedRows(touched, found.weight[touched], matrix.shape))
    rows = np.ascontiguousarray(h, np.float32).reshape(-1, h.shape[-1])
    options = Options(
        kind,
        parameter,
        np.ascontiguousarray(given["where"], bool) if "where" in given else None,
        np.ascontiguousarray(weight, np.float64) if "weight" in given else None,
        ignore_index,
        label_smoothing,
        temperature,
    )
    wants = gradient != "none"
    wanted = Wanted(wants, wants, wants and bias is not None, gradient in {"sparse", "sparse_or_dense"})
    value, losses, (of_h, of_weight, of_bias) = by_blocks(
        rows,
        np.asarray(matrix, np.float32),
        np.ascontiguousarray(given["bias"], np.float32) if "bias" in given else None,
        np.ascontiguousarray(target).reshape(-1),
        options,
        wanted,
        is_mean=reduction == "mean",
    )
    result = losses.reshape(batch).astype(dtype) if reduction == "none" else dtype.type(value)
    if not wants:
        return result
    if isinstance(of_weight, tuple):
        of_weight = IndexedRows(of_weight[0], of_weight[1].astype(dtype, copy=False), matrix.shape)
    else:
        of_weight = of_weight.astype(dtype, copy=False)
    of_bias = None if of_bias is None else of_bias.astype(dtype, copy=False)
    return result, LinearGradients(of_h.reshape(h.shape).astype(dtype, copy=False), of_weight, of_bias)


def common_dtype(first: np.dtype[Any], second: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of results: integers and bool count as float64."""
    floats = [np.dtype(np.float64) if dtype.kind in "iub" else dtype for dtype in (first, second)]
    return floats[0] if floats[0] == floats[1] else np.result_type(*floats)


def loss_of_all_scores(
    xp: Any,  # noqa: ANN401  an array namespace
    loss: Callable[..., Any],
    kind: str,
    h: Array,
    matrix: Array,
    target: Array,
    parameter: float,
    *,
    bias: Array,
    gradient: str,
    library: str,
    **options: Any,  # noqa: ANN401  passed on
) -> Any:  # noqa: ANN401  an array, or a pair
    """Compute a loss by its function of scores, in the operations of a library."""
    if gradient == "sparse":
        raise TypeError(f"sparse_grad is True for arrays of {library}, must be False; NumPy and torch can")
    given = {"h": h, "W": matrix, "target": target, "bias": bias}
    given |= {name: options[name] for name in ("where", "weight") if hasattr(options[name], "shape")}
    shapes = {name: tuple(array.shape) for name, array in given.items() if array is not None}
    checked(shapes, {"target": target.dtype})
    dtype = h.dtype
    if str(dtype).rpartition(".")[2] in {"float16", "bfloat16"}:  # computed in float32, and rounded once
        h, matrix = h.astype(xp.float32), matrix.astype(xp.float32)
        bias = None if bias is None else bias.astype(xp.float32)
    scores = xp.matmul(h, matrix.T)
    scores = scores if bias is None else scores + bias
    more = {"axis": -1, "gradient": "none" if gradient == "none" else "dense"}
    result = loss(kind, scores, target, parameter, **more, **options)
    if gradient == "none":
        return result if h.dtype == dtype else result.astype(dtype)
    value, g = result
    found = of_all_scores(xp, g, h, matrix, has_bias=bias is not None)
    if h.dtype == dtype:
        return value, found
    parts: tuple[Any, ...] = tuple(found)
    rounded = (None if part is None else part.astype(dtype) for part in parts)
    return value.astype(dtype), LinearGradients(*rounded)


def of_all_scores(xp: Any, g: Array, h: Array, matrix: Array, *, has_bias: bool) -> LinearGradients[Any]:  # noqa: ANN401
    """Return the gradients from those of all scores."""
    rows, queries = xp.reshape(g, (-1, matrix.shape[0])), xp.reshape(h, (-1, matrix.shape[1]))
    of_bias = xp.sum(rows, axis=0) if has_bias else None
    return LinearGradients(xp.matmul(g, matrix), xp.matmul(rows.T, queries), of_bias)
