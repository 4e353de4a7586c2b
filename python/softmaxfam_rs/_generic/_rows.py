"""Scores as rows below their maximum, with what the contract says of rows that have no probabilities."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from array_api_compat import array_namespace

from ._frame import Frame

if TYPE_CHECKING:
    from softmaxfam_rs._typing import Array, Axes

    from ._frame import Rule


class Rows:
    """Scores (batch axes, classes): z = (x - highest) / T <= 0, -inf for absent classes.

    `is_undefined` are rows with NaN, with +inf or with nothing but -inf; their z is 0 throughout, so that what is
    computed of them neither warns nor spreads. `is_absent` are rows that are masked as a whole, or None.
    """

    def __init__(
        self,
        scores: Array,
        axis: Axes,
        where: Array,
        temperature: Array,
        *,
        several: bool = False,
        weights: Array = None,
    ) -> None:
        xp = self.xp = array_namespace(scores)
        frame = self.frame = Frame(xp, "scores", scores, axis, several=several)
        self.temperature = frame.per_row("temperature", temperature, TEMPERATURE)
        self.divisor = frame.work(self.temperature)
        x = frame.rows(scores)
        mask = None if where is None else frame.broadcast("where", frame.mask(where), is_mask=True)
        self.weights = None if weights is None else frame.broadcast("weights", weights)
        if self.weights is not None:
            has_weight = self.weights != 0
            mask = has_weight if mask is None else mask & has_weight
        self.mask = mask
        self.is_absent = None if where is None else ~xp.any(mask, axis=-1, keepdims=True)
        x = x if mask is None else xp.where(mask, x, -math.inf)
        self.highest_given = self._highest(x)
        self.is_undefined = ~xp.isfinite(self.highest_given)
        self.highest = xp.where(self.is_undefined, 0.0, self.highest_given)
        # absent classes and undefined rows are set last, so that no derivative meets an infinity
        is_there = x > -math.inf
        z = (xp.where(is_there & ~self.is_undefined, x, self.highest) - self.highest) / self.divisor
        self.z = xp.where(is_there | self.is_undefined, z, -math.inf)

    def _highest(self, x: Array) -> Array:
        if self.frame.classes == 0:
            return self.xp.sum(x, axis=-1, keepdims=True) - math.inf
        return self.xp.max(x, axis=-1, keepdims=True)

    def settled(self, results: Array, absent: float = 0.0) -> Array:
        """Put what the contract says into rows that are undefined or masked as a whole."""
        results = self.xp.where(self.is_undefined, math.nan, results)
        return results if self.is_absent is None else self.xp.where(self.is_absent, absent, results)

    def like_scores(self, results: Array, out: Array) -> Array:
        """Return the settled results of a map in the layout and dtype of the scores, through `out` if it is given."""
        return self.frame.write(out, self.frame.of_rows(results))


_ORDERS = "1 is softmax, 2 is sparsemax, inf is argmax"
TEMPERATURE: Rule = (
    lambda given: (given > 0) & (given < math.inf),
    "must be > 0 and finite; for the limit T -> 0 take argmax",
)
ABOVE_ZERO: Rule = (lambda given: given > 0, f"must be > 0; {_ORDERS}")
ABOVE_ONE: Rule = (lambda given: given > 1, f"must be > 1; {_ORDERS}")


def order_less_one(frame: Frame, alpha: Array) -> Any:  # noqa: ANN401  a number or an array (batch axes, 1)
    """Return alpha - 1, subtracted before it is rounded to the dtype of the work."""
    return frame.work(frame.per_row("alpha", alpha, ABOVE_ZERO) - 1)
