"""Threads, and what this installation found."""

import platform

from . import _core
from ._capabilities import LIBRARIES

BACKENDS = tuple(LIBRARIES)[:-1]  # the last one are all others


def set_num_threads(n: int, /) -> None:
    """Set the number of threads that a long call uses, for all later calls of this process.

    Without it the environment variable SOFTMAXFAM_NUM_THREADS counts, else the cores that this process may run on.
    Results do not depend on it, by a single bit.

    Parameters
    ----------
    n : int
        From 1 to 1024.

    Raises
    ------
    ValueError
        Where `n` is out of that range.

    Examples
    --------
    >>> import softmaxfam_rs as sf
    >>> before = sf.get_num_threads()
    >>> sf.set_num_threads(1)
    >>> sf.get_num_threads()
    1
    >>> sf.set_num_threads(before)
    """
    _core.set_num_threads(n)


def get_num_threads() -> int:
    """Return the number of threads that a long call uses.

    Examples
    --------
    >>> import softmaxfam_rs as sf
    >>> sf.get_num_threads() >= 1
    True
    """
    return _core.get_num_threads()


class Config(dict[str, object]):
    """A dictionary that prints one line for each entry."""

    def __repr__(self) -> str:
        width = max(map(len, self))
        return "\n".join(f"{name:{width}}  {value}" for name, value in self.items())


def show_config() -> Config:
    """Return what this installation found: versions, instruction sets, threads, array libraries.

    Returns
    -------
    dict
        It prints one line for each entry. `isa` is the instruction set in use, one of `isa_available`; the environment
        variable SOFTMAXFAM_ISA forces another one, for tests and reports.

    Examples
    --------
    >>> import softmaxfam_rs as sf
    >>> config = sf.show_config()
    >>> config["isa"] in config["isa_available"]
    True
    """
    from importlib import metadata  # noqa: PLC0415  slow to import

    versions = {}
    for name in (*BACKENDS, "ml_dtypes", "array_api_compat"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return Config(
        softmaxfam_rs=_core.__version__,
        python=platform.python_version(),
        machine=platform.machine(),
        isa=_core.isa(),
        isa_available=_core.isa_available(),
        threads=_core.get_num_threads(),
        backends=[name for name in BACKENDS if versions[name] != "not installed"],
        **versions,
    )
