"""The two searches that automatic differentiation needs rules for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from array_api_compat import is_jax_array

from . import _budget, _solve

if TYPE_CHECKING:
    from softmaxfam_rs._typing import Array


def solve(xp: Any, z: Array, a: Any) -> tuple[Array, Array]:  # noqa: ANN401  a namespace; a number or an array (..., 1)
    """Return the probabilities and u = -log p_max of entmax of order 1 + a, of rows z <= 0 whose maximum is 0."""
    if is_jax_array(z):
        from . import _jax  # noqa: PLC0415  it imports jax

        return _jax.solve(z, a)
    return _solve.solve(xp, z, a)


def project(xp: Any, z: Array, budget: Array) -> Array:  # noqa: ANN401
    """Return the projection of rows z <= 0 onto the capped simplex."""
    if is_jax_array(z):
        from . import _jax  # noqa: PLC0415  it imports jax

        return _jax.project(z, budget)
    return _budget.project(xp, z, budget)
