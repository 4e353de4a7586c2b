"""The linear head over the parameters of a `torch.nn.Linear`, for inference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import softmaxfam_rs as sf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from softmaxfam_rs._results import Scores, SparseRows


class LinearHead(nn.Module):
    """Top-k with log-probabilities, entmax and draws from the last layer of a model, without the matrix of its logits.

    For inference: it has no gradient, and says so where one is asked for. Train with the layer itself.

    Parameters
    ----------
    linear : torch.nn.Linear
        The layer from queries to classes, on the CPU. Its parameters are read in place: what an optimiser or
        ``load_state_dict`` writes to them is seen at the next call.
    dtype : {"float32", "float16", "bfloat16", "int8"}, optional
        The type that the matrix is held in; another than that of the layer is a copy, made anew after the layer
        changed, but for a layer made in inference mode, whose changes torch does not count.
    temperature : float, default 1.0
        Scores are divided by it.

    Raises
    ------
    TypeError
        If `linear` is no `torch.nn.Linear`.
    ValueError
        If its parameters are not on the CPU.

    Examples
    --------
    >>> import torch
    >>> from softmaxfam_rs.torch import LinearHead
    >>> layer = torch.nn.Linear(3, 1000)
    >>> head = LinearHead(layer)
    >>> with torch.no_grad():
    ...     h = torch.randn(2, 3)
    ...     found, expected = head(h, k=5), torch.log_softmax(layer(h), -1).topk(5)
    >>> torch.testing.assert_close(found.log_probs, expected.values)
    >>> found.indices.dtype, tuple(found.logsumexp.shape)
    (torch.int64, (2,))
    """

    def __init__(self, linear: nn.Linear, *, dtype: str | None = None, temperature: float = 1.0) -> None:
        super().__init__()
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"linear is a {type(linear).__name__}, must be a torch.nn.Linear; wrap a matrix in one")
        self.linear = linear
        self.dtype, self.temperature = dtype, temperature
        self._made: tuple[object, sf.LinearHead] | None = None
        self.head()

    def head(self) -> sf.LinearHead:
        """Return the head of NumPy over the present parameters."""
        weight, bias = self.linear.weight, self.linear.bias
        if weight.device.type != "cpu":
            raise ValueError(f"the layer is on {weight.device}, must be on the CPU; call cpu() on it first")
        # a changed bias or a copied matrix is known by its version; what is read in place needs none, but has one too
        key = tuple((tensor.data_ptr(), _version(tensor)) for tensor in (weight, bias) if tensor is not None)
        if self._made is None or self._made[0] != key:
            rows = weight.detach()
            biases = None if bias is None else bias.detach()
            self._made = key, sf.LinearHead(rows, biases, dtype=self.dtype, temperature=self.temperature)
        return self._made[1]

    def forward(
        self,
        h: Tensor,
        k: int = 10,
        *,
        target: Tensor | None = None,
        where: Tensor | None = None,
        exclude: Tensor | Sequence[Sequence[int]] | None = None,
        rescore: bool = False,
    ) -> Scores[Tensor, Tensor]:
        """Return the k most probable classes of each query, as `softmaxfam_rs.LinearHead.score`."""
        head = self._asked(h)
        return head.score(h, k, target=target, where=where, exclude=exclude, rescore=rescore)

    def logsumexp(self, h: Tensor, **options: Any) -> Tensor:  # noqa: ANN401  passed on
        """Return log sum_i exp(score_i / T) of each query, as `softmaxfam_rs.LinearHead.logsumexp`."""
        found: Tensor = self._asked(h).logsumexp(h, **options)
        return found

    def entmax(self, h: Tensor, alpha: float = 1.5, **options: Any) -> SparseRows[Tensor, Tensor]:  # noqa: ANN401
        """Return entmax of the scores without its zeros, as `softmaxfam_rs.LinearHead.entmax`, in tensors."""
        found = self._asked(h).entmax(h, alpha, **options)
        indptr, indices, values = map(torch.from_numpy, found[:3])
        return sf.SparseRows(indptr, indices, values, found.shape)

    def logits(self, h: Tensor, **options: Any) -> Tensor:  # noqa: ANN401
        """Return all scores over the temperature, as `softmaxfam_rs.LinearHead.logits`."""
        found: Tensor = self._asked(h).logits(h, **options)
        return found

    def sample(self, h: Tensor, m: int, *, rng: Any, **options: Any) -> sf.Samples:  # noqa: ANN401
        """Draw m classes of each query, as `softmaxfam_rs.LinearHead.sample`."""
        return self._asked(h).sample(h, m, rng=rng, **options)

    def extra_repr(self) -> str:
        """Return what the module adds to its layer."""
        return ", ".join(
            [f"dtype={self.dtype}"] * (self.dtype is not None)
            + [f"temperature={self.temperature}"] * (self.temperature != 1)
        )

    def _asked(self, h: Tensor) -> sf.LinearHead:
        if not isinstance(h, torch.Tensor):
            raise TypeError(f"h is a {type(h).__name__}, must be a tensor; convert it with torch.as_tensor")
        if h.requires_grad and torch.is_grad_enabled():
            raise RuntimeError(
                "h requires grad, but LinearHead has no gradient, must be called for inference; "
                "use torch.no_grad(), or h.detach(), and train with the layer itself"
            )
        return self.head()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_made": None}


def _version(tensor: Tensor) -> int:
    """Return how often a tensor was written to, as far as torch counts it."""
    return 0 if tensor.is_inference() else tensor._version  # noqa: SLF001  there is no public name
