"""The classifier for scikit-learn: its own checks, its objective, and agreement with logistic regression."""

import math

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from scipy import sparse
from scipy.optimize import check_grad
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import softmaxfam_rs as sf
from softmaxfam_rs.sklearn import SoftmaxFamilyClassifier, _Objective

LOSSES = ("entmax", "sparsemax", "cross_entropy", "normmax")


@parametrize_with_checks(
    [SoftmaxFamilyClassifier(loss, max_iter=1000) for loss in ("entmax", "cross_entropy")],
)
def test_of_scikit_learn(estimator, check):
    check(estimator)


def digits():
    X, y = load_digits(return_X_y=True)
    return X / 16, y


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("C", [0.01, 1.0])
def test_cross_entropy_is_logistic_regression(classes, C):
    X, y = digits()
    X, y = X[y < classes], y[y < classes]
    weights = np.random.default_rng(0).random(len(y))
    options = {"C": C, "tol": 1e-8, "max_iter": 5000}
    ours = SoftmaxFamilyClassifier("cross_entropy", **options).fit(X, y, weights)
    theirs = LogisticRegression(**options).fit(X, y, weights)
    assert ours.coef_.shape == theirs.coef_.shape and ours.intercept_.shape == theirs.intercept_.shape
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=2e-5)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(ours.predict_log_proba(X), theirs.predict_log_proba(X), atol=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_gradient_of_the_objective(loss, fit_intercept, classes):
    rng = np.random.default_rng(0)
    X, ids, weights = rng.standard_normal((30, 5)), rng.integers(classes, size=30), rng.random(30)
    of = SoftmaxFamilyClassifier(loss, alpha=1.4, C=0.3, fit_intercept=fit_intercept)
    objective = _Objective(of, X, ids, weights)
    at = rng.standard_normal((1 if classes == 2 else classes) * (5 + fit_intercept))
    assert check_grad(lambda p: objective(p)[0], lambda p: objective(p)[1], at) < 1e-5


@pytest.mark.parametrize("loss", LOSSES)
def test_probabilities_are_those_of_the_map(loss):
    X, y = load_iris(return_X_y=True)
    classifier = SoftmaxFamilyClassifier(loss, max_iter=2000).fit(X, y)
    assert classifier.score(X, y) > 0.95
    scores, p = classifier.decision_function(X), classifier.predict_proba(X)
    expected = {
        "entmax": lambda: sf.entmax(scores, 1.5),
        "sparsemax": lambda: sf.sparsemax(scores),
        "cross_entropy": lambda: sf.softmax(scores),
        "normmax": lambda: sf.normmax(scores, 1.5),
    }[loss]()
    np.testing.assert_array_equal(p, expected)
    assert (loss == "cross_entropy") == (p > 0).all()
    # the fit is right on average: for each class the mean probability is its share, as the intercept is free
    np.testing.assert_allclose(p.mean(axis=0), np.bincount(y) / len(y), atol=2e-3 if loss != "normmax" else 0.05)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("as_sparse", [False, True])
def test_top_k(loss, classes, as_sparse):
    X, y = digits()
    X, y = X[y < classes], np.array([f"digit {label}" for label in y[y < classes]])
    classifier = SoftmaxFamilyClassifier(loss, max_iter=2000).fit(X, y)
    k = min(classes, 3)
    found = classifier.predict_top_k(sparse.csr_array(X) if as_sparse else X, k)
    p = classifier.predict_proba(X)
    scores = classifier.decision_function(X)
    scores = np.stack([0 * scores, scores], axis=1) if scores.ndim == 1 else scores
    ids = np.searchsorted(classifier.classes_, found.classes)
    taken = np.take_along_axis(scores, ids, axis=1)
    np.testing.assert_allclose(taken, -np.sort(-scores, axis=1)[:, :k], atol=1e-5)
    np.testing.assert_allclose(found.probabilities, np.take_along_axis(p, ids, axis=1), atol=1e-5)
    for wrong in (0, classes + 1):
        with pytest.raises(ValueError, match=f"k is {wrong}"):
            classifier.predict_top_k(X, wrong)


def test_float32_and_sparse_rows_give_the_same_fit():
    X, y = digits()
    wide = SoftmaxFamilyClassifier(tol=1e-6, max_iter=3000).fit(X, y)
    of_sparse = SoftmaxFamilyClassifier(tol=1e-6, max_iter=3000).fit(sparse.csr_array(X), y)
    np.testing.assert_allclose(of_sparse.coef_, wide.coef_, atol=2e-3)  # both near the minimum
    narrow = SoftmaxFamilyClassifier(max_iter=3000).fit(X.astype(np.float32), y)
    assert narrow.coef_.dtype == narrow.predict_proba(X.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(narrow.coef_, wide.coef_, atol=0.1)  # at another tol


def test_class_weights_are_sample_weights():
    X, y = load_iris(return_X_y=True)
    options = {"tol": 1e-8, "max_iter": 5000}
    weights = {0: 1.0, 1: 3.0, 2: 0.5}
    by_class = SoftmaxFamilyClassifier(class_weight=weights, **options).fit(X, y)
    by_sample = SoftmaxFamilyClassifier(**options).fit(X, y, [weights[label] for label in y])
    np.testing.assert_allclose(by_class.coef_, by_sample.coef_, atol=1e-4)


def test_warm_start_ends_at_once_and_no_penalty_fits_closer():
    X, y = load_iris(return_X_y=True)
    classifier = SoftmaxFamilyClassifier(max_iter=5000, warm_start=True).fit(X, y)
    assert classifier.n_iter_ > 5
    assert classifier.fit(X, y).n_iter_ <= 1
    free = SoftmaxFamilyClassifier(C=math.inf, max_iter=5000).fit(X, y)
    mean = lambda of: sf.entmax_loss(of.decision_function(X), y)  # noqa: E731
    assert mean(free) < mean(classifier)


def test_too_few_iterations_are_told():
    X, y = digits()
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        SoftmaxFamilyClassifier(max_iter=2).fit(X, y)


@pytest.mark.parametrize("loss", LOSSES)
def test_partial_fit_learns(loss):
    X, y = digits()
    X = StandardScaler().fit_transform(X)
    classifier = SoftmaxFamilyClassifier(loss, batch_size=64)
    with pytest.raises(ValueError, match="classes is None"):
        classifier.partial_fit(X, y)
    for rows in np.array_split(np.arange(len(y)), 5):
        classifier.partial_fit(X[rows], y[rows], classes=range(10))
    assert classifier.n_iter_ == 5 and classifier.score(X, y) > 0.9
    with pytest.raises(ValueError, match="label 11"):
        classifier.partial_fit(X[:1], [11])
    with pytest.raises(ValueError, match="as in the first call"):
        classifier.partial_fit(X[:1], y[:1], classes=[0, 1])


@pytest.mark.parametrize(
    ("options", "words"),
    [({"loss": "hinge"}, "loss"), ({"alpha": 0.0}, "alpha"), ({"C": -1.0}, "'C'"), ({"solver": "sgd"}, "solver")],
)
def test_wrong_options_are_named(options, words):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match=words):
        SoftmaxFamilyClassifier(**options).fit(X, y)
    with pytest.raises(ValueError, match="normmax"):
        SoftmaxFamilyClassifier("normmax", alpha=1.0).fit(X, y)
