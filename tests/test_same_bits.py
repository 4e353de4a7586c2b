"""The same bits for any instruction set, number of threads, batch and position in it."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

import softmaxfam_rs as sf

SCRIPT = """
import hashlib, numpy as np, softmaxfam_rs as sf
rng = np.random.default_rng(3)
digest = hashlib.sha256()
for shape, axis in (((40, 9), 1), ((300, 1000), 1), ((1000, 70), 0), ((2, 600_000), 1)):
    for dtype in ("f2", "f4", "f8"):
        x = rng.standard_normal(shape).astype(dtype)
        for scale in (1, 20):
            y = (x * x.dtype.type(scale))
            results = [sf.logsumexp(y, axis=axis), sf.softmax(y, axis=axis)]
            results += [sf.log_softmax(y, axis=axis, temperature=0.7), *sf.top_log_probs(y, 5, axis=axis)]
            results += [sf.entmax(y, alpha, axis=axis) for alpha in (1.3, 1.5, 2.0, 3.0)]
            results += [sf.normmax(y, axis=axis), sf.budget_sparsemax(y, 2.5, axis=axis)]
            n = y.shape[axis]
            labels = np.arange(y.size // n) % n
            for alpha in (1.0, 1.5, 2.0, 3.0):
                results += sf.entmax_loss_and_grad(y, labels, alpha, axis=axis)
            results += sf.cross_entropy_and_grad(y, labels, axis=axis, label_smoothing=0.1)
            results += sf.normmax_loss_and_grad(y, labels, axis=axis)
            results += sf.rankmax_loss_and_grad(y, labels, axis=axis)
            for result in results:
                digest.update(np.ascontiguousarray(result).tobytes())
weight, h = rng.standard_normal((9000, 70), dtype="f4"), rng.standard_normal((9, 70), dtype="f4")
for dtype in ("float32", "float16", "bfloat16", "int8"):
    head = sf.LinearHead(weight, dtype=dtype)
    for count in (1, 3, 9):
        results = [*head.score(h[:count], 5)[:3], *head.entmax(h[:count])[:3], *head.sample(h[:count], 3, rng=1)]
        for result in results:
            digest.update(np.ascontiguousarray(result).tobytes())
print(digest.hexdigest())
"""


def digest(**environment):
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return run.stdout


def test_instruction_sets_and_threads():
    expected = digest(SOFTMAXFAM_NUM_THREADS="1")
    for isa in sf.show_config()["isa_available"]:
        assert digest(SOFTMAXFAM_ISA=isa, SOFTMAXFAM_NUM_THREADS="2") == expected, isa
    assert digest(SOFTMAXFAM_NUM_THREADS="3") == expected


@pytest.mark.parametrize("n", [5, 100, 3000])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_row_does_not_see_its_batch(n, axis, rng):
    x = (3 * rng.standard_normal((n, 150) if axis == 0 else (150, n))).astype(np.float32)
    for of in (sf.logsumexp, sf.softmax, sf.entmax, sf.sparsemax):
        whole = np.moveaxis(of(x, axis=axis), axis, -1) if of is not sf.logsumexp else of(x, axis=axis)
        for first, last in ((0, 1), (3, 20), (77, 150), (149, 150)):
            part = x[:, first:last] if axis == 0 else x[first:last]
            got = np.moveaxis(of(part, axis=axis), axis, -1) if of is not sf.logsumexp else of(part, axis=axis)
            assert (
                hashlib.sha256(np.ascontiguousarray(got)).digest()
                == hashlib.sha256(np.ascontiguousarray(whole[first:last])).digest()
            ), of
