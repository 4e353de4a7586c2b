"""`softmaxfam compare-losses`: one model trained by each loss for the same time, and what becomes of it."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from . import demo, ratings
from .embeddings import LOSSES, Model, Settings
from .measure import peak
from .recommend import Batch, Negatives, Rank, Rate, Regularization, Seed, Weight, dataset, made, quality

if TYPE_CHECKING:
    from .ratings import Dataset, Quality

console = Console(width=max(100, Console().width))
LOOKS = 12  # at what is held out, while training


class Point(NamedTuple):
    """How good a model is after some seconds of training."""

    seconds: float
    cross_entropy: float
    quality: Quality


class Run(NamedTuple):
    """A loss, and what became of it."""

    loss: str
    epochs: float
    seconds: float
    megabytes: float
    points: list[Point]


def compare_losses(
    text: Annotated[Path | None, typer.Option(help="A text file; without it, Python's own language reference.")] = None,
    ratings_file: Annotated[Path | None, typer.Option("--ratings", help="A file of ratings instead of a text.")] = None,
    losses: Annotated[str, typer.Option(help="Which, separated by commas.")] = ",".join(LOSSES),
    seconds: Annotated[float, typer.Option(min=0.01, help="Training time of each loss.")] = 10.0,
    words: Annotated[int, typer.Option(min=20, help="The most frequent words of a text.")] = 5000,
    rank: Rank = 64,
    rate: Rate = 0.1,
    batch: Batch = 512,
    negatives: Negatives = 512,
    weight: Weight = 0.1,
    regularization: Regularization = 1.0,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="A .png file for loss against time.")] = Path("losses.png"),
    table: Annotated[Path | None, typer.Option(help="A .json file for all figures.")] = None,
) -> None:
    """Train the same model by each loss for the same time, and judge it on what was held out.

    Of a text each word is a query and the word that follows its class; of ratings users are queries and items classes.
    Cross-entropy is that of all classes, of losses whose scores are log-probabilities.
    """
    if out.suffix != ".png":
        raise typer.BadParameter(f"{out} ends in {out.suffix or 'nothing'}, must end in .png")
    chosen = [loss.strip() for loss in losses.split(",") if loss.strip()]
    for loss in chosen:
        if loss not in LOSSES:
            raise typer.BadParameter(f"--losses has {loss}, must have some of {', '.join(LOSSES)}")
    data = dataset(ratings_file, 0.0, seed) if ratings_file is not None else of_text(text, words, seed)
    console.print(
        f"{data.shape[0]} queries x {data.shape[1]} classes, {len(data.train.queries)} pairs to learn from, "
        f"{len(data.test.queries)} to judge by; {seconds:g} s each"
    )
    runs = []
    with Progress(console=console, transient=True) as progress:
        for loss in progress.track(chosen, description="training"):
            settings = Settings(loss, rank, rate, batch, negatives, seed, weight, regularization)
            runs.append(measured(settings, data, seconds))
    console.print(tabulated(runs))
    console.print(f"loss against time: {plotted(runs, out)}")
    if table is not None:
        table.write_text(json.dumps([_plain(run) for run in runs], indent=1), encoding="utf-8")


def of_text(path: Path | None, words: int, seed: int) -> Dataset:
    """Return the words of a text and those that follow: a tenth of the pairs each to watch and to judge by."""
    tokens = demo.tokens_of(demo.read(path))
    vocabulary = [word for word, _ in Counter(tokens).most_common(words)]
    if len(vocabulary) <= ratings.K:
        raise typer.BadParameter(f"the text has {len(vocabulary)} distinct words, must have more than {ratings.K}")
    ids = demo.numbered(tokens, vocabulary)
    both = (ids[:-1] >= 0) & (ids[1:] >= 0)
    pairs = ratings.Pairs(ids[:-1][both], ids[1:][both])
    dealt = np.random.default_rng(seed).integers(10, size=len(pairs.queries))
    train, valid, test = (pairs.part(chosen) for chosen in (dealt > 1, dealt == 1, dealt == 0))
    shape = (len(vocabulary), len(vocabulary))
    return ratings.Dataset(train, valid, test, shape, excludes=False, names={"words": np.array(vocabulary)})


def measured(settings: Settings, data: Dataset, seconds: float) -> Run:
    """Train for so long, with looks at what is held out that do not count."""
    points: list[Point] = []
    found: dict[str, float] = {}

    def work() -> None:
        model = made(settings, data)
        spent, pairs = 0.0, 0
        looks = iter([*(seconds * 2 ** (number - LOOKS + 1) for number in range(LOOKS)), math.inf])
        next_look = next(looks)
        while spent < seconds:
            steps = model.epoch(*data.train)
            while spent < seconds:
                begun = time.perf_counter()
                step = next(steps, None)
                spent += time.perf_counter() - begun
                if step is None:
                    break
                pairs += step[0]
                if spent >= next_look:
                    points.append(looked(model, data, spent))
                    while spent >= next_look:
                        next_look = next(looks)
        points.append(looked(model, data, spent, last=True))
        found.update(epochs=pairs / len(data.train.queries), seconds=spent)

    megabytes = peak(work)
    return Run(settings.loss, found["epochs"], found["seconds"], megabytes, points)


def looked(model: Model, data: Dataset, spent: float, *, last: bool = False) -> Point:
    """Judge a model by what is held out to watch, at the end by what is held out to judge."""
    held = data.test if last else data.valid
    some = held if last else held.part(np.arange(len(held.queries)) < 4000)  # noqa: PLR2004  enough to watch
    return Point(spent, model.cross_entropy(*some), quality(model, data, some))


def tabulated(runs: list[Run]) -> Table:
    """Return the figures, the best ranking first."""
    table = Table(title="on what was held out")
    for column in ("loss", "NDCG@10", "MRR@10", "Recall@10", "cross-entropy", "epochs", "s an epoch", "peak MB"):
        table.add_column(column, justify="left" if column == "loss" else "right")
    for run in sorted(runs, key=lambda run: -run.points[-1].quality.ndcg):
        last = run.points[-1]
        entropy = "-" if math.isnan(last.cross_entropy) else f"{last.cross_entropy:.3f}"
        numbers = (f"{number:.4f}" for number in last.quality)
        pace = run.seconds / run.epochs if run.epochs else math.nan
        table.add_row(run.loss, *numbers, entropy, f"{run.epochs:.1f}", f"{pace:.2f}", f"{run.megabytes:.0f}")
    return table


def plotted(runs: list[Run], path: Path) -> Path | str:
    """Draw quality and cross-entropy against the seconds of training."""
    try:
        import matplotlib as mpl  # noqa: PLC0415  optional

        mpl.use("Agg")
        from matplotlib import pyplot as plt  # noqa: PLC0415
    except ModuleNotFoundError:
        return demo.NOT_DRAWN
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    for number, run in enumerate(runs):
        points = run.points[:-1] or run.points
        times = [point.seconds for point in points]
        style: dict[str, Any] = {"label": run.loss, "color": f"C{number}", "marker": "o", "markersize": 3}
        left.plot(times, [point.quality.ndcg for point in points], **style)
        if not math.isnan(points[0].cross_entropy):
            right.plot(times, [point.cross_entropy for point in points], **style)
    left.set(xlabel="seconds of training", ylabel="NDCG@10, held out", xscale="log")
    right.set(xlabel="seconds of training", ylabel="cross-entropy, held out", xscale="log")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=90)
    plt.close(figure)
    return path


def _plain(run: Run) -> dict[str, Any]:
    points = [{"seconds": p.seconds, "cross_entropy": p.cross_entropy, **p.quality._asdict()} for p in run.points]
    return {**run._asdict(), "points": points}
