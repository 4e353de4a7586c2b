"""Losses of NumPy's arrays: against 50 digits, what they promise, the edges, and torch's own where it has one."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
import softmaxfam_rs as sf
from reference import DTYPES, dtype_of, eps_of

INF, NAN = np.inf, np.nan
ALPHAS = [0.5, 1.0, 1 + 1e-8, 1.3, 1.5, 2.0, 2.5, 8.0, INF]
LOSSES = {
    "entmax 0.5": (lambda *a, **k: sf.entmax_loss(*a, 0.5, **k), lambda *a, **k: sf.entmax_loss_and_grad(*a, 0.5, **k)),
    "entmax 1": (lambda *a, **k: sf.entmax_loss(*a, 1.0, **k), lambda *a, **k: sf.entmax_loss_and_grad(*a, 1.0, **k)),
    "entmax 1.3": (lambda *a, **k: sf.entmax_loss(*a, 1.3, **k), lambda *a, **k: sf.entmax_loss_and_grad(*a, 1.3, **k)),
    "entmax": (sf.entmax_loss, sf.entmax_loss_and_grad),
    "entmax 3": (lambda *a, **k: sf.entmax_loss(*a, 3.0, **k), lambda *a, **k: sf.entmax_loss_and_grad(*a, 3.0, **k)),
    "sparsemax": (sf.sparsemax_loss, sf.sparsemax_loss_and_grad),
    "cross_entropy": (sf.cross_entropy, sf.cross_entropy_and_grad),
    "perceptron": (sf.perceptron_loss, sf.perceptron_loss_and_grad),
    "normmax": (sf.normmax_loss, sf.normmax_loss_and_grad),
    "normmax 3": (
        lambda *a, **k: sf.normmax_loss(*a, 3.0, **k),
        lambda *a, **k: sf.normmax_loss_and_grad(*a, 3.0, **k),
    ),
    "rankmax": (sf.rankmax_loss, sf.rankmax_loss_and_grad),
}
SPARSE = {name: pair for name, pair in LOSSES.items() if name != "cross_entropy"}
OF_SHARES = {name: pair for name, pair in LOSSES.items() if name != "rankmax"}
losses = pytest.mark.parametrize(("of", "with_grad"), LOSSES.values(), ids=LOSSES.keys())
with_grads = pytest.mark.parametrize("with_grad", [pair[1] for pair in LOSSES.values()], ids=LOSSES.keys())
of_shares_with_grad = pytest.mark.parametrize(
    "with_grad", [pair[1] for pair in OF_SHARES.values()], ids=OF_SHARES.keys()
)
of_shares = pytest.mark.parametrize(("of", "with_grad"), OF_SHARES.values(), ids=OF_SHARES.keys())
dtypes = pytest.mark.parametrize("dtype", DTYPES)

TORTURE = {  # values of 60 digits, at these very numbers
    "a confident row": (lambda: sf.cross_entropy(np.array([40.0, 0]), 0), "4.2483542552915889863e-18"),
    "the same by order 1": (lambda: sf.entmax_loss(np.array([40.0, 0]), 0, 1.0), "4.2483542552915889863e-18"),
    "the same by shares": (
        lambda: sf.entmax_loss(np.array([40.0, 0]), np.array([1.0, 0]), 1.0),
        "4.2483542552915889863e-18",
    ),
    "far from the target": (lambda: sf.cross_entropy(np.array([0.0, -1000]), 1), "1000.0"),
    "beside the margin": (lambda: sf.entmax_loss(np.array([0, -2 + 2.0**-30]), 0), "6.7316130555349787056e-29"),
    "its gradient": (
        lambda: sf.entmax_loss_and_grad(np.array([0, -2 + 2.0**-30]), 0)[1][1],
        "2.1684043439612669099e-19",
    ),
    "order 1 + 2^-20": (
        lambda: sf.entmax_loss(np.array([0.5, -1, 2, -30]), 3, 1 + 2.0**-20),
        "32.241310232670697435",
    ),
    "order 1 + 2^-50": (
        lambda: sf.entmax_loss(np.array([0.5, -1, 2, -30]), 3, 1 + 2.0**-50),
        "32.241311296657166018",
    ),
    "Rankmax far from 0": (lambda: sf.rankmax_loss(np.array([1e8, 1e8 - 0.5, 0]), 1), "0.91629073187415506518"),
    "Rankmax at its kink": (lambda: sf.rankmax_loss(np.array([2.0**-30, 1, 0]), 1), "9.313225741817976469e-10"),
    "a label off the support": (lambda: sf.entmax_loss(np.array([3.0, 0, 1, -7]), 3), "10.0"),
    "order 4": (lambda: sf.entmax_loss(np.array([0.1, 0.05, 0]), 2, 4.0), "0.15040042749056358552"),
}
NEAR_THE_TARGET = {  # one ulp of p moves these by 1.5e-8 of them
    "sparsemax": (
        lambda: sf.sparsemax_loss(np.array([0.5, 0.25, 0.25]), np.array([0.5 + 2.0**-27, 0.25 - 2.0**-27, 0.25])),
        "5.5511151231257827021e-17",
    ),
    "entmax 1.5": (
        lambda: sf.entmax_loss(np.ones(4), np.array([0.25 + 2.0**-27, 0.25 - 2.0**-27, 0.25, 0.25])),
        "1.1102230246251566021e-16",
    ),
}


@pytest.mark.parametrize(("call", "value"), TORTURE.values(), ids=TORTURE.keys())
def test_torture(call, value):
    assert abs(mpmath.mpf(float(call())) / mpmath.mpf(value) - 1) <= 1e-13


@pytest.mark.parametrize(("call", "value"), NEAR_THE_TARGET.values(), ids=NEAR_THE_TARGET.keys())
def test_torture_near_the_target(call, value):
    assert abs(mpmath.mpf(float(call())) / mpmath.mpf(value) - 1) <= 1e-7


def one_hot(n, label):
    return (np.arange(n) == label).astype(float)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("scale", [0.01, 1.0, 8.0])
def test_entmax_losses_against_50_digits(alpha, scale, rng):
    for n in (2, 5, 40):
        x = scale * rng.standard_normal(n)
        targets = [rng.integers(n), int(x.argmax()), rng.dirichlet(np.full(n, 0.5)), sf.entmax(x, 1.7)]
        for temperature in (1.0, 0.625):
            for target in targets:
                y = target if np.ndim(target) else one_hot(n, target)
                y = [mpmath.mpf(v) / mpmath.fsum(map(mpmath.mpf, y)) for v in y]
                expected, slopes = reference.entmax_loss(x, y, alpha, temperature)
                value, gradient = sf.entmax_loss_and_grad(x, target, alpha, temperature=temperature)
                assert abs(value - expected) <= 64 * eps_of("float64") * (expected + 1e-3)
                assert max(map(abs, gradient - np.array(slopes, dtype=float))) <= 1e-15 / temperature
                assert sf.entmax_loss(x, target, alpha, temperature=temperature) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize("alpha", [1.0, 1.3, 1.5, 2.0, 3.0])
def test_confident_rows_have_all_their_digits(alpha):
    # a label whose lead is almost the margin, and softmax rows of ever larger lead
    for lead in [0.5, 0.9, 1 - 2.0**-10, 1 - 2.0**-20] if alpha > 1 else [1.0, 50.0, 300.0, 700.0]:
        gap = lead / (alpha - 1) if alpha > 1 else lead
        x = np.array([0.0, -gap, -gap - 0.25, -gap - 1])
        with mpmath.workdps(400 if alpha == 1 else 50):
            expected, slopes = reference.entmax_loss(x, one_hot(4, 0), alpha)
        value, gradient = sf.entmax_loss_and_grad(x, 0, alpha)
        # a few eps by the condition of the problem: |<gradient, x>| / loss
        condition = 1 + float(mpmath.fsum(abs(g * v) for g, v in zip(slopes, x, strict=True)) / expected)
        assert abs(value / expected - 1) <= 16 * eps_of("float64") * condition, lead
        assert gradient[0] == pytest.approx(float(slopes[0]), rel=1e-9)


@dtypes
@losses
def test_every_dtype_is_right_to_its_rounding(of, with_grad, dtype, rng):
    x = (2 * rng.standard_normal((6, 50))).astype(dtype_of(dtype))
    labels = rng.integers(50, size=6)
    expected, slopes = with_grad(x.astype(float), labels, reduction="none")
    value, gradient = with_grad(x, labels, reduction="none")
    assert value.dtype == gradient.dtype == x.dtype
    np.testing.assert_allclose(value.astype(float), expected, rtol=4 * eps_of(dtype), atol=0)
    np.testing.assert_allclose(gradient.astype(float), slopes, rtol=0, atol=2 * eps_of(dtype))
    np.testing.assert_allclose(of(x, labels).astype(float), expected.mean(), rtol=4 * eps_of(dtype))


def test_half_precision_sums_do_not_overflow():
    x = np.zeros((70_000, 2), dtype=np.float16)
    assert sf.cross_entropy(x, np.zeros(70_000, int)) == pytest.approx(np.log(2), rel=1e-3)
    assert sf.cross_entropy(np.zeros((1, 70_000), np.float16), [0]) == pytest.approx(np.log(70_000), rel=1e-3)


@losses
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_axes_and_strides(of, with_grad, axis, rng):
    x = rng.standard_normal((4, 6, 5))[::-1, ::2]
    classes = x.shape[axis]
    labels = rng.integers(classes, size=[n for i, n in enumerate(x.shape) if i != axis % 3])
    weight = rng.random(classes)
    value, gradient = with_grad(x, labels, axis=axis, weight=weight)
    rows = np.ascontiguousarray(np.moveaxis(x, axis, -1)).reshape(-1, classes)
    expected, slopes = with_grad(rows, labels.ravel(), weight=weight)
    np.testing.assert_allclose(value, expected, rtol=1e-15)
    np.testing.assert_allclose(np.moveaxis(gradient, axis, -1).reshape(-1, classes), slopes, rtol=1e-14, atol=1e-17)
    each = of(x, labels, axis=axis, weight=weight, reduction="none")
    assert each.shape == labels.shape
    swapped = x.astype(">f8")
    np.testing.assert_array_equal(of(swapped, labels, axis=axis, weight=weight, reduction="none"), each)


@pytest.mark.parametrize(("of", "with_grad"), SPARSE.values(), ids=SPARSE.keys())
def test_sparse_gradients_are_the_dense_ones(of, with_grad, rng):
    x = (3 * rng.standard_normal((5, 30))).astype(np.float32)
    x[3, 4] = NAN
    labels = np.array([3, 29, -1, 2, 0])
    value, dense = with_grad(x, labels, ignore_index=-1, reduction="none")
    same, sparse = with_grad(x, labels, ignore_index=-1, reduction="none", sparse_grad=True)
    # of order 1 the dense gradient has the kernels of cross entropy, the sparse one those of entmax
    near = {"rtol": 2e-7, "atol": 0} if of is LOSSES["entmax 1"][0] else {"rtol": 0, "atol": 0}
    np.testing.assert_allclose(value, same, **near)
    assert sparse.shape == x.shape and (np.diff(sparse.indptr) <= 30).all()
    np.testing.assert_allclose(sparse.to_dense(), dense, **near)
    assert np.isnan(value[3]) and value[2] == 0 and (dense[2] == 0).all()
    with pytest.raises(TypeError):
        sf.cross_entropy_and_grad(x, labels, sparse_grad=True)


def test_large_supports_agree_with_small_ones(rng):
    # above 2048 candidates a row is solved in place, and read again
    for scale in (1e-6, 1e-3, 1e-2):
        x = scale * rng.standard_normal((2, 6000))
        y = rng.dirichlet(np.ones(6000), 2)
        for alpha in (1.1, 1.5, 2.0):
            p = sf.entmax(x, alpha)
            _, gradient = sf.entmax_loss_and_grad(x, [5, 9], alpha, reduction="sum")
            p[[0, 1], [5, 9]] -= 1
            np.testing.assert_allclose(gradient, p, rtol=0, atol=1e-15)
            value, gradient = sf.entmax_loss_and_grad(x, y, alpha, reduction="none")
            p[[0, 1], [5, 9]] += 1
            np.testing.assert_allclose(gradient, p - y, rtol=0, atol=1e-15)
            omega = [-sf.tsallis_entropy(of, alpha) for of in (y, p)]
            defined = omega[0] - omega[1] + ((p - y) * x).sum(axis=1)
            np.testing.assert_allclose(value, defined, rtol=1e-9, atol=1e-14)


# the identities of the paper, for any scores


ROWS = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=12)
ORDERS = st.floats(0.2, 8) | st.sampled_from([1.0, 1.5, 2.0, INF])


def shares_of(size, seed):
    y = np.random.default_rng(seed).dirichlet(np.full(size, 0.4))
    return y / y.sum()


@settings(deadline=None)
@given(x=ROWS, alpha=ORDERS, seed=st.integers(0, 99), shift=st.sampled_from([-64.0, 0.5, 16.0]))
def test_shifts_and_permutations_change_nothing(x, alpha, seed, shift):
    x, y = np.array(x), shares_of(len(x), seed)
    x = np.round(x * 64) / 64  # shifts are exact then
    value = sf.entmax_loss(x, y, alpha)
    assert sf.entmax_loss(x + shift, y, alpha) == pytest.approx(value, rel=1e-13, abs=1e-14)
    order = np.random.default_rng(seed).permutation(len(x))
    assert sf.entmax_loss(x[order], y[order], alpha) == pytest.approx(value, rel=1e-12, abs=1e-14)


@settings(deadline=None)
@given(x=ROWS, alpha=ORDERS, seed=st.integers(0, 99))
def test_losses_are_not_negative_and_gradients_sum_to_zero(x, alpha, seed):
    x, y = np.array(x), shares_of(len(x), seed)
    for value, gradient in (
        sf.entmax_loss_and_grad(x, y, alpha),
        sf.cross_entropy_and_grad(x, y),
        sf.normmax_loss_and_grad(x, y, alpha + 1),
        sf.rankmax_loss_and_grad(x, seed % len(x)),
    ):
        assert value >= 0
        assert abs(gradient.sum()) <= 1e-13
    p = sf.entmax(x, alpha)
    assert sf.entmax_loss(x, p, alpha) <= 1e-28 * max(1, 1 / alpha)  # nothing is left at its own probabilities
    assert sf.normmax_loss(x, sf.normmax(x, alpha + 1), alpha + 1) <= 1e-14


@settings(deadline=None)
@given(x=ROWS, alpha=ORDERS, seed=st.integers(0, 99), temperature=st.floats(0.1, 10))
def test_a_temperature_divides_the_scores(x, alpha, seed, temperature):
    x, y = np.array(x), shares_of(len(x), seed)
    value, gradient = sf.entmax_loss_and_grad(x, y, alpha, temperature=temperature)
    expected, slopes = sf.entmax_loss_and_grad(x / temperature, y, alpha)
    assert value == pytest.approx(expected, rel=1e-10, abs=1e-11)
    np.testing.assert_allclose(gradient, slopes / temperature, rtol=0, atol=1e-11 / temperature)


@settings(deadline=None)
@given(x=ROWS, alpha=st.floats(0.3, 6), by=st.floats(0.01, 3), label=st.integers(0, 11))
def test_a_higher_order_has_no_larger_loss(x, alpha, by, label):
    label %= len(x)
    assert sf.entmax_loss(x, label, alpha + by) <= sf.entmax_loss(x, label, alpha) * (1 + 1e-12)


@settings(deadline=None)
@given(x=ROWS, alpha=ORDERS, label=st.integers(0, 11))
def test_absent_classes_change_nothing(x, alpha, label):
    label %= len(x)
    more = [*x, -INF, -INF]
    masked = [*x, 99.0, NAN]
    where = np.arange(len(x) + 2) < len(x)
    for of in (
        lambda x, **k: sf.entmax_loss(x, label, alpha, **k),
        lambda x, **k: sf.entmax_loss(x, label, alpha, label_smoothing=0.2, **k),
        lambda x, **k: sf.cross_entropy(x, label, label_smoothing=0.2, **k),
        lambda x, **k: sf.normmax_loss(x, label, alpha + 1, **k),
        lambda x, **k: sf.rankmax_loss(x, label, **k),
    ):
        assert of(more) == of(masked, where=where) == pytest.approx(of(x), rel=1e-14, abs=1e-300)
    if 1 < alpha < INF:
        below = max(x) - 1 / (alpha - 1)
        assert sf.entmax_loss([*x, below, below - 1], label, alpha) == pytest.approx(sf.entmax_loss(x, label, alpha))


@settings(deadline=None)
@given(x=ROWS, alpha=ORDERS, seeds=st.tuples(st.integers(0, 99), st.integers(100, 199)), share=st.floats(0, 1))
def test_mixtures_differ_by_their_entropies(x, alpha, seeds, share):
    y, other = (shares_of(len(x), seed) for seed in seeds)
    mixed = share * y + (1 - share) * other
    of = lambda y: sf.entmax_loss(x, y, alpha) + sf.tsallis_entropy(y, alpha)  # noqa: E731
    assert share * of(y) + (1 - share) * of(other) == pytest.approx(of(mixed), rel=1e-10, abs=1e-11)


@settings(deadline=None)
@given(x=ROWS, label=st.integers(0, 11))
def test_rankmax_is_the_sparsemax_at_the_temperature_of_its_sum(x, label):
    x, label = np.array(x), label % len(x)
    total = np.maximum(x - x[label] + 1, 0).sum()
    p = sf.sparsemax(x / total)
    assert sf.rankmax_loss(x, label) == pytest.approx(-np.log(p[label]), rel=1e-9, abs=1e-12)


@losses
def test_gradients_against_differences(of, with_grad, rng):
    x = rng.standard_normal((4, 6))
    labels, weight = np.array([1, 5, 0, 3]), rng.random(6) + 0.1
    options = {"weight": weight, "ignore_index": 0, "temperature": np.array([[0.5], [1], [1], [2]])}
    _, gradient = with_grad(x, labels, **options)
    step = 1e-6
    for at in np.ndindex(x.shape):
        moved = [x.copy(), x.copy()]
        moved[0][at] += step
        moved[1][at] -= step
        slope = (of(moved[0], labels, **options) - of(moved[1], labels, **options)) / (2 * step)
        assert gradient[at] == pytest.approx(slope, abs=1e-5)


# what docs/losses.md says of the family


@settings(deadline=None)
@given(x=ROWS, alpha=st.floats(1.05, 8) | st.sampled_from([1.5, 2.0]), label=st.integers(0, 11))
def test_margins(x, alpha, label):
    x, label = np.array(x), label % len(x)
    for of, margin in (
        (lambda x: sf.entmax_loss_and_grad(x, label, alpha), 1 / (alpha - 1)),
        (lambda x: sf.normmax_loss_and_grad(x, label, alpha), 1.0),
        (lambda x: sf.rankmax_loss_and_grad(x, label, margin=alpha), alpha),
        (lambda x: sf.perceptron_loss_and_grad(x, label), 0.0),
    ):
        x[label] = np.delete(x, label).max() + margin * (1 + 1e-9) + 1e-9
        value, gradient = of(x)
        assert value == 0 and (gradient == 0).all()
        x[label] -= 0.01 * margin + 0.01
        assert of(x)[0] > 0
    for of in (lambda: sf.cross_entropy(x, label), lambda: sf.entmax_loss(x, label, 0.8)):
        assert of() > 0  # no margin: never 0


@settings(deadline=None)
@given(x=ROWS, by=ROWS, alpha=st.floats(1, 2) | st.sampled_from([1.0, 1.5, 2.0]), label=st.integers(0, 11))
def test_smoothness_of_orders_from_1_to_2(x, by, alpha, label):
    n = min(len(x), len(by))
    x, y, label = np.array(x[:n]), np.array(x[:n]) + np.array(by[:n]) / 10, label % n
    (value, g), (other, h) = (sf.entmax_loss_and_grad(at, label, alpha) for at in (x, y))
    apart = np.linalg.norm(x - y)
    assert np.linalg.norm(g - h) <= apart + 1e-14  # the gradient is 1-Lipschitz
    assert abs(value - other) <= 2**0.5 * apart + 1e-14
    assert np.abs(g).sum() <= 2 + 1e-14


@settings(deadline=None)
@given(x=ROWS, by=ROWS, share=st.floats(0, 1), alpha=ORDERS, label=st.integers(0, 11))
def test_convexity(x, by, share, alpha, label):
    n = min(len(x), len(by))
    x, y, label = np.array(x[:n]), np.array(by[:n]), label % n
    for of in (
        lambda x: sf.entmax_loss(x, label, alpha),
        lambda x: sf.normmax_loss(x, label, alpha + 1),
        lambda x: sf.cross_entropy(x, label),
    ):
        assert of(share * x + (1 - share) * y) <= (share * of(x) + (1 - share) * of(y)) * (1 + 1e-11) + 1e-11


def test_rankmax_is_not_convex_and_may_tie():
    of = lambda lead: sf.rankmax_loss([lead, 0.0], 1)  # noqa: E731  log(2 + lead)
    assert of(1.0) > (of(0.5) + of(1.5)) / 2
    # Rankmax: of the shares .4, .35, .25 the best scores do not tell the second class from the third
    risk = lambda x: sum(w * sf.rankmax_loss(x, c) for c, w in enumerate((0.4, 0.35, 0.25)))  # noqa: E731
    assert risk([1.0, 0, 0]) < risk([2.0, 1, 0])


@settings(deadline=None)
@given(x=ROWS, alpha=st.floats(1, 2) | st.sampled_from([1.0, 1.5, 2.0]), seed=st.integers(0, 99))
def test_scores_in_a_wrong_order_cost_a_loss(x, alpha, seed):
    x, y = np.array(x), shares_of(len(x), seed)
    excess = sf.entmax_loss(x, y, alpha)
    for i in range(len(x)):
        for j in range(len(x)):
            if y[i] > y[j] and x[i] <= x[j]:
                assert excess >= 2**-alpha * (y[i] - y[j]) ** 2 * (1 - 1e-9)


# what torch means by its options


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("ignored", "shares"), [(None, False), (2, False), (None, True)])
def test_cross_entropy_is_torch_s(reduction, smoothing, weighted, ignored, shares, rng):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x, labels = rng.standard_normal((7, 5)), rng.integers(5, size=7)
    weight = rng.random(5) if weighted else None
    target = rng.dirichlet(np.ones(5), 7) * 1.5 if shares else labels  # torch takes any numbers
    scores = torch.from_numpy(x).requires_grad_()
    expected = torch.nn.functional.cross_entropy(
        scores,
        torch.from_numpy(target),
        weight=None if weight is None else torch.from_numpy(weight),
        ignore_index=-100 if ignored is None else ignored,
        label_smoothing=smoothing,
        reduction=reduction,
    )
    slopes = torch.autograd.grad(expected.sum(), scores)[0].numpy()
    value, gradient = sf.cross_entropy_and_grad(
        x, target, weight=weight, ignore_index=ignored, label_smoothing=smoothing, reduction=reduction
    )
    np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-13)
    np.testing.assert_allclose(gradient, slopes, rtol=0, atol=1e-15)


@of_shares_with_grad
@pytest.mark.parametrize("weighted", [False, True])
def test_smoothed_labels_are_shares(with_grad, weighted, rng):
    x, labels = rng.standard_normal((4, 5)), np.array([0, 4, 2, 2])
    weight = rng.random(5) if weighted else None
    y = 0.8 * np.eye(5)[labels] + 0.04
    options = {"weight": weight, "reduction": "none"}
    value, gradient = with_grad(x, labels, label_smoothing=0.2, **options)
    expected, slopes = with_grad(x, y, **options)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, slopes, rtol=0, atol=1e-15)


@of_shares_with_grad
def test_shares_of_one_class_are_its_label(with_grad, rng):
    x = (3 * rng.standard_normal((6, 9))).astype(np.float32)
    labels = rng.integers(9, size=6)
    for one, other in zip(
        with_grad(x, labels, reduction="none"),
        with_grad(x, np.eye(9, dtype=np.float32)[labels], reduction="none"),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-30)


@of_shares
def test_shares_of_another_dtype(of, with_grad, rng):
    x, y = rng.standard_normal((4, 5)), rng.dirichlet(np.ones(5), 4)
    for dtype in ("float16", "float32"):
        small = x.astype(dtype)
        np.testing.assert_allclose(of(small, y), of(small.astype(float), y), rtol=4 * eps_of(dtype))
        assert with_grad(small, y)[1].dtype == dtype


def test_weights_of_entmax_losses(rng):
    x, y, w = rng.standard_normal(6), rng.dirichlet(np.ones(6)), rng.random(6)
    total = (w * y).sum()
    value, gradient = sf.entmax_loss_and_grad(x, y, weight=w)
    assert value == pytest.approx(total * sf.entmax_loss(x, w * y / total), rel=1e-13)
    np.testing.assert_allclose(gradient, total * sf.entmax(x) - w * y, rtol=0, atol=1e-15)


# the contract at the edges


@losses
@dtypes
def test_rows_at_the_edges(of, with_grad, dtype):
    x = np.array(
        [[NAN, 1, 2], [1, INF, 2], [INF, 1, 2], [-INF] * 3, [-INF, 1, 2], [3, -INF, -INF], [9, 0, 0], [1, 2, 3]],
        dtype=dtype_of(dtype),
    )
    value, gradient = with_grad(x, np.zeros(8, int), reduction="none")
    value, gradient = value.astype(float), gradient.astype(float)
    assert np.isnan(value[:4]).all() and np.isnan(gradient[:4]).all()
    assert value[4] == INF and np.isfinite(gradient[4]).all()  # the label is absent
    assert value[5] == 0 and (gradient[5] == 0).all()  # the only class
    assert np.isfinite(value[6:]).all() and np.isfinite(gradient[6:]).all()
    np.testing.assert_array_equal(of(x[7], 0, reduction="none").astype(float), value[7])
    ignored, gradient = with_grad(x, np.full(8, 77), ignore_index=77, reduction="sum")
    assert ignored == 0 and (gradient.astype(float) == 0).all()
    assert np.isnan(float(of(x, np.full(8, 77), ignore_index=77)))  # as torch's mean of nothing


@losses
def test_masks(of, with_grad, rng):
    x = rng.standard_normal((4, 6))
    where = rng.random((4, 6)) > 0.3
    where[:, 0] = True
    where[2] = False
    labels = np.zeros(4, int)
    rubbish = np.where(where, x, np.resize([NAN, INF, 7.0], (4, 6)))
    value, gradient = with_grad(rubbish, labels, where=where, reduction="none")
    assert np.isnan(value[2]) and np.isnan(gradient[2]).all()  # nothing to choose from
    for row in (0, 1, 3):
        expected, slopes = with_grad(x[row][where[row]], 0)
        assert value[row] == pytest.approx(expected, rel=1e-14)
        np.testing.assert_allclose(gradient[row][where[row]], slopes, rtol=0, atol=1e-15)
        assert (gradient[row][~where[row]] == 0).all()
    masked_label = of(x, labels, where=np.arange(6) > 0, reduction="none")
    assert (masked_label == INF).all()


@losses
def test_empty_and_small_arrays(of, with_grad):
    value, gradient = with_grad(np.empty((0, 3)), np.empty(0, int), reduction="none")
    assert value.shape == (0,) and gradient.shape == (0, 3)
    assert np.isnan(of(np.empty((0, 3)), np.empty(0, int)))
    assert of(np.empty((0, 3)), np.empty(0, int), reduction="sum") == 0
    with pytest.raises(ValueError, match="target of row 0 is 0, but there are no classes"):
        of(np.empty((2, 0)), np.zeros(2, int))
    assert of(5.0, 0) == 0 and of(np.array(5.0), np.array(0)).shape == ()
    assert of([[1, 2], [3, 4]], [0, 1], reduction="none").dtype == np.float64


@with_grads
def test_weights_of_zero_leave_rows_out(with_grad):
    x = np.array([[NAN, 1.0], [2.0, 1.0]])
    value, gradient = with_grad(x, [0, 1], weight=[0.0, 2.0])
    expected, slopes = with_grad(x[1:], [1])
    assert value == pytest.approx(expected) and (gradient[0] == 0).all()
    np.testing.assert_allclose(gradient[1:], slopes)


x = np.arange(12.0).reshape(3, 4)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: sf.cross_entropy(x, [0, 4, 1]), ValueError, ["target of row 1 is 4", "[0, 3]", "ignore_index"]),
        (lambda: sf.entmax_loss(x, [0, -100, 1]), ValueError, ["target of row 1 is -100"]),
        (lambda: sf.entmax_loss(x, [0, -100, 5], ignore_index=-100), ValueError, ["target of row 2 is 5"]),
        (lambda: sf.cross_entropy(x, [0, 1]), ValueError, ["target", "(2,)", "(3,)"]),
        (lambda: sf.cross_entropy(x, np.zeros((3, 4), int)), ValueError, ["target of class ids", "(3, 4)", "(3,)"]),
        (lambda: sf.cross_entropy(x, x[:2]), ValueError, ["target of shares", "(2, 4)", "(3, 4)"]),
        (lambda: sf.cross_entropy(x, x > 3), TypeError, ["target has dtype bool"]),
        (lambda: sf.cross_entropy(x, x.astype(complex)), TypeError, ["target", "complex128"]),
        (lambda: sf.cross_entropy(x, [0, 1, 2], weight=[1.0, 1.0]), ValueError, ["weight", "(2,)", "(4,)"]),
        (lambda: sf.cross_entropy(x, [0, 1, 2], weight=[1, 1, -1, 1]), ValueError, ["weight of class 2 is -1"]),
        (lambda: sf.cross_entropy(x, [0, 1, 2], label_smoothing=1.5), ValueError, ["label_smoothing is 1.5", "[0, 1]"]),
        (lambda: sf.cross_entropy(x, [0, 1, 2], reduction="avg"), ValueError, ["reduction is 'avg'", "'mean'"]),
        (lambda: sf.cross_entropy(x, [0, 1, 2], temperature=0.0), ValueError, ["temperature is 0"]),
        (lambda: sf.entmax_loss(x, [0, 1, 2], -1.0), ValueError, ["alpha is -1", "> 0"]),
        (lambda: sf.normmax_loss(x, [0, 1, 2], 1.0), ValueError, ["alpha is 1", "> 1"]),
        (lambda: sf.rankmax_loss(x, [0, 1, 2], margin=0.0), ValueError, ["margin is 0"]),
        (lambda: sf.rankmax_loss(x, x), ValueError, ["distribution", "class for each row", "entmax_loss"]),
        (lambda: sf.entmax_loss(x, [0, 1, 2], axis=2), ValueError, ["axis is 2"]),
    ],
)
def test_messages(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert all(word in str(caught.value) for word in words), str(caught.value)
