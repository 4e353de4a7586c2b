"""What functions with several results return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, cast

import numpy as np

from ._transfer import is_torch, to_host
from ._typing import A, Ids

if TYPE_CHECKING:
    from ._typing import Array


class TopK(NamedTuple, Generic[A, Ids]):
    """The k most probable classes of each row, in descending order.

    Attributes
    ----------
    log_probs : array
        Log-probabilities; -inf in slots beyond the classes present.
    indices : array of int64
        Classes; -1 in such slots.
    logsumexp : array
        log sum_i exp(x_i / T) of each row.
    """

    log_probs: A
    indices: Ids
    logsumexp: A


class Scores(NamedTuple, Generic[A, Ids]):
    """The k most probable classes of each query of a head, in descending order.

    Attributes
    ----------
    log_probs : array of float32, shape (..., k)
        Log-probabilities; -inf in slots beyond the classes present.
    indices : array of int64, shape (..., k)
        Classes; -1 in such slots.
    logsumexp : array of float32, shape (...)
        log sum_i exp(score_i / T) of each query.
    target_log_prob : array of float32, shape (...), or None
        The log-probability of each query's target, where targets were given.
    candidates : array of int64, shape (...), or None
        With ``rescore=True``: how many classes were scored again in float32.
    """

    log_probs: A
    indices: Ids
    logsumexp: A
    target_log_prob: A | None = None
    candidates: Ids | None = None


class Threshold(NamedTuple, Generic[A, Ids]):
    """The threshold of entmax of each row: p_i = [1 + (alpha-1)(x_i/T - normalizer)]_+^(1/(alpha-1)).

    Attributes
    ----------
    normalizer : array
        At alpha = 1 it is logsumexp.
    support_size : array of int64
        The number of classes with a positive probability.
    log_p_max : array
        The logarithm of the largest probability; it keeps its digits for every alpha.
    """

    normalizer: A
    support_size: Ids
    log_p_max: A

    def tau(self, alpha: Array) -> Array:
        """Return the threshold of the literature: p_i = [(alpha-1) x_i/T - tau]_+^(1/(alpha-1)).

        Parameters
        ----------
        alpha : float or array
            As given to `entmax_threshold`; an array without the axis of classes.

        Examples
        --------
        >>> import numpy as np, softmaxfam_rs as sf
        >>> float(sf.entmax_threshold(np.array([1.0, 0.5, -1.0]), 2.0).tau(2.0))
        0.25
        """
        normalizer: Array = self.normalizer
        if isinstance(normalizer, np.ndarray | np.generic):
            return np.asarray((np.asarray(alpha) - 1) * normalizer - 1, dtype=normalizer.dtype)
        from array_api_compat import array_namespace  # noqa: PLC0415  slow to import

        tau = (alpha - 1) * normalizer - 1
        return array_namespace(tau).astype(tau, normalizer.dtype, copy=False)


class SparseRows(NamedTuple, Generic[A, Ids]):
    """Rows of probabilities without their zeros, in compressed sparse rows (CSR).

    Row r has the classes ``indices[indptr[r]:indptr[r + 1]]``, ascending, with their probabilities in ``values``.

    Attributes
    ----------
    indptr : array of int64, shape (rows + 1,)
    indices : array of int64
    values : array
    shape : tuple
        (rows, classes); rows of a scores array with more axes are counted in C order, the class axis taken out.
    """

    indptr: Ids
    indices: Ids
    values: A
    shape: tuple[int, int]

    def to_dense(self) -> A:
        """Return the array of shape `shape`, zeros included.

        Examples
        --------
        >>> import numpy as np, softmaxfam_rs as sf
        >>> sf.entmax_sparse(np.array([[5.0, 0.0], [1.0, 1.0]]), 2.0).to_dense()
        array([[1. , 0. ],
               [0.5, 0.5]])
        """
        return cast("A", _dense(*self))

    def to_scipy(self) -> Any:  # noqa: ANN401  SciPy is optional and untyped
        """Return a `scipy.sparse.csr_array`, over the same memory where that is the host's."""
        from scipy.sparse import csr_array  # noqa: PLC0415  optional, and slow to import

        values, indices, indptr = (to_host(name, getattr(self, name)) for name in ("values", "indices", "indptr"))
        return csr_array((values, indices, indptr), shape=self.shape)

    def to_torch(self) -> Any:  # noqa: ANN401  torch is optional and untyped
        """Return a `torch.sparse_csr_tensor` over the same memory."""
        import torch  # noqa: PLC0415  optional, and slow to import
        from torch.utils.dlpack import from_dlpack  # noqa: PLC0415

        parts: list[Array] = [self.indptr, self.indices, self.values]
        indptr, indices, values = parts if is_torch(self.values) else map(from_dlpack, parts)
        return torch.sparse_csr_tensor(indptr, indices, values, size=self.shape, check_invariants=False)  # they hold


class IndexedRows(NamedTuple, Generic[A, Ids]):
    """The rows of a matrix that a gradient touches; all others are 0.

    Attributes
    ----------
    indices : array of int64, shape (rows,)
        Ascending, each once: ``weight[indices] -= rate * values`` is a step of gradient descent.
    values : array, shape (rows, columns), or (rows,) of a vector
    shape : tuple
        That of the whole matrix or vector.
    """

    indices: Ids
    values: A
    shape: tuple[int, ...]

    def to_dense(self) -> A:
        """Return the whole matrix, zeros included.

        Examples
        --------
        >>> import numpy as np, softmaxfam_rs as sf
        >>> sf.IndexedRows(np.array([1]), np.array([[2.0, 3.0]]), (3, 2)).to_dense()
        array([[0., 0.],
               [2., 3.],
               [0., 0.]])
        """
        if is_torch(self.values):
            dense: Array = cast("Any", self.values).new_zeros(self.shape)
        else:
            dense = np.zeros(self.shape, dtype=cast("Any", self.values).dtype)
        dense[self.indices] = self.values
        return cast("A", dense)

    def to_torch(self) -> Any:  # noqa: ANN401  torch is optional and untyped
        """Return a coalesced `torch.sparse_coo_tensor` over the same memory, as optimisers of torch take it."""
        import torch  # noqa: PLC0415  optional, and slow to import
        from torch.utils.dlpack import from_dlpack  # noqa: PLC0415

        parts: list[Array] = [self.indices, self.values]
        indices, values = parts if is_torch(self.values) else map(from_dlpack, parts)
        return torch.sparse_coo_tensor(indices[None], values, self.shape, is_coalesced=True, check_invariants=False)


class LinearGradients(NamedTuple, Generic[A]):
    """The gradients of a loss of scores h W^T + b.

    Attributes
    ----------
    h : array, shape (..., D)
        With respect to the queries.
    weight : array of shape (V, D), or IndexedRows
        With respect to the class matrix W.
    bias : array of shape (V,), or None
        With respect to the bias, where there is one; `HierarchicalSoftmax` gives `IndexedRows` of it.
    """

    h: A
    weight: A | IndexedRows[A, Any]
    bias: A | None


def _dense(indptr: Array, indices: Array, values: Array, shape: tuple[int, int]) -> Array:
    if isinstance(values, np.ndarray):
        dense = np.zeros(shape, dtype=values.dtype)
        dense[np.repeat(np.arange(shape[0]), np.diff(indptr)), indices] = values
        return dense
    from array_api_compat import array_namespace, device  # noqa: PLC0415  slow to import

    xp = array_namespace(values)
    rows = xp.arange(shape[0], dtype=indptr.dtype, device=device(values))
    rows = xp.repeat(rows, indptr[1:] - indptr[:-1])
    if is_torch(values):
        return values.new_zeros(shape).index_put((rows, indices), values)
    # a namespace has no scatter: look each place up among those that hold something, which ascend
    places = rows * shape[1] + indices
    all_places = xp.arange(shape[0] * shape[1], dtype=places.dtype, device=device(values))
    dense = xp.zeros(all_places.shape, dtype=values.dtype, device=device(values))
    if values.shape[0]:
        found = xp.clip(xp.searchsorted(places, all_places), 0, values.shape[0] - 1)
        dense = xp.where(xp.take(places, found) == all_places, xp.take(values, found), dense)
    return xp.reshape(dense, shape)
