"""Negatives for data loaders of torch: each worker of each rank its own part of one stream."""

from __future__ import annotations

import itertools
import math
import operator
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from softmaxfam_rs._samplers import _shape
from softmaxfam_rs._streams import as_stream
from softmaxfam_rs._transfer import to_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from softmaxfam_rs._samplers import Rng, Sampler


class NegativeSampler(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """Batches of negatives, as pairs (ids, logq) of tensors: the same ones for any number of workers.

    Batch b of all is drawn from words of the stream that depend on b alone. Rank r of R yields the batches r, r + R,
    ..., and a loader with W workers takes them in turn, so its order is the same for any W. Give it to a
    ``DataLoader`` with ``batch_size=None``.

    Parameters
    ----------
    sampler : AliasTable, UniformSampler or LogUniformSampler
    shape : int or tuple of int
        Of a batch: ``m`` for negatives to share, ``(batch, m)`` for each example its own.
    rng : int, Stream, numpy.random.Generator or torch.Generator
        An int is the seed of a new `Stream`; all ranks need the same, so a generator must have the same state on all.
        A stream is read from where it stands now, and does not move on.
    batches : int, optional
        The batches of an epoch on this rank; without, there is no end.
    unique : bool, default False
        Distinct classes in each row of a batch.
    dtype : {"int64", "int32"}
        Of the ids.
    rank, world_size : int, optional
        Which of how many processes this is; without, what ``torch.distributed`` says where it is initialised, else 0
        of 1.

    Raises
    ------
    ValueError
        For a rank outside of the world, or a number of batches below 1.

    Examples
    --------
    >>> import softmaxfam_rs as sf
    >>> from softmaxfam_rs.torch import NegativeSampler
    >>> from torch.utils.data import DataLoader
    >>> negatives = NegativeSampler(sf.LogUniformSampler(1000), (2, 3), rng=7, batches=5)
    >>> [tuple(ids.shape) for ids, logq in DataLoader(negatives, batch_size=None)][:2], len(negatives)
    ([(2, 3), (2, 3)], 5)
    """

    def __init__(
        self,
        sampler: Sampler,
        shape: int | tuple[int, ...],
        *,
        rng: Rng,
        batches: int | None = None,
        unique: bool = False,
        dtype: str = "int64",
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__()
        self.sampler, self.unique, self.dtype = sampler, unique, dtype
        self.shape = _shape(shape)
        self.batches = None if batches is None else to_count("batches", batches)
        self.epoch = 0
        self._start = as_stream(rng)
        self.rank, self.world_size = _place(rank, world_size)
        self._words = math.prod(self.shape[:-1] if unique else self.shape)

    def set_epoch(self, epoch: int) -> None:
        """Go on to the batches of another epoch; without it each epoch yields the same ones.

        Raises
        ------
        ValueError
            Without `batches`, for then the first epoch has no end, or below 0.
        """
        number = operator.index(epoch)
        if number < 0 or self.batches is None:
            raise ValueError(f"epoch is {epoch} with batches={self.batches}, must be >= 0 with a number of batches")
        self.epoch = number

    def __len__(self) -> int:
        if self.batches is None:
            raise TypeError("a NegativeSampler without batches= has no length")
        return self.batches

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        before = 0 if self.batches is None else self.epoch * self.batches
        numbers = itertools.count(first, step) if self.batches is None else range(first, self.batches, step)
        for number in numbers:
            batch = (before + number) * self.world_size + self.rank
            stream = self._start.at(self._start.position + batch * self._words)
            samples = self.sampler.sample(self.shape, rng=stream, unique=self.unique, dtype=self.dtype, xp=torch)
            yield samples.ids, samples.logq


def _place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    if (rank is None) != (world_size is None):
        raise ValueError(f"rank is {rank} and world_size {world_size}, must be both given or neither")
    if rank is None or world_size is None:
        distributed: Any = torch.distributed
        known = distributed.is_available() and distributed.is_initialized()
        return (distributed.get_rank(), distributed.get_world_size()) if known else (0, 1)
    if not 0 <= rank < world_size:
        raise ValueError(f"rank is {rank}, must lie in [0, {world_size - 1}]")
    return rank, world_size
