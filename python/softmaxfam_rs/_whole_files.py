"""Files that are never half-written: to a temporary name in their folder, then renamed."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

UNFINISHED = ".part"  # how the temporary names end


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[IO[Any]]:
    """Open a file for bytes that takes its name when the block ends well, and leaves nothing where it does not.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_file(f"{folder}/a") as file:
    ...         _ = file.write(b"all")
    ...     [path.read_bytes() for path in Path(folder).iterdir()]
    [b'all']
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}-{os.urandom(4).hex()}{UNFINISHED}")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # after a power cut, too, what has the name is whole
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
