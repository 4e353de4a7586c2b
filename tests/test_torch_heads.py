"""The head of torch: the parameters of a layer, in place, for inference."""

import copy

import numpy as np
import pytest

import softmaxfam_rs as sf

torch = pytest.importorskip("torch", reason="torch is not installed")
from softmaxfam_rs.torch import LinearHead  # noqa: E402  after the look for torch


def layer(classes=3000, width=24, **options):
    torch.manual_seed(0)
    return torch.nn.Linear(width, classes, **options)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_results_are_those_of_numpy(bias, dtype):
    linear = layer(bias=bias).to(dtype)
    h = torch.randn(2, 5, 24).to(dtype)
    head = LinearHead(linear)
    found = head(h, 7, target=torch.zeros(2, 5, dtype=torch.int64))
    weight = linear.weight.detach().float().numpy()
    expected = sf.LinearHead(weight, None if linear.bias is None else linear.bias.detach().float().numpy())
    expected = expected.score(h.float().numpy(), 7, target=np.zeros((2, 5), int))
    assert isinstance(found.log_probs, torch.Tensor)
    np.testing.assert_array_equal(found.indices.numpy(), expected.indices)
    np.testing.assert_allclose(found.log_probs.numpy(), expected.log_probs, rtol=0, atol=2e-6)
    np.testing.assert_allclose(found.target_log_prob.numpy(), expected.target_log_prob, rtol=0, atol=2e-6)
    logits = linear.float()(h.float()).detach()
    torch.testing.assert_close(head.logsumexp(h), torch.logsumexp(logits, -1), rtol=0, atol=3e-5)
    torch.testing.assert_close(LinearHead(linear).logits(h), logits, rtol=0, atol=3e-5)


def test_other_results_are_tensors_too():
    head = LinearHead(layer())
    h = torch.randn(4, 24)
    sparse = head.entmax(h)
    assert isinstance(sparse.values, torch.Tensor)
    torch.testing.assert_close(sparse.to_dense(), sf.entmax(head.logits(h)), rtol=0, atol=1e-6)
    ids, logq = head.sample(h, 6, rng=torch.Generator().manual_seed(1))
    assert ids.shape == logq.shape == (4, 6)
    mask = torch.arange(3000) > 10
    assert (head(h, 1, where=mask, exclude=torch.full((4, 1), 99)).indices > 10).all()


@pytest.mark.parametrize("dtype", [None, "int8", "bfloat16"])
def test_changes_of_the_layer_are_seen(dtype):
    linear = layer(100, 4)
    head = LinearHead(linear, dtype=dtype)
    h = torch.ones(4)
    with torch.no_grad():
        linear.weight[17] = 50.0
        assert head(h, 1).indices == 17
        linear.bias[3] = 1e4
        assert head(h, 1).indices == 3
    state = copy.deepcopy(layer(100, 4).state_dict())
    linear.load_state_dict(state)
    torch.testing.assert_close(head.logits(h), layer(100, 4)(h).detach(), rtol=0.05, atol=0.05)


def test_there_is_no_gradient_and_it_says_so():
    head = LinearHead(layer(100, 4))
    h = torch.ones(4, requires_grad=True)
    with pytest.raises(RuntimeError, match="h requires grad, but LinearHead has no gradient"):
        head(h)
    with torch.no_grad():
        head(h, 1)
    with torch.inference_mode():
        head(torch.ones(4), 1)


@pytest.mark.parametrize("dtype", [None, "int8"])
def test_a_layer_may_be_made_in_inference_mode(dtype):
    with torch.inference_mode():
        linear = torch.nn.Linear(4, 100)
        h = torch.randn(3, 4)
        head = LinearHead(linear, dtype=dtype)
        torch.testing.assert_close(head.logits(h), linear(h), rtol=0.05, atol=0.05)
        assert head(h, 2).indices.shape == (3, 2)


def test_the_module_keeps_the_parameters_of_its_layer():
    model = torch.nn.Sequential(torch.nn.Linear(6, 4), LinearHead(layer(100, 4)))
    assert set(model.state_dict()) == {"0.weight", "0.bias", "1.linear.weight", "1.linear.bias"}
    twin = copy.deepcopy(model)
    with torch.no_grad():
        h = torch.randn(3, 6)
        torch.testing.assert_close(twin(h).log_probs, model(h).log_probs)
    assert "temperature" not in repr(model)
    with pytest.raises(TypeError, match="linear is a Tensor, must be"):
        LinearHead(torch.ones(2, 2))
