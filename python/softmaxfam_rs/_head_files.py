"""Class matrices in files: .npy and .safetensors, checked, then mapped into memory where they lie.

Opening reads a header alone: its time does not depend on the number of classes. Pages are read when they are first
scored, and other processes that map the same file share them. A file must not be shortened while it is mapped: the
system then ends the process that reads the missing part, as with any memory map.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _safetensors
from ._head_weights import widened
from ._npy import open_npy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    AnyPath = str | os.PathLike[str]

FORMAT = "softmaxfam linear head 1"
SAFETENSORS = ".safetensors"
# kinds of matrices by the dtype of a tensor; "bfloat16" is held as its bits, uint16
KINDS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64", "I8": "int8"}
DTYPES = {kind: dtype for dtype, kind in KINDS.items()}
FLOATS = ("F32", "F16", "BF16", "F64")
LARGEST_FIRST_CLASS = 2**62  # with all classes after it an int64
MOST_NAMES = 12  # in a message


class StoredHead(NamedTuple):
    """What makes a `LinearHead`, as it lies in files.

    Attributes
    ----------
    weight : array, shape (n_classes, width)
    kind : {"float32", "float16", "bfloat16", "float64", "int8"}
        What the numbers of `weight` are; those of bfloat16 are their bits, of dtype uint16.
    bias : array of float32, shape (n_classes,), or None
    scales : array of float32, shape (n_classes,), or None
        Of int8.
    norms : array of float32, shape (n_classes, 2), or None
        Of int8.
    temperature : float
    first_class : int
    """

    weight: NDArray[Any]
    kind: str
    bias: NDArray[np.float32] | None = None
    scales: NDArray[np.float32] | None = None
    norms: NDArray[np.float32] | None = None
    temperature: float = 1.0
    first_class: int = 0


def split_name(text: str) -> tuple[str, str | None]:
    """Split what a command line takes for a tensor: a file, or one of .safetensors with the name of a tensor.

    Examples
    --------
    >>> split_name("model.safetensors:lm_head.weight")
    ('model.safetensors', 'lm_head.weight')
    >>> split_name("weight.npy")
    ('weight.npy', None)
    """
    path, mark, name = text.partition(SAFETENSORS + ":")
    return (path + SAFETENSORS, name) if mark and not Path(text).exists() else (text, None)


def open_matrix(path: AnyPath, name: str | None = None) -> tuple[NDArray[Any], str]:
    """Map a matrix, and say what its numbers are: a key of `DTYPES`; bfloat16 is held as uint16.

    Parameters
    ----------
    path : str or path
        A .npy or a .safetensors file.
    name : str, optional
        The tensor of a .safetensors file; without it the one that has two axes.

    Raises
    ------
    OSError
        Where the file cannot be opened.
    ValueError
        Where it is damaged or something else, or holds no such matrix.
    """
    if _suffix(path) == ".npy":
        array = _array(path, name)
        if array.ndim != 2:  # noqa: PLR2004  a matrix
            raise ValueError(f"{os.fspath(path)} has shape {array.shape}, must have two axes, a row for each class")
        return array, array.dtype.name
    with Path(path).open("rb") as file:
        contents = _safetensors.read_contents(path, file)
        tensor = _chosen(path, contents, name)
        return _safetensors.map_tensor(path, file, tensor), KINDS[tensor.dtype]


def open_vector(path: AnyPath, name: str | None = None) -> NDArray[np.float32]:
    """Read a vector of real numbers as float32: mapped where it is float32, copied where not.

    Raises
    ------
    OSError
        Where the file cannot be opened.
    ValueError
        Where it is damaged or something else, or holds no such vector.
    """
    if _suffix(path) == ".npy":
        array = _array(path, name)
        if array.ndim != 1:
            raise ValueError(f"{os.fspath(path)} has shape {array.shape}, must have one axis, a number for each class")
        return widened(array, array.dtype.name)
    with Path(path).open("rb") as file:
        contents = _safetensors.read_contents(path, file)
        return _vector(path, file, contents, name)


def open_head(path: AnyPath, *, weight: str | None = None, bias: AnyPath | None = None) -> StoredHead:
    """Open what `save_head` wrote, whole, or a matrix of another file and the bias that is named.

    Parameters
    ----------
    path : str or path
        A .npy or a .safetensors file.
    weight : str, optional
        The tensor of a .safetensors file; without it the one that has two axes.
    bias : str or path, optional
        The name of a tensor in `path`, or a file of its own: "bias.npy", "bias.safetensors",
        "other.safetensors:name". Without it none, save in a file of `save_head`.

    Raises
    ------
    OSError
        Where a file cannot be opened.
    ValueError
        Where a file is damaged or something else, or holds nothing by these names.
    """
    apart = None if bias is None or _is_name(path, bias) else open_vector(*split_name(os.fspath(bias)))
    if _suffix(path) == ".npy":
        array, kind = open_matrix(path, weight)
        return _fitting(path, StoredHead(array, kind, apart))
    with Path(path).open("rb") as file:
        contents = _safetensors.read_contents(path, file)
        tensors, metadata = contents
        ours = metadata.get("format") == FORMAT and weight is None
        tensor = _chosen(path, contents, "weight" if ours else weight)
        if bias is not None and apart is None:
            apart = _vector(path, file, contents, os.fspath(bias))
        elif ours and apart is None and "bias" in tensors:
            apart = _vector(path, file, contents, "bias")
        head = StoredHead(_safetensors.map_tensor(path, file, tensor), KINDS[tensor.dtype], apart)
        if head.kind == "int8":
            if metadata.get("format") != FORMAT:
                raise ValueError(
                    f"{os.fspath(path)} has int8 codes without their scales and norms, must be a file of "
                    f"LinearHead.save; quantize the float matrix with dtype='int8'"
                )
            scales, norms = (_vector(path, file, contents, name, axes) for name, axes in (("scales", 1), ("norms", 2)))
            head = head._replace(scales=scales, norms=norms)
        return _fitting(path, head._replace(**_options(path, metadata)) if ours else head)


def open_exact(text: AnyPath) -> NDArray[np.float32]:
    """Map the float32 matrix that one of low precision was made from: a file, or file.safetensors:name."""
    array, kind = open_matrix(*split_name(os.fspath(text)))
    if kind != "float32":
        raise ValueError(f"{os.fspath(text)} is of {kind}, must be of float32 to be what other numbers are held to")
    return array


def save_head(path: AnyPath, head: StoredHead) -> None:
    """Write a head to one .safetensors file, which is never half-written.

    Raises
    ------
    OSError
        Where the file cannot be written.
    ValueError
        Where its name does not end in .safetensors.
    """
    if Path(path).suffix != SAFETENSORS:
        raise ValueError(f"{os.fspath(path)} is the path, must end in {SAFETENSORS}")
    tensors = {"weight": (DTYPES[head.kind], head.weight)}
    for name, vector in (("bias", head.bias), ("scales", head.scales), ("norms", head.norms)):
        if vector is not None:
            tensors[name] = ("F32", vector)
    options = {"temperature": repr(float(head.temperature)), "first_class": str(int(head.first_class))}
    _safetensors.write(path, tensors, {"format": FORMAT} | options)


def _suffix(path: AnyPath) -> str:
    suffix = Path(path).suffix
    if suffix not in {".npy", SAFETENSORS}:
        raise ValueError(f"{os.fspath(path)} ends in {suffix or 'nothing'}, must end in .npy or {SAFETENSORS}")
    return suffix


def _is_name(path: AnyPath, bias: AnyPath) -> bool:
    """Whether a bias is a tensor of the file of the weight, not a file of its own."""
    text = os.fspath(bias)
    is_file = Path(text).suffix in {".npy", SAFETENSORS} or SAFETENSORS + ":" in text
    return Path(path).suffix == SAFETENSORS and isinstance(bias, str) and not is_file


def _array(path: AnyPath, name: str | None) -> NDArray[Any]:
    """Map the array of a .npy file."""
    if name is not None:
        raise ValueError(f"{name!r} is the name of a tensor, but {os.fspath(path)} holds one array without a name")
    return open_npy(path)


def _chosen(path: AnyPath, contents: _safetensors.Contents, name: str | None) -> _safetensors.Tensor:
    """Return the matrix by this name, or the one that there is."""
    matrices = [key for key, tensor in contents.tensors.items() if len(tensor.shape) == 2 and tensor.dtype in KINDS]  # noqa: PLR2004
    if name is None:
        if len(matrices) != 1:
            raise ValueError(
                f"{os.fspath(path)} holds {len(matrices)} matrices, must hold one where none is named; "
                f"name one of {_listed(matrices)}"
            )
        name = matrices[0]
    tensor = contents.tensors.get(name)
    if tensor is None:
        raise ValueError(f"{os.fspath(path)} has no tensor {name!r}, must be one of its matrices: {_listed(matrices)}")
    if name not in matrices:
        raise ValueError(
            f"tensor {name!r} of {os.fspath(path)} has dtype {tensor.dtype} and shape {list(tensor.shape)}, "
            f"must have two axes and be of {', '.join(KINDS)}; its matrices: {_listed(matrices)}"
        )
    return tensor


def _vector(
    path: AnyPath,
    file: Any,  # noqa: ANN401
    contents: _safetensors.Contents,
    name: str | None,
    axes: int = 1,
) -> NDArray[np.float32]:
    """Read numbers by name as float32, or the one vector that there is."""
    vectors = [key for key, tensor in contents.tensors.items() if len(tensor.shape) == axes and tensor.dtype in FLOATS]
    if name is None and len(vectors) == 1:
        name = vectors[0]
    if name not in vectors:
        raise ValueError(
            f"{os.fspath(path)} has no tensor {name!r} of {axes} axes in {', '.join(FLOATS)}, must be one of: "
            f"{_listed(vectors)}"
        )
    tensor = contents.tensors[name]
    return widened(_safetensors.map_tensor(path, file, tensor), KINDS[tensor.dtype])


def _options(path: AnyPath, metadata: dict[str, str]) -> dict[str, Any]:
    """Return temperature and first class of a file of `save_head`."""
    try:
        temperature, first = float(metadata["temperature"]), int(metadata["first_class"])
        if math.isfinite(temperature) and temperature > 0 and 0 <= first <= LARGEST_FIRST_CLASS:
            return {"temperature": temperature, "first_class": first}
    except (KeyError, ValueError):
        pass
    raise _safetensors.damaged(path, "its metadata must have a temperature > 0, and a first_class from 0 to 2^62")


def _fitting(path: AnyPath, head: StoredHead) -> StoredHead:
    """Return a head whose parts have a number for each class."""
    classes = head.weight.shape[0]
    if classes == 0:
        raise ValueError(f"{os.fspath(path)} has a matrix of shape {head.weight.shape}, must have a row for each class")
    for name, part, shape in (
        ("bias", head.bias, (classes,)),
        ("scales", head.scales, (classes,)),
        ("norms", head.norms, (classes, 2)),
    ):
        if part is not None and part.shape != shape:
            raise ValueError(f"{name} for {os.fspath(path)} has shape {part.shape}, must be {shape}, as its classes")
    return head


def _listed(names: list[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(repr(name) for name in names[:MOST_NAMES]) + more
