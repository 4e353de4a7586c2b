"""The public functions for Dask arrays, lazily: results in blocks, each by the backend of the block's own kind.

logsumexp, softmax, log_softmax and top_log_probs leave the blocks as they are, along the classes too: `_dask_states`.
The others get each row in one block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._dask_blocks import Blocks
from ._dask_losses import linear_loss, loss
from ._dask_states import log_softmax, logsumexp, softmax, top_log_probs
from ._generic._rows import ABOVE_ONE, ABOVE_ZERO, TEMPERATURE
from ._results import Threshold

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._typing import Array, Axes

__all__ = [
    "budget_sparsemax",
    "entmax",
    "entmax_alpha_grad",
    "entmax_threshold",
    "entmax_vjp",
    "linear_loss",
    "log_softmax",
    "log_softmax_vjp",
    "logsumexp",
    "logsumexp_vjp",
    "loss",
    "normmax",
    "softmax",
    "softmax_vjp",
    "sparsemax",
    "top_log_probs",
    "tsallis_entropy",
]


def sparsemax(
    scores: Array, /, *, axis: int = -1, where: Array = None, temperature: Array = 1.0, out: Array = None
) -> Array:
    """Entmax of order 2."""
    return entmax(scores, 2.0, axis=axis, where=where, temperature=temperature, out=out)


def entmax(
    scores: Array,
    /,
    alpha: Array = 1.5,
    *,
    axis: int = -1,
    where: Array = None,
    temperature: Array = 1.0,
    out: Array = None,
) -> Array:
    """Entmax of any order above 0."""
    blocks = Blocks("scores", scores, axis, out=out)
    given = {"alpha": blocks.parameter("alpha", alpha, ABOVE_ZERO), **_options(blocks, where, temperature)}
    return blocks.like_scores(_public("entmax"), given)


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
    """Normmax of any order above 1."""
    blocks = Blocks("scores", scores, axis, out=out)
    given = {"alpha": blocks.parameter("alpha", alpha, ABOVE_ONE), **_options(blocks, where, temperature)}
    return blocks.like_scores(_public("normmax"), given)


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
    blocks = Blocks("scores", scores, axis, out=out)
    is_budget = (lambda given: given >= 0, "must be >= 0, and at most the number of present classes")
    given = {"budget": blocks.parameter("budget", budget, is_budget), **_options(blocks, where, temperature)}
    return blocks.like_scores(_public("budget_sparsemax"), given)


def entmax_threshold(
    scores: Array, /, alpha: Array = 1.5, *, axis: int = -1, where: Array = None, temperature: Array = 1.0
) -> Threshold:
    """Find the threshold of entmax."""
    blocks = Blocks("scores", scores, axis)
    given = {"alpha": blocks.parameter("alpha", alpha, ABOVE_ZERO), **_options(blocks, where, temperature)}
    normalizer, support_size, log_p_max = blocks.reductions(_public("entmax_threshold"), given, count=3)
    return Threshold(normalizer.astype(blocks.dtype), support_size.astype("int64"), log_p_max.astype(blocks.dtype))


def tsallis_entropy(p: Array, /, alpha: Array, *, axis: int = -1) -> Array:
    """Tsallis entropy of any order above 0."""
    blocks = Blocks("p", p, axis)
    return blocks.reduction(_public("tsallis_entropy"), {"alpha": blocks.parameter("alpha", alpha, ABOVE_ZERO)})


def softmax_vjp(p: Array, g: Array, /, *, axis: Axes = -1) -> Array:
    """Gradient of softmax."""
    blocks = Blocks("p", p, axis, several=True)
    return blocks.like_scores(_public("softmax_vjp"), {"g": blocks.beside("g", g)}, ("g",))


def log_softmax_vjp(log_p: Array, g: Array, /, *, axis: Axes = -1) -> Array:
    """Gradient of log_softmax."""
    blocks = Blocks("log_p", log_p, axis, several=True)
    return blocks.like_scores(_public("log_softmax_vjp"), {"g": blocks.beside("g", g)}, ("g",))


def logsumexp_vjp(scores: Array, lse: Array, g: Array, /, *, axis: Axes = -1) -> Array:
    """Gradient of logsumexp."""
    blocks = Blocks("scores", scores, axis, several=True)
    given = {name: blocks.results(name, array) for name, array in (("lse", lse), ("g", g))}
    return blocks.like_scores(_public("logsumexp_vjp"), given, ("lse", "g"))


def entmax_vjp(p: Array, g: Array, /, alpha: Array, *, axis: int = -1) -> Array:
    """Gradient of entmax with respect to the scores."""
    blocks = Blocks("p", p, axis)
    given = {"g": blocks.beside("g", g), "alpha": blocks.parameter("alpha", alpha, ABOVE_ZERO)}
    return blocks.like_scores(_public("entmax_vjp"), given, ("g",))


def entmax_alpha_grad(p: Array, g: Array, /, alpha: Array, *, axis: int = -1) -> Array:
    """Gradient of entmax with respect to alpha."""
    blocks = Blocks("p", p, axis)
    given = {"g": blocks.beside("g", g), "alpha": blocks.parameter("alpha", alpha, ABOVE_ZERO)}
    return blocks.reduction(_public("entmax_alpha_grad"), given, ("g",))


def _options(blocks: Blocks, where: Array, temperature: Array) -> dict[str, Any]:
    return {"where": blocks.mask(where), "temperature": blocks.parameter("temperature", temperature, TEMPERATURE)}


def _public(name: str) -> Callable[..., Any]:
    import softmaxfam_rs  # noqa: PLC0415  the package, complete by now

    return getattr(softmaxfam_rs, name)  # type: ignore[no-any-return]
