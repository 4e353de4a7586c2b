"""The names and signatures of the entmax package 1.3: its users change one import.

``from softmaxfam_rs.torch import entmax`` stands for ``import entmax``, and ``from softmaxfam_rs.torch.entmax import
entmax15`` for ``from entmax import entmax15``. What that package does wrong is right here: see docs/entmax.md.

Arguments that steer its algorithms are accepted and change nothing: `k`, the size of its partial sort; `n_iter`, the
number of its bisections; `ensure_sum_one`. Results are exact to rounding, and sum to one, without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

import softmaxfam_rs as sf

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "BudgetBisect",
    "Entmax15",
    "EntmaxBisect",
    "NormmaxBisect",
    "Sparsemax",
    "SparsemaxBisect",
    "budget_bisect",
    "entmax15",
    "entmax_bisect",
    "normmax_bisect",
    "sparsemax",
    "sparsemax_bisect",
]


def sparsemax(X: Tensor, dim: int = -1, k: int | None = None) -> Tensor:
    """Project scores onto the simplex.

    Examples
    --------
    >>> import torch
    >>> from softmaxfam_rs.torch.entmax import sparsemax
    >>> sparsemax(torch.tensor([1.0, 0.5, -1.0]))
    tensor([0.7500, 0.2500, 0.0000])
    """
    return sf.sparsemax(X, axis=dim)


def entmax15(X: Tensor, dim: int = -1, k: int | None = None) -> Tensor:
    """Compute entmax of order 1.5.

    Examples
    --------
    >>> import torch
    >>> from softmaxfam_rs.torch.entmax import entmax15
    >>> entmax15(torch.tensor([1.0, 0.0, -3.0]))
    tensor([0.8307, 0.1693, 0.0000])
    """
    return sf.entmax(X, 1.5, axis=dim)


def sparsemax_bisect(X: Tensor, dim: int = -1, n_iter: int | None = 50, ensure_sum_one: bool = True) -> Tensor:
    """Project scores onto the simplex, as `sparsemax`."""
    return sf.sparsemax(X, axis=dim)


def entmax_bisect(
    X: Tensor, alpha: float | Tensor = 1.5, dim: int = -1, n_iter: int = 50, ensure_sum_one: bool = True
) -> Tensor:
    """Compute entmax of any order alpha > 0, 1 included; differentiable with respect to `X` and `alpha`.

    A tensor `alpha` has length 1 along `dim`, or broadcasts so.

    Examples
    --------
    >>> import torch
    >>> from softmaxfam_rs.torch.entmax import entmax_bisect
    >>> entmax_bisect(torch.tensor([[1.0, 0.5], [1.0, 0.5]]), torch.tensor([[1.0], [2.0]]))
    tensor([[0.6225, 0.3775],
            [0.7500, 0.2500]])
    """
    return sf.entmax(X, alpha, axis=dim)


def normmax_bisect(X: Tensor, alpha: float | Tensor = 2, dim: int = -1, n_iter: int = 50) -> Tensor:
    """Compute argmax_p <p, x> - norm_alpha(p) over the simplex, alpha > 1.

    Examples
    --------
    >>> import torch
    >>> from softmaxfam_rs.torch.entmax import normmax_bisect
    >>> normmax_bisect(torch.tensor([0.3, 0.3, -2.0]))
    tensor([0.5000, 0.5000, 0.0000])
    """
    return sf.normmax(X, alpha, axis=dim)


def budget_bisect(X: Tensor, budget: float | Tensor = 2, dim: int = -1, n_iter: int = 50) -> Tensor:
    """Project scores onto {0 <= p <= 1, sum p = budget}.

    Examples
    --------
    >>> import torch
    >>> from softmaxfam_rs.torch.entmax import budget_bisect
    >>> budget_bisect(torch.tensor([5.0, 0.5, 0.5]), budget=2)
    tensor([1.0000, 0.5000, 0.5000])
    """
    return sf.budget_sparsemax(X, budget, axis=dim)


class Sparsemax(nn.Module):
    """`sparsemax` as a module."""

    def __init__(self, dim: int = -1, k: int | None = None) -> None:
        super().__init__()
        self.dim, self.k = dim, k

    def forward(self, X: Tensor) -> Tensor:
        """Return the probabilities."""
        return sparsemax(X, dim=self.dim, k=self.k)


class Entmax15(nn.Module):
    """`entmax15` as a module."""

    def __init__(self, dim: int = -1, k: int | None = None) -> None:
        super().__init__()
        self.dim, self.k = dim, k

    def forward(self, X: Tensor) -> Tensor:
        """Return the probabilities."""
        return entmax15(X, dim=self.dim, k=self.k)


class SparsemaxBisect(nn.Module):
    """`sparsemax_bisect` as a module."""

    def __init__(self, dim: int = -1, n_iter: int | None = None) -> None:
        super().__init__()
        self.dim, self.n_iter = dim, n_iter

    def forward(self, X: Tensor) -> Tensor:
        """Return the probabilities."""
        return sparsemax_bisect(X, dim=self.dim, n_iter=self.n_iter)


class EntmaxBisect(nn.Module):
    """`entmax_bisect` as a module; `alpha` may be a `torch.nn.Parameter`, which is then learned."""

    alpha: float | Tensor

    def __init__(self, alpha: float | Tensor = 1.5, dim: int = -1, n_iter: int = 50) -> None:
        super().__init__()
        self.dim, self.n_iter, self.alpha = dim, n_iter, alpha

    def forward(self, X: Tensor) -> Tensor:
        """Return the probabilities."""
        return entmax_bisect(X, alpha=self.alpha, dim=self.dim, n_iter=self.n_iter)


class NormmaxBisect(nn.Module):
    """`normmax_bisect` as a module; `alpha` may be a `torch.nn.Parameter`, which is then learned."""

    alpha: float | Tensor

    def __init__(self, alpha: float | Tensor = 2, dim: int = -1, n_iter: int = 50) -> None:
        super().__init__()
        self.dim, self.n_iter, self.alpha = dim, n_iter, alpha

    def forward(self, X: Tensor) -> Tensor:
        """Return the probabilities."""
        return normmax_bisect(X, alpha=self.alpha, dim=self.dim, n_iter=self.n_iter)


class BudgetBisect(nn.Module):
    """`budget_bisect` as a module; `budget` may be a `torch.nn.Parameter`, which is then learned."""

    budget: float | Tensor

    def __init__(self, budget: float | Tensor = 2, dim: int = -1, n_iter: int = 50) -> None:
        super().__init__()
        self.dim, self.n_iter, self.budget = dim, n_iter, budget

    def forward(self, X: Tensor) -> Tensor:
        """Return what is chosen."""
        return budget_bisect(X, budget=self.budget, dim=self.dim, n_iter=self.n_iter)
