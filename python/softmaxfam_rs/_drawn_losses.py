"""Losses that draw their negatives, gather, score and differentiate in one call: of queries h and class rows W."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _drawn
from ._dispatch import library_of

if TYPE_CHECKING:
    from typing import Any

    from ._results import LinearGradients
    from ._sampled_losses import Correction
    from ._samplers import Rng, Sampler
    from ._typing import AnyArray, Array, Reduction


def _computed(
    kind: str,
    h: Array,
    class_matrix: Array,
    *others: Any,  # noqa: ANN401  each as it was given
    remove_hits: bool | None,
    **options: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401  an array, or a pair
    correction, unique = options["correction"], options["unique"]
    options["removes_hits"] = _drawn.treatment(kind, correction, unique=unique, remove_hits=remove_hits, stacklevel=4)
    arrays = {"h": h, "W": class_matrix, "target": others[0], "bias": options["bias"]}
    found = {name: library_of(array) for name, array in arrays.items()}
    libraries = {name: library.name for name, library in found.items() if library is not None}
    first = next(iter(libraries), "h")
    for name, given in libraries.items():
        if given not in {"numpy", "torch"}:
            raise TypeError(
                f"{kind} does not take arrays of {given}, but those of NumPy and torch; "
                f"draw with sampler.sample, and take {kind}_loss of the scores"
            )
        if given != libraries[first]:
            raise TypeError(f"{kind}: {first} is of {libraries[first]}, {name} of {given}; must be of one library")
    if "torch" in libraries.values():
        from ._torch import drawn  # noqa: PLC0415  it imports torch

        return drawn.loss(kind, h, class_matrix, *others, **options)
    return _drawn.loss_of_numpy(kind, h, class_matrix, *others, **options)


def sampled_softmax(
    h: Array,
    W: Array,
    target: AnyArray,
    sampler: Sampler,
    m: int,
    /,
    bias: AnyArray | None = None,
    *,
    rng: Rng,
    correction: Correction = "all",
    shared: bool = True,
    unique: bool = False,
    remove_hits: bool | None = None,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
    sparse_grad: bool = True,
) -> Array:
    """Compute `sampled_softmax_loss` of queries and class rows: draws, gathers, scores and corrects in one call.

    Parameters
    ----------
    h : array, shape (..., D)
        Queries, of NumPy or torch. Float32 in CPU memory is computed by the core.
    W : array, shape (V, D)
        A row for each class, of which only those that are targets or drawn are read; float32 in C order as it lies,
        other types by the rows that are needed.
    target : array of int, shape (...)
        A class id for each query.
    sampler : AliasTable, UniformSampler or LogUniformSampler
        The proposal q, of V classes.
    m : int
        Negatives of a query, 1 or more.
    bias : array, shape (V,), optional
        A number for each class, which is added to its scores.
    rng : int, Stream, numpy.random.Generator or torch.Generator
        As for `AliasTable.sample`: the same draws for the same stream, on any machine and for any number of threads.
    correction : {"all", "negatives", "refined", "none"}, default "all"
        What is subtracted from scores over T; see `sampled_softmax_loss`.
    shared : bool, default True
        The same negatives for all queries: m rows are gathered once, and scored by a matrix product. Their noise is
        correlated between queries; without it each query has m rows for itself.
    unique : bool, default False
        Draw distinct negatives. The correction then takes the chance to be drawn, as `Sampler.expected_count`
        approximates it, in place of m q.
    remove_hits : bool, optional
        Leave out negatives that are the query's target. By default what is right for the correction and the draws:
        with replacement hits are kept under "all" and "none", removed under "negatives" and "refined"; distinct ones
        are removed. Another choice warns where it is biased.
    temperature : float, default 1.0
        Scores are divided by it; > 0 and finite.
    reduction : {"mean", "sum", "none"}, default "mean"
    sparse_grad : bool, default True
        Of torch: whether W gets a sparse gradient, of the rows that were named, as `torch.nn.Embedding` has it.

    Returns
    -------
    array
        One number, or with reduction "none" one for each query. A tensor is differentiated by autograd.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a shape or an option that does not fit, or an id that is no class.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> h, W = np.zeros((4, 8), np.float32), np.zeros((1000, 8), np.float32)
    >>> loss = sf.sampled_softmax(h, W, np.arange(4), sf.UniformSampler(1000), 20, rng=0)
    >>> np.isclose(loss, np.log(21))
    np.True_
    """
    return _computed(
        "sampled_softmax",
        h,
        W,
        target,
        sampler,
        m,
        bias=bias,
        rng=rng,
        correction=correction,
        shared=shared,
        unique=unique,
        remove_hits=remove_hits,
        temperature=temperature,
        reduction=reduction,
        sparse_grad=sparse_grad,
        wants_gradient=False,
    )


def sampled_softmax_and_grad(
    h: Array,
    W: Array,
    target: AnyArray,
    sampler: Sampler,
    m: int,
    /,
    bias: AnyArray | None = None,
    *,
    rng: Rng,
    correction: Correction = "all",
    shared: bool = True,
    unique: bool = False,
    remove_hits: bool | None = None,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
) -> tuple[Array, LinearGradients[Any]]:
    """Compute `sampled_softmax` and its gradients, that of W by the rows that were named.

    Parameters
    ----------
    h, W, target, sampler, m, bias, rng, correction, shared, unique, remove_hits, temperature, reduction
        As for `sampled_softmax`.

    Returns
    -------
    tuple
        The loss, and `LinearGradients` of h, W and bias, the last two as `IndexedRows`; with reduction "none" those of
        the sum.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> h, W = np.ones((4, 8), np.float32), np.zeros((1000, 8), np.float32)
    >>> loss, grad = sf.sampled_softmax_and_grad(h, W, np.full(4, 7), sf.UniformSampler(1000), 20, rng=0)
    >>> W[grad.weight.indices] -= 0.5 * grad.weight.values
    >>> grad.weight.values.shape
    (21, 8)
    """
    result: tuple[Array, LinearGradients[Any]] = _computed(
        "sampled_softmax",
        h,
        W,
        target,
        sampler,
        m,
        bias=bias,
        rng=rng,
        correction=correction,
        shared=shared,
        unique=unique,
        remove_hits=remove_hits,
        temperature=temperature,
        reduction=reduction,
        sparse_grad=True,
        wants_gradient=True,
    )
    return result


def nce(
    h: Array,
    W: Array,
    target: AnyArray,
    sampler: Sampler,
    m: int,
    /,
    bias: AnyArray | None = None,
    *,
    rng: Rng,
    shared: bool = True,
    unique: bool = False,
    remove_hits: bool = False,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
    sparse_grad: bool = True,
) -> Array:
    """Compute `nce_loss` of queries and class rows: draws, gathers and scores in one call.

    Parameters
    ----------
    h, W, target, sampler, m, bias, rng, shared, unique, temperature, reduction, sparse_grad
        As for `sampled_softmax`.
    remove_hits : bool, default False
        Leave out negatives that are the query's target. The theory counts them as noise: without them it warns.

    Returns
    -------
    array
        One number, or with reduction "none" one for each query. A tensor is differentiated by autograd.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a shape or an option that does not fit, or an id that is no class.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> h, W = np.zeros((4, 8), np.float32), np.zeros((2, 8), np.float32)
    >>> loss = sf.nce(h, W, np.zeros(4, int), sf.UniformSampler(2), 2, rng=0)  # where m q is 1
    >>> np.isclose(loss, 3 * np.log(2))
    np.True_
    """
    return _computed(
        "nce",
        h,
        W,
        target,
        sampler,
        m,
        bias=bias,
        rng=rng,
        correction="all",
        shared=shared,
        unique=unique,
        remove_hits=remove_hits,
        temperature=temperature,
        reduction=reduction,
        sparse_grad=sparse_grad,
        wants_gradient=False,
    )


def nce_and_grad(
    h: Array,
    W: Array,
    target: AnyArray,
    sampler: Sampler,
    m: int,
    /,
    bias: AnyArray | None = None,
    *,
    rng: Rng,
    shared: bool = True,
    unique: bool = False,
    remove_hits: bool = False,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
) -> tuple[Array, LinearGradients[Any]]:
    """Compute `nce` and its gradients, that of W by the rows that were named.

    Parameters
    ----------
    h, W, target, sampler, m, bias, rng, shared, unique, remove_hits, temperature, reduction
        As for `nce`.

    Returns
    -------
    tuple
        The loss, and `LinearGradients` of h, W and bias, the last two as `IndexedRows`; with reduction "none" those of
        the sum.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> h, W = np.ones((4, 8), np.float32), np.zeros((1000, 8), np.float32)
    >>> loss, grad = sf.nce_and_grad(h, W, np.arange(4), sf.UniformSampler(1000), 5, rng=0, shared=False)
    >>> grad.weight.values.shape
    (24, 8)
    """
    result: tuple[Array, LinearGradients[Any]] = _computed(
        "nce",
        h,
        W,
        target,
        sampler,
        m,
        bias=bias,
        rng=rng,
        correction="all",
        shared=shared,
        unique=unique,
        remove_hits=remove_hits,
        temperature=temperature,
        reduction=reduction,
        sparse_grad=True,
        wants_gradient=True,
    )
    return result


def negative_sampling(
    h: Array,
    W: Array,
    target: AnyArray,
    sampler: Sampler,
    m: int,
    /,
    bias: AnyArray | None = None,
    *,
    rng: Rng,
    shared: bool = True,
    unique: bool = False,
    remove_hits: bool = False,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
    sparse_grad: bool = True,
) -> Array:
    """Compute `negative_sampling_loss` of queries and class rows: draws, gathers and scores in one call.

    Parameters
    ----------
    h, W, target, sampler, m, bias, rng, shared, unique, temperature, reduction, sparse_grad
        As for `sampled_softmax`.
    remove_hits : bool, default False
        Leave out negatives that are the query's target, as word2vec does.

    Returns
    -------
    array
        One number, or with reduction "none" one for each query. A tensor is differentiated by autograd.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a shape or an option that does not fit, or an id that is no class.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> h, W = np.zeros((4, 8), np.float32), np.zeros((1000, 8), np.float32)
    >>> np.isclose(sf.negative_sampling(h, W, np.arange(4), sf.UniformSampler(1000), 5, rng=0), 6 * np.log(2))
    np.True_
    """
    return _computed(
        "negative_sampling",
        h,
        W,
        target,
        sampler,
        m,
        bias=bias,
        rng=rng,
        correction="all",
        shared=shared,
        unique=unique,
        remove_hits=remove_hits,
        temperature=temperature,
        reduction=reduction,
        sparse_grad=sparse_grad,
        wants_gradient=False,
    )


def negative_sampling_and_grad(
    h: Array,
    W: Array,
    target: AnyArray,
    sampler: Sampler,
    m: int,
    /,
    bias: AnyArray | None = None,
    *,
    rng: Rng,
    shared: bool = True,
    unique: bool = False,
    remove_hits: bool = False,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
) -> tuple[Array, LinearGradients[Any]]:
    """Compute `negative_sampling` and its gradients, that of W by the rows that were named.

    Parameters
    ----------
    h, W, target, sampler, m, bias, rng, shared, unique, remove_hits, temperature, reduction
        As for `negative_sampling`.

    Returns
    -------
    tuple
        The loss, and `LinearGradients` of h, W and bias, the last two as `IndexedRows`; with reduction "none" those of
        the sum.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> h, W = np.ones((4, 8), np.float32), np.zeros((1000, 8), np.float32)
    >>> loss, grad = sf.negative_sampling_and_grad(h, W, np.arange(4), sf.UniformSampler(1000), 5, rng=0, shared=False)
    >>> grad.weight.values.shape
    (24, 8)
    """
    result: tuple[Array, LinearGradients[Any]] = _computed(
        "negative_sampling",
        h,
        W,
        target,
        sampler,
        m,
        bias=bias,
        rng=rng,
        correction="all",
        shared=shared,
        unique=unique,
        remove_hits=remove_hits,
        temperature=temperature,
        reduction=reduction,
        sparse_grad=True,
        wants_gradient=True,
    )
    return result
