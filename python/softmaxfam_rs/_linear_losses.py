"""Losses fused with a linear head: of scores h W^T + b, without the matrix of all scores.

Float32 of NumPy, and of torch in CPU memory, goes to the core, which takes blocks of queries and keeps only their
scores; others multiply with their library and take the losses of scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._dispatch import backend_of

if TYPE_CHECKING:
    from typing import Any

    from ._results import LinearGradients
    from ._typing import AnyArray, Array, Reduction


def _computed(
    function: str,
    kind: str,
    h: Array,
    class_matrix: Array,
    target: AnyArray,
    bias: AnyArray | None,
    parameter: float,
    **options: Any,  # noqa: ANN401  each as it was given
) -> Any:  # noqa: ANN401  an array, or a pair
    if options["reduction"] not in {"none", "mean", "sum"}:
        raise ValueError(f"reduction is {options['reduction']!r}, must be 'none', 'mean' or 'sum'")
    others = (class_matrix, target, bias, options["where"], options["weight"])
    backend = backend_of(function, h, *others)
    return backend.linear_loss(kind, h, class_matrix, target, parameter, bias=bias, **options)


def linear_cross_entropy(
    h: Array,
    W: Array,
    target: AnyArray,
    /,
    bias: AnyArray | None = None,
    *,
    where: AnyArray | None = None,
    weight: AnyArray | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    temperature: float = 1.0,
) -> Array:
    """Compute `cross_entropy` of the scores h W^T + b without the matrix of all scores.

    Parameters
    ----------
    h : array, shape (..., D)
        Queries: float16, bfloat16, float32 or float64. Float32 of NumPy and torch is computed by blocks.
    W : array, shape (V, D)
        A row for each class.
    target : array of int, shape (...)
        A class id for each query.
    bias : array, shape (V,), optional
        Added to the scores.
    where : array of bool, shape (V,), optional
        Where it is False the class is absent.
    weight : array, shape (V,), optional
        A weight of each class, finite and >= 0.
    ignore_index : int, optional
        Queries with this class id count nothing, whatever their numbers; it need be no class.
    label_smoothing : float, default 0.0
        The share of each target, from 0 to 1, that is spread evenly over the classes present.
    reduction : {"mean", "sum", "none"}, default "mean"
        What becomes of the losses of the queries; a mean divides by the weights of the labels that count.
    temperature : float, default 1.0
        Scores are divided by it; > 0 and finite.

    Returns
    -------
    array
        One number, or with reduction "none" one for each query.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a class id out of range, or a shape or an option that does not fit; the message names it.

    Notes
    -----
    The scores of a block of queries are kept, at most 54 MiB or those of one query, and nothing is computed twice.
    Gradients have the same bits for any number of threads.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> h, W = np.random.default_rng(0).standard_normal((2, 500, 8), dtype=np.float32)
    >>> target = np.arange(500)
    >>> np.isclose(sf.linear_cross_entropy(h, W, target), sf.cross_entropy(h @ W.T, target))
    np.True_
    """
    return _computed(
        "linear_cross_entropy",
        "cross_entropy",
        h,
        W,
        target,
        bias,
        0.0,
        where=where,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        temperature=temperature,
        gradient="none",
    )


def linear_cross_entropy_and_grad(
    h: Array,
    W: Array,
    target: AnyArray,
    /,
    bias: AnyArray | None = None,
    *,
    where: AnyArray | None = None,
    weight: AnyArray | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    temperature: float = 1.0,
) -> tuple[Array, LinearGradients]:
    """Compute `linear_cross_entropy` and its gradients, in one pass over blocks of queries.

    Parameters
    ----------
    h, W, target, bias, where, weight, ignore_index, label_smoothing, reduction, temperature
        As for `linear_cross_entropy`.

    Returns
    -------
    tuple
        The loss, and `LinearGradients` of the queries, of W and of the bias; with reduction "none" those of the sum.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a class id out of range, or a shape or an option that does not fit; the message names it.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> h, W = np.random.default_rng(0).standard_normal((2, 500, 8), dtype=np.float32)
    >>> loss, grad = sf.linear_cross_entropy_and_grad(h, W, np.arange(500))
    >>> grad.h.shape, grad.weight.shape
    ((500, 8), (500, 8))
    """
    found: tuple[Array, LinearGradients] = _computed(
        "linear_cross_entropy_and_grad",
        "cross_entropy",
        h,
        W,
        target,
        bias,
        0.0,
        where=where,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        temperature=temperature,
        gradient="dense",
    )
    return found


def linear_entmax_loss(
    h: Array,
    W: Array,
    target: AnyArray,
    /,
    alpha: float = 1.5,
    bias: AnyArray | None = None,
    *,
    where: AnyArray | None = None,
    weight: AnyArray | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    temperature: float = 1.0,
) -> Array:
    """Compute `entmax_loss` of the scores h W^T + b without the matrix of all scores.

    Parameters
    ----------
    h : array, shape (..., D)
        Queries: float16, bfloat16, float32 or float64. Float32 of NumPy and torch is computed by blocks.
    W : array, shape (V, D)
        A row for each class.
    target : array of int, shape (...)
        A class id for each query.
    alpha : float, default 1.5
        The order, > 0.
    bias : array, shape (V,), optional
        Added to the scores.
    where : array of bool, shape (V,), optional
        Where it is False the class is absent.
    weight : array, shape (V,), optional
        A weight of each class, finite and >= 0.
    ignore_index : int, optional
        Queries with this class id count nothing, whatever their numbers; it need be no class.
    label_smoothing : float, default 0.0
        The share of each target, from 0 to 1, that is spread evenly over the classes present.
    reduction : {"mean", "sum", "none"}, default "mean"
        What becomes of the losses of the queries; a mean divides by the weights of the labels that count.
    temperature : float, default 1.0
        Scores are divided by it; > 0 and finite.

    Returns
    -------
    array
        One number, or with reduction "none" one for each query.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a class id out of range, or a shape or an option that does not fit; the message names it.

    Notes
    -----
    For alpha > 1 classes outside the support cost one product, and no gradient. Source: Peters, Niculae, Martins
    (2019), arXiv:1905.05702.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> h, W = np.random.default_rng(0).standard_normal((2, 500, 8), dtype=np.float32)
    >>> target = np.arange(500)
    >>> np.isclose(sf.linear_entmax_loss(h, W, target), sf.entmax_loss(h @ W.T, target))
    np.True_
    """
    return _computed(
        "linear_entmax_loss",
        "entmax",
        h,
        W,
        target,
        bias,
        alpha,
        where=where,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        temperature=temperature,
        gradient="none",
    )


def linear_entmax_loss_and_grad(
    h: Array,
    W: Array,
    target: AnyArray,
    /,
    alpha: float = 1.5,
    bias: AnyArray | None = None,
    *,
    where: AnyArray | None = None,
    weight: AnyArray | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    temperature: float = 1.0,
    sparse_grad: bool | None = None,
) -> tuple[Array, LinearGradients]:
    """Compute `linear_entmax_loss` and its gradients, in one pass over blocks of queries.

    Parameters
    ----------
    h, W, target, alpha, bias, where, weight, ignore_index, label_smoothing, reduction, temperature
        As for `linear_entmax_loss`.
    sparse_grad : bool, optional
        Give the gradient of W as `IndexedRows`: the rows of classes in the support of a query. By default so for NumPy
        and torch, the libraries that can.

    Returns
    -------
    tuple
        The loss, and `LinearGradients` of the queries, of W and of the bias; with reduction "none" those of the sum.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a class id out of range, or a shape or an option that does not fit; the message names it.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> h, W = np.random.default_rng(0).standard_normal((2, 500, 8), dtype=np.float32)
    >>> loss, grad = sf.linear_entmax_loss_and_grad(h[:1], W, [7])
    >>> grad.weight.shape, len(grad.weight.indices) < 20  # the support of one query, and its target
    ((500, 8), True)
    """
    found: tuple[Array, LinearGradients] = _computed(
        "linear_entmax_loss_and_grad",
        "entmax",
        h,
        W,
        target,
        bias,
        alpha,
        where=where,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        temperature=temperature,
        gradient="sparse_or_dense" if sparse_grad is None else "sparse" if sparse_grad else "dense",
    )
    return found


def linear_rankmax_loss(
    h: Array,
    W: Array,
    target: AnyArray,
    /,
    bias: AnyArray | None = None,
    *,
    margin: float = 1.0,
    where: AnyArray | None = None,
    weight: AnyArray | None = None,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
    temperature: float = 1.0,
) -> Array:
    """Compute `rankmax_loss` of the scores h W^T + b without the matrix of all scores.

    Parameters
    ----------
    h : array, shape (..., D)
        Queries: float16, bfloat16, float32 or float64. Float32 of NumPy and torch is computed by blocks.
    W : array, shape (V, D)
        A row for each class.
    target : array of int, shape (...)
        A class id for each query.
    bias : array, shape (V,), optional
        Added to the scores.
    margin : float, default 1.0
        How far the target's score must be above another for that to count no more, > 0, in units of the temperature.
    where : array of bool, shape (V,), optional
        Where it is False the class is absent.
    weight : array, shape (V,), optional
        A weight of each class, finite and >= 0.
    ignore_index : int, optional
        Queries with this class id count nothing, whatever their numbers; it need be no class.
    reduction : {"mean", "sum", "none"}, default "mean"
        What becomes of the losses of the queries; a mean divides by the weights of the labels that count.
    temperature : float, default 1.0
        Scores are divided by it; > 0 and finite.

    Returns
    -------
    array
        One number, or with reduction "none" one for each query.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a class id out of range, or a shape or an option that does not fit; the message names it.

    Notes
    -----
    Source: Kong, Krichene, Mayoraz, Rendle, Zhang (2020), NeurIPS 33.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> h, W = np.random.default_rng(0).standard_normal((2, 500, 8), dtype=np.float32)
    >>> target = np.arange(500)
    >>> np.isclose(sf.linear_rankmax_loss(h, W, target), sf.rankmax_loss(h @ W.T, target))
    np.True_
    """
    return _computed(
        "linear_rankmax_loss",
        "rankmax",
        h,
        W,
        target,
        bias,
        margin,
        where=where,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=0.0,
        reduction=reduction,
        temperature=temperature,
        gradient="none",
    )


def linear_rankmax_loss_and_grad(
    h: Array,
    W: Array,
    target: AnyArray,
    /,
    bias: AnyArray | None = None,
    *,
    margin: float = 1.0,
    where: AnyArray | None = None,
    weight: AnyArray | None = None,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
    temperature: float = 1.0,
    sparse_grad: bool | None = None,
) -> tuple[Array, LinearGradients]:
    """Compute `linear_rankmax_loss` and its gradients, in one pass over blocks of queries.

    Parameters
    ----------
    h, W, target, bias, margin, where, weight, ignore_index, reduction, temperature
        As for `linear_rankmax_loss`.
    sparse_grad : bool, optional
        Give the gradient of W as `IndexedRows`: the rows of classes in the support of a query. By default so for NumPy
        and torch, the libraries that can.

    Returns
    -------
    tuple
        The loss, and `LinearGradients` of the queries, of W and of the bias; with reduction "none" those of the sum.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a class id out of range, or a shape or an option that does not fit; the message names it.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> h, W = np.random.default_rng(0).standard_normal((2, 500, 8), dtype=np.float32)
    >>> loss, grad = sf.linear_rankmax_loss_and_grad(h, W, np.arange(500), sparse_grad=False)
    >>> grad.weight.shape
    (500, 8)
    """
    found: tuple[Array, LinearGradients] = _computed(
        "linear_rankmax_loss_and_grad",
        "rankmax",
        h,
        W,
        target,
        bias,
        margin,
        where=where,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=0.0,
        reduction=reduction,
        temperature=temperature,
        gradient="sparse_or_dense" if sparse_grad is None else "sparse" if sparse_grad else "dense",
    )
    return found
