"""Rules of differentiation for JAX, where those of loops and sorting would be wrong or costly.

They are forward rules, linear in the tangents, from which JAX has the reverse ones; being made of the same functions,
they can be differentiated again.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
from jax import numpy as jnp

from . import _budget, _losses, _solve
from ._gradients import along_order, product

if TYPE_CHECKING:
    from softmaxfam_rs._typing import Array


def solve(z: Array, a: Any) -> tuple[Array, Array]:  # noqa: ANN401  a number or an array
    """Return the probabilities and u of rows, differentiable in z, and in a where it is an array."""
    return _solve_at(z, a) if isinstance(a, float) else _solve_each(z, a)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _solve_at(z: Array, a: float) -> tuple[Array, Array]:
    return _compiled_at(z, a)  # type: ignore[no-any-return, unused-ignore]  # JAX does not tell


@jax.custom_jvp
def _solve_each(z: Array, a: Array) -> tuple[Array, Array]:
    return _compiled_each(z, a)  # type: ignore[no-any-return, unused-ignore]


_compiled_at = jax.jit(partial(_solve.solve, jnp), static_argnums=1)
_compiled_each = jax.jit(partial(_solve.solve, jnp))


@_solve_at.defjvp
def _solve_at_jvp(a: float, primals: Any, tangents: Any) -> Any:  # noqa: ANN401
    (z,), (dz,) = primals, tangents
    p, u = _solve_at(z, a)
    dp = product(jnp, p, dz, a)
    return (p, u), (dp, _log_ratio(z, p, dp))


@_solve_each.defjvp
def _solve_each_jvp(primals: Any, tangents: Any) -> Any:  # noqa: ANN401
    (z, a), (dz, da) = primals, tangents
    p, u = _solve_each(z, a)
    dp = product(jnp, p, dz, a) + da * along_order(jnp, p, a)
    return (p, u), (dp, _log_ratio(z, p, dp))


def _log_ratio(z: Array, p: Array, dp: Array) -> Array:
    """Return the tangent of u = -log p_max."""
    d_highest, highest = (jnp.sum(jnp.where(z == 0, of, 0.0), axis=-1, keepdims=True) for of in (dp, p))
    return -d_highest / highest


@jax.custom_jvp
def project(z: Array, budget: Array) -> Array:
    """Return the projection of rows onto the capped simplex, differentiable in both."""
    return _compiled_project(z, budget)


_compiled_project = jax.jit(partial(_budget.project, jnp))


@project.defjvp
def _project_jvp(primals: Any, tangents: Any) -> Any:  # noqa: ANN401
    (z, budget), (dz, d_budget) = primals, tangents
    p = project(z, budget)
    is_free = (p > 0) & (p < 1)
    count = jnp.sum(jnp.astype(is_free, p.dtype), axis=-1, keepdims=True)
    shift = (jnp.sum(jnp.where(is_free, dz, 0.0), axis=-1, keepdims=True) - d_budget) / jnp.where(count > 0, count, 1.0)
    return p, jnp.where(is_free, dz - shift, 0.0)


def loss(kind: str, z: Array, shares: Array, order: Any) -> Array:  # noqa: ANN401  a number or an array
    """Return the losses of rows, differentiable in z and the shares, and in the order where it is an array."""
    return _loss_at(kind, z, shares, order) if isinstance(order, float) else _loss_each(kind, z, shares, order)


@partial(jax.custom_jvp, nondiff_argnums=(0, 3))
def _loss_at(kind: str, z: Array, shares: Array, order: float) -> Array:
    return _compiled_loss_at(kind, z, shares, order)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _loss_each(kind: str, z: Array, shares: Array, order: Array) -> Array:
    return _compiled_loss_each(kind, z, shares, order)


_compiled_loss_at = jax.jit(partial(_losses.value_of, jnp), static_argnums=(0, 3))
_compiled_loss_each = jax.jit(partial(_losses.value_of, jnp), static_argnums=0)


@_loss_at.defjvp
def _loss_at_jvp(kind: str, order: float, primals: Any, tangents: Any) -> Any:  # noqa: ANN401
    (z, shares), (dz, d_shares) = primals, tangents
    return _loss_at(kind, z, shares, order), _loss_change(kind, z, shares, order, dz, d_shares)


@_loss_each.defjvp
def _loss_each_jvp(kind: str, primals: Any, tangents: Any) -> Any:  # noqa: ANN401
    (z, shares, order), (dz, d_shares, d_order) = primals, tangents
    p = _losses.probabilities(jnp, kind, z, order)
    of_order = _losses.order_slope(jnp, kind, p, shares, order) * d_order
    return _loss_each(kind, z, shares, order), _loss_change(kind, z, shares, order, dz, d_shares) + of_order


def _loss_change(kind: str, z: Array, shares: Array, order: Any, dz: Array, d_shares: Array) -> Array:  # noqa: ANN401
    slope = _losses.slope(kind, z, shares, order)
    p = _losses.probabilities(jnp, kind, z, order)
    of_shares = _losses.target_slope(jnp, kind, z, p, shares, order)
    # orders up to 1 have the slope -inf at a share of 0, which no tangent of 0 may meet
    least = float(jnp.finfo(of_shares.dtype).min)  # type: ignore[no-untyped-call, unused-ignore]
    of_shares = jnp.maximum(of_shares, least)
    return jnp.sum(slope * dz + of_shares * d_shares, axis=-1, keepdims=True)
