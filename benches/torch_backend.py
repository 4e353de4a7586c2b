"""Measure tensors of torch beside torch, the entmax package and our own path for NumPy.

    python benches/torch_backend.py [--quick] [--threads 1,2] [--only PATTERN] [--json FILE] [--plot FILE]

What the columns mean: `measure.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

import softmaxfam_rs as sf
from measure import Case, alone, console, main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

try:
    import entmax
except ModuleNotFoundError:
    entmax = None


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def cases(*, quick: bool) -> Iterator[Case]:
    """Yield the cases, each with inputs of its own, so that few are in memory at a time."""
    less = 50 if quick else 1
    yield from latency()
    yield from beside_arrays(normal(256, 32768 // less))
    yield from both_ways(normal(256, 32768 // less))
    yield from backward(normal(256, 32768 // less))
    yield from backward(normal(65536 // less, 128))


def latency() -> Iterator[Case]:
    """Ten floats: the asked figure is in microseconds."""
    x = normal(10)
    y = x.clone().requires_grad_()
    for name, function in (("logsumexp", sf.logsumexp), ("softmax", sf.softmax), ("entmax", sf.entmax)):
        yield alone(f"{name} of ten floats", lambda f=function: f(x), "us", 1e-6, 2.5, number=20000)
        yield alone(f"{name} of ten floats, with grad", lambda f=function: f(y), "us", 1e-6, 8.0, number=10000)


def beside_arrays(x: torch.Tensor) -> Iterator[Case]:
    """Compare with the same work on arrays: a ratio of at most 1.03."""
    array, out = x.numpy(), torch.empty_like(x)
    for name, function in (("logsumexp", sf.logsumexp), ("softmax", sf.softmax), ("entmax 1.5", sf.entmax)):
        ours, peer = lambda f=function: f(x), lambda f=function: f(array)
        yield Case(f"{name} {size(x)}", ours, "our NumPy", peer, 1.03, at_most=True, rounds=15)
    for name, function in (("softmax", sf.softmax), ("entmax 1.5", sf.entmax)):
        ours, peer = lambda f=function: f(x, out=out), lambda f=function: f(array, out=out.numpy())
        yield Case(f"{name} out= {size(x)}", ours, "our NumPy", peer, 1.03, at_most=True, rounds=15)


def both_ways(x: torch.Tensor) -> Iterator[Case]:
    g = normal(*x.shape[::-1]).T.contiguous()
    softmax, peer = step(sf.softmax, x, g), step(lambda x: torch.softmax(x, -1), x, g)
    yield Case(f"softmax, forward and backward {size(x)}", softmax, "torch", peer, 1.0)
    log_softmax, peer = step(sf.log_softmax, x, g), step(lambda x: torch.log_softmax(x, -1), x, g)
    yield Case(f"log_softmax, forward and backward {size(x)}", log_softmax, "torch", peer, 1.0)
    if entmax is None:
        console.print("the entmax package is not installed: its cases are left out")
        return
    half, peer = step(sf.entmax, x, g), step(lambda x: entmax.entmax15(x, -1), x, g)
    yield Case(f"entmax 1.5, forward and backward {size(x)}", half, "entmax", peer, 50, rounds=3)
    two, peer = step(sf.sparsemax, x, g), step(lambda x: entmax.sparsemax(x, -1), x, g)
    yield Case(f"sparsemax, forward and backward {size(x)}", two, "entmax", peer, 50, rounds=3)


def backward(x: torch.Tensor) -> Iterator[Case]:
    """Compare with torch's backward of softmax, and that of sparse maps with their own forward: at most twice it."""
    g = normal(*x.shape[::-1]).T.contiguous()
    p, log_p = sf.softmax(x), sf.log_softmax(x)
    ours = lambda: sf.softmax_vjp(p, g)  # noqa: E731
    peer = lambda: torch._softmax_backward_data(g, p, -1, torch.float32)  # noqa: E731, SLF001
    yield Case(f"softmax, backward {size(x)}", ours, "torch", peer, 1.0)
    ours = lambda: sf.log_softmax_vjp(log_p, g)  # noqa: E731
    peer = lambda: torch._log_softmax_backward_data(g, log_p, -1, torch.float32)  # noqa: E731, SLF001
    yield Case(f"log_softmax, backward {size(x)}", ours, "torch", peer, 1.0)
    for alpha in (1.3, 1.5, 2.0):
        p = sf.entmax(x, alpha)
        ours, forward = lambda p=p, a=alpha: sf.entmax_vjp(p, g, a), lambda a=alpha: sf.entmax(x, a)
        yield Case(f"entmax {alpha}, backward {size(x)}", ours, "its forward", forward, 2.0, at_most=True)


def step(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, g: torch.Tensor) -> Callable[[], Any]:
    """Return a call of a function and of its gradient."""
    leaf = x.clone().requires_grad_()

    def run() -> None:
        torch.autograd.grad(function(leaf), leaf, g)

    return run


def size(x: torch.Tensor) -> str:
    return "x".join(map(str, x.shape))


if __name__ == "__main__":
    main(__doc__ or "", cases)
