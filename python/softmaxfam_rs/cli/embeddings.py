"""A vector for each query and each class, trained by any loss of the family, for `recommend` and `compare-losses`.

Scores are inner products, with a bias of each class where the loss asks for one. Steps are those of Adagrad (Duchi,
Hazan, Singer 2011) with one rate a row, over the rows that a batch touches.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import softmaxfam_rs as sf
from softmaxfam_rs._factors import Interactions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]
    Ids = NDArray[np.int64]

SAMPLED = ("sampled-softmax", "nce", "neg")
ALTERNATING = ("rgx", "rg2")
LOSSES = ("cross-entropy", "entmax", "sparsemax", "rankmax", *SAMPLED, "hs", *ALTERNATING)
NORMALISED = ("cross-entropy", "sampled-softmax", "nce", "neg", "hs")  # whose scores tell log-probabilities
POWER = 0.75  # of counts, for negatives
SPREAD = 0.1  # of first vectors


class Settings(NamedTuple):
    """What training takes besides the pairs."""

    loss: str
    rank: int
    rate: float
    batch: int
    negatives: int
    seed: int
    weight: float  # of RG2 and RGx
    regularization: float


class Model:
    """Vectors under a loss.

    Attributes
    ----------
    queries, classes : array of float32
        Vectors; with "hs" `classes` are those of the tree's nodes.
    bias : array of float32 or None
    """

    def __init__(self, settings: Settings, queries: int, counts: Ids) -> None:
        if settings.loss not in LOSSES:
            raise ValueError(f"--loss is {settings.loss}, must be one of {', '.join(LOSSES)}")
        self.settings = settings
        self.stream = sf.Stream(settings.seed, key=1)
        rng = self.rng = np.random.default_rng((settings.seed, 1))  # another than that of the data
        rank, loss = settings.rank, settings.loss
        self.queries: Vectors = np.float32(SPREAD) * rng.standard_normal((queries, rank), dtype=np.float32)
        self.tree = sf.HierarchicalSoftmax(counts + 1.0, width=rank, bias=True) if loss == "hs" else None
        self.classes: Vectors
        self.bias: Vectors
        if self.tree is None:
            self.classes = np.float32(SPREAD) * rng.standard_normal((len(counts), rank), dtype=np.float32)
            self.bias = first_bias(loss, counts, settings.negatives)
        else:
            self.classes, self.bias = self.tree.weight, np.asarray(self.tree.bias)
        self.sampler = sf.AliasTable(counts + 1.0, power=POWER) if loss in SAMPLED else None
        self.sums = [np.zeros(len(rows), np.float32) for rows in (self.queries, self.classes, self.bias)]

    @property
    def offsets(self) -> Vectors:
        """What is added to inner products: the bias, and log q, which negative sampling learns to leave out."""
        if self.settings.loss != "neg" or self.sampler is None:
            return self.bias
        log_q: Vectors = np.asarray(self.sampler.logq(np.arange(len(self.classes))))
        return self.bias + log_q

    def epoch(self, queries: Ids, targets: Ids) -> Iterator[tuple[int, float]]:
        """Go once through pairs in a random order; yield after each step how many pairs it took and their mean loss."""
        if self.settings.loss in ALTERNATING:
            yield len(queries), self._alternate(queries, targets)
            return
        order = self.rng.permutation(len(queries))
        for first in range(0, len(order), self.settings.batch):
            part = order[first : first + self.settings.batch]
            yield len(part), self._step(queries[part], targets[part])

    def best(self, queries: Vectors, k: int, exclude: Any = None) -> Ids:  # noqa: ANN401  lists of ids
        """Return the k best classes of each vector."""
        if self.tree is None:
            found: Ids = sf.LinearHead(self.classes, self.offsets).score(queries, k, exclude=exclude).indices
            return found
        best = np.empty((len(queries), k), np.int64)
        for first in range(0, len(queries), 256):
            log_probs = self.tree.log_probs(queries[first : first + 256])
            for row, seen in enumerate(exclude[first : first + 256] if exclude is not None else ()):
                log_probs[row, seen] = -np.inf
            best[first : first + 256] = sf.top_log_probs(log_probs, k).indices
        return best

    def cross_entropy(self, queries: Ids, targets: Ids) -> float:
        """Return the mean of -log p of pairs, by softmax of all scores, or by the tree; NaN where it means nothing."""
        if self.settings.loss not in NORMALISED or not len(queries):
            return math.nan
        h = self.queries[queries]
        if self.tree is not None:
            return float(self.tree.loss(h, targets))
        return float(sf.linear_cross_entropy(h, self.classes, targets, self.offsets))

    def tensors(self) -> dict[str, tuple[str, NDArray[Any]]]:
        """Return what a file keeps."""
        names = ("queries", "classes") if self.tree is None else ("queries", "nodes")
        kept: dict[str, tuple[str, NDArray[Any]]] = {names[0]: ("F32", self.queries), names[1]: ("F32", self.classes)}
        kept["bias"] = ("F32", self.offsets)
        if self.tree is not None:
            kept["tree"] = ("I32", self.tree._tree.merges)  # noqa: SLF001  as its own files have it
        return kept

    def _step(self, queries: Ids, targets: Ids) -> float:
        rows, places = np.unique(queries, return_inverse=True)
        h = self.queries[queries]
        loss, grad = self._loss(h, targets)
        order = np.argsort(places, kind="stable")
        of_rows = np.add.reduceat(grad.h[order], np.searchsorted(places[order], np.arange(len(rows))), axis=0)
        self._descend(self.queries, 0, rows, of_rows)
        for number, (array, part) in enumerate(((self.classes, grad.weight), (self.bias, grad.bias)), start=1):
            if isinstance(part, sf.IndexedRows):
                self._descend(array, number, part.indices, part.values)
            else:
                self._descend(array, number, slice(None), part)
        return float(loss) / len(queries)

    def _loss(self, h: Vectors, targets: Ids) -> tuple[Any, Any]:
        loss = self.settings.loss
        if self.tree is not None:
            return self.tree.loss_and_grad(h, targets, reduction="sum")
        if self.sampler is not None:
            of = {
                "sampled-softmax": sf.sampled_softmax_and_grad,
                "nce": sf.nce_and_grad,
                "neg": sf.negative_sampling_and_grad,
            }[loss]
            given = (h, self.classes, targets, self.sampler, self.settings.negatives, self.bias)
            return of(*given, rng=self.stream, reduction="sum")
        if loss == "cross-entropy":
            return sf.linear_cross_entropy_and_grad(h, self.classes, targets, self.bias, reduction="sum")
        if loss == "rankmax":
            return sf.linear_rankmax_loss_and_grad(h, self.classes, targets, self.bias, reduction="sum")
        alpha = 1.5 if loss == "entmax" else 2.0
        return sf.linear_entmax_loss_and_grad(h, self.classes, targets, alpha, self.bias, reduction="sum")

    def _descend(self, array: Vectors, number: int, rows: Any, gradient: Vectors) -> None:  # noqa: ANN401  ids or all
        squares = gradient**2
        self.sums[number][rows] += squares if squares.ndim == 1 else squares.mean(axis=1)
        scale = self.settings.rate / np.sqrt(self.sums[number][rows] + 1e-10)
        array[rows] -= gradient * (scale if squares.ndim == 1 else scale[:, None])

    def _alternate(self, queries: Ids, targets: Ids) -> float:
        settings, shape = self.settings, (len(self.queries), len(self.classes))
        pairs = np.unique(queries * shape[1] + targets)
        starts = np.searchsorted(pairs // shape[1], np.arange(shape[0] + 1))
        interactions = Interactions(starts, (pairs % shape[1]).astype(np.int32), shape)
        model = sf.RGFactorizer(
            "rgx" if settings.loss == "rgx" else "rg2",
            settings.rank,
            w=settings.weight,
            regularization=settings.regularization,
            iterations=1,
        )
        model.fit(interactions, start=self.classes)
        self.queries, self.classes = model.user_factors_, model.item_factors_
        return model.objective_[-1]


def first_bias(loss: str, counts: Ids, negatives: int) -> Vectors:
    """Return the biases by which a loss is right about the frequencies of classes, where those are learned at all."""
    if loss == "neg":  # log p - log q - log m
        return np.full(len(counts), -math.log(negatives), np.float32)
    if loss not in NORMALISED:
        return np.zeros(len(counts), np.float32)
    logs: NDArray[np.float64] = np.log((counts + 1.0) / (counts + 1.0).sum())
    return logs.astype(np.float32)
