"""Time and memory of a piece of work, for the tables of the demo."""

from __future__ import annotations

import ctypes
import gc
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PROCESS = Path("/proc/self")  # of Linux
FORGET_PEAK = "5"


def timed(work: Callable[[], object]) -> float:
    """Return the best time of three runs, in seconds."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def peak(work: Callable[[], object]) -> float:
    """Return the most memory that a run holds beyond what was held before, in MB.

    On Linux that of the process, whoever allocates; elsewhere what Python and NumPy allocate.
    """
    gc.collect()
    try:
        give_back_freed_memory()
        (PROCESS / "clear_refs").write_text(FORGET_PEAK)
        before = resident("VmRSS")
        work()
        return max(0.0, resident("VmHWM") - before) / 1e6
    except OSError:
        pass
    tracemalloc.start()
    work()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / 1e6


def resident(line: str) -> float:
    """Return a figure of the memory of this process, in bytes."""
    for text in (PROCESS / "status").read_text().splitlines():
        if text.startswith(line + ":"):
            return 1024.0 * float(text.split()[1])
    raise OSError(f"this system does not tell {line}")


def give_back_freed_memory() -> None:
    """Have the allocator of the C library return what it keeps, where it can: reused, it would not count."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    trim(0)
