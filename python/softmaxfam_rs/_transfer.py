"""Arrays of any library to host memory, and results back: what samplers need, whose tables live in host memory.

No library is imported: an array of a library is there only after the user imported it.
"""

from __future__ import annotations

import operator
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def is_torch(array: object) -> bool:
    """Whether an object is a tensor of torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def to_host(name: str, array: Any) -> NDArray[Any]:  # noqa: ANN401  arrays of any library
    """Return an array, a number or a list as a NumPy array, over the same memory where that can be."""
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} is a numpy.ma.MaskedArray, must be a plain array; fill it first")
    if isinstance(array, np.ndarray | np.generic | int | float | list | tuple):
        return np.asarray(array)
    if is_torch(array):
        tensor = array.detach().cpu().resolve_neg()
        return np.asarray((tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy())
    if not hasattr(type(array), "__array_namespace__") and not hasattr(type(array), "__dlpack__"):
        raise TypeError(
            f"{name} is a {type(array).__name__}, must be an array or numbers; convert it with numpy.asarray"
        )
    from array_api_compat import is_cupy_array, to_device  # noqa: PLC0415  slow to import

    return np.asarray(to_device(array, "cpu") if is_cupy_array(array) else array)


def to_count(name: str, value: int) -> int:
    """Return how many there are to be: 1 or more."""
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is a {type(value).__name__}, must be an int >= 1") from None
    if count < 1:
        raise ValueError(f"{name} is {count}, must be >= 1")
    return count


def to_integers(name: str, array: Any) -> NDArray[np.int64]:  # noqa: ANN401
    """Return ids of classes as int64 in C order."""
    host = to_host(name, array)
    if host.size == 0 and isinstance(array, list | tuple):
        host = host.astype(np.int64)
    if host.dtype.kind not in "iu":
        raise TypeError(f"{name} has dtype {host.dtype}, must be of integers; convert with {name}.astype(numpy.int64)")
    if host.dtype == np.uint64 and host.size and int(host.max()) >= 2**63:
        raise ValueError(f"{name} holds {host.max()}, must be below 2**63; no class has such an id")
    return np.ascontiguousarray(host, dtype=np.int64).reshape(host.shape)


def to_weights(name: str, array: Any) -> NDArray[np.float64]:  # noqa: ANN401
    """Return weights as float64 in C order."""
    host = to_host(name, array)
    if host.dtype.kind not in "iufb" and host.dtype.name != "bfloat16":
        raise TypeError(
            f"{name} has dtype {host.dtype}, must be of real numbers; convert with {name}.astype(numpy.float64)"
        )
    if host.dtype.itemsize > np.dtype(np.float64).itemsize:
        raise TypeError(
            f"{name} has dtype {host.dtype}, must be float64 or smaller; convert with astype(numpy.float64)"
        )
    if host.ndim != 1:
        raise ValueError(f"{name} has shape {host.shape}, must have one axis, a weight for each class; ravel it first")
    return np.ascontiguousarray(host, dtype=np.float64)


def returner(*, like: Any = None, xp: Any = None, device: Any = None) -> Callable[[NDArray[Any]], Any]:  # noqa: ANN401
    """Return what turns NumPy arrays into those of the library and device of `like`, or of the namespace `xp`."""
    if like is not None and xp is not None:
        raise ValueError("like and xp are both given, must be one of them; like=array also tells the device")
    if like is None and xp is None:
        if device not in {None, "cpu"}:
            raise ValueError(
                f"device is {device!r} without like= or xp=, must be None or 'cpu' for NumPy; name a namespace"
            )
        return lambda array: array
    if isinstance(like, np.ndarray | np.generic):
        return returner(device=device)
    if like is not None:
        from array_api_compat import array_namespace  # noqa: PLC0415  slow to import
        from array_api_compat import device as device_of  # noqa: PLC0415

        xp = array_namespace(like)
        device = device_of(like) if device is None else device
    if not hasattr(xp, "asarray"):
        raise TypeError(f"xp is {xp!r}, must be an array namespace such as numpy or torch")
    where = {} if device is None or (xp is np and device == "cpu") else {"device": device}
    return lambda array: xp.asarray(array, **where)


def like_array(array: Any) -> Callable[[NDArray[Any]], Any]:  # noqa: ANN401
    """Return what turns results into arrays of the library and device of an argument; NumPy's for numbers and lists."""
    is_numpy = isinstance(array, np.ndarray | np.generic | int | float | list | tuple)
    return returner() if is_numpy else returner(like=array)


def writeable(name: str, array: Any) -> Any:  # noqa: ANN401
    """Return a NumPy array over the memory of an `out` buffer: an ndarray, or a tensor of torch on the CPU."""
    if is_torch(array):
        if array.device.type != "cpu" or array.requires_grad:
            raise ValueError(f"{name} is on {array.device} or requires grad, must be a plain tensor on the CPU")
        return array.numpy()
    return array
