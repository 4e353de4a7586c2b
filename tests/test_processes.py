"""Threads, forks, signals, memory: what a long-lived process needs."""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import softmaxfam_rs as sf


def forked(queue, x):
    queue.put(float(sf.logsumexp(x).sum()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_after_threads_were_used():
    x = np.random.default_rng(0).standard_normal((64, 50_000)).astype(np.float32)
    before = sf.get_num_threads()
    sf.set_num_threads(2)
    expected = float(sf.logsumexp(x).sum())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=forked, args=(queue, x))
    child.start()
    assert queue.get(timeout=30) == expected
    child.join()
    sf.set_num_threads(before)


def test_the_gil_is_released():
    x = np.random.default_rng(0).standard_normal((200, 100_000)).astype(np.float32)
    done = threading.Event()
    thread = threading.Thread(target=lambda: (sf.entmax(0.01 * x, 1.3), done.set()))
    thread.start()
    turns = 0
    while not done.is_set():
        turns += 1
        time.sleep(0.001)
    thread.join()
    assert turns > 20


INTERRUPTED = """
import numpy as np, softmaxfam_rs as sf, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
x = 0.001 * np.random.default_rng(0).standard_normal((4000, 32768)).astype(np.float32)
out = np.empty_like(x)
print("ready", flush=True)
try:
    sf.entmax(x, 1.3, out=out)
    print("finished", flush=True)
except KeyboardInterrupt:
    print(time.time(), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals go otherwise on Windows")
@pytest.mark.parametrize("threads", ["1", "2"])
def test_ctrl_c_is_honoured_soon(threads):
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"SOFTMAXFAM_NUM_THREADS": threads},
    ) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        pressed = time.time()
        process.send_signal(signal.SIGINT)
        answer = process.stdout.readline()
    assert answer != "finished\n"
    assert float(answer) - pressed < 1.0  # about 0.1 s on a quiet machine


@pytest.mark.parametrize("of", [sf.logsumexp, sf.softmax, sf.sparsemax, sf.entmax])
def test_no_memory_that_grows_with_the_input(of):
    x = np.random.default_rng(0).standard_normal((1500, 30_000), dtype=np.float32)  # 180 MB
    out = np.empty(1500, np.float32) if of is sf.logsumexp else np.empty_like(x)
    out.fill(0)
    of(x[:10], out=out[:10])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    of(x, out=out)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 10_000  # KB


def test_the_environment_sets_threads():
    code = "import softmaxfam_rs as sf; print(sf.get_num_threads())"
    for given in ("1", "5"):
        environment = os.environ | {"SOFTMAXFAM_NUM_THREADS": given}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert run.stdout.strip() == given
