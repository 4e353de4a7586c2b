"""Every public function on arrays of every library: the contract of NumPy's functions, with their values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import softmaxfam_rs as sf
from backends import BACKENDS, HALVES, LINEAR, SAMPLED, call_with_defaults, is_served, on_each_backend, parameter
from reference import dtype_of, eps_of
from softmaxfam_rs._capabilities import CAPABILITIES, FUNCTIONS

INF, NAN = np.inf, np.nan
GENERIC_SLACK = 32  # of the rounding unit times max(1, |result|): what docs/backends.md promises of the generic path

SCORES = np.random.default_rng(7).standard_normal((6, 7)) * 2
EDGES = SCORES.copy()
EDGES[1, 3] = NAN
EDGES[2, 6] = INF
EDGES[3] = -INF
EDGES[4, :4] = -INF
EDGES[5] = 0.5  # ties
MASK = np.random.default_rng(8).random((6, 7)) > 0.3
MASK[0] = False
MASK[1, 3] = False  # NaN under a mask
TEMPERATURES = np.array([[0.5], [1], [2], [1], [3], [1]])
ALPHAS = np.array([[1.0], [1.3], [1.5], [2.0], [0.5], [3.0]])
G = np.random.default_rng(9).standard_normal((6, 7))
P = np.array(sf.entmax(SCORES, 1.3))
P[5] = 0  # a row that is masked as a whole
WEIGHTS = np.random.default_rng(10).standard_normal((6, 7))
WEIGHTS[:, 2] = 0


def maps(function, *parameters):
    """Cases of a map of scores: edges, masks, axes, temperatures, one class, none."""
    return {
        "edges": lambda a: function(a(EDGES), *parameters),
        "where": lambda a: function(a(EDGES), *parameters, where=a(MASK)),
        "where of a row": lambda a: function(a(SCORES), *parameters, where=a(MASK[1])),
        "where, axis 0": lambda a: function(a(EDGES), *parameters, axis=0, where=a(MASK)),
        "temperature": lambda a: function(a(EDGES), *parameters, temperature=0.3),
        "temperatures": lambda a: function(a(EDGES), *parameters, temperature=a(TEMPERATURES)),
        "a list of temperatures": lambda a: function(a(SCORES), *parameters, temperature=TEMPERATURES.tolist()),
        "three axes": lambda a: function(a(EDGES.reshape(2, 3, 7)), *parameters, axis=1),
        "0-d": lambda a: function(a(SCORES[0, 0]), *parameters),
        "no rows": lambda a: function(a(np.empty((0, 3))), *parameters),
    }


def several_axes(function):
    """Cases of functions whose class axes may be several."""
    return {
        "axis None": lambda a: function(a(SCORES), axis=None, where=a(MASK)),
        "axes": lambda a: function(a(EDGES.reshape(2, 3, 7)), axis=(2, 0)),
        "no axis": lambda a: function(a(EDGES), axis=()),
        "no classes": lambda a: function(a(np.empty((2, 0)))),
    }


def each(function, alphas):
    """Cases of a map for each of some orders, as numbers."""
    return {f"alpha {alpha}": lambda a, alpha=alpha: function(a(EDGES), alpha, where=a(MASK)) for alpha in alphas}


LABELS = np.array([0, 6, 2, 3, 5, 1])
SHARES = np.random.default_rng(11).dirichlet(np.full(7, 0.5), 6)
SHARES[0] = LABELS[0] == np.arange(7)
SHARES[4, :4] = 0  # absent classes
SHARES[4] /= SHARES[4].sum()
CLASS_WEIGHTS = np.array([1.0, 0.5, 0.0, 2.0, 1.0, 3.0, 0.25])


def losses(function, *parameters, shares=True):
    """Cases of a loss: edges, masks, axes, temperatures, weights, reductions; of distributions too."""
    of_labels = {
        "labels": lambda a: function(a(EDGES), a(LABELS), *parameters, reduction="none"),
        "where": lambda a: function(a(EDGES), a(LABELS), *parameters, where=a(MASK), reduction="none"),
        "weight, ignored": lambda a: function(
            a(SCORES), a(LABELS), *parameters, weight=a(CLASS_WEIGHTS), ignore_index=5
        ),
        "a list of weights": lambda a: function(
            a(SCORES), a(LABELS), *parameters, weight=CLASS_WEIGHTS.tolist(), reduction="sum"
        ),
        "temperatures": lambda a: function(
            a(EDGES), a(LABELS), *parameters, temperature=a(TEMPERATURES), reduction="none"
        ),
        "three axes": lambda a: function(
            a(EDGES.reshape(2, 3, 7)), a(LABELS[:2, None].repeat(7, 1) % 3), *parameters, axis=1, reduction="none"
        ),
        "axis 0": lambda a: function(a(SCORES), a(LABELS.repeat(2)[:7] % 6), *parameters, axis=0),
        "0-d": lambda a: function(a(SCORES[0, 0]), a(np.array(0)), *parameters),
        "no rows": lambda a: function(a(np.empty((0, 3))), a(np.empty(0, int)), *parameters, reduction="none"),
    }
    of_shares = {
        "shares": lambda a: function(a(EDGES), a(SHARES), *parameters, reduction="none"),
        "shares, weight": lambda a: function(a(SCORES), a(SHARES), *parameters, weight=a(CLASS_WEIGHTS)),
        "smoothing": lambda a: function(
            a(SCORES), a(LABELS), *parameters, label_smoothing=0.2, where=a(MASK), reduction="none"
        ),
        "smoothing, weight": lambda a: function(
            a(SCORES), a(LABELS), *parameters, label_smoothing=0.2, weight=a(CLASS_WEIGHTS), ignore_index=1
        ),
    }
    return of_labels | of_shares if shares else of_labels


def orders(function, alphas):
    """Cases of a loss for each of some orders, as numbers."""
    return {
        f"alpha {alpha}": lambda a, alpha=alpha: function(a(EDGES), a(SHARES), alpha, where=a(MASK), reduction="none")
        for alpha in alphas
    }


def both(name, cases):
    """Cases of a loss and of its gradient."""
    return {full: cases(getattr(sf, full)) for full in (name, f"{name}_and_grad")}


PRESENT = MASK.sum(axis=1, keepdims=True)
CASES = {
    "logsumexp": {
        **maps(sf.logsumexp),
        **several_axes(sf.logsumexp),
        "keepdims": lambda a: sf.logsumexp(a(EDGES), axis=0, keepdims=True),
        "weights": lambda a: sf.logsumexp(a(EDGES), weights=a(WEIGHTS)),
        "weights and sign": lambda a: sf.logsumexp(a(EDGES), weights=a(WEIGHTS), where=a(MASK), return_sign=True),
        "infinities of both signs": lambda a: sf.logsumexp(
            a(np.array([[INF, INF], [INF, 0]])), weights=a(np.array([[1.0, -1], [-1, 1]])), return_sign=True
        ),
        "sign": lambda a: sf.logsumexp(a(SCORES), return_sign=True, temperature=a(TEMPERATURES)),
    },
    "softmax": {**maps(sf.softmax), **several_axes(sf.softmax)},
    "log_softmax": {**maps(sf.log_softmax), **several_axes(sf.log_softmax)},
    "top_log_probs": {
        **maps(lambda x, **options: sf.top_log_probs(x, 1, **options)),
        "several": lambda a: sf.top_log_probs(a(EDGES), 5, where=a(MASK)),
        "all": lambda a: sf.top_log_probs(a(EDGES), 6, axis=0),
    },
    "sparsemax": {**maps(sf.sparsemax)},
    "entmax": {
        **maps(sf.entmax),
        **each(sf.entmax, [0.5, 1.0, 1.0 + 1e-4, 1.3, 2.0, 2.5, 8.0, INF]),
        "alphas": lambda a: sf.entmax(a(EDGES), a(ALPHAS)),
        "alphas up to 2": lambda a: sf.entmax(a(SCORES), a(ALPHAS[:5, :1].min() + ALPHAS * 0)),
        "alphas with inf": lambda a: sf.entmax(a(SCORES), a(np.where(ALPHAS == 2, INF, ALPHAS)), where=a(MASK)),
    },
    "normmax": {
        **maps(sf.normmax),
        **each(sf.normmax, [1.2, 5.0, INF]),
        "alphas": lambda a: sf.normmax(a(SCORES), a(ALPHAS + 1)),
    },
    "budget_sparsemax": {
        **maps(sf.budget_sparsemax, 1.0),
        "none": lambda a: sf.budget_sparsemax(a(EDGES), 0),
        "some": lambda a: sf.budget_sparsemax(a(EDGES), 2.5),
        "all": lambda a: sf.budget_sparsemax(a(SCORES), 7),
        "budgets": lambda a: sf.budget_sparsemax(a(SCORES), a(PRESENT / 2), where=a(MASK)),
    },
    "entmax_threshold": {
        **maps(sf.entmax_threshold),
        **each(sf.entmax_threshold, [0.5, 1.0, 1.3, 2.0, 3.0, INF]),
        "alphas": lambda a: sf.entmax_threshold(a(EDGES), a(ALPHAS)),
    },
    "entmax_sparse": {
        **maps(sf.entmax_sparse),
        **each(sf.entmax_sparse, [1.0, 2.0, 3.0]),
        "alphas": lambda a: sf.entmax_sparse(a(EDGES), a(ALPHAS)),
    },
    "tsallis_entropy": {
        f"alpha {alpha}": lambda a, alpha=alpha: sf.tsallis_entropy(a(P), alpha) for alpha in (0.5, 1.0, 1.3, 2.0, INF)
    }
    | {"alphas, axis 0": lambda a: sf.tsallis_entropy(a(P.T), a(ALPHAS.T), axis=0)},
    "softmax_vjp": {
        "rows": lambda a: sf.softmax_vjp(a(P), a(G)),
        "axis None": lambda a: sf.softmax_vjp(a(P), a(G), axis=None),
        "axis 0, g of a row": lambda a: sf.softmax_vjp(a(P), a(G[0]), axis=0),
    },
    "log_softmax_vjp": {
        "rows": lambda a: sf.log_softmax_vjp(a(np.log(P + 1e-3)), a(G)),
        "axes": lambda a: sf.log_softmax_vjp(a(np.log(P + 1e-3).reshape(2, 3, 7)), a(G.reshape(2, 3, 7)), axis=(0, 2)),
    },
    "logsumexp_vjp": {
        "rows": lambda a: sf.logsumexp_vjp(a(SCORES), a(sf.logsumexp(SCORES)), a(G[:, 0])),
        "with the axis": lambda a: sf.logsumexp_vjp(a(SCORES), a(sf.logsumexp(SCORES, keepdims=True)), a(G[:, :1])),
        "without classes": lambda a: sf.logsumexp_vjp(a(SCORES), a(np.full(6, -INF)), a(G[:, 0])),
    },
    "entmax_vjp": {
        f"alpha {alpha}": lambda a, alpha=alpha: sf.entmax_vjp(a(P), a(G), alpha)
        for alpha in (0.5, 1.0, 1.5, 2.0, 2.5, INF)
    }
    | {"alphas, axis 0": lambda a: sf.entmax_vjp(a(P.T), a(G.T), a(ALPHAS.T), axis=0)},
    "entmax_alpha_grad": {
        f"alpha {alpha}": lambda a, alpha=alpha: sf.entmax_alpha_grad(a(P), a(G), alpha)
        for alpha in (0.5, 1.0, 1.3, 2.0, 2.5, 3.0, 8.0, INF)
    }
    | {"alphas, axis 0": lambda a: sf.entmax_alpha_grad(a(P.T), a(G.T), a(ALPHAS.T), axis=0)},
}


CASES |= both(
    "entmax_loss",
    lambda of: {
        **losses(of),
        **orders(of, [0.5, 1.0, 1.0 + 1e-4, 1.3, 2.0, 2.5, 8.0, INF]),
        "alphas": lambda a: of(a(EDGES), a(LABELS), a(ALPHAS), reduction="none"),
        "alphas, shares": lambda a: of(a(SCORES), a(SHARES), a(ALPHAS), temperature=0.5),
    },
)
CASES |= both("sparsemax_loss", losses)
CASES |= both("cross_entropy", losses)
CASES |= both("perceptron_loss", losses)
CASES |= both(
    "normmax_loss",
    lambda of: {
        **losses(of),
        **orders(of, [1.2, 5.0, INF]),
        "alphas": lambda a: of(a(SCORES), a(SHARES), a(ALPHAS + 1), reduction="none"),
    },
)
CASES |= both(
    "rankmax_loss",
    lambda of: {**losses(of, shares=False), "margin": lambda a: of(a(SCORES), a(LABELS), margin=0.3, reduction="none")},
)
QUERIES = np.random.default_rng(12).standard_normal((6, 7)) / 2


def of_heads(of, *, smoothing=True, **options):
    """Cases of a loss fused with a head: the rows of SCORES are classes."""
    cases = {
        "labels": lambda a: of(a(QUERIES), a(SCORES), a(LABELS % 6), bias=a(QUERIES[:, 0]), **options),
        "each": lambda a: of(
            a(QUERIES), a(SCORES), a(LABELS % 6), bias=a(QUERIES[:, 0]), reduction="none", temperature=0.7, **options
        ),
        "weight, ignored": lambda a: of(
            a(QUERIES),
            a(SCORES),
            a(LABELS % 6),
            bias=a(SCORES[:, 1]),
            weight=a(CLASS_WEIGHTS[1:]),
            ignore_index=5,
            **options,
        ),
        "three axes": lambda a: of(
            a(QUERIES.reshape(2, 3, 7)), a(SCORES), a(LABELS.reshape(2, 3) % 6), bias=a(SCORES[:, 1]), **options
        ),
    }
    if smoothing:
        cases["smoothing"] = lambda a: of(
            a(QUERIES), a(SCORES), a(LABELS % 6), bias=a(QUERIES[:, 0]), label_smoothing=0.2, **options
        )
    return cases


for name in LINEAR:
    dense = {} if "cross" in name or not name.endswith("_and_grad") else {"sparse_grad": False}
    CASES[name] = of_heads(getattr(sf, name), smoothing="rankmax" not in name, **dense)


HITS = np.random.default_rng(13).random((6, 7)) < 0.2
LOGQ = np.log(np.random.default_rng(14).dirichlet(np.ones(9), 6))[:, :8]


def from_samples(of, *, takes_logq=True):
    """Cases of a loss from sampled negatives: the first column is the positive's."""

    def call(a, positive, negative, **options):
        logs = (
            (a(LOGQ[:, 0]), a(LOGQ[: len(negative), 1:] if negative.ndim == 2 else LOGQ[0, 1:])) if takes_logq else ()
        )
        return of(a(positive), a(negative), *logs, **options)

    return {
        "of each row": lambda a: call(a, SCORES[:, 0], EDGES, reduction="none"),
        "shared": lambda a: call(a, SCORES[:, 0], SCORES[1], temperature=0.5),
        "hits": lambda a: call(a, SCORES[:, 0], SCORES, hits=a(HITS), reduction="sum"),
        "hits of shared": lambda a: call(a, SCORES[:, 0], SCORES[1], hits=a(HITS), reduction="sum"),
    }


for name in SAMPLED:
    CASES[name] = from_samples(getattr(sf, name), takes_logq=not name.startswith("negative"))


def test_every_function_has_cases():
    assert set(CASES) == set(FUNCTIONS)


def of_dtype(dtype):
    """Bring arrays of float64 to a dtype, masks and class ids as they are."""
    return lambda values: values.astype(dtype_of(dtype)) if values.dtype == float else values


def assert_near(got, expected, slack):
    """Compare results part by part: shapes and dtypes too, NaN and infinities exactly."""
    if isinstance(expected, tuple):
        assert len(got) == len(expected)
        for part, of_expected in zip(got, expected, strict=True):
            assert_near(part, of_expected, slack)
        return
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    if expected.dtype.kind == "i":
        np.testing.assert_array_equal(got, expected)
        return
    assert got.dtype == expected.dtype
    unit = eps_of(expected.dtype.name)
    got, expected = got.astype(float), expected.astype(float)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(got[~finite], expected[~finite])
    error = np.abs(got[finite] - expected[finite]) / np.maximum(1, np.abs(expected[finite]))
    assert error.max(initial=0) <= slack * unit


@pytest.mark.parametrize(
    ("backend", "function", "dtype"),
    [
        parameter(backend, function, dtype)
        for backend in BACKENDS[1:]
        for function in FUNCTIONS
        for dtype in backend.dtypes
    ],
)
def test_values(backend, function, dtype):
    if not is_served(function, backend):
        with pytest.raises(TypeError, match=f"{function} does not take arrays of {backend.library}: .*; take "):
            next(iter(CASES[function].values()))(backend.array)
        return
    cast = of_dtype(dtype)
    for name, case in CASES[function].items():
        expected = case(cast)
        got = case(lambda values: backend.array(cast(values)))
        parts = got if isinstance(got, tuple) else (got,)
        assert all(backend.is_own(part) for part in parts if not isinstance(part, tuple)), name
        slack = 2 if dtype in HALVES else GENERIC_SLACK
        try:
            assert_near(backend.numpy(got), expected, slack)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradients_of_torch_are_as_the_table_says(function):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    result = call_with_defaults(function, torch.from_numpy(P[:5]).requires_grad_())
    parts = [part for part in (result if isinstance(result, tuple) else (result,)) if isinstance(part, torch.Tensor)]
    floats = [part for part in parts if part.is_floating_point()]
    assert all(part.requires_grad == CAPABILITIES[function]["torch"].gradient for part in floats) and floats


@on_each_backend
def test_integers_and_bools_become_the_default_dtype(backend):
    default = "float32" if backend.library in {"jax", "torch"} else "float64"
    for dtype in ("int32", "int64", "uint8", "bool"):
        p = sf.softmax(backend.array(np.array([[1, 0, 1], [0, 1, 0]], dtype=dtype)))
        assert backend.is_own(p) and str(p.dtype).endswith(default)
        expected = sf.softmax(np.array([[1, 0, 1], [0, 1, 0]], dtype=float))
        np.testing.assert_allclose(backend.numpy(p), expected, rtol=1e-6)


@on_each_backend
def test_the_default_options_are_those_of_numpy(backend):
    x = SCORES.astype(np.float32)
    for call in (sf.entmax, sf.normmax, sf.entmax_threshold, sf.sparsemax):
        assert_near(backend.numpy(call(backend.array(x))), call(x), GENERIC_SLACK)


@pytest.mark.parametrize(
    "backend", [parameter(backend) for backend in BACKENDS if str(backend) not in {"numpy", "torch", "dask"}]
)
@pytest.mark.parametrize("spread", [0.0, 1e-3, 1.0, 50.0])  # all classes within reach of the maximum, ..., few
def test_orders_above_2_over_many_classes(backend, spread, rng):
    x = (rng.standard_normal((2, 300)) * spread).astype(np.float32)
    for alpha in (2.5, 6.0):
        for of_alpha in (alpha, backend.array(np.full((2, 1), alpha, np.float32))):
            assert_near(backend.numpy(sf.entmax(backend.array(x), of_alpha)), sf.entmax(x, alpha), GENERIC_SLACK)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")  # torch's, on the first one
@on_each_backend
def test_sparse_rows_become_dense_or_of_another_library(backend):
    if not is_served("entmax_sparse", backend):
        pytest.skip(f"entmax_sparse does not take arrays of {backend.library}")
    for x in (SCORES.astype(np.float32), np.zeros((2, 0), np.float32), np.zeros((0, 2), np.float32)):
        rows, expected = sf.entmax_sparse(backend.array(x)), sf.entmax(x)
        dense = rows.to_dense()
        assert backend.is_own(dense)
        assert_near(backend.numpy(dense), expected, GENERIC_SLACK)
        if x.size:
            np.testing.assert_array_equal(rows.to_scipy().toarray(), backend.numpy(dense))
            torch = pytest.importorskip("torch", reason="torch is not installed")
            as_tensor = rows.to_torch()
            assert as_tensor.layout is torch.sparse_csr
            np.testing.assert_array_equal(as_tensor.to_dense().numpy(force=True), backend.numpy(dense))


@settings(deadline=None)  # the first call imports
@given(
    scores=st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=12),
    alpha=st.floats(0.2, 12) | st.sampled_from([1.0, 1.5, 2.0, INF]),
    is_array=st.booleans(),
)
def test_the_generic_path_agrees_with_the_core(scores, alpha, is_array):
    xp = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    x = np.asarray(scores)
    p = np.asarray(sf.entmax(xp.asarray(x), xp.asarray([alpha]) if is_array else alpha))
    np.testing.assert_allclose(p, sf.entmax(x, alpha), rtol=0, atol=GENERIC_SLACK * eps_of("float64"))
    assert p.sum() == pytest.approx(1, abs=64 * eps_of("float64"))


@settings(deadline=None)  # the first call imports
@given(
    scores=st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=12),
    share=st.floats(0, 1),
)
def test_the_generic_budget_is_spent(scores, share):
    xp = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    budget = share * len(scores)
    p = np.asarray(sf.budget_sparsemax(xp.asarray(np.asarray(scores)), budget))
    assert p.min() >= 0 and p.max() <= 1
    assert p.sum() == pytest.approx(budget, abs=1e-13)
    free = (p > 0) & (p < 1)
    taus = (np.asarray(scores) - p)[free]  # the same for all that are between 0 and 1
    np.testing.assert_allclose(taus, taus[:1].repeat(len(taus)), rtol=0, atol=1e-13 * 30)
