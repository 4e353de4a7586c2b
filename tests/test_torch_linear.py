"""Losses of a linear layer under torch: derivatives of both orders, compilers, transforms, modules."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import softmaxfam_rs as sf  # noqa: E402
from softmaxfam_rs.torch import LinearCrossEntropyLoss, LinearEntmaxLoss  # noqa: E402

LOSSES = {
    "cross_entropy": (sf.linear_cross_entropy, sf.cross_entropy),
    "entmax": (sf.linear_entmax_loss, sf.entmax_loss),
    "rankmax": (sf.linear_rankmax_loss, sf.rankmax_loss),
}
losses = pytest.mark.parametrize(("fused", "of_scores"), LOSSES.values(), ids=LOSSES.keys())


def tensors(dtype=torch.float32, *, grad=True):
    generator = torch.Generator(torch.get_default_device()).manual_seed(3)
    shapes = ((5, 6), (30, 6), (30,))
    layers = [torch.randn(shape, generator=generator, dtype=dtype, requires_grad=grad) for shape in shapes]
    return (*layers, torch.randint(30, (5,), generator=generator))


def gradients(loss, layers):
    return torch.autograd.grad(loss, layers, retain_graph=True)


@losses
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_backward_and_again(fused, of_scores, reduction):
    h, matrix, bias, target = tensors()
    want = of_scores(h @ matrix.T + bias, target, reduction=reduction)
    found = fused(h, matrix, target, bias=bias, reduction=reduction)
    torch.testing.assert_close(found, want)
    weights = torch.arange(1.0, 6.0) if reduction == "none" else torch.tensor(1.5)
    for _ in range(2):  # the second time it is computed anew
        for mine, other in zip(
            gradients((found * weights).sum(), (h, matrix, bias)),
            gradients((want * weights).sum(), (h, matrix, bias)),
            strict=True,
        ):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


@losses
def test_second_derivatives(fused, of_scores):
    h, matrix, bias, target = tensors(torch.float64)
    call = lambda *layers: fused(*layers[:2], target, bias=layers[2])  # noqa: E731
    assert torch.autograd.gradcheck(call, (h, matrix, bias))
    assert torch.autograd.gradgradcheck(call, (h, matrix, bias))
    # of float32 too, whose first derivative is the core's
    h, matrix, bias, target = tensors()
    of_both = []
    for loss in (fused(h, matrix, target, bias=bias), of_scores(h @ matrix.T + bias, target)):
        (first,) = torch.autograd.grad(loss, h, create_graph=True)
        of_both.append((first, *torch.autograd.grad((first**2).sum(), (h, matrix))))
    for mine, other in zip(*of_both, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


@losses
def test_only_what_is_wanted(fused, of_scores):
    h, matrix, bias, target = tensors(grad=False)
    for layer in (h, matrix, bias):
        layer.requires_grad_()
        (found,) = torch.autograd.grad(fused(h, matrix, target, bias=bias), layer)
        (want,) = torch.autograd.grad(of_scores(h @ matrix.T + bias, target), layer)
        torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)
        layer.requires_grad_(requires_grad=False)
    assert not fused(h, matrix, target).requires_grad


@losses
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(fused, of_scores, dtype):
    layers = [layer.detach().to(dtype).requires_grad_() for layer in tensors()[:3]]
    target = tensors()[3]
    loss = fused(layers[0], layers[1], target, bias=layers[2])
    assert loss.dtype is dtype
    wide = [layer.detach().double().requires_grad_() for layer in layers]
    want = of_scores(wide[0] @ wide[1].T + wide[2], target)
    for mine, other in zip(gradients(loss, layers), gradients(want, wide), strict=True):
        assert mine.dtype is dtype
        torch.testing.assert_close(mine.double(), other, rtol=0.05, atol=0.02)


@losses
def test_compiled_whole(fused, of_scores):
    h, matrix, bias, target = tensors()
    call = torch.compile(
        lambda h, matrix, bias, target: 2 * fused(h, matrix, target, bias=bias), fullgraph=True, backend="aot_eager"
    )
    loss, want = call(h, matrix, bias, target), 2 * of_scores(h @ matrix.T + bias, target)
    torch.testing.assert_close(loss, want)
    for mine, other in zip(gradients(loss, (h, matrix, bias)), gradients(want, (h, matrix, bias)), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


@losses
def test_transforms(fused, of_scores):
    h, matrix, bias, target = tensors(grad=False)
    of_both = [
        torch.func.vmap(torch.func.grad(call), in_dims=(0, None, 0))(h, matrix, target)
        for call in (
            lambda h, matrix, target: fused(h, matrix, target, bias=bias),
            lambda h, matrix, target: of_scores(h @ matrix.T + bias, target),
        )
    ]
    torch.testing.assert_close(*of_both, rtol=1e-4, atol=1e-5)


def test_shapes_without_memory():
    h, matrix, _, target = tensors(grad=False)
    loss = sf.linear_cross_entropy(h.to("meta"), matrix.to("meta"), target.to("meta"))
    assert loss.is_meta and loss.shape == ()


def test_a_learned_temperature_goes_through_all_scores():
    h, matrix, _, target = tensors(torch.float64)
    temperature = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    call = lambda temperature: sf.linear_cross_entropy(h, matrix, target, temperature=temperature)  # noqa: E731
    assert torch.autograd.gradcheck(call, temperature)


@pytest.mark.parametrize("sparse", [False, True])
def test_modules_train(sparse):
    torch.manual_seed(0)
    target = torch.arange(50)
    h = torch.randn(50, 16)
    for module in (
        LinearEntmaxLoss(torch.nn.Linear(16, 50), sparse=sparse),
        LinearCrossEntropyLoss(torch.nn.Linear(16, 50)),
    ):
        start = module(h, target).item()
        optimizer = torch.optim.SGD(module.parameters(), 0.5)
        for _ in range(100):
            optimizer.zero_grad()
            module(h, target).backward()
            optimizer.step()
        assert module(h, target).item() < 0.3 * start
        state = module.state_dict()
        assert set(state) == {"linear.weight", "linear.bias"}
        repr(module)
    assert module.linear.weight.grad is not None


def test_sparse_gradients_have_the_rows_of_the_support():
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)
    layer = torch.nn.Linear(8, 400, bias=False)
    with torch.no_grad():
        layer.weight.normal_(generator=generator)
    h, target = torch.randn(3, 8, generator=generator), torch.tensor([5, 6, 7])
    for dtype in (torch.float32, torch.float64):  # by the core, by torch's operations
        layer, h = layer.to(dtype), h.to(dtype)
        of_both = []
        for sparse in (True, False):
            layer.weight.grad = None
            (LinearEntmaxLoss(layer, sparse=sparse)(h, target) * 2).backward()
            of_both.append(layer.weight.grad)
        assert of_both[0].is_sparse and of_both[0]._nnz() < 100
        assert (of_both[0].to_dense() == of_both[1]).all()


def test_a_matrix_is_no_layer():
    with pytest.raises(TypeError, match=r"torch\.nn\.Linear"):
        LinearEntmaxLoss(torch.zeros(3, 3))
