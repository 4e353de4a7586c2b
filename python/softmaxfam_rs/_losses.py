"""Losses of scores against targets: Fenchel-Young losses, cross entropy and Rankmax's, each with its gradient.

All share their options, and one backend function, `loss`, which gets them by keyword.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ._dispatch import backend_of
from ._typing import array_function, loss_and_grad_function, loss_and_sparse_grad_function

if TYPE_CHECKING:
    from typing import Any

    from ._typing import AnyArray, Array, Reduction


def _computed(
    function: str,
    kind: str,
    scores: Array,
    target: AnyArray,
    alpha: tuple[AnyArray, ...] = (),
    *,
    constant: float = 1.0,
    **options: Any,  # noqa: ANN401  each as it was given
) -> Any:  # noqa: ANN401  an array, or a pair
    """Call the backend of the arrays; `constant` is what stands for alpha where that is no argument."""
    if options["reduction"] not in {"none", "mean", "sum"}:
        raise ValueError(f"reduction is {options['reduction']!r}, must be 'none', 'mean' or 'sum'")
    backend = backend_of(function, scores, target, *alpha, options["where"], options["weight"], options["temperature"])
    return backend.loss(kind, scores, target, alpha[0] if alpha else constant, **options)


@array_function
def entmax_loss(
    scores: Array,
    target: AnyArray,
    /,
    alpha: AnyArray = 1.5,
    *,
    axis: int = -1,
    where: AnyArray | None = None,
    weight: AnyArray | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    temperature: AnyArray = 1.0,
) -> Array:
    """Compute the Fenchel-Young loss of entmax: 0 beyond the margin 1/(alpha-1), with sparse gradients.

    Parameters
    ----------
    scores : array
        float16, bfloat16, float32 or float64; integers and bool become float64. Any strides.
    target : array
        Class ids, integers of the shape of the scores without the axis; or a distribution over classes, floats of the
        shape of the scores.
    alpha : float or array, default 1.5
        The order, > 0: 1 is cross entropy less the entropy of the target, 2 sparsemax's loss, infinity the
        perceptron's. An array has length 1 along the axis.
    axis : int
        The axis of the classes.
    where : array of bool, optional
        Where it is False the class is absent, whatever its score. It broadcasts to the shape of `scores`.
    weight : array, optional
        A weight of each class, finite and >= 0, of shape (n_classes,).
    ignore_index : int, optional
        Rows with this class id count nothing; it need be no class.
    label_smoothing : float, default 0.0
        The share of each target, from 0 to 1, that is spread evenly over the classes present.
    reduction : {"mean", "sum", "none"}, default "mean"
        What becomes of the losses of the rows; a mean divides by the weights of the labels that count, or by the number
        of rows where targets are distributions.
    temperature : float or array, default 1.0
        Scores are divided by it; > 0 and finite. An array has length 1 along the axis (or broadcasts so).

    Returns
    -------
    array
        Of the dtype of the scores: one number, or with reduction "none" one for each row, without the axis. Never
        negative.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a class id out of range, or an axis, a shape or an option that does not fit; the message names it.

    Notes
    -----
    L = max_p (<p, x/T> - Omega(p)) + Omega(y) - <x/T, y>, Omega(p) = sum (p^alpha - p) / (alpha (alpha-1)), over
    the simplex. It is computed as the Bregman divergence of Omega, whose terms are all >= 0. Source: Blondel, Martins,
    Niculae (2020), arXiv:1901.02324; Peters, Niculae, Martins (2019), arXiv:1905.05702.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> sf.entmax_loss(np.array([[3.0, 0.9, -1.0], [0.0, 1.0, 0.0]]), np.array([0, 1]), reduction="none").round(4)
    array([0.    , 0.0996])
    """
    return _computed(
        "entmax_loss",
        "entmax",
        scores,
        target,
        (alpha,),
        axis=axis,
        where=where,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        temperature=temperature,
        gradient="none",
    )


@loss_and_sparse_grad_function
def entmax_loss_and_grad(
    scores: Array,
    target: AnyArray,
    /,
    alpha: AnyArray = 1.5,
    *,
    axis: int = -1,
    where: AnyArray | None = None,
    weight: AnyArray | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    temperature: AnyArray = 1.0,
    sparse_grad: bool = False,
) -> Any:  # noqa: ANN401
    """Compute `entmax_loss` and its gradient, in one pass over the scores.

    Parameters
    ----------
    scores, target, alpha, axis, where, weight, ignore_index, label_smoothing, reduction, temperature
        As for `entmax_loss`.
    sparse_grad : bool, default False
        Give the gradient as `SparseRows`, without its zeros.

    Returns
    -------
    tuple
        The loss as `entmax_loss` gives it, and its gradient with respect to the scores, like them; with reduction
        "none" that of the sum of the losses.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a class id out of range, or an axis, a shape or an option that does not fit; the message names it.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> loss, grad = sf.entmax_loss_and_grad(np.array([1.0, 0.5, -1.0]), 1, 2.0)
    >>> loss, grad
    (np.float64(0.5625), array([ 0.75, -0.75,  0.  ]))
    """
    return _computed(
        "entmax_loss_and_grad",
        "entmax",
        scores,
        target,
        (alpha,),
        axis=axis,
        where=where,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        temperature=temperature,
        gradient="sparse" if sparse_grad else "dense",
    )


@array_function
def sparsemax_loss(
    scores: Array,
    target: AnyArray,
    /,
    *,
    axis: int = -1,
    where: AnyArray | None = None,
    weight: AnyArray | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    temperature: AnyArray = 1.0,
) -> Array:
    """Compute the Fenchel-Young loss of sparsemax: the entmax loss of order 2, 0 beyond the margin 1.

    Parameters
    ----------
    scores : array
        float16, bfloat16, float32 or float64; integers and bool become float64. Any strides.
    target : array
        Class ids, integers of the shape of the scores without the axis; or a distribution over classes, floats of the
        shape of the scores.
    axis : int
        The axis of the classes.
    where : array of bool, optional
        Where it is False the class is absent, whatever its score. It broadcasts to the shape of `scores`.
    weight : array, optional
        A weight of each class, finite and >= 0, of shape (n_classes,).
    ignore_index : int, optional
        Rows with this class id count nothing; it need be no class.
    label_smoothing : float, default 0.0
        The share of each target, from 0 to 1, that is spread evenly over the classes present.
    reduction : {"mean", "sum", "none"}, default "mean"
        What becomes of the losses of the rows; a mean divides by the weights of the labels that count, or by the number
        of rows where targets are distributions.
    temperature : float or array, default 1.0
        Scores are divided by it; > 0 and finite. An array has length 1 along the axis (or broadcasts so).

    Returns
    -------
    array
        Of the dtype of the scores: one number, or with reduction "none" one for each row, without the axis. Never
        negative.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a class id out of range, or an axis, a shape or an option that does not fit; the message names it.

    Notes
    -----
    Source: Martins, Astudillo (2016), arXiv:1602.02068.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> sf.sparsemax_loss(np.array([1.0, 0.5, -1.0]), 1)
    np.float64(0.5625)
    """
    return _computed(
        "sparsemax_loss",
        "entmax",
        scores,
        target,
        axis=axis,
        where=where,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        temperature=temperature,
        gradient="none",
        constant=2.0,
    )


@loss_and_sparse_grad_function
def sparsemax_loss_and_grad(
    scores: Array,
    target: AnyArray,
    /,
    *,
    axis: int = -1,
    where: AnyArray | None = None,
    weight: AnyArray | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    temperature: AnyArray = 1.0,
    sparse_grad: bool = False,
) -> Any:  # noqa: ANN401
    """Compute `sparsemax_loss` and its gradient, in one pass over the scores.

    Parameters
    ----------
    scores, target, axis, where, weight, ignore_index, label_smoothing, reduction, temperature
        As for `sparsemax_loss`.
    sparse_grad : bool, default False
        Give the gradient as `SparseRows`, without its zeros.

    Returns
    -------
    tuple
        The loss as `sparsemax_loss` gives it, and its gradient with respect to the scores, like them; with reduction
        "none" that of the sum of the losses.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a class id out of range, or an axis, a shape or an option that does not fit; the message names it.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> loss, grad = sf.sparsemax_loss_and_grad(np.array([[1.0, 0.5, -1.0]]), [1], sparse_grad=True)
    >>> grad.indices, grad.values
    (array([0, 1]), array([ 0.75, -0.75]))
    """
    return _computed(
        "sparsemax_loss_and_grad",
        "entmax",
        scores,
        target,
        axis=axis,
        where=where,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        temperature=temperature,
        gradient="sparse" if sparse_grad else "dense",
        constant=2.0,
    )


@array_function
def cross_entropy(
    scores: Array,
    target: AnyArray,
    /,
    *,
    axis: int = -1,
    where: AnyArray | None = None,
    weight: AnyArray | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    temperature: AnyArray = 1.0,
) -> Array:
    """Compute -sum_c y_c log softmax(x/T)_c, with the options of torch's function of that name.

    Parameters
    ----------
    scores : array
        float16, bfloat16, float32 or float64; integers and bool become float64. Any strides.
    target : array
        Class ids, integers of the shape of the scores without the axis; or a distribution over classes, floats of the
        shape of the scores.
    axis : int
        The axis of the classes.
    where : array of bool, optional
        Where it is False the class is absent, whatever its score. It broadcasts to the shape of `scores`.
    weight : array, optional
        A weight of each class, finite and >= 0, of shape (n_classes,).
    ignore_index : int, optional
        Rows with this class id count nothing; it need be no class.
    label_smoothing : float, default 0.0
        The share of each target, from 0 to 1, that is spread evenly over the classes present.
    reduction : {"mean", "sum", "none"}, default "mean"
        What becomes of the losses of the rows; a mean divides by the weights of the labels that count, or by the number
        of rows where targets are distributions.
    temperature : float or array, default 1.0
        Scores are divided by it; > 0 and finite. An array has length 1 along the axis (or broadcasts so).

    Returns
    -------
    array
        Of the dtype of the scores: one number, or with reduction "none" one for each row, without the axis. Never
        negative.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a class id out of range, or an axis, a shape or an option that does not fit; the message names it.

    Notes
    -----
    For a class c it is log(1 + sum_{i != c} e^((x_i - x_c)/T)), of which no digit is lost for confident rows. A
    distribution leaves its own entropy in it: `entmax_loss` of order 1 is without.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> sf.cross_entropy(np.array([40.0, 0.0]), 0)
    np.float64(4.248354255291589e-18)
    """
    return _computed(
        "cross_entropy",
        "cross_entropy",
        scores,
        target,
        axis=axis,
        where=where,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        temperature=temperature,
        gradient="none",
    )


@loss_and_grad_function
def cross_entropy_and_grad(
    scores: Array,
    target: AnyArray,
    /,
    *,
    axis: int = -1,
    where: AnyArray | None = None,
    weight: AnyArray | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    temperature: AnyArray = 1.0,
) -> Any:  # noqa: ANN401
    """Compute `cross_entropy` and its gradient, in one pass over the scores.

    Parameters
    ----------
    scores, target, axis, where, weight, ignore_index, label_smoothing, reduction, temperature
        As for `cross_entropy`.

    Returns
    -------
    tuple
        The loss as `cross_entropy` gives it, and its gradient with respect to the scores, like them; with reduction
        "none" that of the sum of the losses.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a class id out of range, or an axis, a shape or an option that does not fit; the message names it.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> loss, grad = sf.cross_entropy_and_grad(np.zeros((1, 2)), np.array([0]))
    >>> loss, grad
    (np.float64(0.6931471805599453), array([[-0.5,  0.5]]))
    """
    return _computed(
        "cross_entropy_and_grad",
        "cross_entropy",
        scores,
        target,
        axis=axis,
        where=where,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        temperature=temperature,
        gradient="dense",
    )


@array_function
def perceptron_loss(
    scores: Array,
    target: AnyArray,
    /,
    *,
    axis: int = -1,
    where: AnyArray | None = None,
    weight: AnyArray | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    temperature: AnyArray = 1.0,
) -> Array:
    """Compute max x/T - <x/T, y>: the entmax loss of infinite order, without a margin.

    Parameters
    ----------
    scores : array
        float16, bfloat16, float32 or float64; integers and bool become float64. Any strides.
    target : array
        Class ids, integers of the shape of the scores without the axis; or a distribution over classes, floats of the
        shape of the scores.
    axis : int
        The axis of the classes.
    where : array of bool, optional
        Where it is False the class is absent, whatever its score. It broadcasts to the shape of `scores`.
    weight : array, optional
        A weight of each class, finite and >= 0, of shape (n_classes,).
    ignore_index : int, optional
        Rows with this class id count nothing; it need be no class.
    label_smoothing : float, default 0.0
        The share of each target, from 0 to 1, that is spread evenly over the classes present.
    reduction : {"mean", "sum", "none"}, default "mean"
        What becomes of the losses of the rows; a mean divides by the weights of the labels that count, or by the number
        of rows where targets are distributions.
    temperature : float or array, default 1.0
        Scores are divided by it; > 0 and finite. An array has length 1 along the axis (or broadcasts so).

    Returns
    -------
    array
        Of the dtype of the scores: one number, or with reduction "none" one for each row, without the axis. Never
        negative.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a class id out of range, or an axis, a shape or an option that does not fit; the message names it.

    Notes
    -----
    The gradient is that which shares 1 among the maxima.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> sf.perceptron_loss(np.array([[2.0, 0.5], [2.0, 0.5]]), np.array([0, 1]), reduction="none")
    array([0. , 1.5])
    """
    return _computed(
        "perceptron_loss",
        "entmax",
        scores,
        target,
        axis=axis,
        where=where,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        temperature=temperature,
        gradient="none",
        constant=math.inf,
    )


@loss_and_sparse_grad_function
def perceptron_loss_and_grad(
    scores: Array,
    target: AnyArray,
    /,
    *,
    axis: int = -1,
    where: AnyArray | None = None,
    weight: AnyArray | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    temperature: AnyArray = 1.0,
    sparse_grad: bool = False,
) -> Any:  # noqa: ANN401
    """Compute `perceptron_loss` and its gradient, in one pass over the scores.

    Parameters
    ----------
    scores, target, axis, where, weight, ignore_index, label_smoothing, reduction, temperature
        As for `perceptron_loss`.
    sparse_grad : bool, default False
        Give the gradient as `SparseRows`, without its zeros.

    Returns
    -------
    tuple
        The loss as `perceptron_loss` gives it, and its gradient with respect to the scores, like them; with reduction
        "none" that of the sum of the losses.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a class id out of range, or an axis, a shape or an option that does not fit; the message names it.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> loss, grad = sf.perceptron_loss_and_grad(np.array([2.0, 0.5]), 1)
    >>> loss, grad
    (np.float64(1.5), array([ 1., -1.]))
    """
    return _computed(
        "perceptron_loss_and_grad",
        "entmax",
        scores,
        target,
        axis=axis,
        where=where,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        temperature=temperature,
        gradient="sparse" if sparse_grad else "dense",
        constant=math.inf,
    )


@array_function
def normmax_loss(
    scores: Array,
    target: AnyArray,
    /,
    alpha: AnyArray = 2.0,
    *,
    axis: int = -1,
    where: AnyArray | None = None,
    weight: AnyArray | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    temperature: AnyArray = 1.0,
) -> Array:
    """Compute the Fenchel-Young loss of normmax: max_p (<p, x/T> - |p|_alpha) + |y|_alpha - <x/T, y>.

    Parameters
    ----------
    scores : array
        float16, bfloat16, float32 or float64; integers and bool become float64. Any strides.
    target : array
        Class ids, integers of the shape of the scores without the axis; or a distribution over classes, floats of the
        shape of the scores.
    alpha : float or array, default 2.0
        The order of the norm, > 1. An array has length 1 along the axis.
    axis : int
        The axis of the classes.
    where : array of bool, optional
        Where it is False the class is absent, whatever its score. It broadcasts to the shape of `scores`.
    weight : array, optional
        A weight of each class, finite and >= 0, of shape (n_classes,).
    ignore_index : int, optional
        Rows with this class id count nothing; it need be no class.
    label_smoothing : float, default 0.0
        The share of each target, from 0 to 1, that is spread evenly over the classes present.
    reduction : {"mean", "sum", "none"}, default "mean"
        What becomes of the losses of the rows; a mean divides by the weights of the labels that count, or by the number
        of rows where targets are distributions.
    temperature : float or array, default 1.0
        Scores are divided by it; > 0 and finite. An array has length 1 along the axis (or broadcasts so).

    Returns
    -------
    array
        Of the dtype of the scores: one number, or with reduction "none" one for each row, without the axis. Never
        negative.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a class id out of range, or an axis, a shape or an option that does not fit; the message names it.

    Notes
    -----
    It is 0 beyond the margin 1. Source: Blondel, Martins, Niculae (2020), arXiv:1901.02324.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> sf.normmax_loss(np.array([[0.3, 0.3], [1.5, 0.3]]), np.array([0, 0]), reduction="none").round(4)
    array([0.2929, 0.    ])
    """
    return _computed(
        "normmax_loss",
        "normmax",
        scores,
        target,
        (alpha,),
        axis=axis,
        where=where,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        temperature=temperature,
        gradient="none",
    )


@loss_and_sparse_grad_function
def normmax_loss_and_grad(
    scores: Array,
    target: AnyArray,
    /,
    alpha: AnyArray = 2.0,
    *,
    axis: int = -1,
    where: AnyArray | None = None,
    weight: AnyArray | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    temperature: AnyArray = 1.0,
    sparse_grad: bool = False,
) -> Any:  # noqa: ANN401
    """Compute `normmax_loss` and its gradient, in one pass over the scores.

    Parameters
    ----------
    scores, target, alpha, axis, where, weight, ignore_index, label_smoothing, reduction, temperature
        As for `normmax_loss`.
    sparse_grad : bool, default False
        Give the gradient as `SparseRows`, without its zeros.

    Returns
    -------
    tuple
        The loss as `normmax_loss` gives it, and its gradient with respect to the scores, like them; with reduction
        "none" that of the sum of the losses.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a class id out of range, or an axis, a shape or an option that does not fit; the message names it.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> loss, grad = sf.normmax_loss_and_grad(np.array([0.3, 0.3, -2.0]), 0)
    >>> grad
    array([-0.5,  0.5,  0. ])
    """
    return _computed(
        "normmax_loss_and_grad",
        "normmax",
        scores,
        target,
        (alpha,),
        axis=axis,
        where=where,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        temperature=temperature,
        gradient="sparse" if sparse_grad else "dense",
    )


@array_function
def rankmax_loss(
    scores: Array,
    target: AnyArray,
    /,
    *,
    margin: float = 1.0,
    axis: int = -1,
    where: AnyArray | None = None,
    weight: AnyArray | None = None,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
    temperature: AnyArray = 1.0,
) -> Array:
    """Compute log(1 + sum_i [1 - (x_c - x_i) / (T margin)]_+), i != c, of the target c: a loss for ranking.

    Parameters
    ----------
    scores : array
        float16, bfloat16, float32 or float64; integers and bool become float64. Any strides.
    target : array
        Class ids, integers of the shape of the scores without the axis.
    margin : float, default 1.0
        How far the target's score must be above another's for that to count no more; > 0.
    axis : int
        The axis of the classes.
    where : array of bool, optional
        Where it is False the class is absent, whatever its score. It broadcasts to the shape of `scores`.
    weight : array, optional
        A weight of each class, finite and >= 0, of shape (n_classes,).
    ignore_index : int, optional
        Rows with this class id count nothing; it need be no class.
    reduction : {"mean", "sum", "none"}, default "mean"
        What becomes of the losses of the rows; a mean divides by the weights of the labels that count, or by the number
        of rows where targets are distributions.
    temperature : float or array, default 1.0
        Scores are divided by it; > 0 and finite. An array has length 1 along the axis (or broadcasts so).

    Returns
    -------
    array
        Of the dtype of the scores: one number, or with reduction "none" one for each row, without the axis. Never
        negative.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a class id out of range, or an axis, a shape or an option that does not fit; the message names it.

    Notes
    -----
    -log of the target's share in the projection whose threshold lies one margin below the target's score. It is no
    Fenchel-Young loss, and not convex. Source: Kong, Krichene, Mayoraz, Rendle, Zhang (2020), NeurIPS 33.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> sf.rankmax_loss(np.array([[1.0, 0.5, -3.0], [2.5, 0.5, 0.0]]), np.array([1, 0]), reduction="none").round(4)
    array([0.9163, 0.    ])
    """
    return _computed(
        "rankmax_loss",
        "rankmax",
        scores,
        target,
        axis=axis,
        where=where,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=0.0,
        reduction=reduction,
        temperature=temperature,
        gradient="none",
        constant=margin,
    )


@loss_and_sparse_grad_function
def rankmax_loss_and_grad(
    scores: Array,
    target: AnyArray,
    /,
    *,
    margin: float = 1.0,
    axis: int = -1,
    where: AnyArray | None = None,
    weight: AnyArray | None = None,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
    temperature: AnyArray = 1.0,
    sparse_grad: bool = False,
) -> Any:  # noqa: ANN401
    """Compute `rankmax_loss` and its gradient, in one pass over the scores.

    Parameters
    ----------
    scores, target, margin, axis, where, weight, ignore_index, reduction, temperature
        As for `rankmax_loss`.
    sparse_grad : bool, default False
        Give the gradient as `SparseRows`, without its zeros.

    Returns
    -------
    tuple
        The loss as `rankmax_loss` gives it, and its gradient with respect to the scores, like them; with reduction
        "none" that of the sum of the losses.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a class id out of range, or an axis, a shape or an option that does not fit; the message names it.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> loss, grad = sf.rankmax_loss_and_grad(np.array([1.0, 0.5, -3.0]), 1)
    >>> grad
    array([ 0.4, -0.4,  0. ])
    """
    return _computed(
        "rankmax_loss_and_grad",
        "rankmax",
        scores,
        target,
        axis=axis,
        where=where,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=0.0,
        reduction=reduction,
        temperature=temperature,
        gradient="sparse" if sparse_grad else "dense",
        constant=margin,
    )
