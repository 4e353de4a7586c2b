"""Identities of the family, for any scores and orders, and values of 60 digits at hostile inputs."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import softmaxfam_rs as sf

EPS = np.finfo(float).eps
rows = st.lists(st.floats(-20, 20), min_size=2, max_size=12).map(np.array)
orders = st.one_of(st.floats(0.3, 8), st.sampled_from([1.0, 1.5, 2.0, np.inf]))


@given(rows, orders)
@settings(deadline=None)
def test_probabilities(x, alpha):
    p = sf.entmax(x, alpha)
    assert (p >= 0).all() and abs(p.sum() - 1) <= 8 * EPS
    # the conjugate, the entropy and the product meet: the loss of the map's own probabilities is 0
    assert 0 <= sf.entmax_loss(x, p, alpha) <= 1e-12 * max(1, np.abs(x).max())


@given(rows, orders)
@settings(deadline=None)
def test_the_order_of_scores_is_that_of_probabilities(x, alpha):
    ordered = np.sort(x)
    p = sf.entmax(ordered, alpha)
    assert (np.diff(p) >= 0).all()  # without tolerance
    ties = np.diff(ordered) == 0
    assert (np.diff(p)[ties] == 0).all()


@given(rows, st.floats(1, 4), st.integers(0, 2**32))
@settings(deadline=None)
def test_jacobians_are_symmetric_and_positive_and_blind_to_constants(x, alpha, seed):
    v, w = np.random.default_rng(seed).standard_normal((2, len(x)))
    p = sf.entmax(x, alpha)
    of = lambda g: sf.entmax_vjp(p, g, alpha)  # noqa: E731
    unit = 1e-12 * max(1.0, np.abs(of(v)).max(), np.abs(of(w)).max())
    assert abs(v @ of(w) - w @ of(v)) <= 100 * unit
    assert abs(of(v).sum()) <= 10 * unit and np.abs(of(np.ones(len(x)))).max() <= 10 * unit
    assert v @ of(v) >= -100 * unit


HOSTILE = {
    "equal scores far out, one absent": (
        lambda: sf.logsumexp(np.array([1000, 1000, -np.inf])),
        "1000.6931471805599453",
    ),
    "a difference of nearly equal terms": (
        lambda: sf.logsumexp(np.array([1000, 1000 - 2.0**-30]), weights=np.array([1.0, -1.0])),
        "979.20558458273597943",
    ),
    "the first of a million near ties": (lambda: near_ties()[0], "1.4547468961391132325e-6"),
    "the last of them": (lambda: near_ties()[-1], "5.4525310386088676751e-7"),
    "order 100, nine ties": (lambda: sf.entmax(nine_ties(), 100.0)[0], "0.10017787410661521385"),
    "the one just below": (lambda: sf.entmax(nine_ties(), 100.0)[9], "0.098399133040463075328"),
    "a rare class of the log-uniform law": (
        lambda: log_uniform(10**7, 2**31),
        "-19.185570084883460825",
    ),
}


def near_ties():
    return sf.sparsemax(-np.arange(1e6) * 2.0**-40)


def nine_ties():
    return np.array([0.0] * 9 + [-1e-101])


def log_uniform(k, classes):
    return float(sf.LogUniformSampler(classes).logq([k])[0])


@pytest.mark.parametrize("name", HOSTILE)
def test_values_at_hostile_inputs(name):
    call, value = HOSTILE[name]
    slack = 2.0**-23 if "log-uniform" in name else 1e-13  # log q is float32
    assert abs(mpmath.mpf(float(call())) / mpmath.mpf(value) - 1) <= slack
