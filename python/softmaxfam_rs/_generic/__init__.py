"""The public functions in calls of the array-API standard alone, for arrays of any library, on their own device.

Nothing here looks at values, save to refuse options that are out of range and to stop a loop early where values are
known, so the same code is traced by compilers and run lazily. The standard of 2024.12 is needed.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import numpy as np

from . import _entmax, _exponential, _gradients, _losses, _projections

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "budget_sparsemax",
    "entmax",
    "entmax_alpha_grad",
    "entmax_sparse",
    "entmax_threshold",
    "entmax_vjp",
    "linear_loss",
    "log_softmax",
    "log_softmax_vjp",
    "logsumexp",
    "logsumexp_vjp",
    "loss",
    "normmax",
    "quietly",
    "softmax",
    "softmax_vjp",
    "sparsemax",
    "top_log_probs",
    "tsallis_entropy",
]

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def quietly(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Keep namespaces that are built on NumPy from warning of log(0) and the like, whose results are as wanted."""

    @wraps(function)
    def quiet(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
        with np.errstate(all="ignore"):
            return function(*arguments, **options)

    return quiet


logsumexp = quietly(_exponential.logsumexp)
softmax = quietly(_exponential.softmax)
log_softmax = quietly(_exponential.log_softmax)
top_log_probs = quietly(_exponential.top_log_probs)
sparsemax = quietly(_entmax.sparsemax)
entmax = quietly(_entmax.entmax)
normmax = quietly(_projections.normmax)
entmax_threshold = quietly(_entmax.entmax_threshold)
entmax_sparse = quietly(_entmax.entmax_sparse)
budget_sparsemax = quietly(_projections.budget_sparsemax)
tsallis_entropy = quietly(_gradients.tsallis_entropy)
softmax_vjp = quietly(_gradients.softmax_vjp)
log_softmax_vjp = quietly(_gradients.log_softmax_vjp)
logsumexp_vjp = quietly(_gradients.logsumexp_vjp)
entmax_vjp = quietly(_gradients.entmax_vjp)
entmax_alpha_grad = quietly(_gradients.entmax_alpha_grad)
loss = quietly(_losses.loss)
linear_loss = quietly(_losses.linear_loss)
