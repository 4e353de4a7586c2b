"""Hierarchical softmax: classes as the leaves of a binary tree, at the cost of a path instead of all classes."""

from __future__ import annotations

import math
import operator
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from . import _core, _safetensors
from ._results import IndexedRows, LinearGradients, TopK
from ._transfer import is_torch, like_array, to_count, to_host, to_integers, to_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._typing import Reduction

    AnyPath = str | os.PathLike[str]
    Array = Any  # of NumPy, or of another library

FORMAT = "softmaxfam hierarchical softmax 1"
REDUCTIONS = ("none", "mean", "sum")


class Tree(NamedTuple):
    """A binary tree of classes.

    Attributes
    ----------
    merges : array of int32, shape (n_classes - 1, 2)
        Ids below n_classes are classes; row i joins two ids into the id n_classes + i.
    parents : array of int32, shape (2 n_classes - 2,)
        Of each id but the last, which is the root: twice the row that names it, plus 1 where it is the second there.
    """

    merges: NDArray[np.int32]
    parents: NDArray[np.int32]

    @classmethod
    def of(cls, counts: Array, merges: Array) -> Tree:
        """Make Huffman's tree of counts, or the one that merges give."""
        if (counts is None) == (merges is None):
            raise ValueError("counts and tree are both given or both missing, must be one of them")
        if merges is None:
            if hasattr(counts, "values") and hasattr(counts, "keys"):
                counts = np.fromiter(counts.values(), np.float64, len(counts))
            found = _core.huffman(to_weights("counts", counts))
        else:
            host = to_integers("tree", merges)
            if host.ndim != 2 or host.shape[1] != 2:  # noqa: PLR2004  pairs
                raise ValueError(f"tree has shape {host.shape}, must be (n_classes - 1, 2): a row for each merge")
            found = np.clip(host, -1, np.iinfo(np.int32).max).astype(np.int32)
        return cls(found, _core.tree_parents(found))


class HierarchicalSoftmax:
    """Softmax along the paths of a tree: a loss and its gradient at the cost of one path, about log2(n_classes) rows.

    Another model than softmax over the scores of classes: a node v has a vector w_v, and sigmoid(<h, w_v> + b_v) is the
    probability of the second of its two branches. The probabilities of classes sum to 1
    for any numbers, and the gradient is exact.

    Parameters
    ----------
    counts : array of real numbers, shape (n_classes,), or a mapping to counts
        For Huffman's tree, whose frequent classes have short paths: finite and >= 0. Classes of count 0 are leaves too.
    width : int, optional
        The length of the vectors, which then start as zeros (p = 2**-length of the path).
    tree : array of int, shape (n_classes - 1, 2), optional
        In place of counts: row i joins two ids into the id n_classes + i, classes being the ids below n_classes; what
        `scipy.cluster.hierarchy.linkage` has in its first two columns, and scikit-learn in ``children_``.
    weight : array of float32, shape (n_classes - 1, width), optional
        The vectors of the nodes: a NumPy array or a tensor of torch. Float32 in C order is used in place, so that what
        is written there later counts; others are copied.
    bias : bool or array of float32, shape (n_classes - 1,), optional
        True starts with zeros.

    Attributes
    ----------
    weight : array of float32, shape (n_classes - 1, width)
        Row i belongs to row i of the tree; the last is the root.
    bias : array of float32, shape (n_classes - 1,), or None
    tree : array of int32, shape (n_classes - 1, 2)
    n_classes, width : int

    Notes
    -----
    Computed in float32, sums along paths in float64. Results have the same bits for any batch, number of threads and
    instruction set. The tree takes 16 bytes a class, whatever its depth, which may be n_classes - 1; the mean path of
    Huffman's is within 1 bit of the entropy of the counts. Sources: Huffman (1952); Morin, Bengio (2005), AISTATS;
    Mikolov, Sutskever, Chen, Corrado, Dean (2013), arXiv:1310.4546.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> model = sf.HierarchicalSoftmax([5, 1, 2, 8], width=3)
    >>> model.path_lengths()
    array([2, 3, 3, 1], dtype=int32)
    >>> h = np.ones((2, 3), dtype=np.float32)
    >>> loss, grad = model.loss_and_grad(h, [3, 1])
    >>> round(float(loss / np.log(2)), 6), grad.weight.indices
    (2.0, array([0, 1, 2]))
    >>> model.weight[grad.weight.indices] -= 0.5 * grad.weight.values
    >>> bool(model.loss(h, [3, 1]) < loss)
    True
    """

    def __init__(
        self,
        counts: Array | None = None,
        /,
        width: int | None = None,
        *,
        tree: Array | None = None,
        weight: Array | None = None,
        bias: Array | bool | None = None,
    ) -> None:
        self._tree = Tree.of(counts, tree)
        nodes = len(self._tree.merges)
        if (width is None) == (weight is None):
            raise ValueError("width and weight are both given or both missing, must be one of them")
        if width is not None:
            weight = np.zeros((nodes, to_count("width", width)), np.float32)
        self.weight = _numbers("weight", weight)
        if self.weight.ndim != 2 or self.weight.shape[0] != nodes or self.weight.shape[1] < 1:  # noqa: PLR2004
            raise ValueError(
                f"weight has shape {tuple(self.weight.shape)}, must be ({nodes}, width): a row for each node, "
                f"one fewer than the {nodes + 1} classes"
            )
        if bias is None or bias is False:
            self.bias = None
        else:
            self.bias = np.zeros(nodes, np.float32) if bias is True else _numbers("bias", bias)
            if tuple(self.bias.shape) != (nodes,):
                raise ValueError(f"bias has shape {tuple(self.bias.shape)}, must be ({nodes},): one for each node")

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return len(self._tree.merges) + 1

    @property
    def width(self) -> int:
        """The length of the vectors of the nodes and of queries."""
        return int(self.weight.shape[1])

    @property
    def tree(self) -> NDArray[np.int32]:
        """The merges: row i joins two ids into the id n_classes + i."""
        return self._tree.merges

    def path_lengths(self) -> NDArray[np.int32]:
        """Return the number of nodes on the path of each class.

        Examples
        --------
        >>> import softmaxfam_rs as sf
        >>> sf.HierarchicalSoftmax([1, 1, 1, 1], width=1).path_lengths()
        array([2, 2, 2, 2], dtype=int32)
        """
        return _core.tree_path_lengths(self._tree.parents)

    def log_prob(self, h: Array, target: Array, /) -> Array:
        """Return the log-probability of a class for each query.

        Parameters
        ----------
        h : array of real numbers, shape (..., width)
            Queries, taken in float32.
        target : array of int, shape (...)

        Returns
        -------
        array of float32, shape (...)
            Of the library of `h`. For tensors of torch it is differentiable, as `loss` is.

        Raises
        ------
        TypeError
            For queries or targets of a type that is not accepted.
        ValueError
            For a shape that does not fit, or a class that does not exist.

        Examples
        --------
        >>> import numpy as np, softmaxfam_rs as sf
        >>> np.exp(sf.HierarchicalSoftmax([2, 1, 1], width=2).log_prob(np.ones((1, 2)), [0]))
        array([0.5], dtype=float32)
        """
        return -self.loss(h, target, reduction="none")

    def loss(
        self, h: Array, target: Array, /, *, reduction: Reduction = "mean", ignore_index: int | None = None
    ) -> Array:
        """Return the negative log-probability of each query's class, reduced.

        Parameters
        ----------
        h : array of real numbers, shape (..., width)
            Queries, taken in float32. A tensor of torch gives a loss that autograd differentiates with respect to it,
            and to `weight` and `bias` where they are tensors that require grad.
        target : array of int, shape (...)
            A class for each query.
        reduction : {"mean", "sum", "none"}, default "mean"
        ignore_index : int, optional
            Queries with this class id count nothing, whatever their numbers; it need be no class.

        Returns
        -------
        array of float32
            One number, or with reduction "none" one for each query.

        Raises
        ------
        TypeError
            For queries or targets of a type that is not accepted.
        ValueError
            For a shape or an option that does not fit, or a class that does not exist.
        """
        if self._is_of_torch(h):
            return self._of_torch().loss(*self._tensors(h, target), ignore_index, reduction)
        rows, classes, shape = self._queries(h, target)
        _checked(reduction)
        losses, _ = _core.tree_loss(self._nodes(), rows, classes, ignore_index, None, None, False)
        return like_array(h)(_reduced(losses, classes, shape, reduction, ignore_index))

    def loss_and_grad(
        self, h: Array, target: Array, /, *, reduction: Reduction = "mean", ignore_index: int | None = None
    ) -> tuple[Array, LinearGradients[Any]]:
        """Return `loss` and its gradients, those of the nodes by the rows that a path touches.

        Parameters
        ----------
        h, target, reduction, ignore_index
            As for `loss`.

        Returns
        -------
        tuple
            The loss, and `LinearGradients` of the queries, of `weight` and of `bias`, the last two as `IndexedRows`;
            with reduction "none" those of the sum.

        Raises
        ------
        TypeError
            For queries or targets of a type that is not accepted.
        ValueError
            For a shape or an option that does not fit, or a class that does not exist.

        Examples
        --------
        >>> import numpy as np, softmaxfam_rs as sf
        >>> model = sf.HierarchicalSoftmax(np.ones(1000), width=4, bias=True)
        >>> loss, grad = model.loss_and_grad(np.ones((1, 4)), [7])
        >>> grad.weight.values.shape, grad.weight.shape, grad.bias.values.shape
        ((10, 4), (999, 4), (10,))
        """
        rows, classes, shape = self._queries(h, target)
        _checked(reduction)
        factors = _factors(classes, reduction, ignore_index)
        of_rows = np.empty_like(rows)
        back = like_array(h)
        losses, touched = _core.tree_loss(self._nodes(), rows, classes, ignore_index, factors, of_rows, True)
        assert touched is not None  # noqa: S101  asked for
        nodes, values, biases = touched
        count = len(self._tree.merges)
        of_bias: Any = None if self.bias is None else IndexedRows(back(nodes), back(biases), (count,))
        gradients: LinearGradients[Any] = LinearGradients(
            back(of_rows.reshape(*shape, self.width)),
            IndexedRows(back(nodes), back(values), (count, self.width)),
            of_bias,
        )
        return back(_reduced(losses, classes, shape, reduction, ignore_index)), gradients

    def log_probs(self, h: Array, /) -> Array:
        """Return the log-probabilities of all classes, at the cost of all nodes.

        Parameters
        ----------
        h : array of real numbers, shape (..., width)

        Returns
        -------
        array of float32, shape (..., n_classes)

        Examples
        --------
        >>> import numpy as np, softmaxfam_rs as sf
        >>> np.exp(sf.HierarchicalSoftmax([2, 1, 1], width=2).log_probs(np.ones(2)))
        array([0.5 , 0.25, 0.25], dtype=float32)
        """
        rows, shape = self._rows(h)
        found = _core.tree_log_probs(self._nodes(), rows)
        return like_array(h)(found.reshape(*shape, self.n_classes))

    def top_log_probs(self, h: Array, k: int, /) -> TopK[Any, Any]:
        """Return the k most probable classes of each query, exactly, without the others: by best-first search.

        A probability only falls along a path, so of the nodes reached the best is opened next until k classes came up.
        The cost is the number of nodes that are no less probable than the k-th class: few where the distribution is
        peaked, all of them where it is flat.

        Parameters
        ----------
        h : array of real numbers, shape (..., width)
        k : int
            From 1 to `n_classes`.

        Returns
        -------
        TopK
            `log_probs` and `indices`, of shape (..., k), equal ones by the lower class; `logsumexp` is 0, for the
            probabilities are normalised. A query that meets a NaN gets NaN and -1.

        Examples
        --------
        >>> import numpy as np, softmaxfam_rs as sf
        >>> sf.HierarchicalSoftmax([2, 1, 1], width=2).top_log_probs(np.ones(2), 2).indices
        array([0, 1])
        """
        rows, shape = self._rows(h)
        count = operator.index(k)
        if not 1 <= count <= self.n_classes:
            raise ValueError(f"k is {k}, must lie in [1, {self.n_classes}], the number of classes")
        log_probs, indices = _core.tree_top(self._nodes(), self._tree.merges, rows, count)
        back = like_array(h)
        zeros = np.where(np.isnan(log_probs[:, 0]), np.float32(np.nan), np.float32(0))
        found = (log_probs.reshape(*shape, count), indices.reshape(*shape, count), zeros.reshape(shape))
        return TopK(*map(back, found))

    def save(self, path: AnyPath, /) -> None:
        """Write tree, weight and bias to one .safetensors file, which is never half-written.

        Examples
        --------
        >>> import tempfile, softmaxfam_rs as sf
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sf.HierarchicalSoftmax([2, 1, 1], width=2, bias=True).save(f"{folder}/model.safetensors")
        ...     sf.HierarchicalSoftmax.load(f"{folder}/model.safetensors")
        <HierarchicalSoftmax: 3 classes, width 2, bias>
        """
        if Path(path).suffix != ".safetensors":
            raise ValueError(f"{os.fspath(path)} is the path, must end in .safetensors")
        weight, bias, _ = self._nodes()
        tensors = {"tree": ("I32", self._tree.merges), "weight": ("F32", weight)}
        if bias is not None:
            tensors["bias"] = ("F32", bias)
        _safetensors.write(path, tensors, {"format": FORMAT})

    @classmethod
    def load(cls, path: AnyPath, /) -> Self:
        """Read what `save` wrote, into arrays of NumPy.

        Raises
        ------
        OSError
            Where the file cannot be opened.
        ValueError
            Where it is damaged, or something else.
        """
        needed = {"tree": "I32", "weight": "F32"}
        parts, _ = _safetensors.read_model(path, FORMAT, needed, {"bias": "F32"}, cls.__name__)
        try:
            return cls(tree=parts["tree"], weight=parts["weight"], bias=parts.get("bias"))
        except ValueError as error:
            raise _safetensors.damaged(path, str(error)) from error

    def __getstate__(self) -> dict[str, Any]:
        return {"tree": self._tree.merges, "weight": self.weight, "bias": self.bias}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._tree = Tree.of(None, state["tree"])
        self.weight, self.bias = state["weight"], state["bias"]

    def __repr__(self) -> str:
        bias = "" if self.bias is None else ", bias"
        return f"<{type(self).__name__}: {self.n_classes} classes, width {self.width}{bias}>"

    def _nodes(self) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.int32]]:
        """Return what the core takes."""
        weight = np.ascontiguousarray(to_host("weight", self.weight))
        bias = None if self.bias is None else np.ascontiguousarray(to_host("bias", self.bias))
        return weight, bias, self._tree.parents

    def _rows(self, h: Array) -> tuple[NDArray[np.float32], tuple[int, ...]]:
        queries = to_host("h", h)
        if queries.dtype.kind not in "iufb" and queries.dtype.name != "bfloat16":
            raise TypeError(f"h has dtype {queries.dtype}, must be real; convert it to numpy.float32")
        if queries.ndim == 0 or queries.shape[-1] != self.width:
            raise ValueError(f"h has shape {queries.shape}, must have {self.width} numbers along its last axis")
        rows = np.ascontiguousarray(queries, np.float32).reshape(-1, self.width)
        return rows, queries.shape[:-1]

    def _queries(self, h: Array, target: Array) -> tuple[NDArray[np.float32], NDArray[np.int64], tuple[int, ...]]:
        rows, shape = self._rows(h)
        classes = to_integers("target", target)
        if classes.shape != shape:
            raise ValueError(f"target has shape {classes.shape}, must have shape {shape}, a class id for each query")
        return rows, classes.reshape(-1), shape

    def _is_of_torch(self, h: Array) -> bool:
        return is_torch(h) or is_torch(self.weight)

    def _of_torch(self) -> Any:  # noqa: ANN401  a module
        from ._torch import hierarchical  # noqa: PLC0415  slow to import

        return hierarchical

    def _tensors(self, h: Array, target: Array) -> tuple[Any, ...]:
        import torch  # noqa: PLC0415  slow to import

        from ._torch.arguments import as_tensor  # noqa: PLC0415

        cpu = torch.device("cpu")
        h = as_tensor(h if is_torch(h) else np.asarray(h, np.float32), cpu)
        bias = None if self.bias is None else as_tensor(self.bias, cpu)
        return h, as_tensor(self.weight, cpu), bias, torch.from_numpy(self._tree.parents), as_tensor(target, cpu)


def _numbers(name: str, array: Array) -> Array:
    """Return numbers as float32 in C order: tensors on the CPU as tensors, others of NumPy."""
    if is_torch(array):
        tensor = array
        if tensor.device.type != "cpu":
            raise ValueError(f"{name} is on {tensor.device}, must be on the CPU; the module of torch takes others")
        return tensor.float().contiguous()
    host = to_host(name, array)
    if host.dtype.kind not in "iufb" and host.dtype.name != "bfloat16":
        raise TypeError(f"{name} has dtype {host.dtype}, must be real; convert it to numpy.float32")
    return np.ascontiguousarray(host, np.float32)


def _checked(reduction: str) -> None:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}, must be 'none', 'mean' or 'sum'")


def _count(classes: NDArray[np.int64], ignore_index: int | None) -> int:
    """Return how many queries count."""
    return classes.size if ignore_index is None else int(np.count_nonzero(classes != ignore_index))


def _factors(classes: NDArray[np.int64], reduction: str, ignore_index: int | None) -> NDArray[np.float64] | None:
    if reduction != "mean":
        return None
    return np.full(classes.shape, 1 / max(1, _count(classes, ignore_index)))


def _reduced(
    losses: NDArray[np.float64],
    classes: NDArray[np.int64],
    shape: tuple[int, ...],
    reduction: str,
    ignore_index: int | None,
) -> Any:  # noqa: ANN401  an array or a number
    """Return losses in float32, as asked for; the mean of none is NaN."""
    if reduction == "none":
        return losses.astype(np.float32).reshape(shape)
    total = float(losses.sum())
    if reduction == "mean":
        count = _count(classes, ignore_index)
        total = total / count if count else math.nan
    return np.float32(total)
