"""Arrays where they lie in a file, mapped into memory, and how to show what a file held."""

from __future__ import annotations

import os
import stat
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    AnyPath = str | os.PathLike[str]

LONGEST_SHOWN = 80  # characters, of what a file held


def file_size(path: AnyPath, file: IO[bytes]) -> int:
    """Return the size of an open file in bytes; devices and pipes are refused."""
    state = os.fstat(file.fileno())
    if not stat.S_ISREG(state.st_mode):
        raise ValueError(f"{os.fspath(path)} is no regular file, must be one to be mapped into memory; copy it to one")
    return state.st_size


def mapped(
    path: AnyPath,
    file: IO[bytes],
    dtype: np.dtype[Any],
    start: int,
    shape: tuple[int, ...],
    order: Literal["C", "F"] = "C",
) -> NDArray[Any]:
    """Map an array that starts at a byte of an open file, and is known to end in it; a copy where it is not aligned."""
    try:
        if 0 in shape:
            return np.empty(shape, dtype)  # no memory can be mapped for nothing
        return np.require(np.memmap(file, dtype, "r", start, shape, order), requirements="A")
    except (OSError, OverflowError, TypeError, ValueError) as error:  # it shrank since, or the system maps no more
        raise ValueError(f"{os.fspath(path)} cannot be mapped into memory: {error}") from error


def short(value: object) -> str:
    """Show what a file held, which may be of any length.

    Examples
    --------
    >>> short([1, "a"])
    "[1, 'a']"
    >>> short("a" * 1000)[-21:]
    '... (1002 characters)'
    """
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested without end, or an int of too many digits to show
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 20]}... ({len(text)} characters)"
