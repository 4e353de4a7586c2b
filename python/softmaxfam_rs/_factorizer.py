"""Factors of users and items that minimise RG2 or RGx, by alternating least squares."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from . import _core, _safetensors
from ._factors import Interactions, as_interactions
from ._head import LinearHead
from ._transfer import to_count

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ._results import Scores
    from ._typing import Array

    AnyPath = str | os.PathLike[str]

FORMAT = "softmaxfam rg factors 1"


class RGFactorizer:
    """Recommend items by factors of users and items, trained on RG2 or RGx: the softmax loss to second order.

    Each step solves one side exactly given the other, in the compiled core; a user costs what its interactions cost,
    however many items there are.

    Parameters
    ----------
    loss : {"rgx", "rg2"}, default "rgx"
        `rgx_loss` or `rg2_loss`. With w = 0 their exact steps are the same from the first item step on.
    rank : int, default 64
        Numbers of a factor.
    w : float, default 0.1
        The weight of (score - 1)^2 at interactions, >= 0. With 0 one eigendecomposition a step serves all rows, and a
        fit is many times as fast; with a weight each row has a matrix of its own, and mostly the better ranking.
    regularization : float, default 1.0
        rho > 0: rho / 2 times the squares of all factors are added to the sum of the users' losses. Worth a search, as
        is w: too much of it makes all factors 0.
    iterations : int, default 15
        Steps of both sides.
    random_state : int, default 0
        Of the first items' factors.

    Attributes
    ----------
    user_factors_, item_factors_ : array of float32, shapes (users, rank) and (items, rank)
    objective_ : list of float
        The sum of losses and penalty after each iteration, over the number of users.

    Raises
    ------
    ValueError
        For an option that does not fit.

    Notes
    -----
    Results have the same bits for any number of threads. Under RGx with w > 0 an item step takes the last term, which
    is concave, at its tangent: the objective still falls in each step. Sources: Pu et al. (2024), ICML, PMLR 235:41183;
    Pu et al. (2025), arXiv:2506.09454; steps as those of Hu, Koren, Volinsky (2008).

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> from scipy.sparse import csr_array
    >>> likes = csr_array(np.kron(np.eye(2), np.ones((30, 5))))  # two groups of users, and what they like
    >>> likes[0, 4] = 0
    >>> model = sf.RGFactorizer(rank=4).fit(likes)
    >>> model.recommend([0], 1, exclude=likes[[0]]).indices
    array([[4]])
    """

    user_factors_: NDArray[np.float32]
    item_factors_: NDArray[np.float32]
    objective_: list[float]

    def __init__(
        self,
        loss: Literal["rgx", "rg2"] = "rgx",
        rank: int = 64,
        *,
        w: float = 0.1,
        regularization: float = 1.0,
        iterations: int = 15,
        random_state: int = 0,
    ) -> None:
        if loss not in {"rgx", "rg2"}:
            raise ValueError(f"loss is {loss!r}, must be 'rgx' or 'rg2'")
        if not (w >= 0 and math.isfinite(w)):
            raise ValueError(f"w is {w}, must be >= 0 and finite")
        if not (regularization > 0 and math.isfinite(regularization)):
            raise ValueError(f"regularization is {regularization}, must be > 0 and finite")
        self.loss, self.rank, self.w = loss, to_count("rank", rank), float(w)
        self.regularization, self.iterations = float(regularization), to_count("iterations", iterations)
        self.random_state = random_state

    def fit(
        self,
        interactions: Any,  # noqa: ANN401  of SciPy
        /,
        *,
        start: Array | None = None,
        callback: Callable[[int, float], object] | None = None,
    ) -> Self:
        """Find the factors of users and items.

        Parameters
        ----------
        interactions : scipy.sparse matrix or array, shape (users, items)
            What is stored and not 0 is an interaction, whatever its value.
        start : array, shape (items, rank), optional
            Factors of items to begin with, such as those of an earlier fit; random ones without.
        callback : callable, optional
            Called after each iteration with its number, from 1, and the objective; if it returns True, that was the
            last. Ctrl-C is honoured within a step; the factors of the last whole iteration stay.

        Returns
        -------
        RGFactorizer
            Itself.

        Examples
        --------
        >>> import numpy as np, softmaxfam_rs as sf
        >>> from scipy.sparse import csr_array
        >>> model = sf.RGFactorizer(rank=2, iterations=9)
        >>> model = model.fit(csr_array(np.eye(4)), callback=lambda iteration, objective: iteration == 3)
        >>> len(model.objective_), model.objective_[0] > model.objective_[-1]
        (3, True)
        """
        of = as_interactions(interactions)
        if 0 in of.shape:
            raise ValueError(f"interactions has shape {of.shape}, must have a user and an item")
        across, _ = of.transposed()
        shape = (of.shape[1], self.rank)
        if start is None:
            rng = np.random.default_rng(self.random_state)
            items = rng.standard_normal(shape, dtype=np.float32) / np.float32(math.sqrt(self.rank))
        else:
            items = np.ascontiguousarray(start, np.float32)
            if items.shape != shape:
                raise ValueError(f"start has shape {items.shape}, must have shape {shape}, a factor for each item")
        self.objective_ = []
        for iteration in range(1, self.iterations + 1):
            users = self._users(of, items)
            items, objective = self._items(of, across, users, items)
            self.user_factors_, self.item_factors_ = users, items
            self.objective_.append(objective / of.shape[0])
            if callback is not None and callback(iteration, self.objective_[-1]) is True:
                break
        return self

    def transform(self, interactions: Any, /) -> NDArray[np.float32]:  # noqa: ANN401
        """Return the factors of users, new ones or known: the minimum of their losses given the items.

        Parameters
        ----------
        interactions : scipy.sparse matrix or array, shape (users, items)

        Returns
        -------
        array of float32, shape (users, rank)

        Examples
        --------
        >>> import numpy as np, softmaxfam_rs as sf
        >>> from scipy.sparse import csr_array
        >>> likes = csr_array(np.kron(np.eye(2), np.ones((30, 5))))
        >>> model = sf.RGFactorizer(rank=4).fit(likes)
        >>> new = model.transform(csr_array(([1.0], ([0], [7])), shape=(1, 10)))
        >>> sorted(model.recommend(new, 5).indices[0].tolist())
        [5, 6, 7, 8, 9]
        """
        items = self._fitted()
        return self._users(as_interactions(interactions, (None, len(items))), items)

    def recommend(self, users: Any, k: int = 10, *, exclude: Any = None) -> Scores[Any, Any]:  # noqa: ANN401
        """Return the k best items of users by `LinearHead.score`, in one pass over the items.

        Parameters
        ----------
        users : array of int, or of float of shape (..., rank)
            Users of `fit`, or factors, such as those of `transform`.
        k : int, default 10
        exclude : scipy.sparse matrix or array, shape (len(users), items), optional
            Items that are not recommended, such as those seen.

        Returns
        -------
        Scores
            `indices`, and `log_probs` as softmax of the scores has them.

        Examples
        --------
        >>> import numpy as np, softmaxfam_rs as sf
        >>> from scipy.sparse import csr_array
        >>> model = sf.RGFactorizer(rank=4).fit(csr_array(np.kron(np.eye(2), np.ones((30, 5)))))
        >>> sorted(model.recommend(31, 5).indices.tolist())
        [5, 6, 7, 8, 9]
        """
        items = self._fitted()
        users = np.asarray(users)
        if users.dtype.kind in "iu":
            if users.size and not (users.min() >= 0 and users.max() < len(self.user_factors_)):
                raise ValueError(f"users holds {users.max()}, must lie in [0, {len(self.user_factors_) - 1}]")
            users = self.user_factors_[users]
        seen = None
        if exclude is not None:
            of = as_interactions(exclude, (int(np.prod(users.shape[:-1])), len(items)))
            seen = [of.indices[first:last] for first, last in zip(of.indptr[:-1], of.indptr[1:], strict=True)]
        return LinearHead(items).score(users, k, exclude=seen)

    def save(self, path: AnyPath, /) -> None:
        """Write factors and options to one .safetensors file, which is never half-written.

        Examples
        --------
        >>> import tempfile, numpy as np, softmaxfam_rs as sf
        >>> from scipy.sparse import csr_array
        >>> model = sf.RGFactorizer("rg2", rank=2, w=0.5).fit(csr_array(np.eye(4)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(f"{folder}/model.safetensors")
        ...     sf.RGFactorizer.load(f"{folder}/model.safetensors")
        RGFactorizer('rg2', rank=2, w=0.5, regularization=1.0, iterations=15, random_state=0)
        """
        if Path(path).suffix != ".safetensors":
            raise ValueError(f"{os.fspath(path)} is the path, must end in .safetensors")
        tensors = {"items": ("F32", self._fitted()), "users": ("F32", self.user_factors_)}
        more = json.dumps({"options": self._options(), "objective": self.objective_})
        _safetensors.write(path, tensors, {"format": FORMAT, "fit": more})

    @classmethod
    def load(cls, path: AnyPath, /) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        OSError
            Where the file cannot be opened.
        ValueError
            Where it is damaged, or something else.
        """
        needed = {"items": "F32", "users": "F32"}
        parts, metadata = _safetensors.read_model(path, FORMAT, needed, {}, cls.__name__)
        try:
            fit = json.loads(metadata["fit"])
            model = cls(**fit["options"])
            model.objective_ = [float(number) for number in fit["objective"]]
        except (KeyError, TypeError, ValueError) as error:
            raise _safetensors.damaged(path, str(error)) from error
        if any(part.shape[1:] != (model.rank,) for part in parts.values()):
            raise _safetensors.damaged(path, "its factors are not of its rank")
        model.user_factors_, model.item_factors_ = parts["users"], parts["items"]
        return model

    def __repr__(self) -> str:
        options = self._options()
        loss = options.pop("loss")
        return f"RGFactorizer({', '.join([repr(loss), *(f'{name}={given!r}' for name, given in options.items())])})"

    def _options(self) -> dict[str, Any]:
        names = ("loss", "rank", "w", "regularization", "iterations", "random_state")
        return {name: getattr(self, name) for name in names}

    def _fitted(self) -> NDArray[np.float32]:
        if not hasattr(self, "item_factors_"):
            raise ValueError("the model has no factors yet; call fit first")
        return self.item_factors_

    def _users(self, of: Interactions, items: NDArray[np.float32]) -> NDArray[np.float32]:
        matrix, center = (part / len(items) for part in _core.gram(items, None))
        if self.loss == "rgx":
            matrix = matrix - np.multiply.outer(center, center)
        users = np.empty((of.shape[0], self.rank), np.float32)
        side = (np.ascontiguousarray(matrix), center, self.regularization, self.w, True)
        _core.solve_rows(of.indptr, of.indices, items, side, users)
        return users

    def _items(
        self, of: Interactions, across: Interactions, users: NDArray[np.float32], before: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float]:
        """Return the factors of all items, given those of users, and the objective."""
        count, is_rgx = of.shape[1], self.loss == "rgx"
        squares, sums = _core.gram(users, of.counts.astype(np.float64))
        center = sums / count
        if is_rgx and self.w:  # else the mean item is 0 in the minimum
            center = center - squares @ _core.gram(before, None)[1] / count**2
        items = np.empty((count, self.rank), np.float32)
        side = (squares / count, center, self.regularization, self.w, False)
        scores = _core.solve_rows(across.indptr, across.indices, users, side, items)
        gram, mean = (part / count for part in _core.gram(items, None))
        objective = len(of.indices) * math.log(count) + sums @ mean + (squares * gram).sum() / 2
        objective -= float(scores[:, 0].sum())
        if is_rgx:
            objective -= mean @ squares @ mean / 2
        if self.w:
            objective += self.w * float((scores[:, 1] - 2 * scores[:, 0]).sum() + len(of.indices))
        norms = float(np.square(users, dtype=np.float64).sum() + np.square(items, dtype=np.float64).sum())
        return items, float(objective + self.regularization / 2 * norms)
