"""Orders of entmax as parts of a module: fixed, or learned between bounds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class _Orders(nn.Module, ABC):
    """What gives the orders of a call."""

    @abstractmethod
    def now(self) -> float | Tensor:
        """Return the orders."""

    def along(self, dim: int | None, scores: Tensor) -> float | Tensor:
        """Return the orders so that they broadcast to the scores, a vector of them along `dim`."""
        alpha = self.now()
        if dim is None or not isinstance(alpha, torch.Tensor) or alpha.ndim == 0:
            return alpha
        heads = alpha.numel()
        if not -scores.ndim <= dim < scores.ndim or scores.shape[dim] != heads:
            raise ValueError(
                f"scores have shape {tuple(scores.shape)}, must have {heads} heads along alpha_dim={dim}, one for "
                "each order; pass another alpha_dim, or as many orders as heads"
            )
        shape = [1] * scores.ndim
        shape[dim] = heads
        return alpha.reshape(shape)


class FixedOrders(_Orders):
    """Orders that stay: a number as it is, several as a buffer."""

    alpha: float | Tensor

    def __init__(self, alpha: float | Sequence[float] | Tensor) -> None:
        super().__init__()
        if isinstance(alpha, int | float):
            self.alpha = float(alpha)
        else:
            self.register_buffer("alpha", torch.as_tensor(alpha).detach().clone())

    def now(self) -> float | Tensor:
        """Return the orders."""
        return self.alpha

    def extra_repr(self) -> str:  # noqa: D102  torch's
        return f"alpha={_shown(self.alpha)}"


class LearnedOrders(_Orders):
    """Orders low + (high - low) sigmoid(raw), raw a parameter: between the bounds whatever an optimiser does.

    Where sigmoid rounds to 0 or 1 an order lies on a bound.
    """

    def __init__(self, alpha: float | Sequence[float] | Tensor, bounds: tuple[float, float]) -> None:
        super().__init__()
        self.low, self.high = map(float, bounds)
        if not 0 < self.low < self.high < float("inf"):
            raise ValueError(f"bounds are {tuple(bounds)}, must be finite with 0 < low < high")
        start = torch.as_tensor(alpha, dtype=None if isinstance(alpha, torch.Tensor) else torch.get_default_dtype())
        share = (start.detach().double() - self.low) / (self.high - self.low)
        if not bool(((share > 0) & (share < 1)).all()):
            raise ValueError(
                f"alpha starts at {_shown(start)}, must lie strictly between the bounds {self.low} and {self.high}; "
                "widen them, or leave learned=False"
            )
        self.raw = nn.Parameter(torch.logit(share).to(start.dtype))

    def now(self) -> Tensor:
        """Return the orders."""
        return self.low + (self.high - self.low) * torch.sigmoid(self.raw)

    def extra_repr(self) -> str:  # noqa: D102  torch's
        return f"alpha={_shown(self.now().detach())}, bounds=({self.low}, {self.high})"


def _shown(alpha: float | Tensor) -> object:
    """Return what a representation shows of orders: numbers, or how many where they are many."""
    many = 16
    if not isinstance(alpha, torch.Tensor):
        return alpha
    return [round(v, 4) for v in alpha.flatten().tolist()] if alpha.numel() <= many else f"{alpha.numel()} orders"
