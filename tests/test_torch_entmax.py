"""`softmaxfam_rs.torch.entmax` beside the entmax package: one table of what is the same, one of what is mended."""

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import mpmath
import pytest

import reference

torch = pytest.importorskip("torch", reason="torch is not installed")
package = pytest.importorskip("entmax", reason="the entmax package is not installed")
from softmaxfam_rs.torch import entmax as ours  # noqa: E402  after the look for torch

ABSENT = -torch.inf
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


def gradient(of, *leaves):
    """The gradients of a weighted sum of a result with respect to some of what it is made of."""
    leaves = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    p = of(*leaves)
    weights = torch.linspace(-1, 2, p.numel(), dtype=torch.float64).cos().to(p.dtype).reshape(p.shape)
    return torch.cat([g.flatten() for g in torch.autograd.grad((p * weights).sum(), leaves)])


def like(x, values):
    return torch.tensor(values, dtype=x.dtype)


def rows(x):
    """Orders of each row of scores of shape (4, 3, 7)."""
    return torch.linspace(1.1, 2.6, 12, dtype=x.dtype).reshape(4, 3, 1)


def heads(x):
    return like(x, [1.25, 1.5, 2.0]).reshape(3, 1)


def some_absent(x):
    return torch.where(torch.arange(x.numel()).reshape(x.shape) % 3 == 0, ABSENT, x)


# x: scores of shape (4, 3, 7); m: the module of ours or the package
SAME = {
    "sparsemax": lambda m, x: m.sparsemax(x),
    "sparsemax of the first axis": lambda m, x: m.sparsemax(x, dim=0),
    "sparsemax of a middle axis": lambda m, x: m.sparsemax(x, dim=-2),
    "sparsemax by a partial sort": lambda m, x: m.sparsemax(x, dim=1, k=2),
    "sparsemax by a partial sort of all": lambda m, x: m.sparsemax(x, -1, 100),
    "sparsemax of one axis": lambda m, x: m.sparsemax(x[0, 0]),
    "sparsemax of one class": lambda m, x: m.sparsemax(x[..., :1]),
    "sparsemax of no rows": lambda m, x: m.sparsemax(x[:0]),
    "sparsemax of strided scores": lambda m, x: m.sparsemax(x.transpose(0, 2)[::2]),
    "sparsemax with absent classes": lambda m, x: m.sparsemax(some_absent(x)),
    "sparsemax of ties": lambda m, x: m.sparsemax(x.round()),
    "sparsemax of flat scores": lambda m, x: m.sparsemax(x / 100),
    "sparsemax of one winner": lambda m, x: m.sparsemax(x * 100),
    "Sparsemax": lambda m, x: m.Sparsemax()(x),
    "Sparsemax with options": lambda m, x: m.Sparsemax(dim=1, k=2)(x),
    "gradient of sparsemax": lambda m, x: gradient(m.sparsemax, x),
    "gradient of sparsemax of an axis": lambda m, x: gradient(lambda x: m.sparsemax(x, dim=0), x),
    "entmax15": lambda m, x: m.entmax15(x),
    "entmax15 of the first axis": lambda m, x: m.entmax15(x, dim=0),
    "entmax15 of a middle axis": lambda m, x: m.entmax15(x, dim=-2),
    "entmax15 by a partial sort": lambda m, x: m.entmax15(x, 1, 2),
    "entmax15 with absent classes": lambda m, x: m.entmax15(some_absent(x)),
    "entmax15 of ties": lambda m, x: m.entmax15(x.round()),
    "entmax15 of one winner": lambda m, x: m.entmax15(x * 100),
    "Entmax15": lambda m, x: m.Entmax15()(x),
    "Entmax15 with options": lambda m, x: m.Entmax15(dim=0, k=3)(x),
    "gradient of entmax15": lambda m, x: gradient(m.entmax15, x),
    "gradient of entmax15 of an axis": lambda m, x: gradient(lambda x: m.entmax15(x, dim=1), x),
    "gradient of entmax15 with absent classes": lambda m, x: gradient(m.entmax15, some_absent(x)),
    "sparsemax_bisect": lambda m, x: m.sparsemax_bisect(x),
    "sparsemax_bisect of an axis": lambda m, x: m.sparsemax_bisect(x, dim=0),
    "SparsemaxBisect": lambda m, x: m.SparsemaxBisect(dim=1)(x),
    "gradient of sparsemax_bisect": lambda m, x: gradient(m.sparsemax_bisect, x),
    "entmax_bisect": lambda m, x: m.entmax_bisect(x),
    "entmax_bisect of order 1.2": lambda m, x: m.entmax_bisect(x, 1.2),
    "entmax_bisect of order 2": lambda m, x: m.entmax_bisect(x, alpha=2),
    "entmax_bisect of order 2.5": lambda m, x: m.entmax_bisect(x, alpha=2.5, dim=0),
    "entmax_bisect of order 0.5": lambda m, x: m.entmax_bisect(x, 0.5),
    "entmax_bisect of an order in a tensor": lambda m, x: m.entmax_bisect(x, like(x, 1.75)),
    "entmax_bisect of an order a row": lambda m, x: m.entmax_bisect(x, rows(x)),
    "entmax_bisect of an order a head": lambda m, x: m.entmax_bisect(x, heads(x)),
    "entmax_bisect of another axis": lambda m, x: m.entmax_bisect(x, rows(x)[:, :1, :], 1),
    "entmax_bisect in steps enough": lambda m, x: m.entmax_bisect(x, 1.5, n_iter=60),
    "entmax_bisect with absent classes": lambda m, x: m.entmax_bisect(some_absent(x), 1.3),
    "entmax_bisect beside a row of NaN": lambda m, x: m.entmax_bisect(torch.cat([x[:1] * torch.nan, x])),
    "entmax_bisect beside a row of +inf": lambda m, x: m.entmax_bisect(torch.cat([x[:1] + torch.inf, x])),
    "entmax_bisect beside a row of -inf": lambda m, x: m.entmax_bisect(torch.cat([x[:1] - torch.inf, x])),
    "EntmaxBisect": lambda m, x: m.EntmaxBisect()(x),
    "EntmaxBisect with options": lambda m, x: m.EntmaxBisect(alpha=1.8, dim=0, n_iter=60)(x),
    "gradient of entmax_bisect": lambda m, x: gradient(lambda x: m.entmax_bisect(x, 1.3), x),
    "gradient of entmax_bisect of an axis": lambda m, x: gradient(lambda x: m.entmax_bisect(x, 1.7, dim=0), x),
    "gradient for an order": lambda m, x: gradient(m.entmax_bisect, x, like(x, 1.5)),
    "gradient for an order a row": lambda m, x: gradient(m.entmax_bisect, x, rows(x)),
    "gradient for an order a head": lambda m, x: gradient(m.entmax_bisect, x, heads(x)),
    "normmax_bisect": lambda m, x: m.normmax_bisect(x),
    "normmax_bisect of order 1.5": lambda m, x: m.normmax_bisect(x, 1.5),
    "normmax_bisect of order 3": lambda m, x: m.normmax_bisect(x, alpha=3, dim=0),
    "normmax_bisect of an order a row": lambda m, x: m.normmax_bisect(x, rows(x)),
    "NormmaxBisect": lambda m, x: m.NormmaxBisect(alpha=2.5, dim=1)(x),
    "gradient of normmax_bisect": lambda m, x: gradient(m.normmax_bisect, x),
    "gradient of normmax_bisect of order 1.5": lambda m, x: gradient(lambda x: m.normmax_bisect(x, 1.5, dim=0), x),
    "budget_bisect": lambda m, x: m.budget_bisect(x),
    "budget_bisect of one": lambda m, x: m.budget_bisect(x, 1),
    "budget_bisect of a fraction": lambda m, x: m.budget_bisect(x, budget=2.5, dim=0),
    "budget_bisect of a budget a row": lambda m, x: m.budget_bisect(x, rows(x)),
    "BudgetBisect": lambda m, x: m.BudgetBisect(budget=3)(x),
    "gradient of budget_bisect": lambda m, x: gradient(m.budget_bisect, x),
}


LABELS = torch.tensor([0, 6, 3, 3, 1, 2, 5, 4, 0, 6, 2, 1])
IGNORED = torch.where(torch.arange(12) % 5 == 1, 3, LABELS)


def flat(x):
    """Scores of shape (12, 7)."""
    return x.reshape(12, 7)


SAME |= {
    "sparsemax_loss": lambda m, x: m.sparsemax_loss(flat(x), LABELS),
    "sparsemax_loss by a partial sort": lambda m, x: m.sparsemax_loss(flat(x), LABELS, k=3),
    "sparsemax_loss of one winner": lambda m, x: m.sparsemax_loss(flat(x) * 20, LABELS),
    "sparsemax_bisect_loss": lambda m, x: m.sparsemax_bisect_loss(flat(x), LABELS),
    "entmax15_loss": lambda m, x: m.entmax15_loss(flat(x), LABELS),
    "entmax15_loss of flat scores": lambda m, x: m.entmax15_loss(flat(x) / 50, LABELS, 2),
    "entmax_bisect_loss": lambda m, x: m.entmax_bisect_loss(flat(x), LABELS),
    "entmax_bisect_loss of order 1.2": lambda m, x: m.entmax_bisect_loss(flat(x), LABELS, alpha=1.2),
    "normmax_bisect_loss": lambda m, x: m.normmax_bisect_loss(flat(x), LABELS),
    "normmax_bisect_loss of order 3": lambda m, x: m.normmax_bisect_loss(flat(x), LABELS, alpha=3),
    "gradient of sparsemax_loss": lambda m, x: gradient(lambda x: m.sparsemax_loss(flat(x), LABELS), x),
    "gradient of entmax15_loss": lambda m, x: gradient(lambda x: m.entmax15_loss(flat(x), LABELS), x),
    "gradient of entmax_bisect_loss": lambda m, x: gradient(lambda x: m.entmax_bisect_loss(flat(x), LABELS, 1.3), x),
    "gradient of normmax_bisect_loss": lambda m, x: gradient(lambda x: m.normmax_bisect_loss(flat(x), LABELS), x),
    "SparsemaxLoss": lambda m, x: m.SparsemaxLoss()(flat(x), LABELS),
    "SparsemaxLoss with options": lambda m, x: m.SparsemaxLoss(k=3, ignore_index=3, reduction="sum")(flat(x), IGNORED),
    "SparsemaxBisectLoss": lambda m, x: m.SparsemaxBisectLoss(ignore_index=3)(flat(x), IGNORED),
    "Entmax15Loss": lambda m, x: m.Entmax15Loss()(flat(x), LABELS),
    "Entmax15Loss with ignored rows": lambda m, x: m.Entmax15Loss(ignore_index=3)(flat(x), IGNORED),
    "Entmax15Loss of each row": lambda m, x: m.Entmax15Loss(ignore_index=3, reduction="none")(flat(x), IGNORED),
    "EntmaxBisectLoss": lambda m, x: m.EntmaxBisectLoss(1.3, reduction="sum")(flat(x), LABELS),
    "NormmaxBisectLoss": lambda m, x: m.NormmaxBisectLoss(alpha=2.5, ignore_index=3)(flat(x), IGNORED),
}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("behaviour", SAME.values(), ids=SAME.keys())
def test_the_same_as_the_package(behaviour, dtype, rng):
    x = torch.tensor(rng.standard_normal((4, 3, 7))).to(dtype)
    got, expected = behaviour(ours, x), behaviour(package, x.double())  # in float32 the package is off by more itself
    assert got.dtype == dtype
    tolerance = TOLERANCE[dtype]  # losses may be above 1
    torch.testing.assert_close(got.double(), expected, rtol=tolerance, atol=tolerance, equal_nan=True)


def test_the_names_and_signatures_are_the_package_s():
    assert {name for name in vars(package) if callable(vars(package)[name])} == set(ours.__all__)
    for name in ours.__all__:
        mine, theirs = (inspect.signature(getattr(m, name)).parameters.values() for m in (ours, package))
        assert [(p.name, p.kind, p.default) for p in mine] == [(p.name, p.kind, p.default) for p in theirs], name


def exact(x, alpha):
    """Entmax of rows in 50 digits."""
    flat = x.double().reshape(-1, x.shape[-1]).numpy(force=True)
    rows = [[float(v) for v in reference.entmax(row, alpha)] for row in flat]
    return torch.tensor(rows, dtype=torch.float64).reshape(x.shape)


def slope(of, at, step="1e-20"):
    """The derivative of a function of 50 digits."""
    with mpmath.workdps(50):
        at, step = mpmath.mpf(at), mpmath.mpf(step)
        return (of(at + step) - of(at - step)) / (2 * step)


X = torch.tensor([[0.3, 1.1, -0.4, 0.9, 0.2], [2.0, -1.0, 0.5, 0.0, 1.5]], dtype=torch.float64)
NAN_ROW = torch.full((1, 5), torch.nan, dtype=torch.float64)
THREE = torch.tensor([1.0, 0.9, 0.5])
ORDER = torch.tensor(1.0, dtype=torch.float64)


def beside(x, value):
    """Scores with a row of one value after them."""
    return torch.cat([x, torch.full_like(x[:1], value)])


def second(of, x):
    """The gradient of a weighted sum of squares of a gradient."""
    x = x.detach().clone().requires_grad_()
    (first,) = torch.autograd.grad((of(x) * torch.arange(x.shape[-1])).sum(), x, create_graph=True)
    return torch.autograd.grad(first.square().sum(), x)[0]


def second_by_differences(of, x, step=1e-5):
    def first(x):
        x = x.detach().clone().requires_grad_()
        return torch.autograd.grad((of(x) * torch.arange(x.shape[-1])).sum(), x)[0].square().sum()

    units = torch.eye(x.numel(), dtype=x.dtype).reshape(-1, *x.shape)
    return torch.stack([(first(x + step * u) - first(x - step * u)) / (2 * step) for u in units]).reshape(x.shape)


def alpha_slope(alpha):
    """d/d alpha of sum_i i p_i, summed over the rows of X."""
    with mpmath.workdps(50):
        return float(
            slope(
                lambda a: mpmath.fsum(
                    i * p for row in X.numpy(force=True) for i, p in enumerate(reference.entmax(row, a))
                ),
                alpha,
                "1e-15",
            )
        )


def by_alpha(m, alpha, dtype=torch.float64):
    alpha = torch.tensor(alpha, dtype=dtype, requires_grad=True)
    p = m.entmax_bisect(X.to(dtype), alpha)
    return torch.autograd.grad((p * torch.arange(5)).sum(), alpha)[0]


def jacobian(of, x):
    """By differences."""
    step = 1e-6
    units = torch.eye(x.numel(), dtype=x.dtype).reshape(-1, *x.shape)
    return torch.stack([(of(x + step * u) - of(x - step * u)) / (2 * step) for u in units], -1).reshape(*x.shape, -1)


def budget_gradient(m):
    x = torch.tensor([[0.3, -0.1, 0.9], [0.2, 0.8, 0.5]], dtype=torch.float64).unsqueeze(1).requires_grad_()
    return torch.autograd.grad(m.budget_bisect(x, 1).mul(torch.arange(3)).sum(), x)[0]


def parameter_gradient(of, value):
    value = torch.tensor(value, dtype=torch.float64, requires_grad=True)
    p = of(torch.tensor([0.3, 0.1, 0.9], dtype=torch.float64), value)
    return torch.autograd.grad((p * torch.arange(3)).sum(), value)[0]


def parameter_by_differences(alpha, step=1e-6):
    def of(alpha):
        p = package.normmax_bisect(torch.tensor([0.3, 0.1, 0.9], dtype=torch.float64), alpha, n_iter=60)
        return (p * torch.arange(3)).sum()

    return (of(alpha + step) - of(alpha - step)) / (2 * step)


def learned_in_a_module(m):
    module = m.EntmaxBisect(torch.nn.Parameter(torch.tensor(1.5, dtype=torch.float64)))
    return module(X) * len(list(module.parameters()))


class Mended(NamedTuple):
    """What the package gets wrong; the right result, or the error that is due; how near it must be."""

    behaviour: Callable
    right: Callable | type[Exception]
    tolerance: float = 1e-12


MENDED = {
    # layouts
    "sparsemax of dim=-2 by a partial sort": Mended(lambda m: m.sparsemax(X.T, dim=-2, k=1), lambda: exact(X, 2).T),
    "entmax15 of dim=-2 by a partial sort": Mended(lambda m: m.entmax15(X.T, dim=-2, k=1), lambda: exact(X, 1.5).T),
    "no axis": Mended(lambda m: m.entmax_bisect(torch.tensor(3.0)), lambda: torch.tensor(1.0)),
    "no classes": Mended(lambda m: m.sparsemax(torch.zeros(3, 0)), lambda: torch.zeros(3, 0)),
    "integers in sparsemax": Mended(lambda m: m.sparsemax(torch.tensor([1, 1])), lambda: torch.tensor([0.5, 0.5])),
    "integers in entmax_bisect": Mended(
        lambda m: m.entmax_bisect(torch.tensor([0, 1])), lambda: exact(torch.tensor([0.0, 1.0]), 1.5), 1e-6
    ),
    # rows that are not finite
    "sparsemax beside a row of -inf": Mended(
        lambda m: m.sparsemax(beside(X, ABSENT)), lambda: torch.cat([exact(X, 2), NAN_ROW])
    ),
    "entmax15 beside a row of -inf": Mended(
        lambda m: m.entmax15(beside(X, ABSENT)), lambda: torch.cat([exact(X, 1.5), NAN_ROW])
    ),
    "sparsemax beside a row of NaN": Mended(
        lambda m: m.sparsemax(beside(X, torch.nan)), lambda: torch.cat([exact(X, 2), NAN_ROW])
    ),
    "entmax15 beside a row of +inf": Mended(
        lambda m: m.entmax15(beside(X, torch.inf)), lambda: torch.cat([exact(X, 1.5), NAN_ROW])
    ),
    "budget_bisect with absent classes": Mended(
        lambda m: m.budget_bisect(torch.tensor([5.0, ABSENT, 0.5, 0.5])), lambda: torch.tensor([1, 0, 0.5, 0.5])
    ),
    # steps of the bisection
    "few steps": Mended(lambda m: m.entmax_bisect(X, n_iter=4), lambda: exact(X, 1.5)),
    "few steps of normmax": Mended(
        lambda m: m.normmax_bisect(X, n_iter=4), lambda: package.normmax_bisect(X, n_iter=60)
    ),
    "no steps": Mended(lambda m: m.entmax_bisect(X, n_iter=0), lambda: exact(X, 1.5)),
    "a sum left as it came": Mended(
        lambda m: m.entmax_bisect(X, n_iter=10, ensure_sum_one=False).sum(-1), lambda: torch.ones(2)
    ),
    # orders
    "order 1": Mended(lambda m: m.entmax_bisect(X, 1.0), lambda: X.softmax(-1)),
    "order near 1 in float32": Mended(
        lambda m: m.entmax_bisect(X.float(), 1.00001), lambda: exact(X.float(), 1 + 1e-5), 1e-6
    ),
    "order 10 in float32": Mended(lambda m: m.entmax_bisect(THREE, 10.0), lambda: exact(THREE, 10), 1e-6),
    "order 10 in float64": Mended(lambda m: m.entmax_bisect(THREE.double(), 10.0), lambda: exact(THREE, 10), 1e-6),
    "order infinity": Mended(
        lambda m: m.entmax_bisect(torch.tensor([0.0, 2.0, 2.0]), math.inf), lambda: torch.tensor([0, 0.5, 0.5])
    ),
    "an order below 0": Mended(lambda m: m.entmax_bisect(X, -1.0), ValueError),
    "an order in float64 for float32": Mended(
        lambda m: torch.tensor(m.entmax_bisect(X.float(), ORDER + 0.5).element_size()), lambda: torch.tensor(4)
    ),
    "a budget beyond the classes": Mended(lambda m: m.budget_bisect(X, budget=6), ValueError),
    # precision
    "bfloat16 far from 0": Mended(
        lambda m: m.sparsemax_bisect(torch.full((1, 4), 1000.0, dtype=torch.bfloat16)), lambda: torch.full((1, 4), 0.25)
    ),
    "bfloat16 far from 0, entmax_bisect": Mended(
        lambda m: m.entmax_bisect(torch.full((1, 4), 30_000.0, dtype=torch.bfloat16)),
        lambda: torch.full((1, 4), 0.25),
    ),
    "bfloat16 of many classes": Mended(
        lambda m: m.entmax15(torch.zeros(1000, dtype=torch.bfloat16)), lambda: torch.full((1000,), 1e-3), 6e-7
    ),
    "float16 of many classes": Mended(
        lambda m: m.sparsemax(torch.zeros(70_000, dtype=torch.float16)), lambda: torch.full((70_000,), 1 / 70_000), 1e-7
    ),
    "float32 far from 0": Mended(
        lambda m: m.entmax_bisect(torch.tensor([0.0, 0.5, 0.75]) + 2**20),
        lambda: exact(torch.tensor([0.0, 0.5, 0.75]), 1.5),
        1e-6,
    ),
    # gradients
    "gradient for order 1": Mended(lambda m: by_alpha(m, 1.0), lambda: alpha_slope(1.0)),
    "gradient for an order near 1": Mended(lambda m: by_alpha(m, 1 + 1e-6), lambda: alpha_slope(1 + 1e-6)),
    "gradient for an order near 1 in float32": Mended(
        lambda m: by_alpha(m, 1 + 2**-20, torch.float32), lambda: alpha_slope(1 + 2**-20), 1e-6
    ),
    "gradient of budget_bisect beside an axis of length 1": Mended(
        budget_gradient, lambda: torch.tensor([[[-1, 0, 1]], [[-1, 0, 1]]])
    ),
    "gradient for a budget": Mended(
        lambda m: parameter_gradient(m.budget_bisect, 1.0), lambda: torch.tensor(1.0, dtype=torch.float64)
    ),
    "gradient for the order of normmax": Mended(
        lambda m: parameter_gradient(m.normmax_bisect, 2.0), lambda: parameter_by_differences(2.0), 1e-8
    ),
    "second gradient of entmax15": Mended(
        lambda m: second(m.entmax15, X), lambda: second_by_differences(package.entmax15, X), 1e-7
    ),
    "second gradient of entmax_bisect": Mended(
        lambda m: second(m.entmax_bisect, X), lambda: second_by_differences(package.entmax15, X), 1e-7
    ),
    "an order learned in a module": Mended(learned_in_a_module, lambda: exact(X, 1.5)),
    # transforms
    "vmap": Mended(lambda m: torch.vmap(m.sparsemax)(X), lambda: exact(X, 2)),
    "vmap of entmax_bisect": Mended(lambda m: torch.vmap(m.entmax_bisect)(X), lambda: exact(X, 1.5)),
    "jacrev": Mended(lambda m: torch.func.jacrev(m.entmax15)(X[0]), lambda: jacobian(package.entmax15, X[0]), 1e-8),
    "compiled gradient": Mended(
        lambda m: gradient(torch.compile(m.sparsemax, fullgraph=True, backend="aot_eager"), X),
        lambda: gradient(package.sparsemax, X),
    ),
}


def loss_by_alpha(m):
    alpha = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    loss = m.entmax_bisect_loss(X, torch.tensor([0, 1]), alpha).sum()
    return torch.autograd.grad(loss, alpha, allow_unused=True)[0]


def loss_by_alpha_by_differences(step=1e-6):
    def of(alpha):
        return package.entmax_bisect_loss(X, torch.tensor([0, 1]), alpha, n_iter=60).sum()

    return (of(1.5 + step) - of(1.5 - step)) / (2 * step)


def second_of_a_loss(m):
    x = X.clone().requires_grad_()
    (first,) = torch.autograd.grad(m.sparsemax_loss(x, torch.tensor([0, 1])).sum(), x, create_graph=True)
    return torch.autograd.grad(first.square().sum(), x)[0]


def second_by_differences_of_a_loss(step=1e-5):
    def first(x):
        x = x.detach().clone().requires_grad_()
        return torch.autograd.grad(ours.sparsemax_loss(x, torch.tensor([0, 1])).sum(), x)[0].square().sum()

    units = torch.eye(X.numel(), dtype=X.dtype).reshape(-1, *X.shape)
    return torch.stack([(first(X + step * u) - first(X - step * u)) / (2 * step) for u in units]).reshape(X.shape)


FAR = torch.tensor([[104.046875, 102.078125, 99.09375]])
CONFIDENT = torch.tensor([[2.0, 2.0**-30]], dtype=torch.float64)  # the other class has 2^-62
MENDED |= {
    # losses
    "a loss of a confident row": Mended(
        lambda m: m.entmax15_loss(CONFIDENT, torch.tensor([0])) * 2.0**90,
        lambda: torch.tensor([6.7316130555349787056e-29 * 2.0**90], dtype=torch.float64),
    ),
    "a loss near the margin in float32, which the package makes negative": Mended(
        lambda m: m.entmax15_loss(torch.tensor([[104.046875, 102.078125, 99.09375]]), torch.tensor([0])) * 2.0**10,
        lambda: (
            ours.entmax15_loss(torch.tensor([[104.046875, 102.078125, 99.09375]]).double(), torch.tensor([0])) * 2**10
        ),
        1e-9,
    ),
    "a loss of order 1": Mended(
        lambda m: m.entmax_bisect_loss(X, torch.tensor([0, 1]), 1.0),
        lambda: torch.nn.functional.cross_entropy(X, torch.tensor([0, 1]), reduction="none"),
    ),
    "a loss of one row": Mended(
        lambda m: m.sparsemax_loss(torch.tensor([1.0, 0.5, -1.0]), torch.tensor(1)), lambda: torch.tensor(0.5625)
    ),
    "a loss of three axes": Mended(
        lambda m: m.sparsemax_loss(X.unsqueeze(0), torch.tensor([[0, 1]])),
        lambda: package.sparsemax_loss(X, torch.tensor([0, 1])).unsqueeze(0),
    ),
    "a label of -100, which is ignored by default": Mended(
        lambda m: m.SparsemaxLoss()(X, torch.tensor([0, -100])),
        lambda: package.sparsemax_loss(X[:1], torch.tensor([0]))[0],
    ),
    "the gradient of a loss for its order": Mended(loss_by_alpha, loss_by_alpha_by_differences, 1e-8),
    "the second gradient of a loss": Mended(second_of_a_loss, second_by_differences_of_a_loss, 1e-7),
    "a loss of bfloat16": Mended(
        lambda m: m.sparsemax_loss(torch.full((1, 1000), 100.0, dtype=torch.bfloat16), torch.tensor([0])),
        lambda: torch.tensor([0.5 * (1 - 1e-3)]),
        2e-3,
    ),
}


@pytest.mark.parametrize("case", MENDED.values(), ids=MENDED.keys())
def test_mended(case):
    # the package really is wrong: it refuses, or is far from the right result
    try:
        # on a GPU its errors would end the process
        theirs = case.behaviour(package) if torch.get_default_device().type == "cpu" else None
    except Exception:  # noqa: BLE001  whatever it raises
        theirs = None
    if isinstance(case.right, type):
        assert theirs is not None or torch.get_default_device().type != "cpu"  # and says nothing
        with pytest.raises(case.right):
            case.behaviour(ours)
        return
    right = torch.as_tensor(case.right(), dtype=torch.float64)
    mine = case.behaviour(ours).double()
    of_array_calls = 0 if torch.get_default_device().type == "cpu" else 2e-5  # they compute in the dtype of the scores
    torch.testing.assert_close(mine, right, rtol=of_array_calls, atol=case.tolerance, equal_nan=True)
    if theirs is not None:
        assert theirs.shape == right.shape
        assert not torch.allclose(theirs.double(), right, rtol=0, atol=10 * case.tolerance, equal_nan=True)


def test_sixty_behaviours_are_compared():
    assert len(SAME) >= 60
    assert len(MENDED) >= 40
    docs = (Path(__file__).parent.parent / "docs" / "entmax.md").read_text(encoding="utf-8")
    assert f"{len(SAME)} behaviours" in docs
