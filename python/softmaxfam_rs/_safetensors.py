"""The safetensors format: tensors by name in one file, mapped into memory, never executed.

A file is 8 bytes with the length of the header (little-endian), the header, and the data. The header is a JSON object
from names to ``{"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}``, offsets in bytes from the start of the
data; ``__metadata__`` maps strings to strings. Source: https://github.com/huggingface/safetensors, "Format".

What a file claims is checked against its size before anything is mapped. Not checked is what cannot hurt: gaps and
overlaps between tensors, and the sizes of tensors with a dtype that is not known here, as long as they lie in the file.
"""

from __future__ import annotations

import json
import math
import os
import sys
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeGuard

import numpy as np

from ._mapped_files import file_size, mapped, short
from ._whole_files import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    Path = str | os.PathLike[str]

LENGTH_BYTES = 8
LONGEST_HEADER = 100_000_000  # bytes, by the format
MOST_AXES = 64  # NumPy's own limit
LINE = 64  # bytes: data that we write start at a cache line
ROWS_AT_A_TIME = 16 << 20  # bytes, of rows that do not lie in line and are written
METADATA = "__metadata__"

# bytes a number, of the dtypes whose sizes are checked
SIZES = (
    dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1)
    | dict.fromkeys(("U16", "I16", "F16", "BF16"), 2)
    | dict.fromkeys(("U32", "I32", "F32"), 4)
    | dict.fromkeys(("U64", "I64", "F64", "C64"), 8)
)
# what a mapped tensor is in NumPy; bfloat16, which it lacks, is its bits
NUMPY = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8", "I8": "i1", "I32": "<i4"}


class Tensor(NamedTuple):
    """Where a tensor lies in its file: bytes ``start`` to ``stop``."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class Contents(NamedTuple):
    """The header of a file, checked."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def refuse_other_byte_orders() -> None:
    """Raise where numbers of the format would have to be turned around, which mapped memory cannot be."""
    if sys.byteorder != "little":
        raise ValueError(
            f"this machine is {sys.byteorder}-endian, must be little-endian to map .safetensors files; use .npy there"
        )


def damaged(path: Path, found: str) -> ValueError:
    """Return the error for a file that is not what it says."""
    return ValueError(
        f"{os.fspath(path)} is damaged, truncated or no .safetensors file: {found}; copy it again, or write it anew"
    )


def read_contents(path: Path, file: IO[bytes]) -> Contents:
    """Read and check the header of an open file."""
    refuse_other_byte_orders()
    size = file_size(path, file)
    if size < LENGTH_BYTES:
        raise damaged(path, f"it has {size} bytes, must have {LENGTH_BYTES} for the length of its header")
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    most = min(size - LENGTH_BYTES, LONGEST_HEADER)
    if length > most:
        raise damaged(path, f"its header claims {length} bytes, must have at most {most} in a file of {size}")
    header = _parsed(path, file.read(length))
    data = LENGTH_BYTES + length
    metadata = _metadata(path, header.pop(METADATA, {}))
    return Contents({name: _tensor(path, name, entry, data, size) for name, entry in header.items()}, metadata)


def map_tensor(path: Path, file: IO[bytes], tensor: Tensor) -> NDArray[Any]:
    """Map a tensor of a dtype in `NUMPY`; one that is not aligned to its numbers is copied."""
    return mapped(path, file, np.dtype(NUMPY[tensor.dtype]), tensor.start, tensor.shape)


def read_model(
    path: Path, kind: str, needed: Mapping[str, str], optional: Mapping[str, str], owner: str
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read all tensors, by names and dtypes, and the metadata of a file that a `save` of this package wrote.

    Raises
    ------
    ValueError
        Where it is of another kind.
    """
    with open(path, "rb") as file:  # noqa: PTH123  the type of paths has the name here
        tensors, metadata = read_contents(path, file)
        kinds = {name: tensor.dtype for name, tensor in tensors.items()}
        wanted = {**needed, **{name: dtype for name, dtype in optional.items() if name in kinds}}
        if metadata.get("format") != kind or kinds != wanted:
            raise ValueError(f"{os.fspath(path)} holds something else, must be a file of {owner}.save")
        parts = {
            name: np.array(map_tensor(path, file, tensor))
            if math.prod(tensor.shape)
            else np.zeros(tensor.shape, NUMPY[tensor.dtype])
            for name, tensor in tensors.items()
        }
    return parts, metadata


def write(path: Path, tensors: Mapping[str, tuple[str, NDArray[Any]]], metadata: Mapping[str, str]) -> None:
    """Write tensors, given with the names of their dtypes, longer numbers first so that all are aligned."""
    refuse_other_byte_orders()
    order = sorted(tensors.items(), key=lambda item: -SIZES[item[1][0]])
    header: dict[str, object] = {METADATA: dict(metadata)}
    stop = 0
    for name, (dtype, array) in order:
        start, stop = stop, stop + SIZES[dtype] * array.size
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [start, stop]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(LENGTH_BYTES + len(text)) % LINE)
    with whole_file(path) as file:
        file.write(len(text).to_bytes(LENGTH_BYTES, "little"))
        file.write(text)
        for _, (_, array) in order:
            for rows in _pieces(array):
                file.write(rows.data)


def _pieces(array: NDArray[Any]) -> Iterator[NDArray[np.uint8]]:
    """Yield the bytes of an array in C order and little-endian, a piece at a time."""
    step = max(1, ROWS_AT_A_TIME // max(1, array.itemsize * math.prod(array.shape[1:])))
    for start in range(0, len(array), step):
        rows = array[start : start + step]
        if rows.dtype.byteorder == ">":
            rows = rows.astype(rows.dtype.newbyteorder("<"))
        yield np.ascontiguousarray(rows).reshape(-1).view(np.uint8)


def _parsed(path: Path, text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text.decode(), object_pairs_hook=_without_twins)
    except RecursionError:
        raise damaged(path, "its header is nested without end, must be an object of objects") from None
    except ValueError as error:  # of JSON, of UTF-8, or a name that comes twice
        raise damaged(path, f"its header is no JSON object ({error})") from None
    if not isinstance(header, dict):
        raise damaged(path, f"its header is a JSON {type(header).__name__}, must be an object")
    return header


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for name, value in pairs:
        if name in entries:
            raise ValueError(f"{short(name)} stands in it twice")
        entries[name] = value
    return entries


def _metadata(path: Path, metadata: Any) -> dict[str, str]:  # noqa: ANN401  whatever JSON held
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise damaged(path, f"{METADATA} is {short(metadata)}, must be an object of strings")
    return metadata


def _tensor(path: Path, name: str, entry: Any, data: int, size: int) -> Tensor:  # noqa: ANN401
    what = f"tensor {short(name)}"
    if not isinstance(entry, dict):
        raise damaged(path, f"{what} is {short(entry)}, must be an object with dtype, shape and data_offsets")
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str):
        raise damaged(path, f"{what} has dtype {short(dtype)}, must be a name such as 'F32'")
    if not _are_sizes(shape):
        raise damaged(
            path, f"{what} has shape {short(shape)}, must be a list of at most {MOST_AXES} whole numbers >= 0"
        )
    if not _are_sizes(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= size - data:  # noqa: PLR2004
        raise damaged(
            path, f"{what} has data_offsets {short(offsets)}, must be [start, stop] in the {size - data} bytes of data"
        )
    # numbers of Python do not overflow; those of memory do, for an array without elements too
    extent = math.prod(max(1, axis) for axis in shape) * SIZES.get(dtype, 0)
    needed = extent if 0 not in shape else 0
    if dtype in SIZES and (needed != offsets[1] - offsets[0] or extent > sys.maxsize):
        raise damaged(
            path,
            f"{what} has dtype {dtype} and shape {short(shape)} in {offsets[1] - offsets[0]} bytes, "
            f"must have {short(needed)}",
        )
    return Tensor(dtype, tuple(shape), data + offsets[0], data + offsets[1])


def _are_sizes(numbers: Any) -> TypeGuard[list[int]]:  # noqa: ANN401
    if not isinstance(numbers, list) or len(numbers) > MOST_AXES:
        return False
    return all(type(number) is int and 0 <= number <= sys.maxsize for number in numbers)
