"""JAX: compiled, vectorised and differentiated, to second order."""

import numpy as np
import pytest

import softmaxfam_rs as sf
from softmaxfam_rs._capabilities import CAPABILITIES

jax = pytest.importorskip("jax", reason="jax is not installed")
jnp = jax.numpy
SCORES = np.random.default_rng(3).standard_normal((3, 6))
G = np.random.default_rng(4).standard_normal((3, 6))
MASK = np.random.default_rng(5).random((3, 6)) > 0.3
LABELS = np.array([0, 4, 2])
SHARES = np.random.default_rng(6).dirichlet(np.ones(6), 3)
ALPHAS = np.array([[1.3], [1.7], [0.7]])
STEEP = np.array([[2.5], [1.0], [3.0]])
TEMPERATURES = np.array([[0.5], [1.0], [2.0]])


@pytest.fixture(autouse=True)
def x64():
    """Derivatives are compared with differences, which need float64."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


# what is differentiated, as functions of one array: of scores, or of parameters at these scores
OF_SCORES = {
    "logsumexp": lambda x: sf.logsumexp(x, where=jnp.asarray(MASK)),
    "logsumexp, weights": lambda x: sf.logsumexp(x, weights=jnp.asarray(G), return_sign=True)[0],
    "softmax": lambda x: sf.softmax(x, where=jnp.asarray(MASK), axis=0),
    "log_softmax": lambda x: sf.log_softmax(x, axis=None),
    "top_log_probs": lambda x: sf.top_log_probs(x, 3).log_probs,
    "sparsemax": lambda x: sf.sparsemax(x, axis=0),
    "entmax": lambda x: sf.entmax(x, where=jnp.asarray(MASK)),
    "entmax, 1.2": lambda x: sf.entmax(x, 1.2, temperature=jnp.asarray(TEMPERATURES)),
    "entmax, 2.5": lambda x: sf.entmax(x, 2.5),
    "entmax, alphas": lambda x: sf.entmax(x, jnp.asarray(ALPHAS)),
    "entmax, steep alphas": lambda x: sf.entmax(x, jnp.asarray(STEEP)),
    "normmax": lambda x: sf.normmax(x, 3.0),
    "budget_sparsemax": lambda x: sf.budget_sparsemax(x, 1.5),
    "entmax_threshold": lambda x: sf.entmax_threshold(x).normalizer,
    "entmax_threshold, log_p_max": lambda x: sf.entmax_threshold(x, 1.3).log_p_max,
    "tsallis_entropy": lambda x: sf.tsallis_entropy(sf.entmax(x, 1.2), 1.5),
    "softmax_vjp": lambda x: sf.softmax_vjp(sf.softmax(x), jnp.asarray(G)),
    "log_softmax_vjp": lambda x: sf.log_softmax_vjp(sf.log_softmax(x), jnp.asarray(G)),
    "logsumexp_vjp": lambda x: sf.logsumexp_vjp(x, sf.logsumexp(x), jnp.asarray(G[:, 0])),
    "entmax_vjp": lambda x: sf.entmax_vjp(sf.entmax(x), jnp.asarray(G), 1.5),
    "entmax_alpha_grad": lambda x: sf.entmax_alpha_grad(sf.entmax(x, 1.3), jnp.asarray(G), 1.3),
    "entmax_loss": lambda x: sf.entmax_loss(x, jnp.asarray(LABELS)),
    "entmax_loss, shares": lambda x: sf.entmax_loss(x, jnp.asarray(SHARES), 1.3, temperature=jnp.asarray(TEMPERATURES)),
    "entmax_loss, alphas": lambda x: sf.entmax_loss(x, jnp.asarray(SHARES), jnp.asarray(ALPHAS), reduction="none"),
    "entmax_loss, order 1": lambda x: sf.entmax_loss(x, jnp.asarray(SHARES), 1.0),
    "sparsemax_loss": lambda x: sf.sparsemax_loss(x, jnp.asarray(LABELS), axis=-1, weight=jnp.asarray(SHARES[0])),
    "cross_entropy": lambda x: sf.cross_entropy(x, jnp.asarray(SHARES), weight=jnp.asarray(SHARES[0])),
    "cross_entropy, labels": lambda x: sf.cross_entropy(x, jnp.asarray(LABELS), label_smoothing=0.1, ignore_index=4),
    "perceptron_loss": lambda x: sf.perceptron_loss(x, jnp.asarray(LABELS)),
    "normmax_loss": lambda x: sf.normmax_loss(x, jnp.asarray(SHARES), 3.0, label_smoothing=0.1),
    "linear_cross_entropy": lambda x: sf.linear_cross_entropy(jnp.asarray(G), x, jnp.asarray(LABELS % 3)),
    "linear_cross_entropy, h": lambda x: sf.linear_cross_entropy(x, jnp.asarray(G), jnp.asarray(LABELS % 3)),
    "linear_entmax_loss": lambda x: sf.linear_entmax_loss(jnp.asarray(G), x, jnp.asarray(LABELS % 3)),
    "linear_rankmax_loss": lambda x: sf.linear_rankmax_loss(jnp.asarray(G), x, jnp.asarray(LABELS % 3)),
    "sampled_softmax_loss": lambda x: sf.sampled_softmax_loss(x[:, 0], x, jnp.asarray(G[:, 0]), jnp.asarray(G)),
    "sampled_softmax_loss, none": lambda x: sf.sampled_softmax_loss(x[:, 0], x[0], correction="none"),
    "nce_loss": lambda x: sf.nce_loss(x[:, 0], x, jnp.asarray(G[:, 0]), jnp.asarray(G), hits=jnp.asarray(MASK)),
    "negative_sampling_loss": lambda x: sf.negative_sampling_loss(x[:, 0], x[0], temperature=0.7),
    "rankmax_loss": lambda x: sf.rankmax_loss(x, jnp.asarray(LABELS), margin=1.5),
}
OF_PARAMETERS = {
    "entmax, alpha": lambda alpha: sf.entmax(jnp.asarray(SCORES), alpha),
    "entmax, temperature": lambda t: sf.entmax(jnp.asarray(SCORES), temperature=t, where=jnp.asarray(MASK)),
    "softmax, temperature": lambda t: sf.softmax(jnp.asarray(SCORES), temperature=t, where=jnp.asarray(MASK)),
    "normmax, alpha": lambda alpha: sf.normmax(jnp.asarray(SCORES), alpha + 1),
    "entmax_loss, alpha": lambda alpha: sf.entmax_loss(jnp.asarray(SCORES), jnp.asarray(SHARES), alpha),
    "entmax_loss, temperature": lambda t: sf.entmax_loss(jnp.asarray(SCORES), jnp.asarray(LABELS), temperature=t),
    "normmax_loss, alpha": lambda alpha: sf.normmax_loss(jnp.asarray(SCORES), jnp.asarray(LABELS), alpha + 1),
    "cross_entropy, temperature": lambda t: sf.cross_entropy(jnp.asarray(SCORES), jnp.asarray(LABELS), temperature=t),
    "entmax_loss, target": lambda w: sf.entmax_loss(jnp.asarray(SCORES), w * jnp.asarray(SHARES), 1.4),
    "cross_entropy, target": lambda w: sf.cross_entropy(jnp.asarray(SCORES), w * jnp.asarray(SHARES)),
    "normmax_loss, target": lambda w: sf.normmax_loss(jnp.asarray(SCORES), w**2 * jnp.asarray(SHARES) + 0.1),
    "budget_sparsemax, budget": lambda budget: sf.budget_sparsemax(jnp.asarray(SCORES), budget),
}


def test_what_the_table_calls_differentiable_is_tested():
    promised = {function for function, row in CAPABILITIES.items() if row["jax"].gradient}
    assert promised == {name.partition(",")[0] for name in OF_SCORES}


@pytest.mark.parametrize("name", OF_SCORES)
def test_derivatives_by_scores(name):
    check(OF_SCORES[name], SCORES, "rev")


@pytest.mark.parametrize("name", OF_PARAMETERS)
def test_derivatives_by_parameters(name):
    check(OF_PARAMETERS[name], ALPHAS, "rev")


@pytest.mark.parametrize("name", ["logsumexp", "entmax", "entmax, alphas", "budget_sparsemax"])
def test_forward_derivatives(name):
    check(OF_SCORES[name], SCORES, "fwd")


def check(function, at, mode):
    from jax.test_util import check_grads

    def of_array(values):  # the checker gives arrays of NumPy
        return function(jnp.asarray(values))

    check_grads(of_array, (jnp.asarray(at),), order=2, modes=[mode], atol=1e-4, rtol=1e-4, eps=1e-6)


@pytest.mark.parametrize("name", OF_SCORES)
def test_compiled_and_vectorised(name):
    function, x = OF_SCORES[name], jnp.asarray(SCORES)
    expected = function(x)
    np.testing.assert_allclose(jax.jit(function)(x), expected, rtol=1e-12, atol=1e-14)
    both = jax.vmap(function)(jnp.stack([x, x[::-1]]))
    np.testing.assert_allclose(both[0], expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(both[1], function(x[::-1]), rtol=1e-12, atol=1e-14)


def test_parameters_for_each_vector():
    each = jax.vmap(sf.entmax)(jnp.asarray(SCORES), jnp.asarray(STEEP[:, 0]))
    np.testing.assert_allclose(each, sf.entmax(SCORES, STEEP), atol=1e-14)


def test_rows_that_need_different_searches_in_one_call(rng):
    x = rng.standard_normal((3, 300)) * np.array([[1e-3], [1.0], [9.0]])
    each = jax.jit(jax.vmap(lambda row: sf.entmax(row, 3.0)))(jnp.asarray(x))
    np.testing.assert_allclose(each, sf.entmax(x, 3.0), atol=1e-14)


def test_the_gradient_by_alpha_is_that_of_the_function():
    gradient = jax.grad(lambda alpha: (sf.entmax(jnp.asarray(SCORES), alpha) * G).sum())(jnp.asarray(ALPHAS))
    expected = sf.entmax_alpha_grad(sf.entmax(SCORES, ALPHAS), G, ALPHAS)
    np.testing.assert_allclose(gradient[:, 0], expected, rtol=1e-10)


@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0, 3.0, np.inf])
def test_absent_classes_and_undefined_rows_have_no_gradient(alpha):
    x = SCORES.copy()
    x[0, :2], x[1], x[2, 3] = -np.inf, -np.inf, np.nan

    def loss(scores, temperature):
        return (sf.entmax(scores, alpha, temperature=temperature) * G)[0].sum()

    by_scores, by_temperature = jax.grad(loss, argnums=(0, 1))(jnp.asarray(x), jnp.asarray(1.0))
    assert np.isfinite(by_temperature)
    assert (by_scores[0, :2] == 0).all() and (by_scores[1] == 0).all() and np.isfinite(by_scores[:2]).all()


def test_what_cannot_be_traced_says_so():
    with pytest.raises(TypeError, match="the size of its result depends on them, call it outside, or take entmax"):
        jax.jit(lambda x: sf.entmax_sparse(x).values)(jnp.asarray(SCORES))
    with pytest.raises(TypeError, match="out is a JAX array, which cannot be written, must be None; assign the result"):
        sf.softmax(jnp.asarray(SCORES), out=jnp.asarray(SCORES))


def test_options_are_checked_where_their_values_are_known():
    x = jnp.asarray(SCORES)
    with pytest.raises(ValueError, match="temperature is -1, must be > 0 and finite"):
        sf.softmax(x, temperature=jnp.asarray([[1.0], [-1.0], [1.0]]))
    with pytest.raises(ValueError, match="alpha is 0, must be > 0"):
        jax.jit(lambda x: sf.entmax(x, 0.0))(x)
    traced = jax.jit(lambda x, t: sf.softmax(x, temperature=t))(x, jnp.asarray(2.0))
    np.testing.assert_allclose(traced, sf.softmax(SCORES, temperature=2.0), rtol=1e-14)


def test_a_label_out_of_range_of_a_traced_program_gives_nan():
    each = jax.jit(lambda x, labels: sf.entmax_loss(x, labels, reduction="none"))
    value = each(jnp.asarray(SCORES), jnp.asarray([0, 9, 2]))
    np.testing.assert_array_equal(np.isnan(value), [False, True, False])
    with pytest.raises(ValueError, match=r"target of row 1 is 9, must lie in \[0, 5\]"):
        sf.entmax_loss(jnp.asarray(SCORES), jnp.asarray([0, 9, 2]))  # the label out of range is known
