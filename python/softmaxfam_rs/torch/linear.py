"""Losses fused with the last layer of a model, to train it without the matrix of its logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from softmaxfam_rs._torch.linear import linear_loss

if TYPE_CHECKING:
    from torch import Tensor

    from softmaxfam_rs._typing import Reduction


class _LinearLoss(nn.Module):
    """A loss of the scores of a layer, whose parameters it shares."""

    weight: Tensor | None
    kind = ""

    def __init__(
        self,
        linear: nn.Linear,
        parameter: float,
        weight: Tensor | None,
        ignore_index: int,
        reduction: Reduction,
        label_smoothing: float,
        temperature: float,
        *,
        sparse: bool,
    ) -> None:
        super().__init__()
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"linear is a {type(linear).__name__}, must be a torch.nn.Linear; wrap a matrix in one")
        if reduction not in {"none", "mean", "sum"}:
            raise ValueError(f"reduction is {reduction!r}, must be 'none', 'mean' or 'sum'")
        self.linear = linear
        self.register_buffer("weight", weight)  # moves with the module, and is in its state
        self.parameter, self.temperature, self.sparse = parameter, temperature, sparse
        self.ignore_index, self.reduction, self.label_smoothing = ignore_index, reduction, label_smoothing

    def forward(self, h: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
        """Return the loss of queries (..., in_features); a class is absent where `where` is False."""
        loss: Tensor = linear_loss(
            self.kind,
            h,
            self.linear.weight,
            target,
            self.parameter,
            bias=self.linear.bias,
            where=where,
            weight=self.weight,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            reduction=self.reduction,
            temperature=self.temperature,
            gradient="none",
            sparse=self.sparse,
        )
        return loss

    def extra_repr(self) -> str:
        names = ("ignore_index", "reduction", "label_smoothing", "temperature", "sparse")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)


class LinearCrossEntropyLoss(_LinearLoss):
    """Cross entropy of a layer's scores, as `softmaxfam_rs.linear_cross_entropy`: no matrix of logits.

    Parameters
    ----------
    linear : torch.nn.Linear
        The layer from queries to classes, which stays the owner of its parameters. Float32 and smaller on the CPU is
        computed in blocks of queries; others by all scores.
    weight : Tensor, optional
        A weight of each class.
    ignore_index : int, default -100
        Queries with this class id count nothing.
    reduction : {"mean", "sum", "none"}, default "mean"
        As torch's; the mean divides by the weights of the labels that count.
    label_smoothing : float, default 0.0
        The share of each target that is spread evenly over the classes.
    temperature : float, default 1.0
        Scores are divided by it; > 0.

    Examples
    --------
    >>> import torch
    >>> from softmaxfam_rs.torch import LinearCrossEntropyLoss
    >>> layer = torch.nn.Linear(8, 1000)
    >>> h, target = torch.randn(4, 8), torch.tensor([1, 2, 3, -100])
    >>> loss = LinearCrossEntropyLoss(layer)(h, target)
    >>> torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(layer(h), target))
    >>> loss.backward()
    >>> layer.weight.grad.shape
    torch.Size([1000, 8])
    """

    kind = "cross_entropy"

    def __init__(
        self,
        linear: nn.Linear,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        label_smoothing: float = 0.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(linear, 0.0, weight, ignore_index, reduction, label_smoothing, temperature, sparse=False)


class LinearEntmaxLoss(_LinearLoss):
    """The entmax loss of a layer's scores, as `softmaxfam_rs.linear_entmax_loss`: no matrix of logits.

    Parameters
    ----------
    linear : torch.nn.Linear
        As for `LinearCrossEntropyLoss`.
    alpha : float, default 1.5
        The order, > 0; for orders above 1 few classes of each query have a gradient.
    weight, ignore_index, reduction, label_smoothing, temperature
        As for `LinearCrossEntropyLoss`.
    sparse : bool, default False
        Give the layer's weight a sparse gradient of the rows that have one, as `torch.nn.Embedding` has it; for
        optimisers that take such: SGD, Adagrad and SparseAdam.

    Examples
    --------
    >>> import torch
    >>> from softmaxfam_rs.torch import LinearEntmaxLoss
    >>> layer = torch.nn.Linear(8, 1000, bias=False)
    >>> _ = layer.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    >>> LinearEntmaxLoss(layer, alpha=1.5, sparse=True)(torch.randn(4, 8), torch.tensor([1, 2, 3, 4])).backward()
    >>> layer.weight.grad.is_sparse, layer.weight.grad._nnz() < 300
    (True, True)
    """

    kind = "entmax"

    def __init__(
        self,
        linear: nn.Linear,
        alpha: float = 1.5,
        weight: Tensor | None = None,
        *,
        sparse: bool = False,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        label_smoothing: float = 0.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(linear, alpha, weight, ignore_index, reduction, label_smoothing, temperature, sparse=sparse)

    def extra_repr(self) -> str:
        """Return the options."""
        return f"alpha={self.parameter}, {super().extra_repr()}"
