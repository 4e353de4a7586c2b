"""The maps as modules of torch: options, masks, learned orders, state, copies, compilation."""

import copy
import io

import pytest

import softmaxfam_rs as sf

torch = pytest.importorskip("torch", reason="torch is not installed")
from softmaxfam_rs.torch import Entmax, LogSoftmax, Softmax, Sparsemax  # noqa: E402  after the look for torch

MAPS = {"Softmax": sf.softmax, "LogSoftmax": sf.log_softmax, "Sparsemax": sf.sparsemax, "Entmax": sf.entmax}
MODULES = {"Softmax": Softmax, "LogSoftmax": LogSoftmax, "Sparsemax": Sparsemax, "Entmax": Entmax}


@pytest.fixture
def scores(rng):
    """Of shape (batch, heads, queries, keys)."""
    return torch.tensor(2 * rng.standard_normal((2, 4, 3, 6)))


@pytest.mark.parametrize("name", MODULES)
def test_modules_call_the_functions_of_their_names(name, scores):
    module, of = MODULES[name], MAPS[name]
    assert torch.equal(module()(scores), of(scores))
    where = scores > -1
    expected = of(scores, axis=1, where=where, temperature=0.5)
    assert torch.equal(module(dim=1, temperature=0.5)(scores, where=where), expected)


def test_softmax_over_several_axes(scores):
    torch.testing.assert_close(Softmax(dim=None)(scores).sum(), torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close(LogSoftmax(dim=(1, 2))(scores).exp().sum((1, 2)), torch.ones(2, 6, dtype=torch.float64))


@pytest.mark.parametrize("name", MODULES)
def test_a_temperature_may_be_learned_or_one_a_row(name, scores):
    module = MODULES[name](temperature=torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64)))
    module(scores)[..., 0].sum().backward()
    assert [key for key, _ in module.named_parameters()] == ["temperature"]
    assert module.temperature.grad.abs() > 0
    temperatures = torch.linspace(0.5, 3, 4, dtype=torch.float64).reshape(4, 1, 1)
    module = MODULES[name](temperature=temperatures)
    assert torch.equal(module(scores), MAPS[name](scores, temperature=temperatures))
    assert "temperature" in module.state_dict() and not list(module.parameters())


ORDERS = [1.1, 1.4, 1.5, 1.9]


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("alpha_dim", [1, -3])
def test_each_head_has_its_order(learned, alpha_dim, scores):
    module = Entmax(torch.tensor(ORDERS, dtype=torch.float64), alpha_dim=alpha_dim, learned=learned)
    p = module(scores)
    for head, alpha in enumerate(ORDERS):
        torch.testing.assert_close(p[:, head], sf.entmax(scores[:, head], alpha), rtol=0, atol=1e-13)
    across = Entmax(torch.tensor(ORDERS, dtype=torch.float64), dim=0, alpha_dim=alpha_dim, learned=learned)(scores)
    torch.testing.assert_close(across.sum(0), torch.ones_like(across[0]))


def test_orders_in_a_tensor_broadcast_to_the_scores(scores):
    orders = torch.tensor(ORDERS, dtype=torch.float64).reshape(4, 1, 1)
    assert torch.equal(Entmax(orders)(scores), sf.entmax(scores, orders))


def test_another_number_of_heads_is_refused(scores):
    for module in (Entmax(ORDERS, alpha_dim=2), Entmax(ORDERS, alpha_dim=7)):
        with pytest.raises(ValueError, match=r"4 heads along alpha_dim=.*\(2, 4, 3, 6\)|\(2, 4, 3, 6\).*4 heads"):
            module(scores)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"alpha": 2.0}, "alpha starts at"),
        ({"alpha": [1.5, 1.0]}, "alpha starts at"),
        ({"alpha": float("nan")}, "alpha starts at"),
        ({"bounds": (2.0, 1.0)}, "bounds"),
        ({"bounds": (0.0, 1.0)}, "bounds"),
        ({"bounds": (1.0, float("inf"))}, "bounds"),
    ],
)
def test_starts_and_bounds_are_checked(options, named):
    with pytest.raises(ValueError, match=named):
        Entmax(**options, learned=True)


@pytest.mark.parametrize("bounds", [(1.0, 2.0), (1.2, 4.0)])
def test_a_learned_order_starts_where_told_and_stays_within_its_bounds(bounds, scores):
    low, high = bounds
    module = Entmax(1.5, learned=True, bounds=bounds)
    assert module.alpha.item() == pytest.approx(1.5, abs=1e-6)
    for direction in (-1, 1):
        optimiser = torch.optim.SGD(module.parameters(), lr=1e4)
        for _ in range(20):
            optimiser.zero_grad()
            (direction * module(scores).square().sum()).backward()
            optimiser.step()
            assert low <= module.alpha.item() <= high
            assert torch.isfinite(module.orders.raw)
        module = Entmax(1.5, learned=True, bounds=bounds)


def test_orders_are_learned(scores):
    # the orders that made a target are found again from it
    orders = torch.tensor([1.2, 1.4, 1.6, 1.8], dtype=torch.float64)
    target = Entmax(orders, alpha_dim=1)(scores)
    module = Entmax(torch.full((4,), 1.5, dtype=torch.float64), alpha_dim=1, learned=True)
    optimiser = torch.optim.LBFGS(module.parameters(), line_search_fn="strong_wolfe", tolerance_grad=1e-12, max_iter=60)

    def closure():
        optimiser.zero_grad()
        loss = (module(scores) - target).square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    torch.testing.assert_close(module.alpha.detach(), orders, rtol=0, atol=1e-3)


def test_gradients_of_learned_orders_are_those_of_differences(scores):
    module = Entmax(torch.tensor(ORDERS, dtype=torch.float64), alpha_dim=1, learned=True)

    def of(raw, scores):
        return torch.func.functional_call(module, {"orders.raw": raw}, (scores,))

    assert torch.autograd.gradcheck(of, (module.orders.raw, scores[:1, :, :1].clone().requires_grad_()))


@pytest.mark.parametrize("learned", [False, True])
def test_state_goes_through_a_file(learned, scores):
    module = Entmax(ORDERS, alpha_dim=1, learned=learned)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other = Entmax([1.3] * 4, alpha_dim=1, learned=learned)
    assert not torch.equal(other(scores), module(scores))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(scores), module(scores))


@pytest.mark.parametrize("learned", [False, True])
def test_copies_are_their_own(learned, scores):
    module = Entmax(ORDERS, alpha_dim=1, learned=learned)
    other = copy.deepcopy(module)
    assert torch.equal(other(scores), module(scores))
    with torch.no_grad():
        for tensor in (*other.parameters(), *other.buffers()):
            tensor.add_(0.25)
    assert not torch.equal(other(scores), module(scores))


@pytest.mark.parametrize("learned", [False, True])
def test_modules_move_between_dtypes_and_devices(learned, scores):
    module = Entmax(ORDERS, alpha_dim=1, learned=learned)
    assert module.to(torch.float64).alpha.dtype == torch.float64
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        p = module.to(dtype)(scores.to(dtype))
        assert p.dtype == dtype
        torch.testing.assert_close(p.double().sum(-1), torch.ones(2, 4, 3, dtype=torch.float64), rtol=0, atol=0.02)
    meta = module.to("meta")
    assert meta.alpha.device.type == "meta"
    assert meta(scores.to("meta")).shape == scores.shape


def test_representations_tell_the_options():
    assert repr(Softmax()) == "Softmax(dim=-1)"
    assert repr(Sparsemax(dim=1, temperature=0.5)) == "Sparsemax(dim=1, temperature=0.5)"
    shown = repr(Entmax([1.25, 1.75], alpha_dim=1, learned=True, bounds=(1, 3)))
    for part in ("dim=-1, alpha_dim=1", "alpha=[1.25, 1.75], bounds=(1.0, 3.0)"):
        assert part in shown
    assert "alpha=1.3" in repr(Entmax(1.3)) and "20 orders" in repr(Entmax([1.5] * 20, alpha_dim=0))


@pytest.mark.parametrize(
    "module",
    [Softmax(), LogSoftmax(), Sparsemax(dim=1), Entmax(1.3), Entmax(ORDERS, alpha_dim=1, learned=True)],
    ids=lambda module: type(module).__name__,
)
def test_modules_compile_without_breaks(module, scores):
    scores = scores.float().requires_grad_()
    weights = torch.linspace(-1, 1, 6)
    results = []
    for call in (module, torch.compile(module, fullgraph=True, backend="aot_eager")):
        leaves = [scores, *module.parameters()]
        p = call(scores)
        results.append([p, *torch.autograd.grad((p * weights).sum(), leaves)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)
