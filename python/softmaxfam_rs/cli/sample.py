"""`softmaxfam sample`: negatives for a file of weights, larger than memory if need be."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress

import softmaxfam_rs as sf

DRAWS_AT_A_TIME = 1 << 22


def sample(
    weights: Annotated[Path, typer.Option(help="A .npy file with a weight (or count) for each class.")],
    out: Annotated[Path, typer.Option(help="A .npy file for the ids.")],
    number: Annotated[str, typer.Option("--number", "-n", help="How many draws, such as 1000000 or 1e6.")] = "1e6",
    power: Annotated[float, typer.Option(help="The law is proportional to weights^power; 0.75 is word2vec's.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The seed of the stream: the same one gives the same draws anywhere.")] = 0,
    key: Annotated[int, typer.Option(help="The key of the stream.")] = 0,
    logq: Annotated[Path | None, typer.Option(help="A .npy file for log q of each draw.")] = None,
    dtype: Annotated[str, typer.Option(help="int64 or int32, of the ids.")] = "int64",
) -> None:
    """Draw classes in proportion to weights and write their ids, piece by piece."""
    for path in (out, logq):
        if path is not None and path.suffix != ".npy":
            raise typer.BadParameter(f"{path} ends in {path.suffix or 'nothing'}, must end in .npy")
    if dtype not in {"int64", "int32"}:
        raise typer.BadParameter(f"--dtype is {dtype}, must be int64 or int32")
    count = counted(number)
    try:
        table = sf.AliasTable(opened(weights), power=power)
        stream = sf.Stream(seed, key=key)
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    started = time.perf_counter()
    write(table, stream, count, {out: dtype} | ({} if logq is None else {logq: "float32"}))
    seconds = time.perf_counter() - started
    Console().print(
        f"{out}: {count} draws of {len(table)} classes, {1e9 * seconds / max(count, 1):.1f} ns each with the writing"
    )


def counted(text: str) -> int:
    """Return a number of draws, given as 1000 or as 1e3."""
    try:
        count = float(text)
    except ValueError:
        count = -1.0
    if not 1 <= count <= 2**53 or count != int(count):
        raise typer.BadParameter(f"-n is {text}, must be a whole number from 1 to 2^53")
    return int(count)


def opened(path: Path) -> np.ndarray:
    """Map a file of weights into memory."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{path} cannot be read as a .npy file: {error}") from error
    if not isinstance(array, np.ndarray):
        raise typer.BadParameter(f"{path} is no .npy file; save one array with numpy.save")
    return array


def write(table: sf.AliasTable, stream: sf.Stream, count: int, targets: dict[Path, str]) -> None:
    """Write ids, and log q where it is wanted, to maps of files that take their names when they are whole."""
    parts: dict[Path, Path] = {}
    try:
        for path in targets:
            handle, name = tempfile.mkstemp(dir=path.parent, suffix=".npy")
            os.close(handle)
            parts[path] = Path(name)
        maps = [
            np.lib.format.open_memmap(parts[path], mode="w+", dtype=dtype, shape=(count,))
            for path, dtype in targets.items()
        ]
        with Progress(transient=True) as progress:
            for start in progress.track(range(0, count, DRAWS_AT_A_TIME), description=f"drawing {count}"):
                piece = [array[start : start + DRAWS_AT_A_TIME] for array in maps]
                buffers = (piece[0], piece[1] if len(piece) > 1 else None)
                table.sample(len(piece[0]), rng=stream, logq=len(piece) > 1, out=buffers)
        for array in maps:
            array.flush()
        for path, part in parts.items():
            part.replace(path)
    except BaseException:
        for part in parts.values():
            part.unlink(missing_ok=True)
        raise
