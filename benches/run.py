"""Measure the package beside its peers: in one process, interleaved, medians and ratios, each bound beside its figure.

    python benches/run.py [--quick] [--threads 1,2] [--only PATTERN] [--json FILE] [--plot FILE]

What the columns mean: `measure.py`. The samplers have a script of their own: `samplers.py`.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path
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
try:
    import entmax
except ModuleNotFoundError:
    entmax = None
try:
    from scipy import special
except ModuleNotFoundError:
    special = None


def normal(*shape: int, scale: float = 1.0, dtype: str = "f4") -> np.ndarray:
    return (scale * np.random.default_rng(0).standard_normal(shape, dtype=np.float32)).astype(dtype)


def cases(*, quick: bool) -> Iterator[Case]:
    """Yield the cases, each with inputs of its own, so that few are in memory at a time."""
    less = 50 if quick else 1
    if torch is None:
        console.print("torch is not installed: its cases are left out")
    else:
        yield from exponential(less)
        yield from short_rows(less)
        yield from top_k(less)
    if torch is None or entmax is None:
        console.print("the entmax package is not installed: its cases are left out")
    else:
        yield from projections(less)
    yield from latency()


def exponential(less: int) -> Iterator[Case]:
    for rows, classes, of_max in ((16, 4_000_000 // less, 0.9), (64, 131072 // less, 0.65)):
        x = normal(rows, classes)
        t = torch.from_numpy(x)
        name = f"logsumexp f32 {rows}x{classes}"
        yield Case(name, lambda x=x: sf.logsumexp(x), "torch max", lambda t=t: t.amax(1), of_max)
        if rows == 64:
            yield Case(name, lambda x=x: sf.logsumexp(x), "torch", lambda t=t: torch.logsumexp(t, 1), 10)
            if special is not None:
                yield Case(
                    name, lambda x=x: sf.logsumexp(x), "SciPy", lambda x=x: special.logsumexp(x, axis=1), 20, rounds=3
                )
            for dtype, asked in (("f8", 3), ("f2", 10)):
                y = x.astype(dtype)
                u = torch.from_numpy(y)
                name = f"logsumexp {dtype} {rows}x{classes}"
                yield Case(name, lambda y=y: sf.logsumexp(y), "torch", lambda u=u: torch.logsumexp(u, 1), asked)
        out = np.empty_like(x)
        u = torch.from_numpy(out)
        name = f"softmax out= f32 {rows}x{classes}"
        yield Case(
            name, lambda x=x, o=out: sf.softmax(x, out=o), "torch out=", lambda t=t, u=u: torch.softmax(t, 1, out=u), 2
        )
        yield Case(
            name, lambda x=x, o=out: sf.softmax(x, out=o), "copy", lambda t=t, u=u: u.copy_(t), 2.0, at_most=True
        )


def short_rows(less: int) -> Iterator[Case]:
    for rows, classes in ((65536 // less, 128), (4096 // less, 1000), (262144 // less, 10)):
        x = normal(rows, classes)
        t, out = torch.from_numpy(x), np.empty_like(x)
        u = torch.from_numpy(out)
        size = f"{rows}x{classes}"
        yield Case(f"logsumexp {size}", lambda x=x: sf.logsumexp(x), "torch", lambda t=t: torch.logsumexp(t, 1), 5)
        ours = lambda x=x, o=out: sf.softmax(x, out=o)  # noqa: E731
        yield Case(f"softmax {size}", ours, "torch", lambda t=t, u=u: torch.softmax(t, 1, out=u), 1.3)
        if entmax is not None:
            ours = lambda x=x, o=out: sf.entmax(x, out=o)  # noqa: E731
            yield Case(f"entmax 1.5 {size}", ours, "entmax", lambda t=t: entmax.entmax15(t, 1), 15, rounds=3)
    x = normal(131072 // less, 64)
    t, out = torch.from_numpy(x), np.empty_like(x)
    u = torch.from_numpy(out)
    yield Case(
        "logsumexp axis=0 131072x64", lambda: sf.logsumexp(x, axis=0), "torch", lambda: torch.logsumexp(t, 0), 1.2
    )
    ours = lambda: sf.softmax(x, axis=0, out=out)  # noqa: E731
    yield Case("softmax axis=0 131072x64", ours, "torch", lambda: torch.softmax(t, 0, out=u), 1.2)


def top_k(less: int) -> Iterator[Case]:
    x = normal(64, 250_000 // less)
    t = torch.from_numpy(x)
    ours = lambda: sf.top_log_probs(x, 10)  # noqa: E731
    yield Case("top_log_probs k=10 64x250000", ours, "torch max", lambda: t.amax(1), 2.0, at_most=True)
    peer = lambda: torch.topk(torch.log_softmax(t, 1), 10)  # noqa: E731
    yield Case("top_log_probs k=10 64x250000", ours, "torch log_softmax+topk", peer, 10, rounds=3)


def projections(less: int) -> Iterator[Case]:
    x = normal(256, 32768 // less)
    t, out = torch.from_numpy(x), np.empty_like(x)
    size = "256x32768"
    dense = lambda: sf.sparsemax(x, out=out)  # noqa: E731
    yield Case(f"sparsemax {size}", dense, "entmax sort", lambda: entmax.sparsemax(t, 1), 100, rounds=3)
    yield Case(f"sparsemax {size}", dense, "entmax k=512", lambda: entmax.sparsemax(t, 1, k=512), 20, rounds=3)
    peak = lambda: t.amax(1)  # noqa: E731
    yield Case(f"entmax_threshold 2 {size}", lambda: sf.entmax_threshold(x, 2.0), "torch max", peak, 2.0, at_most=True)
    yield Case(f"entmax_sparse 2 {size}", lambda: sf.entmax_sparse(x, 2.0), "torch max", peak, 2.2, at_most=True)
    yield Case(
        f"entmax_threshold 1.5 {size}", lambda: sf.entmax_threshold(x, 1.5), "torch max", peak, 2.0, at_most=True
    )
    yield Case(f"entmax_sparse 1.5 {size}", lambda: sf.entmax_sparse(x, 1.5), "torch max", peak, 2.2, at_most=True)
    half = lambda: sf.entmax(x, 1.5, out=out)  # noqa: E731
    yield Case(f"entmax 1.5 {size}", half, "entmax sort", lambda: entmax.entmax15(t, 1), 100, rounds=3)
    third = lambda: sf.entmax(x, 1.3, out=out)  # noqa: E731
    bisect = lambda t: lambda: entmax.entmax_bisect(t, 1.3, 1)  # noqa: E731
    yield Case(f"entmax 1.3 {size}", third, "entmax_bisect", bisect(t), 300, rounds=1)
    flat = x * np.float32(0.01)
    f = torch.from_numpy(flat)
    yield Case(
        f"sparsemax flat {size}",
        lambda: sf.sparsemax(flat, out=out),
        "entmax sort",
        lambda: entmax.sparsemax(f, 1),
        30,
        rounds=3,
    )
    yield Case(
        f"entmax 1.5 flat {size}",
        lambda: sf.entmax(flat, out=out),
        "entmax sort",
        lambda: entmax.entmax15(f, 1),
        30,
        rounds=3,
    )
    flatter = x * np.float32(1e-5)
    f2 = torch.from_numpy(flatter)
    yield Case(
        f"entmax 1.3 flat {size}", lambda: sf.entmax(flatter, 1.3, out=out), "entmax_bisect", bisect(f2), 20, rounds=1
    )


def latency() -> Iterator[Case]:
    """Ten floats: the asked figure is in microseconds."""
    x = normal(10)
    for name, work in (
        ("logsumexp", lambda: sf.logsumexp(x)),
        ("softmax", lambda: sf.softmax(x)),
        ("entmax", lambda: sf.entmax(x)),
    ):
        yield alone(f"{name} of ten floats", work, "us", 1e-6, 1.3, number=20000)


def import_milliseconds(module: str) -> float:
    code = f"import time; s = time.perf_counter(); import {module}; print(1e3 * (time.perf_counter() - s))"
    runs = [subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True) for _ in range(5)]  # noqa: S603
    return statistics.median(float(run.stdout) for run in runs)


def report_size_and_import() -> None:
    extra = import_milliseconds("numpy, softmaxfam_rs") - import_milliseconds("numpy")
    console.print(f"import beyond NumPy's own: {extra:.1f} ms (asked <= 30)")
    for wheel in Path("dist").glob("*.whl"):
        console.print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB (asked <= 3)")


if __name__ == "__main__":
    main(__doc__ or "", cases, report_size_and_import)
