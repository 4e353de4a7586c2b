"""The commands recommend and compare-losses: files of ratings, the split, the metrics, and training by each loss."""

import json

import numpy as np
import pytest

pytest.importorskip("typer", reason="typer is not installed")

import typer

import softmaxfam_rs as sf
from softmaxfam_rs.cli import ratings
from softmaxfam_rs.cli.embeddings import LOSSES, NORMALISED, Model, Settings
from softmaxfam_rs.cli.recommend import quality
from test_cli import run

ROWS = [(1, 10, 5.0), (1, 11, 2.0), (2, 10, 4.0), (2, 12, 3.5)]
FORMATS = {
    "dat": "\n".join(f"{u}::{i}::{r}::978300760" for u, i, r in ROWS),
    "data": "\n".join(f"{u}\t{i}\t{r}\t881250949" for u, i, r in ROWS),
    "csv": "userId,movieId,rating,timestamp\n" + "\n".join(f"{u},{i},{r},964982703" for u, i, r in ROWS) + "\n",
    "plain.csv": "\n".join(f"{u},{i}" for u, i, _ in ROWS),
    "quoted.csv": '"user";"item";"rating"\n' + "\n".join(f'"{u}";"{i}";"{r}"' for u, i, r in ROWS),
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_of_ratings(tmp_path, suffix):
    path = tmp_path / f"ratings.{suffix}"
    path.write_text(FORMATS[suffix])
    users, items = ratings.read(path, 0.0)
    assert users.tolist() == ["1", "1", "2", "2"] and items.tolist() == ["10", "11", "10", "12"]
    if suffix != "plain.csv":
        assert ratings.read(path, 3.5)[1].tolist() == ["10", "10", "12"]


@pytest.mark.parametrize(
    ("text", "words"), [("hello\n", "separated by ::"), ("1::2::good\n1::3::x", "must be a number")]
)
def test_other_files_are_refused(tmp_path, text, words):
    path = tmp_path / "ratings.dat"
    path.write_text("1::1::3\n" * words.startswith("must") + text)
    with pytest.raises(typer.BadParameter, match=words):
        ratings.read(path, 0.0)
    with pytest.raises(typer.BadParameter, match="cannot be read"):
        ratings.read(tmp_path / "missing.csv", 0.0)


def test_the_split_of_each_user():
    users = np.repeat([0, 1, 2], [40, 10, 3])
    items = np.concatenate([np.arange(40), np.arange(10), np.arange(3)])
    data = ratings.split(ratings.Pairs(users, items), (3, 40), 0, {})
    counts = [np.bincount(part.queries, minlength=3).tolist() for part in (data.train, data.valid, data.test)]
    assert counts == [[32, 8, 3], [4, 1, 0], [4, 1, 0]]
    keys = [set((part.queries * 40 + part.classes).tolist()) for part in (data.train, data.valid, data.test)]
    assert len(set.union(*keys)) == 53 and not keys[0] & keys[1] and not keys[1] & keys[2]


def test_metrics_against_their_definition():
    held = ratings.Pairs(np.array([2, 0, 0, 5]), np.array([3, 7, 1, 9]))
    queries = np.array([0, 2, 5])
    best = np.tile(np.arange(20, 30), (3, 1))
    best[0, [1, 4]] = 7, 1
    best[1, 0] = 3
    found = ratings.judged(best, held, queries, 40)
    gain = (1 / np.log2(3) + 1 / np.log2(6)) / (1 + 1 / np.log2(3))
    np.testing.assert_allclose(found.ndcg, (gain + 1 + 0) / 3)
    np.testing.assert_allclose(found.mrr, (1 / 2 + 1 + 0) / 3)
    np.testing.assert_allclose(found.recall, (1 + 1 + 0) / 3)


@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_learns(loss):
    data = ratings.synthetic(0, users=400, items=120, each=20)
    settings = Settings(loss, 12, 0.1, 128, 50, 0, 0.1, 1.0)
    model = Model(settings, data.shape[0], data.counts)
    chance = quality(model, data, data.test).recall
    before = model.cross_entropy(*data.train)
    for _ in range(8):
        steps = list(model.epoch(*data.train))
        assert sum(count for count, _ in steps) == len(data.train.queries)
        assert all(np.isfinite(value) for _, value in steps)
    assert quality(model, data, data.test).recall > 1.5 * max(chance, 10 / 120)
    assert np.isnan(before) == (loss not in NORMALISED)
    if loss in NORMALISED:
        assert model.cross_entropy(*data.train) < before - 0.1


def test_the_same_seed_is_the_same_model():
    data = ratings.synthetic(0, users=100, items=50, each=10)
    models = [Model(Settings("nce", 8, 0.1, 64, 20, 3, 0.1, 1.0), data.shape[0], data.counts) for _ in range(2)]
    for model in models:
        list(model.epoch(*data.train))
    np.testing.assert_array_equal(models[0].classes, models[1].classes)


def test_recommend_from_a_file_to_a_file(tmp_path):
    data = ratings.synthetic(1, users=120, items=60, each=15)
    pairs = [part for name in ("train", "valid", "test") for part in zip(*getattr(data, name), strict=True)]
    path = tmp_path / "ratings.csv"
    path.write_text("userId,movieId,rating\n" + "\n".join(f"u{u},m{i},4" for u, i in pairs))
    out = tmp_path / "vectors.safetensors"
    said = run("recommend", "--ratings", path, "--epochs", 2, "--rank", 8, "--negatives", 20, "--out", out)
    assert "120 users" in said and "test: NDCG@10" in said and "epoch 2" in said
    queries = sf.LinearHead.open(str(out), weight="queries")
    assert queries.n_classes == 120 and queries.width == 8
    said = run("recommend", "--loss", "svd", fails=True)
    assert "--loss is svd" in said and "synthetic" in said
    assert "must end in .safetensors" in run("recommend", "--out", tmp_path / "x.npz", fails=True)
    path.write_text("1,2,3\n")
    assert "must have more than 10 items" in run("recommend", "--ratings", path, fails=True)


def test_compare_losses(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    text = " ".join(f"{'abcdefghijklmnop'[i * i % 16]}aa {'qrstuvwxyz'[i % 10]}bb" for i in range(4000))
    (tmp_path / "text.txt").write_text(text)
    out, table = tmp_path / "losses.png", tmp_path / "losses.json"
    said = run(
        "compare-losses", "--text", tmp_path / "text.txt", "--seconds", 0.05, "--rank", 8, "--negatives", 10,
        "--out", out, "--table", table,
    )  # fmt: skip
    assert "NDCG@10" in said and out.stat().st_size > 1000
    runs = json.loads(table.read_text())
    assert [one["loss"] for one in runs] == list(LOSSES)
    assert all(one["epochs"] > 0 and one["points"][-1]["seconds"] >= 0.05 for one in runs)
    assert "must have some of" in run("compare-losses", "--losses", "mse", fails=True)
    assert "must end in .png" in run("compare-losses", "--out", "x.pdf", fails=True)
