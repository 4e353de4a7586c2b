"""Relatives of sparsemax: normmax and the projection with a budget."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ._differentiable import project, solve
from ._known import is_known
from ._rows import ABOVE_ONE, Rows

if TYPE_CHECKING:
    from softmaxfam_rs._typing import Array


def normmax(
    scores: Array,
    /,
    alpha: Array = 2.0,
    *,
    axis: int = -1,
    where: Array = None,
    temperature: Array = 1.0,
    out: Array = None,
) -> Array:
    """Normmax: powers 1/alpha of entmax of order 2 - 1/alpha at the temperature T (alpha - 1) / alpha, normalised."""
    rows = Rows(scores, axis, where, temperature)
    xp, frame = rows.xp, rows.frame
    alpha = frame.per_row("alpha", alpha, ABOVE_ONE)
    inverse = 1 / frame.work(alpha)
    a = 1 - inverse
    p = solve(xp, rows.z / a, a)[0]
    roots = xp.where(p > 0, xp.exp(xp.log(xp.where(p > 0, p, 1.0)) * inverse), 0.0)
    return rows.like_scores(rows.settled(roots / xp.sum(roots, axis=-1, keepdims=True)), out)


def budget_sparsemax(
    scores: Array,
    /,
    budget: Array,
    *,
    axis: int = -1,
    where: Array = None,
    temperature: Array = 1.0,
    out: Array = None,
) -> Array:
    """Projection onto the capped simplex with this sum."""
    rows = Rows(scores, axis, where, temperature)
    xp, frame = rows.xp, rows.frame
    limit = "each probability is at most 1"
    accepted = f"must lie in [0, {frame.classes}], the number of present classes; {limit}"
    in_range = (lambda given: (given >= 0) & (given <= frame.classes)) if where is None else (lambda given: given >= 0)
    given = frame.per_row("budget", budget, (in_range, accepted))
    budget = frame.work(given) + xp.zeros_like(rows.highest)
    if rows.mask is not None:
        _check_present(rows, budget, limit)
    has_too_few = budget > xp.sum(xp.astype(rows.z > -math.inf, rows.z.dtype), axis=-1, keepdims=True)
    p = project(xp, rows.z, budget)
    p = xp.where(has_too_few, math.nan, p)
    is_nothing = (budget == 0) & (rows.highest_given == -math.inf)  # nothing of nothing is 0
    return rows.like_scores(xp.where(is_nothing, 0.0, rows.settled(p)), out)


def _check_present(rows: Rows, budget: Array, limit: str) -> None:
    xp = rows.xp
    present = xp.sum(xp.astype(rows.mask, budget.dtype), axis=-1, keepdims=True)
    exceeds = (budget > present) & (present > 0)
    any_exceeds = xp.any(exceeds)
    if is_known(any_exceeds) and bool(any_exceeds):
        row = int(xp.argmax(xp.astype(xp.reshape(exceeds, (-1,)), xp.int32)))
        given, there = (float(xp.reshape(numbers, (-1,))[row]) for numbers in (budget, present))
        raise ValueError(f"budget is {given:g}, must lie in [0, {there:g}], the number of present classes; {limit}")
