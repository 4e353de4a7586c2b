"""Which examples of the docs run here: those of optional parts need what these need."""

from importlib.util import find_spec

OF_TORCH = ["python/softmaxfam_rs/torch/*", "python/softmaxfam_rs/_torch/*", "tests/typing/*"]
collect_ignore_glob = [] if find_spec("torch") else OF_TORCH


def pytest_report_header() -> str:
    """Say what is left out."""
    return f"examples left out, torch is not installed: {', '.join(collect_ignore_glob)}" if collect_ignore_glob else ""
