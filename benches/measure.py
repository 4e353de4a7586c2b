"""Cases of ours beside a peer's: timed in one process, interleaved; medians, ratios, and each bound beside its figure.

A ratio is the peer's median time over ours; where the asked figure says "<=", it is ours over the peer's, or over a
unit of time.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

import softmaxfam_rs as sf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

try:
    import torch
except ModuleNotFoundError:
    torch = None

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
    warm: float = WARM_SECONDS
    per: float | None = None  # seconds that the asked figure counts in; there is no peer then
    seconds: dict[str, float] = field(default_factory=dict)
    ratio: float = 0.0
    threads: int = 0

    def run(self, *, quick: bool) -> None:
        times: dict[str, list[float]] = {"ours": [], "peer": []}
        for _ in range(1 if quick else self.rounds):
            for who, work in (("ours", self.ours), ("peer", self.peer)):
                warm = time.perf_counter() + (0 if quick else self.warm)
                while time.perf_counter() < warm:
                    work()
                start = time.perf_counter()
                for _ in range(self.number):
                    work()
                times[who].append((time.perf_counter() - start) / self.number)
        self.seconds = {who: statistics.median(values) for who, values in times.items()}
        ours, peer = self.seconds["ours"], self.seconds["peer"]
        self.ratio = ours / peer if self.at_most else peer / ours
        if self.per is not None:
            self.ratio = ours / self.per

    @property
    def holds(self) -> bool:
        return self.ratio <= self.asked if self.at_most else self.ratio >= self.asked


def nothing() -> None:
    """Be the peer of a case that has none."""


def alone(name: str, ours: Callable[[], Any], unit: str, per: float, asked: float, **options: Any) -> Case:
    """Return a case that is measured in a unit of time."""
    return Case(name, ours, unit, nothing, asked, at_most=True, per=per, **options)


def main(doc: str, cases: Callable[..., Iterable[Case]], report: Callable[[], None] = nothing) -> None:
    """Run the cases that the command line asks for, on each number of threads."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
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
            done.append(case)
            sign = "<=" if case.at_most else ">="
            ours, peer = (f"{1e3 * case.seconds[who]:.3f}" for who in ("ours", "peer"))
            mark = "" if options.quick else "ok" if case.holds else "MISSED"
            table.add_row(case.name, ours, case.peer_name, peer, f"{case.ratio:.2f}", f"{sign} {case.asked:g}", mark)
        console.print(table)
    if not options.only:
        report()
    if options.json:
        options.json.write_text(json.dumps([record(case) for case in done], indent=1))
    if options.plot:
        plot(done, options.plot)


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
