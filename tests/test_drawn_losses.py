"""Losses that draw their negatives in one call: against the functions of scores with the same draws, in every type."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

import softmaxfam_rs as sf
from reference import dtype_of

CLASSES, WIDTH, BATCH, M = 40, 6, 9, 7
SAMPLER = sf.AliasTable(np.arange(1.0, CLASSES + 1))
CALLS = {
    "all": (sf.sampled_softmax, {"correction": "all"}),
    "none": (sf.sampled_softmax, {"correction": "none"}),
    "negatives": (sf.sampled_softmax, {"correction": "negatives"}),
    "refined": (sf.sampled_softmax, {"correction": "refined"}),
    "nce": (sf.nce, {}),
    "negative sampling": (sf.negative_sampling, {}),
    "word2vec": (sf.negative_sampling, {"remove_hits": True}),
}
calls = pytest.mark.parametrize("name", CALLS)
on_both = pytest.mark.parametrize("shared", [True, False], ids=["shared", "own"])


def with_grad(of):
    return getattr(sf, f"{of.__name__}_and_grad")


def problem(dtype=np.float64):
    rng = np.random.default_rng(0)
    h, matrix, bias = (
        rng.standard_normal((BATCH, WIDTH)),
        rng.standard_normal((CLASSES, WIDTH)),
        rng.standard_normal(CLASSES),
    )
    target = rng.integers(CLASSES, size=BATCH)
    target[2] = CLASSES - 1  # which is drawn most
    return h.astype(dtype), matrix.astype(dtype), target, bias.astype(dtype)


def defined(name, h, matrix, target, bias, *, shared, temperature=1.0, reduction="mean"):
    """The loss by the functions of scores, in float64."""
    ids, logq = SAMPLER.sample(M if shared else (len(h), M), rng=5)
    scores = h.astype(np.float64) @ matrix.astype(np.float64).T + bias.astype(np.float64)
    positive = np.take_along_axis(scores, target[:, None], 1)[:, 0]
    negative = scores[:, ids] if shared else np.take_along_axis(scores, ids, 1)
    logs = (SAMPLER.logq(target).astype(np.float64), np.broadcast_to(logq, negative.shape).astype(np.float64))
    hits = ids == target[:, None] if name in {"negatives", "refined", "word2vec"} else None
    options = {"hits": hits, "temperature": temperature, "reduction": reduction}
    if name == "nce":
        return sf.nce_loss(positive, negative, *logs, **options)
    if name in {"negative sampling", "word2vec"}:
        return sf.negative_sampling_loss(positive, negative, **options)
    return sf.sampled_softmax_loss(positive, negative, *logs, correction=name, **options)


@calls
@on_both
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_values(name, shared, dtype):
    of, options = CALLS[name]
    h, matrix, target, bias = problem(dtype_of(dtype))
    rtol = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 3e-6, "float64": 1e-12}[dtype]
    for temperature, reduction in ((1.0, "none"), (0.7, "mean"), (1.3, "sum")):
        options = {**options, "temperature": temperature, "reduction": reduction}
        found = of(h, matrix, target, SAMPLER, M, bias, rng=5, shared=shared, **options)
        want = defined(name, h, matrix, target, bias, shared=shared, temperature=temperature, reduction=reduction)
        assert found.dtype == dtype_of(dtype) and np.shape(found) == ((BATCH,) if reduction == "none" else ())
        np.testing.assert_allclose(found.astype(np.float64), want, rtol=rtol, atol=rtol)


@calls
@on_both
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_are_the_differences_of_values(name, shared, dtype):
    of, options = CALLS[name]
    options = {**options, "rng": 5, "shared": shared, "temperature": 0.7}
    h, matrix, target, bias = problem(dtype)
    loss, grad = with_grad(of)(h, matrix, target, SAMPLER, M, bias, **options)
    np.testing.assert_allclose(loss, of(h, matrix, target, SAMPLER, M, bias, **options), rtol=1e-5)
    parts = [grad.h, grad.weight.to_dense(), grad.bias.to_dense()]
    assert all(part.dtype == dtype for part in parts) and grad.weight.shape == matrix.shape
    inputs = [array.astype(np.float64) for array in (h, matrix, bias)]
    frozen = "negatives" if name == "refined" else name  # whose gradient it has
    call, frozen_options = CALLS[frozen]
    frozen_options = {**frozen_options, "rng": 5, "shared": shared, "temperature": 0.7}
    for index, part in enumerate(parts):
        direction = np.random.default_rng(index).standard_normal(part.shape)
        ends = []
        for step in (1e-6, -1e-6):
            moved = list(inputs)
            moved[index] = moved[index] + step * direction
            ends.append(call(moved[0], moved[1], target, SAMPLER, M, moved[2], **frozen_options))
        slope = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose((part * direction).sum(), slope, rtol=1e-4, atol=1e-6)


@on_both
def test_only_the_rows_that_are_named_have_a_gradient(shared):
    h, matrix, target, _ = problem(np.float32)
    _, grad = sf.sampled_softmax_and_grad(h, matrix, target, SAMPLER, M, rng=5, shared=shared)
    ids = SAMPLER.sample(M if shared else (BATCH, M), rng=5).ids
    assert grad.weight.indices.tolist() == np.union1d(ids, target).tolist()
    assert grad.bias is None and grad.weight.values.shape == (len(grad.weight.indices), WIDTH)


@on_both
def test_any_layout_of_the_matrix(shared):
    h, matrix, target, bias = problem(np.float32)
    want = sf.nce_and_grad(h, matrix, target, SAMPLER, M, bias, rng=5, shared=shared)
    wide = np.zeros((CLASSES, WIDTH + 3), np.float32)
    wide[:, :WIDTH] = matrix
    for other in (wide[:, :WIDTH], np.asfortranarray(matrix), matrix[::-1].copy()[::-1], matrix.astype(">f4")):
        found = sf.nce_and_grad(h, other, target, SAMPLER, M, bias, rng=5, shared=shared)
        np.testing.assert_array_equal(found[0], want[0])
        np.testing.assert_array_equal(found[1].weight.indices, want[1].weight.indices)
        np.testing.assert_array_equal(found[1].weight.values, want[1].weight.values)


def test_queries_of_more_axes():
    h, matrix, target, _ = problem(np.float32)
    flat = sf.sampled_softmax_and_grad(h, matrix, target, SAMPLER, M, rng=5, reduction="none")
    found = sf.sampled_softmax_and_grad(
        h.reshape(3, 3, WIDTH), matrix, target.reshape(3, 3), SAMPLER, M, rng=5, reduction="none"
    )
    np.testing.assert_array_equal(found[0], flat[0].reshape(3, 3))
    np.testing.assert_array_equal(found[1].h, flat[1].h.reshape(3, 3, WIDTH))


def test_distinct_draws_are_corrected_by_their_chance_to_be_drawn():
    h, matrix, target, _ = problem()
    samples = SAMPLER.sample(M, rng=5, unique=True)
    scores = h @ matrix.T
    positive = np.take_along_axis(scores, target[:, None], 1)[:, 0]
    chance = np.log(SAMPLER.expected_count(target, samples.tries).astype(np.float64))
    of_negative = np.log(SAMPLER.expected_count(samples.ids, samples.tries).astype(np.float64))
    hits = samples.ids == target[:, None]
    assert hits.any()
    want = sf.sampled_softmax_loss(
        positive, scores[:, samples.ids], chance, np.broadcast_to(of_negative, hits.shape), hits=hits
    )
    found = sf.sampled_softmax(h, matrix, target, SAMPLER, M, rng=5, unique=True)
    np.testing.assert_allclose(found, want, rtol=1e-12)
    each = sf.nce(h, matrix, target, SAMPLER, M, rng=5, unique=True, shared=False)
    assert np.isfinite(each)


def test_all_classes_drawn_once_is_the_exact_loss():
    h, matrix, target, _ = problem()
    found = sf.sampled_softmax(h, matrix, target, sf.UniformSampler(CLASSES), CLASSES, rng=0, unique=True)
    np.testing.assert_allclose(found, sf.cross_entropy(h @ matrix.T, target), rtol=1e-6)


def test_a_treatment_of_hits_that_is_biased_warns():
    h, matrix, target, _ = problem(np.float32)

    def call(of, **options):
        return of(h, matrix, target, SAMPLER, M, rng=5, **options)

    for of, options, reason in (
        (sf.sampled_softmax, {"correction": "all", "remove_hits": True}, "no longer the optimum"),
        (sf.sampled_softmax, {"correction": "negatives", "remove_hits": False}, "counts twice"),
        (sf.sampled_softmax, {"unique": True, "remove_hits": False}, "distinct draws.*counts twice"),
        (sf.nce, {"remove_hits": True}, "noise"),
    ):
        with pytest.warns(UserWarning, match=reason) as found:
            call(of, **options)
        assert found[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for of, options in CALLS.values():
            call(of, **options)


def test_the_same_draws_and_bits_for_any_threads():
    code = (
        "import sys, numpy as np, softmaxfam_rs as sf\n"
        "rng = np.random.default_rng(0)\n"
        "h, W = rng.standard_normal((700, 64), dtype='f4'), rng.standard_normal((5000, 64), dtype='f4')\n"
        "s = sf.AliasTable(1 / np.arange(1., 5001))\n"
        "for shared in (True, False):\n"
        "    l, g = sf.sampled_softmax_and_grad(h, W, np.arange(700), s, 300, rng=1, shared=shared)\n"
        "    sys.stdout.buffer.write(l.tobytes() + g.h.tobytes() + g.weight.values.tobytes())\n"
    )
    outputs = []
    for threads, isa in (("1", ""), ("3", ""), ("2", "generic")):
        environment = {"SOFTMAXFAM_NUM_THREADS": threads} | ({"SOFTMAXFAM_ISA": isa} if isa else {})
        run = subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            env={**__import__("os").environ, **environment},
        )
        outputs.append(run.stdout)
    assert outputs[0] == outputs[1] == outputs[2] and len(outputs[0]) > 700 * 64 * 8


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"m": 0}, ValueError, "m is 0, must be >= 1"),
        ({"m": 2.5}, TypeError, "m is a float, must be an int"),
        ({"h": np.ones((BATCH, 3), np.float32)}, ValueError, "h has shape"),
        ({"W": np.ones(5, np.float32)}, ValueError, "W has shape"),
        ({"target": np.arange(3)}, ValueError, "target has shape"),
        ({"target": np.full(BATCH, CLASSES)}, ValueError, "target of query 0 is 40"),
        ({"target": np.full(BATCH, -1)}, ValueError, "target of query 0 is -1"),
        ({"target": np.zeros(BATCH)}, TypeError, "target has dtype"),
        ({"h": np.ones((BATCH, WIDTH), complex)}, TypeError, "h has dtype complex128"),
        ({"sampler": sf.UniformSampler(7)}, ValueError, "sampler has 7 classes, must have 40"),
        ({"sampler": [1.0] * CLASSES}, TypeError, "sampler is a list"),
        ({"correction": "logq"}, ValueError, "correction is 'logq'"),
        ({"reduction": "max"}, ValueError, "reduction is 'max'"),
        ({"temperature": 0.0}, ValueError, "temperature is 0.0"),
        ({"bias": np.ones(3, np.float32)}, ValueError, "bias has shape"),
    ],
)
def test_what_is_refused(change, error, words):
    h, matrix, target, bias = problem(np.float32)
    given = {"h": h, "W": matrix, "target": target, "sampler": SAMPLER, "m": M, "bias": bias, **change}
    arrays = [given.pop(name) for name in ("h", "W", "target", "sampler", "m", "bias")]
    with pytest.raises(error, match=words):
        sf.sampled_softmax(*arrays, rng=0, **given)


def test_other_libraries_are_told_the_way():
    xp = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    with pytest.raises(TypeError, match=r"draw with sampler\.sample, and take nce_loss of the scores"):
        sf.nce(xp.ones((2, 3)), xp.ones((CLASSES, 3)), [1, 2], SAMPLER, M, rng=0)


torch = pytest.importorskip("torch", reason="torch is not installed")


def tensors(dtype=torch.float32):
    h, matrix, target, bias = problem(np.float64)
    return [torch.tensor(a, dtype=dtype, requires_grad=True) for a in (h, matrix, bias)], torch.from_numpy(target)


@calls
@on_both
@pytest.mark.parametrize("sparse", [True, False], ids=["sparse", "dense"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_autograd_by_the_core_and_by_operations(name, shared, sparse, reduction):
    of, options = CALLS[name]
    options = {**options, "rng": 5, "shared": shared, "reduction": reduction}
    weights = torch.linspace(0.5, 2, BATCH) if reduction == "none" else torch.tensor(2.0)
    found = []
    for dtype in (torch.float32, torch.float64):
        (h, matrix, bias), target = tensors(dtype)
        value = of(h, matrix, target, SAMPLER, M, bias, sparse_grad=sparse, **options)
        (value * weights.to(dtype)).sum().backward()
        grad = matrix.grad
        assert grad.is_sparse == sparse or dtype is torch.float64
        found.append([value, h.grad, grad.to_dense() if grad.is_sparse else grad, bias.grad])
    for core, operations in zip(*found, strict=True):
        torch.testing.assert_close(core.double(), operations, rtol=3e-5, atol=3e-6)


@on_both
def test_a_graph_that_is_kept_and_second_derivatives(shared):
    (h, matrix, _), target = tensors()
    value = sf.sampled_softmax(h, matrix, target, SAMPLER, M, rng=5, shared=shared, sparse_grad=False)
    first = torch.autograd.grad(value, (h, matrix), retain_graph=True)
    again = torch.autograd.grad(3 * value, (h, matrix), retain_graph=True)
    for one, three in zip(first, again, strict=True):
        torch.testing.assert_close(3 * one, three)
    (g,) = torch.autograd.grad(value, h, create_graph=True)
    (second,) = torch.autograd.grad(g.square().sum(), matrix)
    assert second.abs().sum() > 0
    doubles, target = tensors(torch.float64)
    assert torch.autograd.gradgradcheck(
        lambda h, matrix, bias: sf.nce(h, matrix, target, SAMPLER, M, bias, rng=5, shared=shared), doubles
    )


def test_gradients_of_torch_without_autograd():
    (h, matrix, bias), target = tensors()
    loss, grad = sf.sampled_softmax_and_grad(h, matrix, target, SAMPLER, M, bias, rng=5)
    arrays = [tensor.detach().numpy() for tensor in (h, matrix)]
    want, of = sf.sampled_softmax_and_grad(*arrays, target.numpy(), SAMPLER, M, bias.detach().numpy(), rng=5)
    assert not loss.requires_grad and loss.item() == want
    np.testing.assert_array_equal(grad.weight.indices.numpy(), of.weight.indices)
    np.testing.assert_array_equal(grad.weight.values.numpy(), of.weight.values)
    halves = [tensor.detach().half() for tensor in (h, matrix, bias)]
    loss, grad = sf.nce_and_grad(halves[0], halves[1], target, SAMPLER, M, halves[2], rng=5)
    assert loss.dtype is torch.float16 and grad.weight.values.dtype is torch.float16
    torch.testing.assert_close(grad.weight.indices, torch.from_numpy(of.weight.indices))


def test_arrays_of_two_libraries_are_refused():
    (h, matrix, _), target = tensors()
    for given in ((h, matrix.detach().numpy(), target), (h, matrix, target.numpy())):
        with pytest.raises(TypeError, match=r"h is of torch, .* of numpy; must be of one library"):
            sf.nce(*given, SAMPLER, M, rng=0)
    assert sf.nce(h, matrix, target.tolist(), SAMPLER, M, rng=0).requires_grad
