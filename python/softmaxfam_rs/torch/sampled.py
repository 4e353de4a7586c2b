"""Losses of a layer's scores against sampled negatives: draws, gathers, scores and corrects in one module."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import embedding

import softmaxfam_rs as sf

if TYPE_CHECKING:
    from torch import Tensor

    from softmaxfam_rs._sampled_losses import Correction
    from softmaxfam_rs._typing import Reduction


class _SampledLoss(nn.Module):
    """A loss of a linear layer's scores of the targets and of m classes that a sampler draws."""

    drawn: Tensor

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
        shape = (self.m,) if self.shared else (len(classes), self.m)
        stream = sf.Stream(self.seed).at(int(self.drawn))
        ids, logq = self.sampler.sample(shape, rng=stream, like=classes)
        self.drawn += ids.numel()
        positive = (rows * self._rows(classes)).sum(-1)
        gathered = self._rows(ids)
        negative = rows @ gathered.T if self.shared else (gathered @ rows[..., None])[..., 0]
        if self.linear.bias is not None:
            positive = positive + self.linear.bias[classes]
            negative = negative + self.linear.bias[ids]
        logq = logq.to(rows.dtype).expand(negative.shape)
        hits = ids == classes[:, None] if self.remove_hits else None
        losses = self.loss(positive, negative, self.sampler.logq(classes).to(rows.dtype), logq, hits)
        if self.reduction == "mean":
            return losses.mean()
        if self.reduction == "sum":
            return losses.sum()
        return losses.new_zeros(target.shape).masked_scatter(counts, losses)

    def loss(
        self, positive: Tensor, negative: Tensor, logq_positive: Tensor, logq_negative: Tensor, hits: Tensor | None
    ) -> Tensor:
        """Return a loss for each row."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Return the options."""
        names = ("m", "shared", "remove_hits", "seed", "ignore_index", "reduction", "temperature", "sparse")
        return ", ".join([repr(self.sampler), *(f"{name}={getattr(self, name)!r}" for name in names)])

    def _rows(self, ids: Tensor) -> Tensor:
        rows: Tensor = embedding(ids, self.linear.weight, sparse=self.sparse)
        return rows


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
        if correction not in {"none", "all", "negatives", "refined"}:
            raise ValueError(f"correction is {correction!r}, must be 'none', 'all', 'negatives' or 'refined'")
        removes = correction in {"negatives", "refined"}
        if remove_hits is None:
            remove_hits = removes
        elif remove_hits != removes and correction != "none":
            reason = "the positive counts twice" if removes else "log-probabilities are no longer the optimum"
            warnings.warn(
                f"remove_hits={remove_hits} is biased under the correction {correction!r}: {reason}", stacklevel=2
            )
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

    def loss(
        self, positive: Tensor, negative: Tensor, logq_positive: Tensor, logq_negative: Tensor, hits: Tensor | None
    ) -> Tensor:
        """Return a loss for each row."""
        options: dict[str, Any] = {"correction": self.correction, "hits": hits, "temperature": self.temperature}
        losses: Tensor = sf.sampled_softmax_loss(
            positive, negative, logq_positive, logq_negative, reduction="none", **options
        )
        return losses

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

    def loss(
        self, positive: Tensor, negative: Tensor, logq_positive: Tensor, logq_negative: Tensor, hits: Tensor | None
    ) -> Tensor:
        """Return a loss for each row."""
        losses: Tensor = sf.nce_loss(
            positive,
            negative,
            logq_positive,
            logq_negative,
            hits=hits,
            temperature=self.temperature,
            reduction="none",
        )
        return losses


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

    def loss(
        self,
        positive: Tensor,
        negative: Tensor,
        logq_positive: Tensor,  # noqa: ARG002  not corrected
        logq_negative: Tensor,  # noqa: ARG002
        hits: Tensor | None,
    ) -> Tensor:
        """Return a loss for each row."""
        losses: Tensor = sf.negative_sampling_loss(
            positive, negative, hits=hits, temperature=self.temperature, reduction="none"
        )
        return losses
