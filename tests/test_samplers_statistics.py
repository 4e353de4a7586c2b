"""The laws of the samplers: tests whose false alarms are counted, with fixed seeds.

Each test of a hypothesis alarms below a p-value of ALARM; there are fewer than 100 of them, so that a right
implementation would fail one of them with other seeds at a chance below 1e-4. With these seeds it does not.
"""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

import softmaxfam_rs as sf

ALARM = 1e-6


def p_of_counts(counts, q, least=10.0):
    """Chi-square of counts against probabilities; classes of few expected draws are taken together."""
    counts, expected = np.asarray(counts, float), np.asarray(q) * np.sum(counts)
    order = np.argsort(expected)
    counts, expected = counts[order], expected[order]
    groups = np.cumsum(expected) // least  # neighbours until they have `least` together
    groups = np.minimum(groups, groups[-1] - 1) if groups[-1] > 0 else groups
    _, index = np.unique(groups, return_inverse=True)
    observed, wanted = np.bincount(index, counts), np.bincount(index, expected)
    assert (observed[wanted == 0] == 0).all()
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    return stats.chi2.sf(((observed - wanted) ** 2 / wanted).sum(), len(wanted) - 1) if len(wanted) > 1 else 1.0


def zipf(n):
    return 1 / np.arange(1, n + 1)


LAWS = {
    "zipf": zipf(1000),
    "zipf^2": zipf(20_000) ** 2,
    "30 decades": 10.0 ** -(np.arange(300) % 31),
    "equal": np.ones(777),
    "pareto": np.random.default_rng(1).pareto(1.2, 5000) + 1,
    "with zeros": np.where(np.arange(3000) % 3 == 0, 0, np.arange(3000)),
    "one": np.array([2.0]),
}


@pytest.mark.parametrize("weights", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("power", [1.0, 0.75])
def test_alias_draws_follow_the_weights(weights, power):
    q = np.where(weights > 0, weights, 0) ** power / (weights[weights > 0] ** power).sum()
    q[weights == 0] = 0
    ids, _ = sf.AliasTable(weights, power=power).sample(2_000_000, rng=5)
    counts = np.bincount(ids, minlength=len(weights))
    assert counts[q == 0].sum() == 0
    assert p_of_counts(counts, q) > ALARM


@pytest.mark.parametrize("sampler", [sf.UniformSampler(1000), sf.LogUniformSampler(1000), sf.LogUniformSampler(10**7)])
def test_closed_forms_follow_their_laws(sampler):
    ids, _ = sampler.sample(2_000_000, rng=6)
    q = sampler.probs(np.arange(len(sampler))).astype(float)
    assert q.sum() == pytest.approx(1, abs=1e-6)
    assert p_of_counts(np.bincount(ids, minlength=len(sampler)), q / q.sum()) > ALARM


@pytest.mark.parametrize("weights", [zipf(10_000), np.random.default_rng(1).pareto(1.2, 10_000) + 1])
def test_tails_alone(weights):
    q = weights / weights.sum()
    rare = np.argsort(q)[:5000]
    ids, _ = sf.AliasTable(weights).sample(4_000_000, rng=8)
    counts = np.bincount(ids, minlength=len(q))[rare]
    assert p_of_counts(counts, q[rare] / q[rare].sum()) > ALARM
    # and the mass of the tail as a whole
    assert stats.binomtest(int(counts.sum()), len(ids), q[rare].sum()).pvalue > ALARM


def test_many_classes_beyond_what_f32_counts():
    n = 2**24 + 1000
    weights = np.ones(n)
    weights[-1000:] = 1e4
    q_last = 1e7 / (n - 1000 + 1e7)
    ids, _ = sf.AliasTable(weights).sample(1_000_000, rng=4)
    last = ids[ids >= n - 1000] - (n - 1000)
    assert stats.binomtest(len(last), len(ids), q_last).pvalue > ALARM
    assert p_of_counts(np.bincount(last, minlength=1000), np.full(1000, 1e-3)) > ALARM
    assert (ids % 2 == 1).mean() == pytest.approx(0.5, abs=0.005)  # odd classes, too


def test_a_biased_table_is_caught(tmp_path):
    table = sf.AliasTable(zipf(1000))
    table.save(tmp_path / "table.npz")
    with np.load(tmp_path / "table.npz") as file:
        parts = dict(file)
    thresholds = parts["slots"] >> np.uint64(32)
    raised = np.minimum(thresholds + np.uint64(2**32 // 100), np.uint64(2**32 - 1))  # by 1 %
    parts["slots"] = raised << np.uint64(32) | parts["slots"] & np.uint64(2**32 - 1)
    np.savez(tmp_path / "biased.npz", **parts)
    biased = sf.AliasTable.load(tmp_path / "biased.npz")
    ids, _ = biased.sample(2_000_000, rng=5)
    counts = np.bincount(ids, minlength=1000)
    assert p_of_counts(counts, zipf(1000) / zipf(1000).sum()) < ALARM
    # its own logq is that of the table, which the draws do follow
    assert p_of_counts(counts, np.exp(biased.logq(np.arange(1000)).astype(float))) > ALARM


def p_of_correlation(x, y):
    return stats.norm.sf(abs(np.corrcoef(x, y)[0, 1]) * math.sqrt(len(x))) * 2


def test_no_serial_correlation():
    ids, _ = sf.UniformSampler(1 << 20).sample(1_000_000, rng=3)
    for lag in (1, 2, 3, 4, 16, 32, 64, 1000):
        assert p_of_correlation(ids[:-lag], ids[lag:]) > ALARM
    pairs = (ids[::2] >> 15) * 32 + (ids[1::2] >> 15)
    assert p_of_counts(np.bincount(pairs, minlength=1024), np.full(1024, 1 / 1024)) > ALARM


def test_no_correlation_between_streams():
    sampler, count = sf.UniformSampler(1 << 20), 500_000
    streams = [sf.Stream(seed, key=key) for seed, key in ((0, 0), (1, 0), (0, 1), (2**63, 0), (0, 2**63), (1, 1))]
    streams += sf.Stream(0).at(10**6).split(2)
    drawn = [sampler.sample(count, rng=stream).ids for stream in streams]
    for one, other in itertools.combinations(drawn, 2):
        assert p_of_correlation(one, other) > ALARM
        pairs = (one >> 15) * 32 + (other >> 15)
        assert p_of_counts(np.bincount(pairs, minlength=1024), np.full(1024, 1 / 1024)) > ALARM


def inclusion(q, m):
    """Inclusion probabilities of the first m distinct draws, and the law of the sets, by enumeration."""
    sets = {}
    for order in itertools.permutations(np.flatnonzero(q), m):
        left, p = 1.0, 1.0
        for i in order:
            p, left = p * q[i] / left, left - q[i]
        sets[frozenset(order)] = sets.get(frozenset(order), 0.0) + p
    return sets


Q = {
    "plain": np.array([0.5, 0.3, 0.15, 0.05]),
    "with zero": np.array([0.4, 0.0, 0.3, 0.2, 0.1]),
    "equal": np.full(5, 0.2),
    "rare": np.array([0.7, 0.3 - 2e-6, 1e-6, 1e-6]),  # the last are found by a race
}


@pytest.mark.parametrize("q", Q.values(), ids=Q)
@pytest.mark.parametrize("m", [1, 2, 3])
def test_distinct_draws_have_the_law_of_first_appearances(q, m):
    rows = 200_000
    samples = sf.AliasTable(q).sample((rows, m), rng=11, unique=True)
    law = inclusion(q, m)
    names = list(law)
    codes = {sum(1 << int(i) for i in name): index for index, name in enumerate(names)}
    found = np.array([codes[code] for code in (1 << samples.ids).sum(axis=1)])
    assert p_of_counts(np.bincount(found, minlength=len(names)), [law[name] for name in names]) > ALARM
    if m == 1:
        assert (samples.tries == 1).all()


def test_tries_and_expected_counts():
    q = Q["plain"]
    samples = sf.AliasTable(q).sample((400_000, 2), rng=12, unique=True)
    # tries - 1 is geometric, given the first class
    for first in range(4):
        tries = samples.tries[samples.ids[:, 0] == first] - 1
        counts = np.bincount(np.minimum(tries, 30), minlength=31)[1:]
        law = np.append(stats.geom.pmf(np.arange(1, 30), 1 - q[first]), stats.geom.sf(29, 1 - q[first]))
        assert p_of_counts(counts, law) > ALARM
    # TensorFlow's formula is an approximation, and off by what the docs say
    approximate = sf.AliasTable(q).expected_count(np.arange(4), samples.tries.mean())
    np.testing.assert_allclose(approximate, [0.842, 0.612, 0.351, 0.127], atol=5e-3)
    exact = [np.any(samples.ids == i, axis=1).mean() for i in range(4)]
    np.testing.assert_allclose(exact, [0.829, 0.669, 0.372, 0.130], atol=5e-3)


def test_rare_classes_take_as_many_tries_as_they_must():
    samples = sf.AliasTable([1.0, 1e-7]).sample((4000, 2), rng=2, unique=True)
    assert sorted(np.unique(samples.ids)) == [0, 1]
    late = samples.ids[:, 0] == 0
    q = float(sf.AliasTable([1.0, 1e-7]).probs(1))
    assert stats.kstest((samples.tries[late] - 1) * q, "expon").pvalue > ALARM
    assert (samples.threshold == -np.inf).all()


@pytest.mark.parametrize("weights", [zipf(20), np.ones(10), 10.0 ** -np.arange(8)], ids=["zipf", "equal", "decades"])
@pytest.mark.parametrize("m", [1, 3, 7])
def test_thresholds_make_unbiased_sums(weights, m):
    table = sf.AliasTable(weights)
    values = np.sin(np.arange(len(weights))) + 2
    samples = table.sample((200_000, m), rng=13, unique=True)
    keys = samples.logq.astype(float) - samples.threshold.astype(float)[:, None]
    if len(weights) == 8:
        values = values * table.probs(np.arange(8))  # else the variance has no bound to speak of
    estimates = (values[samples.ids] / -np.expm1(-np.exp(keys))).sum(axis=1)
    error = estimates.std() / math.sqrt(len(estimates))
    assert abs(estimates.mean() - values.sum()) < 5 * error  # false alarm: 6e-7


def softmax(x):
    terms = np.exp(x - x.max())
    return terms / terms.sum()


@pytest.mark.parametrize("n", [3, 300, 10_000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_draws_from_scores_follow_softmax(n, dtype, rng):
    x = (3 * rng.standard_normal(n)).astype(dtype)
    x[n // 3] = -np.inf
    q = softmax(x.astype(float) / 0.8)
    ids, logq = sf.sample_scores(x, 500_000, rng=1, temperature=0.8)
    assert p_of_counts(np.bincount(ids, minlength=n), q) > ALARM
    np.testing.assert_allclose(logq, np.log(q[ids]), rtol=1e-5, atol=1e-5)
    ids = sf.sample_scores(
        np.broadcast_to(x, (20_000, n)) if n < 10_000 else np.tile(x, (500, 1)), 1, rng=2, temperature=0.8
    ).ids
    assert p_of_counts(np.bincount(ids[:, 0], minlength=n), q) > ALARM


@pytest.mark.parametrize("m", [1, 2, 3])
def test_distinct_draws_from_scores_follow_gumbel_top_k(m):
    q = np.array([0.4, 0.0, 0.3, 0.2, 0.1])
    with np.errstate(divide="ignore"):
        scores = np.broadcast_to(np.log(q), (100_000, 5))
    samples = sf.sample_scores(scores, m, rng=3, unique=True)
    orders = list(itertools.permutations(np.flatnonzero(q), m))
    law = []
    for order in orders:
        left, p = 1.0, 1.0
        for i in order:
            p, left = p * q[i] / left, left - q[i]
        law.append(p)
    codes = {sum(int(i) * 5**place for place, i in enumerate(order)): index for index, order in enumerate(orders)}
    found = [codes[code] for code in samples.ids @ 5 ** np.arange(m)]
    assert p_of_counts(np.bincount(found, minlength=len(orders)), law) > ALARM  # in their order


def test_distinct_draws_from_long_rows(rng):
    # blocks and parts of them: inclusion of single classes, and unbiased sums
    n, m, rows = 20_000, 20, 1500
    x = rng.standard_normal(n).astype(np.float32)
    x[[5, 5000, 12_345]] = 12, 11, 11.5  # of high probability, in three blocks
    q = softmax(x.astype(float))
    samples = sf.sample_scores(np.broadcast_to(x, (rows, n)), m, rng=9, unique=True)
    keys = samples.logq.astype(float) - samples.threshold.astype(float)[:, None]
    assert all(len(set(row)) == m for row in samples.ids.tolist())
    for values in (np.ones(n), q * n, (np.arange(n) < 4096) * 1.0, np.arange(n) / n):
        estimates = (values[samples.ids] / -np.expm1(-np.exp(keys))).sum(axis=1)
        error = estimates.std() / math.sqrt(rows)
        assert abs(estimates.mean() - values.sum()) < 5 * error + 1e-9
    # the first of each row is a draw from softmax
    coarse = np.add.reduceat(q, np.arange(0, n, 500))
    assert p_of_counts(np.bincount(samples.ids[:, 0] // 500, minlength=40), coarse) > ALARM


def test_redrawn_classes_follow_the_law_without_the_excluded():
    weights = zipf(50)
    q = weights / weights.sum()
    ids, _ = sf.AliasTable(weights).sample((2, 500_000), rng=4, exclude=np.array([[0, 3], [7, -1]]))
    for row, out in zip(ids, ([0, 3], [7]), strict=True):
        left = q.copy()
        left[out] = 0
        assert p_of_counts(np.bincount(row, minlength=50), left / left.sum()) > ALARM
