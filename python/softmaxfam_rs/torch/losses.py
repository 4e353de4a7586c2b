"""The losses as modules of torch, to stand where `torch.nn.CrossEntropyLoss` does."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

import softmaxfam_rs as sf

from .orders import FixedOrders, LearnedOrders

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from torch import Tensor

    from softmaxfam_rs._typing import Reduction


class _Loss(nn.Module):
    """A loss along `dim` of scores divided by a temperature, with the options of torch's own."""

    weight: Tensor | None
    temperature: float | Tensor

    def __init__(
        self,
        weight: Tensor | None,
        ignore_index: int,
        reduction: Reduction,
        label_smoothing: float,
        dim: int,
        temperature: float | Tensor,
    ) -> None:
        super().__init__()
        if reduction not in {"none", "mean", "sum"}:
            raise ValueError(f"reduction is {reduction!r}, must be 'none', 'mean' or 'sum'")
        self.register_buffer("weight", weight)  # moves with the module, and is in its state
        self.ignore_index, self.reduction = ignore_index, reduction
        self.label_smoothing, self.dim = label_smoothing, dim
        if isinstance(temperature, torch.Tensor) and not isinstance(temperature, nn.Parameter):
            self.register_buffer("temperature", temperature)
        else:
            self.temperature = temperature

    def _options(self, scores: Tensor, where: Tensor | None) -> dict[str, Any]:
        return {
            "axis": self._axis(scores),
            "where": where,
            "weight": self.weight,
            "ignore_index": self.ignore_index,
            "reduction": self.reduction,
            "temperature": self.temperature,
        }

    def _axis(self, scores: Tensor) -> int:
        return self.dim if scores.ndim > 1 else -1  # the only axis is that of the classes

    def extra_repr(self) -> str:
        names = ("ignore_index", "reduction", "label_smoothing", "dim")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)


class CrossEntropyLoss(_Loss):
    """-sum_c y_c log softmax(x/T)_c, as `softmaxfam_rs.cross_entropy`; the options of `torch.nn.CrossEntropyLoss`.

    Parameters
    ----------
    weight : Tensor, optional
        A weight of each class.
    ignore_index : int, default -100
        Rows with this class id count nothing.
    reduction : {"mean", "sum", "none"}, default "mean"
        As torch's; the mean divides by the weights of the labels that count.
    label_smoothing : float, default 0.0
        The share of each target that is spread evenly over the classes.
    dim : int, default 1
        The axis of the classes; scores with one axis have it there.
    temperature : float or Tensor, default 1.0
        Scores are divided by it; > 0. A tensor has length 1 along `dim`; as `torch.nn.Parameter` it is learned.

    Examples
    --------
    >>> import torch
    >>> from softmaxfam_rs.torch import CrossEntropyLoss
    >>> CrossEntropyLoss()(torch.zeros(3, 2), torch.tensor([0, 1, -100]))
    tensor(0.6931)
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        label_smoothing: float = 0.0,
        dim: int = 1,
        temperature: float | Tensor = 1.0,
    ) -> None:
        super().__init__(weight, ignore_index, reduction, label_smoothing, dim, temperature)

    def forward(self, scores: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
        """Return the loss; a class is absent where `where` is False."""
        return sf.cross_entropy(scores, target, label_smoothing=self.label_smoothing, **self._options(scores, where))


class EntmaxLoss(_Loss):
    """The Fenchel-Young loss of entmax of a fixed order, as `softmaxfam_rs.entmax_loss`.

    Parameters
    ----------
    alpha : float or Tensor, default 1.5
        The order, > 0: 1 is cross entropy less the entropy of the target, 2 sparsemax's loss. A tensor has length 1
        along `dim`.
    weight, ignore_index, reduction, label_smoothing, dim, temperature
        As those of `CrossEntropyLoss`.

    Examples
    --------
    >>> import torch
    >>> from softmaxfam_rs.torch import EntmaxLoss
    >>> EntmaxLoss(reduction="none")(torch.tensor([[3.0, 0.9, -1.0], [0.0, 1.0, 0.0]]), torch.tensor([0, 1]))
    tensor([0.0000, 0.0996])
    """

    def __init__(
        self,
        alpha: float | Sequence[float] | Tensor = 1.5,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        label_smoothing: float = 0.0,
        dim: int = 1,
        temperature: float | Tensor = 1.0,
    ) -> None:
        super().__init__(weight, ignore_index, reduction, label_smoothing, dim, temperature)
        self.orders: FixedOrders | LearnedOrders = FixedOrders(alpha)

    @property
    def alpha(self) -> float | Tensor:
        """The order now."""
        return self.orders.now()

    def forward(self, scores: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
        """Return the loss; a class is absent where `where` is False."""
        options = self._options(scores, where)
        return sf.entmax_loss(scores, target, self.alpha, label_smoothing=self.label_smoothing, **options)


class AdaptiveEntmaxLoss(EntmaxLoss):
    """The loss of entmax of an order that is learned, between bounds.

    The loss falls with the order: learned by it alone the order goes to its upper bound. It is of use where the order
    belongs to the model too, as that of an attention, or has a prior.

    Parameters
    ----------
    alpha : float, default 1.5
        Where learning starts, strictly between the bounds.
    bounds : tuple of float, default (1.0, 2.0)
        What the order stays between.
    weight, ignore_index, reduction, label_smoothing, dim, temperature
        As those of `CrossEntropyLoss`.

    Raises
    ------
    ValueError
        For bounds that are not 0 < low < high, or an order that does not start strictly between them.

    Examples
    --------
    >>> import torch
    >>> from softmaxfam_rs.torch import AdaptiveEntmaxLoss
    >>> loss = AdaptiveEntmaxLoss(1.25)
    >>> loss(torch.tensor([[1.0, 0.5, 0.0]]), torch.tensor([1])).backward()
    >>> loss.alpha, loss.orders.raw.grad < 0
    (tensor(1.2500, grad_fn=<AddBackward0>), tensor(True))
    """

    def __init__(
        self,
        alpha: float = 1.5,
        weight: Tensor | None = None,
        *,
        bounds: tuple[float, float] = (1.0, 2.0),
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        label_smoothing: float = 0.0,
        dim: int = 1,
        temperature: float | Tensor = 1.0,
    ) -> None:
        super().__init__(
            alpha,
            weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
            dim=dim,
            temperature=temperature,
        )
        self.orders = LearnedOrders(alpha, bounds)


class SparsemaxLoss(EntmaxLoss):
    """The Fenchel-Young loss of sparsemax, as `softmaxfam_rs.sparsemax_loss`.

    Parameters
    ----------
    weight, ignore_index, reduction, label_smoothing, dim, temperature
        As those of `CrossEntropyLoss`.

    Examples
    --------
    >>> import torch
    >>> from softmaxfam_rs.torch import SparsemaxLoss
    >>> SparsemaxLoss()(torch.tensor([[1.0, 0.5, -1.0]]), torch.tensor([1]))
    tensor(0.5625)
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        label_smoothing: float = 0.0,
        dim: int = 1,
        temperature: float | Tensor = 1.0,
    ) -> None:
        super().__init__(
            2.0,
            weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
            dim=dim,
            temperature=temperature,
        )


class PerceptronLoss(EntmaxLoss):
    """max x/T - <x/T, y>, as `softmaxfam_rs.perceptron_loss`.

    Parameters
    ----------
    weight, ignore_index, reduction, label_smoothing, dim, temperature
        As those of `CrossEntropyLoss`.

    Examples
    --------
    >>> import torch
    >>> from softmaxfam_rs.torch import PerceptronLoss
    >>> PerceptronLoss()(torch.tensor([[2.0, 0.5]]), torch.tensor([1]))
    tensor(1.5000)
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        label_smoothing: float = 0.0,
        dim: int = 1,
        temperature: float | Tensor = 1.0,
    ) -> None:
        super().__init__(
            math.inf,
            weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
            dim=dim,
            temperature=temperature,
        )


class RankmaxLoss(_Loss):
    """log(1 + sum_i [1 - (x_c - x_i) / (T margin)]_+), i != c, as `softmaxfam_rs.rankmax_loss`.

    Parameters
    ----------
    margin : float, default 1.0
        How far the target's score must be above another's for that to count no more; > 0.
    weight, ignore_index, reduction, dim, temperature
        As those of `CrossEntropyLoss`.

    Examples
    --------
    >>> import torch
    >>> from softmaxfam_rs.torch import RankmaxLoss
    >>> RankmaxLoss(reduction="none")(torch.tensor([[1.0, 0.5, -3.0], [2.5, 0.5, 0.0]]), torch.tensor([1, 0]))
    tensor([0.9163, 0.0000])
    """

    def __init__(
        self,
        margin: float = 1.0,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        dim: int = 1,
        temperature: float | Tensor = 1.0,
    ) -> None:
        super().__init__(weight, ignore_index, reduction, 0.0, dim, temperature)
        self.margin = margin

    def forward(self, scores: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
        """Return the loss; a class is absent where `where` is False."""
        return sf.rankmax_loss(scores, target, margin=self.margin, **self._options(scores, where))
