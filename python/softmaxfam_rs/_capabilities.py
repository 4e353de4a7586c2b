"""The one table of what runs where: dispatch, errors, tests and docs/backends.md read it."""

from __future__ import annotations

from typing import NamedTuple


class Capability(NamedTuple):
    """How arrays of one library are served by one public function.

    Attributes
    ----------
    path : str
        One of `PATHS`.
    gradient : bool
        Whether automatic differentiation of the library goes through it.
    reason : str
        Why a path is "no", and what to call; part of errors and docs.
    """

    path: str
    gradient: bool = False
    reason: str = ""


PATHS = {
    "core": "the compiled core, without a copy",
    "array calls": "calls of the array-API standard, on the device of the array",
    "merged blocks": "lazily; states of the blocks are merged, so that the class axis stays cut as it is",
    "whole rows": "lazily; the class axis is brought into one block, others stay cut as they are",
    "no": "a TypeError that says why",
}
LIBRARIES = {  # by the names that errors and tests use; the last one is any other namespace of the standard
    "numpy": "NumPy",
    "torch": "torch on the CPU",
    "jax": "JAX",
    "dask": "Dask",
    "cupy": "CuPy",
    "other": "others",
}

_EXPONENTIAL = ("logsumexp", "softmax", "log_softmax", "top_log_probs")
_SPARSE = ("sparsemax", "entmax", "normmax", "budget_sparsemax", "entmax_threshold", "entmax_sparse")
_OF_RESULTS = (
    "tsallis_entropy",
    "softmax_vjp",
    "log_softmax_vjp",
    "logsumexp_vjp",
    "entmax_vjp",
    "entmax_alpha_grad",
)
_LOSSES = tuple(
    f"{name}{suffix}"
    for name in ("entmax_loss", "sparsemax_loss", "cross_entropy", "perceptron_loss", "normmax_loss", "rankmax_loss")
    for suffix in ("", "_and_grad")
)
_LINEAR = tuple(
    f"{name}{suffix}"
    for name in ("linear_cross_entropy", "linear_entmax_loss", "linear_rankmax_loss")
    for suffix in ("", "_and_grad")
)
_SAMPLED = tuple(
    f"{name}{suffix}"
    for name in ("sampled_softmax_loss", "nce_loss", "negative_sampling_loss")
    for suffix in ("", "_and_grad")
)
FUNCTIONS = (*_EXPONENTIAL, *_SPARSE, *_OF_RESULTS, *_LOSSES, *_LINEAR, *_SAMPLED)

CAPABILITIES: dict[str, dict[str, Capability]] = {
    function: {
        "numpy": Capability("core"),
        "torch": Capability("core", gradient=not function.endswith("_and_grad")),
        "jax": Capability("array calls", gradient=function != "entmax_sparse" and not function.endswith("_and_grad")),
        "dask": Capability("merged blocks" if function in _EXPONENTIAL else "whole rows"),
        "cupy": Capability("array calls"),
        "other": Capability("array calls"),
    }
    for function in FUNCTIONS
}
for _function in _SAMPLED:  # formulas in the operations of the library, over the core's cross entropy
    CAPABILITIES[_function]["numpy"] = Capability("array calls")
    CAPABILITIES[_function]["torch"] = Capability("array calls", gradient=not _function.endswith("_and_grad"))
CAPABILITIES["entmax_sparse"]["dask"] = Capability(
    "no", reason="the size of its result depends on the data; take entmax, or scores.compute()"
)


def capability(function: str, library: str) -> Capability:
    """Return how a library, by its name, is served by a public function."""
    row = CAPABILITIES[function]
    return row.get(library, row["other"])


def refusals(library: str) -> dict[str, str]:
    """Return the functions that do not take a library's arrays, with the reasons."""
    rows = ((function, capability(function, library)) for function in FUNCTIONS)
    return {function: found.reason for function, found in rows if found.path == "no"}


def table() -> str:
    """Return the table as Markdown, as docs/backends.md holds it.

    Examples
    --------
    >>> print(table().splitlines()[0])
    | | NumPy | torch on the CPU | JAX | Dask | CuPy | others |
    """
    lines = [["", *LIBRARIES.values()], ["---"] * (len(LIBRARIES) + 1)]
    lines += [
        [f"`{function}`", *(_cell(row[library]) for library in LIBRARIES)] for function, row in CAPABILITIES.items()
    ]
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in lines) + "\n"


def _cell(found: Capability) -> str:
    return f"no: {found.reason}" if found.reason else found.path + (", gradients" if found.gradient else "")
