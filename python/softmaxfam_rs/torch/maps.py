"""The maps as modules of torch, to stand where `torch.nn.Softmax` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import nn

import softmaxfam_rs as sf

from .orders import FixedOrders, LearnedOrders

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

Dim = TypeVar("Dim")


class _Map(nn.Module, Generic[Dim]):
    """A map along `dim` of scores divided by a temperature."""

    temperature: float | Tensor

    def __init__(self, dim: Dim, temperature: float | Tensor) -> None:
        super().__init__()
        self.dim = dim
        if isinstance(temperature, torch.Tensor) and not isinstance(temperature, nn.Parameter):
            self.register_buffer("temperature", temperature)  # moves with the module, and is in its state
        else:
            self.temperature = temperature

    def extra_repr(self) -> str:
        temperature = self.temperature
        if isinstance(temperature, torch.Tensor):
            return f"dim={self.dim}, temperature=tensor of shape {tuple(temperature.shape)}"
        return f"dim={self.dim}" if temperature == 1.0 else f"dim={self.dim}, temperature={temperature}"


class Softmax(_Map[int | tuple[int, ...] | None]):
    """exp(x_i / T) / sum_j exp(x_j / T), as `softmaxfam_rs.softmax`.

    Parameters
    ----------
    dim : int, tuple of int or None, default -1
        The axis of the classes; with several, or None for all, their classes count as one row.
    temperature : float or Tensor, default 1.0
        Scores are divided by it; > 0. A tensor has length 1 along `dim`; as `torch.nn.Parameter` it is learned.

    Examples
    --------
    >>> import torch
    >>> from softmaxfam_rs.torch import Softmax
    >>> softmax = Softmax()
    >>> softmax(torch.zeros(2))
    tensor([0.5000, 0.5000])
    >>> softmax(torch.zeros(3), where=torch.tensor([True, True, False]))  # an absent class
    tensor([0.5000, 0.5000, 0.0000])
    """

    def __init__(self, dim: int | tuple[int, ...] | None = -1, *, temperature: float | Tensor = 1.0) -> None:
        super().__init__(dim, temperature)

    def forward(self, scores: Tensor, where: Tensor | None = None) -> Tensor:
        """Return the probabilities; a class is absent where `where` is False."""
        return sf.softmax(scores, axis=self.dim, where=where, temperature=self.temperature)


class LogSoftmax(_Map[int | tuple[int, ...] | None]):
    """x_i / T - log sum_j exp(x_j / T), as `softmaxfam_rs.log_softmax`.

    Parameters
    ----------
    dim : int, tuple of int or None, default -1
        The axis of the classes; with several, or None for all, their classes count as one row.
    temperature : float or Tensor, default 1.0
        Scores are divided by it; > 0. A tensor has length 1 along `dim`; as `torch.nn.Parameter` it is learned.

    Examples
    --------
    >>> import torch
    >>> from softmaxfam_rs.torch import LogSoftmax
    >>> LogSoftmax()(torch.zeros(2))
    tensor([-0.6931, -0.6931])
    """

    def __init__(self, dim: int | tuple[int, ...] | None = -1, *, temperature: float | Tensor = 1.0) -> None:
        super().__init__(dim, temperature)

    def forward(self, scores: Tensor, where: Tensor | None = None) -> Tensor:
        """Return the log-probabilities, -inf where `where` is False."""
        return sf.log_softmax(scores, axis=self.dim, where=where, temperature=self.temperature)


class Sparsemax(_Map[int]):
    """The projection of x / T onto the simplex, as `softmaxfam_rs.sparsemax`.

    Parameters
    ----------
    dim : int, default -1
        The axis of the classes.
    temperature : float or Tensor, default 1.0
        Scores are divided by it; > 0. A tensor has length 1 along `dim`; as `torch.nn.Parameter` it is learned.

    Examples
    --------
    >>> import torch
    >>> from softmaxfam_rs.torch import Sparsemax
    >>> Sparsemax()(torch.tensor([1.0, 0.5, -1.0]))
    tensor([0.7500, 0.2500, 0.0000])
    """

    def __init__(self, dim: int = -1, *, temperature: float | Tensor = 1.0) -> None:
        super().__init__(dim, temperature)

    def forward(self, scores: Tensor, where: Tensor | None = None) -> Tensor:
        """Return the probabilities; a class is absent where `where` is False."""
        return sf.sparsemax(scores, axis=self.dim, where=where, temperature=self.temperature)


class Entmax(_Map[int]):
    """Entmax of an order that is fixed or learned, one for all or one for each head, as `softmaxfam_rs.entmax`.

    Parameters
    ----------
    alpha : float, sequence of float or Tensor, default 1.5
        The order, > 0: 1 is softmax, 2 sparsemax. A sequence holds one for each head. With `learned` it is where
        learning starts, strictly between the bounds.
    dim : int, default -1
        The axis of the classes.
    alpha_dim : int, optional
        The axis of the heads, along which a sequence of orders lies: 1 for scores of shape (batch, heads, queries,
        keys). Without it a tensor of orders must broadcast to the scores, with length 1 along `dim`.
    learned : bool, default False
        Make the order a parameter, kept between the bounds by low + (high - low) sigmoid(raw).
    bounds : tuple of float, default (1.0, 2.0)
        What a learned order stays between.
    temperature : float or Tensor, default 1.0
        Scores are divided by it; > 0. A tensor has length 1 along `dim`; as `torch.nn.Parameter` it is learned.

    Raises
    ------
    ValueError
        For bounds that are not 0 < low < high, or a learned order that does not start strictly between them.

    Notes
    -----
    The state holds the raw values of learned orders, or a tensor of fixed ones; a fixed number is an option, as `dim`.
    Source of learned orders: Correia, Niculae, Martins (2019), arXiv:1909.00015.

    Examples
    --------
    >>> import torch
    >>> from softmaxfam_rs.torch import Entmax
    >>> Entmax(1.5)(torch.tensor([1.0, 0.0, -3.0]))
    tensor([0.8307, 0.1693, 0.0000])
    >>> attention = Entmax([1.25, 1.75], alpha_dim=1, learned=True)
    >>> attention(torch.zeros(8, 2, 5, 5)).shape, attention.alpha
    (torch.Size([8, 2, 5, 5]), tensor([1.2500, 1.7500], grad_fn=<AddBackward0>))
    """

    def __init__(
        self,
        alpha: float | Sequence[float] | Tensor = 1.5,
        dim: int = -1,
        *,
        alpha_dim: int | None = None,
        learned: bool = False,
        bounds: tuple[float, float] = (1.0, 2.0),
        temperature: float | Tensor = 1.0,
    ) -> None:
        super().__init__(dim, temperature)
        self.alpha_dim = alpha_dim
        self.orders = LearnedOrders(alpha, bounds) if learned else FixedOrders(alpha)

    @property
    def alpha(self) -> float | Tensor:
        """The orders now."""
        return self.orders.now()

    def forward(self, scores: Tensor, where: Tensor | None = None) -> Tensor:
        """Return the probabilities; a class is absent where `where` is False."""
        alpha = self.orders.along(self.alpha_dim, scores)
        return sf.entmax(scores, alpha, axis=self.dim, where=where, temperature=self.temperature)

    def extra_repr(self) -> str:  # noqa: D102  torch's
        heads = "" if self.alpha_dim is None else f", alpha_dim={self.alpha_dim}"
        return f"{super().extra_repr()}{heads}"
