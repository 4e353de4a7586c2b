"""Negatives for data loaders: the same for any number of workers, each batch once for any number of ranks."""

import numpy as np
import pytest

import softmaxfam_rs as sf

torch = pytest.importorskip("torch", reason="torch is not installed")
from torch.utils.data import DataLoader  # noqa: E402  after the look for torch

from softmaxfam_rs.torch import NegativeSampler  # noqa: E402

SAMPLER = sf.LogUniformSampler(100_000)


def batches(**options):
    workers = options.pop("workers", 0)
    sampler = NegativeSampler(SAMPLER, (4, 6), **({"rng": 3, "batches": 7} | options))
    return [(ids.numpy(), logq.numpy()) for ids, logq in DataLoader(sampler, batch_size=None, num_workers=workers)]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than this machine has cores
@pytest.mark.parametrize("unique", [False, True])
def test_batches_do_not_depend_on_workers(unique):
    expected = batches(unique=unique)
    assert len(expected) == 7
    # one stream, in order
    whole = SAMPLER.sample((28, 6), rng=3, unique=unique)
    np.testing.assert_array_equal(np.concatenate([ids for ids, _ in expected]), whole.ids)
    np.testing.assert_array_equal(np.concatenate([logq for _, logq in expected]), whole.logq)
    for workers in (1, 2, 3):
        for one, other in zip(batches(unique=unique, workers=workers), expected, strict=True):
            np.testing.assert_array_equal(one[0], other[0])


def test_ranks_share_the_batches_of_one_stream():
    alone = batches(batches=6)
    first, second = (batches(batches=3, rank=rank, world_size=2) for rank in range(2))
    for together, one in zip(
        [*zip(first, second, strict=True)], zip(alone[::2], alone[1::2], strict=True), strict=True
    ):
        for a, b in zip(together, one, strict=True):
            np.testing.assert_array_equal(a[0], b[0])


def test_epochs_follow_each_other():
    sampler = NegativeSampler(SAMPLER, 5, rng=sf.Stream(3).at(40), batches=2)
    first = [ids for ids, _ in sampler]
    assert all(torch.equal(a, b) for a, b in zip(first, (ids for ids, _ in sampler), strict=True))
    sampler.set_epoch(1)
    second = torch.cat([ids for ids, _ in sampler])
    np.testing.assert_array_equal(second, SAMPLER.sample(10, rng=sf.Stream(3).at(50)).ids)
    assert len(sampler) == 2


def test_refusals():
    for options in ({"rank": 2, "world_size": 2}, {"rank": 0}, {"batches": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            NegativeSampler(SAMPLER, 5, **({"rng": 1} | options))
    endless = NegativeSampler(SAMPLER, 5, rng=1)
    with pytest.raises(ValueError, match="batches"):
        endless.set_epoch(1)
    with pytest.raises(TypeError, match="length"):
        len(endless)
    assert next(iter(endless))[0].shape == (5,)
