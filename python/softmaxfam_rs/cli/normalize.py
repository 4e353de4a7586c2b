"""`softmaxfam normalize`: rows of a .npy file, larger than memory if need be, to their most probable classes."""

from __future__ import annotations

import csv
import enum
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress

import softmaxfam_rs as sf

if TYPE_CHECKING:
    from collections.abc import Iterator

BYTES_AT_A_TIME = 64 << 20


class Map(enum.StrEnum):
    """What is made of scores."""

    softmax = enum.auto()
    sparsemax = enum.auto()
    entmax = enum.auto()


def normalize(
    scores: Annotated[Path, typer.Argument(help="A .npy file of scores; the last axis holds the classes.")],
    out: Annotated[Path, typer.Option(help="A .npz file (indices, probs, logsumexp or support_size) or a .csv file.")],
    map_: Annotated[Map, typer.Option("--map", help="What is made of the scores.")] = Map.softmax,
    alpha: Annotated[float, typer.Option(help="The order of entmax.")] = 1.5,
    temperature: Annotated[float, typer.Option(help="Scores are divided by it.")] = 1.0,
    top: Annotated[int, typer.Option(help="The number of classes to keep of each row.")] = 10,
) -> None:
    """Write the most probable classes of each row of SCORES, reading it in pieces that fit in memory."""
    if out.suffix not in {".npz", ".csv"}:
        raise typer.BadParameter(f"{out} ends in {out.suffix or 'nothing'}, must end in .npz or .csv")
    rows = opened(scores)
    if not 1 <= top <= rows.shape[1]:
        raise typer.BadParameter(f"--top is {top}, must lie in [1, {rows.shape[1]}], the number of classes")
    try:
        with Progress(transient=True) as progress:
            task = progress.add_task(f"{map_} of {len(rows)} x {rows.shape[1]}", total=len(rows))
            pieces = []
            for piece in blocks(rows):
                pieces.append(largest(piece, map_, alpha, temperature, top))
                progress.advance(task, len(piece))
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    columns = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    write(out, columns)
    Console().print(f"{out}: {top} classes of each of {len(rows)} rows")


def opened(path: Path) -> np.ndarray[Any, np.dtype[Any]]:
    """Map a file into memory as rows of classes."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{path} cannot be read as a .npy file: {error}") from error
    if not isinstance(array, np.ndarray) or array.ndim == 0 or array.size == 0:
        raise typer.BadParameter(f"{path} holds no rows of scores; save a non-empty array with numpy.save")
    return array.reshape(-1, array.shape[-1])


def blocks(rows: np.ndarray[Any, np.dtype[Any]]) -> Iterator[np.ndarray[Any, np.dtype[Any]]]:
    """Yield blocks of rows that fit in memory."""
    count = max(1, BYTES_AT_A_TIME // (rows.shape[1] * rows.itemsize))
    for start in range(0, len(rows), count):
        yield np.asarray(rows[start : start + count])


def largest(
    scores: np.ndarray[Any, np.dtype[Any]], map_: Map, alpha: float, temperature: float, top: int
) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """Return the `top` classes of each row with their probabilities, and the row's normaliser or support."""
    found = sf.top_log_probs(scores, top, temperature=temperature)
    if map_ is Map.softmax:
        return {"indices": found.indices, "probs": np.exp(found.log_probs), "logsumexp": found.logsumexp}
    # the order of classes is that of the scores for every map
    order = 2.0 if map_ is Map.sparsemax else alpha
    threshold = sf.entmax_threshold(scores, order, temperature=temperature)
    sparse = sf.entmax_sparse(scores, order, temperature=temperature)
    probs = np.zeros(found.indices.shape, dtype=sparse.values.dtype)
    for row in range(len(scores)):
        listed = slice(sparse.indptr[row], sparse.indptr[row + 1])
        at = np.searchsorted(sparse.indices[listed], found.indices[row])
        at = np.minimum(at, max(listed.stop - listed.start - 1, 0))
        if listed.stop > listed.start:
            hit = sparse.indices[listed][at] == found.indices[row]
            probs[row] = np.where(hit, sparse.values[listed][at], 0)
    return {"indices": found.indices, "probs": probs, "support_size": threshold.support_size}


def write(out: Path, columns: dict[str, np.ndarray[Any, np.dtype[Any]]]) -> None:
    """Write to a temporary name beside `out`, then rename: `out` is never half-written."""
    handle, name = tempfile.mkstemp(dir=out.parent, suffix=out.suffix)
    os.close(handle)
    part = Path(name)
    try:
        if out.suffix == ".npz":
            np.savez(part, **columns)  # type: ignore[arg-type]
        else:
            with part.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["row", "rank", "class", "prob"])
                for row, (indices, probs) in enumerate(zip(columns["indices"], columns["probs"], strict=True)):
                    writer.writerows(
                        (row, rank, int(i), float(p)) for rank, (i, p) in enumerate(zip(indices, probs, strict=True))
                    )
        part.replace(out)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
