"""`softmaxfam demo`: real text, the scores of its words, and what the maps make of them, timed beside peers."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import softmaxfam_rs as sf

from . import continuations
from .measure import peak, timed

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

WINDOW = 4  # words on each side that count as context
TEMPERATURE = 0.5
ALPHAS = (1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
POWER = 0.75  # of counts, for negatives
DRAWS = 1_000_000
NOT_DRAWN = "not drawn; install it with: pip install 'softmaxfam-rs[plot]'"
console = Console()


def demo(
    text: Annotated[Path | None, typer.Option(help="A text file; without it, Python's own language reference.")] = None,
    words: Annotated[int, typer.Option(min=10, help="The most frequent words to score.")] = 4000,
    show: Annotated[int, typer.Option(min=1, help="How many words to show.")] = 5,
    out: Annotated[Path, typer.Option(help="A folder for the plot.")] = Path("demo"),
) -> None:
    """Count the words of a text and their neighbours, and turn the scores between words into probabilities."""
    whole = read(text)
    vocabulary, scores = scored(whole, words)
    console.print(f"{len(vocabulary)} words x {len(vocabulary)} neighbours, pointwise mutual information, float32\n")
    console.print(neighbours(vocabulary, scores, show))
    console.print(figures(scores))
    console.print(f"support and mass by alpha: {plotted(scores, out)}\n")
    console.print(*continued(whole, vocabulary, show), sep="\n")
    counts = Counter(tokens_of(whole))
    console.print(negatives(counts))
    console.print(f"drawn and wanted frequencies: {frequencies(counts, out)}")


def read(path: Path | None) -> str:
    """Return the text of a file, or the topics of Python's own documentation."""
    if path is None:
        from pydoc_data.topics import topics  # noqa: PLC0415  half a megabyte, for the demo alone

        return "\n".join(topics.values())
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error}") from error


def scored(text: str, words: int) -> tuple[list[str], NDArray[np.float32]]:
    """Return the most frequent words, and for each pair log P(a, b) / (P(a) P(b)); -inf for pairs that never meet."""
    tokens = tokens_of(text)
    vocabulary = [word for word, _ in Counter(tokens).most_common(words)]
    if len(vocabulary) < 10:  # noqa: PLR2004  fewer words make no table
        raise typer.BadParameter(f"the text has {len(vocabulary)} distinct words, must have at least 10")
    ids = numbered(tokens, vocabulary)
    counts = np.zeros((len(vocabulary), len(vocabulary)), dtype=np.float32)
    with Progress(transient=True) as progress:
        for distance in progress.track(range(1, WINDOW + 1), description="counting neighbours"):
            left, right = ids[:-distance], ids[distance:]
            both = (left >= 0) & (right >= 0)
            np.add.at(counts, (left[both], right[both]), 1)
            np.add.at(counts, (right[both], left[both]), 1)
    totals = counts.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.log(counts * totals.sum() / np.outer(totals, totals))
    return vocabulary, np.where(counts > 0, scores, -np.inf).astype(np.float32)


def tokens_of(text: str) -> list[str]:
    """Return the words of a text in their order."""
    return re.findall(r"[a-z][a-z_']+", text.lower())


def numbered(tokens: list[str], vocabulary: list[str]) -> NDArray[np.int64]:
    """Return the place in the vocabulary of each word, -1 of those that are not in it."""
    number = {word: index for index, word in enumerate(vocabulary)}
    return np.array([number.get(token, -1) for token in tokens])


def continued(text: str, vocabulary: list[str], show: int) -> list[Table | str]:
    """Show which words follow which, and what it takes to find out, where SciPy makes the embeddings."""
    try:
        counts = continuations.followers(numbered(tokens_of(text), vocabulary), len(vocabulary))
        queries, weight = continuations.embedded(counts)
    except ModuleNotFoundError:
        return ["SciPy is not installed: no embeddings of words"]
    head = sf.LinearHead(weight)
    table = continuations.continued(vocabulary, counts, queries, head, show)
    return [table, continuations.compared(queries, weight, head)]


def neighbours(vocabulary: list[str], scores: NDArray[np.float32], show: int) -> Table:
    """Show for some words the neighbours that each map finds probable, with the size of its support."""
    table = Table(title=f"nearest neighbours at temperature {TEMPERATURE} (probability in %; support size)")
    maps: dict[str, float] = {"softmax": 1.0, "entmax 1.5": 1.5, "sparsemax": 2.0}
    for column in ("word", *maps):
        table.add_column(column)
    # words that are neither grammar nor rare
    for row in range(40, min(40 + 37 * show, len(vocabulary)), 37):
        cells = [vocabulary[row]]
        for alpha in maps.values():
            p = sf.entmax(scores[row], alpha, temperature=TEMPERATURE)
            best = np.argsort(-p, kind="stable")[:4]
            listed = ", ".join(f"{vocabulary[i]} {100 * p[i]:.0f}" for i in best if p[i] > 0)
            cells.append(f"{listed} ({np.count_nonzero(p)})")
        table.add_row(*cells)
    return table


def figures(scores: NDArray[np.float32]) -> Table:
    """Time each map over the whole matrix, beside NumPy, SciPy and, where installed, the entmax package."""
    out = np.empty_like(scores)
    finite = np.where(np.isfinite(scores), scores, np.float32(-30))  # peers do not all know -inf
    table = Table(title=f"the whole matrix, {scores.shape[0]} x {scores.shape[1]} (best of 3; memory beyond the input)")
    for column in ("map", "library", "ms", "times as fast", "peak MB"):
        table.add_column(column, justify="left" if column in {"map", "library"} else "right")
    for name, ours, peers in cases(finite, out):
        own = timed(ours)
        table.add_row(name, "softmaxfam_rs", f"{1e3 * own:.1f}", "", f"{peak(ours):.0f}")
        for library, peer in peers.items():
            seconds = timed(peer)
            table.add_row("", library, f"{1e3 * seconds:.1f}", f"{seconds / own:.1f}", f"{peak(peer):.0f}")
    return table


def cases(
    scores: NDArray[np.float32], out: NDArray[np.float32]
) -> list[tuple[str, Callable[[], Any], dict[str, Callable[[], Any]]]]:
    """List maps with what their peers do for the same result."""
    log_sums: dict[str, Callable[[], Any]] = {"NumPy": lambda: numpy_logsumexp(scores)}
    softmaxes: dict[str, Callable[[], Any]] = {"NumPy": lambda: numpy_softmax(scores)}
    sparse: dict[str, Callable[[], Any]] = {"NumPy, by sorting": lambda: numpy_sparsemax(scores)}
    bisected: dict[str, Callable[[], Any]] = {}
    try:
        from scipy import special  # noqa: PLC0415  optional

        log_sums["SciPy"] = lambda: special.logsumexp(scores, axis=1)
        softmaxes["SciPy"] = lambda: special.softmax(scores, axis=1)
    except ModuleNotFoundError:
        console.print("SciPy is not installed: left out")
    try:
        import entmax  # noqa: PLC0415  optional
        import torch  # noqa: PLC0415  optional

        tensor = torch.from_numpy(scores)
        sparse["entmax"] = lambda: entmax.sparsemax(tensor, dim=1)
        bisected["entmax"] = lambda: entmax.entmax15(tensor, dim=1)
    except ModuleNotFoundError:
        console.print("torch and entmax are not installed: left out")
    return [
        ("logsumexp", lambda: sf.logsumexp(scores), log_sums),
        ("softmax", lambda: sf.softmax(scores, out=out), softmaxes),
        ("sparsemax", lambda: sf.sparsemax(scores, out=out), sparse),
        ("entmax 1.5", lambda: sf.entmax(scores, out=out), bisected),
    ]


def numpy_logsumexp(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return log sum exp as one writes it in NumPy."""
    highest = scores.max(axis=1, keepdims=True)
    sums: NDArray[np.float32] = np.exp(scores - highest).sum(axis=1)
    result: NDArray[np.float32] = np.log(sums) + highest[:, 0]
    return result


def numpy_softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return softmax as one writes it in NumPy."""
    terms = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float32] = terms / terms.sum(axis=1, keepdims=True)
    return probabilities


def numpy_sparsemax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return sparsemax as one writes it in NumPy (Martins, Astudillo 2016, algorithm 1)."""
    z = -np.sort(-scores, axis=1)
    sums = z.cumsum(axis=1) - 1
    sizes = np.arange(1, scores.shape[1] + 1, dtype=scores.dtype)
    support = (sizes * z > sums).sum(axis=1, keepdims=True)
    tau = np.take_along_axis(sums, support - 1, axis=1) / support
    probabilities: NDArray[np.float32] = np.maximum(scores - tau, 0).astype(scores.dtype)
    return probabilities


def pyplot() -> Any:  # noqa: ANN401  an optional module
    """Return matplotlib's pyplot for files, or None where it is not installed."""
    try:
        import matplotlib as mpl  # noqa: PLC0415  optional
    except ModuleNotFoundError:
        return None
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  after the choice of what draws

    return plt


def plotted(scores: NDArray[np.float32], folder: Path) -> Path | str:
    """Draw support size and the mass of the ten most probable classes by alpha."""
    plt = pyplot()
    if plt is None:
        return NOT_DRAWN
    sample = scores[:500]
    supports, masses = [], []
    for alpha in ALPHAS:
        p = sf.entmax(sample, alpha, temperature=TEMPERATURE)
        supports.append(np.count_nonzero(p, axis=1).mean())
        masses.append(np.sort(p, axis=1)[:, -10:].sum(axis=1).mean())
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    left.plot(ALPHAS, supports, marker="o")
    left.set(xlabel="alpha", ylabel="classes with positive probability", yscale="log")
    right.plot(ALPHAS, masses, marker="o")
    right.set(xlabel="alpha", ylabel="mass of the ten most probable", ylim=(0, 1.05))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "support.png"
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def negatives(counts: Counter[str]) -> Table:
    """Time draws of words by count^0.75, as word2vec draws its negatives, beside NumPy and, where installed, torch."""
    weights = np.array(list(counts.values()), dtype=np.float64) ** POWER
    q = weights / weights.sum()
    table, rng = sf.AliasTable(weights), np.random.default_rng(0)
    works: dict[str, Callable[[], Any]] = {
        "softmaxfam_rs, with log q": lambda: table.sample(DRAWS, rng=7),
        "NumPy, choice(p=)": lambda: rng.choice(len(q), DRAWS, p=q),
    }
    try:
        import torch  # noqa: PLC0415  optional

        tensor = torch.from_numpy(weights)
        works["torch.multinomial"] = lambda: torch.multinomial(tensor, DRAWS, replacement=True)
    except ModuleNotFoundError:
        console.print("torch is not installed: left out")
    shown = Table(title=f"{DRAWS} negatives of {len(counts)} words by count^{POWER} (best of 3)")
    for column in ("library", "ns a draw", "times as long"):
        shown.add_column(column, justify="left" if column == "library" else "right")
    seconds = {library: timed(work) for library, work in works.items()}
    own = next(iter(seconds.values()))
    for library, time_of in seconds.items():
        shown.add_row(library, f"{1e9 * time_of / DRAWS:.1f}", f"{time_of / own:.1f}")
    return shown


def frequencies(counts: Counter[str], folder: Path) -> Path | str:
    """Draw how often each word came among many draws against how often it should."""
    table = sf.AliasTable.from_counts(counts, power=POWER)
    drawn = np.bincount(table.sample(20 * DRAWS, rng=7, logq=False).ids, minlength=len(table)) / (20 * DRAWS)
    wanted = table.probs(np.arange(len(table)))
    plt = pyplot()
    if plt is None:
        return NOT_DRAWN
    figure, axes = plt.subplots(figsize=(5, 4.4), layout="constrained")
    axes.loglog(wanted[drawn > 0], drawn[drawn > 0], ".", markersize=3, alpha=0.4, label="words")
    ends = [wanted.min(), wanted.max()]
    axes.loglog(ends, ends, color="black", linewidth=0.8, label="equal")
    axes.set(xlabel=f"probability by count^{POWER}", ylabel=f"frequency among {20 * DRAWS} draws")
    axes.legend()
    path = folder / "negatives.png"
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
