"""Sparse projections between softmax and argmax: entmax and its relatives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numpy import ndarray

from . import _core
from ._dispatch import backend_of
from ._results import Threshold
from ._typing import array_function, sparse_rows_function, threshold_function

if TYPE_CHECKING:
    from ._results import SparseRows
    from ._typing import AnyArray, Array


@array_function
def sparsemax(
    scores: Array,
    /,
    *,
    axis: int = -1,
    where: AnyArray | None = None,
    temperature: AnyArray = 1.0,
    out: AnyArray | None = None,
) -> Array:
    """Project x / T onto the simplex: the nearest probabilities, most of them exactly 0.

    Parameters
    ----------
    scores : array
        float16, bfloat16, float32 or float64; integers and bool become float64. Any strides.
    axis : int
        The axis of the classes.
    where : array of bool, optional
        Where it is False the class is absent, whatever its score. It broadcasts to the shape of `scores`.
    temperature : float or array, default 1.0
        Scores are divided by it; > 0 and finite. An array has length 1 along the axis (or broadcasts so).
    out : array, optional
        Written and returned; its shape and dtype are the result's. It may be `scores` itself.

    Returns
    -------
    array
        Of the shape and dtype of the scores.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For an axis, a shape, an option or an `out` that does not fit; nothing is written.

    Notes
    -----
    The error is at most 4 eps. Source: Martins, Astudillo (2016), arXiv:1602.02068.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> sf.sparsemax(np.array([1.0, 0.5, -1.0]))
    array([0.75, 0.25, 0.  ])
    """
    if type(scores) is ndarray:
        return _core.entmax(scores, 2.0, axis, where, temperature, out)  # type: ignore[arg-type]
    return backend_of("sparsemax", scores, where, temperature, out).sparsemax(
        scores, axis=axis, where=where, temperature=temperature, out=out
    )


@array_function
def entmax(
    scores: Array,
    /,
    alpha: AnyArray = 1.5,
    *,
    axis: int = -1,
    where: AnyArray | None = None,
    temperature: AnyArray = 1.0,
    out: AnyArray | None = None,
) -> Array:
    """Compute entmax of order alpha: probabilities of which, above order 1, most are exactly 0.

    Parameters
    ----------
    scores : array
        float16, bfloat16, float32 or float64; integers and bool become float64. Any strides.
    alpha : float or array, default 1.5
        The order, > 0: 1 is softmax, 2 sparsemax, infinity shares 1 among the maxima; below 1 tails are heavier than
        softmax's. It is continuous everywhere. An array has length 1 along the axis.
    axis : int
        The axis of the classes.
    where : array of bool, optional
        Where it is False the class is absent, whatever its score. It broadcasts to the shape of `scores`.
    temperature : float or array, default 1.0
        Scores are divided by it; > 0 and finite. An array has length 1 along the axis (or broadcasts so).
    out : array, optional
        Written and returned; its shape and dtype are the result's. It may be `scores` itself.

    Returns
    -------
    array
        Of the shape and dtype of the scores.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For an axis, a shape, an option or an `out` that does not fit; nothing is written.

    Notes
    -----
    p_i = [1 + (alpha-1)(x_i/T - normalizer)]_+^(1/(alpha-1)), the normalizer such that they sum to 1. The
    error is at most 4 eps
    for alpha in {1, 1.5, 2} and 16 eps up to 64. Source: Peters, Niculae, Martins (2019), arXiv:1905.05702.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> sf.entmax(np.array([1.0, 0.0, -3.0])).round(4)
    array([0.8307, 0.1693, 0.    ])
    >>> sf.entmax(np.array([[1.0, 1.0], [1.0, 0.5]]), np.array([[1.0], [2.0]]))
    array([[0.5 , 0.5 ],
           [0.75, 0.25]])
    """
    if type(scores) is ndarray:
        return _core.entmax(scores, alpha, axis, where, temperature, out)  # type: ignore[arg-type]
    return backend_of("entmax", scores, alpha, where, temperature, out).entmax(
        scores, alpha, axis=axis, where=where, temperature=temperature, out=out
    )


@array_function
def normmax(
    scores: Array,
    /,
    alpha: AnyArray = 2.0,
    *,
    axis: int = -1,
    where: AnyArray | None = None,
    temperature: AnyArray = 1.0,
    out: AnyArray | None = None,
) -> Array:
    """Compute argmax_p <p, x/T> - norm_alpha(p) over the simplex: sparse, and flat where it is not.

    Parameters
    ----------
    scores : array
        float16, bfloat16, float32 or float64; integers and bool become float64. Any strides.
    alpha : float or array, default 2.0
        The order of the norm, > 1. An array has length 1 along the axis.
    axis : int
        The axis of the classes.
    where : array of bool, optional
        Where it is False the class is absent, whatever its score. It broadcasts to the shape of `scores`.
    temperature : float or array, default 1.0
        Scores are divided by it; > 0 and finite. An array has length 1 along the axis (or broadcasts so).
    out : array, optional
        Written and returned; its shape and dtype are the result's. It may be `scores` itself.

    Returns
    -------
    array
        Of the shape and dtype of the scores.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For an axis, a shape, an option or an `out` that does not fit; nothing is written.

    Notes
    -----
    Source: Blondel, Martins, Niculae (2020), arXiv:1901.02324.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> sf.normmax(np.array([0.3, 0.3, -2.0]))
    array([0.5, 0.5, 0. ])
    """
    if type(scores) is ndarray:
        return _core.normmax(scores, alpha, axis, where, temperature, out)  # type: ignore[arg-type]
    return backend_of("normmax", scores, alpha, where, temperature, out).normmax(
        scores, alpha, axis=axis, where=where, temperature=temperature, out=out
    )


@array_function
def budget_sparsemax(
    scores: Array,
    /,
    budget: AnyArray,
    *,
    axis: int = -1,
    where: AnyArray | None = None,
    temperature: AnyArray = 1.0,
    out: AnyArray | None = None,
) -> Array:
    """Project x / T onto {0 <= p <= 1, sum p = budget}: a soft choice of `budget` classes.

    Parameters
    ----------
    scores : array
        float16, bfloat16, float32 or float64; integers and bool become float64. Any strides.
    budget : float or array
        From 0 to the number of classes present. An array has length 1 along the axis.
    axis : int
        The axis of the classes.
    where : array of bool, optional
        Where it is False the class is absent, whatever its score. It broadcasts to the shape of `scores`.
    temperature : float or array, default 1.0
        Scores are divided by it; > 0 and finite. An array has length 1 along the axis (or broadcasts so).
    out : array, optional
        Written and returned; its shape and dtype are the result's. It may be `scores` itself.

    Returns
    -------
    array
        Of the shape and dtype of the scores.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For an axis, a shape, an option or an `out` that does not fit; nothing is written.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> sf.budget_sparsemax(np.array([5.0, 0.5, 0.5]), 2)
    array([1. , 0.5, 0.5])
    """
    if type(scores) is ndarray:
        return _core.budget_sparsemax(scores, budget, axis, where, temperature, out)  # type: ignore[arg-type]
    return backend_of("budget_sparsemax", scores, budget, where, temperature, out).budget_sparsemax(
        scores, budget, axis=axis, where=where, temperature=temperature, out=out
    )


@threshold_function
def entmax_threshold(
    scores: Array,
    /,
    alpha: AnyArray = 1.5,
    *,
    axis: int = -1,
    where: AnyArray | None = None,
    temperature: AnyArray = 1.0,
) -> Threshold:
    """Compute the threshold of entmax: what its probabilities follow from, without them.

    Parameters
    ----------
    scores : array
        float16, bfloat16, float32 or float64; integers and bool become float64. Any strides.
    alpha : float or array, default 1.5
        The order, > 0: 1 is softmax, 2 sparsemax, infinity shares 1 among the maxima; below 1 tails are heavier than
        softmax's. It is continuous everywhere. An array has length 1 along the axis.
    axis : int
        The axis of the classes.
    where : array of bool, optional
        Where it is False the class is absent, whatever its score. It broadcasts to the shape of `scores`.
    temperature : float or array, default 1.0
        Scores are divided by it; > 0 and finite. An array has length 1 along the axis (or broadcasts so).

    Returns
    -------
    Threshold
        (normalizer, support_size, log_p_max), each without the axis; (-inf, 0, -inf) for a row that is masked
        as a whole, and
        (NaN, 0, NaN) for an undefined one.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For an axis, a shape, an option or an `out` that does not fit; nothing is written.

    Notes
    -----
    p_i = [1 + (alpha-1)(x_i/T - normalizer)]_+^(1/(alpha-1)). Source: Peters, Niculae, Martins (2019),
    arXiv:1905.05702.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> threshold = sf.entmax_threshold(np.array([1.0, 0.5, -1.0]), 2.0)
    >>> threshold.normalizer, threshold.support_size
    (np.float64(1.25), np.int64(2))
    """
    if type(scores) is ndarray:
        return Threshold(*_core.entmax_threshold(scores, alpha, axis, where, temperature))  # type: ignore[arg-type]
    return backend_of("entmax_threshold", scores, alpha, where, temperature).entmax_threshold(
        scores, alpha, axis=axis, where=where, temperature=temperature
    )


@sparse_rows_function
def entmax_sparse(
    scores: Array,
    /,
    alpha: AnyArray = 1.5,
    *,
    axis: int = -1,
    where: AnyArray | None = None,
    temperature: AnyArray = 1.0,
    max_support: int | None = None,
) -> SparseRows:
    """Compute entmax without its zeros; the dense result is never made.

    Parameters
    ----------
    scores : array
        float16, bfloat16, float32 or float64; integers and bool become float64. Any strides.
    alpha : float or array, default 1.5
        The order, > 0: 1 is softmax, 2 sparsemax, infinity shares 1 among the maxima; below 1 tails are heavier than
        softmax's. It is continuous everywhere. An array has length 1 along the axis.
    axis : int
        The axis of the classes.
    where : array of bool, optional
        Where it is False the class is absent, whatever its score. It broadcasts to the shape of `scores`.
    temperature : float or array, default 1.0
        Scores are divided by it; > 0 and finite. An array has length 1 along the axis (or broadcasts so).
    max_support : int, optional
        The largest support to accept: beyond it a ValueError names the row and its support.

    Returns
    -------
    SparseRows
        (indptr, indices, values, shape): CSR, rows in C order, the class axis last. An undefined row holds NaN
        for each class.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For an axis, a shape, an option or an `out` that does not fit; nothing is written.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> rows = sf.entmax_sparse(np.array([[1.0, 0.5, -1.0], [9.0, 0.0, 0.0]]), 2.0)
    >>> rows.indptr, rows.indices, rows.values
    (array([0, 2, 3]), array([0, 1, 0]), array([0.75, 0.25, 1.  ]))
    """
    return backend_of("entmax_sparse", scores, alpha, where, temperature).entmax_sparse(
        scores, alpha, axis=axis, where=where, temperature=temperature, max_support=max_support
    )


@array_function
def tsallis_entropy(p: Array, /, alpha: AnyArray, *, axis: int = -1) -> Array:
    """Compute the Tsallis entropy (1 - sum p_i^alpha) / (alpha (alpha-1)), Shannon's at alpha = 1.

    Parameters
    ----------
    p : array
        Probabilities.
    alpha : float or array
        The order, > 0. An array has length 1 along the axis.
    axis : int
        The axis of the classes.

    Returns
    -------
    array
        Of the dtype of `p`, without the axis.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For an axis, a shape, an option or an `out` that does not fit; nothing is written.

    Notes
    -----
    It is the entropy whose maximiser, with <p, x>, is entmax of the same order. Source: Tsallis (1988).

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> sf.tsallis_entropy(np.array([0.5, 0.5]), 2.0)
    np.float64(0.25)
    """
    if type(p) is ndarray:
        return _core.tsallis_entropy(p, alpha, axis)  # type: ignore[arg-type]
    return backend_of("tsallis_entropy", p, alpha).tsallis_entropy(p, alpha, axis=axis)
