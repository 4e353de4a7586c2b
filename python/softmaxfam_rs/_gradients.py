"""Vector-Jacobian products of the maps, for those without automatic differentiation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numpy import ndarray

from . import _core
from ._dispatch import backend_of
from ._typing import array_function

if TYPE_CHECKING:
    from ._typing import AnyArray, Array, Axes


@array_function
def softmax_vjp(p: Array, g: AnyArray, /, *, axis: Axes = -1) -> Array:
    """Compute p (g - <p, g>): the gradient with respect to scores whose softmax is p.

    Parameters
    ----------
    p : array
        The result of `softmax`.
    g : array
        The gradient of a scalar with respect to `p`, of the same shape and dtype.
    axis : int, tuple of int or None
        The axis of the classes. With several, or None for all, their classes count as one row.

    Returns
    -------
    array
        Of the shape and dtype of `p`.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For an axis, a shape, an option or an `out` that does not fit; nothing is written.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> sf.softmax_vjp(np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    array([ 0.25, -0.25])
    """
    if type(p) is ndarray and type(g) is ndarray:
        return _core.softmax_vjp(p, g, axis, 1.0)
    return backend_of("softmax_vjp", p, g).softmax_vjp(p, g, axis=axis)


@array_function
def log_softmax_vjp(log_p: Array, g: AnyArray, /, *, axis: Axes = -1) -> Array:
    """Compute g - exp(log_p) sum g: the gradient with respect to scores whose log_softmax is log_p.

    Parameters
    ----------
    log_p : array
        The result of `log_softmax`.
    g : array
        The gradient of a scalar with respect to `log_p`, of the same shape and dtype.
    axis : int, tuple of int or None
        The axis of the classes. With several, or None for all, their classes count as one row.

    Returns
    -------
    array
        Of the shape and dtype of `log_p`.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For an axis, a shape, an option or an `out` that does not fit; nothing is written.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> sf.log_softmax_vjp(np.log([0.5, 0.5]), np.array([1.0, 0.0]))
    array([ 0.5, -0.5])
    """
    if type(log_p) is ndarray and type(g) is ndarray:
        return _core.log_softmax_vjp(log_p, g, axis, 1.0)
    return backend_of("log_softmax_vjp", log_p, g).log_softmax_vjp(log_p, g, axis=axis)


@array_function
def logsumexp_vjp(scores: Array, lse: AnyArray, g: AnyArray, /, *, axis: Axes = -1) -> Array:
    """Compute g exp(x - lse): the gradient with respect to scores whose logsumexp is lse.

    Parameters
    ----------
    scores : array
        float16, bfloat16, float32 or float64; integers and bool become float64. Any strides.
    lse : array
        The result of `logsumexp`, with or without its axis of length 1.
    g : array
        The gradient of a scalar with respect to `lse`.
    axis : int, tuple of int or None
        The axis of the classes. With several, or None for all, their classes count as one row.

    Returns
    -------
    array
        Of the shape and dtype of `scores`.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For an axis, a shape, an option or an `out` that does not fit; nothing is written.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> sf.logsumexp_vjp(np.zeros(2), np.log(2.0), np.array(1.0))
    array([0.5, 0.5])
    """
    if type(scores) is ndarray and type(lse) is ndarray and type(g) is ndarray:
        return _core.logsumexp_vjp(scores, lse, g, axis, None, 1.0)
    return backend_of("logsumexp_vjp", scores, lse, g).logsumexp_vjp(scores, lse, g, axis=axis)


@array_function
def entmax_vjp(p: Array, g: AnyArray, /, alpha: AnyArray, *, axis: int = -1) -> Array:
    """Compute J g, J the Jacobian of entmax at its result p.

    Parameters
    ----------
    p : array
        The result of `entmax`.
    g : array
        The gradient of a scalar with respect to `p`, of the same shape and dtype.
    alpha : float or array
        The order that gave `p`. An array has length 1 along the axis.
    axis : int
        The axis of the classes.

    Returns
    -------
    array
        Of the shape and dtype of `p`.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For an axis, a shape, an option or an `out` that does not fit; nothing is written.

    Notes
    -----
    Source: Peters, Niculae, Martins (2019), arXiv:1905.05702.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> sf.entmax_vjp(np.array([0.75, 0.25, 0.0]), np.array([1.0, 0.0, 5.0]), 2.0)
    array([ 0.5, -0.5,  0. ])
    """
    if type(p) is ndarray and type(g) is ndarray:
        return _core.entmax_vjp(p, g, alpha, axis, 1.0)  # type: ignore[arg-type]
    return backend_of("entmax_vjp", p, g, alpha).entmax_vjp(p, g, alpha, axis=axis)


@array_function
def entmax_alpha_grad(p: Array, g: AnyArray, /, alpha: AnyArray, *, axis: int = -1) -> Array:
    """Compute <g, dp / d alpha> for each row, p being entmax of order alpha.

    Parameters
    ----------
    p : array
        The result of `entmax`.
    g : array
        The gradient of a scalar with respect to `p`, of the same shape and dtype.
    alpha : float or array
        The order that gave `p`. An array has length 1 along the axis.
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
    Source: Peters, Niculae, Martins (2019), arXiv:1905.05702 and Correia, Niculae, Martins (2019), arXiv:1909.00015.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> sf.entmax_alpha_grad(np.array([0.5, 0.5]), np.array([1.0, 0.0]), 1.5)
    np.float64(0.0)
    """
    if type(p) is ndarray and type(g) is ndarray:
        return _core.entmax_alpha_grad(p, g, alpha, axis)  # type: ignore[arg-type]
    return backend_of("entmax_alpha_grad", p, g, alpha).entmax_alpha_grad(p, g, alpha, axis=axis)
