"""Losses from sampled negatives: their optima and expectations by enumeration of all draws, digits, shapes, errors."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

import softmaxfam_rs as sf

RNG = np.random.default_rng(21)
N, M = 4, 2
ETA = np.array([0.1, 0.2, 0.3, 0.4])  # of the data
Q = np.array([0.4, 0.1, 0.2, 0.3])  # of the proposal
LOG_Q = np.log(Q)


def softmax_loss(**options):
    def call(s, y, ids):
        return sf.sampled_softmax_loss_and_grad(s[y], s[ids], LOG_Q[y], LOG_Q[ids], reduction="sum", **options)

    return call


def nce(s, y, ids):
    return sf.nce_loss_and_grad(s[y], s[ids], LOG_Q[y], LOG_Q[ids], reduction="sum")


def negative_sampling(s, y, ids):
    return sf.negative_sampling_loss_and_grad(s[y], s[ids], reduction="sum")


def expected_gradient(of, s, q=Q):
    """The gradient by all scores, on average over classes of the data and all draws of M negatives."""
    draws = list(itertools.product(range(N), repeat=M))
    total = np.zeros(N)
    for y in range(N):
        for draw in draws:
            ids = np.array([draw])
            _, gradient = of(s, np.array([y]), ids)
            weight = ETA[y] * q[ids].prod()
            total[y] += weight * gradient.positive[0]
            np.add.at(total, ids[0], weight * gradient.negative[0])
    return total


OPTIMA = {
    "sampled softmax, all": (softmax_loss(), np.log(ETA) + 0.7),
    "sampled softmax, none": (softmax_loss(correction="none"), np.log(ETA / Q) - 0.2),
    "nce": (nce, np.log(ETA)),
    "negative sampling": (negative_sampling, np.log(ETA / Q) - np.log(M)),
}


@pytest.mark.parametrize("name", OPTIMA)
def test_optima(name):
    of, s = OPTIMA[name]
    np.testing.assert_allclose(expected_gradient(of, s), 0, atol=1e-14)
    # a correction of the other sign has its optimum elsewhere
    wrong = np.log(ETA) + 2 * LOG_Q if "none" in name or name == "negative sampling" else np.log(ETA) - LOG_Q
    assert np.abs(expected_gradient(of, wrong)).max() > 1e-2


@pytest.mark.parametrize("y", range(N))
def test_the_estimate_of_the_normaliser_is_unbiased(y):
    s = RNG.standard_normal(N)
    exact = np.exp(sf.cross_entropy(s, y))
    others = np.delete(np.arange(N), y)
    log_other = np.log(Q[others] / (1 - Q[y]))
    mean = mean_with_hits = 0.0
    for draw in itertools.product(range(N - 1), repeat=M):
        ids = others[list(draw)]
        weight = np.exp(log_other[list(draw)].sum())
        args = (s[[y]], s[ids], LOG_Q[[y]], LOG_Q[ids])
        estimate = np.exp(sf.sampled_softmax_loss(*args, correction="negatives"))
        mean += weight * estimate
        odds = estimate - 1  # of all others
        assert np.isclose(sf.sampled_softmax_loss(*args, correction="refined"), odds / (1 + odds) * np.log(odds))
    for draw in itertools.product(range(N), repeat=M):
        ids = np.array(draw)
        loss = sf.sampled_softmax_loss(
            s[[y]], s[ids], LOG_Q[[y]], LOG_Q[ids], correction="negatives", hits=(ids == y)[None]
        )
        mean_with_hits += Q[ids].prod() * np.exp(loss)
    np.testing.assert_allclose([mean, mean_with_hits], exact, rtol=1e-12)


def test_refined_has_the_gradient_of_negatives():
    s, y, ids = RNG.standard_normal(N), np.array([1, 2]), np.array([[0, 2, 3], [3, 1, 0]])
    found = [softmax_loss(correction=c)(s, y, ids)[1] for c in ("negatives", "refined")]
    for mine, other in zip(*found, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("correction", ["none", "negatives"])
def test_all_other_classes_once_give_the_exact_loss(correction):
    s = RNG.standard_normal(6)
    uniform = np.full(6, -np.log(6))
    for y in range(6):
        others = np.delete(np.arange(6), y)
        loss = sf.sampled_softmax_loss(s[[y]], s[others], uniform[[y]], uniform[others], correction=correction)
        np.testing.assert_allclose(loss, sf.cross_entropy(s, y), rtol=1e-14)


@given(st.integers(0, 2**32), st.sampled_from(["sampled", "nce", "negative"]), st.booleans(), st.floats(0.3, 3))
@settings(max_examples=60, deadline=None)
def test_gradients_against_differences(seed, name, shared, temperature):
    rng = np.random.default_rng(seed)
    positive, negative = rng.standard_normal(3), rng.standard_normal(4 if shared else (3, 4))
    logs = (rng.standard_normal(3) - 3, rng.standard_normal(negative.shape) - 3)
    hits = rng.random((3, 4)) < 0.3
    options = {"hits": hits, "temperature": temperature}
    of, args = {
        "sampled": (sf.sampled_softmax_loss_and_grad, logs),
        "nce": (sf.nce_loss_and_grad, logs),
        "negative": (sf.negative_sampling_loss_and_grad, ()),
    }[name]
    _, gradient = of(positive, negative, *args, **options)
    for scores, found in ((positive, gradient.positive), (negative, gradient.negative)):
        by_hand = np.empty(scores.shape)
        for at in np.ndindex(scores.shape):
            values = []
            for step in (1e-6, -1e-6):
                moved = scores.copy()
                moved[at] += step
                pair = (moved, negative) if scores is positive else (positive, moved)
                values.append(of(*pair, *args, **options)[0])
            by_hand[at] = (values[0] - values[1]) / 2e-6
        np.testing.assert_allclose(found, by_hand, atol=1e-8)


def test_digits_of_confident_rows():
    mp.dps = 50
    for d in (40.0, 500.0):
        e = mp.exp(-mpf(d))
        want = float(mp.log1p(2 * e))
        found = sf.sampled_softmax_loss(np.array([d]), np.zeros((1, 2)), correction="none")
        np.testing.assert_allclose(found, want, rtol=1e-14)
        want = float(mp.log1p(e) + 2 * mp.log1p(e))
        found = sf.negative_sampling_loss(np.array([d]), np.full((1, 2), -d))
        np.testing.assert_allclose(found, want, rtol=1e-14)
        log_q = np.log(0.25)
        want = float(mp.log1p(e * mpf(0.5)) + 2 * mp.log1p(e * 2))
        found = sf.nce_loss(np.array([d]), np.full((1, 2), -d), np.array([log_q]), np.full((1, 2), log_q))
        np.testing.assert_allclose(found, want, rtol=1e-13)


def test_several_positives_are_examples_of_their_own():
    positive, negative = RNG.standard_normal((3, 2)), RNG.standard_normal((3, 5))
    logs = RNG.standard_normal((3, 2)) - 3, RNG.standard_normal((3, 5)) - 3
    loss, gradient = sf.sampled_softmax_loss_and_grad(positive, negative, *logs, reduction="none")
    parts = [
        sf.sampled_softmax_loss_and_grad(positive[:, p], negative, logs[0][:, p], logs[1], reduction="none")
        for p in range(2)
    ]
    np.testing.assert_allclose(loss, np.stack([part[0] for part in parts], axis=1), rtol=1e-14)
    np.testing.assert_allclose(gradient.negative, sum(part[1].negative for part in parts), rtol=1e-12)
    assert gradient.positive.shape == (3, 2) and gradient.negative.shape == (3, 5)
    mean = sf.sampled_softmax_loss(positive, negative, *logs)
    np.testing.assert_allclose(mean, loss.mean())


def test_edges():
    one, none = np.zeros(2), np.zeros((2, 0))
    for of in (sf.sampled_softmax_loss, sf.nce_loss):
        assert of(one, none, one, none, reduction="none").shape == (2,)
    assert sf.sampled_softmax_loss(one, none, one, none) == 0
    all_hits = np.ones((2, 3), bool)
    found, gradient = sf.sampled_softmax_loss_and_grad(one, np.ones(3), one, np.ones(3), hits=all_hits)
    assert found == 0 and (gradient.negative == 0).all() and (gradient.positive == 0).all()
    scores = np.array([[np.nan, 0.0], [-np.inf, 0.0], [np.inf, 0.0], [1.0, 2.0]])
    loss = sf.negative_sampling_loss(np.zeros(4), scores, reduction="none")
    np.testing.assert_allclose(loss[1], 2 * np.log(2))
    assert np.isnan(loss[0]) and loss[2] == np.inf and np.isfinite(loss[3])
    under_hits = sf.negative_sampling_loss(np.zeros(4), scores, hits=scores != 0, reduction="none")
    assert np.isfinite(under_hits).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_narrow_types_are_computed_wide(dtype):
    positive, negative = RNG.standard_normal(50).astype(dtype), RNG.standard_normal((50, 2000)).astype(dtype)
    found = sf.negative_sampling_loss(positive, negative, reduction="none")
    want = sf.negative_sampling_loss(positive.astype(float), negative.astype(float), reduction="none")
    assert found.dtype == dtype
    np.testing.assert_allclose(found.astype(float), want, rtol=2 * np.finfo(dtype).eps + 1e-6)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: sf.sampled_softmax_loss(x, x), ValueError, "sampler.logq"),
        (lambda x: sf.nce_loss(x, x, None, None), ValueError, "sampler.logq"),
        (lambda x: sf.sampled_softmax_loss(x, x, x, x, correction="some"), ValueError, "'negatives'"),
        (lambda x: sf.sampled_softmax_loss(x, np.zeros((3, 2)), x, x), ValueError, "negative has shape"),
        (lambda x: sf.nce_loss(x, x, x[:1], x), ValueError, "logq_positive has shape"),
        (lambda x: sf.negative_sampling_loss(x, x, hits=x), TypeError, "hits has dtype float64"),
        (lambda x: sf.negative_sampling_loss(x, x, hits=x[:1] > 0), ValueError, "hits has shape"),
        (lambda x: sf.negative_sampling_loss(x, x, temperature=0.0), ValueError, "temperature is 0.0"),
        (lambda x: sf.negative_sampling_loss(x, x, reduction="all"), ValueError, "reduction"),
        (lambda x: sf.negative_sampling_loss(x * 1j, x), TypeError, "complex"),
    ],
)
def test_what_does_not_fit_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call(np.zeros(2))


def test_torch_differentiates_twice_and_compiles():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)  # noqa: E731
    positive, negative = draw(3).requires_grad_(), draw(3, 4).requires_grad_()
    logs = (draw(3) - 3, draw(3, 4) - 3)
    hits = torch.zeros(3, 4, dtype=torch.bool)
    hits[0, 1] = True
    calls = [
        lambda p, n: sf.sampled_softmax_loss(p, n, *logs, hits=hits),
        lambda p, n: sf.sampled_softmax_loss(p, n, *logs, correction="negatives"),
        lambda p, n: sf.nce_loss(p, n, *logs, hits=hits),
        sf.negative_sampling_loss,
    ]
    for call in calls:
        assert torch.autograd.gradcheck(call, (positive, negative))
        assert torch.autograd.gradgradcheck(call, (positive, negative))
        compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(positive, negative), call(positive, negative))
