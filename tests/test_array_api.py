"""The generic path keeps to the array-API standard: array-api-strict, with every flag, on every device of it."""

import numpy as np
import pytest

import softmaxfam_rs as sf
from test_backends import CASES, assert_near

xp = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
FLAGS = {
    "no data-dependent shapes": {"data_dependent_shapes": False},
    "no boolean indexing": {"boolean_indexing": False},
    "no extensions": {"enabled_extensions": ()},
    "the oldest standard": {"api_version": "2024.12"},
    "all": {
        "data_dependent_shapes": False,
        "boolean_indexing": False,
        "enabled_extensions": (),
        "api_version": "2024.12",
    },
}
x = np.arange(12.0).reshape(3, 4)


@pytest.fixture
def with_flags():
    yield xp.set_array_api_strict_flags
    xp.reset_array_api_strict_flags()


def on_host(result):
    return tuple(map(on_host, result)) if isinstance(result, tuple) else np.asarray(result)


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("function", [name for name in CASES if name != "entmax_sparse"])
def test_flags(function, flags, with_flags):
    with_flags(**FLAGS[flags])
    for name, case in CASES[function].items():
        got = case(xp.asarray)
        try:
            assert_near(on_host(got), case(np.asarray), 32)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


@pytest.mark.parametrize("function", CASES)
def test_results_are_on_the_device_of_the_scores(function):
    device = xp.Device("device1")
    for case in CASES[function].values():
        result = case(lambda values: xp.asarray(values, device=device))
        parts = result if isinstance(result, tuple) else (result,)
        assert {part.device for part in parts if not isinstance(part, tuple)} == {device}


@pytest.mark.parametrize(
    ("call", "moved"),
    [
        (lambda here, there: sf.softmax(here, where=there > 0), "where"),
        (lambda here, there: sf.entmax(here, there[:, :1] + 1), "alpha"),
        (lambda here, there: sf.logsumexp(here, temperature=there[:, :1] + 1), "temperature"),
        (lambda here, there: sf.sparsemax(here, out=there), "out"),
        (sf.softmax_vjp, "g"),
    ],
)
def test_two_devices_are_refused(call, moved):
    with pytest.raises(
        ValueError, match=rf"is on .*CPU_DEVICE.*, {moved} is on .*device1.*; move {moved} to "
    ) as caught:
        call(xp.asarray(x), xp.asarray(x, device=xp.Device("device1")))
    assert "must be on one device" in str(caught.value)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda a: sf.softmax(xp.astype(a, xp.complex128)), TypeError, ["complex128", "float32", "astype"]),
        (lambda a: sf.softmax(a, axis=2), ValueError, ["axis is 2", "[-2, 1]", "(3, 4)"]),
        (lambda a: sf.softmax(a, axis=(0, 0)), ValueError, ["axis 0 twice"]),
        (lambda a: sf.softmax(a, axis=1.5), TypeError, ["1.5", "tuple of ints or None"]),
        (lambda a: sf.entmax(a, axis=(0, 1)), TypeError, ["(0, 1)", "must be an int"]),
        (lambda a: sf.entmax(a, axis=None), TypeError, ["None", "must be an int"]),
        (lambda a: sf.softmax(a, temperature=0), ValueError, ["temperature is 0", "argmax"]),
        (lambda a: sf.softmax(a, temperature=xp.asarray([[1.0], [np.nan], [1.0]])), ValueError, ["temperature is NaN"]),
        (lambda a: sf.softmax(a, temperature=xp.ones((2, 1))), ValueError, ["temperature", "(2, 1)", "(3, 1)"]),
        (lambda a: sf.softmax(a, where=xp.ones(3, dtype=xp.bool)), ValueError, ["where", "(3,)", "(3, 4)"]),
        (lambda a: sf.softmax(a, where=a), TypeError, ["where", "float64", "bool"]),
        (lambda a: sf.entmax(a, -1), ValueError, ["alpha is -1"]),
        (lambda a: sf.entmax(a, xp.asarray([[1.5], [-2.0], [1.0]])), ValueError, ["alpha is -2"]),
        (lambda a: sf.normmax(a, 1), ValueError, ["alpha is 1", "> 1"]),
        (lambda a: sf.budget_sparsemax(a, 5), ValueError, ["budget is 5", "[0, 4]"]),
        (lambda a: sf.budget_sparsemax(a, 2, where=a == 0), ValueError, ["budget is 2", "[0, 1]"]),
        (lambda a: sf.top_log_probs(a, 5), ValueError, ["k is 5", "[1, 4]"]),
        (lambda a: sf.top_log_probs(a, 1.5), TypeError, ["float"]),
        (lambda a: sf.entmax_sparse(a * 0, max_support=3), ValueError, ["row 0", "4 classes", "allows 3"]),
        (lambda a: sf.softmax_vjp(a, xp.astype(a, xp.float32)), TypeError, ["g has dtype float32", "float64"]),
        (lambda a: sf.softmax_vjp(a, a[:, :3]), ValueError, ["g has shape (3, 3)"]),
        (lambda a: sf.logsumexp_vjp(a, a[:, 0], a[:2, 0]), ValueError, ["g has shape (2,)", "(3,)"]),
        (lambda a: sf.softmax(a, out=a[:2, :]), ValueError, ["out has shape (2, 4)", "(3, 4)"]),
        (lambda a: sf.softmax(a, out=xp.astype(a, xp.float32)), ValueError, ["out has dtype float32", "float64"]),
        (lambda a: sf.softmax(a, out=[1.0]), TypeError, ["out is a list"]),
    ],
)
def test_messages(call, error, words):
    before = xp.asarray(x, copy=True)
    with pytest.raises(error) as caught:
        call(before)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    np.testing.assert_array_equal(np.asarray(before), x)


def test_out_is_written_and_returned():
    scores, out = xp.asarray(x, copy=True), xp.empty((3, 4))
    assert sf.softmax(scores, out=out) is out
    np.testing.assert_allclose(np.asarray(out), sf.softmax(x), rtol=1e-14)
    assert sf.softmax(scores, out=scores) is scores
    np.testing.assert_array_equal(np.asarray(scores), np.asarray(out))
    log = xp.empty((3,))
    assert sf.logsumexp(out, out=log) is log


def test_tau():
    threshold = sf.entmax_threshold(xp.asarray(x), 1.3)
    np.testing.assert_allclose(np.asarray(threshold.tau(1.3)), sf.entmax_threshold(x, 1.3).tau(1.3), rtol=1e-14)


@pytest.mark.parametrize("alpha", [1.3, 1.5, 2.0, 2.5])
def test_searches_end_when_no_row_of_many_moves(alpha, rng, monkeypatch):
    from softmaxfam_rs._generic import _solve, _steep

    turns = []

    def counting(xp, step, state, **options):
        def counted(state):
            turns.append(1)
            return step(state)

        return repeat(xp, counted, state, **options)

    repeat = _solve.repeat
    for module in (_solve, _steep):
        monkeypatch.setattr(module, "repeat", counting)
    x = rng.standard_normal((4096, 128)).astype(np.float32)
    p = sf.entmax(xp.asarray(x), alpha)
    np.testing.assert_allclose(np.asarray(p), sf.entmax(x, alpha), rtol=0, atol=1e-6)
    assert len(turns) <= 20  # where rounding moves rows to and fro, they went on to the last
