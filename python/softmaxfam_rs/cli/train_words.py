"""`softmaxfam train-words`: skip-gram embeddings of the words of a text."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

import softmaxfam_rs as sf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from softmaxfam_rs._words import Progress

PAIRS = 5000  # that the exact cross-entropy is taken over
console = Console()


def train_words(
    text: Annotated[Path | None, typer.Option(help="A text file; without it, Python's own language reference.")] = None,
    loss: Annotated[str, typer.Option(help="neg, sampled-softmax, nce or hs.")] = "neg",
    width: Annotated[int, typer.Option(min=1, help="Numbers of a vector.")] = 100,
    window: Annotated[int, typer.Option(min=1, help="The most words on either side.")] = 5,
    negatives: Annotated[int, typer.Option(min=1, help="Of a window.")] = 5,
    sample: Annotated[float, typer.Option(min=0, help="Words of a larger share are left out at random.")] = 1e-3,
    min_count: Annotated[int, typer.Option(min=1, help="Rarer words are left out.")] = 5,
    epochs: Annotated[int, typer.Option(min=1, help="Times through the text.")] = 5,
    rate: Annotated[float, typer.Option(min=0, help="The learning rate at the beginning.")] = 0.025,
    seed: Annotated[int, typer.Option(min=0, help="Of first vectors and draws.")] = 0,
    show: Annotated[int, typer.Option(min=0, help="How many words to show with those like them.")] = 5,
    out: Annotated[Path, typer.Option(help="A .safetensors file.")] = Path("words.safetensors"),
) -> None:
    """Learn vectors of words from their neighbours, and write them.

    The exact cross-entropy of all words is told before and after. Ctrl-C ends training, not the command: what was
    learned is written.
    """
    if out.suffix != ".safetensors":
        raise typer.BadParameter(f"{out} ends in {out.suffix or 'nothing'}, must end in .safetensors")
    if not out.parent.is_dir():
        raise typer.BadParameter(f"{out.parent} is no folder, must be one; make it first")
    rates = (rate, min(rate, 1e-4))
    try:
        model = sf.SkipGram(
            cast("Any", loss),  # checked there
            width,
            window=window,
            negatives=negatives,
            sample=sample,
            min_count=min_count,
            epochs=epochs,
            rates=rates,
            seed=seed,
        )
        with console.status("reading the text"):
            corpus = sf.Corpus.of(sentences(text), min_count)
        console.print(f"{np.count_nonzero(corpus.ids >= 0)} words, {len(corpus.words)} distinct ones")
        trained(model, corpus)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    model.save(out)
    for word in corpus.words[40 : 40 + 37 * show : 37]:  # neither grammar nor rare
        console.print(f"{word}: {', '.join(other for other, _ in model.most_similar(word, 6))}")
    console.print(f"{out}: vectors, outputs, bias, counts")


def sentences(path: Path | None) -> Iterator[list[str]]:
    """Yield the words of each line of a text."""
    if path is None:
        from pydoc_data.topics import topics  # noqa: PLC0415  half a megabyte, for this alone

        lines: Iterator[str] = (paragraph for topic in topics.values() for paragraph in topic.split("\n\n"))
        yield from map(words_of, lines)
        return
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            yield from map(words_of, file)
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error}") from error


def words_of(line: str) -> list[str]:
    """Return the words of a line in lower case, of any script."""
    return re.findall(r"[^\W\d_]+(?:['’_-][^\W\d_]+)*", line.lower())


def trained(model: sf.SkipGram, corpus: sf.Corpus) -> None:
    """Train with progress, and tell the exact cross-entropy before and after."""
    before: list[float] = []
    pairs = some_pairs(corpus, model.window, model.sample, model.seed)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[pace]}"), TimeElapsedColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task("epoch 1", total=model.epochs, pace="")
        begun = time.perf_counter()

        def tell(progress: Progress) -> None:
            seconds = time.perf_counter() - begun
            pace = f"{progress.words / seconds:,.0f} words/s, loss {progress.loss:.4f}"
            done = progress.epoch - 1 + progress.share
            bars.update(task, description=f"epoch {progress.epoch}", completed=done, pace=pace)
            last[:] = [progress.words, seconds]

        last: list[float] = [0, 1]
        before.append(untrained(model, corpus).cross_entropy(*pairs))
        try:
            model.fit(corpus, callback=tell)
        except KeyboardInterrupt:
            console.print("stopped; what was learned is kept")
    after = model.cross_entropy(*pairs)
    console.print(f"{last[0] / last[1]:,.0f} words/s; exact cross-entropy {before[0]:.3f} before, {after:.3f} after")


def untrained(model: sf.SkipGram, corpus: sf.Corpus) -> sf.SkipGram:
    """Return a model as training finds it."""
    options = {name: getattr(model, name) for name in ("window", "negatives", "sample", "power", "seed")}
    first = sf.SkipGram(cast("Any", model.loss), model.width, rates=(0.0, 0.0), epochs=1, **options)
    return first.fit(corpus._replace(ids=corpus.ids[:1]))


def some_pairs(corpus: sf.Corpus, window: int, sample: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return neighbours in a sentence and the words that they are to predict, as often as training meets them."""
    ids = corpus.ids
    rng = np.random.default_rng(seed)
    centres = rng.integers(len(ids), size=40 * PAIRS)
    others = centres + rng.integers(1, window + 1, size=len(centres)) * rng.choice([-1, 1], size=len(centres))
    inside = (others >= 0) & (others < len(ids))
    centres, others = centres[inside], others[inside]
    sentence = np.cumsum(ids < 0)
    is_pair = (ids[centres] >= 0) & (ids[others] >= 0) & (sentence[centres] == sentence[others])
    if sample > 0:
        share = sample * corpus.counts.sum() / corpus.counts
        keep = np.minimum(1, np.sqrt(share) + share)
        is_pair &= rng.random(len(centres)) < keep[ids[centres]] * keep[ids[others]]
    both = np.flatnonzero(is_pair)[:PAIRS]
    return ids[others[both]].astype(np.int64), ids[centres[both]].astype(np.int64)
