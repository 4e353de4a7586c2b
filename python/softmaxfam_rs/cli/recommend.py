"""`softmaxfam recommend`: vectors of users and items from a file of ratings, by any loss of the family."""

from __future__ import annotations

import json
import time
from pathlib import Path  # noqa: TC003  typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from softmaxfam_rs import _safetensors

from . import ratings
from .embeddings import ALTERNATING, LOSSES, Model, Settings

if TYPE_CHECKING:
    from .ratings import Dataset, Pairs, Quality

console = Console()
Rate = Annotated[float, typer.Option(min=1e-6, help="Adagrad's rate.")]
Rank = Annotated[int, typer.Option(min=1, help="Numbers of a vector.")]
Batch = Annotated[int, typer.Option(min=1, help="Pairs of a step.")]
Negatives = Annotated[int, typer.Option(min=1, help="Negatives of a step, of sampled losses.")]
Seed = Annotated[int, typer.Option(help="Of the split, first vectors and draws.")]
Weight = Annotated[float, typer.Option(min=0, help="w of rgx and rg2.")]
Regularization = Annotated[float, typer.Option(min=1e-9, help="rho of rgx and rg2.")]


def recommend(
    ratings_file: Annotated[
        Path | None, typer.Option("--ratings", help="MovieLens' .dat, .data or .csv; without it a synthetic set.")
    ] = None,
    loss: Annotated[str, typer.Option(help=", ".join(LOSSES))] = "sampled-softmax",
    epochs: Annotated[int, typer.Option(min=1, help="Times through the interactions.")] = 10,
    threshold: Annotated[float, typer.Option(help="Ratings from here on are interactions.")] = 0.0,
    rank: Rank = 64,
    rate: Rate = 0.1,
    batch: Batch = 512,
    negatives: Negatives = 512,
    weight: Weight = 0.1,
    regularization: Regularization = 1.0,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="A .safetensors file for the vectors.")] = None,
) -> None:
    """Train vectors of users and items, and judge them by items held out: NDCG@10, MRR@10, Recall@10.

    Of each user 8 of 10 interactions are learned from, one is held out to watch and one to judge. Ctrl-C ends training,
    not the command: what was learned is judged and written.
    """
    if out is not None and out.suffix != ".safetensors":
        raise typer.BadParameter(f"{out} ends in {out.suffix or 'nothing'}, must end in .safetensors")
    data = dataset(ratings_file, threshold, seed)
    settings = Settings(loss, rank, rate, batch, negatives, seed, weight, regularization)
    model = made(settings, data)
    counts = [len(part.queries) for part in (data.train, data.valid, data.test)]
    console.print(
        f"{data.shape[0]} users, {data.shape[1]} items; {counts[0]} interactions, {counts[1]} and {counts[2]} held out"
    )
    try:
        train(model, data, epochs)
    except KeyboardInterrupt:
        console.print("stopped; judging what was learned")
    found = quality(model, data, data.test)
    console.print(f"test: NDCG@10 {found.ndcg:.4f}, MRR@10 {found.mrr:.4f}, Recall@10 {found.recall:.4f}")
    if out is not None:
        names = {name: json.dumps(list(map(str, array))) for name, array in data.names.items()}
        _safetensors.write(out, model.tensors(), {"loss": loss, **names})
        console.print(f"{out}: {', '.join(model.tensors())}")


def dataset(path: Path | None, threshold: float, seed: int) -> Dataset:
    """Return the set of a file, or a synthetic one, which is said."""
    if path is None:
        console.print("no --ratings: a synthetic set, users drawing items by a softmax of rank 12")
        return ratings.synthetic(seed)
    data = ratings.numbered(*ratings.read(path, threshold), seed)
    if len(data.test.queries) == 0 or data.shape[1] <= ratings.K:
        raise typer.BadParameter(
            f"{path} has {len(data.train.queries)} interactions of {data.shape[0]} users and {data.shape[1]} items, "
            f"must have more than {ratings.K} items, and users with 5 of them or more"
        )
    return data


def made(settings: Settings, data: Dataset) -> Model:
    """Return a model before training."""
    try:
        return Model(settings, data.shape[0], data.counts)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def train(model: Model, data: Dataset, epochs: int) -> None:
    """Train, with progress and the quality on what is held out to watch."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[pace]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        for epoch in range(1, epochs + 1):
            task = progress.add_task(f"epoch {epoch}", total=len(data.train.queries), pace="")
            begun, done, total = time.perf_counter(), 0, 0.0
            for count, loss in model.epoch(*data.train):
                done, total = done + count, total + count * loss
                pace = f"{done / (time.perf_counter() - begun):,.0f} pairs/s, loss {total / done:.4f}"
                progress.update(task, completed=done, pace=pace)
            seconds = time.perf_counter() - begun
            progress.remove_task(task)
            found = quality(model, data, data.valid)
            what = "objective" if model.settings.loss in ALTERNATING else "loss"
            console.print(f"epoch {epoch}: {what} {total / done:.4f}, NDCG@10 {found.ndcg:.4f}, {seconds:.2f} s")


def quality(model: Model, data: Dataset, held: Pairs) -> Quality:
    """Judge the best of the queries that have something held out."""
    queries = np.unique(held.queries)
    exclude = None
    if data.excludes:
        order = np.argsort(data.train.queries, kind="stable")
        starts = np.searchsorted(data.train.queries[order], np.arange(data.shape[0] + 1))
        seen = data.train.classes[order]
        exclude = [seen[starts[query] : starts[query + 1]] for query in queries]
    best = model.best(model.queries[queries], ratings.K, exclude)
    return ratings.judged(best, held, queries, data.shape[1])
