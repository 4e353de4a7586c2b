"""Measure arrays in a GPU's memory, of torch and of CuPy, beside these libraries and the entmax package.

    python benches/gpu.py [--quick] [--threads 1] [--only PATTERN] [--json FILE] [--plot FILE]

Each call waits for the GPU. What the columns mean: `measure.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import softmaxfam_rs as sf
from measure import Case, console, main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

try:
    import torch
except ModuleNotFoundError:
    torch = None
try:
    import cupy
except ModuleNotFoundError:
    cupy = None
try:
    import entmax
except ModuleNotFoundError:
    entmax = None

SHAPES = ((256, 32768), (65536, 128))


def cases(*, quick: bool) -> Iterator[Case]:
    """Yield the cases, each with inputs of its own, so that few are in memory at a time."""
    less = 50 if quick else 1
    if torch is None or not torch.cuda.is_available():
        console.print("torch finds no GPU: its cases are left out")
    else:
        for rows, classes in SHAPES:
            yield from of_torch(rows // less, classes)
    if cupy is None or not cupy.is_available():
        console.print("cupy finds no GPU: its cases are left out")
    else:
        for rows, classes in SHAPES:
            yield from of_cupy(rows // less, classes)


def of_torch(rows: int, classes: int) -> Iterator[Case]:
    """Compare with torch's own functions and, for the sparse maps, with the entmax package."""
    generator = torch.Generator("cuda").manual_seed(0)
    x, g = (torch.randn(rows, classes, generator=generator, device="cuda") for _ in range(2))
    labels = torch.randint(classes, (rows,), generator=generator, device="cuda")
    pairs: dict[str, tuple[Callable[..., Any], Callable[..., Any], str]] = {
        "softmax": (sf.softmax, lambda x: torch.softmax(x, -1), "torch"),
        "log_softmax": (sf.log_softmax, lambda x: torch.log_softmax(x, -1), "torch"),
        "logsumexp": (sf.logsumexp, lambda x: torch.logsumexp(x, -1), "torch"),
        "cross_entropy": (
            lambda x: sf.cross_entropy(x, labels),
            lambda x: torch.nn.functional.cross_entropy(x, labels),
            "torch",
        ),
    }
    if entmax is None:
        console.print("the entmax package is not installed: its cases are left out")
    else:
        pairs |= {
            "sparsemax": (sf.sparsemax, lambda x: entmax.sparsemax(x, -1), "entmax"),
            "entmax 1.5": (sf.entmax, lambda x: entmax.entmax15(x, -1), "entmax"),
            "entmax 1.3": (lambda x: sf.entmax(x, 1.3), lambda x: entmax.entmax_bisect(x, 1.3), "entmax"),
            "entmax_loss 1.5": (
                lambda x: sf.entmax_loss(x, labels),
                lambda x: entmax.entmax15_loss(x, labels).mean(),
                "entmax",
            ),
        }
    size = f"{rows}x{classes}"
    for name, (ours, peer, peer_name) in pairs.items():
        yield Case(f"{name} {size}", waiting(ours, x), peer_name, waiting(peer, x), 1.0, number=5)
        both = (step(of, x, g) for of in (ours, peer))
        yield Case(f"{name}, forward and backward {size}", next(both), peer_name, next(both), 1.0, number=5)


def waiting(function: Callable[..., Any], x: Any) -> Callable[[], None]:
    """Return a call that ends when its result is there."""

    def run() -> None:
        function(x)
        torch.cuda.synchronize()

    return run


def step(function: Callable[..., Any], x: Any, g: Any) -> Callable[[], None]:
    """Return a call of a function and of its gradient."""
    leaf = x.clone().requires_grad_()

    def run() -> None:
        result = function(leaf)
        torch.autograd.grad(result, leaf, g if result.ndim == g.ndim else g[0, 0].expand(result.shape))
        torch.cuda.synchronize()

    return run


def of_cupy(rows: int, classes: int) -> Iterator[Case]:
    """Compare with CuPy's counterparts of SciPy."""
    from cupyx.scipy import special  # noqa: PLC0415  it needs a GPU

    x = cupy.random.default_rng(0).standard_normal((rows, classes), dtype=cupy.float32)
    pairs: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
        "softmax": (sf.softmax, lambda x: special.softmax(x, axis=-1)),
        "log_softmax": (sf.log_softmax, lambda x: special.log_softmax(x, axis=-1)),
        "logsumexp": (sf.logsumexp, lambda x: special.logsumexp(x, axis=-1)),
    }

    def waits(function: Callable[..., Any]) -> Callable[[], None]:
        def run() -> None:
            function(x)
            cupy.cuda.get_current_stream().synchronize()

        return run

    for name, (ours, peer) in pairs.items():
        yield Case(f"{name} of CuPy {rows}x{classes}", waits(ours), "cupyx", waits(peer), 1.0, number=5)


if __name__ == "__main__":
    main(__doc__ or "", cases)
