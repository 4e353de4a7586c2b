"""Measure the samplers beside NumPy and torch: ns a draw and a class, ratios, each bound beside its figure.

    python benches/samplers.py [--quick] [--threads 1,2] [--only PATTERN] [--json FILE] [--plot FILE]

Weights are Pareto's in f64. What the columns mean: `measure.py`. Bounds hold for one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import softmaxfam_rs as sf
from measure import Case, alone, console, main

if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    import torch
except ModuleNotFoundError:
    torch = None

NS = 1e-9
DRAWS = 1 << 20
TORCH_CLASSES = 1 << 24  # torch.multinomial refuses more


def cases(*, quick: bool) -> Iterator[Case]:
    """Yield the cases, each with inputs of its own."""
    less = 100 if quick else 1
    for classes, asked in ((10_000, 5), (1_000_000, 5), (10_000_000, 8)):
        yield from draws(max(classes // less, 100), asked, DRAWS // less)
    yield from closed_forms(DRAWS // less)
    yield from distinct(1_000_000 // less)
    yield from of_scores(131072 // less)


def draws(classes: int, asked: float, count: int) -> Iterator[Case]:
    weights = np.random.default_rng(0).pareto(1.2, classes) + 1
    q = weights / weights.sum()
    table, rng = sf.AliasTable(weights), np.random.default_rng(1)
    ids, logq = np.empty(count, np.int64), np.empty(count, np.float32)
    stream = sf.Stream(7)
    ours = lambda: table.sample(count, rng=stream, out=(ids, logq))  # noqa: E731
    name = f"draw of {classes:.0e} classes"
    yield alone(f"{name}, with logq", ours, "ns", count * NS, asked)
    yield alone(
        f"{name}, without",
        lambda: table.sample(count, rng=stream, logq=False, out=(ids, None)),
        "ns",
        count * NS,
        asked,
    )
    fewer = count // 16  # peers take long
    few = lambda: table.sample(fewer, rng=stream)  # noqa: E731
    yield Case(name, few, "NumPy choice", lambda: rng.choice(classes, fewer, p=q), 20, rounds=5, number=1)
    if torch is not None and classes <= TORCH_CLASSES:
        tensor = torch.from_numpy(weights)
        peer = lambda: torch.multinomial(tensor, fewer, replacement=True)  # noqa: E731
        yield Case(name, few, "torch multinomial", peer, 15, rounds=5)
    if classes >= 10_000_000 or count < DRAWS:
        yield alone(f"build of {classes:.0e} classes", lambda: sf.AliasTable(weights), "ns", classes * NS, 12, rounds=5)


def closed_forms(count: int) -> Iterator[Case]:
    ids, logq = np.empty(count, np.int64), np.empty(count, np.float32)
    stream = sf.Stream(7)
    for sampler in (sf.LogUniformSampler(10**7), sf.UniformSampler(10**7)):
        ours = lambda sampler=sampler: sampler.sample(count, rng=stream, out=(ids, logq))  # noqa: E731
        yield alone(f"{type(sampler).__name__}, with logq", ours, "ns", count * NS, 6)
    rng = np.random.default_rng(1)
    sampler = sf.UniformSampler(10**7)
    yield Case(
        "UniformSampler",
        lambda: sampler.sample(count, rng=stream, logq=False, out=(ids, None)),
        "NumPy integers",
        lambda: rng.integers(0, 10**7, count),
        1,
    )


def distinct(classes: int) -> Iterator[Case]:
    rows, m = 256, 100
    rng, stream = np.random.default_rng(1), sf.Stream(7)
    weights = rng.pareto(1.2, classes) + 1
    table, q = sf.AliasTable(weights), weights / weights.sum()
    yield alone(
        f"unique, {rows}x{m} of {classes:.0e}",
        lambda: table.sample((rows, m), rng=stream, unique=True),
        "ns",
        rows * m * NS,
        60,
    )
    one = lambda: table.sample(m, rng=stream, unique=True)  # noqa: E731
    yield Case(
        f"unique, {m} of {classes:.0e}",
        one,
        "NumPy choice",
        lambda: rng.choice(classes, m, replace=False, p=q),
        20,
        rounds=3,
    )


def of_scores(classes: int) -> Iterator[Case]:
    x = np.random.default_rng(0).standard_normal((64, classes), dtype=np.float32)
    stream = sf.Stream(7)
    sums = lambda: sf.logsumexp(x)  # noqa: E731
    for m in (1, 100):
        ours = lambda m=m: sf.sample_scores(x, m, rng=stream)  # noqa: E731
        yield Case(f"sample_scores m={m} 64x{classes}", ours, "our logsumexp", sums, 2.5 if m == 1 else 5, at_most=True)
        keys = lambda m=m: sf.sample_scores(x, m, rng=stream, unique=True)  # noqa: E731
        yield Case(
            f"sample_scores unique m={m} 64x{classes}", keys, "our logsumexp", sums, 10 if m == 1 else 100, at_most=True
        )
    if torch is None:
        return
    tensor = torch.from_numpy(x)
    one = lambda: sf.sample_scores(x, 1, rng=stream)  # noqa: E731
    peer = lambda: torch.multinomial(torch.softmax(tensor, 1), 1)  # noqa: E731
    yield Case(f"sample_scores m=1 64x{classes}", one, "torch softmax+multinomial", peer, 5, rounds=5)


if __name__ == "__main__":
    if torch is None:
        console.print("torch is not installed: its cases are left out")
    main(__doc__ or "", cases)
