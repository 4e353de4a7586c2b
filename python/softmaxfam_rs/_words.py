"""Skip-gram embeddings of words, by the losses of the package."""

from __future__ import annotations

import json
import math
import operator
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np

from . import _core, _safetensors
from ._head import LinearHead
from ._hierarchical import HierarchicalSoftmax
from ._linear_losses import linear_cross_entropy
from ._samplers import AliasTable
from ._transfer import to_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from ._core import SkipGram as Core

    AnyPath = str | os.PathLike[str]
    Vectors = NDArray[np.float32]

LOSSES = ("neg", "nce", "sampled-softmax", "hs")
FORMAT = "softmaxfam words 1"
STEP = 3.0  # of the rate times a row's terms in a block: beyond it their mean counts, times this
OUT, END = -2, -1  # words that are left out, and ends of sentences
BLOCKS = 64  # that are trained on between two looks


class Progress(NamedTuple):
    """What `SkipGram.fit` tells while it goes on.

    Attributes
    ----------
    epoch : int
        From 1.
    share : float
        Of the epoch that is done.
    words : int
        Of the text, since the beginning.
    loss : float
        The mean over the pairs since the last call.
    """

    epoch: int
    share: float
    words: int
    loss: float


class Corpus(NamedTuple):
    """A text as numbers.

    Attributes
    ----------
    words : list of str
        The most frequent first.
    counts : array of int64
    ids : array of int32
        Words of the text in their order, -1 at the ends of sentences; words that are too rare are left out.
    """

    words: list[str]
    counts: NDArray[np.int64]
    ids: NDArray[np.int32]

    @classmethod
    def of(cls, sentences: Iterable[Iterable[str]], min_count: int = 5) -> Self:
        """Give the words of sentences numbers, in one pass over them.

        Examples
        --------
        >>> from softmaxfam_rs import Corpus
        >>> corpus = Corpus.of([["a", "b", "a"], ["a", "c"]], min_count=1)
        >>> corpus.words, corpus.ids.tolist()
        (['a', 'b', 'c'], [0, 1, 0, -1, 0, 2, -1])
        """
        numbers: dict[str, int] = {}
        parts = []
        part: list[int] = []
        for sentence in sentences:
            if isinstance(sentence, str):
                raise TypeError(f"a sentence is the string {sentence[:40]!r}, must be its words; split it")
            part.extend(numbers.setdefault(word, len(numbers)) for word in sentence)
            part.append(END)
            if len(part) > 1 << 20:
                parts.append(np.array(part, np.int32))
                part = []
        parts.append(np.array(part, np.int32))
        ids = np.concatenate(parts)
        found = np.bincount(ids[ids >= 0], minlength=len(numbers))
        order = np.argsort(-found, kind="stable")
        kept = order[found[order] >= max(1, min_count)]
        place = np.full(len(numbers) + 1, OUT, np.int32)
        place[kept] = np.arange(len(kept))
        place[END] = END
        ids = place[ids]
        names = list(numbers)
        return cls([names[word] for word in kept], found[kept], np.ascontiguousarray(ids[ids != OUT]))


class SkipGram:
    """Vectors of words by skip-gram: each word of a text predicts its neighbours.

    Training has the same bits for any number of threads: the steps of a block of the text are added up before the next
    begins, and the words around a centre share its negatives.

    Parameters
    ----------
    loss : {"neg", "nce", "sampled-softmax", "hs"}, default "neg"
        Negative sampling, noise-contrastive estimation, sampled softmax with log q corrected, or hierarchical softmax.
    width : int, default 100
        Numbers of a vector.
    window : int, default 5
        The most words on either side that are neighbours; for each centre it is drawn from 1 to this.
    negatives : int, default 5
        Of a window.
    power : float, default 0.75
        Negatives are drawn by counts to this power.
    sample : float, default 1e-3
        Words with a larger share of the text are left out at random, the more so the more frequent; 0 keeps all.
    min_count : int, default 5
        Rarer words are left out.
    epochs : int, default 5
    rates : pair of float, default (0.025, 1e-4)
        The learning rate at the beginning and the end, which it falls to linearly.
    seed : int, default 0

    Attributes
    ----------
    words : list of str
        The most frequent first.
    counts : array of int64
    vectors : array of float32, shape (words, width)
        Of words as neighbours: the embeddings.
    outputs : array of float32
        Of words as centres; with "hs" of the nodes of Huffman's tree.

    Notes
    -----
    Sources: Mikolov, Sutskever, Chen, Corrado, Dean (2013), arXiv:1310.4546; shared negatives and blocks as Ji, Satish,
    Li, Dubey (2016), arXiv:1604.04661.

    Examples
    --------
    >>> import softmaxfam_rs as sf
    >>> sentences = [["red", "apple", "tree"], ["red", "cherry", "tree"], ["blue", "sea", "ship"]] * 300
    >>> model = sf.SkipGram(width=8, sample=0, epochs=20).fit(sentences)
    >>> model.vectors.shape, "sea" in dict(model.most_similar("apple", 3))
    ((7, 8), False)
    """

    words: list[str]
    counts: NDArray[np.int64]
    vectors: Vectors
    outputs: Vectors

    def __init__(
        self,
        loss: Literal["neg", "nce", "sampled-softmax", "hs"] = "neg",
        width: int = 100,
        *,
        window: int = 5,
        negatives: int = 5,
        power: float = 0.75,
        sample: float = 1e-3,
        min_count: int = 5,
        epochs: int = 5,
        rates: tuple[float, float] = (0.025, 1e-4),
        seed: int = 0,
    ) -> None:
        if loss not in LOSSES:
            raise ValueError(f"loss is {loss!r}, must be one of {', '.join(map(repr, LOSSES))}")
        if not (sample >= 0 and math.isfinite(sample)):
            raise ValueError(f"sample is {sample}, must be >= 0 and finite")
        if operator.index(seed) < 0:
            raise ValueError(f"seed is {seed}, must be 0 or more")
        if not all(rate >= 0 and math.isfinite(rate) for rate in rates):
            raise ValueError(f"rates is {rates}, must be two numbers >= 0 and finite")
        self.loss, self.width, self.window = loss, to_count("width", width), to_count("window", window)
        self.negatives, self.epochs = to_count("negatives", negatives), to_count("epochs", epochs)
        self.power, self.sample, self.min_count = power, sample, min_count
        self.rates, self.seed = rates, seed

    def fit(
        self,
        sentences: Iterable[Iterable[str]] | Corpus,
        /,
        *,
        callback: Callable[[Progress], object] | None = None,
    ) -> Self:
        """Learn the vectors of the words of a text.

        Parameters
        ----------
        sentences : iterable of lists of str, or Corpus
            Neighbours do not reach beyond a sentence. They are read once, and kept as numbers of four bytes.
        callback : callable, optional
            Called some times a second with `Progress`; if it returns True, that was all. After Ctrl-C, too, the vectors
            are what was learned so far.

        Returns
        -------
        SkipGram
            Itself.

        Raises
        ------
        TypeError
            Where a sentence is a string.
        ValueError
            Where fewer than two words are frequent enough.
        """
        corpus = sentences if isinstance(sentences, Corpus) else Corpus.of(sentences, self.min_count)
        if len(corpus.words) < 2:  # noqa: PLR2004  a pair
            raise ValueError(
                f"{len(corpus.words)} words come {self.min_count} times or more, must be 2 or more; set min_count"
            )
        self.words, self.counts = corpus.words, corpus.counts
        core = self._core()
        self.vectors, self.outputs = core.vectors()
        try:
            self._train(core, corpus.ids, callback)
        finally:
            self.vectors, self.outputs = core.vectors()
        return self

    def _core(self) -> Core:
        counts = np.asarray(self.counts, np.float64)
        sizes = (self.width, self.window, self.negatives)
        return _core.SkipGram(counts, self.loss, *sizes, float(self.power), float(self.sample), self.seed)

    def _train(self, core: Core, ids: NDArray[np.int32], callback: Callable[[Progress], object] | None) -> None:
        blocks = -(-len(ids) // core.BLOCK)
        rates = (float(self.rates[0]), float(self.rates[1]))
        for epoch in range(self.epochs):
            for first in range(0, blocks, BLOCKS):
                last = min(first + BLOCKS, blocks)
                done = (epoch + first / blocks) / self.epochs
                rate = rates[0] + (rates[1] - rates[0]) * done
                limit = STEP / rate if rate > 0 else math.inf
                pairs, loss = core.train(ids, first, last, epoch, self.epochs, rates, limit)
                words = epoch * len(ids) + min(last * core.BLOCK, len(ids))
                told = Progress(epoch + 1, last / blocks, words, loss / pairs if pairs else math.nan)
                if callback is not None and callback(told) is True:
                    return

    @property
    def bias(self) -> Vectors:
        """What ranks words beside inner products: log q, which negative sampling learns to leave out, or 0."""
        if self.loss != "neg":
            return np.zeros(len(self.outputs), np.float32)
        law = AliasTable(self.counts, power=self.power)
        log_q: Vectors = np.asarray(law.logq(np.arange(len(self.counts))), np.float32)
        return log_q

    def cross_entropy(self, inputs: NDArray[np.int64], targets: NDArray[np.int64]) -> float:
        """Return the mean of -log p of targets given inputs, numbers of words, over all words.

        By softmax of inner products and `bias`; with "hs" by the tree.
        """
        h = self.vectors[inputs]
        if self.loss == "hs":
            return float(HierarchicalSoftmax(self.counts, weight=self.outputs).loss(h, targets))
        return float(linear_cross_entropy(h, self.outputs, targets, self.bias))

    def most_similar(self, word: str, k: int = 10) -> list[tuple[str, float]]:
        """Return the k other words whose vectors have the largest cosines with that of a word.

        Raises
        ------
        KeyError
            For a word that was not learned.
        """
        if word not in self.words:
            raise KeyError(f"{word} was not learned; it came fewer than {self.min_count} times")
        row = self.words.index(word)
        lengths = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        unit = self.vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
        found = LinearHead(unit).score(unit[row], min(k, len(self.words) - 1), exclude=[[row]])
        cosines = found.log_probs + found.logsumexp
        return [(self.words[other], float(cosine)) for other, cosine in zip(found.indices, cosines, strict=True)]

    def save(self, path: AnyPath, /) -> None:
        """Write vectors, outputs, bias, counts and words to one .safetensors file, which is never half-written.

        `LinearHead.open(path, weight="outputs", bias="bias")` scores words with it, as does ``softmaxfam score``.
        """
        if Path(path).suffix != ".safetensors":
            raise ValueError(f"{os.fspath(path)} is the path, must end in .safetensors")
        tensors: dict[str, tuple[str, NDArray[Any]]] = {
            "vectors": ("F32", self.vectors),
            "outputs": ("F32", self.outputs),
            "bias": ("F32", self.bias),
            "counts": ("F64", np.asarray(self.counts, np.float64)),
        }
        options = {name: getattr(self, name) for name in ("loss", "width", "window", "negatives", "power", "sample")}
        options |= {name: getattr(self, name) for name in ("min_count", "epochs", "rates", "seed")}
        more = {"words": json.dumps(self.words), "options": json.dumps(options)}
        _safetensors.write(path, tensors, {"format": FORMAT, **more})

    @classmethod
    def load(cls, path: AnyPath, /) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        OSError
            Where the file cannot be opened.
        ValueError
            Where it is damaged, or something else.
        """
        needed = {"vectors": "F32", "outputs": "F32", "bias": "F32", "counts": "F64"}
        parts, metadata = _safetensors.read_model(path, FORMAT, needed, {}, cls.__name__)
        try:
            options = json.loads(metadata["options"])
            model = cls(**{**options, "rates": tuple(options["rates"])})
            model.words = json.loads(metadata["words"])
        except (KeyError, TypeError, ValueError) as error:
            raise _safetensors.damaged(path, str(error)) from error
        if not len(model.words) == len(parts["vectors"]) == len(parts["counts"]):
            raise _safetensors.damaged(path, "its words are not as many as its vectors")
        model.vectors, model.outputs = parts["vectors"], parts["outputs"]
        model.counts = parts["counts"].astype(np.int64)
        return model

    def __repr__(self) -> str:
        learned = f", {len(self.words)} words" if hasattr(self, "words") else ""
        return f"<SkipGram: {self.loss}, width {self.width}{learned}>"
