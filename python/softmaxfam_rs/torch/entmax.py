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

    from softmaxfam_rs._typing import Reduction

__all__ = [
    "BudgetBisect",
    "Entmax15",
    "Entmax15Loss",
    "EntmaxBisect",
    "EntmaxBisectLoss",
    "NormmaxBisect",
    "NormmaxBisectLoss",
    "Sparsemax",
    "SparsemaxBisect",
    "SparsemaxBisectLoss",
    "SparsemaxLoss",
    "budget_bisect",
    "entmax15",
    "entmax15_loss",
    "entmax_bisect",
    "entmax_bisect_loss",
    "normmax_bisect",
    "normmax_bisect_loss",
    "sparsemax",
    "sparsemax_bisect",
    "sparsemax_bisect_loss",
    "sparsemax_loss",
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


def sparsemax_loss(X: Tensor, target: Tensor, k: int | None = None) -> Tensor:
    """Compute the loss of sparsemax for each row of scores, whose classes are in the last axis.

    Examples
    --------
    >>> import torch
    >>> from softmaxfam_rs.torch.entmax import sparsemax_loss
    >>> sparsemax_loss(torch.tensor([[1.0, 0.5, -1.0], [2.0, 0.0, 0.0]]), torch.tensor([1, 0]))
    tensor([0.5625, 0.0000])
    """
    return sf.sparsemax_loss(X, target, reduction="none")


def sparsemax_bisect_loss(X: Tensor, target: Tensor, n_iter: int = 50) -> Tensor:
    """Compute the loss of sparsemax, as `sparsemax_loss`."""
    return sf.sparsemax_loss(X, target, reduction="none")


def entmax15_loss(X: Tensor, target: Tensor, k: int | None = None) -> Tensor:
    """Compute the loss of entmax of order 1.5 for each row of scores.

    Examples
    --------
    >>> import torch
    >>> from softmaxfam_rs.torch.entmax import entmax15_loss
    >>> entmax15_loss(torch.tensor([[3.0, 0.9, -1.0], [0.0, 1.0, 0.0]]), torch.tensor([0, 1]))
    tensor([0.0000, 0.0996])
    """
    return sf.entmax_loss(X, target, 1.5, reduction="none")


def entmax_bisect_loss(X: Tensor, target: Tensor, alpha: float | Tensor = 1.5, n_iter: int = 50) -> Tensor:
    """Compute the loss of entmax of any order alpha > 0; differentiable with respect to `X` and `alpha`.

    A tensor `alpha` has length 1 along the last axis, or broadcasts so.

    Examples
    --------
    >>> import torch
    >>> from softmaxfam_rs.torch.entmax import entmax_bisect_loss
    >>> entmax_bisect_loss(torch.tensor([[1.0, 0.5, -1.0]]), torch.tensor([1]), alpha=2.0)
    tensor([0.5625])
    """
    return sf.entmax_loss(X, target, alpha, reduction="none")


def normmax_bisect_loss(X: Tensor, target: Tensor, alpha: float | Tensor = 2, n_iter: int = 50) -> Tensor:
    """Compute the loss of normmax of any order alpha > 1; differentiable with respect to `X` and `alpha`.

    Examples
    --------
    >>> import torch
    >>> from softmaxfam_rs.torch.entmax import normmax_bisect_loss
    >>> normmax_bisect_loss(torch.tensor([[0.3, 0.3, -2.0]]), torch.tensor([0]))
    tensor([0.2929])
    """
    return sf.normmax_loss(X, target, alpha, reduction="none")


class _GenericLoss(nn.Module):
    """A loss, summed or averaged over the rows whose target is not `ignore_index`."""

    def __init__(self, ignore_index: int, reduction: str) -> None:
        super().__init__()
        if reduction not in {"elementwise_mean", "sum", "none"}:
            raise ValueError(f"reduction is {reduction!r}, must be 'elementwise_mean', 'sum' or 'none'")
        self.ignore_index, self.reduction = ignore_index, reduction

    def _reduction(self) -> Reduction:
        reductions: dict[str, Reduction] = {"elementwise_mean": "mean", "sum": "sum", "none": "none"}
        return reductions[self.reduction]


class SparsemaxBisectLoss(_GenericLoss):
    """`sparsemax_bisect_loss` as a module."""

    def __init__(self, n_iter: int = 50, ignore_index: int = -100, reduction: str = "elementwise_mean") -> None:
        super().__init__(ignore_index, reduction)
        self.n_iter = n_iter

    def forward(self, X: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        return sf.sparsemax_loss(X, target, ignore_index=self.ignore_index, reduction=self._reduction())


class SparsemaxLoss(_GenericLoss):
    """`sparsemax_loss` as a module."""

    def __init__(self, k: int | None = None, ignore_index: int = -100, reduction: str = "elementwise_mean") -> None:
        super().__init__(ignore_index, reduction)
        self.k = k

    def forward(self, X: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        return sf.sparsemax_loss(X, target, ignore_index=self.ignore_index, reduction=self._reduction())


class EntmaxBisectLoss(_GenericLoss):
    """`entmax_bisect_loss` as a module; `alpha` may be a `torch.nn.Parameter`, which is then learned."""

    alpha: float | Tensor

    def __init__(
        self,
        alpha: float | Tensor = 1.5,
        n_iter: int = 50,
        ignore_index: int = -100,
        reduction: str = "elementwise_mean",
    ) -> None:
        super().__init__(ignore_index, reduction)
        self.n_iter, self.alpha = n_iter, alpha

    def forward(self, X: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        return sf.entmax_loss(X, target, self.alpha, ignore_index=self.ignore_index, reduction=self._reduction())


class NormmaxBisectLoss(_GenericLoss):
    """`normmax_bisect_loss` as a module; `alpha` may be a `torch.nn.Parameter`, which is then learned."""

    alpha: float | Tensor

    def __init__(
        self,
        alpha: float | Tensor = 2,
        n_iter: int = 50,
        ignore_index: int = -100,
        reduction: str = "elementwise_mean",
    ) -> None:
        super().__init__(ignore_index, reduction)
        self.n_iter, self.alpha = n_iter, alpha

    def forward(self, X: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        return sf.normmax_loss(X, target, self.alpha, ignore_index=self.ignore_index, reduction=self._reduction())


class Entmax15Loss(_GenericLoss):
    """`entmax15_loss` as a module."""

    def __init__(self, k: int | None = 100, ignore_index: int = -100, reduction: str = "elementwise_mean") -> None:
        super().__init__(ignore_index, reduction)
        self.k = k

    def forward(self, X: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        return sf.entmax_loss(X, target, 1.5, ignore_index=self.ignore_index, reduction=self._reduction())
