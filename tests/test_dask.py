"""Dask: nothing is computed before it is asked for, and the blocks stay as they are where states can be merged."""

import numpy as np
import pytest

import softmaxfam_rs as sf
from backends import LINEAR, call_with_defaults
from reference import eps_of
from softmaxfam_rs._capabilities import CAPABILITIES

da = pytest.importorskip("dask.array", reason="dask is not installed")
dask = pytest.importorskip("dask", reason="dask is not installed")
SCORES = np.random.default_rng(3).standard_normal((5, 23)).astype(np.float32)
CHUNKS = ((2, 3), (7, 1, 9, 6))


@pytest.fixture
def scores():
    return da.from_array(SCORES, chunks=CHUNKS)


@pytest.fixture
def no_computing():
    def refuse(*_, **__):
        raise AssertionError("something was computed")

    with dask.config.set(scheduler=refuse):
        yield


@pytest.mark.parametrize("function", [name for name, row in CAPABILITIES.items() if row["dask"].path != "no"])
@pytest.mark.usefixtures("no_computing")
def test_nothing_is_computed(function, scores):
    result = call_with_defaults(function, scores)
    parts = result if isinstance(result, tuple) else (result,)
    if isinstance(parts[-1], tuple):  # gradients of several
        parts = (parts[0], *(part for part in parts[-1] if part is not None))
    assert all(isinstance(part, da.Array) for part in parts)
    of_rows = parts[:2] if function in LINEAR else parts  # what else there is has a row for each class
    assert all(part.chunks[0] == CHUNKS[0] for part in of_rows)
    path, of_classes = CAPABILITIES[function]["dask"].path, parts[0].chunks[1:]
    if parts[0].shape == SCORES.shape:
        assert of_classes == ((CHUNKS[1],) if path == "merged blocks" else ((23,),))


def test_no_task_holds_more_than_a_block_of_scores(scores):
    sizes = []

    def of_block(block):
        sizes.append(block.shape)
        return block

    seen = scores.map_blocks(of_block, dtype=SCORES.dtype, meta=np.empty((0, 0), np.float32))
    results = [sf.softmax(seen), sf.logsumexp(seen), sf.log_softmax(seen), *sf.top_log_probs(seen, 2)]
    blocks = {(a, b) for a in CHUNKS[0] for b in CHUNKS[1]}
    tasks = dask.compute(*results, scheduler="synchronous")
    assert set(sizes) == blocks
    np.testing.assert_allclose(tasks[0], sf.softmax(SCORES), rtol=4 * eps_of("float32"))


@pytest.mark.parametrize("axis", [-1, 0, None, (0, 1), ()])
@pytest.mark.parametrize("function", [sf.logsumexp, sf.softmax, sf.log_softmax])
def test_merged_states_give_the_values_of_one_block(function, axis):
    x = SCORES.copy()
    x[1, 3], x[2, 20], x[3], x[4, :8] = np.nan, np.inf, -np.inf, -np.inf
    got = function(da.from_array(x, chunks=CHUNKS), axis=axis, temperature=0.7).compute(scheduler="synchronous")
    np.testing.assert_allclose(got, function(x, axis=axis, temperature=0.7), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_states_are_rounded_once(dtype, rng):
    x = (rng.standard_normal((3, 10_000)) * 4 + 100).astype(dtype)
    got = sf.softmax(da.from_array(x, chunks=(3, 999))).compute(scheduler="synchronous")
    exact = np.exp(x.astype(float) - x.max(axis=1, keepdims=True))
    exact /= exact.sum(axis=1, keepdims=True)
    normal = exact > np.finfo(dtype).tiny
    depth = np.abs(x.astype(float) - x.max(axis=1, keepdims=True))
    error = np.abs(got - exact) / exact
    assert (error <= (4 + depth) * eps_of(dtype))[normal].all()


def test_ties_in_several_blocks_go_to_lower_classes():
    top = sf.top_log_probs(da.zeros((2, 20), chunks=(1, 3)), 9)
    np.testing.assert_array_equal(top.indices.compute(scheduler="synchronous"), [range(9)] * 2)


def test_masks_and_parameters_are_cut_as_the_scores(scores):
    mask, alphas = SCORES > -1, np.linspace(1, 3, 5)[:, None]
    got = sf.entmax(scores, da.from_array(alphas, chunks=1), where=da.from_array(mask, chunks=(5, 4)))
    np.testing.assert_array_equal(got.compute(scheduler="synchronous"), sf.entmax(SCORES, alphas, where=mask))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: sf.softmax(x, out=x), TypeError, "out is given with a Dask array, which cannot be written"),
        (sf.entmax_sparse, TypeError, "entmax_sparse does not take arrays of dask: .*take entmax"),
        (lambda x: sf.softmax(x[x[:, 0] > 0]), ValueError, r"call scores.compute_chunk_sizes\(\) first"),
        (lambda x: sf.softmax(x, temperature=0.0), ValueError, "temperature is 0, must be > 0 and finite"),
        (lambda x: sf.entmax(x, axis=2), ValueError, r"axis is 2, must lie in \[-2, 1\] for scores of shape \(5, 23\)"),
        (lambda x: sf.top_log_probs(x, 24), ValueError, r"k is 24, must lie in \[1, 23\]"),
        (lambda x: sf.softmax(x.astype(complex)), TypeError, "scores has dtype complex128, must be float16"),
        (lambda x: sf.softmax(x, where=x), TypeError, "where has dtype float32, must be bool"),
        (lambda x: sf.budget_sparsemax(x, -1), ValueError, "budget is -1, must be >= 0"),
        (lambda x: sf.softmax_vjp(x, x.astype("f8")), TypeError, "g has dtype float64, must be float32"),
    ],
)
@pytest.mark.usefixtures("no_computing")
def test_bad_calls_are_refused_at_once(call, error, words, scores):
    with pytest.raises(error, match=words):
        call(scores)


def test_values_are_checked_when_blocks_are_computed(scores):
    result = sf.entmax(scores, temperature=da.from_array(np.array([[1.0], [1], [-1], [1], [1]]), chunks=1))
    with pytest.raises(ValueError, match="temperature is -1, must be > 0 and finite"):
        result.compute(scheduler="synchronous")
