"""`softmaxfam score`: the most probable classes of queries, by a class matrix larger than memory if need be."""

from __future__ import annotations

import enum
import math
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

import softmaxfam_rs as sf
from softmaxfam_rs._head_files import open_matrix, split_name
from softmaxfam_rs._head_weights import widened

from . import tables
from .batches import Batches, fingerprint

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.progress import Task

PRODUCTS_AT_A_TIME = 1 << 35  # of a batch: about a second of two cores, so that little is lost when it stops
SMALLEST_BATCH, LARGEST_BATCH = 32, 8192
LONGEST_SUPPORTS = 1 << 25  # classes listed in a batch by entmax, if it leaves all: 12 bytes each
INTERRUPTED = 130  # the exit status after Ctrl-C, as shells have it


class Map(enum.StrEnum):
    """What is made of scores."""

    softmax = enum.auto()
    entmax = enum.auto()


class Work(NamedTuple):
    """What is scored, and how."""

    head: sf.LinearHead
    queries: NDArray[Any]
    kind: str  # of the numbers of `queries`
    targets: NDArray[np.int64] | None
    map_: Map
    k: int
    alpha: float
    batch: int

    @property
    def batches(self) -> range:
        """The numbers of the batches; one of no queries where there are none."""
        return range(max(1, math.ceil(len(self.queries) / self.batch)))

    def rows(self, number: int) -> slice:
        """Return the queries of a batch."""
        return slice(number * self.batch, min((number + 1) * self.batch, len(self.queries)))

    def scored(self, rows: slice) -> dict[str, NDArray[Any]]:
        """Return the results of some queries."""
        queries = widened(self.queries[rows], self.kind)
        if self.map_ is Map.entmax:
            sparse = self.head.entmax(queries, self.alpha)
            return {"counts": np.diff(sparse.indptr), "indices": sparse.indices, "values": sparse.values}
        scores = self.head.score(queries, self.k, target=None if self.targets is None else self.targets[rows])
        found = {"log_probs": scores.log_probs, "indices": scores.indices, "logsumexp": scores.logsumexp}
        return found if self.targets is None else found | {"target_log_prob": scores.target_log_prob}


def score(
    weight: Annotated[str, typer.Option(help="W.npy, or model.safetensors[:tensor]: a row for each class.")],
    query: Annotated[str, typer.Option(help="H.npy, or a .safetensors file[:tensor]: a row for each query.")],
    out: Annotated[Path, typer.Option(help="A .npz, .csv or .parquet file.")],
    k: Annotated[int, typer.Option("-k", min=1, help="Classes to keep of each query; entmax has its support.")] = 10,
    bias: Annotated[str | None, typer.Option(help="A .npy file, or a tensor of the file of --weight.")] = None,
    map_: Annotated[Map, typer.Option("--map", help="What is made of the scores.")] = Map.softmax,
    alpha: Annotated[float, typer.Option(help="The order of entmax.")] = 1.5,
    temperature: Annotated[float | None, typer.Option(help="Scores are divided by it; 1 where none is saved.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Round W to float32, bfloat16, float16 or int8 first.")] = None,
    target: Annotated[str | None, typer.Option(help="A .npy file with a class for each query.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Queries at a time; without it, about a second.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="How many; the results do not depend on it.")] = None,
) -> None:
    """Write the most probable classes of each query with their log-probabilities, or all that entmax leaves."""
    if refused := tables.refusal(out):
        raise typer.BadParameter(refused)
    if target is not None and map_ is Map.entmax:
        raise typer.BadParameter("--target is given with --map entmax, must go with softmax; look for it in the rows")
    if threads is not None:
        sf.set_num_threads(threads)
    try:
        work = prepared(weight, query, bias, dtype, temperature, target, map_, k, alpha, batch)
        work.scored(slice(0, 0))  # refuses what does not fit before anything is written
        manifest: dict[str, str | float | None] = {"softmaxfam_rs": sf.__version__, "batch": work.batch}
        manifest |= {"map": map_, "k": k, "alpha": alpha, "temperature": temperature, "dtype": dtype}
        manifest |= inputs({"weight": weight, "query": query, "bias": bias, "target": target})
        kept = Batches(out.with_name(f"{out.name}.partial"), manifest)
        finished = kept.start(resume=resume)
    except (OSError, TypeError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    try:
        speed = run(work, kept, finished)
        whole = kept.folder / f"whole{out.suffix}"
        tables.write(whole, work.batches, kept.load, work.head.first_class + work.head.n_classes)
        whole.replace(out)
        kept.remove()
    except KeyboardInterrupt:
        explain(kept, work)
        raise typer.Exit(INTERRUPTED) from None
    except (OSError, TypeError, ValueError) as error:
        raise typer.BadParameter(f"{error}; what was finished is in {kept.folder}, --resume goes on with it") from error
    Console().print(f"{out}: {len(work.queries)} queries among {work.head.n_classes} classes{speed}", soft_wrap=True)


def prepared(
    weight: str,
    query: str,
    bias: str | None,
    dtype: str | None,
    temperature: float | None,
    target: str | None,
    map_: Map,
    k: int,
    alpha: float,
    batch: int | None,
) -> Work:
    """Open what is scored."""
    path, name = split_name(weight)
    head = sf.LinearHead.open(path, weight=name, bias=bias, dtype=dtype, temperature=temperature)
    queries, kind = open_matrix(*split_name(query))
    if queries.shape[1] != head.width:
        raise ValueError(f"{query} has shape {queries.shape}, must have {head.width} columns, as {weight}")
    targets = None if target is None else opened_targets(Path(target), len(queries), head)
    return Work(head, queries, kind, targets, map_, k, alpha, batch or fitting_batch(head, map_))


def fitting_batch(head: sf.LinearHead, map_: Map) -> int:
    """Return how many queries take about a second, and how many rows of entmax fit in memory at their longest."""
    by_time = PRODUCTS_AT_A_TIME // max(1, head.n_classes * head.width)
    by_memory = LONGEST_SUPPORTS // head.n_classes if map_ is Map.entmax else LARGEST_BATCH
    return max(1, min(max(by_time, SMALLEST_BATCH), LARGEST_BATCH, by_memory))


def opened_targets(path: Path, queries: int, head: sf.LinearHead) -> NDArray[np.int64]:
    """Read a class for each query."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (EOFError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a .npy file: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu" or array.shape != (queries,):
        what = f"dtype {array.dtype} and shape {array.shape}" if isinstance(array, np.ndarray) else "several arrays"
        raise ValueError(f"{path} has {what}, must have integers of shape ({queries},), a class for each query")
    first, last = head.first_class, head.first_class + head.n_classes - 1
    wrong = np.flatnonzero((array < first) | (array > last))
    if wrong.size:
        raise ValueError(f"{path} holds {array[wrong[0]]} for query {wrong[0]}, must lie in [{first}, {last}]")
    return array.astype(np.int64)


def inputs(named: dict[str, str | None]) -> dict[str, str | None]:
    """Return what tells whether options name the same files as before, and these are still the same."""
    paths = {option: Path(split_name(text)[0]) for option, text in named.items() if text is not None}
    return named | {f"file of {option}": fingerprint(path) for option, path in paths.items() if path.is_file()}


def run(work: Work, kept: Batches, finished: set[int]) -> str:
    """Score the batches that are not finished, with a progress bar; return how fast."""
    done = sum(len(work.queries[work.rows(number)]) for number in finished)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Speed(), TimeRemainingColumn())
    started = time.perf_counter()
    with Progress(*columns, transient=True, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"{work.map_} over {work.head.n_classes}", total=len(work.queries), completed=done)
        for number in work.batches:
            if number not in finished:
                rows = work.rows(number)
                kept.save(number, work.scored(rows))
                progress.advance(task, rows.stop - rows.start)
    seconds = time.perf_counter() - started
    return f", {(len(work.queries) - done) / seconds:.0f} queries/s" if done < len(work.queries) else ""


def explain(kept: Batches, work: Work) -> None:
    """Say after Ctrl-C how to go on."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--resume"]
    Console(stderr=True).print(
        f"stopped with {len(kept.paths())} of {len(work.batches)} batches done, kept in {kept.folder}; go on with:\n"
        f"softmaxfam {shlex.join([*arguments, '--resume'])}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


class Speed(ProgressColumn):
    """Queries a second."""

    def render(self, task: Task) -> Text:
        """Show the speed of late."""
        return Text("" if task.speed is None else f"{task.speed:.0f} queries/s", style="progress.data.speed")
