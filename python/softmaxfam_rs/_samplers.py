"""Samplers: classes drawn from a proposal, or from scores, with the logarithms of their probabilities."""

from __future__ import annotations

import math
import operator
import os
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from . import _core
from ._streams import as_stream
from ._transfer import like_array, returner, to_count, to_host, to_integers, to_weights, writeable

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from numpy.typing import NDArray

    from ._streams import Stream

    Array = Any  # of NumPy, or of the library asked for
    Rng = int | Stream | np.random.Generator | Any  # or a torch.Generator

NARROW = {"int32": True, "int64": False}
FORMAT = "softmaxfam alias table 1"


class Samples(tuple[Any, Any]):  # noqa: SLOT001  its attributes need a dictionary
    """What was drawn: a pair (ids, logq), with what else a call tells as attributes.

    Attributes
    ----------
    ids : array of int64 or int32
        The classes.
    logq : array of float32 or None
        log q of each.
    tries : array of int64 or None
        Of distinct draws: how many independent draws each row took, for `expected_count`.
    threshold : array of float32 or None
        Of distinct draws: the key kappa of each row. The sum of f_i / (1 - exp(-exp(log q_i - kappa))) over the
        classes drawn is an unbiased estimate of the sum of f_i over all classes.
    hits : array of bool or None
        With ``hits="mark"``: where a row drew a class that it excludes.

    Examples
    --------
    >>> import softmaxfam_rs as sf
    >>> ids, logq = sf.UniformSampler(10).sample(3, rng=7)
    >>> ids.shape, float(logq[0])
    ((3,), -2.3025851249694824)
    """

    tries: Array | None
    threshold: Array | None
    hits: Array | None

    def __new__(
        cls,
        ids: Array,
        logq: Array | None,
        tries: Array | None = None,
        threshold: Array | None = None,
        hits: Array | None = None,
    ) -> Self:
        """Make a pair with attributes."""
        samples = super().__new__(cls, (ids, logq))
        samples.tries, samples.threshold, samples.hits = tries, threshold, hits
        return samples

    @property
    def ids(self) -> Array:
        """The classes."""
        return self[0]

    @property
    def logq(self) -> Array:
        """The log q of each class."""
        return self[1]

    def __reduce__(self) -> tuple[object, tuple[Array, ...]]:
        return Samples, (*self, self.tries, self.threshold, self.hits)

    def __repr__(self) -> str:
        names = ("ids", "logq", "tries", "threshold", "hits")
        given = [f"{name}={getattr(self, name)!r}" for name in names if getattr(self, name) is not None]
        return f"Samples({', '.join(given)})"


class Sampler:
    """What all samplers do: see `AliasTable`, `UniformSampler`, `LogUniformSampler`."""

    _proposal: _core.Proposal

    def sample(
        self,
        shape: int | tuple[int, ...],
        *,
        rng: Rng,
        unique: bool = False,
        exclude: Array | None = None,
        hits: Literal["redraw", "mark"] = "redraw",
        logq: bool = True,
        dtype: str = "int64",
        like: Array | None = None,
        xp: Any = None,  # noqa: ANN401  a namespace
        device: Any = None,  # noqa: ANN401  of any library
        out: tuple[Array, Array | None] | None = None,
    ) -> Samples:
        """Draw classes.

        Parameters
        ----------
        shape : int or tuple of int
            The last axis holds the draws of a row, the others count rows: ``(batch, m)`` gives each example its own
            negatives, ``m`` gives negatives to share.
        rng : int, Stream, numpy.random.Generator or torch.Generator
            An int is the seed of a new `Stream`, so the same call gives the same draws; a `Stream` moves on. From a
            generator a seed and a key are drawn.
        unique : bool, default False
            Draw until the classes of each row are distinct, in the order of their appearance (TensorFlow's
            semantics). The result has `tries` and `threshold`.
        exclude : array of int, optional
            Classes that rows must not draw, such as their positives: of the shape of the rows (one for each), or with
            one more axis (several for each); -1 stands for none.
        hits : {"redraw", "mark"}
            Whether an excluded class is drawn again, or kept and marked in `hits`. Redrawing leaves all other draws
            what they are; `logq` stays log q, while the law of the draws is q / (1 - sum of excluded q).
        logq : bool, default True
            Without it `logq` is None, and a draw costs one cache miss less.
        dtype : {"int64", "int32"}
            Of the ids.
        like, xp, device : array, array namespace, device
            Whose arrays to return: those of the library and device of an array, or of a namespace; NumPy's without.
        out : pair of arrays, optional
            (ids, logq) to write and return: NumPy arrays or tensors on the CPU, of the shape and of dtype int64 or
            int32, and float32; with ``logq=False`` the second is None.

        Returns
        -------
        Samples
            A pair (ids, logq).

        Raises
        ------
        TypeError
            For an `rng`, an array or a dtype that is not accepted.
        ValueError
            For shapes, options, or ids that do not fit; where a row asks for more distinct classes than it has.

        Notes
        -----
        Draw j of a call uses word ``position + j`` of the stream; with `unique`, row r uses word ``position + r``.

        Examples
        --------
        >>> import numpy as np, softmaxfam_rs as sf
        >>> table = sf.AliasTable([5, 0, 3, 2])
        >>> positives = np.array([0, 2])
        >>> negatives = table.sample((2, 4), rng=1, exclude=positives)
        >>> bool((negatives.ids == positives[:, None]).any())
        False
        >>> sorted(table.sample(3, rng=1, unique=True).ids.tolist())
        [0, 2, 3]
        """
        axes = _shape(shape)
        ids_out, logq_out, back = _targets(out, logq=logq, like=like, xp=xp, device=device)
        narrow = _narrow(dtype if ids_out is None else str(ids_out.dtype))
        if hits not in {"redraw", "mark"}:
            raise ValueError(f"hits is {hits!r}, must be 'redraw' or 'mark'")
        excluded = None if exclude is None else _per_row(exclude, axes)
        avoided = excluded if hits == "redraw" else None
        stream = as_stream(rng)
        ids: Array
        logs: Array
        tries = threshold = marks = None
        if unique:
            if not logq:
                raise ValueError("logq is False with unique=True, must be True: the estimates need it")
            place = stream._take(math.prod(axes[:-1]))  # noqa: SLF001  the stream is ours
            ids, logs, tries, threshold = self._proposal.sample_unique(place, axes, narrow, ids_out, logq_out, avoided)
        else:
            place = stream._take(math.prod(axes))  # noqa: SLF001
            ids, logs = self._proposal.sample(place, axes, narrow, ids_out, logq, logq_out, avoided)
        if excluded is not None and hits == "mark":
            marks = _hits(np.asarray(ids), excluded)
        if out is not None:
            ids, logs = out
            back = like_array(ids)
        else:
            ids, logs = back(ids), None if logs is None else back(logs)
        extra = (None if array is None else back(array) for array in (tries, threshold, marks))
        return Samples(ids, logs, *extra)

    def logq(self, ids: Array, /) -> Array:
        """Return log q of classes, float32, as an array of the library of `ids`; -inf where a class is never drawn.

        Raises
        ------
        ValueError
            Where an id is no class.

        Examples
        --------
        >>> import softmaxfam_rs as sf
        >>> float(sf.UniformSampler(8).logq(3))
        -2.079441547393799
        """
        return like_array(ids)(self._proposal.logq(to_integers("ids", ids)))

    def probs(self, ids: Array, /) -> Array:
        """Return the probabilities of classes, float32: exp(logq).

        Examples
        --------
        >>> import softmaxfam_rs as sf
        >>> sf.AliasTable([1.0, 3.0]).probs([0, 1])
        array([0.25, 0.75], dtype=float32)
        """
        return like_array(ids)(np.asarray(np.exp(self._doubles(ids)), np.float32))

    def expected_count(self, ids: Array, tries: Array, /) -> Array:
        """Return 1 - (1 - q)^tries of classes, float32: the probability to appear in so many independent draws.

        For distinct draws, whose number of tries is random, this is TensorFlow's approximation of the probability
        that a class is among those drawn, and no more: with q = (.5, .3, .15, .05) and two distinct classes it gives
        .84 .61 .35 .13, the truth is .83 .67 .37 .13. `Samples.threshold` gives exact estimates.

        Parameters
        ----------
        ids : array of int
        tries : int or array of int
            Broadcast with `ids`: of ``samples.tries`` take ``samples.tries[:, None]``.

        Examples
        --------
        >>> import softmaxfam_rs as sf
        >>> sf.UniformSampler(2).expected_count([0, 1], 3)
        array([0.875, 0.875], dtype=float32)
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            missed = to_host("tries", tries) * np.log1p(-np.exp(self._doubles(ids)))
        counts = -np.expm1(np.where(np.isnan(missed), 0.0, missed))  # no tries of a sure class
        return like_array(ids)(np.asarray(counts, np.float32))

    def _doubles(self, ids: Array) -> NDArray[np.float64]:
        return np.asarray(self._proposal.logq(to_integers("ids", ids)), np.float64)

    def __len__(self) -> int:
        return self._proposal.classes()


class AliasTable(Sampler):
    """Any law over 1 to 2**32 - 1 classes, given by weights: a draw costs the same for all sizes that a cache holds.

    Parameters
    ----------
    weights : array of real numbers, shape (n_classes,)
        Finite and >= 0, one of them > 0; of any library, taken in float64. A class of weight 0 is never drawn.
    power : float, default 1.0
        Finite and >= 0: the law is proportional to weights**power. 0.75 is word2vec's for counts; 0 draws all classes
        of positive weight alike.

    Raises
    ------
    TypeError
        For weights that are no real numbers.
    ValueError
        For a weight that is negative, infinite or NaN, naming its class, or weights that are all 0.

    Notes
    -----
    A slot of 64 bits for each class (Walker 1977), filled in integers: probabilities are right to within 2**-32 /
    n_classes, a positive weight keeps at least one unit of that size (taken off the others, in proportion), and
    nothing is lost past 2**24 classes. `logq` is the law of the table itself. Memory: 8 bytes a class, and 4 for
    logq.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> table = sf.AliasTable(np.array([1, 2, 0, 5]))
    >>> table
    AliasTable(4 classes, 3 positive, 48 bytes)
    >>> table.probs([0, 1, 2, 3])
    array([0.125, 0.25 , 0.   , 0.625], dtype=float32)
    >>> ids, logq = table.sample((1000, 20), rng=7)
    >>> bool((logq == table.logq(ids)).all())
    True
    """

    def __init__(self, weights: Array, /, *, power: float = 1.0) -> None:
        self.power = float(power)
        self._proposal = _core.Proposal.alias(to_weights("weights", weights), self.power)

    @classmethod
    def from_counts(cls, counts: Mapping[Hashable, int] | Array, /, *, power: float = 0.75) -> Self:
        """Make the law of word2vec from counts: an array, or a `collections.Counter` of the words of a text.

        Class i is the i-th key of the counter: ``list(counts)[i]``.

        Examples
        --------
        >>> from collections import Counter
        >>> import softmaxfam_rs as sf
        >>> counts = Counter("the cat and the dog and the bird".split())
        >>> table = sf.AliasTable.from_counts(counts)
        >>> [list(counts)[i] for i in table.sample(4, rng=2).ids]
        ['and', 'the', 'cat', 'and']
        """
        if hasattr(counts, "values") and hasattr(counts, "keys"):
            counts = np.fromiter(counts.values(), np.float64, len(counts))
        return cls(counts, power=power)

    def update(self, weights: Array, /, *, power: float | None = None) -> None:
        """Take other weights, of any number; draws that run in other threads end with the old ones.

        Examples
        --------
        >>> import softmaxfam_rs as sf
        >>> table = sf.AliasTable([1.0, 1.0])
        >>> table.update([0.0, 0.0, 3.0])
        >>> table.sample(2, rng=7).ids
        array([2, 2])
        """
        power = self.power if power is None else float(power)
        self._proposal = _core.Proposal.alias(to_weights("weights", weights), power)
        self.power = power

    def save(self, path: str | os.PathLike[str], /) -> None:
        """Write the table to a .npz file of 8 bytes a class, without pickles; the file is never half-written.

        Examples
        --------
        >>> import tempfile, softmaxfam_rs as sf
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sf.AliasTable([1.0, 3.0]).save(f"{folder}/table.npz")
        ...     sf.AliasTable.load(f"{folder}/table.npz")
        AliasTable(2 classes, 2 positive, 24 bytes)
        """
        import tempfile  # noqa: PLC0415  slow to import, as those of `load`
        from pathlib import Path  # noqa: PLC0415

        target = Path(path)
        handle, name = tempfile.mkstemp(dir=target.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, format=np.array(FORMAT), slots=self._slots(), power=np.array(self.power))
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | os.PathLike[str], /) -> Self:
        """Read a table that `save` wrote.

        Raises
        ------
        OSError
            Where the file cannot be opened.
        ValueError
            Where it is damaged, or something else.
        """
        from pathlib import Path  # noqa: PLC0415
        from zipfile import BadZipFile  # noqa: PLC0415

        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as parts:
                return cls._restored(parts["slots"], float(parts["power"]), str(parts["format"]))
        except (ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile) as error:
            raise ValueError(f"{path} is no alias table: {error}; write one with AliasTable.save") from error

    @classmethod
    def _restored(cls, slots: NDArray[np.uint64], power: float, file_format: str = FORMAT) -> Self:
        if file_format != FORMAT:
            raise ValueError(f"its format is {file_format!r}, must be {FORMAT!r}")
        if not isinstance(slots, np.ndarray) or slots.dtype != np.uint64 or slots.ndim != 1:
            raise ValueError("its slots must be one axis of uint64")
        if not (math.isfinite(power) and power >= 0):
            raise ValueError(f"its power is {power}, must be finite and >= 0")
        table = cls.__new__(cls)
        table.power = power
        table._proposal = _core.Proposal.of_slots(np.ascontiguousarray(slots).view(np.int64))  # noqa: SLF001
        return table

    def _slots(self) -> NDArray[np.uint64]:
        return self._proposal.slots().view(np.uint64)

    @property
    def nbytes(self) -> int:
        """The memory held, in bytes: 12 a class."""
        return self._proposal.nbytes()

    def __reduce__(self) -> tuple[object, tuple[NDArray[np.uint64], float]]:
        return type(self)._restored, (self._slots(), self.power)  # noqa: SLF001

    def __repr__(self) -> str:
        return f"AliasTable({len(self)} classes, {self._proposal.positive()} positive, {self.nbytes} bytes)"


class UniformSampler(Sampler):
    """Every one of n classes alike, without the bias of a modulo.

    Parameters
    ----------
    n : int
        From 1 to 2**32 - 1.

    Notes
    -----
    Source: Lemire (2019), "Fast random integer generation in an interval".

    Examples
    --------
    >>> import softmaxfam_rs as sf
    >>> sf.UniformSampler(10).sample((2, 3), rng=7).ids.shape
    (2, 3)
    """

    def __init__(self, n: int, /) -> None:
        self._proposal = _core.Proposal.uniform(_classes(n))

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return type(self), (len(self),)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)})"


class LogUniformSampler(UniformSampler):
    """Zipf's law, nearly, for classes sorted by falling frequency; no table.

    P(k) = log((k + 2) / (k + 1)) / log(n + 1) for k = 0 .. n - 1.

    Parameters
    ----------
    n : int
        From 1 to 2**32 - 1.

    Notes
    -----
    TensorFlow's ``log_uniform_candidate_sampler``.

    Examples
    --------
    >>> import softmaxfam_rs as sf
    >>> sf.LogUniformSampler(3).probs([0, 1, 2]).round(4)
    array([0.5   , 0.2925, 0.2075], dtype=float32)
    """

    def __init__(self, n: int, /) -> None:  # noqa: D107, RUF100
        self._proposal = _core.Proposal.log_uniform(_classes(n))


def sample_scores(
    scores: Array,
    m: int,
    /,
    *,
    rng: Rng,
    temperature: Array = 1.0,
    unique: bool = False,
    axis: int = -1,
    where: Array | None = None,
    dtype: str = "int64",
) -> Samples:
    """Draw m classes of each row from softmax(scores / T), without a normalised copy.

    Parameters
    ----------
    scores : array
        As for `softmax`; -inf is a class that is never drawn.
    m : int
        >= 1; with `unique` at most the number of classes.
    rng : int, Stream, numpy.random.Generator or torch.Generator
        As for `AliasTable.sample`.
    temperature : float or array, default 1.0
        Scores are divided by it.
    unique : bool, default False
        Without replacement: the m largest of scores / T plus independent Gumbel numbers, in falling order (exact
        Gumbel-top-k). The result has `threshold`, the next key.
    axis : int, default -1
        The axis of the classes.
    where : array of bool, optional
        Where it is False the class is absent.
    dtype : {"int64", "int32"}
        Of the ids.

    Returns
    -------
    Samples
        ids and their log-probabilities (float32), arrays of the library and device of the scores, with m in place of
        the axis. A row that is undefined (NaN, +inf, nothing above -inf) has ids -1 and NaN; slots beyond the classes
        above -inf have -1 and -inf.

    Raises
    ------
    TypeError
        For a dtype or an array that is not accepted.
    ValueError
        For an `m`, an axis, a shape or an option that does not fit.

    Notes
    -----
    One log-sum-exp pass keeps the sums of blocks; only blocks that a draw falls into are opened, by the top-down
    Gumbel maxima of Maddison, Tarlow, Minka (2014) without replacement. Draw j of row r uses word ``position + r m +
    j`` of the stream, or row r word ``position + r`` with `unique`.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> scores = np.array([[0.0, 9.0, -np.inf], [9.0, 0.0, 0.0]])
    >>> sf.sample_scores(scores, 2, rng=7).ids
    array([[1, 1],
           [0, 0]])
    >>> samples = sf.sample_scores(scores, 2, rng=7, unique=True)
    >>> samples.ids[0], samples.threshold.shape
    (array([1, 0]), (2,))
    """
    host = np.asarray(to_host("scores", scores))
    draws = to_count("m", m)
    axes = host.shape or (1,)
    position = operator.index(axis)
    narrow = _narrow(dtype)
    if not -len(axes) <= position < len(axes):
        raise ValueError(
            f"axis is {axis}, must lie in [{-len(axes)}, {len(axes) - 1}] for scores of shape {host.shape}"
        )
    rows = math.prod(axes) // axes[position] if axes[position] else math.prod(axes[:position] + axes[position:][1:])
    if unique and draws > axes[position]:
        raise ValueError(
            f"m is {draws}, must lie in [1, {axes[position]}], the number of classes; draw with replacement"
        )
    present = None if where is None else to_host("where", where)
    heat = temperature if isinstance(temperature, int | float) else to_host("temperature", temperature)
    place = as_stream(rng)._take(rows if unique else rows * draws)  # noqa: SLF001  the stream is ours
    ids, logq, threshold = _core.sample_scores(host, draws, position, present, heat, place, unique)
    if narrow:
        ids = ids.astype(np.int32)
    back = like_array(scores)
    return Samples(back(ids), back(logq), threshold=None if threshold is None else back(np.asarray(threshold)))


def _shape(shape: int | tuple[int, ...]) -> tuple[int, ...]:
    try:
        axes = tuple(map(operator.index, shape)) if isinstance(shape, tuple | list) else (operator.index(shape),)
    except TypeError:
        raise TypeError(f"shape is {shape!r}, must be an int or a tuple of ints") from None
    if any(length < 0 for length in axes):
        raise ValueError(f"shape is {shape}, must have no negative lengths")
    return axes


def _classes(n: int) -> int:
    count = to_count("n", n)
    if count >= 2**32:
        raise ValueError(f"n is {count}, must lie in [1, {2**32 - 1}]; split larger sets into several")
    return count


def _narrow(dtype: object) -> bool:
    name = str(dtype).removeprefix("torch.") if isinstance(dtype, str) else _dtype_name(dtype)
    if name not in NARROW:
        raise TypeError(f"dtype of ids is {dtype}, must be int64 or int32")
    return NARROW[name]


def _dtype_name(dtype: object) -> str:
    try:
        return np.dtype(dtype).name  # type: ignore[call-overload,no-any-return]
    except TypeError:
        return str(dtype).rsplit(".", maxsplit=1)[-1]  # of torch and others


def _targets(
    out: tuple[Array, Array | None] | None,
    *,
    logq: bool,
    like: Array | None,
    xp: Any,  # noqa: ANN401
    device: Any,  # noqa: ANN401
) -> tuple[Array | None, Array | None, Callable[[NDArray[Any]], Array]]:
    """Return the buffers to write, and what turns other results into arrays of the library asked for."""
    if out is None:
        return None, None, returner(like=like, xp=xp, device=device)
    if not isinstance(out, tuple | list) or len(out) != 2 or (out[1] is None) == logq:  # noqa: PLR2004  a pair
        raise TypeError("out must be a pair of arrays (ids, logq), the second None with logq=False alone")
    if like is not None or xp is not None or device is not None:
        raise ValueError("out is given with like, xp or device, must be alone: the buffers say where results go")
    ids, logs = (
        None if array is None else writeable(name, array) for name, array in zip(("ids", "logq"), out, strict=True)
    )
    if not isinstance(ids, np.ndarray):
        raise TypeError(f"out[0] is a {type(ids).__name__}, must be a NumPy array or a tensor on the CPU")
    return ids, logs, returner()


def _per_row(exclude: Array, axes: tuple[int, ...]) -> NDArray[np.int64]:
    """Return excluded classes with the shape (*rows, some)."""
    ids = to_integers("exclude", exclude)
    rows = axes[:-1]
    if ids.shape == rows:
        return ids[..., None]
    if ids.ndim == len(rows) + 1 and ids.shape[:-1] == rows:
        return ids
    raise ValueError(
        f"exclude has shape {ids.shape}, must be {rows} or {rows} and one more axis, for draws of shape {axes}"
    )


def _hits(ids: NDArray[Any], excluded: NDArray[np.int64]) -> NDArray[np.bool_]:
    hits = np.zeros(ids.shape, bool)
    for column in range(excluded.shape[-1]):
        hits |= ids == (excluded[..., column, None] if ids.ndim else excluded[..., column])
    return hits
