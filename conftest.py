"""Which examples of the docs run here: those of optional parts need what these need."""

from importlib.util import find_spec

PARTS = {
    "torch": ["python/softmaxfam_rs/torch/*", "python/softmaxfam_rs/_torch/*", "tests/typing/*"],
    "dask": ["python/softmaxfam_rs/_dask*.py"],
    "jax": ["python/softmaxfam_rs/_generic/_jax.py"],
}
MISSING = [library for library in PARTS if find_spec(library) is None]
collect_ignore_glob = [part for library in MISSING for part in PARTS[library]]


def pytest_report_header() -> list[str]:
    """Say what is left out."""
    return [f"examples left out, {library} is not installed: {', '.join(PARTS[library])}" for library in MISSING]
