"""Measure losses that draw their negatives, with the gradients of queries and class rows, beside torch's operations.

    python benches/sampled.py [--quick] [--threads 1,2] [--only PATTERN] [--json FILE] [--plot FILE]

1024 queries of width 128 and a million classes, float32; negatives from an alias table, "all" corrected. The peer draws
from the same table, gathers with a sparse gradient, multiplies, and takes logsumexp; its backward pass is autograd's.
What the columns mean: `measure.py`. Needs 3 GB of memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import embedding

import softmaxfam_rs as sf
from measure import Case, main

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH, SHARED, OWN = 128, 1024, 64


def cases(*, quick: bool) -> Iterator[Case]:
    less = 32 if quick else 1
    classes, batch = 1_000_000 // less, 1024 // less
    generator = torch.Generator().manual_seed(0)
    weight = (torch.randn(classes, WIDTH, generator=generator) * 0.1).requires_grad_()
    h = torch.randn(batch, WIDTH, generator=generator).requires_grad_()
    target = torch.randint(classes, (batch,), generator=generator)
    table = sf.AliasTable(np.arange(1, classes + 1) ** -0.75)

    def of_torch(shape: tuple[int, ...]) -> Any:
        def work() -> None:
            h.grad = weight.grad = None
            ids, logq = map(torch.from_numpy, table.sample(shape, rng=3))
            if len(shape) == 1:
                positive = (h * embedding(target, weight, sparse=True)).sum(-1)
                negative = h @ embedding(ids, weight, sparse=True).T
            else:
                rows = embedding(torch.cat([target[:, None], ids], 1), weight, sparse=True)
                scores = (rows @ h[..., None])[..., 0]
                positive, negative = scores[:, 0], scores[:, 1:]
            slots = torch.cat([(positive - table.logq(target))[:, None], negative - logq], 1)
            (torch.logsumexp(slots, 1) - slots[:, 0]).mean().backward()

        return work

    def ours(m: int, *, shared: bool) -> Any:
        def work() -> None:
            h.grad = weight.grad = None
            sf.sampled_softmax(h, weight, target, table, m, rng=3, shared=shared).backward()

        return work

    def of_numpy(of: Any, m: int, *, shared: bool) -> Any:
        arrays = (h.detach().numpy(), weight.detach().numpy(), target.numpy())
        return lambda: of(*arrays, table, m, rng=3, shared=shared)

    for m, shared, asked in ((SHARED, True, 1.3), (OWN, False, 3)):
        shape = (m,) if shared else (batch, m)
        name = f"{batch}x{m} {'shared' if shared else 'of each query'}"
        peer = of_torch(shape)
        softmax = of_numpy(sf.sampled_softmax_and_grad, m, shared=shared)
        yield Case(f"sampled_softmax_and_grad {name}", softmax, "torch", peer, asked)
        yield Case(f"sampled_softmax, autograd {name}", ours(m, shared=shared), "torch", peer, asked)
        for of in (sf.nce_and_grad, sf.negative_sampling_and_grad):
            work = of_numpy(of, m, shared=shared)
            yield Case(f"{of.__name__} {name}", work, "sampled_softmax_and_grad", softmax, 0.5)


if __name__ == "__main__":
    main(__doc__ or "", cases)
