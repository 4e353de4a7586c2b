"""Bias and variance of sampled losses: by enumeration against all ordered draws, by draws, and against theory."""

import itertools

import numpy as np
import pytest

import softmaxfam_rs as sf
from softmaxfam_rs._bias_variance import _Loss, _Moments, _multisets

N = 4
RNG = np.random.default_rng(3)
SCORES, Q = RNG.standard_normal(N), RNG.dirichlet(np.ones(N))
KINDS = [
    ("sampled_softmax", {"correction": "all"}),
    ("sampled_softmax", {"correction": "none"}),
    ("sampled_softmax", {"correction": "negatives"}),
    ("sampled_softmax", {"correction": "refined"}),
    ("nce", {}),
    ("negative_sampling", {}),
    ("negative_sampling", {"remove_hits": True}),
]
kinds = pytest.mark.parametrize(("loss", "options"), KINDS)


def of(loss, target, options, scores=SCORES, q=Q):
    correction = options.get("correction", "all")
    removes = options.get("remove_hits", correction in {"negatives", "refined"})
    return _Loss(loss, correction, removes, scores, target, np.log(q))


@kinds
@pytest.mark.parametrize("m", [1, 2, 3])
def test_enumeration_of_multisets_is_that_of_all_draws(loss, options, m):
    table = sf.estimate_bias_variance(loss, SCORES, 1, Q, m, **options)
    assert table.method == ("exact",)
    one = of(loss, 1, options)
    ids = np.array(list(itertools.product(range(N), repeat=m)))
    chances = np.prod(Q[ids], axis=1)
    losses, gradients = one.of(ids)
    exact, g = one.exact()
    mean = chances @ gradients
    np.testing.assert_allclose(table.gradient_bias[0], np.linalg.norm(mean - g), rtol=1e-5, atol=1e-7)
    total = chances @ ((gradients - mean) ** 2).sum(axis=1)
    np.testing.assert_allclose(table.gradient_std[0], np.sqrt(total), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(
        table.gradient_error[0] ** 2, chances @ ((gradients - g) ** 2).sum(axis=1), rtol=1e-5, atol=1e-12
    )
    assert table.gradient_bias_error[0] == table.loss_bias_error[0] == 0 or np.isnan(table.loss_bias_error[0])
    if loss == "sampled_softmax" and options["correction"] != "none":
        np.testing.assert_allclose(table.loss_bias[0], chances @ losses - exact, rtol=1e-5, atol=1e-7)
    else:
        assert np.isnan(table.loss_bias[0])
    spread = chances @ losses**2 - (chances @ losses) ** 2
    np.testing.assert_allclose(table.loss_std[0], np.sqrt(spread), rtol=1e-5, atol=1e-6)


@kinds
def test_draws_agree_with_enumeration(loss, options):
    exact = sf.estimate_bias_variance(loss, SCORES, 2, Q, 4, **options)
    drawn = sf.estimate_bias_variance(loss, SCORES, 2, Q, 4, method="draws", replicates=40_000, rng=1, **options)
    assert drawn.method == ("draws",)
    if np.isfinite(exact.loss_bias[0]):
        assert abs(drawn.loss_bias[0] - exact.loss_bias[0]) < 4 * drawn.loss_bias_error[0]
    assert abs(drawn.gradient_bias[0] - exact.gradient_bias[0]) < 4 * drawn.gradient_bias_error[0]
    np.testing.assert_allclose(drawn.gradient_std[0], exact.gradient_std[0], rtol=0.03)
    np.testing.assert_allclose(drawn.loss_std[0], exact.loss_std[0], rtol=0.03)


def test_what_draws_add_to_the_bias_is_taken_out():
    # the proposal is the softmax itself, where "negatives" have no bias but by the hits that are removed
    p = sf.softmax(SCORES)
    tables = [
        sf.estimate_bias_variance(
            "sampled_softmax", SCORES, 0, p, 6, method="draws", replicates=200, rng=seed
        ).gradient_bias[0]
        ** 2
        for seed in range(30)
    ]
    exact = sf.estimate_bias_variance("sampled_softmax", SCORES, 0, p, 6).gradient_bias[0] ** 2
    naive = (
        sf.estimate_bias_variance(
            "sampled_softmax", SCORES, 0, p, 6, method="draws", replicates=200
        ).gradient_bias_error[0]
        ** 2
    )
    assert abs(np.mean(tables) - exact) < naive / 2


@pytest.mark.parametrize("correction", ["all", "negatives"])
@pytest.mark.parametrize("target", range(3))
def test_theory_is_approached_as_m_grows(correction, target):
    rng = np.random.default_rng(7)
    scores, q = 0.7 * rng.standard_normal(3), rng.dirichlet(4 * np.ones(3))
    table = sf.estimate_bias_variance("sampled_softmax", scores, target, q, [20, 80, 240], correction=correction)
    assert table.method == ("exact",) * 3
    for name in ("loss_bias", "gradient_bias", "gradient_std"):
        away = np.abs(getattr(table, name) / getattr(table, f"theory_{name}") - 1)
        assert away[2] < 0.05 and away[2] < away[0], (name, away)


@pytest.mark.parametrize("loss", ["nce", "negative_sampling"])
def test_theory_of_choices_of_two_is_exact(loss):
    for removes in (False, True):
        if loss == "nce" and removes:
            continue
        table = sf.estimate_bias_variance(loss, SCORES, 2, Q, [1, 3, 5], remove_hits=removes)
        np.testing.assert_allclose(table.gradient_bias, table.theory_gradient_bias, rtol=1e-6)
        np.testing.assert_allclose(table.gradient_std, table.theory_gradient_std, rtol=1e-6)


def test_all_is_without_bias_over_targets_from_the_model():
    p, mean = sf.softmax(SCORES), np.zeros(N)
    ids, chances = _multisets(np.log(Q), 3)
    for target in range(N):
        one = of("sampled_softmax", target, {"correction": "all"})
        mean += p[target] * (chances @ one.of(ids)[1])
    np.testing.assert_allclose(mean, 0, atol=1e-7)


def test_the_loss_of_negatives_is_too_small_within_its_bound():
    for m in (1, 4):
        table = sf.estimate_bias_variance("sampled_softmax", SCORES, 1, Q, m, correction="negatives")
        bound = table.theory_loss_bias[0] / sf.softmax(SCORES)[1]
        assert bound <= table.loss_bias[0] <= 0


def test_refined_has_the_gradient_of_negatives():
    a, b = (
        sf.estimate_bias_variance("sampled_softmax", SCORES, 1, Q, 3, correction=c) for c in ("negatives", "refined")
    )
    np.testing.assert_allclose(a.gradient_bias, b.gradient_bias, rtol=1e-6)
    np.testing.assert_allclose(a.gradient_std, b.gradient_std, rtol=1e-6)


def test_several_rows_are_averaged():
    scores = np.stack([SCORES, SCORES[::-1]])
    both = sf.estimate_bias_variance("sampled_softmax", scores, [0, 2], Q, 2)
    each = [sf.estimate_bias_variance("sampled_softmax", row, y, Q, 2) for row, y in zip(scores, (0, 2), strict=True)]
    np.testing.assert_allclose(both.loss_bias, np.mean([t.loss_bias for t in each], axis=0), rtol=1e-12)
    np.testing.assert_allclose(both.gradient_std**2, np.mean([t.gradient_std**2 for t in each], axis=0), rtol=1e-12)


def test_many_classes_and_distinct_draws():
    rng = np.random.default_rng(0)
    scores, sampler = rng.standard_normal(3000), sf.LogUniformSampler(3000)
    options = {"replicates": 300, "rng": 2}
    iid = sf.estimate_bias_variance("sampled_softmax", scores, 5, sampler, [10, 100], **options)
    assert iid.method == ("draws", "draws") and iid.gradient_error[1] < iid.gradient_error[0]
    np.testing.assert_allclose(iid.gradient_std[1], iid.theory_gradient_std[1], rtol=0.5)
    distinct = sf.estimate_bias_variance("sampled_softmax", scores, 5, sampler, 100, unique=True, **options)
    assert np.isnan(distinct.theory_gradient_std[0]) and distinct.gradient_std[0] < iid.gradient_std[1]
    everything = sf.estimate_bias_variance(
        "sampled_softmax", SCORES, 1, sf.UniformSampler(N), N, unique=True, replicates=5
    )
    assert everything.gradient_error[0] < 1e-5  # all classes, once each: the exact loss


def test_the_table_prints_converts_and_plots():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    table = sf.estimate_bias_variance("nce", SCORES, 1, Q, [1, 2, 4])
    lines = str(table).splitlines()
    assert lines[0].startswith("nce: 1 x 4") and len(lines) == 5 and len(table) == 3
    assert table._repr_html_().count("<tr>") == 4
    assert table.to_dict()["m"] == [1, 2, 4]
    axes = table.plot()
    assert axes.get_xscale() == "log" and len(axes.lines) >= 4
    assert table.plot(axes) is axes


def test_to_pandas():
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = sf.estimate_bias_variance("nce", SCORES, 1, Q, [1, 2]).to_pandas()
    assert list(frame["m"]) == [1, 2] and "gradient_bias" in frame


def test_moments_split_the_mean_square_error():
    moments = _Moments(1.0, np.array([0.5, 0.5]))
    moments.add(np.array([1.0, 3.0]), np.array([[1.0, 0.0], [2.0, 1.0]]), np.array([0.5, 0.5]))
    bias, variance, square, noise, total, of_loss = moments.found(None)
    assert (bias, variance, noise, of_loss) == (1.0, 1.0, 0.0, 0.0)
    assert (square, total) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"loss": "hs"}, "loss is 'hs'"),
        ({"target": 4}, "target holds 4"),
        ({"target": [0, 1]}, "target has shape"),
        ({"sampler": [0.5, 0.5]}, "sampler has 2 classes, must have 4"),
        ({"m": 0}, "m is 0"),
        ({"m": []}, "must be 1 or more"),
        ({"method": "theory"}, "method is 'theory'"),
        ({"replicates": 1}, "replicates is 1"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"m": 200, "method": "exact"}, "method is 'exact' for 4 classes and m = 200"),
        ({"unique": True, "method": "exact"}, "distinct draws are not enumerated"),
        ({"correction": "logq"}, "correction is 'logq'"),
    ],
)
def test_what_is_refused(change, words):
    given = {"loss": "sampled_softmax", "scores": SCORES, "target": 1, "sampler": Q, "m": 2, **change}
    arrays = [given.pop(name) for name in ("loss", "scores", "target", "sampler", "m")]
    with pytest.raises(ValueError, match=words):
        sf.estimate_bias_variance(*arrays, **given)


def test_a_biased_treatment_of_hits_warns_at_its_call():
    with pytest.warns(UserWarning, match="no longer the optimum") as found:
        sf.estimate_bias_variance("sampled_softmax", SCORES, 1, Q, 1, remove_hits=True)
    assert found[0].filename == __file__
