"""Measure losses with their gradients beside torch and the entmax package, arrays of NumPy and tensors.

    python benches/losses.py [--quick] [--threads 1,2] [--only PATTERN] [--json FILE] [--plot FILE]

What the columns mean: `measure.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

import softmaxfam_rs as sf
from measure import Case, console, main
from softmaxfam_rs.torch import CrossEntropyLoss, EntmaxLoss, SparsemaxLoss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

try:
    import entmax
except ModuleNotFoundError:
    entmax = None


def cases(*, quick: bool) -> Iterator[Case]:
    """Yield the cases: mean losses of 256 rows of 32768 classes, of which one is the target, in float32."""
    less = 50 if quick else 1
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 32768 // less, generator=generator)
    labels = torch.randint(x.shape[1], (256,), generator=generator)
    yield from beside_torch(x, labels)
    if entmax is None:
        console.print("the entmax package is not installed: its cases are left out")
        return
    yield from beside_entmax(x, labels)
    yield forward_and_backward(x, labels)


def beside_torch(x: torch.Tensor, labels: torch.Tensor) -> Iterator[Case]:
    array, ids = x.numpy(), labels.numpy()
    plain, smoothed = (torch.nn.CrossEntropyLoss(label_smoothing=share) for share in (0.0, 0.1))
    ours = lambda: sf.cross_entropy_and_grad(array, ids)  # noqa: E731
    yield Case(f"cross_entropy_and_grad {size(x)}", ours, "torch", step(plain, x, labels), 1.5)
    ours = lambda: sf.cross_entropy_and_grad(array, ids, label_smoothing=0.1)  # noqa: E731
    yield Case(f"cross_entropy_and_grad, smoothed {size(x)}", ours, "torch", step(smoothed, x, labels), 1.0)
    ours = step(CrossEntropyLoss(), x, labels)
    yield Case(f"CrossEntropyLoss, forward and backward {size(x)}", ours, "torch", step(plain, x, labels), 1.5)


def beside_entmax(x: torch.Tensor, labels: torch.Tensor) -> Iterator[Case]:
    array, ids = x.numpy(), labels.numpy()
    half, two = (step(module(), x, labels) for module in (entmax.Entmax15Loss, entmax.SparsemaxLoss))
    ours = lambda: sf.entmax_loss_and_grad(array, ids)  # noqa: E731
    yield Case(f"entmax_loss_and_grad 1.5 {size(x)}", ours, "entmax", full_sort(x, labels), 50, rounds=3)
    yield Case(f"entmax_loss_and_grad 1.5 {size(x)}, k=100", ours, "entmax", half, 1, rounds=3)
    ours = lambda: sf.sparsemax_loss_and_grad(array, ids)  # noqa: E731
    yield Case(f"sparsemax_loss_and_grad {size(x)}", ours, "entmax", two, 50, rounds=3)
    ours, peer = step(EntmaxLoss(), x, labels), full_sort(x, labels)
    yield Case(f"EntmaxLoss, forward and backward {size(x)}", ours, "entmax", peer, 40, rounds=3)
    yield Case(
        f"SparsemaxLoss, forward and backward {size(x)}", step(SparsemaxLoss(), x, labels), "entmax", two, 40, rounds=3
    )


def full_sort(x: torch.Tensor, labels: torch.Tensor) -> Callable[[], Any]:
    """Return a call of the package's loss as its function does it, without a guess of the support."""
    return step(lambda scores, ids: entmax.entmax15_loss(scores, ids).mean(), x, labels)


def forward_and_backward(x: torch.Tensor, labels: torch.Tensor) -> Case:
    """The gradient beside the loss alone: at most twice it, for it is one pass and the writing of zeros."""
    array, ids = x.numpy(), labels.numpy()
    ours, alone = lambda: sf.entmax_loss_and_grad(array, ids, sparse_grad=True), lambda: sf.entmax_loss(array, ids)
    return Case(f"entmax_loss_and_grad, sparse {size(x)}", ours, "the loss alone", alone, 2.0, at_most=True)


def step(loss: Callable[..., torch.Tensor], x: torch.Tensor, labels: torch.Tensor) -> Callable[[], Any]:
    """Return a call of a loss and of its gradient."""
    leaf = x.clone().requires_grad_()

    def run() -> None:
        torch.autograd.grad(loss(leaf, labels), leaf)

    return run


def size(x: torch.Tensor) -> str:
    return "x".join(map(str, x.shape))


if __name__ == "__main__":
    main(__doc__ or "", cases)
