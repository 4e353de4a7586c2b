"""A part of the demo: which word follows which, by a linear head over embeddings of the words of the text.

With c the count of b after a, softmax over b of log(1 + c / s) is (c + s) / (sum of c + s V): the frequencies of the
text, each with s counts more. The best approximation of these logarithms of rank 64 gives each word two embeddings, one
as a query and one as a class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from .measure import peak, timed

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    import softmaxfam_rs as sf

WIDTH = 64
SMOOTHING = 0.1  # counts that each pair of words has more than in the text
BEST = 4  # continuations that are shown
K = 10


def followers(ids: NDArray[np.int64], words: int) -> Any:  # noqa: ANN401  SciPy is optional and untyped
    """Count how often each word follows each, as a `scipy.sparse.csr_array`; -1 is a word that is not scored."""
    from scipy.sparse import csr_array  # noqa: PLC0415  optional

    left, right = ids[:-1], ids[1:]
    both = (left >= 0) & (right >= 0)
    counts = csr_array((np.ones(both.sum()), (left[both], right[both])), shape=(words, words))
    counts.sum_duplicates()
    return counts


def embedded(counts: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:  # noqa: ANN401
    """Return an embedding of each word as a query and as a class: a truncated singular value decomposition."""
    from scipy.sparse.linalg import svds  # noqa: PLC0415  optional

    logs = counts.copy()
    logs.data = np.log1p(logs.data / SMOOTHING)
    words = counts.shape[0]
    left, values, right = svds(logs, k=min(WIDTH, words - 1), v0=np.ones(words))  # from a fixed start: the same always
    root = np.sqrt(values)
    return (left * root).astype(np.float32), np.ascontiguousarray((right.T * root).astype(np.float32))


def continued(
    vocabulary: list[str],
    counts: Any,  # noqa: ANN401
    queries: NDArray[np.float32],
    head: sf.LinearHead,
    show: int,
) -> Table:
    """Show for some words those that probably follow, with their log-probabilities."""
    found = head.score(queries, BEST)
    table = Table(title=f"what follows, of {len(vocabulary)} words by a head of width {head.width}")
    table.add_column("word")
    table.add_column("log P of the best (log of its frequency, smoothed)")
    totals = counts.sum(axis=1) + SMOOTHING * len(vocabulary)
    # words that are neither grammar nor rare
    for row in range(40, min(40 + 37 * show, len(vocabulary)), 37):
        seen = np.log((counts[[row]].toarray()[0] + SMOOTHING) / totals[row])
        pairs = zip(found.indices[row], found.log_probs[row], strict=True)
        table.add_row(vocabulary[row], ", ".join(f"{vocabulary[i]} {p:.1f} ({seen[i]:.1f})" for i, p in pairs))
    return table


def compared(queries: NDArray[np.float32], weight: NDArray[np.float32], head: sf.LinearHead) -> Table:
    """Measure the best of every word among all, beside NumPy and, where installed, torch."""
    k = min(K, head.n_classes)
    works: dict[str, Callable[[], object]] = {
        "LinearHead": lambda: head.score(queries, k),
        "NumPy": lambda: by_numpy(queries, weight, k),
    }
    try:
        import torch  # noqa: PLC0415  optional
    except ModuleNotFoundError:
        pass
    else:
        h, w = torch.from_numpy(queries), torch.from_numpy(weight)

        def by_torch() -> object:
            scores = h @ w.T
            return torch.topk(scores, k).values - torch.logsumexp(scores, dim=1, keepdim=True)

        works["torch"] = by_torch
    table = Table(
        title=f"the best {k} of {len(queries)} queries x {head.n_classes} classes (best of 3; memory beyond the input)"
    )
    for column in ("library", "ms", "times as long", "peak MB"):
        table.add_column(column, justify="left" if column == "library" else "right")
    peaks = {library: peak(work) for library, work in works.items()}  # before the memory of other runs is there
    seconds = {library: timed(work) for library, work in works.items()}
    own = seconds["LinearHead"]
    for library, time_of in seconds.items():
        table.add_row(library, f"{1e3 * time_of:.1f}", f"{time_of / own:.1f}", f"{peaks[library]:.1f}")
    return table


def by_numpy(queries: NDArray[np.float32], weight: NDArray[np.float32], k: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the k best classes and their log-probabilities as one writes it in NumPy."""
    scores = queries @ weight.T
    highest = scores.max(axis=1, keepdims=True)
    log_sums = np.log(np.exp(scores - highest).sum(axis=1, keepdims=True)) + highest
    best = np.argpartition(scores, -k, axis=1)[:, -k:]
    log_probs = np.take_along_axis(scores, best, axis=1) - log_sums
    order = np.argsort(-log_probs, axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1), np.take_along_axis(log_probs, order, axis=1)
