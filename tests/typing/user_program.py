"""What a user's type checker makes of calls; `tests/test_typing.py` gives it to mypy and pyright."""

from typing import Any, assert_type

import numpy as np
import torch
from numpy.typing import NDArray

import softmaxfam_rs as sf
from softmaxfam_rs.torch import CrossEntropyLoss, Entmax, EntmaxLoss, LogSoftmax, Softmax, Sparsemax
from softmaxfam_rs.torch import entmax as drop_in

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


def of_numpy(x: Floats, single: NDArray[np.float32], some: NDArray[Any], mask: NDArray[np.bool]) -> None:
    """NumPy in, NumPy out, of the same dtype."""
    assert_type(sf.softmax(x), Floats)
    assert_type(sf.softmax(single, axis=(0, 1), where=mask, temperature=0.5, out=single), NDArray[np.float32])
    assert_type(sf.log_softmax(some, axis=None), NDArray[Any])
    assert_type(sf.sparsemax(x, temperature=np.ones((3, 1))), Floats)
    assert_type(sf.entmax(x, 1.3, axis=0), Floats)
    assert_type(sf.entmax(single, alpha=np.array([[1.0], [2.0]])), NDArray[np.float32])
    assert_type(sf.normmax(x, 3), Floats)
    assert_type(sf.budget_sparsemax(x, 2.5), Floats)
    assert_type(sf.tsallis_entropy(x, 1.5), Floats)
    assert_type(sf.softmax_vjp(x, x, axis=0), Floats)
    assert_type(sf.log_softmax_vjp(x, x), Floats)
    assert_type(sf.logsumexp_vjp(x, x, x), Floats)
    assert_type(sf.entmax_vjp(x, x, 1.5), Floats)
    assert_type(sf.entmax_alpha_grad(x, x, alpha=1.5), Floats)


def of_numpy_with_several_results(x: Floats) -> None:
    """Results of several parts are named tuples of arrays."""
    assert_type(sf.logsumexp(x, keepdims=True), Floats)
    assert_type(sf.logsumexp(x, weights=[1, -1], return_sign=True), tuple[Floats, Floats])
    top = sf.top_log_probs(x, 3, axis=0)
    assert_type(top, sf.TopK[Floats, Ids])
    assert_type(top.log_probs, Floats)
    assert_type(top.indices, Ids)
    log_probs, _, _ = top
    assert_type(log_probs, Floats)
    assert_type(sf.entmax_threshold(x, 1.5).support_size, Ids)
    rows = sf.entmax_sparse(x, max_support=10)
    assert_type(rows.values, Floats)
    assert_type(rows.shape, tuple[int, int])
    assert_type(rows.to_dense(), Floats)


def losses(x: Floats, labels: Ids, t: torch.Tensor) -> None:
    """A loss, and a loss with its gradient, dense or sparse."""
    assert_type(sf.entmax_loss(x, labels, 1.3, reduction="none"), Floats)
    assert_type(sf.cross_entropy(t, t.argmax(-1), weight=t[0], ignore_index=-100), torch.Tensor)
    assert_type(sf.rankmax_loss(x, labels, margin=0.5), Floats)
    assert_type(sf.cross_entropy_and_grad(x, labels, label_smoothing=0.1), tuple[Floats, Floats])
    assert_type(sf.entmax_loss_and_grad(x, labels, 2), tuple[Floats, Floats])
    assert_type(sf.sparsemax_loss_and_grad(x, x, sparse_grad=True), tuple[Floats, sf.SparseRows[Floats, Ids]])
    assert_type(sf.normmax_loss_and_grad(t, t), tuple[torch.Tensor, torch.Tensor])
    assert_type(EntmaxLoss(1.3, weight=t[0]).forward(t, t.argmax(-1)), torch.Tensor)
    assert_type(CrossEntropyLoss(label_smoothing=0.1, dim=-1).forward(t, t, where=t > 0), torch.Tensor)
    assert_type(drop_in.entmax15_loss(t, t.argmax(-1)), torch.Tensor)


def of_numbers() -> None:
    """Numbers and lists are taken as NumPy takes them, integers too."""
    assert_type(sf.softmax([1.0, 2]), NDArray[Any])
    assert_type(sf.logsumexp(((0, 1), (2, 3)), axis=0), NDArray[Any])
    assert_type(sf.softmax(np.arange(3)), NDArray[Any])
    assert_type(sf.sparsemax(np.float32(1)), NDArray[Any])


def of_torch(t: torch.Tensor, parameter: torch.nn.Parameter) -> None:
    """Torch in, torch out."""
    assert_type(sf.softmax(t, axis=(0, 1), where=t > 0, out=t), torch.Tensor)
    assert_type(sf.softmax(parameter), torch.Tensor)
    assert_type(sf.entmax(t, alpha=parameter), torch.Tensor)
    assert_type(sf.logsumexp(t), torch.Tensor)
    assert_type(sf.logsumexp(t, return_sign=True), tuple[torch.Tensor, torch.Tensor])
    assert_type(sf.top_log_probs(t, 3).indices, torch.Tensor)
    assert_type(sf.entmax_threshold(t).normalizer, torch.Tensor)
    assert_type(sf.entmax_sparse(t).values, torch.Tensor)
    assert_type(sf.entmax_vjp(t, t, 1.5), torch.Tensor)
    assert_type(Entmax([1.2, 1.8], alpha_dim=1, learned=True).forward(t, where=t > 0), torch.Tensor)
    assert_type(Entmax().alpha, float | torch.Tensor)
    assert_type(Softmax(dim=None).forward(t), torch.Tensor)
    assert_type(LogSoftmax((0, 1), temperature=2).forward(t), torch.Tensor)
    assert_type(Sparsemax().forward(t), torch.Tensor)
    assert_type(drop_in.entmax_bisect(t, alpha=parameter, n_iter=30), torch.Tensor)


class Distances:
    """An array of some other library: a type checker needs to know its shape, its dtype and its arithmetic."""

    shape = (2, 3)
    dtype = "float64"

    def __neg__(self) -> "Distances":
        """Negate."""
        return self


def of_other_libraries(array: Distances) -> None:
    """An array of any other library in, one of it out."""
    assert_type(sf.softmax(array), Distances)
    assert_type(sf.top_log_probs(array, 2).log_probs, Distances)


def refused(x: Floats) -> None:
    """What no call takes; a checker that took it would call these comments unused."""
    sf.softmax(object())  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    sf.softmax(scores=x)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    sf.softmax(x, dim=0)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    sf.entmax(x, 1.5, 0)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    sf.softmax(x, temperature=None)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
