"""The .npy format, mapped into memory: what `numpy.load` does, with one clear error for a file that is damaged."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np

from ._mapped_files import file_size, mapped, short

if TYPE_CHECKING:
    from numpy.typing import NDArray

    AnyPath = str | os.PathLike[str]
    Header = tuple[tuple[int, ...], Literal["C", "F"], np.dtype[Any]]

LONGEST_NUMBER = 8  # bytes, of float64


def open_npy(path: AnyPath) -> NDArray[Any]:
    """Map an array of real floats.

    Raises
    ------
    OSError
        Where the file cannot be opened.
    ValueError
        Where it is damaged, or holds something else.
    """
    with Path(path).open("rb") as file:
        size = file_size(path, file)
        shape, order, dtype = _header(path, file)
        if dtype.kind != "f" or dtype.itemsize > LONGEST_NUMBER:
            raise ValueError(
                f"{os.fspath(path)} has dtype {dtype}, must be float16, float32 or float64; "
                f"bfloat16, whose name NumPy does not save, goes into .safetensors"
            )
        start, needed = file.tell(), math.prod(shape) * dtype.itemsize
        if needed > size - start:
            raise ValueError(
                f"{os.fspath(path)} is damaged or truncated: shape {short(shape)} of {dtype} has {short(needed)} "
                f"bytes, must be at most {size - start}, what follows its header; copy it again, or write it anew"
            )
        return mapped(path, file, dtype, start, shape, order)


def _header(path: AnyPath, file: IO[bytes]) -> Header:
    """Read the header of an open file: shape, order, dtype."""
    try:
        version = np.lib.format.read_magic(file)
        if version not in {(1, 0), (2, 0)}:
            raise ValueError(f"its version is {version}, must be 1.0 or 2.0, of arrays without fields")  # noqa: TRY301
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if any(axis < 0 for axis in shape):
            raise ValueError("its shape has a negative size")  # noqa: TRY301
    except Exception as error:
        # NumPy parses the header as Python: what it raises for one that is damaged has no end
        raise ValueError(
            f"{os.fspath(path)} is damaged, truncated or no .npy file: {str(error)[:200]}; save it with numpy.save"
        ) from error
    return shape, "F" if fortran else "C", dtype
