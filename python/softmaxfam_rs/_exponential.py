"""Maps of exponentials: logsumexp, softmax, log_softmax, and the most probable classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numpy import ndarray

from . import _core
from ._dispatch import backend_of
from ._results import TopK
from ._typing import array_function, signed_reduction, top_k_function

if TYPE_CHECKING:
    from ._typing import AnyArray, Array, Axes


@signed_reduction
def logsumexp(
    scores: Array,
    /,
    *,
    axis: Axes = -1,
    keepdims: bool = False,
    where: AnyArray | None = None,
    weights: AnyArray | None = None,
    return_sign: bool = False,
    temperature: AnyArray = 1.0,
    out: AnyArray | None = None,
) -> Array:
    """Compute log sum_i w_i exp(x_i / T) in one pass, without overflow.

    Parameters
    ----------
    scores : array
        float16, bfloat16, float32 or float64; integers and bool become float64. Any strides.
    axis : int, tuple of int or None
        The axis of the classes. With several, or None for all, their classes count as one row.
    keepdims : bool, default False
        Keep the axis, with length 1.
    where : array of bool, optional
        Where it is False the class is absent, whatever its score. It broadcasts to the shape of `scores`.
    weights : array, optional
        w, of any sign, taken in float64; it broadcasts to the shape of `scores`. A class of weight 0 is absent.
    return_sign : bool, default False
        Also return the sign of the sum; without it a negative sum gives NaN.
    temperature : float or array, default 1.0
        Scores are divided by it; > 0 and finite. An array has length 1 along the axis (or broadcasts so).
    out : array, optional
        Written and returned; its shape and dtype are the result's.

    Returns
    -------
    array
        Of the dtype of the scores, without the axis; with `return_sign` a tuple of log |sum| and the sign (-1, 0 or 1).

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For an axis, a shape, an option or an `out` that does not fit; nothing is written.

    Notes
    -----
    For float32 the error is at most 2^-23 max(1, |result|), for 1 to 1e7 classes.
    Source: Blanchard, Higham, Higham (2021).

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> sf.logsumexp(np.array([1000.0, 1000.0]))
    np.float64(1000.69314718056)
    >>> sf.logsumexp(np.zeros((2, 4)), axis=0, keepdims=True).shape
    (1, 4)
    >>> sf.logsumexp(np.zeros(2), weights=[1.0, -3.0], return_sign=True)
    (np.float64(0.6931471805599453), np.float64(-1.0))
    """
    if type(scores) is ndarray and weights is None and not return_sign:
        return _core.logsumexp(scores, axis, keepdims, where, temperature, out)  # type: ignore[arg-type]
    return backend_of("logsumexp", scores, where, weights, temperature, out).logsumexp(
        scores,
        axis=axis,
        keepdims=keepdims,
        where=where,
        weights=weights,
        return_sign=return_sign,
        temperature=temperature,
        out=out,
    )


@array_function
def softmax(
    scores: Array,
    /,
    *,
    axis: Axes = -1,
    where: AnyArray | None = None,
    temperature: AnyArray = 1.0,
    out: AnyArray | None = None,
) -> Array:
    """Compute exp(x_i / T) / sum_j exp(x_j / T).

    Parameters
    ----------
    scores : array
        float16, bfloat16, float32 or float64; integers and bool become float64. Any strides.
    axis : int, tuple of int or None
        The axis of the classes. With several, or None for all, their classes count as one row.
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
    Entry i has a relative error of at most (4 + |x_i/T - max|) eps, or is below the smallest normal number.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> sf.softmax(np.array([0.0, 0.0, -np.inf]))
    array([0.5, 0.5, 0. ])
    """
    if type(scores) is ndarray:
        return _core.softmax(scores, axis, where, temperature, out)  # type: ignore[arg-type]
    return backend_of("softmax", scores, where, temperature, out).softmax(
        scores, axis=axis, where=where, temperature=temperature, out=out
    )


@array_function
def log_softmax(
    scores: Array,
    /,
    *,
    axis: Axes = -1,
    where: AnyArray | None = None,
    temperature: AnyArray = 1.0,
    out: AnyArray | None = None,
) -> Array:
    """Compute x_i / T - log sum_j exp(x_j / T).

    Parameters
    ----------
    scores : array
        float16, bfloat16, float32 or float64; integers and bool become float64. Any strides.
    axis : int, tuple of int or None
        The axis of the classes. With several, or None for all, their classes count as one row.
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
    The error is at most 2 eps max(1, |x_i/T|, |logsumexp|).

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> sf.log_softmax(np.array([0.0, 0.0]))
    array([-0.69314718, -0.69314718])
    """
    if type(scores) is ndarray:
        return _core.log_softmax(scores, axis, where, temperature, out)  # type: ignore[arg-type]
    return backend_of("log_softmax", scores, where, temperature, out).log_softmax(
        scores, axis=axis, where=where, temperature=temperature, out=out
    )


@top_k_function
def top_log_probs(
    scores: Array, k: int, /, *, axis: int = -1, where: AnyArray | None = None, temperature: AnyArray = 1.0
) -> TopK:
    """Find the k most probable classes with their log-probabilities, in one pass.

    Parameters
    ----------
    scores : array
        float16, bfloat16, float32 or float64; integers and bool become float64. Any strides.
    k : int
        From 1 to the number of classes.
    axis : int
        The axis of the classes.
    where : array of bool, optional
        Where it is False the class is absent, whatever its score. It broadcasts to the shape of `scores`.
    temperature : float or array, default 1.0
        Scores are divided by it; > 0 and finite. An array has length 1 along the axis (or broadcasts so).

    Returns
    -------
    TopK
        (log_probs, indices, logsumexp): k in place of the axis, in descending order, ties by lower class. Slots beyond
        the classes present have -inf and -1; rows with NaN or +inf have NaN and -1.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For an axis, a shape, an option or an `out` that does not fit; nothing is written.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> top = sf.top_log_probs(np.array([0.0, 3.0, 3.0, 1.0]), 2)
    >>> top.indices
    array([1, 2])
    >>> np.exp(top.log_probs)
    array([0.45764028, 0.45764028])
    """
    if type(scores) is ndarray:
        return TopK(*_core.top_log_probs(scores, k, axis, where, temperature))  # type: ignore[arg-type]
    return backend_of("top_log_probs", scores, where, temperature).top_log_probs(
        scores, k, axis=axis, where=where, temperature=temperature
    )
