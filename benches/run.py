"""Measure the package beside its peers: in one process, interleaved, medians and ratios, each bound beside its figure.

    python benches/run.py [--quick] [--threads 1,2] [--only PATTERN] [--json FILE] [--plot FILE]

A ratio is the peer's median time over ours; where the asked figure says "<=", it is ours over the peer's.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

import softmaxfam_rs as sf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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

console = Console(width=150)


# calls go on for so long before one is timed: the workers of the peer before (OpenMP's, which torch uses) spin for some
# milliseconds after its calls, on the cores of the next, and workers that wake from a longer sleep share one at first
WARM_SECONDS = 0.03


@dataclass
class Case:
    """One call of ours beside one of a peer's."""

    name: str
    ours: Callable[[], Any]
    peer_name: str
    peer: Callable[[], Any]
    asked: float
    at_most: bool = False  # the asked figure bounds our time over the peer's
    number: int = 1  # calls in one timing
    rounds: int = 7
    seconds: dict[str, float] = field(default_factory=dict)
    ratio: float = 0.0
    threads: int = 0

    def run(self, *, quick: bool) -> None:
        times: dict[str, list[float]] = {"ours": [], "peer": []}
        for _ in range(1 if quick else self.rounds):
            for who, work in (("ours", self.ours), ("peer", self.peer)):
                warm = time.perf_counter() + (0 if quick else WARM_SECONDS)
                while time.perf_counter() < warm:
                    work()
                start = time.perf_counter()
                for _ in range(self.number):
                    work()
                times[who].append((time.perf_counter() - start) / self.number)
        self.seconds = {who: statistics.median(values) for who, values in times.items()}
        ours, peer = self.seconds["ours"], self.seconds["peer"]
        self.ratio = ours / peer if self.at_most else peer / ours

    @property
    def holds(self) -> bool:
        return self.ratio <= self.asked if self.at_most else self.ratio >= self.asked


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


MICROSECOND = 1e-6


def latency() -> Iterator[Case]:
    """Ten floats: the peer is np.max; the asked figure is in microseconds, so it stands against a microsecond."""
    x = normal(10)

    def pause() -> None:
        end = time.perf_counter() + MICROSECOND
        while time.perf_counter() < end:
            pass

    for name, work in (
        ("logsumexp", lambda: sf.logsumexp(x)),
        ("softmax", lambda: sf.softmax(x)),
        ("entmax", lambda: sf.entmax(x)),
    ):
        case = Case(f"{name} of ten floats, us", work, "1 us", pause, 1.3, at_most=True, number=20000)
        case.peer = lambda: None
        yield case


def import_milliseconds(module: str) -> float:
    code = f"import time; s = time.perf_counter(); import {module}; print(1e3 * (time.perf_counter() - s))"
    runs = [subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True) for _ in range(5)]  # noqa: S603
    return statistics.median(float(run.stdout) for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="small inputs, one round: a test of the benches themselves"
    )
    parser.add_argument("--threads", default="1,2", help="thread counts, for ours and torch alike")
    parser.add_argument("--only", default="", help="a regular expression on the names of cases")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    parser.add_argument("--plot", type=Path, help="draw the ratios to a file")
    options = parser.parse_args()
    done = []
    for threads in (1,) if options.quick else [int(n) for n in options.threads.split(",")]:
        sf.set_num_threads(threads)
        if torch is not None:
            torch.set_num_threads(threads)
        table = Table(title=f"{threads} thread(s); {sf.show_config()['isa']}")
        for column in ("case", "ours ms", "peer", "peer ms", "ratio", "asked", ""):
            table.add_column(column, justify="left" if column in {"case", "peer"} else "right")
        for case in cases(quick=options.quick):
            if not re.search(options.only, case.name):
                continue
            case.threads = threads
            case.run(quick=options.quick)
            if "us" in case.name.split()[-1:]:
                case.ratio = case.seconds["ours"] / MICROSECOND
            done.append(case)
            sign = "<=" if case.at_most else ">="
            ours, peer = (f"{1e3 * case.seconds[who]:.3f}" for who in ("ours", "peer"))
            mark = "" if options.quick else "ok" if case.holds else "MISSED"
            table.add_row(case.name, ours, case.peer_name, peer, f"{case.ratio:.2f}", f"{sign} {case.asked:g}", mark)
        console.print(table)
    if not options.only:
        report_size_and_import()
    if options.json:
        options.json.write_text(json.dumps([record(case) for case in done], indent=1))
    if options.plot:
        plot(done, options.plot)


def report_size_and_import() -> None:
    extra = import_milliseconds("numpy, softmaxfam_rs") - import_milliseconds("numpy")
    console.print(f"import beyond NumPy's own: {extra:.1f} ms (asked <= 30)")
    for wheel in Path("dist").glob("*.whl"):
        console.print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB (asked <= 3)")


def record(case: Case) -> dict[str, Any]:
    names = ("name", "threads", "peer_name", "asked", "at_most", "seconds", "ratio", "holds")
    return {name: getattr(case, name) for name in names}


def plot(done: list[Case], path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415  optional

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    faster = [case for case in done if not case.at_most]
    figure, axes = plt.subplots(figsize=(9, 0.3 * len(faster) + 1), layout="constrained")
    labels = [f"{case.name} / {case.peer_name}, {case.threads}t" for case in faster]
    axes.barh(labels, [case.ratio for case in faster])
    axes.plot([case.asked for case in faster], labels, "k|", markersize=10, label="asked")
    axes.set(xscale="log", xlabel="times as fast as the peer")
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
