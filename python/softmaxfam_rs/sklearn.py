"""A linear classifier of the softmax family for scikit-learn: `SoftmaxFamilyClassifier`."""

from __future__ import annotations

import math
import numbers
import warnings
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import compute_class_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

import softmaxfam_rs as sf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Matrix = Any  # an array or a sparse matrix of SciPy

ROWS_AT_A_TIME = 4096  # of scores of all classes, where they are needed


class TopClasses(NamedTuple):
    """The k classes of the highest scores of each row, in descending order.

    Attributes
    ----------
    classes : array, shape (n_samples, k)
        Labels, as `classes_` has them.
    probabilities : array, shape (n_samples, k)
        Zeros included, where the loss has sparse probabilities.
    """

    classes: NDArray[Any]
    probabilities: NDArray[Any]


class SoftmaxFamilyClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Linear classification by a loss of the softmax family, with an L2 penalty.

    Minimises C sum_i w_i L(scores_i; y_i) + |coef|^2 / 2, as `sklearn.linear_model.LogisticRegression` does, which is
    the member with ``loss="cross_entropy"``. The others have sparse probabilities: exact zeros, and a loss of exactly 0
    for rows beyond the margin, which then do not move the coefficients.

    Parameters
    ----------
    loss : {"entmax", "sparsemax", "cross_entropy", "normmax"}, default "entmax"
        The loss, as the functions `softmaxfam_rs.entmax_loss` and so on.
    alpha : float, default 1.5
        The order of entmax (> 0) or of the norm (> 1); others do not use it.
    C : float, default 1.0
        The inverse of the strength of the penalty, > 0. `math.inf` is none.
    fit_intercept : bool, default True
        Add an intercept, which is not penalised.
    class_weight : dict or "balanced", optional
        Weights of classes, which multiply those of samples.
    solver : {"lbfgs"}, default "lbfgs"
        SciPy's L-BFGS.
    max_iter : int, default 100
        Iterations at most; a warning says if they were too few.
    tol : float, default 1e-4
        `fit` ends where no derivative of the mean loss with its penalty is larger.
    warm_start : bool, default False
        Begin `fit` at the coefficients of the last one.
    learning_rate : float, default 0.5
        The step of `partial_fit`: AdaGrad's.
    batch_size : int, default 256
        The rows of a step of `partial_fit`.

    Attributes
    ----------
    classes_ : array, shape (n_classes,)
    coef_ : array, shape (n_classes, n_features), or (1, n_features) for two classes
    intercept_ : array, shape (n_classes,), or (1,) for two classes
    n_iter_ : int
        Iterations of L-BFGS, or calls of `partial_fit`.
    n_features_in_ : int
    feature_names_in_ : array of str
        Where X has names.

    Notes
    -----
    Two classes have one row of coefficients, for the scores 0 and x . coef + intercept, as in scikit-learn. float32
    stays float32. Source of the losses: Blondel, Martins, Niculae (2020), arXiv:1901.02324.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from softmaxfam_rs.sklearn import SoftmaxFamilyClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = SoftmaxFamilyClassifier(loss="sparsemax", max_iter=1000).fit(X, y)
    >>> classifier.predict_proba(X[:1]).round(2)
    array([[1., 0., 0.]])
    >>> classifier.score(X, y) > 0.95
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "loss": [StrOptions({"entmax", "sparsemax", "cross_entropy", "normmax"})],
        "alpha": [Interval(numbers.Real, 0, None, closed="neither")],
        "C": [Interval(numbers.Real, 0, None, closed="right")],
        "fit_intercept": ["boolean"],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "solver": [StrOptions({"lbfgs"})],
        "max_iter": [Interval(numbers.Integral, 1, None, closed="left")],
        "tol": [Interval(numbers.Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "learning_rate": [Interval(numbers.Real, 0, None, closed="neither")],
        "batch_size": [Interval(numbers.Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        loss: str = "entmax",
        *,
        alpha: float = 1.5,
        C: float = 1.0,
        fit_intercept: bool = True,
        class_weight: dict[Any, float] | str | None = None,
        solver: str = "lbfgs",
        max_iter: int = 100,
        tol: float = 1e-4,
        warm_start: bool = False,
        learning_rate: float = 0.5,
        batch_size: int = 256,
    ) -> None:
        self.loss = loss
        self.alpha = alpha
        self.C = C
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start
        self.learning_rate = learning_rate
        self.batch_size = batch_size

    def fit(self, X: Matrix, y: Any, sample_weight: Any = None) -> SoftmaxFamilyClassifier:  # noqa: ANN401
        """Fit the coefficients to all rows.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features)
        y : array, shape (n_samples,)
            Class labels of any kind.
        sample_weight : array, shape (n_samples,), optional
            Weights of rows, >= 0.

        Returns
        -------
        SoftmaxFamilyClassifier
            Itself.
        """
        X, y = self._rows(X, y)
        classes, ids = np.unique(y, return_inverse=True)
        if len(classes) < 2:  # noqa: PLR2004
            raise ValueError(
                f"y has {len(classes)} class: {classes.tolist()}; this solver needs samples of at least 2 classes"
            )
        weights = self._weights(X, y, classes, ids, sample_weight)
        start = np.zeros(self._shape(len(classes), X.shape[1]))
        if self.warm_start and hasattr(self, "coef_") and self.coef_.shape == (start.shape[0], X.shape[1]):
            start = self._joined()
        objective = _Objective(self, X, ids, weights)
        found = minimize(
            objective,
            start.ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": self.max_iter, "gtol": self.tol, "ftol": 64 * np.finfo(float).eps, "maxls": 50},
        )
        if found.status == 1:
            warnings.warn(
                f"L-BFGS did not converge in {found.nit} iterations; give a larger max_iter, or scale the features",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.classes_, self.n_iter_ = classes, int(found.nit)
        self._settle(found.x.reshape(start.shape), X.dtype)
        self._squares: NDArray[np.float64] | None = None
        return self

    def partial_fit(self, X: Matrix, y: Any, classes: Any = None, sample_weight: Any = None) -> SoftmaxFamilyClassifier:  # noqa: ANN401
        """Go over some rows once, in steps of AdaGrad of `batch_size` rows in their order.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : array, shape (n_classes,), optional
            All labels that will be seen; needed in the first call.

        Returns
        -------
        SoftmaxFamilyClassifier
            Itself.
        """
        is_first = not hasattr(self, "classes_")
        if is_first and classes is None:
            raise ValueError("classes is None in the first call of partial_fit, must be all labels that will be seen")
        X, y = self._rows(X, y, reset=is_first)
        known = np.unique(classes) if classes is not None else self.classes_
        if not is_first and not np.array_equal(known, self.classes_):
            raise ValueError(f"classes is {known.tolist()}, must be {self.classes_.tolist()} as in the first call")
        ids = np.minimum(np.searchsorted(known, y), len(known) - 1)
        if (known[ids] != y).any():
            raise ValueError(
                f"y has the label {y[known[ids] != y][:1].tolist()[0]!r}, must hold classes: {known.tolist()}"
            )
        if isinstance(self.class_weight, str):
            message = "class_weight is 'balanced' in partial_fit, must be a dict: all rows are not known"
            raise ValueError(message)  # noqa: TRY004  the type is right, here it cannot be served
        weights = self._weights(X, y, known, ids, sample_weight)
        if is_first:
            self.classes_, self.n_iter_ = known, 0
            self._settle(np.zeros(self._shape(len(known), X.shape[1])), X.dtype)
        parameters = self._joined()
        squares = getattr(self, "_squares", None)
        squares = np.zeros(parameters.shape) if squares is None else squares.copy()
        seen = getattr(self, "_seen", 0.0)
        for rows in _pieces(X.shape[0], self.batch_size):
            if not weights[rows].any():
                continue
            seen += float(weights[rows].sum())
            _, gradient = _Objective(self, X[rows], ids[rows], weights[rows], seen)(parameters.ravel())
            gradient = gradient.reshape(parameters.shape)
            squares += gradient**2
            parameters -= self.learning_rate * gradient / (np.sqrt(squares) + 1e-10)
        self._settle(parameters, self.coef_.dtype)
        self._squares, self._seen = squares, seen
        self.n_iter_ += 1
        return self

    def decision_function(self, X: Matrix) -> NDArray[Any]:
        """Return the scores: of each class, or for two classes of the second.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features)

        Returns
        -------
        array, shape (n_samples, n_classes), or (n_samples,) for two classes
        """
        check_is_fitted(self)
        X = self._features(X)
        scores: NDArray[Any] = safe_sparse_dot(X, self.coef_.T, dense_output=True) + self.intercept_
        return scores.ravel() if len(self.classes_) == 2 else scores  # noqa: PLR2004

    def predict(self, X: Matrix) -> NDArray[Any]:
        """Return the label of the highest score of each row.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features)

        Returns
        -------
        array, shape (n_samples,)
        """
        scores = self.decision_function(X)
        ids = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        labels: NDArray[Any] = self.classes_[ids]
        return labels

    def predict_proba(self, X: Matrix) -> NDArray[Any]:
        """Return the probabilities of the map that belongs to the loss, with its exact zeros.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features)

        Returns
        -------
        array, shape (n_samples, n_classes)
        """
        return self._map(_of_two(self.decision_function(X)))

    def predict_log_proba(self, X: Matrix) -> NDArray[Any]:
        """Return the logarithms of `predict_proba`, -inf for zeros.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features)

        Returns
        -------
        array, shape (n_samples, n_classes)
        """
        if self.loss == "cross_entropy":
            return np.asarray(sf.log_softmax(_of_two(self.decision_function(X))))
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.predict_proba(X)))

    def predict_top_k(self, X: Matrix, k: int = 5) -> TopClasses:
        """Return the k classes of the highest scores with their probabilities, without the matrix of all.

        Dense rows meet the classes in one pass of `softmaxfam_rs.LinearHead`, in float32; sparse rows, and the norm's
        map, some thousand rows at a time.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features)
        k : int, default 5
            At most the number of classes.

        Returns
        -------
        TopClasses
            classes and probabilities, (n_samples, k) each, by descending scores.
        """
        check_is_fitted(self)
        if not 1 <= k <= len(self.classes_):
            raise ValueError(f"k is {k}, must lie in [1, {len(self.classes_)}], the number of classes")
        X = self._features(X)
        if isinstance(X, np.ndarray) and self.loss != "normmax":
            parts = [self._top_by_head(X, k)]
        else:
            parts = [self._top_by_scores(X[rows], k) for rows in _pieces(X.shape[0], ROWS_AT_A_TIME)]
        ids, p = (np.concatenate(part) for part in zip(*parts, strict=True))
        return TopClasses(self.classes_[ids], p.astype(self.coef_.dtype, copy=False))

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _top_by_head(self, rows: NDArray[Any], k: int) -> tuple[NDArray[Any], NDArray[Any]]:
        weight, bias = self.coef_, self.intercept_
        if len(self.classes_) == 2:  # noqa: PLR2004
            weight, bias = np.concatenate([np.zeros_like(weight), weight]), np.concatenate([np.zeros_like(bias), bias])
        head = sf.LinearHead(weight.astype(np.float32), bias.astype(np.float32))
        found = head.score(rows, k)
        if self.loss == "cross_entropy":
            return found.indices, np.exp(found.log_probs)
        support = head.entmax(rows, 2.0 if self.loss == "sparsemax" else self.alpha)
        p = support.to_scipy()[np.arange(len(rows))[:, None], found.indices]
        return found.indices, np.asarray(p.todense() if hasattr(p, "todense") else p)

    def _top_by_scores(self, rows: Matrix, k: int) -> tuple[NDArray[Any], NDArray[Any]]:
        scores = _of_two(np.atleast_1d(self.decision_function(rows)))
        ids = np.asarray(sf.top_log_probs(scores, k).indices)
        return ids, np.take_along_axis(self._map(scores), ids, axis=1)

    def _map(self, scores: NDArray[Any]) -> NDArray[Any]:
        maps: dict[str, Callable[[], Any]] = {
            "entmax": lambda: sf.entmax(scores, self.alpha),
            "sparsemax": lambda: sf.sparsemax(scores),
            "cross_entropy": lambda: sf.softmax(scores),
            "normmax": lambda: sf.normmax(scores, self.alpha),
        }
        return np.asarray(maps[self.loss]())

    def _rows(self, X: Matrix, y: Any, *, reset: bool = True) -> tuple[Matrix, NDArray[Any]]:  # noqa: ANN401
        self._validate_params()
        if self.loss == "normmax" and self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha} for the loss 'normmax', must be > 1")
        dtypes = [np.float64, np.float32]
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=dtypes, reset=reset)
        check_classification_targets(y)
        return X, y

    def _features(self, X: Matrix) -> Matrix:
        rows: Matrix = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False)
        return rows

    def _weights(
        self,
        X: Matrix,
        y: NDArray[Any],
        classes: NDArray[Any],
        ids: NDArray[np.int64],
        sample_weight: Any,  # noqa: ANN401
    ) -> NDArray[np.float64]:
        weights: NDArray[np.float64] = _check_sample_weight(
            sample_weight, X, dtype=np.float64, ensure_non_negative=True
        )
        if self.class_weight is None:
            return weights
        if self.class_weight == "balanced":
            counts = np.bincount(ids, weights, minlength=len(classes))
            each = weights.sum() / (len(classes) * np.where(counts > 0, counts, 1))
        else:
            each = compute_class_weight(self.class_weight, classes=classes, y=y)
        return weights * np.asarray(each, np.float64)[ids]

    def _shape(self, classes: int, features: int) -> tuple[int, int]:
        return 1 if classes == 2 else classes, features + bool(self.fit_intercept)  # noqa: PLR2004

    def _joined(self) -> NDArray[np.float64]:
        """Return the parameters as the solver has them."""
        parts = [self.coef_, self.intercept_[:, None]] if self.fit_intercept else [self.coef_]
        return np.concatenate(parts, axis=1).astype(np.float64)

    def _settle(self, parameters: NDArray[np.float64], dtype: Any) -> None:  # noqa: ANN401
        coef = parameters[:, :-1] if self.fit_intercept else parameters
        intercept = parameters[:, -1] if self.fit_intercept else np.zeros(len(parameters))
        self.coef_, self.intercept_ = coef.astype(dtype), intercept.astype(dtype)


class _Objective:
    """The mean loss of rows with its penalty, and the gradient, of parameters in a line."""

    def __init__(
        self,
        of: SoftmaxFamilyClassifier,
        rows: Matrix,
        ids: NDArray[np.int64],
        weights: NDArray[np.float64],
        seen: float | None = None,
    ) -> None:
        self.rows, self.ids, self.weights, self.fit_intercept = rows, ids, weights, of.fit_intercept
        self.total = float(weights.sum())
        # C times the sum of the losses, divided by C and the sum of the weights
        self.penalty = 0.0 if math.isinf(of.C) else 1 / (of.C * (self.total if seen is None else seen))
        losses: dict[str, Callable[..., Any]] = {
            "entmax": lambda scores: sf.entmax_loss_and_grad(scores, ids, of.alpha, reduction="none"),
            "sparsemax": lambda scores: sf.sparsemax_loss_and_grad(scores, ids, reduction="none"),
            "cross_entropy": lambda scores: sf.cross_entropy_and_grad(scores, ids, reduction="none"),
            "normmax": lambda scores: sf.normmax_loss_and_grad(scores, ids, of.alpha, reduction="none"),
        }
        self.loss = losses[of.loss]

    def __call__(self, line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        features = self.rows.shape[1]
        parameters = line.reshape(-1, features + bool(self.fit_intercept))
        coef = parameters[:, :features]
        scores = safe_sparse_dot(self.rows, coef.T.astype(self.rows.dtype), dense_output=True)
        if self.fit_intercept:
            scores = scores + parameters[:, features].astype(scores.dtype)
        losses, of_scores = self.loss(_of_two(scores))
        of_scores = of_scores[:, -len(parameters) :] * (self.weights / self.total)[:, None].astype(scores.dtype)
        gradient = np.empty(parameters.shape)
        gradient[:, :features] = safe_sparse_dot(of_scores.T, self.rows, dense_output=True)
        if self.fit_intercept:
            gradient[:, features] = of_scores.sum(axis=0, dtype=np.float64)
        gradient[:, :features] += self.penalty * coef
        value = float(self.weights @ losses.astype(np.float64)) / self.total + self.penalty / 2 * float((coef**2).sum())
        return value, gradient.ravel()


def _of_two(scores: NDArray[Any]) -> NDArray[Any]:
    """Return scores of all classes: of two, the first has 0."""
    if scores.ndim == 1 or scores.shape[1] == 1:
        second = scores.reshape(-1, 1)
        return np.concatenate([np.zeros_like(second), second], axis=1)
    return scores


def _pieces(count: int, length: int) -> Iterator[slice]:
    for start in range(0, count, length):
        yield slice(start, start + length)


__all__ = ["SoftmaxFamilyClassifier", "TopClasses"]
