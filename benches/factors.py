"""Measure factors by RG2 and RGx: the time of an iteration, how it grows, and the quality beside implicit's ALS.

    python benches/factors.py [--quick] [--threads 1,2] [--only PATTERN] [--json FILE] [--plot FILE]

Times: 1e5 users and items, rank 64, 1e7 interactions, and half as many. Quality: a planted set, users drawing items by
a softmax of scores of rank 16 with popular items among them; of each user 5 items are held out, and NDCG@10 is taken
among the items not seen. Both models have rank 32 and 10 iterations, and the best of nine settings each. What the
columns mean: `measure.py`. Needs 2 GB of memory.
"""

from __future__ import annotations

import os
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_matrix

import softmaxfam_rs as sf
from measure import Case, alone, console, main

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as implicit asks for

if TYPE_CHECKING:
    from collections.abc import Iterator

RANK, HELD = 64, 5


def random_interactions(users: int, items: int, count: int) -> csr_matrix:
    """Return interactions with items by Zipf's law."""
    each = count // users
    ids = sf.AliasTable(1 / np.arange(1.0, items + 1)).sample((users, each), rng=0, unique=True, dtype="int32").ids
    return csr_matrix((np.ones(ids.size, np.float32), ids.ravel(), np.arange(users + 1) * each), shape=(users, items))


def planted(users: int, items: int, each: int) -> tuple[csr_matrix, np.ndarray]:
    """Return interactions, and the items of each user that were held out."""
    rng = np.random.default_rng(0)
    of_users, of_items = (rng.standard_normal((count, 16), dtype=np.float32) for count in (users, items))
    popular = -0.7 * np.log(rng.permutation(items) + 1.0)
    best = np.empty((users, each + HELD), np.int64)
    for first in range(0, users, 500):
        scores = 0.6 * of_users[first : first + 500] @ of_items.T + popular
        scores += rng.gumbel(size=scores.shape)
        top = np.argpartition(-scores, each + HELD, axis=1)[:, : each + HELD]
        best[first : first + 500] = rng.permuted(top, axis=1)
    starts = np.arange(users + 1) * each
    train = csr_matrix((np.ones(users * each, np.float32), best[:, HELD:].ravel(), starts), shape=(users, items))
    train.sort_indices()
    return train, best[:, :HELD]


def ndcg(found: np.ndarray, held: np.ndarray) -> float:
    discounts = 1 / np.log2(np.arange(2, 12))
    hits = (found[:, :, None] == held[:, None, :]).any(axis=2)
    return float((hits * discounts).sum(axis=1).mean() / discounts[:HELD].sum())


def report_quality(*, quick: bool) -> None:
    try:
        from implicit.als import AlternatingLeastSquares  # noqa: PLC0415  optional
    except ModuleNotFoundError:
        console.print("quality: implicit is not installed")
        return
    users, items, each = (200, 150, 10) if quick else (5000, 3000, 30)
    train, held = planted(users, items, each)
    everyone = np.arange(users)
    rank, iterations = (4, 2) if quick else (32, 10)
    best: dict[str, tuple[float, float, str]] = {}
    for ours, theirs in zip(
        ((w, rho) for w in (0.03, 0.1, 0.3) for rho in (3.0, 10.0, 30.0)),
        ((alpha, rho) for alpha in (3.0, 10.0, 30.0) for rho in (1.0, 10.0, 100.0)),
        strict=True,
    ):
        start = time.perf_counter()
        model = sf.RGFactorizer("rgx", rank, w=ours[0], regularization=ours[1], iterations=iterations).fit(train)
        seconds = time.perf_counter() - start
        quality = ndcg(model.recommend(everyone, 10, exclude=train).indices, held)
        best["RGx"] = max(best.get("RGx", (0, 0, "")), (quality, seconds, f"w={ours[0]}, rho={ours[1]}"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peer: Any = AlternatingLeastSquares(
                rank, alpha=theirs[0], regularization=theirs[1], iterations=iterations, random_state=0, use_gpu=False
            )
        start = time.perf_counter()
        peer.fit(train, show_progress=False)
        seconds = time.perf_counter() - start
        found, _ = peer.recommend(everyone, train, N=10)
        quality = ndcg(found, held)
        best["implicit"] = max(
            best.get("implicit", (0, 0, "")), (quality, seconds, f"alpha={theirs[0]}, rho={theirs[1]}")
        )
    for name, (quality, seconds, options) in best.items():
        console.print(f"{name}: NDCG@10 {quality:.4f} in {seconds:.2f} s, {options}")


def cases(*, quick: bool) -> Iterator[Case]:
    less = 100 if quick else 1
    size, count = 100_000 // less, 10_000_000 // less
    many, half = (random_interactions(size, size, part) for part in (count, count // 2))
    once: dict[str, Any] = {"rounds": 3, "warm": 0}

    def fit(interactions: csr_matrix, w: float) -> Any:
        return lambda: sf.RGFactorizer(rank=RANK, w=w, iterations=1).fit(interactions)

    for w in (0.0, 0.1):
        yield alone(f"an iteration, 1e7 interactions, w={w}", fit(many, w), "s", 1.0, 60, **once)
        yield Case(f"5e6 beside 1e7 interactions, w={w}", fit(half, w), "1e7", fit(many, w), 1.6, **once)
    report_quality(quick=quick)


if __name__ == "__main__":
    main(__doc__ or "", cases)
