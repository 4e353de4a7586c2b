"""Softmax and its relatives off the core by torch's own kernels, of one class axis and without options.

On a GPU these read the scores once where the array calls read them several times. Each gives what the contract says of
rows with NaN, with +inf and with nothing but -inf; logsumexp is max - log p of the largest class, whose
log p = -log sum exp(x - max) has all its digits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from . import formulas

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def is_fused(
    scores: Tensor, where: Tensor | None, temperatures: Tensor | None, temperature: float, axes: object
) -> bool:
    """Whether the functions here compute this call."""
    is_bare = where is None and temperatures is None and temperature == 1.0
    return is_bare and len(axes) == 1 and scores.ndim > 0 and scores.shape[axes[0]] > 0  # type: ignore[arg-type, index]


def softmax(scores: Tensor, axes: Sequence[int]) -> Tensor:
    return torch.softmax(scores, axes[0])


def log_softmax(scores: Tensor, axes: Sequence[int]) -> Tensor:
    return torch.log_softmax(scores, axes[0])


def logsumexp(scores: Tensor, keepdims: bool, axes: Sequence[int]) -> Tensor:
    (axis,) = axes
    (wide,) = formulas.widened(scores)
    highest, place = wide.max(axis, keepdim=True)
    result = highest - torch.log_softmax(wide, axis).gather(axis, place)
    result = torch.where(highest.isfinite(), result, highest).to(scores.dtype)
    return result if keepdims else result.squeeze(axis)


def softmax_vjp(p: Tensor, g: Tensor, axes: Sequence[int]) -> Tensor:
    wide, g = formulas.widened(p, g)
    g = torch.where(wide == 0, 0, g)
    return torch._softmax_backward_data(g, wide, axes[0], wide.dtype).to(p.dtype)  # noqa: SLF001  an operator, if not a function


def log_softmax_vjp(log_p: Tensor, g: Tensor, axes: Sequence[int]) -> Tensor:
    wide, g = formulas.widened(log_p, g)
    g = torch.where(wide == -torch.inf, 0, g)
    return torch._log_softmax_backward_data(g, wide, axes[0], wide.dtype).to(log_p.dtype)  # noqa: SLF001


def logsumexp_vjp(scores: Tensor, lse: Tensor, g: Tensor, _: Sequence[int]) -> Tensor:
    wide, lse, g = formulas.widened(scores, lse, g)
    p = (wide - torch.where(lse == -torch.inf, torch.inf, lse)).exp_()  # 0 in rows without a class
    return p.mul_(g).to(scores.dtype)
