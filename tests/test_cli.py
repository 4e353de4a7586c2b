"""The command line."""

import csv
import subprocess
import sys

import numpy as np
import pytest

import softmaxfam_rs as sf


def run(*arguments, fails=False):
    done = subprocess.run(
        [sys.executable, "-m", "softmaxfam_rs.cli", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return " ".join((done.stdout + done.stderr).replace("│", " ").split())  # as if it were one line


@pytest.fixture
def scores(tmp_path, rng):
    x = rng.standard_normal((50, 300)).astype(np.float32)
    np.save(tmp_path / "scores.npy", x)
    return x


def test_info_names_the_instruction_set():
    text = run("info")
    assert sf.show_config()["isa"] in text
    assert "threads" in text


def test_demo_of_a_text_of_ones_own(tmp_path):
    text = " ".join(f"word{'abcdefghijklmnop'[i * i % 16]} and {'qrstuvwxyz'[i % 10]}thing" for i in range(3000))
    (tmp_path / "text.txt").write_text(text)
    said = run("demo", "--text", tmp_path / "text.txt", "--words", 20, "--out", tmp_path / "demo")
    assert "logsumexp" in said and "SciPy" in said
    assert (tmp_path / "demo" / "support.png").stat().st_size > 1000
    assert "what follows, of 15 words" in said and "LinearHead" in said
    assert "negatives of" in said and "NumPy, choice(p=)" in said
    assert (tmp_path / "demo" / "negatives.png").stat().st_size > 1000
    assert "cannot be read" in run("demo", "--text", tmp_path / "none.txt", fails=True)


@pytest.mark.parametrize(("name", "alpha"), [("softmax", 1.0), ("sparsemax", 2.0), ("entmax", 1.3)])
def test_normalize_writes_npz(name, alpha, scores, tmp_path):
    run("normalize", tmp_path / "scores.npy", "--map", name, "--alpha", 1.3, "--top", 7, "--out", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as out:
        dense = sf.entmax(scores, alpha)
        np.testing.assert_array_equal(out["indices"], np.argsort(-scores, axis=1, kind="stable")[:, :7])
        np.testing.assert_allclose(
            out["probs"], np.take_along_axis(dense, out["indices"], axis=1), rtol=1e-5, atol=1e-7
        )


def test_normalize_writes_csv(scores, tmp_path):
    run("normalize", tmp_path / "scores.npy", "--top", 2, "--out", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 100
    assert int(rows[0]["class"]) == scores[0].argmax()


@pytest.mark.usefixtures("scores")
def test_normalize_refuses_clearly_and_leaves_nothing(tmp_path):
    (tmp_path / "text.npy").write_text("no array")
    good = tmp_path / "scores.npy"
    for arguments, word in [
        ((tmp_path / "none.npy", "--out", tmp_path / "o.npz"), "cannot be read"),
        ((tmp_path / "text.npy", "--out", tmp_path / "o.npz"), "cannot be read"),
        ((good, "--out", tmp_path / "o.txt"), ".npz or .csv"),
        ((good, "--top", 301, "--out", tmp_path / "o.npz"), "301"),
        ((good, "--temperature", 0, "--out", tmp_path / "o.npz"), "temperature"),
        ((good, "--map", "entmax", "--alpha", -1, "--out", tmp_path / "o.npz"), "alpha"),
    ]:
        said = run("normalize", *arguments, fails=True)
        assert word in said, said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scores.npy", "text.npy"]


def test_sample_writes_the_draws_of_the_stream(tmp_path, monkeypatch):
    weights = np.arange(1, 50)
    np.save(tmp_path / "counts.npy", weights)
    said = run(
        *("sample", "--weights", tmp_path / "counts.npy", "-n", "1e4", "--power", 0.75, "--seed", 7),
        *("--out", tmp_path / "ids.npy", "--logq", tmp_path / "logq.npy"),
    )
    assert "10000 draws of 49 classes" in said
    ids, logq = sf.AliasTable(weights, power=0.75).sample(10_000, rng=7)
    np.testing.assert_array_equal(np.load(tmp_path / "ids.npy"), ids)
    np.testing.assert_array_equal(np.load(tmp_path / "logq.npy"), logq)
    run("sample", "--weights", tmp_path / "counts.npy", "-n", 50, "--dtype", "int32", "--out", tmp_path / "ids.npy")
    assert np.load(tmp_path / "ids.npy").dtype == np.int32
    from softmaxfam_rs.cli import sample

    monkeypatch.setattr(sample, "DRAWS_AT_A_TIME", 999)
    sample.sample(tmp_path / "counts.npy", tmp_path / "pieces.npy", "1e4", 0.75, 7)
    np.testing.assert_array_equal(np.load(tmp_path / "pieces.npy"), ids)


def test_sample_refuses_clearly_and_leaves_nothing(tmp_path):
    good = tmp_path / "counts.npy"
    np.save(good, np.array([1.0, 2.0]))
    np.save(tmp_path / "bad.npy", np.array([1.0, -2.0]))
    (tmp_path / "text.npy").write_text("no array")
    out = ("--out", tmp_path / "o.npy")
    for arguments, word in [
        (("--weights", tmp_path / "none.npy", *out), "cannot be read"),
        (("--weights", tmp_path / "text.npy", *out), "cannot be read"),
        (("--weights", tmp_path / "bad.npy", *out), "class 1"),
        (("--weights", good, "--out", tmp_path / "o.txt"), ".npy"),
        (("--weights", good, "-n", "many", *out), "whole number"),
        (("--weights", good, "-n", "0.5", *out), "whole number"),
        (("--weights", good, "--power", -1, *out), "power"),
        (("--weights", good, "--seed", -1, *out), "seed"),
        (("--weights", good, "--dtype", "int8", *out), "int8"),
    ]:
        said = run("sample", *arguments, fails=True)
        assert word in said, said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.npy", "counts.npy", "text.npy"]
