"""Hierarchical softmax as the last layer and the loss of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

import softmaxfam_rs as sf
from softmaxfam_rs._hierarchical import Tree
from softmaxfam_rs._torch.hierarchical import loss

if TYPE_CHECKING:
    from softmaxfam_rs._results import TopK
    from softmaxfam_rs._typing import Reduction


class HierarchicalSoftmax(nn.Module):
    """The layer and the loss of `softmaxfam_rs.HierarchicalSoftmax`: a step costs the paths of its targets.

    Parameters
    ----------
    counts : array or Tensor of real numbers, shape (n_classes,), optional
        For Huffman's tree: finite and >= 0.
    in_features : int
        The length of queries.
    bias : bool, default True
    tree : array or Tensor of int, shape (n_classes - 1, 2), optional
        In place of counts, as for `softmaxfam_rs.HierarchicalSoftmax`.
    sparse : bool, default False
        Give `weight` a sparse gradient of the rows on the paths, as `torch.nn.Embedding` has it: without it each step
        writes a gradient for all nodes. For optimisers that take such: SGD, Adagrad and SparseAdam.
    ignore_index : int, default -100
        Queries with this class id count nothing.
    reduction : {"mean", "sum", "none"}, default "mean"
    device, dtype
        Of the parameters. Float32 and smaller on the CPU is computed by the core.

    Attributes
    ----------
    weight : Parameter, shape (n_classes - 1, in_features)
        Starts as zeros.
    bias : Parameter, shape (n_classes - 1,), or None
    tree : Tensor of int32, shape (n_classes - 1, 2)
        In the state of the module, as are the parameters.

    Examples
    --------
    >>> import torch
    >>> from softmaxfam_rs.torch import HierarchicalSoftmax
    >>> layer = HierarchicalSoftmax(torch.arange(1, 1001), 8, sparse=True)
    >>> h, target = torch.randn(4, 8), torch.tensor([1, 2, 3, -100])
    >>> layer(h, target).backward()
    >>> layer.weight.grad.is_sparse, layer.weight.grad.shape
    (True, torch.Size([999, 8]))
    >>> layer.top_log_probs(h, 3).indices.shape
    torch.Size([4, 3])
    """

    bias: nn.Parameter | None
    tree: Tensor
    parents: Tensor

    def __init__(
        self,
        counts: Any,  # noqa: ANN401  an array of any library
        in_features: int,
        *,
        bias: bool = True,
        tree: Any = None,  # noqa: ANN401
        sparse: bool = False,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        device: Any = None,  # noqa: ANN401
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if in_features < 1:
            raise ValueError(f"in_features is {in_features}, must be 1 or more")
        if reduction not in {"none", "mean", "sum"}:
            raise ValueError(f"reduction is {reduction!r}, must be 'none', 'mean' or 'sum'")
        merges, parents = map(torch.from_numpy, Tree.of(counts, tree))
        self.register_buffer("tree", merges.to(device))
        self.register_buffer("parents", parents.to(device), persistent=False)
        nodes = len(merges)
        self.weight = nn.Parameter(torch.zeros(nodes, in_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(nodes, device=device, dtype=dtype)) if bias else None
        self.sparse, self.ignore_index, self.reduction = sparse, ignore_index, reduction
        self.register_load_state_dict_post_hook(_find_parents)  # type: ignore[no-untyped-call]

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return len(self.weight) + 1

    @property
    def in_features(self) -> int:
        """The length of queries."""
        return self.weight.shape[1]

    def forward(self, h: Tensor, target: Tensor) -> Tensor:
        """Return the loss of queries (..., in_features) and the classes that they should have."""
        return loss(
            h,
            self.weight,
            self.bias,
            self.parents,
            target,
            self.ignore_index,
            self.reduction,
            sparse=self.sparse,
        )

    def log_prob(self, h: Tensor, target: Tensor) -> Tensor:
        """Return the log-probability of a class for each query, with its gradient."""
        return -loss(h, self.weight, self.bias, self.parents, target, None, "none", sparse=self.sparse)

    @torch.no_grad()
    def log_probs(self, h: Tensor) -> Tensor:
        """Return the log-probabilities of all classes, without a gradient."""
        found: Tensor = self._model().log_probs(h.detach())
        return found

    @torch.no_grad()
    def top_log_probs(self, h: Tensor, k: int) -> TopK[Tensor, Tensor]:
        """Return the k most probable classes, as `softmaxfam_rs.HierarchicalSoftmax.top_log_probs`."""
        return self._model().top_log_probs(h.detach(), k)

    def _model(self) -> sf.HierarchicalSoftmax:
        """Return the model of NumPy over the present parameters."""
        model = sf.HierarchicalSoftmax.__new__(sf.HierarchicalSoftmax)
        parts = (self.weight, self.bias)
        model.weight, model.bias = (
            None if part is None else part.detach().cpu().float().contiguous().numpy() for part in parts
        )
        model._tree = Tree(self.tree.cpu().numpy(), self.parents.cpu().numpy())  # noqa: SLF001  of this package
        return model

    def extra_repr(self) -> str:
        """Return sizes and options."""
        sizes = f"n_classes={self.n_classes}, in_features={self.in_features}, bias={self.bias is not None}"
        return f"{sizes}, sparse={self.sparse}, ignore_index={self.ignore_index}, reduction={self.reduction!r}"


def _find_parents(module: HierarchicalSoftmax, _: object) -> None:
    """Follow a tree that was loaded."""
    found = torch.from_numpy(Tree.of(None, module.tree).parents)
    module.parents.copy_(found)
