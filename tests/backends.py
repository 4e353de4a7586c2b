"""The array libraries that the tests run on: how to make their arrays, and why one is left out here."""

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import softmaxfam_rs as sf
from reference import dtype_of
from softmaxfam_rs._capabilities import FUNCTIONS, LIBRARIES, capability

HALVES = ("float16", "bfloat16")
LINEAR = tuple(name for name in FUNCTIONS if name.startswith("linear_"))
SAMPLED = tuple(name for name in FUNCTIONS if name.startswith(("sampled_", "nce_", "negative_")))
LOSSES = tuple(
    name for name in FUNCTIONS if ("loss" in name or "cross_entropy" in name) and name not in (*LINEAR, *SAMPLED)
)


@cache
def subclass_of_torch():
    """A class that torch hands through its functions, and that the core does not take."""
    import torch

    return type("Subclass", (torch.Tensor,), {"__module__": __name__})


@dataclass(frozen=True)
class Backend:
    """One library, by the name of its column in the table of capabilities."""

    library: str
    module: str  # what must be installed
    dtypes: tuple[str, ...]  # the accepted ones that its arrays can have
    of_torch: str = "cpu"  # its device, or "subclass"

    def __str__(self):
        return {"cuda": "torch on a GPU", "subclass": "a subclass of torch"}.get(
            self.of_torch, self.module.partition(".")[0]
        )

    @property
    def missing(self):
        """Why it is left out here, or nothing."""
        if find_spec(self.module.partition(".")[0]) is None:
            return f"{self.module} is not installed"
        if self.of_torch == "cuda":
            import torch

            return "" if torch.cuda.is_available() else "torch finds no GPU"
        if self.library == "cupy":
            import cupy

            try:
                cupy.cuda.runtime.getDeviceCount()
            except cupy.cuda.runtime.CUDARuntimeError as error:
                return f"cupy finds no GPU: {error}"
        return ""

    def array(self, values):
        """Make an array of this library from one of NumPy's, in two blocks along each axis where it has blocks."""
        values = np.asarray(values)
        if self.library == "numpy":
            return values
        if self.library == "dask":
            import dask.array as da

            return da.from_array(values, chunks=tuple(max(-(-length // 2), 1) for length in values.shape))
        if self.library == "torch":
            import torch

            if values.dtype.name == "bfloat16":
                tensor = torch.from_numpy(values.astype(np.float32)).to(torch.bfloat16)
            else:
                tensor = torch.from_numpy(np.array(values))
            if self.of_torch == "subclass":
                return tensor.as_subclass(subclass_of_torch())
            return tensor.to(self.of_torch)
        return self.namespace().asarray(values)

    def namespace(self):
        """Import the namespace."""
        import importlib

        return importlib.import_module(self.module)

    def numpy(self, result):
        """Bring results back: arrays to NumPy's, tuples item by item."""
        if isinstance(result, tuple):
            return tuple(self.numpy(part) for part in result)
        if isinstance(result, int):
            return result
        if self.library == "torch":
            import torch

            result = result.detach().as_subclass(torch.Tensor).cpu()
            if str(result.dtype) == "torch.bfloat16":
                return result.float().numpy().astype(dtype_of("bfloat16"))
        if self.library == "dask":
            return np.asarray(result.compute(scheduler="synchronous"))
        if self.library == "cupy":
            return result.get()
        return np.asarray(result)

    def is_own(self, array: Any) -> bool:
        """Whether an array is of this library."""
        from softmaxfam_rs._dispatch import library_of

        found = library_of(array)
        if found.name != ("array_api_strict" if self.library == "other" else self.library):
            return False
        if self.library != "torch":
            return True
        expected = "torch" if self.of_torch != "subclass" else subclass_of_torch().__module__
        is_there = array.device.type == ("cuda" if self.of_torch == "cuda" else "cpu")
        return is_there and type(array).__module__ == expected


BACKENDS = (
    Backend("numpy", "numpy", ("float16", "bfloat16", "float32", "float64")),
    Backend("torch", "torch", ("float16", "bfloat16", "float32", "float64")),
    Backend("torch", "torch", ("float16", "bfloat16", "float32", "float64"), "subclass"),
    Backend("torch", "torch", ("float16", "bfloat16", "float32", "float64"), "cuda"),
    Backend("jax", "jax.numpy", ("float16", "bfloat16", "float32")),  # float64 needs a switch: test_jax.py
    Backend("dask", "dask.array", ("float16", "bfloat16", "float32", "float64")),
    Backend("cupy", "cupy", ("float16", "float32", "float64")),
    Backend("other", "array_api_strict", ("float32", "float64")),
)
assert {backend.library for backend in BACKENDS} == set(LIBRARIES)


def parameter(backend, *more):
    """A case of a parametrised test, skipped with a reason where the library is not there."""
    return pytest.param(
        backend,
        *more,
        id="-".join(map(str, (backend, *more))),
        marks=pytest.mark.skipif(bool(backend.missing), reason=backend.missing or "-"),
    )


on_each_backend = pytest.mark.parametrize("backend", [parameter(backend) for backend in BACKENDS])
on_each_other_backend = pytest.mark.parametrize("backend", [parameter(backend) for backend in BACKENDS[1:]])


def is_served(function, backend):
    """Whether the table says that a function takes the arrays of a library."""
    return capability(function, backend.library).path != "no"


def call_with_defaults(function, array):
    """Call a public function on an array of two axes, with what else it needs."""
    others = {
        "top_log_probs": (3,),
        "budget_sparsemax": (1.0,),
        "tsallis_entropy": (1.5,),
        "softmax_vjp": (array,),
        "log_softmax_vjp": (array,),
        "logsumexp_vjp": (array[:, 0], array[:, 1]),
        "entmax_vjp": (array, 1.5),
        "entmax_alpha_grad": (array, 1.5),
    }
    if function in SAMPLED:
        logs = () if function.startswith("negative") else (array[:, 0] * 0, array * 0)
        return getattr(sf, function)(array[:, 0], array, *logs, reduction="none")
    if function in (*LOSSES, *LINEAR):
        own = next(backend for backend in BACKENDS if not backend.missing and backend.is_own(array))
        labels = own.array(np.arange(array.shape[0]) % array.shape[1])
        given = (array, labels) if function in LOSSES else (array, array, labels)
        return getattr(sf, function)(*given, reduction="none")
    return getattr(sf, function)(array, *others.get(function, ()))
