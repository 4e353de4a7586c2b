"""Measure losses fused with a linear layer, forward and backward, beside torch's layer and loss.

    python benches/linear.py [--quick] [--threads 1,2] [--only PATTERN] [--json FILE] [--plot FILE]

1024 queries of width 256 and 131072 classes, float32: the gradients of both. The peer is torch's `linear` and
`cross_entropy`, with its logits and their gradient: 1 GiB. What the columns mean: `measure.py`. Needs 3 GB of memory.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import torch

from measure import Case, console, main
from softmaxfam_rs.torch import LinearCrossEntropyLoss, LinearEntmaxLoss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def layer_and_queries(*, quick: bool) -> tuple[torch.nn.Linear, torch.Tensor, torch.Tensor]:
    """Return a layer, queries and targets; the scores have a deviation of 0.8."""
    generator = torch.Generator().manual_seed(0)
    less = 16 if quick else 1
    layer = torch.nn.Linear(256, 131072 // less, bias=False)
    with torch.no_grad():
        layer.weight.normal_(0, 0.05, generator=generator)
    h = torch.randn(1024 // less, 256, generator=generator)
    return layer, h, torch.randint(layer.out_features, (len(h),), generator=generator)


def step(loss: Callable[[torch.Tensor], torch.Tensor], layer: torch.nn.Linear, h: torch.Tensor) -> Callable[[], Any]:
    """Return a call that computes a loss and the gradients of queries and layer."""

    def work() -> None:
        h.grad = layer.weight.grad = None
        loss(h.requires_grad_()).backward()

    return work


def cases(*, quick: bool) -> Iterator[Case]:
    layer, h, target = layer_and_queries(quick=quick)
    plain = step(lambda h: torch.nn.functional.cross_entropy(layer(h), target), layer, h)
    size = f"{len(h)}x{layer.out_features}x{layer.in_features}"
    for module, asked in (
        (LinearCrossEntropyLoss(layer), 0.9),
        (LinearEntmaxLoss(layer), 0.5),
        (LinearEntmaxLoss(layer, sparse=True), 0.5),
    ):
        ours = step(lambda h, module=module: module(h, target), layer, h)
        sparse = ", sparse gradient" if getattr(module, "sparse", False) else ""
        name = f"{type(module).__name__}{sparse} {size}"
        yield Case(name, ours, "torch, cross entropy", plain, asked, at_most=True, rounds=5, warm=0)


GROWTH = """
import re, sys, numpy as np, softmaxfam_rs as sf
from pathlib import Path
def most():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
rng = np.random.default_rng(0)
h, weight = rng.standard_normal((1024, 256), dtype="f4"), rng.standard_normal((131072, 256), dtype="f4")
target = rng.integers(131072, size=1024)
sf.linear_cross_entropy_and_grad(h[:2], weight[:9], target[:2] % 9)
before = most()
loss, gradients = sf.linear_cross_entropy_and_grad(h, weight, target)
print((most() - before) / 1024 - (gradients.h.nbytes + gradients.weight.nbytes) / 2**20)
"""


def report_memory() -> None:
    if sys.platform == "linux":
        run = subprocess.run([sys.executable, "-c", GROWTH], check=True, capture_output=True, text=True)  # noqa: S603
        console.print(f"memory beside inputs and gradients: {float(run.stdout):.1f} MiB (asked <= 64)")


if __name__ == "__main__":
    main(__doc__ or "", cases, report_memory)
