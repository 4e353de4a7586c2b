"""What depends on values: not while a program is traced, nor before a lazy one runs, may they be looked at."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from array_api_compat import is_dask_array, is_jax_array, is_torch_array

if TYPE_CHECKING:
    from collections.abc import Callable

    from softmaxfam_rs._typing import Array


def is_known(array: Array) -> bool:
    """Whether the values of an array are there to look at."""
    if is_jax_array(array):
        return not isinstance(array, sys.modules["jax"].core.Tracer)
    if is_torch_array(array):
        torch: Any = sys.modules["torch"]
        is_traced = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()  # noqa: SLF001
        return not (is_traced or array.is_meta or isinstance(array, torch._subclasses.FakeTensor))  # noqa: SLF001
    return not is_dask_array(array)


def repeat(
    xp: Any,  # noqa: ANN401  a namespace
    step: Callable[[Any], Any],
    state: Any,  # noqa: ANN401  a tuple of arrays
    *,
    times: int,
    done: Callable[[Any], Array],
) -> Any:  # noqa: ANN401
    """Take a step so many times, or until all rows are done where that can be seen."""
    if is_jax_array(state[0]):
        from jax import lax  # noqa: PLC0415  the user has imported it

        def goes_on(counted: Any) -> Any:  # noqa: ANN401
            return (counted[0] < times) & ~xp.all(done(counted[1]))

        return lax.while_loop(goes_on, lambda counted: (counted[0] + 1, step(counted[1])), (0, state))[1]
    can_stop = is_known(state[0])
    for _ in range(times):
        state = step(state)
        if can_stop and bool(xp.all(done(state))):
            break
    return state


def either(is_small: Array, small: Callable[[], Any], full: Callable[[], Any]) -> Any:  # noqa: ANN401
    """Do the small work where it is enough and that can be seen, else the full one, whose results are the same."""
    if is_jax_array(is_small):
        from jax import lax  # noqa: PLC0415  the user has imported it

        return lax.cond(is_small, small, full)
    return small() if is_known(is_small) and bool(is_small) else full()


def largest(xp: Any, rows: Array, k: int) -> tuple[Array, Array]:  # noqa: ANN401
    """Return the k largest of each row, in descending order, and where they are: of equal ones the first ones."""
    if is_jax_array(rows):
        from jax import lax  # noqa: PLC0415  the user has imported it

        return lax.top_k(rows, k)  # type: ignore[no-any-return, unused-ignore]
    indices = xp.argsort(rows, axis=-1, descending=True, stable=True)[..., :k]
    return xp.take_along_axis(rows, indices, axis=-1), indices


def candidates(rows: Array, is_candidate: Callable[[], Array]) -> Array:
    """Return what of each row counts: all of it, or few where torch selects them fast and that can be seen.

    `is_candidate` gives 1 for what counts; that is the largest of a row.
    """
    classes = rows.shape[-1]
    if not (is_torch_array(rows) and is_known(rows)) or classes < _MANY:
        return rows
    most = int(is_candidate().sum(-1).max()) if rows.numel() else 0
    return rows.topk(most, sorted=False).values if 0 < most <= classes // 8 else rows


_MANY = 1024  # classes from which a selection is less work than the turns that it shortens
