"""Results of many queries as one file, written a batch at a time: .npz, .csv or .parquet."""

from __future__ import annotations

import csv
import importlib.util
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Batch = dict[
        str, NDArray[Any]
    ]  # of softmax: log_probs, indices, logsumexp; of sparse rows: counts, indices, values

SUFFIXES = (".npz", ".csv", ".parquet")


def refusal(path: Path) -> str | None:
    """Say why a table cannot be written there, if so."""
    if path.suffix not in SUFFIXES:
        return f"{path} ends in {path.suffix or 'nothing'}, must end in {', '.join(SUFFIXES)}"
    if not path.parent.is_dir():
        return f"{path.parent} is no folder, must be one; make it first"
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        return "a .parquet file needs pyarrow; install it with: pip install 'softmaxfam-rs[parquet]'"
    return None


def write(path: Path, numbers: Sequence[int], load: Callable[[int], Batch], classes: int) -> None:
    """Write the batches `numbers`, one in memory at a time."""
    if path.suffix == ".npz":
        _npz(path, numbers, load, classes)
    elif path.suffix == ".csv":
        _csv(path, _long(map(load, numbers)))
    else:
        _parquet(path, _long(map(load, numbers)))


def _npz(path: Path, numbers: Sequence[int], load: Callable[[int], Batch], classes: int) -> None:
    """Write arrays whose rows are those of all batches; the file's bytes depend on nothing else."""
    first = load(numbers[0])
    lengths = dict.fromkeys(first, 0)
    counts = []
    for number in numbers:
        batch = load(number)
        for name, array in batch.items():
            lengths[name] += len(array)
        if "counts" in batch:
            counts.append(batch["counts"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in first.items():
            if name != "counts":
                shape = (lengths[name], *array.shape[1:])
                _member(archive, name, array.dtype, shape, (load(number)[name] for number in numbers))
        if counts:
            indptr = np.concatenate([[0], *counts]).astype(np.int64).cumsum()
            _member(archive, "indptr", indptr.dtype, indptr.shape, [indptr])
            _member(archive, "shape", indptr.dtype, (2,), [np.array([lengths["counts"], classes])])


def _member(
    archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], pieces: Iterable[NDArray[Any]]
) -> None:
    """Write one array of a .npz file in pieces."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:  # of a fixed date
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(np.ascontiguousarray(piece).tobytes())


def _long(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield columns with a row for each query and class."""
    start = 0
    for batch in batches:
        count = len(batch["counts"] if "counts" in batch else batch["logsumexp"])
        queries = np.arange(start, start + count)
        start += count
        yield _sparse_rows(queries, batch) if "counts" in batch else _ranked_rows(queries, batch)


def _sparse_rows(queries: NDArray[np.int64], batch: Batch) -> Batch:
    return {"query": np.repeat(queries, batch["counts"]), "class": batch["indices"], "prob": batch["values"]}


def _ranked_rows(queries: NDArray[np.int64], batch: Batch) -> Batch:
    k = batch["indices"].shape[1]
    columns = {
        "query": np.repeat(queries, k),
        "rank": np.tile(np.arange(k), len(queries)),
        "class": batch["indices"].reshape(-1),
        "log_prob": batch["log_probs"].reshape(-1),
    }
    return columns | {name: np.repeat(array, k) for name, array in batch.items() if array.ndim == 1}


def _csv(path: Path, tables: Iterable[Batch]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for number, columns in enumerate(tables):
            if number == 0:
                writer.writerow(columns)
            # the shortest digits that give the float32 back
            writer.writerows(zip(*(column.astype(str) for column in columns.values()), strict=True))


def _parquet(path: Path, tables: Iterable[Batch]) -> None:
    import pyarrow as pa  # noqa: PLC0415  optional, and slow to import
    from pyarrow import parquet  # noqa: PLC0415

    writer = None
    try:
        for columns in tables:
            table = pa.table(columns)
            writer = writer or parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
