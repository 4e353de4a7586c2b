"""Interactions of users and items: files of ratings, a synthetic set, a split of each user, and metrics of rankings."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import typer

import softmaxfam_rs as sf

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Ids = NDArray[np.int64]

K = 10


class Pairs(NamedTuple):
    """Queries and their classes, numbered from 0."""

    queries: Ids
    classes: Ids

    def part(self, chosen: NDArray[np.bool_]) -> Pairs:
        """Return some of them."""
        return Pairs(self.queries[chosen], self.classes[chosen])


class Dataset(NamedTuple):
    """Pairs to learn from, to choose by, and to judge by; and how many queries and classes there are."""

    train: Pairs
    valid: Pairs
    test: Pairs
    shape: tuple[int, int]
    excludes: bool  # whether what a query was trained on is no answer
    names: dict[str, NDArray[np.str_]]

    @property
    def counts(self) -> Ids:
        """How often each class comes in training."""
        return np.bincount(self.train.classes, minlength=self.shape[1])


def read(path: Path, threshold: float) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Return users and items of a file of ratings: u::i::rating, tabs, or commas with or without a header."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            first = file.readline()
            separator = next((s for s in ("::", "\t", ",", ";") if s in first), None)
            if separator is None:
                raise typer.BadParameter(
                    f"{path} has the first line {first.strip()[:60]!r}, must have user, item and maybe a rating, "
                    "separated by ::, tabs, commas or semicolons"
                )
            fields = first.strip().split(separator)
            is_header = len(fields) > 2 and not _is_number(fields[2])  # noqa: PLR2004  the rating is the third
            is_header |= fields[0].strip('"').lower() in {"user", "userid", "user_id"}
            lines = file if is_header else itertools.chain([first], file)
            rows = [line.rstrip("\n").split(separator)[:3] for line in lines if line.strip()]
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error}") from error
    kept = [row for row in rows if len(row) > 1 and (len(row) < 3 or _rating(path, row) >= threshold)]  # noqa: PLR2004
    if not kept:
        raise typer.BadParameter(f"{path} has no rating of {threshold} or more")
    return np.array([row[0].strip('"') for row in kept]), np.array([row[1].strip('"') for row in kept])


def _is_number(text: str) -> bool:
    try:
        float(text.strip('"'))
    except ValueError:
        return False
    return True


def _rating(path: Path, row: list[str]) -> float:
    try:
        return float(row[2].strip('"'))
    except ValueError:
        raise typer.BadParameter(f"{path} has the rating {row[2]!r}, must be a number") from None


def numbered(users: NDArray[np.str_], items: NDArray[np.str_], seed: int) -> Dataset:
    """Give users and items numbers, and split the interactions of each user."""
    user_names, queries = np.unique(users, return_inverse=True)
    item_names, classes = np.unique(items, return_inverse=True)
    shape = (len(user_names), len(item_names))
    return split(Pairs(queries, classes), shape, seed, {"users": user_names, "items": item_names})


def synthetic(seed: int, users: int = 3000, items: int = 1500, each: int = 40) -> Dataset:
    """Return a set whose users draw items by the softmax of scores of rank 12, popular items among them."""
    rng = np.random.default_rng((seed, 2))
    of_users, of_items = (rng.standard_normal((count, 12), dtype=np.float32) for count in (users, items))
    popular = np.log(rng.permutation(items) + 1.0).astype(np.float32)
    scores = 0.8 * of_users @ of_items.T - 0.7 * popular
    drawn = sf.sample_scores(scores, each, rng=seed, unique=True).ids
    pairs = Pairs(np.repeat(np.arange(users), each), drawn.reshape(-1))
    return split(pairs, (users, items), seed, {})


def split(pairs: Pairs, shape: tuple[int, int], seed: int, names: dict[str, NDArray[np.str_]]) -> Dataset:
    """Deal the distinct pairs of each query: of 10 one to watch and one to judge by, of fewer than 5 none."""
    keys = np.unique(pairs.queries * shape[1] + pairs.classes)
    order = np.random.default_rng(seed).permutation(len(keys))
    keys = keys[order[np.argsort(keys[order] // shape[1], kind="stable")]]  # each query's in a random order
    queries, classes = keys // shape[1], keys % shape[1]
    counts = np.bincount(queries, minlength=shape[0])
    place = np.arange(len(keys)) - np.repeat(np.cumsum(counts) - counts, counts)
    held = ((counts + 5) // 10)[queries]  # a tenth, rounded
    whole = Pairs(queries, classes)
    is_test, is_valid = place < held, (place >= held) & (place < 2 * held)
    train, valid, test = (whole.part(chosen) for chosen in (~is_test & ~is_valid, is_valid, is_test))
    return Dataset(train, valid, test, shape, excludes=True, names=names)


class Quality(NamedTuple):
    """Means over queries."""

    ndcg: float
    mrr: float
    recall: float


def judged(best: Ids, held: Pairs, queries: Ids, classes: int) -> Quality:
    """Compare the best classes of queries, ascending, with those that were held out."""
    order = np.argsort(held.queries, kind="stable")
    wanted = np.unique(held.queries[order] * classes + held.classes[order])
    hits = np.isin(queries[:, None] * classes + best, wanted)
    totals = np.bincount(wanted // classes, minlength=int(queries.max()) + 1)[queries]
    discounts = 1 / np.log2(np.arange(2, K + 2))
    ideal = np.cumsum(discounts)[np.minimum(totals, K) - 1]
    ndcg = (hits * discounts).sum(axis=1) / ideal
    first = np.where(hits.any(axis=1), 1 / (1 + hits.argmax(axis=1)), 0.0)
    recall = hits.sum(axis=1) / np.minimum(totals, K)
    return Quality(float(ndcg.mean()), float(first.mean()), float(recall.mean()))
