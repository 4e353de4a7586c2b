"""Losses fused with a linear head, against the losses of all scores, in every library and way of differentiation."""

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

import softmaxfam_rs as sf
from backends import BACKENDS, on_each_backend
from reference import dtype_of

NAMES = ("linear_cross_entropy", "linear_entmax_loss", "linear_rankmax_loss")
RNG = np.random.default_rng(5)
H = RNG.standard_normal((2, 3, 8))
W = RNG.standard_normal((40, 8))
BIAS = RNG.standard_normal(40)
LABELS = RNG.integers(40, size=(2, 3))
CLASS_WEIGHTS = RNG.integers(0, 4, 40) / 2
WHERE = RNG.random(40) > 0.3
WHERE[LABELS] = True
OPTIONS = (
    {},
    {"reduction": "sum", "temperature": 0.5},
    {"reduction": "none", "weight": CLASS_WEIGHTS},
    {"where": WHERE, "ignore_index": int(LABELS[0, 0])},
    {"label_smoothing": 0.2},
)


def plain(name):
    return name.removeprefix("linear_")


def cases():
    for name in NAMES:
        for options in OPTIONS:
            if not ("label_smoothing" in options and "rankmax" in name):
                yield pytest.param(name, options, id="-".join([name, *options]))


def dense(gradient):
    return gradient.to_dense() if isinstance(gradient, sf.IndexedRows) else gradient


def expected(name, options, h=H, matrix=W, bias=BIAS):
    """Loss and gradients by all scores, in float64."""
    loss, g = getattr(sf, f"{plain(name)}_and_grad")(h @ matrix.T + bias, LABELS, **options)
    rows = g.reshape(-1, 40)
    return loss, g @ matrix, rows.T @ h.reshape(-1, 8), rows.sum(axis=0)


@pytest.fixture
def whole_products():
    """Products of JAX in float32, of which a GPU keeps 10 bits by default."""
    if find_spec("jax") is None:
        yield
        return
    import jax

    with jax.default_matmul_precision("highest"):
        yield


@pytest.mark.usefixtures("whole_products")
@on_each_backend
@pytest.mark.parametrize(("name", "options"), list(cases()))
def test_values_and_gradients_are_those_of_all_scores(name, options, backend):
    dtype = "float32" if "float32" in backend.dtypes else "float64"
    given = (backend.array(array.astype(dtype)) for array in (H, W))
    given = (*given, backend.array(LABELS))
    options = {key: backend.array(o) if isinstance(o, np.ndarray) else o for key, o in options.items()}
    bias = backend.array(BIAS.astype(dtype))
    loss = getattr(sf, name)(*given, bias=bias, **options)
    value, gradients = getattr(sf, f"{name}_and_grad")(*given, bias=bias, **options)
    assert isinstance(gradients, sf.LinearGradients)
    arrays = (gradients.h, gradients.bias) if backend.library == "numpy" else (loss, gradients.h, gradients.bias)
    assert all(backend.is_own(part) for part in arrays)
    plain_options = {key: np.asarray(backend.numpy(o)) if hasattr(o, "shape") else o for key, o in options.items()}
    want = expected(name, plain_options, *(array.astype(dtype).astype(float) for array in (H, W, BIAS)))
    found = (loss, gradients.h, dense(gradients.weight), gradients.bias)
    for mine, other in zip(map(backend.numpy, found), want, strict=True):
        np.testing.assert_allclose(mine, other, rtol=3e-5, atol=3e-5)
    np.testing.assert_allclose(backend.numpy(value), want[0], rtol=3e-5, atol=3e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int64"])
@pytest.mark.parametrize("name", NAMES)
def test_other_types(name, dtype):
    dtype = dtype_of(dtype)
    h, matrix = ((4 * array).astype(dtype) for array in (H, W))
    loss, gradients = getattr(sf, f"{name}_and_grad")(h, matrix, LABELS)
    kind = np.dtype(np.float64) if dtype.kind == "i" else dtype
    assert loss.dtype == gradients.h.dtype == dense(gradients.weight).dtype == kind
    want = expected(name, {}, h.astype(float), matrix.astype(float), 0.0)
    slack = 1e-12 if kind == np.float64 else 0.02
    for mine, other in zip((loss, gradients.h, dense(gradients.weight)), want[:3], strict=True):
        np.testing.assert_allclose(np.asarray(mine, float), other, rtol=slack, atol=slack)


def test_rows_of_the_gradient_are_those_of_the_support():
    _, gradients = sf.linear_entmax_loss_and_grad(H.astype(np.float32), W.astype(np.float32), LABELS)
    sparse = sf.entmax_sparse((H @ W.T).astype(np.float32))
    touched = np.union1d(sparse.indices, LABELS)
    assert isinstance(gradients.weight, sf.IndexedRows)
    assert set(gradients.weight.indices) <= set(touched)
    _, whole = sf.linear_entmax_loss_and_grad(H.astype(np.float32), W.astype(np.float32), LABELS, sparse_grad=False)
    assert (gradients.weight.to_dense() == whole.weight).all()


def test_the_same_bits_for_any_number_of_threads():
    h, matrix = RNG.standard_normal((300, 64), dtype=np.float32), RNG.standard_normal((9000, 64), dtype=np.float32)
    labels = RNG.integers(9000, size=300)
    before = sf.get_num_threads()
    try:
        for name in NAMES:
            found = []
            for threads in (1, 2, 5):
                sf.set_num_threads(threads)
                loss, gradients = getattr(sf, f"{name}_and_grad")(h / 8, matrix, labels)
                found.append((loss, gradients.h, dense(gradients.weight)))
            for other in found[1:]:
                assert all((mine == part).all() for mine, part in zip(found[0], other, strict=True))
    finally:
        sf.set_num_threads(before)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"h": H[..., :7]}, ValueError, "h has shape"),
        ({"W": W[0]}, ValueError, "W has shape"),
        ({"target": LABELS[0]}, ValueError, "target has shape"),
        ({"target": LABELS + 0.5}, TypeError, "target has dtype float64"),
        ({"target": LABELS + 40}, ValueError, r"\[0, 39\]"),
        ({"bias": BIAS[:3]}, ValueError, "bias has shape"),
        ({"where": WHERE[:3]}, ValueError, "where has shape"),
        ({"weight": -CLASS_WEIGHTS - 1}, ValueError, "weight"),
        ({"temperature": 0.0}, ValueError, "temperature"),
        ({"label_smoothing": 2.0}, ValueError, "smoothing"),
        ({"reduction": "all"}, ValueError, "reduction"),
        ({"h": H.astype(complex)}, TypeError, "complex"),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_does_not_fit_is_named(change, error, words, dtype):
    given = {"h": H.astype(dtype), "W": W.astype(dtype), "target": LABELS} | change
    positional = [given.pop(name) for name in ("h", "W", "target")]
    with pytest.raises(error, match=words):
        sf.linear_cross_entropy_and_grad(*positional, **given)


def test_sparse_gradients_are_refused_where_a_library_has_none():
    backend = next(backend for backend in BACKENDS if backend.library == "jax")
    if backend.missing:
        pytest.skip(backend.missing)
    given = map(backend.array, (H.astype(np.float32), W.astype(np.float32), LABELS))
    with pytest.raises(TypeError, match="sparse_grad"):
        sf.linear_entmax_loss_and_grad(*given, sparse_grad=True)


MEMORY = """
import numpy as np, softmaxfam_rs as sf
def most():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
rng = np.random.default_rng(0)
h, W = rng.standard_normal((256, 32), dtype=np.float32), rng.standard_normal((131072, 32), dtype=np.float32)
target = rng.integers(131072, size=256)
sf.linear_cross_entropy_and_grad(h[:1], W[:9], target[:1] % 9)
before = most()
loss, gradients = sf.linear_cross_entropy_and_grad(h, W, target)
print((most() - before) / 1024 - W.nbytes / 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the high-water mark of memory from /proc")
def test_memory_is_that_of_a_block_of_queries():
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 64  # MiB; all scores and their gradient are 256
