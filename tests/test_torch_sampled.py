"""Modules that draw their negatives: against the functions of scores, with streams that go on, and as they train."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import softmaxfam_rs as sf  # noqa: E402
from softmaxfam_rs.torch import NCELoss, NegativeSamplingLoss, SampledSoftmaxLoss  # noqa: E402

CLASSES, M = 40, 7
SAMPLER = sf.AliasTable(np.arange(1.0, CLASSES + 1))
MODULES = {"softmax": SampledSoftmaxLoss, "nce": NCELoss, "negative": NegativeSamplingLoss}
modules = pytest.mark.parametrize("of", MODULES.values(), ids=MODULES.keys())


def layer_and_queries(*, bias=True):
    torch.manual_seed(0)
    return torch.nn.Linear(6, CLASSES, bias=bias), torch.randn(5, 6), torch.tensor([3, 39, -100, 0, 7])


def by_functions(of, layer, h, target, ids, **options):
    """The loss by all scores, of the rows that count."""
    counts = target != -100
    scores = layer(h)[counts]
    target = target[counts]
    positive = scores.gather(1, target[:, None])[:, 0]
    negative = scores[:, ids] if ids.ndim == 1 else scores.gather(1, ids)
    logq = torch.tensor(SAMPLER.logq(ids.numpy(force=True))).expand(negative.shape)
    logs = (torch.tensor(SAMPLER.logq(target.numpy(force=True))), logq)
    if of is NegativeSamplingLoss:
        return sf.negative_sampling_loss(positive, negative, **options)
    if of is NCELoss:
        return sf.nce_loss(positive, negative, *logs, **options)
    return sf.sampled_softmax_loss(positive, negative, *logs, **options)


@modules
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("sparse", [True, False])
def test_values_and_gradients(of, shared, sparse):
    layer, h, target = layer_and_queries(bias=not sparse)
    module = of(layer, SAMPLER, M, shared=shared, seed=5, temperature=0.7, sparse=sparse)
    shape = (M,) if shared else (4, M)
    ids = torch.tensor(SAMPLER.sample(shape, rng=5).ids)
    loss, want = module(h, target), by_functions(of, layer, h, target, ids, temperature=0.7)
    torch.testing.assert_close(loss, want)
    (want,) = torch.autograd.grad(want, layer.weight)
    loss.backward()
    assert layer.weight.grad.is_sparse == sparse
    torch.testing.assert_close(layer.weight.grad.to_dense() if sparse else layer.weight.grad, want)


@pytest.mark.parametrize("correction", ["none", "all", "negatives", "refined"])
def test_hits_are_treated_as_the_correction_has_it(correction):
    layer, h, target = layer_and_queries()
    module = SampledSoftmaxLoss(layer, SAMPLER, 200, correction=correction)
    ids = torch.tensor(SAMPLER.sample(200, rng=0).ids)
    hits = ids == target[target != -100][:, None]
    assert hits.any()
    hits = hits if correction in {"negatives", "refined"} else None
    want = by_functions(SampledSoftmaxLoss, layer, h, target, ids, correction=correction, hits=hits)
    torch.testing.assert_close(module(h, target), want)


def test_biased_choices_warn_once_with_the_reason():
    layer = layer_and_queries()[0]
    for correction, remove, words in (("all", True, "no longer the optimum"), ("negatives", False, "counts twice")):
        with pytest.warns(UserWarning, match=words) as caught:
            SampledSoftmaxLoss(layer, SAMPLER, M, correction=correction, remove_hits=remove)
        assert len(caught) == 1


def test_a_resumed_run_goes_on_in_the_stream():
    layer, h, target = layer_and_queries()
    module = SampledSoftmaxLoss(layer, SAMPLER, M, seed=9)
    first, second = module(h, target), module(h, target)
    assert first != second and int(module.drawn) == 2 * M
    again = SampledSoftmaxLoss(layer, SAMPLER, M, seed=9)
    assert again(h, target) == first
    resumed = SampledSoftmaxLoss(layer, SAMPLER, M, seed=9)
    resumed.load_state_dict(again.state_dict())
    assert resumed(h, target) == second


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_ignored_queries_count_nothing(reduction):
    layer, h, target = layer_and_queries()
    loss = SampledSoftmaxLoss(layer, SAMPLER, M, reduction=reduction)(h, target)
    each = SampledSoftmaxLoss(layer, SAMPLER, M, reduction="none")(h, target)
    assert each.shape == target.shape and each[2] == 0 and (each[target >= 0] > 0).all()
    want = {"none": each, "sum": each.sum(), "mean": each.sum() / 4}[reduction]
    torch.testing.assert_close(loss, want)


@modules
def test_modules_train(of):
    torch.manual_seed(0)
    target = torch.arange(CLASSES)
    h, layer = torch.randn(CLASSES, 16), torch.nn.Linear(16, CLASSES)
    module = of(layer, sf.UniformSampler(CLASSES), 20)
    assert "AliasTable" in repr(of(layer, SAMPLER, M)) or repr(module)
    optimizer = torch.optim.SGD(module.parameters(), 2.0)
    for _ in range(200):
        optimizer.zero_grad()
        module(h, target).backward()
        optimizer.step()
    assert (layer(h).argmax(dim=1) == target).float().mean() > 0.9


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"linear": torch.zeros(3, 3)}, TypeError, "linear is a Tensor"),
        ({"sampler": sf.UniformSampler(3)}, ValueError, "sampler has 3 classes"),
        ({"m": 0}, ValueError, "m is 0"),
        ({"reduction": "all"}, ValueError, "reduction"),
        ({"correction": "some"}, ValueError, "correction"),
    ],
)
def test_what_does_not_fit_is_named(change, error, words):
    given = {"linear": layer_and_queries()[0], "sampler": SAMPLER, "m": M} | change
    with pytest.raises(error, match=words):
        SampledSoftmaxLoss(given.pop("linear"), given.pop("sampler"), given.pop("m"), **given)
