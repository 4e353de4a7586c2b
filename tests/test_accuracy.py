"""The accuracy that the docs promise, against 50-digit arithmetic."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
import softmaxfam_rs as sf
from reference import ALPHAS, eps_of

LOGSUMEXP_F32 = 2.0**-23  # of max(1, |result|)
ENTMAX_EPS = {1.0: 4, 1.5: 4, 2.0: 4}  # |p - p*| in eps; 16 for all others in [1, 64]
SUM_EPS = 8

scales = pytest.mark.parametrize("scale", [1e-5, 0.1, 1.0, 10.0, 300.0])


@scales
@pytest.mark.parametrize("n", [1, 2, 10, 1000, 30_000])
@pytest.mark.parametrize("temperature", [1.0, 0.37])
def test_logsumexp_f32(scale, n, temperature, rng):
    x = (scale * rng.standard_normal((2, n))).astype(np.float32)
    for row, got in zip(x, sf.logsumexp(x, temperature=temperature), strict=True):
        exact = reference.logsumexp(row, temperature)
        assert abs(mpmath.mpf(float(got)) - exact) <= LOGSUMEXP_F32 * max(1, abs(exact))


@pytest.mark.parametrize("n", [10**5, 10**7])
def test_logsumexp_f32_of_many(n, rng):
    for shift in (0.0, -np.log(n), 30.0):
        equal = np.full(n, np.float32(shift))
        exact = float(equal[0]) + np.log(n)
        assert abs(float(sf.logsumexp(equal)) - exact) <= LOGSUMEXP_F32 * max(1, abs(exact))
        x = (rng.standard_normal(n, dtype=np.float32) + np.float32(shift)).astype(np.float32)
        exact = float(np.log(np.exp(np.sort(x.astype(np.longdouble))).sum()))
        assert abs(float(sf.logsumexp(x)) - exact) <= LOGSUMEXP_F32 * max(1, abs(exact))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=40))
def test_logsumexp_f32_of_anything(values):
    exact = reference.logsumexp(values)
    got = mpmath.mpf(float(sf.logsumexp(np.array(values, np.float32))))
    assert abs(got - exact) <= LOGSUMEXP_F32 * max(1, abs(exact))


@scales
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("temperature", [1.0, 0.37])
def test_softmax_and_log_softmax(scale, dtype, temperature, rng):
    x = (scale * rng.standard_normal(300)).astype(dtype)
    eps, tiny = eps_of(dtype), np.finfo(dtype).tiny
    p, log_p = sf.softmax(x, temperature=temperature), sf.log_softmax(x, temperature=temperature)
    lse = reference.logsumexp(x, temperature)
    highest = mpmath.mpf(float(x.max()))
    for value, got, got_log in zip(x, p, log_p, strict=True):
        z = mpmath.mpf(float(value)) / mpmath.mpf(temperature)
        exact = mpmath.exp(z - lse)
        relative = (4 + abs(z - highest / mpmath.mpf(temperature))) * eps
        assert abs(mpmath.mpf(float(got)) - exact) <= relative * exact or exact < tiny
        assert abs(mpmath.mpf(float(got_log)) - (z - lse)) <= 2 * eps * max(1, abs(z), abs(lse))
    assert abs(float(p.astype(np.float64).sum()) - 1) <= 4 * eps * np.sqrt(len(x))


@scales
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("alpha", [a for a in ALPHAS if a >= 1])
def test_entmax(scale, dtype, alpha, rng):
    for n in (2, 7, 60):
        x = (scale * rng.standard_normal(n)).astype(dtype)
        exact = reference.entmax(x, alpha)
        p = sf.entmax(x, alpha)
        eps = eps_of(dtype)
        error = max(abs(mpmath.mpf(float(a)) - b) for a, b in zip(p, exact, strict=True))
        assert error <= ENTMAX_EPS.get(alpha, 16) * eps
        for got, wanted in zip(p, exact, strict=True):
            assert (got > 0) == (wanted > 0) or wanted < eps
        assert abs(float(p.astype(np.float64).sum()) - 1) <= SUM_EPS * eps


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9, 1 - 1e-9])
def test_entmax_below_softmax_has_heavier_tails(alpha, rng):
    x = rng.standard_normal(50)
    p = sf.entmax(x, alpha)
    np.testing.assert_allclose(p, [float(v) for v in reference.entmax(x, alpha)], rtol=1e-13)
    assert (p > 0).all()
    assert p.min() > sf.softmax(x).min() or alpha > 0.99


def test_entmax_is_continuous_at_softmax_and_argmax(rng):
    x = rng.standard_normal(100)
    softmax = sf.softmax(x)
    for step in (1e-12, 1e-8, 1e-4):
        for alpha in (1 + step, 1 - step):
            assert abs(sf.entmax(x, alpha) - softmax).max() < 10 * step
    assert sf.entmax(x, 1.0).tobytes() == softmax.tobytes()
    ties = np.array([3.0, 1.0, 3.0])
    np.testing.assert_allclose(sf.entmax(ties, 1e6), sf.entmax(ties, np.inf), atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [5000, 100_000])
@pytest.mark.parametrize("scale", [0.0, 0.01, 1.0])
def test_long_rows(dtype, n, scale, rng):
    x = (scale * rng.standard_normal(n)).astype(dtype)
    eps = eps_of(dtype)
    assert abs(sf.sparsemax(x) - reference.sparsemax64(x)).max() <= 4 * eps + 1e-12
    for alpha in (1.3, 1.5, 2.0):
        p = sf.entmax(x, alpha).astype(np.float64)
        assert abs(np.sort(p).sum() - 1) <= SUM_EPS * eps + 1e-14
        normalizer = float(sf.entmax_threshold(x.astype(np.float64), alpha).normalizer)
        direct = np.maximum(1 + (alpha - 1) * (x.astype(np.float64) - normalizer), 0) ** (1 / (alpha - 1))
        assert abs(p - direct).max() <= 16 * eps + 1e-12


def test_float16_and_bfloat16_are_rounded_once(rng):
    for dtype in ("float16", "bfloat16"):
        x = rng.standard_normal((20, 333)).astype(reference.dtype_of(dtype))
        for alpha in (1.0, 1.5, 2.0):
            p, wide = sf.entmax(x, alpha).astype(float), sf.entmax(x.astype(np.float64), alpha)
            normal = wide > 1e-4
            assert (abs(p - wide)[normal] <= 0.502 * eps_of(dtype) * wide[normal]).all()


@pytest.mark.parametrize("alpha", [1.1, 1.5, 2.0, 4.0])
def test_normmax_meets_its_conditions(alpha, rng):
    x = rng.standard_normal((5, 40))
    p = sf.normmax(x, alpha)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-13)
    for row, q in zip(x, p, strict=True):
        value = lambda r: r @ row - (r**alpha).sum() ** (1 / alpha)  # noqa: B023, E731
        for other in (sf.softmax(row), sf.sparsemax(row), sf.normmax(row + 1e-3 * rng.standard_normal(40), alpha)):
            assert value(q) >= value(other) - 1e-12


def test_budget_sparsemax_is_the_projection(rng):
    x = rng.standard_normal((6, 50))
    for budget in (0.0, 0.5, 1.0, 7.5, 49.0, 50.0):
        p = sf.budget_sparsemax(x, budget)
        np.testing.assert_allclose(p.sum(axis=1), budget, atol=1e-12)
        assert ((p >= 0) & (p <= 1)).all()
        inside = (p > 0) & (p < 1)
        for row in range(6):
            tau = (x - p)[row][inside[row]]
            assert np.ptp(tau) < 1e-12 if tau.size else True
    np.testing.assert_allclose(sf.budget_sparsemax(x, 1.0), sf.sparsemax(x), atol=1e-14)


@pytest.mark.parametrize("budget", [1, 2, 3, 6, 2.5])
def test_budget_sparsemax_of_few_classes_spends_its_budget(budget, rng):
    # where Newton's steps alone go round in a circle
    p = sf.budget_sparsemax(rng.standard_normal((2000, 7)), budget)
    np.testing.assert_allclose(p.sum(axis=1), budget, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1 + 1e-9, 1.3, 1.5, 2.0, 3.0])
def test_tsallis_entropy(alpha, rng):
    p = sf.softmax(rng.standard_normal((3, 20)))
    for row, got in zip(p, sf.tsallis_entropy(p, alpha), strict=True):
        a, q = mpmath.mpf(alpha), [mpmath.mpf(float(v)) for v in row]
        exact = -sum(v * mpmath.log(v) for v in q) if a == 1 else sum(v * (1 - v ** (a - 1)) for v in q) / (a * (a - 1))
        assert float(got) == pytest.approx(float(exact), rel=1e-14)
