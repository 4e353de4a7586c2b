"""The linear head: top-k with log-probabilities, entmax and draws over many classes, from queries and a matrix."""

from __future__ import annotations

import math
import operator
import os
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from . import _core
from ._head_weights import KINDS, converted, matrix, norms, packed, quantized
from ._results import Scores, SparseRows, TopK
from ._samplers import Samples
from ._streams import as_stream
from ._transfer import like_array, to_host, to_integers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    AnyPath = str | os.PathLike[str]
    Array = Any  # of NumPy, or of another library
    Excluded = tuple[NDArray[np.int64], NDArray[np.int64]]
    Asking = tuple[int, NDArray[np.int64] | None, NDArray[np.bool_] | None, Excluded | None]


LAST_CLASS = 2**63 - 1  # of int64


class LinearHead:
    """Scores h W^T + b of all classes for queries h, of which only what is asked for is kept.

    One pass over W; scores are only ever a tile in cache, so that memory does not grow with the number of classes.

    Parameters
    ----------
    weight : array of real numbers, shape (n_classes, width)
        The class matrix: an array or memory map of NumPy, or a tensor. float32, float16 and bfloat16 are read in
        place, in any strides; others are converted to float32. The head sees what is written to that memory later.
    bias : array, shape (n_classes,), optional
        Added to the scores.
    dtype : {"float32", "float16", "bfloat16", "int8"}, optional
        The type that the matrix is held in, by a copy where it is another. "int8" has a scale a class, and rounds
        queries to 8 bits too.
    temperature : float, default 1.0
        Scores are divided by it.
    first_class : int, default 0
        The number of the first class, where this head is a shard of a larger one.
    prepack : bool, default False
        Copy the matrix so that its rows are contiguous and start at cache lines: pays where they are not contiguous,
        as those of a transposed matrix, which are else gathered at each call.
    exact : array of float32, shape (n_classes, width), optional
        The matrix that a low-precision one was made from, for ``rescore=True``; by default `weight`, if `dtype`
        rounds it.

    Attributes
    ----------
    n_classes, width : int
    dtype : str
    bias : numpy.ndarray or None
    temperature : float
    first_class : int

    Notes
    -----
    The scores of a query are the same to the bit in any batch, on any number of threads and any instruction set.
    float32 scores err by at most (width / 16 + 5) 2^-24 sum_d |h_d w_d|, to first order.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> weight = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=np.float32)
    >>> head = sf.LinearHead(weight)
    >>> found = head.score(np.array([[0.0, 2.0]], dtype=np.float32), k=2)
    >>> found.indices, np.exp(found.log_probs).round(3)
    (array([[1, 2]]), array([[0.468, 0.468]], dtype=float32))
    """

    def __init__(
        self,
        weight: Array,
        bias: Array | None = None,
        *,
        dtype: str | None = None,
        temperature: float = 1.0,
        first_class: int = 0,
        prepack: bool = False,
        exact: Array | None = None,
    ) -> None:
        rows, kind = matrix("weight", weight)
        self._build(rows, kind, bias, dtype, temperature, first_class, prepack=prepack, exact=exact)

    @classmethod
    def _of_storage(
        cls,
        array: NDArray[Any],
        kind: str,
        bias: Array | None = None,
        *,
        scales: NDArray[np.float32] | None = None,
        norms: NDArray[np.float32] | None = None,
        dtype: str | None = None,
        temperature: float = 1.0,
        first_class: int = 0,
        prepack: bool = False,
        exact: Array | None = None,
    ) -> Self:
        """Make a head of a matrix as files hold it: bfloat16 as uint16, int8 with its scales and norms."""
        head = cls.__new__(cls)
        head._scales, head._norms = scales, norms  # noqa: SLF001  of this class
        head._build(array, kind, bias, dtype, temperature, first_class, prepack=prepack, exact=exact)  # noqa: SLF001
        return head

    @classmethod
    def open(
        cls,
        path: AnyPath,
        /,
        *,
        weight: str | None = None,
        bias: AnyPath | Array | None = None,
        dtype: str | None = None,
        temperature: float | None = None,
        first_class: int | None = None,
        prepack: bool = False,
        exact: AnyPath | Array | None = None,
    ) -> Self:
        """Map a class matrix from a file into memory: of any size at once, its pages are read when they are scored.

        Parameters
        ----------
        path : str or path
            A .npy file, or a .safetensors file: one of `save`, with all that it holds, or a model's.
        weight : str, optional
            The name of the matrix in a .safetensors file; without it the only one.
        bias : str, path or array, optional
            A tensor of the file, a file of its own ("bias.npy", "other.safetensors:name"), or an array.
        temperature, first_class : optional
            Those of the file by default, else 1.0 and 0.
        dtype, prepack : optional
            As for `LinearHead`; what they ask for is a copy.
        exact : str, path or array, optional
            As for `LinearHead`, or a file with the matrix: "model.safetensors:name".

        Raises
        ------
        OSError
            Where a file cannot be opened.
        ValueError
            Where a file is damaged, truncated or something else, or holds nothing by these names: the message lists
            what there is.

        Examples
        --------
        >>> import tempfile, numpy as np, softmaxfam_rs as sf
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/weight.npy", np.eye(3, dtype=np.float32))
        ...     sf.LinearHead.open(f"{folder}/weight.npy", temperature=0.5).score([0.0, 1.0, 0.0], k=1).indices
        array([1])
        """
        from . import _head_files as files  # noqa: PLC0415  for those who open files

        named = isinstance(bias, str | os.PathLike)
        stored = files.open_head(path, weight=weight, bias=bias if named else None)
        rows, kind = stored.weight, stored.kind
        if kind not in {"bfloat16", "int8"}:
            rows, kind = matrix("weight", rows)
        return cls._of_storage(
            rows,
            kind,
            stored.bias if named or bias is None else bias,
            scales=stored.scales,
            norms=stored.norms,
            dtype=dtype,
            temperature=stored.temperature if temperature is None else temperature,
            first_class=stored.first_class if first_class is None else first_class,
            prepack=prepack,
            exact=files.open_exact(exact) if isinstance(exact, str | os.PathLike) else exact,
        )

    def save(self, path: AnyPath, /) -> None:
        """Write the head to one .safetensors file, which other programs read too; it is never half-written.

        The exact matrix of a head in low precision is not in it: give it to `open` again as `exact`.

        Examples
        --------
        >>> import tempfile, numpy as np, softmaxfam_rs as sf
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     head = sf.LinearHead(np.eye(3, dtype=np.float32), [1, 2, 3], dtype="int8", temperature=0.5)
        ...     head.save(f"{folder}/head.safetensors")
        ...     sf.LinearHead.open(f"{folder}/head.safetensors")
        <LinearHead: 3 classes, width 3, int8, bias, temperature 0.5>
        """
        from . import _head_files as files  # noqa: PLC0415  for those who save files

        norms = self._norms if self.dtype == "int8" else None
        parts = (self._rows, self.dtype, self.bias, self._scales, norms, self.temperature, self.first_class)
        files.save_head(path, files.StoredHead(*parts))

    _scales: NDArray[np.float32] | None = None
    _norms: NDArray[np.float32] | None = None

    def _build(
        self,
        rows: NDArray[Any],
        kind: str,
        bias: Array | None,
        dtype: str | None,
        temperature: float,
        first_class: int,
        *,
        prepack: bool,
        exact: Array | None,
    ) -> None:
        wanted = kind if dtype is None else str(dtype).removeprefix("torch.")
        if wanted not in KINDS:
            raise ValueError(f"dtype is {dtype!r}, must be one of {', '.join(KINDS)}, or None for the weight's own")
        self.n_classes, self.width = int(rows.shape[0]), int(rows.shape[1])
        self._exact = None if exact is None else _exact(exact)
        if wanted != kind:
            if kind == "int8":
                raise ValueError(f"the weight is of int8, must stay so; a head of {wanted} needs the exact weight")
            if kind == "float32" and self._exact is None:
                self._exact = rows
            if wanted == "int8":
                rows, self._scales, self._norms = quantized(rows, kind)
            else:
                rows = converted(rows, kind, wanted)
        self._rows = packed(rows) if prepack else rows
        self.dtype = wanted
        self.bias = None if bias is None else _vector("bias", bias)
        self.temperature, self.first_class = float(temperature), operator.index(first_class)
        if not 0 <= self.first_class <= LAST_CLASS - self.n_classes:
            raise ValueError(f"first_class is {first_class}, must be 0 or more, and the classes below 2^63")
        self._head = _core.Head(self._rows, self._scales, self.bias, self.temperature, self.first_class)

    def score(
        self,
        h: Array,
        k: int = 10,
        *,
        target: Array | None = None,
        where: Array | None = None,
        exclude: Array | Sequence[Sequence[int]] | None = None,
        rescore: bool = False,
    ) -> Scores[Any, Any]:
        """Return the k most probable classes of each query with their log-probabilities.

        Parameters
        ----------
        h : array of real numbers, shape (..., width)
            The queries; computed with in float32.
        k : int, default 10
            At most the number of classes.
        target : array of int, shape (...), optional
            A class for each query, whose log-probability is returned too.
        where : array of bool, shape (n_classes,), optional
            False: the class is absent.
        exclude : sequence of sequences of int, or array of int, shape (..., m), optional
            Classes that are absent for one query each; in an array -1 stands for none. Others that are not of this head
            are ignored.
        rescore : bool, default False
            Of a head in low precision whose exact matrix is at hand: return the k best of that matrix, exactly those of
            a float32 head, with its scores; the normaliser stays that of the low precision. Certified by error bounds:
            `candidates` says how many classes were scored again.

        Returns
        -------
        Scores
            (log_probs, indices, logsumexp, target_log_prob, candidates), arrays of the library of `h`. Ties go to the
            lower class. A query with NaN or infinity gives NaN and class -1.

        Raises
        ------
        TypeError
            For arrays that are not of numbers.
        ValueError
            For shapes that do not fit, `k` or a target out of range, `rescore` without the exact matrix.

        Examples
        --------
        >>> import numpy as np, softmaxfam_rs as sf
        >>> head = sf.LinearHead(np.eye(4, dtype=np.float32), dtype="int8")
        >>> h = np.array([3.0, 1.0, 0.0, 2.0], dtype=np.float32)
        >>> head.score(h, k=2, rescore=True, exclude=[[0]]).indices
        array([3, 1])
        """
        queries = self._queries(h)
        asking = self._asking(queries, k, target, where, exclude)
        if rescore:
            scored, counts = self._head.score_exactly(queries.rows, asking, *self._certificate())
        else:
            scored, counts = self._head.score(queries.rows, asking), None
        return queries.scores(scored, counts)

    def logsumexp(
        self, h: Array, *, where: Array | None = None, exclude: Array | Sequence[Sequence[int]] | None = None
    ) -> Array:
        """Return log sum_i exp(score_i / T) of each query, float32.

        It errs by no more than the scores over T do, and half a unit of the result. See `score` for the arguments.

        Examples
        --------
        >>> import numpy as np, softmaxfam_rs as sf
        >>> float(sf.LinearHead(np.zeros((8, 3), dtype=np.float32)).logsumexp(np.ones(3, dtype=np.float32)))
        2.079441547393799
        """
        queries = self._queries(h)
        scored = self._head.score(queries.rows, self._asking(queries, 0, None, where, exclude))
        return queries.scores(scored).logsumexp

    def top_log_probs(
        self,
        h: Array,
        k: int,
        *,
        where: Array | None = None,
        exclude: Array | Sequence[Sequence[int]] | None = None,
        rescore: bool = False,
    ) -> TopK[Any, Any]:
        """Return the k most probable classes as `softmaxfam_rs.top_log_probs` does from all scores; see `score`."""
        found = self.score(h, k, where=where, exclude=exclude, rescore=rescore)
        return TopK(found.log_probs, found.indices, found.logsumexp)

    def entmax(
        self,
        h: Array,
        alpha: float = 1.5,
        *,
        max_support: int | None = None,
        where: Array | None = None,
        exclude: Array | Sequence[Sequence[int]] | None = None,
    ) -> SparseRows[Any, Any]:
        """Return entmax of the scores of each query, exactly, without its zeros.

        Parameters
        ----------
        h : array, shape (..., width)
            The queries.
        alpha : float, default 1.5
            Above 1: 2 is sparsemax, infinity shares 1 among the maxima.
        max_support : int, optional
            A larger support is an error that names the query.
        where, exclude
            As in `score`.

        Returns
        -------
        SparseRows
            (indptr, indices, values, shape): a row a query, in C order. A query with NaN or infinity has NaN for each
            class.

        Examples
        --------
        >>> import numpy as np, softmaxfam_rs as sf
        >>> head = sf.LinearHead(np.array([[1.0], [0.5], [-1.0]], dtype=np.float32))
        >>> head.entmax(np.array([[1.0]], dtype=np.float32), 2.0).to_dense()
        array([[0.75, 0.25, 0.  ]], dtype=float32)
        """
        state = self.entmax_partial(h, alpha, where=where, exclude=exclude)
        return state.finish(max_support, n_classes=self.first_class + self.n_classes)

    def logits(
        self,
        h: Array,
        *,
        where: Array | None = None,
        exclude: Array | Sequence[Sequence[int]] | None = None,
        out: NDArray[np.float32] | None = None,
    ) -> Array:
        """Return all scores over the temperature, float32, shape (..., n_classes), for those who want them.

        Absent classes have -inf. `out`, an array of NumPy, is written and returned.

        Examples
        --------
        >>> import numpy as np, softmaxfam_rs as sf
        >>> sf.LinearHead(np.eye(2, dtype=np.float32), bias=[0.0, 1.0], temperature=0.5).logits([1.0, 2.0])
        array([2., 6.], dtype=float32)
        """
        queries = self._queries(h)
        shape = (*queries.shape, self.n_classes)
        if out is not None and (not isinstance(out, np.ndarray) or out.shape != shape):
            raise ValueError(f"out has shape {getattr(out, 'shape', None)}, must be a NumPy array of shape {shape}")
        into = None if out is None else out.reshape(-1, self.n_classes)
        found = self._head.logits(queries.rows, self._asking(queries, 0, None, where, exclude), into)
        if out is None:
            return queries.back(found.reshape(shape))
        if not np.may_share_memory(into, out):
            out[...] = found.reshape(shape)
        return out

    def sample(
        self,
        h: Array,
        m: int,
        *,
        rng: Any,  # noqa: ANN401  an int, a Stream, or a generator of NumPy or torch
        unique: bool = False,
        where: Array | None = None,
        exclude: Array | Sequence[Sequence[int]] | None = None,
    ) -> Samples:
        """Draw m classes of each query from softmax of its scores.

        As `softmaxfam_rs.sample_scores` draws from given scores, with the same numbers of `rng`: sums of tiles come
        first, then only the tiles that a draw falls into are scored again.

        Returns
        -------
        Samples
            (ids, logq), shape (..., m): classes, and their log-probabilities. With `unique` they are distinct, in the
            order of their keys, and `threshold` is the threshold key.

        Examples
        --------
        >>> import numpy as np, softmaxfam_rs as sf
        >>> head = sf.LinearHead(np.array([[9.0], [-9.0]], dtype=np.float32))
        >>> head.sample(np.array([1.0], dtype=np.float32), 3, rng=1).ids
        array([0, 0, 0])
        """
        queries = self._queries(h)
        count = operator.index(m)
        if count < 0:
            raise ValueError(f"m is {m}, must be 0 or more")
        asking = self._asking(queries, 0, None, where, exclude)
        place = as_stream(rng)._take(len(queries.rows) * (1 if unique else count))  # noqa: SLF001  the stream is ours
        ids, logq, threshold = self._head.sample(queries.rows, count, asking, place, unique)
        shape = (*queries.shape, count)
        threshold = None if threshold is None else queries.back(threshold.reshape(queries.shape))
        return Samples(queries.back(ids.reshape(shape)), queries.back(logq.reshape(shape)), None, threshold)

    def partial(
        self,
        h: Array,
        k: int = 10,
        *,
        target: Array | None = None,
        where: Array | None = None,
        exclude: Array | Sequence[Sequence[int]] | None = None,
    ) -> ScoreState:
        """Return what this head's classes contribute to `score`, to be merged with what other shards contribute.

        `k` may exceed the number of its classes, and a target may belong to another shard.

        Examples
        --------
        >>> import numpy as np, softmaxfam_rs as sf
        >>> weight, h = np.random.default_rng(0).standard_normal((2, 50, 8), dtype=np.float32)
        >>> left, right = sf.LinearHead(weight[:30]), sf.LinearHead(weight[30:], first_class=30)
        >>> merged = left.partial(h, 3).merge(right.partial(h, 3)).finish()
        >>> bool((merged.indices == sf.LinearHead(weight).score(h, 3).indices).all())
        True
        """
        queries = self._queries(h)
        asking = self._asking(queries, k, target, where, exclude)
        return ScoreState(self._head.partial(queries.rows, asking), queries.shape)

    def entmax_partial(
        self,
        h: Array,
        alpha: float = 1.5,
        *,
        where: Array | None = None,
        exclude: Array | Sequence[Sequence[int]] | None = None,
    ) -> EntmaxState:
        """Return what this head's classes contribute to `entmax`, to be merged with what other shards contribute."""
        queries = self._queries(h)
        asking = self._asking(queries, 0, None, where, exclude)
        return EntmaxState(self._head.entmax_partial(queries.rows, float(alpha), asking))

    def __len__(self) -> int:
        return self.n_classes

    def __repr__(self) -> str:
        parts = [f"{self.n_classes} classes", f"width {self.width}", self.dtype]
        parts += ["bias"] * (self.bias is not None)
        parts += [f"temperature {self.temperature:g}"] * (self.temperature != 1)
        parts += [f"first class {self.first_class}"] * (self.first_class != 0)
        return f"<LinearHead: {', '.join(parts)}>"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_head"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._head = _core.Head(self._rows, self._scales, self.bias, self.temperature, self.first_class)

    def _queries(self, h: Array) -> _Queries:
        return _Queries(h, self.width)

    def _asking(
        self,
        queries: _Queries,
        k: int,
        target: Array | None,
        where: Array | None,
        exclude: Array | Sequence[Sequence[int]] | None,
    ) -> Asking:
        count = operator.index(k)
        if count < 0:
            raise ValueError(f"k is {k}, must be 0 or more")
        targets = None
        if target is not None:
            targets = to_integers("target", target)
            if targets.shape != queries.shape:
                raise ValueError(
                    f"target has shape {targets.shape}, must have shape {queries.shape}, a class each query"
                )
            targets = targets.reshape(-1)
        mask = None
        if where is not None:
            mask = to_host("where", where)
            if mask.dtype != np.bool_ or mask.shape != (self.n_classes,):
                raise ValueError(
                    f"where has dtype {mask.dtype} and shape {mask.shape}, must be of bool, shape ({self.n_classes},); "
                    "for classes that single queries lack take exclude"
                )
            mask = np.ascontiguousarray(mask)
        return count, targets, mask, None if exclude is None else _excluded(exclude, queries)

    def _certificate(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        if self._exact is None:
            reason = "it is in float32" if self.dtype == "float32" else "its exact matrix is not at hand"
            raise ValueError(f"rescore is True on a head that cannot: {reason}; make it with dtype='int8' from float32")
        if self._norms is None:
            self._norms = norms(self._exact, self._rows, self.dtype)
        lost, kept = (np.ascontiguousarray(self._norms[:, column]) for column in (0, 1))
        return self._exact, lost, kept


class ScoreState:
    """What some classes contribute to the scores of some queries: see `LinearHead.partial`.

    Merging is associative, and its order changes no bit of the result. Shards that end at multiples of 4,096 classes
    give the bits of one head over all of them. States can be pickled; their size grows with the logarithm of the
    number of classes.
    """

    def __init__(self, state: _core.ScoreState, shape: tuple[int, ...]) -> None:
        self._state, self._shape = state, shape

    def merge(self, other: ScoreState) -> ScoreState:
        """Return this and what other classes contribute to the same queries.

        Raises
        ------
        ValueError
            Where the states are not of the same queries, k, temperature and targets, or have a class in common.
        """
        return ScoreState(self._state.merge(other._state), self._shape)

    def finish(self) -> Scores[NDArray[np.float32], NDArray[np.int64]]:
        """Return the result over the classes that were merged."""
        return _shaped(self._state.finish(), self._shape)

    def __len__(self) -> int:
        return self._state.queries()

    def __reduce__(self) -> tuple[object, tuple[bytes, tuple[int, ...]]]:
        return _score_state, (self._state.to_bytes(), self._shape)


class EntmaxState:
    """What some classes contribute to entmax of the scores of some queries: see `LinearHead.entmax_partial`."""

    def __init__(self, state: _core.EntmaxState) -> None:
        self._state = state

    def merge(self, other: EntmaxState) -> EntmaxState:
        """Return this and what other classes contribute to the same queries; the order changes no bit of the result.

        Raises
        ------
        ValueError
            Where the states are not of the same queries, alpha and temperature, or have a class in common.
        """
        return EntmaxState(self._state.merge(other._state))

    def finish(
        self, max_support: int | None = None, *, n_classes: int
    ) -> SparseRows[NDArray[np.float32], NDArray[np.int64]]:
        """Return the rows over the classes that were merged, `n_classes` in all."""
        return SparseRows(*self._state.finish(max_support), (self._state.queries(), n_classes))

    def __len__(self) -> int:
        return self._state.queries()

    def __reduce__(self) -> tuple[object, tuple[bytes]]:
        return _entmax_state, (self._state.to_bytes(),)


def _score_state(data: bytes, shape: tuple[int, ...]) -> ScoreState:
    return ScoreState(_core.ScoreState.from_bytes(data), shape)


def _entmax_state(data: bytes) -> EntmaxState:
    return EntmaxState(_core.EntmaxState.from_bytes(data))


class _Queries:
    """Queries as rows of float32, and results back in their shape and library."""

    def __init__(self, h: Array, width: int) -> None:
        host = to_host("h", h)
        if host.dtype.kind not in "iufb" and host.dtype.name != "bfloat16":
            raise TypeError(f"h has dtype {host.dtype}, must be of real numbers; convert it to float32")
        if host.ndim == 0 or host.shape[-1] != width:
            raise ValueError(f"h has shape {host.shape}, must have {width} numbers along its last axis, as the weight")
        self.shape = host.shape[:-1]
        self.rows: NDArray[np.float32] = np.asarray(host, dtype=np.float32, order="C").reshape(
            math.prod(self.shape), width
        )
        self.back = like_array(h)

    def scores(self, scored: Any, counts: NDArray[np.int64] | None = None) -> Scores[Any, Any]:  # noqa: ANN401
        found = _shaped(scored, self.shape, counts)
        return Scores(*(None if part is None else self.back(part) for part in found))


def _shaped(
    scored: Any,  # noqa: ANN401  what the core gave
    shape: tuple[int, ...],
    counts: NDArray[np.int64] | None = None,
) -> Scores[NDArray[np.float32], NDArray[np.int64]]:
    log_probs, indices, logsumexp, target = scored
    slots = (*shape, log_probs.shape[-1])
    return Scores(
        log_probs.reshape(slots),
        indices.reshape(slots),
        logsumexp.reshape(shape),
        None if target is None else target.reshape(shape),
        None if counts is None else counts.reshape(shape),
    )


def _vector(name: str, array: Array) -> NDArray[np.float32]:
    host = to_host(name, array)
    if host.ndim != 1 or (host.dtype.kind not in "iufb" and host.dtype.name != "bfloat16"):
        raise ValueError(f"{name} has dtype {host.dtype} and shape {host.shape}, must be real numbers, one a class")
    return np.ascontiguousarray(host, dtype=np.float32)


def _exact(array: Array) -> NDArray[np.float32]:
    rows, kind = matrix("exact", array)
    return converted(rows, kind, "float32")


def _excluded(exclude: Array | Sequence[Sequence[int]], queries: _Queries) -> Excluded:
    """Return excluded classes as the starts of rows, and ids."""
    count = len(queries.rows)
    if isinstance(exclude, list | tuple):
        if len(exclude) != count:
            raise ValueError(f"exclude has {len(exclude)} lists, must have {count}, one for each query")
        rows = [to_integers("exclude", ids).reshape(-1) for ids in exclude]
        starts = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)
        return starts, np.concatenate([np.empty(0, np.int64), *rows])
    ids = to_integers("exclude", exclude)
    if ids.shape[:-1] != queries.shape:
        raise ValueError(f"exclude has shape {ids.shape}, must have shape {queries.shape} and one axis more")
    ids = np.ascontiguousarray(ids.reshape(count, -1))
    return np.arange(count + 1, dtype=np.int64) * ids.shape[1], ids.reshape(-1)
