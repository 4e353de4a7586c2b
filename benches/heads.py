"""Measure the linear head beside torch's and NumPy's way: in one process, interleaved, each bound beside its figure.

    python benches/heads.py [--quick] [--threads 1,2] [--only PATTERN] [--json FILE] [--plot FILE]

The peers: torch `h @ W.T`, `logsumexp` and `topk(10)`; NumPy's matmul alone, in chunks of 4,096 classes; for one query
torch's `max` over the matrix, which reads it once; for many the rate of a matmul of 2048 x 2048 x 2048 by NumPy, near
the peak of the multipliers. What the columns mean: `measure.py`. Needs 2 GB of memory.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import softmaxfam_rs as sf
from measure import Case, alone, console, main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

try:
    import torch
except ModuleNotFoundError:
    torch = None
try:
    from threadpoolctl import threadpool_limits
except ModuleNotFoundError:
    threadpool_limits = None

CHUNK = 4096
BLAS_WARM_SECONDS = 0.15  # so long the workers of OpenBLAS spin after a call, on the cores of the next
SHAPES = (  # queries, classes, width; asked against torch, and against NumPy's matmul alone
    (1, 1_000_000, 128, 3.0, 1.1),
    (1, 131_072, 768, 1.8, 1.0),
    (4, 131_072, 768, 2.5, 1.6),
    (16, 131_072, 768, 2.2, 1.3),
    (64, 131_072, 256, 2.5, 1.2),
    (256, 32_768, 512, 2.0, 1.15),
    (32, 1_000_000, 64, 4.0, 1.3),
    (128, 250_000, 256, 2.5, 1.15),
)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def by_torch(h: np.ndarray, weight: np.ndarray) -> Callable[[], object]:
    queries, matrix = torch.from_numpy(h), torch.from_numpy(weight)

    def score() -> object:
        logits = queries @ matrix.T
        return torch.logsumexp(logits, 1), torch.topk(logits, 10)

    return score


def by_numpy(h: np.ndarray, weight: np.ndarray) -> Callable[[], None]:
    tile = np.empty((len(h), CHUNK), dtype=np.float32)

    def multiply() -> None:
        for start in range(0, len(weight), CHUNK):
            rows = weight[start : start + CHUNK]
            np.matmul(h, rows.T, out=tile[:, : len(rows)])

    return multiply


def cases(*, quick: bool) -> Iterator[Case]:
    """Yield the cases, each with inputs of its own."""
    less = 50 if quick else 1
    if threadpool_limits is not None:
        threadpool_limits(sf.get_num_threads(), user_api="blas")
    rate = 0.0 if quick else multiplications_a_second()
    for queries, classes, width, of_torch, of_numpy in SHAPES:
        h, weight = normal(queries, width), normal(classes // less, width)
        head = sf.LinearHead(weight)
        name = f"score {queries}x{classes // less}x{width}"
        ours = lambda head=head, h=h: head.score(h)  # noqa: E731
        if torch is not None:
            yield Case(name, ours, "torch matmul, lse, topk", by_torch(h, weight), of_torch, rounds=5)
        yield Case(name, ours, "NumPy matmul alone", by_numpy(h, weight), of_numpy, rounds=5, warm=BLAS_WARM_SECONDS)
        if queries == 1 and torch is not None:
            matrix = torch.from_numpy(weight)
            yield Case(name, ours, "reading W (torch max)", lambda t=matrix: t.amax(), 0.85)
            for dtype, asked in (("bfloat16", 1.7), ("int8", 3.0)):
                low = sf.LinearHead(weight, dtype=dtype)
                yield Case(f"{name} {dtype}", lambda low=low, h=h: low.score(h), "float32", ours, asked)
        elif queries >= 16 and not quick:
            work = queries * classes * width
            yield alone(f"{name} in a large matmul's time", ours, "x", work / rate, 1 / 0.75, rounds=5)


def multiplications_a_second() -> float:
    """Return the rate of a large matmul, median of a few."""
    a, b = normal(2048, 2048), normal(2048, 2048)
    out = np.empty_like(a)
    times = []
    for _ in range(7):
        start = time.perf_counter()
        np.matmul(a, b, out=out)
        times.append(time.perf_counter() - start)
    return 2048**3 / statistics.median(times)


GROWTH = """
import re, numpy as np, softmaxfam_rs as sf
from pathlib import Path
def most():  # getrusage would count the parent's memory too
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
rng = np.random.default_rng(0)
h, weight = rng.standard_normal((512, 64), dtype="f4"), rng.standard_normal((1_000_000, 64), dtype="f4")
head = sf.LinearHead(weight)
before = most()
head.score(h)
print((most() - before) / 1024)
"""


def growth() -> float:
    """Return by how many MiB a process grows at most when it scores 512 queries by a million classes."""
    run = subprocess.run([sys.executable, "-c", GROWTH], check=True, capture_output=True, text=True)  # noqa: S603
    return float(run.stdout)


def milliseconds_to_open(folder: Path) -> float:
    """Return the time of opening a file of 4 GiB, whose pages are holes, for the first time in a process."""
    classes, width = 1 << 23, 128
    with (folder / "weight.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (classes, width)})
        file.truncate(file.tell() + 4 * classes * width)
    code = f"import time, softmaxfam_rs as sf; s = time.perf_counter(); sf.LinearHead.open({str(file.name)!r})"
    code += "; print(1e3 * (time.perf_counter() - s))"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)  # noqa: S603
    return float(run.stdout)


def report_memory_and_opening() -> None:
    with tempfile.TemporaryDirectory() as folder:
        console.print(f"opening a file of 4 GiB: {milliseconds_to_open(Path(folder)):.1f} ms (asked <= 50)")
    if sys.platform == "linux":
        console.print(f"memory beside the inputs, 512x1000000x64: {growth():.1f} MiB (asked <= 64)")


if __name__ == "__main__":
    main(__doc__ or "", cases, report_memory_and_opening)
