"""Bad input: one clear error that says what was given and what is accepted, and nothing is written."""

import numpy as np
import pytest

import softmaxfam_rs as sf

LONG_DOUBLE = np.dtype(np.longdouble).name
x = np.arange(12.0).reshape(3, 4)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: sf.softmax(x.astype(complex)), TypeError, ["complex128", "float32"]),
        (lambda: sf.softmax(np.array(["a"])), TypeError, ["scores", "<U1"]),
        (lambda: sf.softmax(np.array([object()])), TypeError, ["object"]),
        (lambda: sf.softmax(x.astype(np.longdouble)), TypeError, [LONG_DOUBLE, "float16"]),
        (lambda: sf.softmax(None), TypeError, ["NoneType"]),
        (lambda: sf.softmax(np.ma.masked_array(x)), TypeError, ["MaskedArray", "where"]),
        (lambda: sf.softmax(x, axis=2), ValueError, ["axis", "2"]),
        (lambda: sf.softmax(x, axis=(0, 0)), ValueError, ["axis"]),
        (lambda: sf.entmax(x, axis=-3), ValueError, ["axis", "-3"]),
        (lambda: sf.softmax(x, temperature=0.0), ValueError, ["temperature", "0"]),
        (lambda: sf.softmax(x, temperature=-1), ValueError, ["temperature", "-1"]),
        (lambda: sf.logsumexp(x, temperature=float("nan")), ValueError, ["temperature", "NaN"]),
        (lambda: sf.softmax(x, temperature=np.ones((2, 1))), ValueError, ["temperature", "(2, 1)"]),
        (lambda: sf.softmax(x, where=np.ones(3, bool)), ValueError, ["where", "(3,)"]),
        (lambda: sf.softmax(x, where=np.ones(4)), TypeError, ["where", "bool"]),
        (lambda: sf.entmax(x, 0.0), ValueError, ["alpha", "0"]),
        (lambda: sf.entmax(x, float("nan")), ValueError, ["alpha", "NaN"]),
        (lambda: sf.entmax(x, np.array([1.5, -2, 1])[:, None]), ValueError, ["alpha", "-2"]),
        (lambda: sf.normmax(x, 1.0), ValueError, ["alpha", "1"]),
        (lambda: sf.budget_sparsemax(x, 5), ValueError, ["budget", "5", "4"]),
        (lambda: sf.budget_sparsemax(x, -0.5), ValueError, ["budget", "-0.5"]),
        (lambda: sf.budget_sparsemax(x, 2, where=np.array([1, 0, 0, 0], bool)), ValueError, ["budget", "2", "1"]),
        (lambda: sf.top_log_probs(x, 0), ValueError, ["k", "0", "4"]),
        (lambda: sf.top_log_probs(x, 5), ValueError, ["k", "5", "4"]),
        (lambda: sf.entmax_sparse(np.zeros((2, 9)), 2.0, max_support=3), ValueError, ["row 0", "9", "3"]),
        (lambda: sf.softmax_vjp(x, x.astype("f4")), TypeError, ["g", "float32", "float64"]),
        (lambda: sf.softmax_vjp(x, x[:, :3]), ValueError, ["g", "(3, 3)"]),
        (lambda: sf.set_num_threads(0), ValueError, ["0"]),
    ],
)
def test_messages(call, error, words):
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "panic" not in message and "unwrap" not in message


@pytest.mark.parametrize("of", [sf.softmax, sf.log_softmax, sf.sparsemax, sf.normmax])
def test_outputs_that_do_not_fit(of):
    cases = [
        (np.empty((3, 5)), "(3, 5)"),
        (np.empty((3, 4), np.float32), "float32"),
        (np.empty((3, 4), ">f8"), "f8"),
        (np.broadcast_to(np.empty(4), (3, 4)), "read-only"),
    ]
    for out, word in cases:
        with pytest.raises(ValueError, match="out") as caught:
            of(x, out=out)
        assert word in str(caught.value)
    with pytest.raises(TypeError, match="out is a list"):
        of(x, out=[])


def test_overlapping_outputs_are_refused_and_nothing_is_written():
    memory = np.arange(20.0)
    before = memory.copy()
    with pytest.raises(ValueError, match="shares memory"):
        sf.softmax(memory[:16].reshape(4, 4), out=memory[2:18].reshape(4, 4))
    square = np.arange(16.0).reshape(4, 4)
    with pytest.raises(ValueError, match="shares memory"):
        sf.softmax(square, out=square.T)
    out = np.full((3, 4), 7.0)
    with pytest.raises(ValueError, match="temperature"):
        sf.softmax(x, temperature=np.array([1.0, 1.0, -1.0])[:, None], out=out)
    np.testing.assert_array_equal(memory, before)
    assert (out == 7).all()


def test_a_masked_row_spends_no_budget():
    p = sf.budget_sparsemax(np.zeros((2, 3)), 1.5, where=np.array([[True], [False]]))
    np.testing.assert_array_equal(p, [[0.5] * 3, [0] * 3])
