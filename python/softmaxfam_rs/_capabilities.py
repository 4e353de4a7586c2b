"""The one table of what runs where: dispatch, errors, test marks and docs/backends.md read it."""

from __future__ import annotations

from typing import NamedTuple


class Capability(NamedTuple):
    """How one library's arrays are served by one public function.

    Attributes
    ----------
    path : str
        "core" (the compiled core, without a copy), "generic" (array-API calls, on the array's own device),
        "states" (lazily, by states of the chunks that are merged), "chunks" (lazily, the core on each chunk, the class
        axis in one chunk) or "no".
    gradient : bool
        Whether automatic differentiation of the library goes through it.
    reason : str
        Why a "no" above; part of errors, docs and skips.
    """

    path: str
    gradient: bool = False
    reason: str = ""


LIBRARIES = ("numpy", "torch", "jax", "dask", "cupy", "other")  # "other": any namespace of the array-API standard

_EXPONENTIAL = ("logsumexp", "softmax", "log_softmax", "top_log_probs")
_SPARSE = ("sparsemax", "entmax", "normmax", "budget_sparsemax", "entmax_threshold", "tsallis_entropy")
_GRADIENTS = ("softmax_vjp", "log_softmax_vjp", "logsumexp_vjp", "entmax_vjp", "entmax_alpha_grad")
FUNCTIONS = (*_EXPONENTIAL, *_SPARSE, "entmax_sparse", *_GRADIENTS)

CAPABILITIES: dict[str, dict[str, Capability]] = {
    function: {
        "numpy": Capability("core"),
        "torch": Capability("core", gradient=True),
        "jax": Capability("generic", gradient=True),
        "dask": Capability("states" if function in _EXPONENTIAL else "chunks"),
        "cupy": Capability("generic"),
        "other": Capability("generic"),
    }
    for function in FUNCTIONS
}
CAPABILITIES["entmax_sparse"]["dask"] = Capability(
    "no",
    reason="the size of its result depends on the data; take entmax, or give scores.compute() to entmax_sparse",
)


def capability(function: str, library: str) -> Capability:
    """Return how a library, by its name, is served by a public function."""
    row = CAPABILITIES[function]
    return row.get(library, row["other"])


def refusals(library: str) -> dict[str, str]:
    """Return the functions that a library's arrays are not taken by, with the reasons."""
    rows = ((function, capability(function, library)) for function in FUNCTIONS)
    return {function: found.reason for function, found in rows if found.path == "no"}
