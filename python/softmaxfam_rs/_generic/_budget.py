"""Projection onto the capped simplex {0 <= p <= 1, sum p = budget}.

p_i = clip(z_i - tau, 0, 1). The sum of these falls with tau in straight pieces, which end where tau is some z_i or
z_i - 1: bisection over these ends, sorted, finds the piece, on which tau has a closed form.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ._frame import places

if TYPE_CHECKING:
    from softmaxfam_rs._typing import Array


def project(xp: Any, z: Array, budget: Array) -> Array:  # noqa: ANN401  a namespace
    """Return the projection of rows z <= 0 whose maximum is 0, -inf for absent classes."""
    is_there = z > -math.inf
    if z.shape[-1] == 0:
        return z
    z = xp.where(is_there, z, 0.0)
    ends = xp.sort(xp.concat([z, z - 1], axis=-1), axis=-1, descending=True)
    place = places(xp, ends)

    def end_at(k: Array) -> Array:
        return xp.sum(xp.where(place == k, ends, 0.0), axis=-1, keepdims=True)

    def above(end: Array, step: Any = 0.0) -> Array:  # noqa: ANN401
        return xp.where(is_there, xp.clip((z - end) - step, 0.0, 1.0), 0.0)

    low = xp.ones_like(xp.astype(budget, xp.int32))
    high = low + (ends.shape[-1] - 1)
    for _ in range((ends.shape[-1] - 1).bit_length()):
        middle = (low + high) // 2
        is_enough = xp.sum(above(end_at(middle)), axis=-1, keepdims=True) >= budget
        low, high = xp.where(is_enough, low, middle + 1), xp.where(is_enough, middle, high)
    end = end_at(low)
    excess = xp.sum(above(end), axis=-1, keepdims=True) - budget
    is_sloped = is_there & (z > end) & (z - 1 <= end)
    slope = xp.sum(xp.astype(is_sloped, z.dtype), axis=-1, keepdims=True)
    # the difference of scores comes first: it is exact where they are near each other
    return above(end, excess / xp.where(slope > 0, slope, 1.0))
