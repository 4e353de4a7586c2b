"""Measure skip-gram training beside gensim's word2vec, on the same text with the same options.

    python benches/words.py [--quick] [--threads 1,2] [--only PATTERN] [--json FILE] [--plot FILE]

The text is the standard library of this Python: some 2 million words of code and comments. Vectors of 100 numbers,
windows of 5, 5 negatives, sample 1e-3, words that come 5 times, 5 epochs. A ratio is that of words a second. Above the
table stands the exact cross-entropy of 20000 pairs, by softmax of inner products and log q, of both. What the columns
mean: `measure.py`.
"""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import softmaxfam_rs as sf
from measure import Case, alone, console, main

if TYPE_CHECKING:
    from collections.abc import Iterator

LENGTH = 1000  # words of a sentence, for code has no others


def sentences(*, quick: bool) -> list[list[str]]:
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted([*folder.glob("*.py"), *folder.glob("*/*.py")])
    files = [file for file in files if "site-packages" not in file.parts][: 20 if quick else None]
    texts = (re.findall(r"[a-z][a-z_']+", file.read_text(errors="replace").lower()) for file in files)
    return [text[first : first + LENGTH] for text in texts for first in range(0, len(text), LENGTH)]


def pairs(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and the words that they are to predict."""
    rng = np.random.default_rng(0)
    centres = rng.integers(5, len(ids) - 5, size=20_000)
    others = centres + rng.integers(1, 6, size=len(centres)) * rng.choice([-1, 1], size=len(centres))
    both = (ids[centres] >= 0) & (ids[others] >= 0)
    return ids[others[both]].astype(np.int64), ids[centres[both]].astype(np.int64)


def cases(*, quick: bool) -> Iterator[Case]:
    text = sentences(quick=quick)
    epochs = 1 if quick else 5
    corpus = sf.Corpus.of(text)
    words = epochs * sum(map(len, text))
    console.print(f"{words // epochs} words, {len(corpus.words)} distinct ones; {epochs} epochs")
    models: dict[str, Any] = {}

    def ours(loss: str) -> Any:
        def work() -> None:
            models[loss] = sf.SkipGram(loss, epochs=epochs).fit(corpus)

        return work

    once: dict[str, Any] = {"rounds": 1, "warm": 0}
    judged = pairs(corpus.ids)
    try:
        from gensim.models import Word2Vec  # noqa: PLC0415  optional
    except ModuleNotFoundError:
        console.print("gensim is not installed: no peer")
        yield alone("neg, us a word", ours("neg"), "us", 1e-6 * words, 4.0, **once)
    else:

        def peer() -> None:
            model = Word2Vec(
                vector_size=100, window=5, negative=5, sg=1, sample=1e-3, min_count=5, workers=sf.get_num_threads()
            )
            model.build_vocab(text)
            model.train(text, total_examples=model.corpus_count, epochs=epochs)
            order = [model.wv.key_to_index[word] for word in corpus.words]
            models["gensim"] = (model.wv.vectors[order], model.syn1neg[order])

        yield Case("neg", ours("neg"), "gensim", peer, 1.0, **once)
        log_q = sf.AliasTable(corpus.counts, power=0.75).logq(np.arange(len(corpus.words)))
        inputs, outputs = models["gensim"]
        entropy = sf.linear_cross_entropy(inputs[judged[0]], outputs, judged[1], log_q)
        console.print(f"cross-entropy: neg {models['neg'].cross_entropy(*judged):.3f}, gensim {entropy:.3f}")
    for loss in ("nce", "sampled-softmax", "hs"):
        yield alone(f"{loss}, us a word", ours(loss), "us", 1e-6 * words, 4.0, **once)
        console.print(f"cross-entropy: {loss} {models[loss].cross_entropy(*judged):.3f}")


if __name__ == "__main__":
    main(__doc__ or "", cases)
