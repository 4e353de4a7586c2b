"""Measure hierarchical softmax, its loss and gradients, beside the exact loss of the same layer.

    python benches/hierarchical.py [--quick] [--threads 1,2] [--only PATTERN] [--json FILE] [--plot FILE]

1024 queries of width 128 and a million classes with counts of Zipf, targets drawn from the counts or evenly. The peers,
each with the gradients of all its inputs: `linear_cross_entropy_and_grad`, and torch's `linear` and `cross_entropy`,
whose logits and gradient would take 4 GB each, so it gets an eighth of the queries at a time. What the columns mean:
`measure.py`. Needs 6 GB of memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import softmaxfam_rs as sf
from measure import Case, alone, console, main

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH, PARTS = 128, 8


def cases(*, quick: bool) -> Iterator[Case]:
    less = 64 if quick else 1
    classes, batch = 1_000_000 // less, 1024 // less
    rng = np.random.default_rng(0)
    counts = 1e8 / np.arange(1, classes + 1)
    weight = rng.standard_normal((classes, WIDTH), dtype=np.float32) * np.float32(0.1)
    h = rng.standard_normal((batch, WIDTH), dtype=np.float32)
    model = sf.HierarchicalSoftmax(counts, weight=weight[1:])
    drawn = sf.AliasTable(counts).sample(batch, rng=1).ids
    even = rng.integers(classes, size=batch)
    lengths = model.path_lengths()
    for name, target in (("Zipf", drawn), ("even", even)):
        console.print(f"{name} targets: mean path {lengths[target].mean():.1f} nodes")

    def ours(target: Any) -> Any:
        return lambda: model.loss_and_grad(h, target)

    def exact() -> Any:
        return sf.linear_cross_entropy_and_grad(h, weight, drawn)

    def of_torch() -> None:
        matrix = torch.from_numpy(weight).requires_grad_()
        for rows, labels in zip(np.array_split(h, PARTS), np.array_split(drawn, PARTS), strict=True):
            queries = torch.from_numpy(rows).requires_grad_()
            logits = torch.nn.functional.linear(queries, matrix)
            torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels), reduction="sum").backward()

    once: dict[str, Any] = {"rounds": 2, "warm": 0}
    for name, target in (("Zipf", drawn), ("even", even)):
        yield Case(
            f"loss and gradients, {name} targets", ours(target), "exact, linear_cross_entropy", exact, 20, **once
        )
    yield Case("loss and gradients, Zipf targets", ours(drawn), "exact, torch in 8 parts", of_torch, 20, **once)
    # per query; a class costs as many rows of 128 as its path has nodes
    for name, target in (("Zipf", drawn), ("even", even)):
        steps = int(lengths[target].sum())
        yield alone(f"a node of a path, {name}", ours(target), "us", 1e-6 * steps, 1.0, number=5)
    best = 64 // (8 if quick else 1)
    peaked = sf.HierarchicalSoftmax(counts, weight=weight[1:] * 4)
    full = sf.LinearHead(weight * 4)
    yield Case(
        "top 10 of peaked distributions, a query",
        lambda: peaked.top_log_probs(h[:best], 10),
        "LinearHead.score",
        lambda: full.score(h[:best], 10),
        1,
        rounds=3,
        warm=0,
    )
    yield alone(
        "Huffman's tree, ns a class", lambda: sf.HierarchicalSoftmax(counts, width=1), "ns", 1e-9 * classes, 400
    )


if __name__ == "__main__":
    main(__doc__ or "", cases)
