"""Any axis, any strides, any byte order; masks, temperatures and outputs that broadcast or lie oddly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import softmaxfam_rs as sf
from reference import logsumexp64, softmax64

MAPS = {
    "softmax": sf.softmax,
    "log_softmax": sf.log_softmax,
    "sparsemax": sf.sparsemax,
    "entmax": sf.entmax,
    "normmax": sf.normmax,
    "budget_sparsemax": lambda x, **k: sf.budget_sparsemax(x, 1.5, **k),
}
maps = pytest.mark.parametrize("of", MAPS.values(), ids=MAPS.keys())


def views(rng):
    base = rng.standard_normal((6, 40, 9)).astype(np.float32)
    yield base
    yield base[::-1, ::-2, 1:]
    yield base.transpose(2, 0, 1)
    yield np.asfortranarray(base)
    yield np.broadcast_to(base[:, :1], (6, 40, 9))
    yield base.astype(">f4")
    yield base.view(np.uint8).reshape(-1)[: 4 * 100].view(np.float32).reshape(5, 20)
    packed = np.zeros(50, dtype=[("pad", "i1"), ("x", "f4")])  # not aligned
    packed["x"] = base.ravel()[:50]
    yield packed["x"]
    frozen = base.copy()
    frozen.flags.writeable = False
    yield frozen


@maps
def test_every_layout_and_axis(of, rng):
    for x in views(rng):
        for axis in range(-x.ndim, x.ndim):
            moved = np.ascontiguousarray(np.moveaxis(x, axis, -1)).astype(np.float32)
            expected = np.moveaxis(of(moved), -1, axis)
            np.testing.assert_allclose(of(x, axis=axis), expected, rtol=3e-7, atol=1e-7)


@pytest.mark.parametrize("axis", [0, 1, 2, (0, 1), (0, 2), (2, 1), (0, 1, 2), None])
def test_several_axes(axis, rng):
    x = rng.standard_normal((4, 5, 600))
    axes = tuple(range(3)) if axis is None else axis
    sums = np.exp(x).sum(axis=axes, keepdims=True)
    np.testing.assert_allclose(sf.logsumexp(x, axis=axis, keepdims=True), np.log(sums), rtol=1e-12)
    np.testing.assert_allclose(sf.logsumexp(x, axis=axis), np.log(sums).squeeze(axes), rtol=1e-12)
    np.testing.assert_allclose(sf.softmax(x, axis=axis), np.exp(x) / sums, rtol=1e-12)
    np.testing.assert_allclose(sf.log_softmax(x, axis=axis), x - np.log(sums), rtol=1e-11)


@maps
def test_out_is_written_and_returned(of, rng):
    for x in (rng.standard_normal((20, 70)), rng.standard_normal((70, 20)).T, rng.standard_normal((20, 9000))):
        expected = of(x)
        for out in (np.empty(x.shape), np.empty(x.shape[::-1]).T, np.empty((20, 2 * x.shape[1]))[:, ::2]):
            assert of(x, out=out) is out
            # softmax rounds in another order where results do not follow each other
            np.testing.assert_allclose(out, expected, rtol=1e-15)
        inside = x.copy()
        assert of(inside, out=inside) is inside
        np.testing.assert_array_equal(inside, of(x.copy()))


@maps
def test_temperature_and_where_broadcast(of, rng):
    x = rng.standard_normal((3, 4, 50))
    temperature = rng.uniform(0.3, 3, (4, 1))
    where = rng.random((4, 50)) < 0.7
    where[:, :2] = True
    p = of(x, temperature=temperature, where=where)
    for i in range(3):
        for j in range(4):
            row = of(x[i, j], temperature=float(temperature[j, 0]), where=where[j])
            np.testing.assert_array_equal(p[i, j], row)
            absent = -np.inf if of is sf.log_softmax else 0
            assert (row[~where[j]] == absent).all()
            np.testing.assert_allclose(row[where[j]], of(x[i, j][where[j]] / temperature[j]), rtol=1e-12, atol=1e-13)


def test_alpha_for_each_row(rng):
    x = rng.standard_normal((5, 3, 20))
    alpha = np.array([1.0, 1.3, 1.5, 2.0, 3.0])[:, None, None]
    p = sf.entmax(x, alpha)
    threshold = sf.entmax_threshold(x, alpha)
    for i in range(5):
        np.testing.assert_allclose(p[i], sf.entmax(x[i], alpha[i, 0, 0]), atol=1e-15)
        np.testing.assert_array_equal(threshold.support_size[i], (p[i] > 0).sum(axis=1))
    moved = sf.entmax(np.moveaxis(x, 2, 0), np.moveaxis(alpha, 2, 0), axis=0)
    np.testing.assert_array_equal(np.moveaxis(moved, 0, 2), p)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(0, 3), st.randoms(use_true_random=False))
def test_any_shape(shape, axis, random):
    axis %= len(shape)
    x = np.random.default_rng(random.randrange(2**32)).standard_normal(shape)
    x = x.transpose(random.sample(range(len(shape)), len(shape)))
    np.testing.assert_allclose(sf.softmax(x, axis=axis), softmax64(x, axis), rtol=1e-12)
    np.testing.assert_allclose(sf.logsumexp(x, axis=axis), logsumexp64(x, axis), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(sf.sparsemax(x, axis=axis).sum(axis=axis), 1, rtol=1e-12)
