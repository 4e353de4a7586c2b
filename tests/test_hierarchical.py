"""Hierarchical softmax: trees, probabilities, gradients, the best classes, files."""

import hashlib
import heapq
import itertools
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import softmaxfam_rs as sf

COUNTS = st.lists(st.integers(0, 20), min_size=1, max_size=40)


def model_of(counts, width=5, *, bias=True, seed=0, scale=1.0, tree=None):
    rng = np.random.default_rng(seed)
    nodes = len(counts) - 1 if tree is None else len(tree)
    weight = (scale * rng.standard_normal((nodes, width))).astype(np.float32)
    return sf.HierarchicalSoftmax(
        counts, tree=tree, weight=weight, bias=rng.standard_normal(nodes, dtype=np.float32) if bias else None
    )


def paths(tree):
    """Return of each class its (node, bit) from the root."""
    n = len(tree) + 1
    above = {int(i): (node, bit) for node, ids in enumerate(tree) for bit, i in enumerate(ids)}
    found = []
    for leaf in range(n):
        path, at = [], leaf
        while at in above:
            path.append(above[at])
            at = n + above[at][0]
        found.append(path[::-1])
    return found


def naive_costs(model, h, bits=np.float64):
    """Return -log p of all classes of a query, in float64."""
    logits = model.weight.astype(bits) @ h.astype(bits)
    logits = logits if model.bias is None else logits + model.bias
    return np.array([sum(np.logaddexp(0, -a if b else a) for a, b in ((logits[v], b) for v, b in path))
                     for path in paths(model.tree)])  # fmt: skip


@given(COUNTS, st.floats(0, 30))
def test_probabilities_sum_to_1(counts, scale):
    model = model_of(counts, scale=scale)
    h = np.random.default_rng(1).standard_normal((2, 5), dtype=np.float32)
    np.testing.assert_allclose(np.exp(model.log_probs(h).astype(float)).sum(-1), 1, rtol=1e-5)
    for row, log_probs in zip(h, model.log_probs(h), strict=True):
        want = -naive_costs(model, row)
        np.testing.assert_allclose(log_probs, want, rtol=1e-5, atol=1e-5 * (1 + scale))


@given(COUNTS)
def test_all_zeros_give_the_length_of_the_path(counts):
    model = sf.HierarchicalSoftmax(counts, width=3)
    lengths = model.path_lengths()
    assert lengths.tolist() == [len(path) for path in paths(model.tree)]
    np.testing.assert_allclose(model.log_probs(np.ones(3)), -lengths * np.log(2), rtol=1e-6)
    assert (2.0**-lengths).sum() == 1  # Kraft


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=300))
def test_the_mean_path_is_within_a_bit_of_the_entropy(counts):
    p = np.array(counts) / sum(counts)
    entropy = -(p * np.log2(p)).sum()
    mean = (p * sf.HierarchicalSoftmax(counts, width=1).path_lengths()).sum()
    assert entropy - 1e-9 <= mean < entropy + 1


def best_cost(counts):
    """The least sum of counts times lengths, by trying all merges."""
    if len(counts) == 1:
        return 0
    costs = []
    for i, j in itertools.combinations(range(len(counts)), 2):
        rest = [c for k, c in enumerate(counts) if k not in {i, j}]
        costs.append(counts[i] + counts[j] + best_cost([*rest, counts[i] + counts[j]]))
    return min(costs)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_no_tree_is_better_than_huffmans(counts):
    assert (np.array(counts) * sf.HierarchicalSoftmax(counts, width=1).path_lengths()).sum() == best_cost(counts)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200))
def test_the_cost_is_that_of_a_heap(counts):
    heap, total = sorted(counts), 0.0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        total += merged
        heapq.heappush(heap, merged)
    found = (np.array(counts) * sf.HierarchicalSoftmax(counts, width=1).path_lengths()).sum()
    np.testing.assert_allclose(found, total, rtol=1e-9)


@pytest.mark.parametrize("width", [1, 5, 16, 33, 100])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_loss_and_gradient_against_a_naive_twin(rng, width, reduction):
    model = model_of(rng.integers(0, 50, 60), width, scale=width**-0.5)
    h = rng.standard_normal((3, 7, width), dtype=np.float32)
    target = rng.integers(60, size=(3, 7))
    target[0, 2] = -1
    h[0, 2] = np.nan
    loss, grad = model.loss_and_grad(h, target, reduction=reduction, ignore_index=-1)
    np.testing.assert_array_equal(loss, model.loss(h, target, reduction=reduction, ignore_index=-1))
    of_h, of_weight, of_bias = np.zeros(h.shape), np.zeros(model.weight.shape), np.zeros(59)
    losses = np.zeros((3, 7))
    walks = paths(model.tree)
    for at in np.ndindex(3, 7):
        if target[at] < 0:
            continue
        losses[at] = naive_costs(model, h[at])[target[at]]
        for v, bit in walks[target[at]]:
            g = 1 / (1 + np.exp(-(model.weight[v].astype(float) @ h[at] + model.bias[v]))) - bit
            of_h[at] += g * model.weight[v]
            of_weight[v] += g * h[at]
            of_bias[v] += g
    count = 20 if reduction == "mean" else 1
    want = losses if reduction == "none" else losses.sum() / count
    np.testing.assert_allclose(loss, want, rtol=2e-6)
    for mine, other in ((grad.h, of_h), (grad.weight.to_dense(), of_weight), (grad.bias.to_dense(), of_bias)):
        np.testing.assert_allclose(mine, other / count, rtol=1e-4, atol=2e-6)
    assert (np.diff(grad.weight.indices) > 0).all()
    touched = {v for t in target[target >= 0] for v, _ in walks[t]}
    assert set(grad.weight.indices.tolist()) == touched


def test_gradient_against_finite_differences(rng):
    model = model_of(rng.integers(1, 50, 30), 4)
    h, target = rng.standard_normal((6, 4), dtype=np.float32), rng.integers(30, size=6)
    grad = model.loss_and_grad(h, target, reduction="sum")[1]
    step = 2.0**-6
    for index in np.ndindex(6, 4):
        sides = []
        for sign in (1, -1):
            moved = h.copy()
            moved[index] += sign * step
            sides.append(-model.log_prob(moved, target).astype(float).sum())
        assert abs((sides[0] - sides[1]) / (2 * step) - grad.h[index]) < 2e-3


@given(COUNTS, st.sampled_from([0.0, 0.5, 2.0, 40.0]), st.data())
def test_the_best_classes_are_those_of_the_full_distribution(counts, scale, data):
    model = model_of(counts, scale=scale, bias=data.draw(st.booleans()))
    k = data.draw(st.integers(1, len(counts)))
    h = np.random.default_rng(2).standard_normal((3, 5), dtype=np.float32)
    found, full = model.top_log_probs(h, k), model.log_probs(h)
    order = np.stack([np.lexsort((np.arange(len(counts)), -row)) for row in full])[:, :k]
    np.testing.assert_array_equal(found.indices, order)
    np.testing.assert_array_equal(found.log_probs, np.take_along_axis(full, order, -1))
    assert not found.logsumexp.any()


def test_one_value_by_all_ways(rng):
    model = model_of(rng.integers(1, 1000, 3000), 37)
    h, target = rng.standard_normal((50, 37), dtype=np.float32), rng.integers(3000, size=50)
    one = model.log_prob(h, target)
    np.testing.assert_array_equal(one, model.log_probs(h)[np.arange(50), target])
    for at in (0, 17, 49):
        np.testing.assert_array_equal(one[at], model.log_prob(h[at], target[at]))


SCRIPT = """
import hashlib, numpy as np, softmaxfam_rs as sf
rng = np.random.default_rng(3)
digest = hashlib.sha256()
for width in (3, 70, 128):
    weight, bias = rng.standard_normal((9999, width), dtype="f4") / 8, rng.standard_normal(9999, dtype="f4")
    model = sf.HierarchicalSoftmax(1 / np.arange(1, 10001), weight=weight, bias=bias)
    h, target = rng.standard_normal((900, width), dtype="f4"), rng.integers(10000, size=900)
    loss, grad = model.loss_and_grad(h, target)
    for part in (loss, grad.h, *grad.weight[:2], grad.bias.values, model.log_probs(h[:40]), *model.top_log_probs(h, 4)):
        digest.update(np.ascontiguousarray(part).tobytes())
print(digest.hexdigest())
"""


def digest(**environment):
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return run.stdout


def test_the_same_bits_for_instruction_sets_and_threads():
    expected = digest(SOFTMAXFAM_NUM_THREADS="1")
    for isa in sf.show_config()["isa_available"]:
        assert digest(SOFTMAXFAM_ISA=isa, SOFTMAXFAM_NUM_THREADS="2") == expected, isa
    assert len(expected.strip()) == hashlib.sha256().digest_size * 2


def chain(n):
    """A tree of depth n - 1: each merge takes the next class."""
    return np.stack([np.r_[0, np.arange(n + 0, 2 * n - 2)], np.arange(1, n)], axis=1)


def test_the_deepest_trees():
    lengths = sf.HierarchicalSoftmax(2.0 ** np.arange(1000), width=1).path_lengths()
    assert lengths.tolist() == [999, *range(999, 0, -1)]
    n = 100_000
    model = sf.HierarchicalSoftmax(tree=chain(n), width=2)
    assert model.path_lengths().max() == n - 1
    loss, grad = model.loss_and_grad(np.ones((2, 2)), [0, n - 1], reduction="none")
    np.testing.assert_allclose(loss, np.log(2) * np.array([n - 1, 1]), rtol=1e-6)
    assert len(grad.weight.indices) == n - 1
    assert model.top_log_probs(np.ones(2), 3).indices.tolist() == [n - 1, n - 2, n - 3]
    np.testing.assert_allclose(model.log_probs(np.ones(2))[[0, -1]], -np.log(2) * np.array([n - 1, 1]), rtol=1e-6)


def test_few_classes_and_zero_counts():
    one = sf.HierarchicalSoftmax([3], width=2, bias=True)
    loss, grad = one.loss_and_grad(np.ones((4, 2)), [0] * 4)
    assert loss == 0 and not grad.h.any() and grad.weight.values.shape == (0, 2)
    assert one.top_log_probs(np.ones((4, 2)), 1).indices.tolist() == [[0]] * 4
    assert one.log_probs(np.ones((4, 2))).tolist() == [[0.0]] * 4
    two = sf.HierarchicalSoftmax([3, 1], weight=[[1.0, 0.0]])
    np.testing.assert_allclose(two.log_prob([1.0, 0.0], 0), -np.log1p(np.exp(-1)), rtol=1e-6)
    assert sf.HierarchicalSoftmax([0] * 8, width=1).path_lengths().tolist() == [3] * 8
    assert two.loss(np.ones((0, 2)), np.zeros(0, int), reduction="sum") == 0
    assert np.isnan(two.loss(np.ones((1, 2)), [-1], ignore_index=-1))


def test_the_mean_is_of_the_queries_that_count():
    model = sf.HierarchicalSoftmax(np.ones(4), width=1)
    np.testing.assert_allclose(model.loss(np.ones((3, 1)), [0, -1, 1], ignore_index=-1), 2 * np.log(2), rtol=1e-6)


def test_nan_and_infinity_stay_in_their_row(rng):
    model = model_of(np.ones(6), 3)
    h = rng.standard_normal((3, 3), dtype=np.float32)
    clean = model.log_probs(h)
    h[1] = np.nan
    found = model.log_probs(h)
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[::2], clean[::2])
    best = model.top_log_probs(h, 2)
    assert best.indices[1].tolist() == [-1, -1] and np.isnan(best.log_probs[1]).all() and np.isnan(best.logsumexp[1])
    sure = sf.HierarchicalSoftmax([1, 1], weight=[[1.0]])
    assert sure.log_probs([np.inf]).tolist() == [-np.inf, 0.0]
    assert sure.top_log_probs([np.inf], 2).indices.tolist() == [1, 0]


def test_a_given_tree_and_what_is_written_to_the_weight_counts(rng):
    first = model_of(rng.integers(1, 9, 20), 3)
    again = sf.HierarchicalSoftmax(tree=first.tree, weight=first.weight, bias=first.bias)
    h = rng.standard_normal((4, 3), dtype=np.float32)
    np.testing.assert_array_equal(first.log_probs(h), again.log_probs(h))
    first.weight[...] = 0
    np.testing.assert_array_equal(again.weight, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sf.HierarchicalSoftmax([1, -1], width=1), "count of class 1 is -1, must be finite and >= 0"),
        (lambda: sf.HierarchicalSoftmax([np.nan], width=1), "count of class 0 is NaN"),
        (lambda: sf.HierarchicalSoftmax([np.inf, 1], width=1), "count of class 0 is inf"),
        (lambda: sf.HierarchicalSoftmax([], width=1), "must have 1 to 1073741824"),
        (lambda: sf.HierarchicalSoftmax(tree=[[0, 0]], width=1), "merge 0 of the tree names id 0"),
        (lambda: sf.HierarchicalSoftmax(tree=[[0, 4], [1, 2]], width=1), r"merge 0 .* id 4, must name ids in \[0, 2\]"),
        (lambda: sf.HierarchicalSoftmax(tree=[0, 1], width=1), "must be"),
        (lambda: sf.HierarchicalSoftmax(width=1), "one of them"),
        (lambda: sf.HierarchicalSoftmax([1, 1]), "one of them"),
        (lambda: sf.HierarchicalSoftmax([1, 1], width=0), "width is 0, must be >= 1"),
        (lambda: sf.HierarchicalSoftmax([1, 1], weight=np.ones((2, 2))), r"must be \(1, width\)"),
        (lambda: sf.HierarchicalSoftmax([1, 1], width=1, bias=np.ones(2)), r"bias has shape \(2,\)"),
        (lambda: sf.HierarchicalSoftmax([1, 1], width=1).loss(np.ones((1, 2)), [0]), "must have 1 numbers"),
        (lambda: sf.HierarchicalSoftmax([1, 1], width=1).loss(np.ones((1, 1)), [2]), r"target of row 0 is 2"),
        (lambda: sf.HierarchicalSoftmax([1, 1], width=1).loss(np.ones((1, 1)), [0, 1]), "target has shape"),
        (lambda: sf.HierarchicalSoftmax([1, 1], width=1).loss(np.ones((1, 1)), [0], reduction="all"), "reduction"),
        (lambda: sf.HierarchicalSoftmax([1, 1], width=1).top_log_probs([1.0], 3), "k is 3"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_types_are_refused():
    model = sf.HierarchicalSoftmax([1, 1], width=1)
    with pytest.raises(TypeError, match="target has dtype float64"):
        model.loss(np.ones((1, 1)), [0.0])
    with pytest.raises(TypeError, match="h has dtype complex128"):
        model.loss(np.ones((1, 1), complex), [0])


@pytest.mark.parametrize("counts", [[1], [4, 0, 2, 9]])
@pytest.mark.parametrize("bias", [False, True])
def test_files_and_pickles(tmp_path, rng, counts, bias):
    model = model_of(counts, 3, bias=bias)
    path = tmp_path / "model.safetensors"
    model.save(path)
    h = rng.standard_normal((5, 3), dtype=np.float32)
    for again in (sf.HierarchicalSoftmax.load(path), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(again.tree, model.tree)
        np.testing.assert_array_equal(again.log_probs(h), model.log_probs(h))
        again.weight[...] = 0  # may be trained
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "head.safetensors"
    sf.LinearHead(np.eye(3, dtype=np.float32)).save(path)
    with pytest.raises(ValueError, match="holds something else"):
        sf.HierarchicalSoftmax.load(path)
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        sf.HierarchicalSoftmax([1, 1], width=1).save(tmp_path / "model.npz")
    sf.HierarchicalSoftmax([1, 1], width=1).save(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="damaged"):
        sf.HierarchicalSoftmax.load(path)
