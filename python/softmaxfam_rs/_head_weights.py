"""Class matrices in the types that a head takes, from arrays of any library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from ._transfer import is_torch, to_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

KINDS = ("float32", "float16", "bfloat16", "int8")
ALIGNMENT = 64  # bytes of a cache line, and of the widest register
AT_A_TIME = 1 << 22  # numbers that are converted together


def matrix(name: str, array: Any) -> tuple[NDArray[Any], str]:  # noqa: ANN401  arrays of any library
    """Return a matrix over the same memory where that can be, and what its numbers are: one of `KINDS`.

    bfloat16 comes as uint16, for NumPy itself has no such type. Other real numbers are converted to float32.
    """
    if is_torch(array) and str(array.dtype) == "torch.bfloat16":
        host, kind = array.detach().cpu().view(_torch_uint16()).numpy(), "bfloat16"
    else:
        host = to_host(name, array)
        kind = host.dtype.name
        if kind == "bfloat16":
            host = host.view(np.uint16)
        elif kind in {"float32", "float16"}:
            host = _native(host)
        elif host.dtype.kind in "iufb" and host.dtype.itemsize <= np.dtype(np.float64).itemsize:
            host, kind = host.astype(np.float32), "float32"
        else:
            raise TypeError(f"{name} has dtype {host.dtype}, must be of real numbers; convert it to float32")
    if host.ndim != 2:  # noqa: PLR2004
        raise ValueError(f"{name} has shape {host.shape}, must have two axes: a row for each class; reshape it first")
    return host, kind


def _torch_uint16() -> Any:  # noqa: ANN401  torch is optional and untyped
    import torch  # noqa: PLC0415  optional; the caller has a tensor

    return torch.uint16


def _native(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array in native byte order, aligned, at whole strides: a copy only where it is not."""
    whole = all(stride % array.itemsize == 0 for stride in array.strides)
    if array.dtype.isnative and array.flags.aligned and whole:
        return array
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def pieces(rows: NDArray[Any]) -> Iterator[slice]:
    """Yield slices of rows that are converted together."""
    step = max(1, AT_A_TIME // max(1, rows.shape[1]))
    for start in range(0, rows.shape[0], step):
        yield slice(start, start + step)


def widened(rows: NDArray[Any], kind: str) -> NDArray[np.float32]:
    """Return float32 of numbers of a kind, exactly."""
    if kind == "bfloat16":
        return (rows.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return np.asarray(rows, dtype=np.float32)


def converted(rows: NDArray[Any], kind: str, wanted: str) -> NDArray[Any]:
    """Return rows of numbers of one kind in another, each number rounded to the nearest, ties to even."""
    if kind == wanted:
        return rows
    if wanted == "float32" and kind == "float16":
        return rows.astype(np.float32)
    out = np.empty(rows.shape, dtype=np.uint16 if wanted == "bfloat16" else wanted)
    for piece in pieces(rows):
        part = widened(rows[piece], kind)
        if wanted == "bfloat16":
            bits = np.ascontiguousarray(part).view(np.uint32)
            rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
            out[piece] = np.where(np.isnan(part), np.uint32(0x7FC0), rounded)
        else:
            with np.errstate(over="ignore"):  # beyond the largest float16 is infinite, as IEEE 754 has it
                out[piece] = part
    return out


def norms(exact: NDArray[np.float32], rows: NDArray[Any], kind: str) -> NDArray[np.float32]:
    """Return for each class the norms of exact minus rounded row, and of the rounded row, not rounded down."""
    found = np.empty((rows.shape[0], 2), dtype=np.float32)
    for piece in pieces(rows):
        rounded = widened(rows[piece], kind).astype(np.float64)
        for column, numbers in enumerate((exact[piece] - rounded, rounded)):
            norm = np.sqrt(np.einsum("ij,ij->i", numbers, numbers)) * (1 + 1e-12)
            found[piece, column] = np.nextafter(norm.astype(np.float32), np.float32(np.inf))
    return found


def quantized(rows: NDArray[Any], kind: str) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32]]:
    """Return codes, a scale for each class, and the norms of `norms`."""
    return _core.quantize(converted(rows, kind, "float32"))


def packed(rows: NDArray[Any]) -> NDArray[Any]:
    """Return a copy whose rows start at cache lines."""
    classes, width = rows.shape
    pitch = -(-max(width * rows.itemsize, 1) // ALIGNMENT) * ALIGNMENT
    memory = np.empty(classes * pitch + ALIGNMENT, dtype=np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    lines = memory[start : start + classes * pitch].reshape(classes, pitch)
    copy = lines.view(rows.dtype)[:, :width]
    copy[...] = rows
    return copy
