"""Streams of random words: where the draws of a sampler begin."""

from __future__ import annotations

import operator
import sys
import threading
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

WORDS = 2**64
DRAWS = 2**63  # of one stream


class Stream:
    """A place in the random words of a seed and a key, from which draws are taken in order.

    Draw j of a (seed, key) is a pure function of the three. It depends neither on the number of threads, nor on how
    draws are cut into calls, nor on the machine, and changes only in a major version of this package. A stream moves
    on with each call that draws from it; it may be shared by threads, and pickled.

    Parameters
    ----------
    seed : int
        From 0 to 2**64 - 1.
    key : int, default 0
        From 0 to 2**64 - 1: streams of different keys are independent. Number runs by the seed, and purposes by the
        key.

    Attributes
    ----------
    seed, key : int
    position : int
        The number of the next draw, below 2**63.

    Notes
    -----
    Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011): its key is the seed; the upper half of its counter is `key`, the
    lower counts, and a counter gives two words.

    Examples
    --------
    >>> import softmaxfam_rs as sf
    >>> sampler = sf.UniformSampler(100)
    >>> whole = sampler.sample(6, rng=sf.Stream(7)).ids
    >>> stream = sf.Stream(7)
    >>> first, rest = sampler.sample(2, rng=stream).ids, sampler.sample(4, rng=stream).ids
    >>> bool((whole[2:] == rest).all()), stream.position
    (True, 6)
    >>> bool((sampler.sample(2, rng=stream.at(0)).ids == first).all())
    True
    """

    def __init__(self, seed: int, *, key: int = 0) -> None:
        self.seed = _bounded("seed", seed, WORDS)
        self.key = _bounded("key", key, WORDS)
        self.position = 0
        self._end = DRAWS
        self._lock = threading.Lock()

    def at(self, position: int) -> Stream:
        """Return the same stream at another position, from 0 to 2**63.

        Examples
        --------
        >>> import softmaxfam_rs as sf
        >>> sf.Stream(7).at(1000)
        Stream(7, key=0).at(1000)
        """
        stream = Stream(self.seed, key=self.key)
        stream.position = _bounded("position", position, DRAWS + 1)
        return stream

    def split(self, n: int) -> list[Stream]:
        """Return what is left of this stream as n streams of equal length, which never draw the same word.

        Give one to each process or machine. This stream itself then has nothing left.

        Raises
        ------
        ValueError
            Where `n` is below 1 or above the number of draws left.

        Examples
        --------
        >>> import softmaxfam_rs as sf
        >>> [part.position for part in sf.Stream(7).split(2)]
        [0, 4611686018427387904]
        """
        with self._lock:
            left = self._end - self.position
            parts = operator.index(n)
            if not 1 <= parts <= left:
                raise ValueError(f"n is {n}, must lie in [1, {left}], the draws that are left; take another key")
            streams = list(self._parts(left // parts, parts))
            self.position = self._end
        return streams

    def _parts(self, length: int, count: int) -> Iterator[Stream]:
        for index in range(count):
            stream = self.at(self.position + index * length)
            stream._end = stream.position + length  # noqa: SLF001  of the same class
            yield stream

    def _take(self, count: int) -> tuple[int, int, int]:
        """Move on by `count` draws; return seed, key and the position before."""
        with self._lock:
            left = self._end - self.position
            if count > left:
                raise ValueError(f"{count} draws are asked of a stream that has {left} left; take another key")
            before = self.position
            self.position += count
        return self.seed, self.key, before

    def __repr__(self) -> str:
        return f"Stream({self.seed}, key={self.key}).at({self.position})"

    def __reduce__(self) -> tuple[object, tuple[int, int, int, int]]:
        return _restored, (self.seed, self.key, self.position, self._end)


def _restored(seed: int, key: int, position: int, end: int) -> Stream:
    stream = Stream(seed, key=key).at(position)
    stream._end = _bounded("end", end, DRAWS + 1)  # noqa: SLF001  of this file
    return stream


def _bounded(name: str, value: SupportsIndex, limit: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is a {type(value).__name__}, must be an int from 0 to {limit - 1}") from None
    if not 0 <= number < limit:
        raise ValueError(f"{name} is {number}, must lie in [0, {limit - 1}]")
    return number


def as_stream(rng: object) -> Stream:
    """Return the stream that an `rng` option means: an int seed, a Stream, or a generator that gives seed and key."""
    if isinstance(rng, Stream):
        return rng
    if isinstance(rng, np.random.Generator):
        seed, key = map(int, rng.integers(0, WORDS, size=2, dtype=np.uint64))
        return Stream(seed, key=key)
    torch = sys.modules.get("torch")  # whoever has a generator of torch has imported it
    if torch is not None and isinstance(rng, torch.Generator):
        words = torch.randint(-(2**63), 2**63 - 1, (2,), generator=rng, dtype=torch.int64, device=rng.device)
        seed, key = (word % WORDS for word in words.tolist())
        return Stream(seed, key=key)
    if isinstance(rng, bool) or not isinstance(rng, SupportsIndex):
        raise TypeError(
            f"rng is a {type(rng).__name__}, must be an int seed, a Stream, a numpy.random.Generator "
            "or a torch.Generator"
        )
    return Stream(operator.index(rng))
