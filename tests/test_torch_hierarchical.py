"""Hierarchical softmax for autograd, compilers and optimisers of torch."""

import io
import pickle

import numpy as np
import pytest

import softmaxfam_rs as sf

torch = pytest.importorskip("torch", reason="torch is not installed")
from softmaxfam_rs.torch import HierarchicalSoftmax  # noqa: E402  after torch is known to be there

in_cpu_memory = pytest.mark.skipif(
    torch.get_default_device().type != "cpu",
    reason="arrays of NumPy and programs of a compiler take trees in CPU memory",
)
COUNTS = np.arange(30) % 7


def layer_of(dtype=torch.float32, **options):
    layer = HierarchicalSoftmax(COUNTS, 5, dtype=dtype, **options)
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)
    with torch.no_grad():
        for part in layer.parameters():
            part.copy_(torch.randn(part.shape, generator=generator, dtype=torch.float64))
    h = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    target = torch.randint(30, (3, 4), generator=generator)
    target[1, 2] = -100
    return layer, h, target


def gradients(value, layer, h):
    return torch.autograd.grad(value, [h, *layer.parameters()], retain_graph=True)


def close(mine, other):
    for one, two in zip(mine, other, strict=True):
        torch.testing.assert_close(one.to_dense().double(), two.to_dense(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_core_agrees_with_the_operations_of_torch(reduction, sparse, bias):
    layer, h, target = layer_of(reduction=reduction, sparse=sparse, bias=bias)
    wide, h_wide, _ = layer_of(torch.float64, reduction=reduction, bias=bias)
    found, want = layer(h, target), wide(h_wide, target)
    torch.testing.assert_close(found.double(), want, rtol=1e-5, atol=1e-6)
    weights = torch.arange(12.0).reshape(3, 4) if reduction == "none" else torch.tensor(1.5)
    for _ in range(2):  # the second time it is computed anew
        mine = gradients((found * weights).sum(), layer, h)
        assert mine[1].is_sparse == sparse
        close(mine, gradients((want * weights).sum(), wide, h_wide))
    assert not mine[0][1, 2].any()


def test_derivatives_of_both_orders():
    layer, h, target = layer_of(torch.float64)
    parts = [h, *layer.parameters()]

    def value(h, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (h, target))

    assert torch.autograd.gradcheck(value, parts)
    assert torch.autograd.gradgradcheck(value, parts)
    # of float32 too, whose first derivative is the core's
    single, h_single, _ = layer_of()
    (first,) = torch.autograd.grad(single(h_single, target), h_single, create_graph=True)
    (want,) = torch.autograd.grad(layer(h, target), h, create_graph=True)
    close(gradients((first**2).sum(), single, h_single)[:2], gradients((want**2).sum(), layer, h)[:2])


@in_cpu_memory
def test_the_functions_of_numpy_take_tensors():
    layer, h, target = layer_of()
    model = sf.HierarchicalSoftmax(tree=layer.tree, weight=layer.weight, bias=layer.bias)
    found = model.loss(h, target, ignore_index=-100)
    close(gradients(found, layer, h), [part.double() for part in gradients(layer(h, target), layer, h)])
    loss, grad = model.loss_and_grad(h, target, ignore_index=-100)
    torch.testing.assert_close(loss, found.detach())
    torch.testing.assert_close(grad.weight.to_torch().to_dense(), gradients(found, layer, h)[1])
    ids = target.clamp(min=0)
    torch.testing.assert_close(layer.log_prob(h, ids)[..., None], layer.log_probs(h).gather(-1, ids[..., None]))
    best = layer.top_log_probs(h, 3)
    torch.testing.assert_close(best.log_probs, layer.log_probs(h).topk(3).values)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_computed_in_float32(dtype):
    layer, h, target = layer_of(dtype)
    loss = layer(h, target)
    assert loss.dtype is dtype
    with torch.no_grad():
        want = layer.double()(h.double(), target)
    torch.testing.assert_close(loss.double(), want, rtol=1e-2, atol=0)


@in_cpu_memory
def test_compiled():
    layer, h, target = layer_of()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    found, want = compiled(h, target), layer(h, target)
    torch.testing.assert_close(found, want)
    close(gradients(found, layer, h), [part.double() for part in gradients(want, layer, h)])
    torch.library.opcheck(
        torch.ops.softmaxfam_rs.hierarchical_loss.default,
        (
            h.detach().reshape(-1, 5).requires_grad_(),
            layer.weight,
            layer.bias,
            layer.parents,
            target.reshape(-1),
            -100,
            "sum",
            [True, True, True],
        ),
        test_utils=("test_schema", "test_faketensor"),
    )


def test_state_copies_and_pickles():
    layer, h, target = layer_of()
    other = HierarchicalSoftmax(np.ones(30), 5)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file))
    for again in (other, pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(again(h, target), layer(h, target))
        torch.testing.assert_close(again.log_probs(h), layer.log_probs(h))
    assert sorted(layer.state_dict()) == ["bias", "tree", "weight"]
    assert "n_classes=30, in_features=5, bias=True" in repr(layer)


def test_it_learns_the_frequencies_of_classes():
    counts = torch.tensor([8.0, 4.0, 2.0, 1.0, 1.0])
    layer = HierarchicalSoftmax(torch.ones(5), 1, bias=False, sparse=True)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    target = torch.repeat_interleave(torch.arange(5), counts.long())
    h = torch.ones(len(target), 1)
    for _ in range(300):
        optimizer.zero_grad()
        layer(h, target).backward()
        optimizer.step()
    torch.testing.assert_close(layer.log_probs(torch.ones(1)).exp(), counts / 16, rtol=0, atol=2e-3)


def test_bad_input_is_refused():
    layer, h, target = layer_of()
    with pytest.raises(ValueError, match=r"h has shape \(3, 4, 4\)"):
        layer(h[..., :4], target)
    with pytest.raises(ValueError, match="target has shape"):
        layer(h, target[0])
    with pytest.raises(TypeError, match="target has dtype"):
        layer(h, target.float())
    for dtype in (torch.float32, torch.float64):
        wrong, h, target = layer_of(dtype)
        target[0, 1] = 30
        with pytest.raises(ValueError, match="target of row 1 is 30"):
            wrong(h, target)
    with pytest.raises(ValueError, match="reduction"):
        HierarchicalSoftmax([1, 1], 2, reduction="all")
    with pytest.raises(ValueError, match="in_features"):
        HierarchicalSoftmax([1, 1], 0)
