"""Finished batches of a long run, kept in a folder until the whole is written: a stopped run goes on after them."""

from __future__ import annotations

import hashlib
import json
import zipfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from softmaxfam_rs._whole_files import UNFINISHED, whole_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

MANIFEST = "manifest.json"
HEADER = 4096  # bytes of an input that its fingerprint reads


def fingerprint(path: Path) -> str:
    """Tell by size, time of change and first bytes whether a file is still the same, without reading it all."""
    state = path.stat()
    with path.open("rb") as file:
        header = hashlib.sha256(file.read(HEADER)).hexdigest()[:16]
    return f"{state.st_size} bytes, changed at {state.st_mtime_ns} ns, header {header}"


class Batches:
    """A folder with a file for each finished batch, and a manifest of the run that they belong to.

    Parameters
    ----------
    folder : Path
        Made by `start`.
    manifest : mapping
        All that the results depend on, as JSON holds it: a run goes on only where it is equal.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, str | float | None]) -> None:
        self.folder = folder
        self.manifest = dict(manifest)

    def start(self, *, resume: bool) -> set[int]:
        """Make the folder, or go on with one; return the numbers of the batches that are finished.

        Raises
        ------
        ValueError
            Where the folder holds batches and the run is not to be resumed, or is another run.
        """
        self.folder.mkdir(exist_ok=True)
        if (self.folder / MANIFEST).exists():
            self._check(resume=resume)
        else:
            with whole_file(self.folder / MANIFEST) as file:
                file.write(json.dumps(self.manifest, indent=1).encode())
        for left_over in self.folder.glob(f".*{UNFINISHED}"):
            left_over.unlink(missing_ok=True)
        return {int(path.stem) for path in self.paths() if _is_whole(path)}

    def paths(self) -> list[Path]:
        """Return the files of batches."""
        return [path for path in self.folder.glob("*.npz") if path.stem.isdecimal()]

    def save(self, number: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep the arrays of a batch."""
        with whole_file(self._path(number)) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def load(self, number: int) -> dict[str, NDArray[Any]]:
        """Return the arrays of a finished batch."""
        with np.load(self._path(number), allow_pickle=False) as arrays:
            return dict(arrays)

    def remove(self) -> None:
        """Remove what was kept, and the folder unless something else lies in it."""
        for path in self.paths():
            path.unlink(missing_ok=True)
        (self.folder / MANIFEST).unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08}.npz"

    def _check(self, *, resume: bool) -> None:
        if not resume:
            raise ValueError(
                f"{self.folder} holds batches of a run that was stopped; go on with --resume, or remove the folder"
            )
        try:
            found = json.loads((self.folder / MANIFEST).read_bytes())
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ValueError(f"{self.folder / MANIFEST} is damaged; remove the folder and start anew")  # noqa: TRY004
        keys = [key for key in self.manifest | found if self.manifest.get(key) != found.get(key)]
        if keys:
            changes = "; ".join(f"{key} was {found.get(key)}, is {self.manifest.get(key)}" for key in keys)
            raise ValueError(
                f"{self.folder} holds batches of another run: {changes}. Resume with what it was started with, or "
                f"remove the folder to start anew"
            )


def _is_whole(path: Path) -> bool:
    """Whether a batch can be read to its end: a disk may have lost what was written before the power went."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False
