"""Whether the values of an array may be looked at: not while a program is being traced, nor before a lazy one runs."""

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
        is_plain = type(array) in {torch.Tensor, torch.nn.Parameter} and not array.is_meta
        # functorch wraps tensors in the class of plain ones
        return is_plain and not torch.compiler.is_compiling() and not torch._C._are_functorch_transforms_active()  # noqa: SLF001
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
