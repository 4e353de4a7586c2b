"""Losses of scores against targets, and their gradients: formulas as the core's, over all classes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from array_api_compat import array_namespace, is_jax_array

from softmaxfam_rs._fused import loss_of_all_scores
from softmaxfam_rs._results import SparseRows

from ._differentiable import solve
from ._divergence import of_others, of_shares
from ._frame import dtype_name, on_device_of, places, shape_text
from ._gradients import curvature
from ._known import is_known
from ._rows import ABOVE_ONE, ABOVE_ZERO, Rows
from ._solve import sum_of_others

if TYPE_CHECKING:
    from softmaxfam_rs._typing import Array

    from ._frame import Frame, Rule

MARGIN: Rule = (lambda given: (given > 0) & (given < math.inf), "must be > 0 and finite")
SMOOTHING: Rule = (lambda given: (given >= 0) & (given <= 1), "must lie in [0, 1]; 0 leaves the targets as they are")


class Wanted(NamedTuple):
    """Targets as rows: their weighted shares, the sums of these, and which rows count."""

    shares: Array
    total: Array
    counts: Array
    divisor: Any  # of a mean


def loss(
    kind: str,
    scores: Array,
    target: Array,
    parameter: Array,
    *,
    axis: int,
    where: Array,
    weight: Array,
    ignore_index: int | None,
    label_smoothing: float,
    reduction: str,
    temperature: Array,
    gradient: str,
) -> Any:  # noqa: ANN401  an array, or a pair
    """Compute the loss that `kind` names, and its gradient if that is not "none"."""
    rows = Rows(scores, axis, where, temperature)
    xp, frame = rows.xp, rows.frame
    order = order_of(kind, frame, parameter)
    wanted = wanted_of(rows, target, weight, ignore_index, label_smoothing, takes_shares=kind != "rankmax")
    is_empty = rows.is_undefined if rows.is_absent is None else rows.is_undefined | rows.is_absent
    if kind in {"entmax", "normmax"}:  # whose entropies are of shares >= 0
        is_empty = is_empty | xp.any(wanted.shares < 0, axis=-1, keepdims=True)

    def settled(results: Array) -> Array:
        return xp.where(wanted.counts, xp.where(is_empty, math.nan, results), 0.0)

    losses = settled(value(kind, rows.z, wanted.shares, order))
    divisor = wanted.divisor if reduction == "mean" else 1.0
    if reduction == "rows":
        result = frame.dropped(losses)
    elif reduction == "none":
        result = frame.dropped(frame.as_float(losses))
    else:
        result = frame.as_float(xp.sum(losses) / divisor)
    if gradient == "none":
        return result
    if gradient == "sparse" and not is_known(rows.z):
        raise TypeError(
            "sparse_grad is for arrays whose values are known, not for traced ones; take the dense gradient"
        )
    slopes = settled(slope(kind, rows.z, wanted.shares, order) / rows.divisor)
    slopes = xp.where(wanted.counts, slopes / divisor, 0.0)
    if gradient == "sparse":
        return result, _sparse(frame, frame.as_float(slopes))
    return result, frame.of_rows(slopes)


def order_of(kind: str, frame: Frame, parameter: Array) -> Any:  # noqa: ANN401  a number or an array (batch axes, 1)
    """Return what a kind is computed from: alpha - 1 of entmax, alpha of normmax, the margin of Rankmax."""
    if kind == "entmax":
        return frame.work(frame.per_row("alpha", parameter, ABOVE_ZERO) - 1)
    if kind == "normmax":
        return frame.work(frame.per_row("alpha", parameter, ABOVE_ONE))
    return frame.work(frame.per_row("margin", parameter, MARGIN)) if kind == "rankmax" else 0.0


def wanted_of(
    rows: Rows,
    target: Array,
    weight: Array,
    ignore_index: int | None,
    label_smoothing: float,
    *,
    takes_shares: bool = True,
) -> Wanted:
    """Return targets of class ids or of shares as w y'."""
    xp, frame = rows.xp, rows.frame
    smoothing = frame.parameter("label_smoothing", label_smoothing, SMOOTHING)
    target = frame._on_device("target", target)  # noqa: SLF001  one of the frame's own checks
    name = dtype_name(target.dtype)
    is_of_ids = name.strip("u").startswith("int")
    if not takes_shares and (not is_of_ids or smoothing > 0):
        raise ValueError(
            "the target is a distribution, or smoothed, must be a class for each row; entmax_loss takes either"
        )
    if name == "bool":
        raise TypeError("target has dtype bool, must be class ids or a distribution; convert it to integers")
    z = rows.z
    w = None if weight is None else _class_weights(frame, weight)
    if is_of_ids:
        labels = _labels(frame, target)
        counts = xp.ones_like(rows.highest) > 0 if ignore_index is None else labels != ignore_index
        _check_labels(frame, labels, counts)
        shares = xp.astype(places(xp, z) - 1 == labels, z.dtype)
        is_class = ~counts | ((labels >= 0) & (labels < frame.classes))
        shares = xp.where(is_class, shares, math.nan)  # in a program whose values are not known yet
        label_weights = counts if w is None else xp.sum(shares * w, axis=-1, keepdims=True)
        divisor = xp.sum(xp.where(counts, xp.astype(label_weights, z.dtype), 0.0))
    else:
        if tuple(target.shape) != frame.shape:
            given, needed = shape_text(target.shape), shape_text(frame.shape)
            raise ValueError(f"target of shares has shape {given}, must have shape {needed} as the scores")
        shares = frame.rows(target)
        counts = xp.ones_like(rows.highest) > 0
        divisor = float(max(math.prod(frame.batch), 0)) or math.nan
    if smoothing > 0:
        is_there = z > -math.inf
        present = xp.sum(xp.astype(is_there, z.dtype), axis=-1, keepdims=True)
        spread = smoothing / xp.where(present > 0, present, 1.0)
        shares = (1 - smoothing) * shares + xp.where(is_there, spread, 0.0)
    shares = shares if w is None else shares * w
    total = xp.sum(shares, axis=-1, keepdims=True)
    return Wanted(shares, total, counts & (total != 0), divisor)


def _labels(frame: Frame, target: Array) -> Array:
    """Return class ids as (batch axes, 1)."""
    xp, own = frame.xp, tuple(target.shape)
    if own == frame.batch:
        return xp.reshape(target, (*frame.batch, 1))
    if len(own) == len(frame.shape) and own == frame.lengths:
        return xp.reshape(xp.permute_dims(target, (*frame.batch_axes, *frame.axes)), (*frame.batch, 1))
    raise ValueError(
        f"target of class ids has shape {shape_text(own)}, must have shape {shape_text(frame.batch)}, that of the "
        "scores without the class axis"
    )


def _check_labels(frame: Frame, labels: Array, counts: Array) -> None:
    xp = frame.xp
    is_wrong = counts & ((labels < 0) | (labels >= frame.classes))
    some_are = xp.any(is_wrong)
    if is_known(some_are) and bool(some_are):
        row = int(xp.argmax(xp.astype(xp.reshape(is_wrong, (-1,)), xp.int32)))
        given = int(xp.reshape(labels, (-1,))[row])
        raise ValueError(
            f"target of row {row} is {given}, must lie in [0, {frame.classes - 1}]; set ignore_index to leave rows out"
        )


def _class_weights(frame: Frame, weight: Array) -> Array:
    xp = frame.xp
    weight = frame._on_device("weight", weight)  # noqa: SLF001  one of the frame's own checks
    if tuple(weight.shape) != (frame.classes,):
        if weight.ndim != max(len(frame.shape), 1) or tuple(weight.shape).count(1) < weight.ndim - 1:
            given = shape_text(weight.shape)
            raise ValueError(f"weight has shape {given}, must have shape ({frame.classes},): one for each class")
        weight = xp.reshape(weight, (-1,))
    fits = xp.all((weight >= 0) & (weight < math.inf))
    if is_known(fits) and not bool(fits):
        first = int(xp.argmax(xp.astype(~((weight >= 0) & (weight < math.inf)), xp.int32)))
        raise ValueError(
            f"weight of class {first} is {float(weight[first]):g}, must be finite and >= 0; clip it, or set it to 0 to "
            "leave the class out"
        )
    return xp.astype(weight, frame.work_dtype)


def value(kind: str, z: Array, shares: Array, order: Any) -> Array:  # noqa: ANN401  a number or an array (batch axes, 1)
    """Return the losses of rows, of targets that may sum to other than 1."""
    if kind != "rankmax" and is_jax_array(z):
        from . import _jax  # noqa: PLC0415  it imports jax

        return _jax.loss(kind, z, shares, order)
    from array_api_compat import array_namespace  # noqa: PLC0415  beside its use

    return value_of(array_namespace(z), kind, z, shares, order)


def value_of(xp: Any, kind: str, z: Array, shares: Array, order: Any) -> Array:  # noqa: ANN401
    """Return the losses of rows; derivatives are rules of their own."""
    if kind == "rankmax":
        return xp.log1p(_others_within(xp, z, shares, order)[0]) * xp.sum(shares, axis=-1, keepdims=True)
    total = xp.sum(shares, axis=-1, keepdims=True)
    if kind == "cross_entropy":
        below = xp.sum(xp.where(shares == 0, 0.0, -shares * z), axis=-1, keepdims=True)
        return total * xp.log1p(sum_of_others(xp, z, xp.exp(z))) + below
    safe = xp.where(total == 0, 1.0, total)
    if kind == "entmax":
        return total * _entmax(xp, z, shares / safe, order)
    return total * _normmax(xp, z, shares / safe, order)


def slope(kind: str, z: Array, shares: Array, order: Any) -> Array:  # noqa: ANN401
    """Return the derivatives of `value` with respect to scores / T."""
    from array_api_compat import array_namespace  # noqa: PLC0415  beside its use

    xp = array_namespace(z)
    if kind == "rankmax":
        others, is_active = _others_within(xp, z, shares, order)
        g = xp.sum(shares, axis=-1, keepdims=True) / (order * (1 + others))
        count = xp.sum(xp.astype(is_active, z.dtype), axis=-1, keepdims=True)
        return xp.where(is_active, g, 0.0) - xp.where(shares > 0, count * g, 0.0)
    total = xp.sum(shares, axis=-1, keepdims=True)
    p = probabilities(xp, kind, z, order)
    # where one class has all of the target, its own p - 1 by those of the others
    others = xp.sum(xp.where(shares == total, 0.0, p), axis=-1, keepdims=True)
    return xp.where((shares == total) & (total > 0), -total * others, total * p - shares)


def target_slope(xp: Any, kind: str, z: Array, p: Array, shares: Array, order: Any) -> Array:  # noqa: ANN401
    """Return the derivatives of `value` with respect to the shares, given the probabilities; 0 of absent classes.

    With total t and y = shares / t the loss is t (Omega*(z) + Omega(y)) - <z, shares>.
    """
    is_there = z > -math.inf
    inside = xp.where(is_there, z, 0.0)
    if kind == "cross_entropy":
        return xp.where(is_there, xp.log1p(sum_of_others(xp, z, xp.exp(inside))) - inside, 0.0)
    total = xp.sum(shares, axis=-1, keepdims=True)
    y = shares / xp.where(total == 0, 1.0, total)
    mean = xp.sum(p * inside, axis=-1, keepdims=True)
    if kind == "normmax":
        length = norm(xp, y, order)
        finite = (order if order < math.inf else 1.0) if isinstance(order, float) else order
        slopes = xp.exp((finite - 1) * xp.log(xp.where(y > 0, y / length, 1.0)))
        slopes = xp.where(y > 0, slopes, 0.0)
        return xp.where(is_there, mean - norm(xp, p, order) + slopes - inside, 0.0)
    log_y = xp.log(xp.where(y > 0, y, 1.0))
    logs = _log_of_order(xp, log_y, order)
    alpha = 1 + order
    powers = xp.exp((order if not isinstance(order, float) or order < math.inf else 0.0) * log_y)
    slopes = (logs + powers) / alpha
    least = -math.inf if isinstance(order, float) and order <= 0 else 0.0
    if isinstance(order, float):
        slopes = xp.where(y > 0, slopes, -1 / (order * alpha) if order > 0 else least)
    else:
        positive = xp.where(order > 0, order, 1.0)
        slopes = xp.where(y > 0, slopes, xp.where(order > 0, -1 / (positive * alpha), -math.inf))
    omega_y = xp.sum(xp.where(y > 0, y * logs, 0.0), axis=-1, keepdims=True) / alpha
    along = xp.sum(xp.where(y > 0, y * slopes, 0.0), axis=-1, keepdims=True)
    log_p = _log_of_order(xp, xp.log(xp.where(p > 0, p, 1.0)), order)
    omega_p = xp.sum(xp.where(p > 0, p * log_p, 0.0), axis=-1, keepdims=True) / alpha
    return xp.where(is_there, mean - omega_p + omega_y + slopes - along - inside, 0.0)


def order_slope(xp: Any, kind: str, p: Array, shares: Array, order: Any) -> Array:  # noqa: ANN401
    """Return the derivative of `value` with respect to alpha, given the probabilities: of Omega(y) - Omega(p)."""
    total = xp.sum(shares, axis=-1, keepdims=True)
    y = shares / xp.where(total == 0, 1.0, total)
    of = _norm_by_order if kind == "normmax" else _omega_by_order
    return total * (of(xp, y, order) - of(xp, p, order))


def _omega_by_order(xp: Any, p: Array, a: Any) -> Array:  # noqa: ANN401
    alpha = 1 + a
    logs = _log_of_order(xp, xp.log(xp.where(p > 0, p, 1.0)), a)
    terms = curvature(xp, p, a) / alpha - logs / (alpha * alpha)
    return xp.sum(xp.where(p > 0, p * terms, 0.0), axis=-1, keepdims=True)


def _norm_by_order(xp: Any, p: Array, alpha: Any) -> Array:  # noqa: ANN401
    length = norm(xp, p, alpha)
    logs = xp.log(xp.where(p > 0, p / length, 1.0))
    powers = xp.where(p > 0, xp.exp(alpha * logs), 0.0)
    return length * xp.sum(powers * logs, axis=-1, keepdims=True) / alpha


def _log_of_order(xp: Any, logs: Array, a: Any) -> Array:  # noqa: ANN401
    """Return (p^a - 1) / a of log p, the logarithm itself at a = 0, by its series near there."""
    if isinstance(a, float):
        return xp.zeros_like(logs) if a == math.inf else logs if a == 0 else xp.expm1(a * logs) / a
    x = a * logs
    is_near = xp.abs(x) < 0.5  # noqa: PLR2004  derivatives have their digits too
    near, far = xp.where(is_near, x, 0.0), xp.where(is_near, 1.0, x)
    series = xp.ones_like(x)
    for n in range(20, 1, -1):
        series = 1 + series * near / n
    return logs * xp.where(is_near, series, xp.expm1(far) / far)


def probabilities(xp: Any, kind: str, z: Array, order: Any) -> Array:  # noqa: ANN401
    """Return those of the map whose loss it is."""
    if kind == "cross_entropy":
        e = xp.exp(z)
        return e / (1 + sum_of_others(xp, z, e))
    if kind == "entmax":
        return solve(xp, z, order)[0]
    roots = _roots(xp, _norm_powers(xp, z, order)[0], order)
    return roots / xp.sum(roots, axis=-1, keepdims=True)


def _others_within(xp: Any, z: Array, shares: Array, margin: Any) -> tuple[Array, Array]:  # noqa: ANN401
    """Return the sum of [1 + (z - z_c) / margin]_+ over the classes but c, and which are positive."""
    is_own = shares > 0
    own = xp.sum(xp.where(is_own, z, 0.0), axis=-1, keepdims=True)
    is_there = z > -math.inf
    has_own = own > -math.inf
    difference = xp.where(is_there & has_own, z, 0.0) - xp.where(has_own, own, 0.0)
    above = difference / margin + 1
    is_active = is_there & ~is_own & has_own & (above > 0)
    sums = xp.sum(xp.where(is_active, above, 0.0), axis=-1, keepdims=True)
    return xp.where(has_own, sums, math.inf), is_active


def _differences(xp: Any, y: Array, p: Array) -> Array:  # noqa: ANN401
    """Return p - y; of a class that has all of y by the other probabilities, which are small where p is near 1."""
    is_all = y == 1
    return xp.where(is_all, -xp.sum(xp.where(is_all, 0.0, p), axis=-1, keepdims=True), p - y)


def _entmax(xp: Any, z: Array, y: Array, a: Any) -> Array:  # noqa: ANN401
    p, u = solve(xp, z, a)
    log_p, is_in = _support(xp, z, p, u, a)
    has_share = y > 0
    terms = xp.where(has_share, of_shares(xp, a, y, p, _differences(xp, y, p), log_p, is_in), of_others(xp, a, p))
    gaps = xp.where(has_share & ~is_in, y * _gaps(xp, z, u, a), 0.0)
    return xp.sum(terms + gaps, axis=-1, keepdims=True)


def _support(xp: Any, z: Array, p: Array, u: Array, a: Any) -> tuple[Array, Array]:  # noqa: ANN401
    """Return log p and where it is finite: an underflow, which orders up to 2 have, is no absence."""
    is_plain = p > 0
    log_p = xp.log(xp.where(is_plain, p, 1.0))
    flat = a if isinstance(a, float) else xp.where(a <= 1, a, 0.5)
    if isinstance(a, float) and a >= 1:
        return log_p, is_plain
    bent = flat * z * xp.exp(flat * u)
    is_in = (z > -math.inf) & (bent > -1) & ((a < 1) | is_plain)
    bent = xp.where(is_in, bent, 0.0)
    inside = xp.where(is_in, z, 0.0)
    if isinstance(a, float):
        of_curve = inside if a == 0 else xp.log1p(bent) / a
    else:
        of_curve = xp.where(flat == 0, inside, xp.log1p(bent) / xp.where(flat == 0, 1.0, flat))
    return xp.where(is_plain, log_p, of_curve - u), is_plain | is_in


def _gaps(xp: Any, z: Array, u: Array, a: Any) -> Array:  # noqa: ANN401
    """Return how far below the threshold classes lie, +inf for absent ones."""
    if isinstance(a, float):
        top = xp.zeros_like(u) if a in (0.0, math.inf) else xp.exp(-a * u) / a
    else:
        safe = xp.where((a == 0) | (a == math.inf), 1.0, a)
        top = xp.where((a == 0) | (a == math.inf), 0.0, xp.exp(-safe * u) / safe)
    gaps = -z - top
    return xp.where(gaps > 0, gaps, 0.0)


def _norm_powers(xp: Any, z: Array, alpha: Any) -> tuple[Array, Array, Any]:  # noqa: ANN401
    """Return pi = (p / |p|_alpha)^alpha, u and a = 1 - 1/alpha: they are entmax of order 1 + a at the temperature a."""
    a = 1 - 1 / alpha
    powers, u = solve(xp, z / a, a)
    return powers, u, a


def _roots(xp: Any, powers: Array, alpha: Any) -> Array:  # noqa: ANN401
    """Return pi^(1/alpha), 0 at 0."""
    return xp.where(powers > 0, xp.exp(xp.log(xp.where(powers > 0, powers, 1.0)) / alpha), 0.0)


def norm(xp: Any, y: Array, alpha: Any) -> Array:  # noqa: ANN401
    """Return |y|_alpha of y >= 0, relative to the largest."""
    largest = xp.max(y, axis=-1, keepdims=True) if y.shape[-1] else xp.sum(y, axis=-1, keepdims=True)
    largest = xp.where(largest > 0, largest, 1.0)
    finite = (
        (alpha if alpha < math.inf else 1.0) if isinstance(alpha, float) else xp.where(alpha < math.inf, alpha, 1.0)
    )
    ratio = y / largest
    powers = xp.where(ratio > 0, xp.exp(finite * xp.log(xp.where(ratio > 0, ratio, 1.0))), 0.0)
    result = largest * xp.exp(xp.log(xp.sum(powers, axis=-1, keepdims=True)) / finite)
    if isinstance(alpha, float):
        return result if alpha < math.inf else largest
    return xp.where(alpha < math.inf, result, largest)


def _normmax(xp: Any, z: Array, y: Array, alpha: Any) -> Array:  # noqa: ANN401
    powers, u, a = _norm_powers(xp, z, alpha)
    gaps = xp.where((y > 0) & ~(powers > 0), y * a * _gaps(xp, z / a, u, a), 0.0)
    length = norm(xp, y, alpha)
    v = _roots(xp, powers, alpha)
    unit = y / length
    is_in = powers > 0
    log_v = xp.log(xp.where(is_in, powers, 1.0)) / alpha
    order = alpha - 1
    # of a class that has all of y: v - 1 by the powers of the others
    is_all = y == 1
    others = xp.sum(xp.where(is_all, 0.0, powers), axis=-1, keepdims=True)
    inside = xp.where(others < 0.5, others, 0.0)  # noqa: PLR2004  else 1 - others has its digits
    difference = xp.where(is_all & (others < 0.5), xp.expm1(xp.log1p(-inside) / alpha), v - unit)  # noqa: PLR2004
    shares = xp.where(y > 0, of_shares(xp, order, unit, v, difference, log_v, is_in), of_others(xp, order, v))
    direct = length - xp.sum(y * powers, axis=-1, keepdims=True)  # at infinity, where there is no divergence
    finite = (
        (order if order < math.inf else 0.0) if isinstance(order, float) else xp.where(order < math.inf, order, 0.0)
    )
    terms = length * finite * xp.sum(shares, axis=-1, keepdims=True)
    if isinstance(order, float):
        terms = terms if order < math.inf else direct
    else:
        terms = xp.where(order < math.inf, terms, direct)
    return terms + xp.sum(gaps, axis=-1, keepdims=True)


def _sparse(frame: Frame, slopes: Array) -> SparseRows:
    """Return rows without their zeros."""
    xp = frame.xp
    slopes = xp.reshape(slopes, (math.prod(frame.batch), frame.classes))
    is_in = slopes != 0  # NaN too
    index = xp.__array_namespace_info__().default_dtypes()["indexing"]
    sizes = xp.sum(xp.astype(is_in, index), axis=-1)
    indptr = xp.concat([xp.zeros((1,), dtype=sizes.dtype, **on_device_of(slopes)), xp.cumulative_sum(sizes)])
    _, indices = xp.nonzero(is_in)
    flat = xp.nonzero(xp.reshape(is_in, (-1,)))[0]
    return SparseRows(indptr, indices, xp.take(xp.reshape(slopes, (-1,)), flat), tuple(slopes.shape))


def linear_loss(kind: str, h: Array, matrix: Array, target: Array, parameter: Array, **options: Any) -> Any:  # noqa: ANN401
    """Compute the loss that `kind` names of the scores h W^T + b, and its gradients if that is not "none"."""
    xp = array_namespace(h, matrix)
    library = xp.__name__.rpartition(".")[2]
    return loss_of_all_scores(xp, loss, kind, h, matrix, target, parameter, library=library, **options)
