"""Names for what the functions take, in annotations."""

from typing import Any, TypeAlias

Array: TypeAlias = Any  # an array of any library, or what NumPy makes one of; libraries have no common type to name
Axes: TypeAlias = int | tuple[int, ...] | None
