"""The contract at the edges, for every function and element type."""

import numpy as np
import pytest

import softmaxfam_rs as sf
from reference import DTYPES, dtype_of

INF, NAN = np.inf, np.nan
MAPS = {
    "softmax": sf.softmax,
    "log_softmax": sf.log_softmax,
    "sparsemax": sf.sparsemax,
    "entmax 1.5": sf.entmax,
    "entmax 1": lambda x, **k: sf.entmax(x, 1.0, **k),
    "entmax 1.3": lambda x, **k: sf.entmax(x, 1.3, **k),
    "entmax 0.5": lambda x, **k: sf.entmax(x, 0.5, **k),
    "entmax 3": lambda x, **k: sf.entmax(x, 3.0, **k),
    "entmax inf": lambda x, **k: sf.entmax(x, INF, **k),
    "normmax": sf.normmax,
    "budget_sparsemax": lambda x, **k: sf.budget_sparsemax(x, 1.0, **k),
}
maps = pytest.mark.parametrize("of", MAPS.values(), ids=MAPS.keys())
dtypes = pytest.mark.parametrize("dtype", DTYPES)


@maps
@dtypes
@pytest.mark.parametrize("n", [3, 40, 5000])
@pytest.mark.parametrize("bad", [NAN, INF])
def test_nan_and_inf_stay_in_their_row(of, dtype, n, bad, rng):
    x = rng.standard_normal((5, n)).astype(dtype_of(dtype))
    clean = of(x)
    x[2, n // 2] = bad
    p = of(x)
    assert np.isnan(p[2].astype(float)).all()
    others = [0, 1, 3, 4]
    np.testing.assert_array_equal(p[others].astype(float), clean[others].astype(float))
    lse = sf.logsumexp(x).astype(float)
    assert np.isnan(lse[2]) if np.isnan(bad) else lse[2] == INF
    assert np.isfinite(lse[others]).all()


@maps
@dtypes
def test_minus_inf_is_absent(of, dtype):
    x = np.array([0.5, -INF, 0.25, -INF], dtype=dtype_of(dtype))
    p = of(x).astype(float)
    assert (p[[1, 3]] == (-INF if of is sf.log_softmax else 0)).all()
    np.testing.assert_array_equal(p[[0, 2]], of(x[[0, 2]]).astype(float))


@maps
@dtypes
@pytest.mark.parametrize("n", [2, 5000])
def test_rows_without_a_class(of, dtype, n):
    x = np.full((2, n), -INF, dtype=dtype_of(dtype))
    assert np.isnan(of(x).astype(float)).all()
    assert (sf.logsumexp(x).astype(float) == -INF).all()
    x[:] = 1
    masked = of(x, where=np.array([[True], [False]])).astype(float)
    assert (masked[1] == (-INF if of is sf.log_softmax else 0)).all()
    assert np.isfinite(masked[0]).all()
    assert sf.logsumexp(x, where=np.array([[True], [False]])).astype(float)[1] == -INF


@maps
def test_masked_rubbish_is_ignored(of):
    x = np.array([0.5, NAN, 0.25, INF])
    where = np.array([True, False, True, False])
    p = of(x, where=where)
    assert (p[~where] == (-INF if of is sf.log_softmax else 0)).all()
    np.testing.assert_array_equal(p[where], of(x[where]))


@maps
def test_empty_axes_and_no_rows(of):
    assert of(np.empty((0, 3))).shape == (0, 3)
    if of is not MAPS["budget_sparsemax"]:
        assert of(np.empty((3, 0))).shape == (3, 0)
    assert (sf.logsumexp(np.empty((3, 0))) == -INF).all()
    assert sf.logsumexp(np.empty((0, 3))).shape == (0,)


@maps
def test_zero_dimensions_are_one_class(of):
    assert of(np.array(7.0)) == (0 if of is sf.log_softmax else 1)
    assert np.shape(of(7.0)) == ()
    assert sf.logsumexp(7.0) == 7


@maps
@pytest.mark.parametrize("dtype", ["int8", "uint64", "bool"])
def test_integers_and_bools_become_float64(of, dtype):
    x = np.array([[1, 0, 1]], dtype=dtype)
    p = of(x)
    assert p.dtype == np.float64
    np.testing.assert_array_equal(p, of(x.astype(float)))


@dtypes
def test_half_sums_do_not_overflow(dtype):
    x = np.zeros(100_000, dtype=dtype_of(dtype))
    assert abs(float(sf.logsumexp(x)) - np.log(1e5)) < 0.05
    assert float(sf.entmax(x, 2.0)[0]) == pytest.approx(1e-5, rel=0.05)


def test_threshold_at_the_edges():
    x = np.array([[NAN, 1, 2], [1, INF, 2], [0, 0, 0], [1, 2, 3]])
    where = np.array([True, True, True, False])[:, None]
    for alpha in (1.0, 1.5, 2.0, 3.0):
        normalizer, support, log_p = sf.entmax_threshold(x, alpha, where=where)
        assert np.isnan(normalizer[:2]).all() and np.isnan(log_p[:2]).all()
        assert (normalizer[3], support[3], log_p[3]) == (-INF, 0, -INF)
        assert support[2] == 3
        assert log_p[2] == pytest.approx(-np.log(3))
    assert sf.entmax_threshold(x[2], 1.0).normalizer == pytest.approx(np.log(3))


def test_sparse_rows_are_the_dense_ones(rng):
    x = rng.standard_normal((2, 7, 300)).astype(np.float32)
    x[1, 3, 5] = NAN
    for alpha in (1.0, 1.5, 2.0, 3.0):
        sparse = sf.entmax_sparse(x, alpha, axis=1)
        assert sparse.shape == (600, 7)
        dense = np.moveaxis(sf.entmax(x, alpha, axis=1), 1, 2).reshape(600, 7)
        np.testing.assert_allclose(sparse.to_dense(), dense, atol=2e-7)
        np.testing.assert_array_equal(sparse.to_scipy().toarray(), sparse.to_dense())
        assert sparse.indptr.dtype == sparse.indices.dtype == np.int64


@dtypes
def test_top_log_probs(dtype, rng):
    x = rng.standard_normal((7, 5000)).astype(dtype_of(dtype))
    x[3, :] = 0.5  # ties: lower class first
    x[4, 10:] = -INF  # fewer classes than k
    x[5, 7] = NAN
    where = np.ones((7, 1), bool)
    where[6] = False
    top = sf.top_log_probs(x, 12, where=where)
    for row in range(4):
        order = np.argsort(-x[row].astype(float), kind="stable")[:12]
        np.testing.assert_array_equal(top.indices[row], order)
        expected = sf.log_softmax(x[row])[order].astype(float)
        np.testing.assert_allclose(
            top.log_probs[row].astype(float), expected, rtol=2e-2 if dtype == "bfloat16" else 2e-3
        )
    assert (top.indices[4, 10:] == -1).all() and (top.log_probs[4, 10:].astype(float) == -INF).all()
    assert (top.indices[5] == -1).all() and np.isnan(top.log_probs[5].astype(float)).all()
    assert (top.indices[6] == -1).all() and (top.log_probs[6].astype(float) == -INF).all()
    np.testing.assert_array_equal(top.logsumexp.astype(float), sf.logsumexp(x, where=where).astype(float))


def test_top_log_probs_of_long_rows_and_all_classes(rng):
    x = rng.standard_normal((2, 600_000)).astype(np.float32)
    top = sf.top_log_probs(x, 100)
    np.testing.assert_array_equal(top.indices, np.argsort(-x, axis=1, kind="stable")[:, :100])
    small = x[:, :300]
    np.testing.assert_array_equal(sf.top_log_probs(small, 300).indices, np.argsort(-small, axis=1, kind="stable"))


def test_weighted_logsumexp(rng):
    x, w = rng.standard_normal((4, 50)), rng.standard_normal((4, 50))
    w[:, 3] = 0
    x[0, 3] = NAN  # absent
    log, sign = sf.logsumexp(x, weights=w, return_sign=True)
    sums = np.where(w == 0, 0, w * np.exp(np.where(w == 0, 0, x))).sum(axis=1)
    np.testing.assert_allclose(log, np.log(abs(sums)), rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(sign, np.sign(sums))
    plain = sf.logsumexp(x, weights=w)
    np.testing.assert_array_equal(np.isnan(plain), sums < 0)
    assert sf.logsumexp(np.zeros((2, 3)), weights=[1.0, 1.0, -2.0], return_sign=True)[1].tolist() == [0, 0]


@dtypes
@pytest.mark.parametrize("tie", [0.0, -0.0, 1.0, -2.0])
def test_ties_share_at_infinite_alpha(dtype, tie):
    x = np.array([[tie, tie - 1, tie]] * 2, dtype=dtype_of(dtype))
    np.testing.assert_array_equal(sf.entmax(x, INF).astype(float), [[0.5, 0, 0.5]] * 2)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("temperature", [1e-300, 1e-30, 1e-20, 1e20, 1e300])
@pytest.mark.parametrize("scores", [[0, -1e4], [1, 2], [-1, -2], [3] * 5000, [-3, 1] * 40, [0, -np.inf, 1]])
def test_extreme_temperatures_are_limits(scores, temperature, dtype):
    x = np.array(scores, dtype)
    present = np.isfinite(x)
    p = np.where(x == x.max(), 1, 0) / np.sum(x == x.max()) if temperature < 1 else present / present.sum()
    slack = 8 * np.finfo(dtype).eps
    for of in (sf.softmax, sf.entmax, sf.sparsemax):
        np.testing.assert_allclose(of(x, temperature=temperature), p, rtol=0, atol=slack)
    with np.errstate(over="ignore"):
        expected = np.asarray(x.max() / np.float64(temperature) - np.log(p.max()), dtype)
    np.testing.assert_allclose(sf.logsumexp(x, temperature=temperature), expected, rtol=slack, atol=slack)
