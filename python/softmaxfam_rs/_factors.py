"""RG2 and RGx: the softmax loss of users' interactions to second order, through Gram matrices of their factors.

With scores s_ui = <u, v_i>, k_u interactions of user u, G = V^T V / N and the mean item c:

    mean_i s_ui = <u, c>,    mean_i s_ui^2 = <u, G u>,

so the loss of a user costs what its interactions cost, however many items there are. RGx is exact to second order in
the scores, RG2 leaves out -k <u, c>^2 / 2. Gradients by an item need the same of users: sum_u k_u u u^T and
sum_u k_u u.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ._transfer import to_host

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._typing import Array, Reduction

BLOCK = 1 << 21  # numbers of factors that are gathered at a time


class FactorGradients(NamedTuple):
    """The gradients of a loss by the factors of users and items, or products with its Hessian.

    Attributes
    ----------
    users : array, shape (users, D)
    items : array, shape (items, D)
    """

    users: NDArray[Any]
    items: NDArray[Any]


class Interactions(NamedTuple):
    """Which items each user has, in compressed sparse rows."""

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    shape: tuple[int, int]

    @property
    def counts(self) -> NDArray[np.int64]:
        """The number of items of each user."""
        return np.diff(self.indptr)

    def users(self) -> NDArray[np.int64]:
        """Return the user of each interaction."""
        return np.repeat(np.arange(self.shape[0]), self.counts)

    def transposed(self) -> tuple[Interactions, NDArray[np.int64]]:
        """Return the users of each item, ascending, and which interaction here each of theirs is."""
        order = np.argsort(self.indices, kind="stable")
        indptr = np.zeros(self.shape[1] + 1, np.int64)
        np.cumsum(np.bincount(self.indices, minlength=self.shape[1]), out=indptr[1:])
        return Interactions(indptr, self.users()[order].astype(np.int32), self.shape[::-1]), order

    def weighted(self, weights: NDArray[Any], factors: NDArray[Any]) -> NDArray[Any]:
        """Return for each user the sum of the factors of its items, each times a weight."""
        sums = np.zeros((self.shape[0], factors.shape[1]), factors.dtype)
        step = max(1, BLOCK // factors.shape[1])
        starts = self.indptr[:-1]
        for first in range(0, len(self.indices), step):
            last = min(first + step, len(self.indices))
            products = factors[self.indices[first:last]] * weights[first:last, None]
            low, high = np.searchsorted(self.indptr, (first, last - 1), side="right") - 1
            inside = np.arange(low, high + 1)[self.counts[low : high + 1] > 0]
            sums[inside] += np.add.reduceat(products, np.maximum(starts[inside], first) - first, axis=0)
        return sums

    def scores(self, users: NDArray[Any], items: NDArray[Any]) -> NDArray[Any]:
        """Return the score of each interaction."""
        found = np.empty(len(self.indices), users.dtype)
        step = max(1, BLOCK // users.shape[1])
        owners = self.users()
        for first in range(0, len(self.indices), step):
            part = slice(first, first + step)
            found[part] = np.einsum("nd,nd->n", users[owners[part]], items[self.indices[part]])
        return found


def as_interactions(interactions: Any, shape: tuple[int | None, int | None] = (None, None)) -> Interactions:  # noqa: ANN401  of SciPy
    """Check interactions: a sparse matrix of SciPy, or what has indptr, indices and shape as its CSR has."""
    if hasattr(interactions, "tocsr"):
        interactions = interactions.tocsr()
    if not all(hasattr(interactions, name) for name in ("indptr", "indices", "shape")):
        raise TypeError(
            f"interactions is a {type(interactions).__name__}, must be a sparse matrix of users and items; "
            "convert it with scipy.sparse.csr_array"
        )
    if hasattr(interactions, "data") and np.any(np.asarray(interactions.data) == 0):
        interactions = interactions.copy()
        interactions.eliminate_zeros()
    users, items = (int(length) for length in interactions.shape)
    for given, needed, name in ((users, shape[0], "U"), (items, shape[1], "V")):
        if needed is not None and given != needed:
            raise ValueError(
                f"interactions has shape {(users, items)}, must have {needed} as {name} has that many rows"
            )
    indptr = np.ascontiguousarray(interactions.indptr, np.int64)
    indices = np.ascontiguousarray(interactions.indices, np.int32)
    if len(indices) and not (indices.min() >= 0 and indices.max() < items):
        raise ValueError(f"interactions holds item {indices.max()}, must lie in [0, {items - 1}]")
    return Interactions(indptr, indices, (users, items))


class _Problem(NamedTuple):
    """Checked factors and interactions, in the type computed in."""

    users: NDArray[Any]
    items: NDArray[Any]
    of: Interactions
    beta: float  # 1 for RGx
    w: float

    @property
    def k(self) -> NDArray[np.float64]:
        return self.of.counts.astype(self.users.dtype)


def _problem(users: Array, items: Array, interactions: Any, beta: float, w: float) -> _Problem:  # noqa: ANN401
    arrays = [to_host(name, array) for name, array in (("U", users), ("V", items))]
    for name, array in zip("UV", arrays, strict=True):
        if array.dtype.kind not in "iufb" and array.dtype.name != "bfloat16":
            raise TypeError(f"{name} has dtype {array.dtype}, must be real; convert it to numpy.float32")
        if array.ndim != 2:  # noqa: PLR2004  rows and columns
            raise ValueError(f"{name} has shape {array.shape}, must have two axes: a row for each factor")
    if arrays[0].shape[1] != arrays[1].shape[1]:
        raise ValueError(f"U has {arrays[0].shape[1]} columns and V {arrays[1].shape[1]}, must have as many")
    if not (w >= 0 and math.isfinite(w)):
        raise ValueError(f"w is {w}, must be >= 0 and finite")
    of = as_interactions(interactions, (len(arrays[0]), len(arrays[1])))
    return _Problem(arrays[0].astype(np.float64), arrays[1].astype(np.float64), of, beta, w)


def _type(users: Array, items: Array) -> np.dtype[Any]:
    found = np.result_type(*(to_host("U", array).dtype for array in (users, items)))
    return found if found.kind == "f" else np.dtype(np.float64)


def _losses(p: _Problem) -> NDArray[np.float64]:
    center = p.items.mean(axis=0)
    gram = p.items.T @ p.items / max(1, len(p.items))
    mean = p.users @ center
    square = np.einsum("ud,ud->u", p.users @ gram, p.users)
    found = p.k * (math.log(max(1, len(p.items))) + mean + square / 2 - p.beta * mean**2 / 2)
    scores = p.of.scores(p.users, p.items)
    found -= np.bincount(p.of.users(), scores, minlength=len(p.users))
    if p.w:
        found += p.w * np.bincount(p.of.users(), (scores - 1) ** 2, minlength=len(p.users))
    return np.asarray(found)


def _gradients(p: _Problem, k: NDArray[Any], share: float) -> FactorGradients:
    count = max(1, len(p.items))
    center, gram = p.items.mean(axis=0), p.items.T @ p.items / count
    each = (2 * p.w * (p.of.scores(p.users, p.items) - 1) if p.w else 0.0) - np.ones(len(p.of.indices))
    mean = p.users @ center
    of_users = p.of.weighted(each, p.items)
    of_users += k[:, None] * (center + p.users @ gram - p.beta * mean[:, None] * center)
    squares, sums = (p.users.T * k) @ p.users, k @ p.users
    of_items = _across(p, each)
    of_items += (sums + p.items @ squares - p.beta * (squares @ center)) / count
    return FactorGradients(share * of_users, share * of_items)


def _across(p: _Problem, weights: NDArray[Any], users: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return for each item the sum of the factors of its users, each interaction times a weight."""
    across, order = p.of.transposed()
    return across.weighted(weights[order], p.users if users is None else users)


def _reduced(losses: NDArray[np.float64], reduction: str) -> tuple[Any, float]:
    if reduction not in {"none", "mean", "sum"}:
        raise ValueError(f"reduction is {reduction!r}, must be 'none', 'mean' or 'sum'")
    share = 1 / max(1, len(losses)) if reduction == "mean" else 1.0
    return (losses if reduction == "none" else losses.sum() * share), share


def _loss(users: Array, items: Array, interactions: Any, beta: float, w: float, reduction: str) -> Any:  # noqa: ANN401
    problem = _problem(users, items, interactions, beta, w)
    value, _ = _reduced(_losses(problem), reduction)
    return np.asarray(value).astype(_type(users, items))[()]


def _loss_and_grad(users: Array, items: Array, interactions: Any, beta: float, w: float, reduction: str) -> Any:  # noqa: ANN401
    problem = _problem(users, items, interactions, beta, w)
    value, share = _reduced(_losses(problem), reduction)
    dtype = _type(users, items)
    found = _gradients(problem, problem.k, share)
    return np.asarray(value).astype(dtype)[()], FactorGradients(*(part.astype(dtype) for part in found))


def _hvp(
    users: Array,
    items: Array,
    interactions: Any,  # noqa: ANN401
    direction: tuple[Array, Array],
    beta: float,
    w: float,
    reduction: str,
) -> FactorGradients:
    p = _problem(users, items, interactions, beta, w)
    du, dv = (to_host("direction", part).astype(np.float64) for part in direction)
    for name, given, needed in (("users", du, p.users), ("items", dv, p.items)):
        if given.shape != needed.shape:
            raise ValueError(f"direction has shape {given.shape} for {name}, must have {needed.shape}")
    _, share = _reduced(np.zeros(len(p.users)), reduction)
    count, k = max(1, len(p.items)), p.k[:, None]
    center, d_center = p.items.mean(axis=0), dv.mean(axis=0)
    gram = p.items.T @ p.items / count
    d_gram = (dv.T @ p.items + p.items.T @ dv) / count
    mean = (p.users @ center)[:, None]
    d_mean = (du @ center + p.users @ d_center)[:, None]
    each = (2 * p.w * (p.of.scores(p.users, p.items) - 1) if p.w else 0.0) - np.ones(len(p.of.indices))
    of_users = p.of.weighted(each, dv)
    of_users += k * (d_center + du @ gram + p.users @ d_gram - p.beta * (d_mean * center + mean * d_center))
    squares, d_squares = p.users.T @ (k * p.users), du.T @ (k * p.users) + p.users.T @ (k * du)
    of_items = _across(p, each, du)
    pushed = squares @ d_center + d_squares @ center
    of_items += ((k * du).sum(axis=0) + dv @ squares + p.items @ d_squares - p.beta * pushed) / count
    if p.w:
        d_each = 2 * p.w * (p.of.scores(du, p.items) + p.of.scores(p.users, dv))
        of_users += p.of.weighted(d_each, p.items)
        of_items += _across(p, d_each)
    dtype = _type(users, items)
    return FactorGradients((share * of_users).astype(dtype), (share * of_items).astype(dtype))


def rgx_loss(
    U: Array,
    V: Array,
    interactions: Any,  # noqa: ANN401  of SciPy
    /,
    *,
    w: float = 0.0,
    reduction: Reduction = "mean",
) -> Array:
    """Compute the softmax loss of interactions to second order in the scores, at a cost independent of the items.

    With scores s of N items and k interactions of a user it is
    -sum_I s + k (log N + mean s + mean s^2 / 2 - (mean s)^2 / 2) + w sum_I (s - 1)^2.

    Parameters
    ----------
    U : array, shape (users, D)
        Factors of users; computed in float64.
    V : array, shape (items, D)
        Factors of items; the score of a user and an item is their inner product.
    interactions : scipy.sparse matrix or array, shape (users, items)
        What is stored and not 0 is an interaction, whatever its value.
    w : float, default 0.0
        The weight of (s - 1)^2 at interactions, >= 0.
    reduction : {"mean", "sum", "none"}, default "mean"
        Over users.

    Returns
    -------
    float, or array of shape (users,)
        0 for users without interactions.

    Raises
    ------
    TypeError
        For factors that are not real, or interactions that are not sparse.
    ValueError
        For shapes or options that do not fit.

    Notes
    -----
    The error against the softmax loss is at most k r^3 / (36 sqrt(3)) for scores that span r. A constant that is added
    to all scores changes nothing; under `rg2_loss` it does. Source: Pu, Lian, Chen, Huang, Chen, Chen (2025),
    arXiv:2506.09454.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> from scipy.sparse import csr_array
    >>> interactions = csr_array(np.eye(3))
    >>> U, V = np.full((3, 2), 0.1), np.ones((3, 2))
    >>> np.isclose(sf.rgx_loss(U, V, interactions), np.log(3))
    np.True_
    """
    return _loss(U, V, interactions, 1.0, w, reduction)


def rg2_loss(
    U: Array,
    V: Array,
    interactions: Any,  # noqa: ANN401
    /,
    *,
    w: float = 0.0,
    reduction: Reduction = "mean",
) -> Array:
    """Compute `rgx_loss` without its last term: a squared loss, -sum_I s + k mean (s + 1)^2 / 2 + k (log N - 1/2).

    Parameters
    ----------
    U, V, interactions, w, reduction
        As for `rgx_loss`.

    Returns
    -------
    float, or array of shape (users,)
        By k (mean s)^2 / 2 more than `rgx_loss`.

    Notes
    -----
    Source: Pu, Chen, Huang, Chen, Lian, Chen (2024), ICML, PMLR 235:41183.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> from scipy.sparse import csr_array
    >>> U, V = np.full((3, 2), 0.1), np.ones((3, 2))
    >>> np.isclose(sf.rg2_loss(U, V, csr_array(np.eye(3))), np.log(3) + 0.02)
    np.True_
    """
    return _loss(U, V, interactions, 0.0, w, reduction)


def rgx_loss_and_grad(
    U: Array,
    V: Array,
    interactions: Any,  # noqa: ANN401
    /,
    *,
    w: float = 0.0,
    reduction: Reduction = "mean",
) -> tuple[Array, FactorGradients]:
    """Compute `rgx_loss` and its gradients.

    Parameters
    ----------
    U, V, interactions, w, reduction
        As for `rgx_loss`.

    Returns
    -------
    tuple
        The loss, and `FactorGradients`; with reduction "none" those of the sum.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> from scipy.sparse import csr_array
    >>> loss, grad = sf.rgx_loss_and_grad(np.ones((3, 2)), np.eye(3, 2), csr_array(np.eye(3)))
    >>> grad.users.shape, grad.items.shape
    ((3, 2), (3, 2))
    """
    result: tuple[Array, FactorGradients] = _loss_and_grad(U, V, interactions, 1.0, w, reduction)
    return result


def rg2_loss_and_grad(
    U: Array,
    V: Array,
    interactions: Any,  # noqa: ANN401
    /,
    *,
    w: float = 0.0,
    reduction: Reduction = "mean",
) -> tuple[Array, FactorGradients]:
    """Compute `rg2_loss` and its gradients.

    Parameters
    ----------
    U, V, interactions, w, reduction
        As for `rg2_loss`.

    Returns
    -------
    tuple
        The loss, and `FactorGradients`; with reduction "none" those of the sum.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> from scipy.sparse import csr_array
    >>> loss, grad = sf.rg2_loss_and_grad(np.zeros((3, 2)), np.eye(3, 2), csr_array(np.eye(3)), reduction="sum")
    >>> grad.items.any()
    np.False_
    """
    result: tuple[Array, FactorGradients] = _loss_and_grad(U, V, interactions, 0.0, w, reduction)
    return result


def rgx_loss_hvp(
    U: Array,
    V: Array,
    interactions: Any,  # noqa: ANN401
    direction: tuple[Array, Array],
    /,
    *,
    w: float = 0.0,
    reduction: Reduction = "mean",
) -> FactorGradients:
    """Compute the product of the Hessian of `rgx_loss`, in all factors together, and a direction.

    Parameters
    ----------
    U, V, interactions, w, reduction
        As for `rgx_loss`.
    direction : pair of arrays
        Of the shapes of U and V, such as a `FactorGradients`.

    Returns
    -------
    FactorGradients
        How the gradients change along the direction; with reduction "none" those of the sum.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> from scipy.sparse import csr_array
    >>> U, V = np.ones((3, 2)), np.eye(3, 2)
    >>> sf.rgx_loss_hvp(U, V, csr_array(np.eye(3)), (0 * U, 0 * V)).users.any()
    np.False_
    """
    return _hvp(U, V, interactions, direction, 1.0, w, reduction)


def rg2_loss_hvp(
    U: Array,
    V: Array,
    interactions: Any,  # noqa: ANN401
    direction: tuple[Array, Array],
    /,
    *,
    w: float = 0.0,
    reduction: Reduction = "mean",
) -> FactorGradients:
    """Compute the product of the Hessian of `rg2_loss`, in all factors together, and a direction.

    Parameters
    ----------
    U, V, interactions, direction, w, reduction
        As for `rgx_loss_hvp`.

    Returns
    -------
    FactorGradients
        How the gradients change along the direction; with reduction "none" those of the sum.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> from scipy.sparse import csr_array
    >>> U, V = np.ones((3, 2)), np.eye(3, 2)
    >>> sf.rg2_loss_hvp(U, V, csr_array(np.eye(3)), (U, V)).items.shape
    (3, 2)
    """
    return _hvp(U, V, interactions, direction, 0.0, w, reduction)
