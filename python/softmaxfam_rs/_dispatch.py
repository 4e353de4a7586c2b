"""Which backend serves a call: found from the classes of its arrays, without importing any library.

An array of a library is there only after the user imported that library, so `sys.modules` has it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np

from . import _numpy
from ._capabilities import refusals

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ._results import SparseRows, Threshold, TopK
    from ._typing import Array


class Backend(Protocol):
    """A module with the public functions, for the arrays of a library; options are given by keyword.

    Of the losses there is one function, which gets the kind first, and one of those of linear heads.
    """

    logsumexp: Callable[..., Any]
    softmax: Callable[..., NDArray[Any]]
    log_softmax: Callable[..., NDArray[Any]]
    top_log_probs: Callable[..., TopK]
    sparsemax: Callable[..., NDArray[Any]]
    entmax: Callable[..., NDArray[Any]]
    normmax: Callable[..., NDArray[Any]]
    budget_sparsemax: Callable[..., NDArray[Any]]
    entmax_threshold: Callable[..., Threshold]
    entmax_sparse: Callable[..., SparseRows]
    tsallis_entropy: Callable[..., NDArray[Any]]
    softmax_vjp: Callable[..., NDArray[Any]]
    log_softmax_vjp: Callable[..., NDArray[Any]]
    logsumexp_vjp: Callable[..., NDArray[Any]]
    entmax_vjp: Callable[..., NDArray[Any]]
    entmax_alpha_grad: Callable[..., NDArray[Any]]
    loss: Callable[..., Any]
    linear_loss: Callable[..., Any]


class Library(NamedTuple):
    """An array library: how errors name it, the backend that serves it, and what that does not serve and why."""

    name: str
    backend: Backend
    refused: dict[str, str]


_NUMPY = Library("numpy", _numpy, {})
_LIBRARY_OF: dict[type, Library | None] = {np.ndarray: _NUMPY, float: None, type(None): None}  # classes seen so far


def backend_of(function: str, scores: Array, /, *others: Array) -> Backend:
    """Return the backend that serves a public function for these arrays, which are in the order of its signature.

    Numbers, lists and None go with any library; without an array NumPy serves them.

    Raises
    ------
    TypeError
        If the arrays are of two libraries, or the backend does not serve the function.
    """
    kind = type(scores)
    library = (_LIBRARY_OF[kind] if kind in _LIBRARY_OF else library_of(scores)) or _NUMPY
    for other in others:
        if other is None or (given := type(other)) is float or given is kind:  # as mostly; a class has one library
            continue
        of_other = library_of(other)
        if of_other is not None and of_other.name != library.name:
            raise _mixed(function, (scores, *others))
    if function in library.refused:
        raise TypeError(f"{function} does not take arrays of {library.name}: {library.refused[function]}")
    return library.backend


def library_of(array: Array) -> Library | None:
    """Return the library of an array; None for numbers, for lists, and for what is no array at all."""
    kind = type(array)
    if kind in _LIBRARY_OF:
        return _LIBRARY_OF[kind]
    name = _library_name(kind)
    library = None if name is None else Library(name, _import_backend(name), refusals(name))
    if not _is_compiling():  # a compiler of graphs cannot trace a module being stored
        _LIBRARY_OF[kind] = library
    return library


def _is_compiling() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.compiler.is_compiling()


def _library_name(kind: type) -> str | None:
    for name, module, array_class in (
        ("numpy", "numpy", "ndarray"),
        ("torch", "torch", "Tensor"),
        ("jax", "jax", "Array"),
        ("dask", "dask.array", "Array"),
        ("cupy", "cupy", "ndarray"),
    ):
        if module in sys.modules and issubclass(kind, getattr(sys.modules[module], array_class)):
            return name
    is_array = hasattr(kind, "__array_namespace__") and not issubclass(kind, np.generic)
    return kind.__module__.partition(".")[0] if is_array else None


def _import_backend(name: str) -> Backend:
    if name == "numpy":
        return _numpy
    if name == "torch":
        from . import _torch  # type: ignore[attr-defined, unused-ignore]  # noqa: PLC0415  it imports torch

        return cast("Backend", _torch)
    if name == "dask":
        from . import _dask  # noqa: PLC0415  it imports dask, which the user has imported

        return cast("Backend", _dask)
    from . import _generic  # noqa: PLC0415  it imports array_api_compat, which is slow

    return cast("Backend", _generic)


_NAMESPACES = {"jax": "jax.numpy", "dask": "dask.array"}  # where they are not the library's own module


def _mixed(function: str, arrays: tuple[Array, ...]) -> TypeError:
    """Say which arguments are of which library, and the call that would work."""
    import inspect  # noqa: PLC0415  slow to import

    import softmaxfam_rs  # noqa: PLC0415  the package, complete by now

    options = {"axis", "k", "keepdims", "return_sign", "max_support"}
    options |= {"correction", "margin", "ignore_index", "label_smoothing", "reduction", "sparse_grad"}
    parameters = inspect.signature(getattr(softmaxfam_rs, function)).parameters
    given = dict(zip((name for name in parameters if name not in options), arrays, strict=True))
    of_libraries = {name: library for name, array in given.items() if (library := library_of(array))}
    first = next(iter(given))
    library = of_libraries.get(first) or next(iter(of_libraries.values()))
    wrong = next((name for name, found in of_libraries.items() if found.name != library.name), first)
    kinds = ", ".join(f"{name} is a {_class_name(given[name])}" for name in {first: None, **of_libraries})
    return TypeError(
        f"{function}: {kinds}; must be arrays of one library; "
        f"convert {wrong}, such as with {_NAMESPACES.get(library.name, library.name)}.asarray({wrong})"
    )


def _class_name(array: Array) -> str:
    kind = type(array)
    module = kind.__module__.partition(".")[0]
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
