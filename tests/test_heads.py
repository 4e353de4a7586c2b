"""The linear head: what it promises against scores that are all computed, in float64."""

import itertools
import multiprocessing
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

import softmaxfam_rs as sf

KINDS = ("float32", "float16", "bfloat16", "int8")


def problem(classes, width, *batch, seed=0):
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((classes, width), dtype=np.float32)
    h = rng.standard_normal((*batch, width), dtype=np.float32)
    return weight, h, rng.standard_normal(classes, dtype=np.float32)


def rounded(weight, dtype):
    """The matrix that a head of a type computes with, in float64."""
    if dtype == "int8":
        scale = np.abs(weight).max(1, keepdims=True) / np.float32(127)
        return np.rint(weight / scale).astype(np.float64) * scale
    if dtype == "bfloat16":
        ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
        return weight.astype(ml_dtypes.bfloat16).astype(np.float64)
    return weight.astype(dtype).astype(np.float64)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("batch", [(), (3,), (2, 9), (0,)])
def test_scores_are_those_of_all_logits(dtype, batch):
    weight, h, bias = problem(9000, 37, *batch)
    head = sf.LinearHead(weight, bias, dtype=dtype, temperature=0.7)
    target = np.full(batch, 8999)
    found = head.score(h, 12, target=target)
    queries = rounded(h.reshape(-1, 37), "int8").reshape(h.shape) if dtype == "int8" else h.astype(np.float64)
    logits = (queries @ rounded(weight, dtype).T + bias) / 0.7
    lse = logsumexp(logits, -1)
    assert found.log_probs.shape == found.indices.shape == (*batch, 12)
    assert found.logsumexp.shape == found.target_log_prob.shape == batch
    np.testing.assert_allclose(found.logsumexp, lse, rtol=0, atol=3e-5)
    np.testing.assert_allclose(found.target_log_prob, logits[..., -1] - lse, rtol=0, atol=6e-5)
    np.testing.assert_allclose(head.logits(h), logits, rtol=0, atol=3e-5)
    np.testing.assert_allclose(head.logsumexp(h), found.logsumexp, rtol=0, atol=0)
    assert_best(found.indices, logits, 12, 6e-5)
    log_probs = np.take_along_axis(logits, found.indices, -1) - lse[..., None]
    np.testing.assert_allclose(found.log_probs, log_probs, rtol=0, atol=6e-5)


def assert_best(indices, logits, k, slack):
    """Equal to the best by exact scores wherever their gaps exceed what rounding may move."""
    order = np.argsort(-logits, -1, kind="stable")[..., : k + 1]
    best = np.take_along_axis(logits, order, -1)
    gaps = -np.diff(best, axis=-1)
    clear = (gaps > slack) & (np.pad(gaps, [(0, 0)] * (gaps.ndim - 1) + [(1, 0)], constant_values=1)[..., :-1] > slack)
    assert (indices == order[..., :k])[clear].all()
    assert gaps.size == 0 or clear.mean() > 0.9


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 70), st.integers(1, 9), st.integers(1, 12), st.integers(0, 2**32))
def test_a_query_does_not_see_its_batch(classes, width, count, k, seed):
    weight, h, bias = problem(classes, width, count, seed=seed)
    k = min(k, classes)
    for dtype in KINDS:
        head = sf.LinearHead(weight, bias, dtype=dtype)
        whole = head.score(h, k)
        for query in range(count):
            alone = head.score(h[query], k)
            assert all(np.array_equal(one, all_[query]) for one, all_ in zip(alone[:3], whole[:3], strict=True))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
def test_rescoring_gives_the_best_of_float32(dtype):
    weight, h, bias = problem(30_000, 64, 40)
    exact = sf.LinearHead(weight, bias).score(h, 10)
    low = sf.LinearHead(weight, bias, dtype=dtype)
    found = low.score(h, 10, rescore=True)
    np.testing.assert_array_equal(found.indices, exact.indices)
    scores = found.log_probs.astype(np.float64) + found.logsumexp[:, None]
    expected = exact.log_probs.astype(np.float64) + exact.logsumexp[:, None]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
    assert found.candidates.shape == (40,)
    assert (found.candidates >= 10).all()
    assert found.candidates.mean() < 300
    again = (
        sf.LinearHead(rounded(weight, "float16").astype(np.float16), bias, exact=weight) if dtype == "float16" else low
    )
    np.testing.assert_array_equal(again.score(h, 10, rescore=True).indices, exact.indices)
    with pytest.raises(ValueError, match="it is in float32"):
        sf.LinearHead(weight).score(h, rescore=True)
    with pytest.raises(ValueError, match="not at hand"):
        sf.LinearHead(weight.astype(np.float16)).score(h, rescore=True)


def test_rescoring_where_rounding_misleads():
    # the best class loses most by rounding: one large number makes its other numbers coarse
    weight = np.zeros((500, 16), dtype=np.float32)
    weight[:, 1:] = np.random.default_rng(0).normal(0.3, 0.002, (500, 15)).astype(np.float32)
    weight[::7, 0] = 60.0
    h = np.ones((1, 16), dtype=np.float32)
    h[0, 0] = 0.0
    exact = sf.LinearHead(weight).score(h, 5)
    low = sf.LinearHead(weight, dtype="int8")
    assert not np.array_equal(low.score(h, 5).indices, exact.indices)
    np.testing.assert_array_equal(low.score(h, 5, rescore=True).indices, exact.indices)


def test_absent_classes():
    weight, h, _ = problem(5000, 12, 2, 3)
    head = sf.LinearHead(weight)
    best = head.score(h, 2).indices
    where = np.arange(5000) % 3 != 1
    found = head.score(h, 4, where=where, exclude=best)
    logits = head.logits(h, where=where, exclude=best.reshape(-1, 2).tolist())
    expected = sf.top_log_probs(logits, 4)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.log_probs, expected.log_probs, rtol=0, atol=1e-6)
    assert np.isneginf(np.take_along_axis(logits, best, -1)).all()
    sparse = head.entmax(h, where=where, exclude=best)
    np.testing.assert_allclose(sparse.to_dense(), sf.entmax(logits).reshape(6, -1), rtol=0, atol=1e-6)
    nothing = head.score(h, 3, where=np.zeros(5000, bool), target=np.zeros((2, 3), int))
    assert np.isneginf(nothing.logsumexp).all() and np.isneginf(nothing.target_log_prob).all()
    assert (nothing.indices == -1).all() and np.isneginf(nothing.log_probs).all()


@pytest.mark.parametrize("dtype", KINDS)
def test_undefined_queries_leave_others_alone(dtype):
    weight, h, _ = problem(700, 20, 7)
    head = sf.LinearHead(weight, dtype=dtype)
    expected = head.score(h)
    h[3, 5], h[5, 0] = np.nan, np.inf
    found = head.score(h)
    others = [0, 1, 2, 4, 6]
    np.testing.assert_array_equal(found.log_probs[others], expected.log_probs[others])
    assert np.isnan(found.log_probs[[3, 5]]).all() and (found.indices[[3, 5]] == -1).all()


@pytest.mark.parametrize("alpha", [1.2, 1.5, 2.0, np.inf])
def test_entmax_is_that_of_all_logits(alpha):
    weight, h, bias = problem(9000, 30, 3)
    head = sf.LinearHead(weight, bias, temperature=2.0)
    found = head.entmax(h, alpha)
    expected = sf.entmax_sparse(head.logits(h), alpha)
    np.testing.assert_array_equal(found.indptr, expected.indptr)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=5e-7)
    assert found.shape == (3, 9000)


@pytest.mark.parametrize("unique", [False, True])
def test_draws_are_those_of_all_logits(unique):
    weight, h, _ = problem(9000, 16, 2, 2)
    head = sf.LinearHead(weight)
    found = head.sample(h, 5, rng=3, unique=unique)
    expected = sf.sample_scores(head.logits(h), 5, rng=3, unique=unique)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_allclose(found.logq, expected.logq, rtol=0, atol=1e-5)
    if unique:
        np.testing.assert_allclose(found.threshold, expected.threshold, rtol=0, atol=1e-5)


def shard(arguments):
    weight, bias, first, h, target = arguments
    head = sf.LinearHead(weight, bias, first_class=first)
    return head.partial(h, 6, target=target), head.entmax_partial(h, 1.5)


def test_shards_in_processes_give_the_bits_of_one_head():
    weight, h, bias = problem(20_000, 24, 2, 5)
    target = np.arange(10).reshape(2, 5) * 1999
    whole = sf.LinearHead(weight, bias)
    expected, sparse = whole.score(h, 6, target=target), whole.entmax(h)
    ends = [0, 8192, 12288, 20_000]
    jobs = [(weight[a:b], bias[a:b], a, h, target) for a, b in itertools.pairwise(ends)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        (a, p), (b, q), (c, r) = pool.map(shard, jobs)
    for state in (a.merge(b).merge(c), c.merge(a.merge(b)), pickle.loads(pickle.dumps(b.merge(c))).merge(a)):
        found = state.finish()
        assert len(state) == 10
        assert all(np.array_equal(one, other) for one, other in zip(found[:4], expected[:4], strict=True))
    rows = r.merge(p).merge(q).finish(n_classes=20_000)
    assert all(np.array_equal(one, other) for one, other in zip(rows[:3], sparse[:3], strict=True))
    assert len(pickle.dumps(a)) < 10 * 400
    with pytest.raises(ValueError, match="class 0 is in both states"):
        a.merge(a)
    with pytest.raises(ValueError, match="target of query 5 is class 9995"):
        a.finish()


@pytest.mark.parametrize("dtype", KINDS)
def test_the_matrix_may_lie_anyhow(dtype, tmp_path):
    weight, h, _ = problem(3000, 33, 6)
    expected = sf.LinearHead(weight, dtype=dtype).score(h)
    np.save(tmp_path / "weight.npy", weight)
    wide = np.zeros((3000, 80), dtype=np.float32)
    wide[:, 5:38] = weight
    for layout in (
        np.load(tmp_path / "weight.npy", mmap_mode="r"),
        np.asfortranarray(weight),
        np.repeat(weight, 2, axis=0)[::2],
        weight[::-1][::-1].copy()[::-1][::-1],
        np.ascontiguousarray(weight[::-1])[::-1],
        wide[:, 5:38],
        weight.astype(weight.dtype.newbyteorder()),
        weight.astype(np.float64),
    ):
        for prepack in (False, True):
            found = sf.LinearHead(layout, dtype=dtype, prepack=prepack).score(h)
            np.testing.assert_array_equal(found.indices, expected.indices)
            np.testing.assert_array_equal(found.log_probs, expected.log_probs)


def test_what_is_written_to_the_matrix_is_seen():
    weight, h, _ = problem(50, 4, 1)
    head = sf.LinearHead(weight)
    head.score(h)
    weight[7] = 100 * h[0]
    assert head.score(h, 1).indices == [[7]]


def test_heads_and_their_results_can_be_pickled():
    weight, h, bias = problem(300, 8, 2)
    for dtype in KINDS:
        head = sf.LinearHead(weight, bias, dtype=dtype, temperature=0.5)
        copy = pickle.loads(pickle.dumps(head))
        np.testing.assert_array_equal(copy.score(h).log_probs, head.score(h).log_probs)
        assert (copy.n_classes, copy.width, copy.dtype, len(copy)) == (300, 8, dtype, 300)
        assert repr(copy) == f"<LinearHead: 300 classes, width 8, {dtype}, bias, temperature 0.5>"


def test_damaged_states_are_refused():
    weight, h, _ = problem(300, 8, 2)
    for state in (sf.LinearHead(weight).partial(h), sf.LinearHead(weight).entmax_partial(h)):
        make, (data, *rest) = state.__reduce__()
        for damaged in (b"", data[:-1], data + b"x", b"x" + data):
            with pytest.raises(ValueError, match="the bytes are no state"):
                make(damaged, *rest)


WEIGHT, H, _ = problem(10, 4, 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sf.LinearHead(WEIGHT[0]), ValueError, "weight has shape (4,), must have two axes"),
        (
            lambda: sf.LinearHead(WEIGHT.astype(complex)),
            TypeError,
            "weight has dtype complex128, must be of real numbers",
        ),
        (lambda: sf.LinearHead(WEIGHT[:0]), ValueError, "the number of classes is 0, must lie in [1, 4294967295]"),
        (lambda: sf.LinearHead(WEIGHT, np.zeros(9)), ValueError, "bias has length 9, must have length 10"),
        (lambda: sf.LinearHead(WEIGHT, dtype="int4"), ValueError, "dtype is 'int4', must be one of float32, float16"),
        (lambda: sf.LinearHead(WEIGHT, temperature=0), ValueError, "temperature is 0, must be > 0"),
        (lambda: sf.LinearHead(WEIGHT, first_class=-1), ValueError, "first_class is -1, must be 0 or more"),
        (
            lambda: sf.LinearHead(WEIGHT * np.nan, dtype="int8"),
            ValueError,
            "the weight of class 0 holds NaN or infinity",
        ),
        (lambda: sf.LinearHead(WEIGHT).score(H[:, :3]), ValueError, "h has shape (2, 3), must have 4 numbers along"),
        (lambda: sf.LinearHead(WEIGHT).score(H, 11), ValueError, "k is 11, must lie in [1, 10]"),
        (lambda: sf.LinearHead(WEIGHT).score(H, -1), ValueError, "k is -1, must be 0 or more"),
        (
            lambda: sf.LinearHead(WEIGHT).score(H, 1, target=[1]),
            ValueError,
            "target has shape (1,), must have shape (2,)",
        ),
        (
            lambda: sf.LinearHead(WEIGHT).score(H, 1, target=[1, 10]),
            ValueError,
            "target of query 1 is class 10, must be one of the classes",
        ),
        (
            lambda: sf.LinearHead(WEIGHT).score(H, 1, where=np.ones(9, bool)),
            ValueError,
            "where has dtype bool and shape (9,)",
        ),
        (lambda: sf.LinearHead(WEIGHT).score(H, 1, exclude=[[1]]), ValueError, "exclude has 1 lists, must have 2"),
        (lambda: sf.LinearHead(WEIGHT).entmax(H, 1.0), ValueError, "alpha is 1, must be > 1"),
        (lambda: sf.LinearHead(WEIGHT).entmax(H, 1.5, max_support=0), ValueError, "row 0 has a support of"),
        (
            lambda: sf.LinearHead(WEIGHT).sample(H, 11, rng=1, unique=True),
            ValueError,
            "asks for 11 distinct classes of 10",
        ),
        (
            lambda: sf.LinearHead(WEIGHT).logits(H, out=np.zeros((2, 9), "f4")),
            ValueError,
            "out has shape (2, 9), must be",
        ),
        (lambda: sf.LinearHead(WEIGHT).score("query"), TypeError, "h is a str, must be an array or numbers"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error) as refused:
        call()
    assert message in str(refused.value)
