"""Losses of tensors: torch's own where it has them, transforms, compilation, dtypes, modules.

Derivatives are checked in test_torch_gradients.py.
"""

import copy
import pickle

import numpy as np
import pytest

import softmaxfam_rs as sf
from backends import subclass_of_torch

torch = pytest.importorskip("torch", reason="torch is not installed")
from softmaxfam_rs.torch import (  # noqa: E402  after the look for torch
    AdaptiveEntmaxLoss,
    CrossEntropyLoss,
    EntmaxLoss,
    PerceptronLoss,
    RankmaxLoss,
    SparsemaxLoss,
)

# torch loads its own forward-mode rules by what it has deprecated itself
pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit.script:FutureWarning", "ignore:.torch.jit.script:DeprecationWarning"
)
FUNCTIONS = {
    "entmax": sf.entmax_loss,
    "entmax 1.3": lambda x, y, **k: sf.entmax_loss(x, y, 1.3, **k),
    "sparsemax": sf.sparsemax_loss,
    "cross_entropy": sf.cross_entropy,
    "perceptron": sf.perceptron_loss,
    "normmax": sf.normmax_loss,
    "rankmax": sf.rankmax_loss,
}
functions = pytest.mark.parametrize("of", FUNCTIONS.values(), ids=FUNCTIONS.keys())
MODULES = {
    "EntmaxLoss": (EntmaxLoss, sf.entmax_loss),
    "SparsemaxLoss": (SparsemaxLoss, sf.sparsemax_loss),
    "CrossEntropyLoss": (CrossEntropyLoss, sf.cross_entropy),
    "PerceptronLoss": (PerceptronLoss, sf.perceptron_loss),
    "RankmaxLoss": (RankmaxLoss, sf.rankmax_loss),
    "AdaptiveEntmaxLoss": (AdaptiveEntmaxLoss, sf.entmax_loss),
}
modules = pytest.mark.parametrize(("module", "of"), MODULES.values(), ids=MODULES.keys())


@pytest.fixture
def x(rng):
    return torch.tensor(2 * rng.standard_normal((5, 7))).requires_grad_()


LABELS = torch.tensor([0, 6, 3, 3, 1])


def both(loss, *leaves):
    """A loss with its gradients."""
    return loss, *torch.autograd.grad(loss.sum(), leaves)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torch_s_with_its_gradient(dtype, shares, smoothing, x):
    leaf = x.detach().to(dtype).requires_grad_()
    target = torch.softmax(x.detach().flip(0), -1).to(dtype) if shares else LABELS
    weight = torch.linspace(0.5, 2, 7, dtype=dtype)
    options = {"weight": weight, "label_smoothing": smoothing}
    mine = both(sf.cross_entropy(leaf, target, **options), leaf)
    exact = leaf.detach().double().requires_grad_()
    target = target.double() if shares else target
    options["weight"] = weight.double()
    right = both(torch.nn.functional.cross_entropy(exact, target, **options), exact)
    for got, expected in zip(mine, right, strict=True):
        assert got.dtype == dtype
        unit = torch.finfo(dtype).eps
        torch.testing.assert_close(got.double(), expected, rtol=4 * unit, atol=2 * unit)


@functions
def test_values_are_those_of_numpy(of, x):
    array = x.numpy(force=True)
    for options in ({}, {"ignore_index": 3}, {"reduction": "none"}, {"weight": torch.linspace(0, 3, 7)}):
        given = {k: v.double().numpy(force=True) if isinstance(v, torch.Tensor) else v for k, v in options.items()}
        expected = of(array, LABELS.numpy(force=True), **given)
        np.testing.assert_allclose(of(x, LABELS, **options).numpy(force=True), expected, rtol=1e-14)
        np.testing.assert_allclose(of(x.detach(), LABELS, **options).numpy(force=True), expected, rtol=1e-14)


@functions
def test_gradients_are_those_of_the_core(of, x):
    name = {id(f): n for n, f in FUNCTIONS.items()}[id(of)]
    if name == "entmax 1.3":
        value, gradient = sf.entmax_loss_and_grad(x, LABELS, 1.3, ignore_index=3)
    else:
        full = {"entmax": "entmax_loss", "sparsemax": "sparsemax_loss", "perceptron": "perceptron_loss"}
        full |= {"normmax": "normmax_loss", "rankmax": "rankmax_loss", "cross_entropy": "cross_entropy"}
        value, gradient = getattr(sf, f"{full[name]}_and_grad")(x, LABELS, ignore_index=3)
    assert not value.requires_grad and not gradient.requires_grad
    expected, slopes = both(of(x, LABELS, ignore_index=3), x)
    torch.testing.assert_close(value, expected, rtol=1e-14, atol=0)
    torch.testing.assert_close(gradient, slopes, rtol=1e-13, atol=1e-16)


def test_sparse_gradients_are_tensors(x):
    value, rows = sf.entmax_loss_and_grad(x, LABELS, sparse_grad=True)
    _, dense = sf.entmax_loss_and_grad(x, LABELS)
    assert isinstance(value, torch.Tensor) and isinstance(rows.values, torch.Tensor)
    torch.testing.assert_close(rows.to_dense(), dense)


@functions
def test_transforms(of, x):
    x = x.detach()
    each = torch.func.vmap(of)(x, LABELS)
    torch.testing.assert_close(each, of(x, LABELS, reduction="none"))
    gradients = torch.func.vmap(torch.func.grad(of))(x, LABELS)
    leaf = x.clone().requires_grad_()
    torch.testing.assert_close(gradients, torch.autograd.grad(of(leaf, LABELS, reduction="sum"), leaf)[0])
    # the labels of a batch of batches
    stacked = torch.stack([x, x.flip(1)])
    torch.testing.assert_close(torch.func.vmap(lambda x: of(x, LABELS))(stacked)[1], of(x.flip(1), LABELS))
    hessian = torch.func.hessian(lambda row: of(row, LABELS[0]))(x[0])
    jacobian = torch.func.jacfwd(torch.func.grad(lambda row: of(row, LABELS[0])))(x[0])
    torch.testing.assert_close(hessian, jacobian)


@functions
@pytest.mark.parametrize("shares", [False, True])
def test_compiled(of, shares, x):
    if shares and of is sf.rankmax_loss:
        return  # takes labels alone
    target = torch.softmax(x.detach().flip(0), -1) if shares else LABELS
    torch._dynamo.reset()  # it counts how often one function is compiled
    compiled = torch.compile(lambda x: of(x, target, temperature=0.7), fullgraph=True, backend="aot_eager")
    for got, expected in zip(both(compiled(x), x), both(of(x, target, temperature=0.7), x), strict=True):
        torch.testing.assert_close(got, expected)


def test_compiled_with_a_learned_order(x):
    alpha = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    of = lambda x, a: sf.entmax_loss(x, LABELS, a, ignore_index=3)  # noqa: E731
    compiled = torch.compile(of, fullgraph=True, backend="aot_eager")
    for got, expected in zip(both(compiled(x, alpha), x, alpha), both(of(x, alpha), x, alpha), strict=True):
        torch.testing.assert_close(got, expected)


def test_a_row_with_nan_spoils_no_other(x):
    spoiled = x.detach().clone()
    spoiled[2, 1] = torch.nan
    spoiled.requires_grad_()
    value, gradient = both(sf.entmax_loss(spoiled, LABELS, reduction="none"), spoiled)
    assert value.isnan().tolist() == [False, False, True, False, False]
    assert gradient.isnan().any(1).tolist() == [False, False, True, False, False]
    _, gradient = both(sf.entmax_loss(spoiled, torch.where(LABELS == 3, -100, LABELS), ignore_index=-100), spoiled)
    assert gradient.isfinite().all()


def test_autograd_of_the_definition(x):
    for alpha in (1.3, 1.5, 2.0):
        p = sf.entmax(x, alpha)
        omega = -sf.tsallis_entropy(p, alpha)
        defined = (p * x).sum(-1) - omega - x.gather(1, LABELS[:, None])[:, 0]
        for got, expected in zip(
            both(sf.entmax_loss(x, LABELS, alpha, reduction="none"), x), both(defined, x), strict=True
        ):
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-13)


def test_meta_tensors_give_shapes():
    x = torch.empty(3, 5, 4, device="meta", dtype=torch.bfloat16)
    labels = torch.empty(3, 4, dtype=torch.long, device="meta")
    each = sf.entmax_loss(x, labels, axis=1, reduction="none")
    assert each.shape == (3, 4) and each.dtype == torch.bfloat16
    assert sf.cross_entropy(x, labels, axis=1).shape == ()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: sf.cross_entropy(x, LABELS + 3), ValueError, ["target of row 1 is 9", "[0, 6]"]),
        (lambda x: sf.cross_entropy(x, LABELS[:2]), ValueError, ["class ids", "(2,)", "(5,)"]),
        (lambda x: sf.cross_entropy(x, x[:2]), ValueError, ["shares", "(2, 7)", "(5, 7)"]),
        (lambda x: sf.cross_entropy(x, LABELS > 1), TypeError, ["torch.bool"]),
        (lambda x: sf.cross_entropy(x, LABELS, weight=torch.ones(3)), ValueError, ["weight", "(3,)", "(7,)"]),
        (lambda x: sf.cross_entropy(x, LABELS, weight=-torch.ones(7)), ValueError, ["weight of class 0 is -1"]),
        (lambda x: sf.rankmax_loss(x, LABELS, margin=-1.0), ValueError, ["margin is -1"]),
        (lambda _: EntmaxLoss(reduction="avg"), ValueError, ["'avg'"]),
    ],
)
def test_messages(call, error, words, x):
    with pytest.raises(error) as caught:
        call(x)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@modules
def test_modules_call_the_functions_of_their_names(module, of, x):
    weight = torch.linspace(0.5, 2, 7, dtype=torch.float64)
    torch.testing.assert_close(module()(x, LABELS), of(x, LABELS))
    made = module(weight=weight, ignore_index=3, reduction="sum", dim=-1, temperature=0.5)
    where = torch.ones(7, dtype=torch.bool)
    where[5] = False
    expected = of(x, LABELS, weight=weight, ignore_index=3, reduction="sum", temperature=0.5, where=where)
    torch.testing.assert_close(made(x, LABELS, where=where), expected)
    assert "weight" in made.state_dict() and "ignore_index=3" in repr(made)
    for twin in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        torch.testing.assert_close(twin(x, LABELS, where=where), expected)


@modules
def test_classes_are_in_the_axis_of_torch_s_losses(module, of, x):
    images = x.reshape(5, 7, 1, 1).expand(5, 7, 2, 3)
    labels = LABELS.reshape(5, 1, 1).expand(5, 2, 3)
    torch.testing.assert_close(module()(images, labels), of(x, LABELS))
    torch.testing.assert_close(module()(x[0], LABELS[0]), of(x[0], LABELS[0]))
    if module is CrossEntropyLoss:
        torch.testing.assert_close(module()(images, labels), torch.nn.CrossEntropyLoss()(images, labels))


def test_an_order_is_learned_between_its_bounds(x):
    loss = AdaptiveEntmaxLoss(1.2, bounds=(1.1, 1.7))
    step = torch.optim.SGD(loss.parameters(), lr=5.0)
    values = []
    for _ in range(40):
        step.zero_grad()
        value = loss(x.detach(), LABELS)
        value.backward()
        step.step()
        values.append(value.item())
    assert values == sorted(values, reverse=True)  # a higher order has a smaller loss
    assert 1.2 < loss.alpha < 1.7
    with pytest.raises(ValueError, match="must lie strictly between"):
        AdaptiveEntmaxLoss(2.0)


def test_a_temperature_is_learned(x):
    loss = EntmaxLoss(temperature=torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64)))
    loss(x, LABELS).backward()
    assert loss.temperature.grad.abs() > 0


def test_derivatives_by_alpha_have_the_digits_of_their_closed_forms():
    scores = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    for label in range(3):
        alpha = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
        sf.entmax_loss(scores, torch.tensor(label), alpha).backward()
        assert alpha.grad.item() == pytest.approx(-1.3910390565178912848, rel=1e-13)
    alpha = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    sf.entmax(torch.tensor([0.25, 0.0, -0.5], dtype=torch.float64), alpha)[0].backward()
    assert alpha.grad.item() == pytest.approx(0.20003560164644805516, rel=1e-13)


@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("classes", [1, 4, 3000])
def test_losses_off_the_core_are_the_cores(alpha, classes, rng):
    """Confident rows, labels outside of the support and ignored ones; 3000 classes are selected from first."""
    x = rng.standard_normal((12, classes)) * 10.0 ** rng.integers(-3, 4, size=(12, 1))
    labels = np.concatenate([x[:4].argmax(1), x[4:8].argmin(1), rng.integers(classes, size=4)])
    labels[-1] = -100
    expected, slopes = sf.entmax_loss_and_grad(x, labels, alpha, ignore_index=-100, reduction="none")
    if alpha == 1:
        expected, slopes = sf.cross_entropy_and_grad(x, labels, ignore_index=-100, reduction="none")
    of = sf.cross_entropy if alpha == 1 else lambda *args, **options: sf.entmax_loss(*args, alpha, **options)
    scores = torch.tensor(x).as_subclass(subclass_of_torch()).requires_grad_()
    losses = of(scores, torch.tensor(labels), ignore_index=-100, reduction="none")
    (got,) = torch.autograd.grad(losses.sum(), scores)
    np.testing.assert_allclose(losses.detach().cpu().numpy(), expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(got.cpu().numpy(), slopes, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("alpha", [1.5, 2.0])
def test_small_losses_off_the_core_have_their_digits(alpha):
    for lead in (0.5, 0.99, 1 - 2.0**-20):
        x = np.array([0.0, -lead / (alpha - 1), -9.0])
        expected = sf.entmax_loss(x, 0, alpha)
        scores = torch.tensor(x).as_subclass(subclass_of_torch())
        # the lead is known to an eps, of which the loss is a high power of what is left to 1
        assert float(sf.entmax_loss(scores, 0, alpha)) == pytest.approx(float(expected), rel=32 * 2.0**-52 / (1 - lead))
