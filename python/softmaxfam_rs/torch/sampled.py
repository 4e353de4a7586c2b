"""Losses of a layer's scores against sampled negatives: draws, gathers, scores and corrects in one module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import softmaxfam_rs as sf
from softmaxfam_rs._drawn import treatment
from softmaxfam_rs._torch.drawn import loss

if TYPE_CHECKING:
    from torch import Tensor

    from softmaxfam_rs._sampled_losses import Correction
    from softmaxfam_rs._typing import Reduction


class _SampledLoss(nn.Module):
    """A loss of a linear layer's scores of the targets and of m classes that a sampler draws."""

    drawn: Tensor
    kind: str
    correction = "all"

    def __init__(
        self,
        linear: nn.Linear,
        sampler: Any,  # noqa: ANN401  of any law
        m: int,
        *,
        shared: bool,
        remove_hits: bool,
        seed: int,
        ignore_index: int,
        reduction: Reduction,
        temperature: float,
        sparse: bool,
    ) -> None:
        super().__init__()
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"linear is a {type(linear).__name__}, must be a torch.nn.Linear; wrap a matrix in one")
        if len(sampler) != linear.out_features:
            raise ValueError(f"sampler has {len(sampler)} classes, must have {linear.out_features}, those of the layer")
        if m < 1:
            raise ValueError(f"m is {m}, must be 1 or more")
        if reduction not in {"none", "mean", "sum"}:
            raise ValueError(f"reduction is {reduction!r}, must be 'none', 'mean' or 'sum'")
        self.linear, self.sampler, self.m, self.shared = linear, sampler, m, shared
        self.remove_hits, self.seed, self.ignore_index = remove_hits, seed, ignore_index
        self.reduction, self.temperature, self.sparse = reduction, temperature, sparse
        self.register_buffer("drawn", torch.zeros((), dtype=torch.int64))  # in the state: a resumed run goes on there

    def forward(self, h: Tensor, target: Tensor) -> Tensor:
        """Return the loss of queries (..., in_features) and their classes (...)."""
        counts = target != self.ignore_index
        rows, classes = h[counts], target[counts]
        stream = sf.Stream(self.seed).at(int(self.drawn))
        given = (rows, self.linear.weight, classes, self.sampler, self.m)
        is_each = self.reduction == "none"
        losses: Tensor = loss(
            self.kind,
            *given,
            bias=self.linear.bias,
            rng=stream,
            correction=self.correction,
            shared=self.shared,
            unique=False,
            removes_hits=self.remove_hits,
            temperature=self.temperature,
            reduction=self.reduction,
            sparse_grad=self.sparse,
            wants_gradient=False,
        )
        self.drawn += self.m if self.shared else self.m * len(classes)
        return losses.new_zeros(target.shape).masked_scatter(counts, losses) if is_each else losses

    def extra_repr(self) -> str:
        """Return the options."""
        names = ("m", "shared", "remove_hits", "seed", "ignore_index", "reduction", "temperature", "sparse")
        return ", ".join([repr(self.sampler), *(f"{name}={getattr(self, name)!r}" for name in names)])


class SampledSoftmaxLoss(_SampledLoss):
    """Sampled softmax of a layer's scores, as `softmaxfam_rs.sampled_softmax_loss`.

    Parameters
    ----------
    linear : torch.nn.Linear
        The layer from queries to classes, which stays the owner of its parameters; its bias, if any, is added.
    sampler : AliasTable, UniformSampler or LogUniformSampler
        Draws the negatives; of as many classes as the layer.
    m : int
        Negatives of a row.
    correction : {"all", "negatives", "refined", "none"}, default "all"
        As in `softmaxfam_rs.sampled_softmax_loss`.
    shared : bool, default True
        The same negatives for all rows: one gather of m rows and a matrix product, with correlated noise.
    remove_hits : bool, optional
        Leave out negatives that are the row's own class. By default what is right for the correction and for draws
        with replacement: not for "all" and "none", but for "negatives" and "refined". The other choice is biased, and
        warns.
    seed : int, default 0
        Of the draws. How many were made is in the module's state, so that a run that is resumed goes on in the stream.
    ignore_index : int, default -100
        Queries with this class id count nothing.
    reduction : {"mean", "sum", "none"}, default "mean"
    temperature : float, default 1.0
        Scores are divided by it; > 0.
    sparse : bool, default False
        Give the layer's weight a sparse gradient of the rows that were drawn, as `torch.nn.Embedding` has it.

    Examples
    --------
    >>> import torch, softmaxfam_rs as sf
    >>> from softmaxfam_rs.torch import SampledSoftmaxLoss
    >>> layer = torch.nn.Linear(8, 1000, bias=False)
    >>> loss = SampledSoftmaxLoss(layer, sf.LogUniformSampler(1000), 50, sparse=True)
    >>> loss(torch.randn(4, 8), torch.tensor([3, 1, 4, 1])).backward()
    >>> layer.weight.grad.is_sparse, int(loss.drawn)
    (True, 50)
    """

    kind = "sampled_softmax"

    def __init__(
        self,
        linear: nn.Linear,
        sampler: Any,  # noqa: ANN401
        m: int,
        *,
        correction: Correction = "all",
        shared: bool = True,
        remove_hits: bool | None = None,
        seed: int = 0,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        temperature: float = 1.0,
        sparse: bool = False,
    ) -> None:
        remove_hits = treatment("sampled_softmax", correction, unique=False, remove_hits=remove_hits)
        super().__init__(
            linear,
            sampler,
            m,
            shared=shared,
            remove_hits=remove_hits,
            seed=seed,
            ignore_index=ignore_index,
            reduction=reduction,
            temperature=temperature,
            sparse=sparse,
        )
        self.correction = correction

    def extra_repr(self) -> str:
        """Return the options."""
        return f"{super().extra_repr()}, correction={self.correction!r}"


class NCELoss(_SampledLoss):
    """Noise-contrastive estimation of a layer's scores, as `softmaxfam_rs.nce_loss`.

    Parameters
    ----------
    linear, sampler, m, shared, seed, ignore_index, reduction, temperature, sparse
        As for `SampledSoftmaxLoss`. Negatives that are the row's own class are kept, as the theory has it.

    Examples
    --------
    >>> import torch, softmaxfam_rs as sf
    >>> from softmaxfam_rs.torch import NCELoss
    >>> loss = NCELoss(torch.nn.Linear(8, 1000), sf.UniformSampler(1000), 50, shared=False)
    >>> loss(torch.randn(4, 8), torch.tensor([3, 1, 4, -100])).shape, int(loss.drawn)
    (torch.Size([]), 150)
    """

    kind = "nce"

    def __init__(
        self,
        linear: nn.Linear,
        sampler: Any,  # noqa: ANN401
        m: int,
        *,
        shared: bool = True,
        seed: int = 0,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        temperature: float = 1.0,
        sparse: bool = False,
    ) -> None:
        super().__init__(
            linear,
            sampler,
            m,
            shared=shared,
            remove_hits=False,
            seed=seed,
            ignore_index=ignore_index,
            reduction=reduction,
            temperature=temperature,
            sparse=sparse,
        )


class NegativeSamplingLoss(NCELoss):
    """Negative sampling of a layer's scores, as `softmaxfam_rs.negative_sampling_loss`.

    Parameters
    ----------
    linear, sampler, m, shared, seed, ignore_index, reduction, temperature, sparse
        As for `NCELoss`.

    Examples
    --------
    >>> import torch, softmaxfam_rs as sf
    >>> from softmaxfam_rs.torch import NegativeSamplingLoss
    >>> loss = NegativeSamplingLoss(torch.nn.Linear(8, 1000), sf.UniformSampler(1000), 5, shared=False)
    >>> loss(torch.randn(4, 8), torch.tensor([3, 1, 4, 1])).ndim
    0
    """

    kind = "negative_sampling"
