"""Derivatives of every function against finite differences, first and second, in both modes."""

import pytest

import softmaxfam_rs as sf

torch = pytest.importorskip("torch", reason="torch is not installed")
from torch.autograd import gradcheck, gradgradcheck  # noqa: E402  after the look for torch

# torch loads its own forward-mode rules by what it has deprecated itself
pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit.script:FutureWarning", "ignore:.torch.jit.script:DeprecationWarning"
)


def numbers(*shape, seed=0, low=-2.0, high=2.0):
    uniform = torch.rand(
        shape, dtype=torch.float64, generator=torch.Generator(torch.get_default_device()).manual_seed(seed)
    )
    return (low + (high - low) * uniform).requires_grad_()


X = numbers(3, 5)
TEMPERATURE, TEMPERATURES = numbers(seed=1, low=0.6, high=0.7), numbers(3, 1, seed=2, low=0.5, high=1.5)
ALPHA, ALPHAS = numbers(seed=3, low=1.6, high=1.7), numbers(3, 1, seed=4, low=1.2, high=2.5)
BUDGETS, WEIGHTS = numbers(3, 1, seed=5, low=1.2, high=3.7), numbers(5, seed=6)
MASK = torch.tensor([[1, 0, 1, 1, 1], [1, 1, 1, 1, 0], [0, 1, 1, 0, 1]]) > 0
LABELS = torch.tensor([1, 4, 0])
SHARES = torch.softmax(numbers(3, 5, seed=11).detach(), -1).requires_grad_()
WEIGHT = torch.linspace(0.5, 1.5, 5, dtype=torch.float64)
CASES = {
    "logsumexp": (lambda x, t: sf.logsumexp(x, temperature=t), X, TEMPERATURES),
    "logsumexp over all, masked": (lambda x, t: sf.logsumexp(x, axis=None, where=MASK, temperature=t), X, TEMPERATURE),
    "logsumexp kept": (lambda x: sf.logsumexp(x, axis=0, keepdims=True), X),
    "weighted logsumexp": (
        lambda x, t, w: sf.logsumexp(x, weights=w, return_sign=True, temperature=t)[0],
        X,
        TEMPERATURE,
        WEIGHTS,
    ),
    "softmax": (lambda x, t: sf.softmax(x, where=MASK, temperature=t), X, TEMPERATURES),
    "softmax over two axes": (lambda x: sf.softmax(x, axis=(0, 1)), X),
    "log_softmax": (lambda x, t: sf.log_softmax(x, temperature=t), X, TEMPERATURES),
    "log_softmax, masked": (lambda x: sf.log_softmax(x, where=MASK).masked_fill(~MASK, 0), X),
    "top_log_probs": (lambda x, t: sf.top_log_probs(x, 3, where=MASK, temperature=t)[::2], X, TEMPERATURES),
    "sparsemax": (lambda x, t: sf.sparsemax(x, temperature=t), X, TEMPERATURES),
    "entmax": (lambda x, a, t: sf.entmax(x, a, where=MASK, temperature=t), X, ALPHAS, TEMPERATURES),
    "entmax of one order, axis 0": (lambda x, a: sf.entmax(x, a, axis=0), X, ALPHA),
    "entmax of order 1": (lambda x: sf.entmax(x, 1.0), X),
    "entmax of order 3": (lambda x: sf.entmax(x, 3.0), X),
    "normmax": (lambda x, a, t: sf.normmax(x, a, temperature=t), X, ALPHAS, TEMPERATURES),
    "budget_sparsemax": (lambda x, b, t: sf.budget_sparsemax(x, b, temperature=t), X, BUDGETS, TEMPERATURES),
    "entmax_threshold": (lambda x, a, t: sf.entmax_threshold(x, a, temperature=t)[::2], X, ALPHAS, TEMPERATURES),
    "entmax_sparse": (lambda x, a, t: sf.entmax_sparse(x, a, temperature=t).values, X, ALPHAS, TEMPERATURES),
    "entmax_sparse, axis 0": (lambda x: sf.entmax_sparse(x, axis=0).values, X),
    "tsallis_entropy": (lambda x, a: sf.tsallis_entropy(torch.softmax(x, -1), a), X, ALPHAS),
    "tsallis_entropy at 1": (lambda x: sf.tsallis_entropy(torch.softmax(x, -1), 1.0), X),
    "softmax_vjp": (lambda x, g: sf.softmax_vjp(sf.softmax(x), g), X, numbers(3, 5, seed=7)),
    "log_softmax_vjp": (lambda x, g: sf.log_softmax_vjp(sf.log_softmax(x), g), X, numbers(3, 5, seed=7)),
    "logsumexp_vjp": (lambda x, g: sf.logsumexp_vjp(x, sf.logsumexp(x), g), X, numbers(3, seed=7)),
    "entmax_vjp": (lambda x, g, a: sf.entmax_vjp(sf.entmax(x, a), g, a), X, numbers(3, 5, seed=7), ALPHAS),
    "entmax_alpha_grad": (lambda x, g: sf.entmax_alpha_grad(sf.entmax(x, 1.4), g, 1.4), X, numbers(3, 5, seed=7)),
    "entmax_loss": (
        lambda x, a, t: sf.entmax_loss(x, LABELS, a, temperature=t, reduction="none"),
        X,
        ALPHAS,
        TEMPERATURES,
    ),
    "entmax_loss of shares": (
        lambda x, y, a, t: sf.entmax_loss(x, y, a, temperature=t, weight=WEIGHT, label_smoothing=0.1),
        X,
        SHARES,
        ALPHAS,
        TEMPERATURES,
    ),
    "entmax_loss of order 1": (lambda x, y: sf.entmax_loss(x, y, 1.0), X, SHARES),
    "entmax_loss of order 3": (lambda x, y: sf.entmax_loss(0.2 * x, y, 3.0), X, SHARES),
    "entmax_loss, masked, axis 0": (lambda x: sf.entmax_loss(x.T, torch.tensor([0, 2, 1]), axis=0, where=MASK.T), X),
    "sparsemax_loss": (lambda x, y: sf.sparsemax_loss(x, y, reduction="sum"), X, SHARES),
    "sparsemax_loss, weighted": (lambda x: sf.sparsemax_loss(x, LABELS, weight=WEIGHT, ignore_index=4), X),
    "cross_entropy": (lambda x, t: sf.cross_entropy(x, LABELS, temperature=t, weight=WEIGHT), X, TEMPERATURES),
    "cross_entropy of shares": (
        lambda x, y, t: sf.cross_entropy(x, y, temperature=t, label_smoothing=0.2, weight=WEIGHT),
        X,
        SHARES,
        TEMPERATURES,
    ),
    "perceptron_loss": (lambda x, t: sf.perceptron_loss(x, LABELS, temperature=t), X, TEMPERATURES),
    "normmax_loss": (
        lambda x, a, t: sf.normmax_loss(x, LABELS, a, temperature=t, reduction="sum"),
        X,
        ALPHAS,
        TEMPERATURES,
    ),
    "normmax_loss of shares": (lambda x, y, a: sf.normmax_loss(x, y, a, weight=WEIGHT), X, SHARES, ALPHAS),
    "rankmax_loss": (lambda x, t: sf.rankmax_loss(x, LABELS, temperature=t, margin=1.3), X, TEMPERATURES),
    "a loss of a number": (lambda x: sf.entmax_loss(x, torch.tensor(0)), numbers()),
    "a number": (lambda x: sf.entmax(x, 1.4) + sf.logsumexp(x) + sf.log_softmax(x), numbers()),
    "a vector": (lambda x: sf.entmax(x, 1.4), numbers(6)),
    "three axes": (lambda x: sf.entmax(x, 1.4, axis=1), numbers(2, 4, 2)),
    "no rows": (lambda x: sf.entmax(x, 1.4), numbers(0, 4)),
}


@pytest.mark.parametrize("name", CASES)
def test_first_derivatives(name):
    function, *arguments = CASES[name]
    forward = not name.startswith("entmax_sparse")  # its rows are not dense: only the reverse mode
    assert gradcheck(function, arguments, check_forward_ad=forward)


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives(name):
    function, *arguments = CASES[name]
    assert gradgradcheck(function, arguments)


@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0])
def test_alpha_where_forms_change(alpha):
    # one-sided differences would see it if the form on one side were another
    a = torch.tensor(alpha, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda a: sf.entmax(X.detach(), a), [a])
    assert gradgradcheck(lambda a: sf.entmax(X.detach() * 0.3, a), [a])


def test_kernels_and_formulas_agree():
    # without create_graph the core computes the product, with it torch does
    for dtype, tolerance in ((torch.float64, 1e-14), (torch.float32, 2e-6), (torch.bfloat16, 2e-2)):
        x = X.detach().to(dtype).requires_grad_()
        for function in (
            sf.softmax,
            sf.log_softmax,
            sf.logsumexp,
            sf.sparsemax,
            sf.entmax,
            lambda x: sf.entmax(x, 3.0),
        ):
            results = []
            for create_graph in (False, True):
                y = function(x)
                g = torch.linspace(-1, 1, y.numel(), dtype=dtype).reshape(y.shape)
                results.append(torch.autograd.grad(y, x, g, create_graph=create_graph)[0])
            torch.testing.assert_close(*results, rtol=tolerance, atol=tolerance)


def test_half_precision_sums_in_more():
    x = torch.zeros(1, 70_000, dtype=torch.float16, requires_grad=True)
    y = sf.log_softmax(x)
    g = torch.ones_like(y)  # their sum overflows in float16
    (gradient,) = torch.autograd.grad(y, x, g)
    assert gradient.isfinite().all() and gradient.abs().max() < 1e-2


def test_absent_classes_have_no_gradient():
    x = torch.tensor([[0.0, torch.nan, torch.inf, -torch.inf, 1.0]], requires_grad=True)
    where = torch.tensor([True, False, False, True, True])
    for function in (
        sf.softmax,
        sf.log_softmax,
        sf.sparsemax,
        sf.logsumexp,
        sf.normmax,
        lambda x, **o: sf.entmax(x, 1.3, **o),
    ):
        y = function(x, where=where)
        (gradient,) = torch.autograd.grad(y, x, torch.full_like(y, 0.5))
        assert (gradient[0, 1:4] == 0).all() and not gradient.isnan().any()


def test_undefined_rows_spoil_no_others():
    x = torch.tensor([[torch.nan, 1.0], [0.0, 1.0]], requires_grad=True)
    for function in (sf.softmax, sf.log_softmax, sf.logsumexp, sf.sparsemax, sf.entmax):
        y = function(x)
        (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y))
        assert gradient[0].isnan().any() and gradient[1].isfinite().all()


def test_a_parameter_alone_may_be_differentiated():
    temperature = torch.tensor(1.0, requires_grad=True)
    sf.softmax(torch.tensor([1.0, 0.0]), temperature=temperature)[0].backward()
    assert temperature.grad.item() == pytest.approx(-0.19661193, rel=1e-5)


def test_writing_a_saved_result_is_noticed():
    x = torch.randn(2, 3, requires_grad=True)
    p = sf.softmax(x)
    with torch.no_grad():
        sf.softmax(torch.randn(2, 3), out=p)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        p.sum().backward()


@pytest.mark.parametrize("name", CASES)
def test_the_path_of_other_devices(name, monkeypatch):
    # no tensor counts as one in CPU memory, so that all goes as on a GPU
    function, *arguments = CASES[name]

    def derivatives():
        results = function(*arguments)
        results = [results] if isinstance(results, torch.Tensor) else list(results)
        return [*results, *torch.autograd.grad([result.sin().sum() for result in results], arguments)]

    expected = derivatives()
    from softmaxfam_rs._torch import arguments as checks
    from softmaxfam_rs._torch import exponential, gradients, kernels, projections

    for module in (checks, gradients, kernels):
        monkeypatch.setattr(module, "is_plain", lambda _: False)
    for module in (exponential, projections):
        monkeypatch.setattr(module, "is_simple", lambda *_: False)
    torch.testing.assert_close(derivatives(), expected, rtol=1e-6, atol=1e-9)
