"""Vector-Jacobian products against finite differences of the maps."""

import mpmath
import numpy as np
import pytest

import reference
import softmaxfam_rs as sf

STEP = 1e-6


def difference(of, x, g):
    """<g, of(x)> differentiated with respect to each entry of a vector x."""
    gradient = np.empty_like(x)
    for i in range(x.size):
        up, down = x.copy(), x.copy()
        up[i] += STEP
        down[i] -= STEP
        gradient[i] = ((of(up) - of(down)) * g).sum() / (2 * STEP)
    return gradient


@pytest.fixture
def x(rng):
    return rng.standard_normal(30)


@pytest.fixture
def g(rng):
    return rng.standard_normal(30)


def test_softmax_vjp(x, g):
    np.testing.assert_allclose(sf.softmax_vjp(sf.softmax(x), g), difference(sf.softmax, x, g), atol=1e-8)


def test_log_softmax_vjp(x, g):
    np.testing.assert_allclose(sf.log_softmax_vjp(sf.log_softmax(x), g), difference(sf.log_softmax, x, g), atol=1e-7)


def test_logsumexp_vjp(x):
    got = sf.logsumexp_vjp(x, sf.logsumexp(x), np.array(2.0))
    np.testing.assert_allclose(got, 2 * sf.softmax(x), rtol=1e-13)
    rows = np.stack([x, x + 1])
    got = sf.logsumexp_vjp(rows, sf.logsumexp(rows, keepdims=True), np.ones((2, 1)))
    np.testing.assert_allclose(got, sf.softmax(rows), rtol=1e-13)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.0001, 1.3, 1.5, 2.0, 2.5, 4.0])
def test_entmax_vjp(alpha, x, g):
    p = sf.entmax(x, alpha)
    got = sf.entmax_vjp(p, g, alpha)
    np.testing.assert_allclose(got, difference(lambda x: sf.entmax(x, alpha), x, g), atol=2e-6, rtol=1e-4)
    assert (got[p == 0] == 0).all()


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.0 + 1e-7, 1.3, 1.5, 2.0, 2.5])
def test_entmax_alpha_grad(alpha, x, g):
    p = sf.entmax(x, alpha)
    up, down = sf.entmax(x, alpha + STEP), sf.entmax(x, alpha - STEP)
    expected = ((up - down) * g).sum() / (2 * STEP)
    assert sf.entmax_alpha_grad(p, g, alpha) == pytest.approx(expected, abs=1e-6, rel=1e-5)


@pytest.mark.parametrize("alpha", [1.3, 1.5, 2.0, 2.2, 2.5, 3.0, 8.0, 40.0])
def test_entmax_alpha_grad_where_a_class_is_rare(alpha, rng):
    """Weights p^(2-alpha) run over a hundred decades, and what they multiply differs late."""
    for rarest in (1e-3, 2e-6, 1e-12):
        p = np.append(rng.dirichlet(np.ones(5)), rarest)
        p, g = p / p.sum(), rng.standard_normal(6)
        with mpmath.workdps(1000):
            expected = float(reference.entmax_alpha_grad(p, g, alpha))
        assert sf.entmax_alpha_grad(p, g, alpha) == pytest.approx(expected, abs=32 * 2.0**-52 * max(1, abs(expected)))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rows_axes_and_types(dtype, rng):
    x = rng.standard_normal((3, 700, 2)).astype(dtype)
    g = rng.standard_normal((3, 700, 2)).astype(dtype)
    for alpha in (1.5, 2.0):
        p = sf.entmax(x, alpha, axis=1)
        got = sf.entmax_vjp(p, g, alpha, axis=1)
        assert got.dtype == p.dtype and got.shape == p.shape
        one = sf.entmax_vjp(np.ascontiguousarray(p[1, :, 1]), np.ascontiguousarray(g[1, :, 1]), alpha)
        np.testing.assert_array_equal(got[1:2], sf.entmax_vjp(p[1:2], g[1:2], alpha, axis=1))  # whatever the batch
        np.testing.assert_array_equal(got[..., 1:], sf.entmax_vjp(p[..., 1:], g[..., 1:], alpha, axis=1))
        # classes apart in memory are summed in another order than those in line
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(got[1, :, 1], one, rtol=4 * eps, atol=4 * eps)


def test_a_masked_row_has_no_gradient():
    assert (sf.entmax_vjp(np.zeros(3), np.ones(3), 1.5) == 0).all()
    assert (sf.logsumexp_vjp(np.full(3, -np.inf), np.array(-np.inf), np.array(1.0)) == 0).all()


@pytest.mark.parametrize("p", [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
def test_shares_of_the_maxima_do_not_move(p, rng):
    g = rng.standard_normal(3)
    assert (sf.entmax_vjp(np.array(p), g, np.inf) == 0).all()
    assert sf.entmax_alpha_grad(np.array(p), g, np.inf) == 0
    assert np.isnan(sf.entmax_vjp(np.full(3, np.nan), g, np.inf)).all()
    assert np.isnan(sf.entmax_alpha_grad(np.full(3, np.nan), g, np.inf))
