"""`softmaxfam score`: what it writes, what it refuses, and runs that are stopped."""

import csv
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import softmaxfam_rs as sf
from softmaxfam_rs.cli import batches, main

PATIENCE = 120  # seconds, on a machine that does much else


def started(*arguments, code=None):
    program = ["-m", "softmaxfam_rs.cli"] if code is None else ["-c", code]
    return subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def run(monkeypatch, capfd):
    """Run the command in this process, which is faster, and return what it says."""
    threads = sf.get_num_threads()

    def of_arguments(*arguments, status=0):
        monkeypatch.setattr(sys, "argv", ["softmaxfam", "score", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            main()
        said = "".join(capfd.readouterr())
        assert (done.value.code or 0) == status, said
        return in_a_line(said)

    yield of_arguments
    sf.set_num_threads(threads)


def in_a_line(text):
    return " ".join(text.replace("│", " ").split())


@pytest.fixture
def files(tmp_path, rng):
    """A weight, queries, a bias and targets; the options that name them."""
    arrays = {
        "weight": rng.standard_normal((400, 12)).astype(np.float32),
        "query": rng.standard_normal((53, 12)).astype(np.float32),
        "bias": rng.standard_normal(400).astype(np.float32),
        "target": rng.integers(0, 400, 53),
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    return arrays, {name: (f"--{name}", tmp_path / f"{name}.npy") for name in arrays}


def of(options, *names):
    return [part for name in names for part in options[name]]


def test_softmax_to_npz(run, files, tmp_path):
    arrays, options = files
    said = run(
        *of(options, "weight", "query", "bias", "target"),
        *("-k", 5, "--temperature", 0.5, "--batch", 10, "--threads", 1, "--out", tmp_path / "out.npz"),
    )
    assert "out.npz: 53 queries among 400 classes" in said
    head = sf.LinearHead(arrays["weight"], arrays["bias"], temperature=0.5)
    wanted = head.score(arrays["query"], 5, target=arrays["target"])
    with np.load(tmp_path / "out.npz", allow_pickle=False) as out:
        assert sorted(out) == ["indices", "log_probs", "logsumexp", "target_log_prob"]
        for name, array in out.items():
            np.testing.assert_array_equal(array, getattr(wanted, name))
            assert array.dtype == getattr(wanted, name).dtype
    assert not list(tmp_path.glob("out.npz*partial"))


def test_softmax_to_long_rows(run, files, tmp_path):
    arrays, options = files
    wanted = sf.LinearHead(arrays["weight"]).score(arrays["query"], 3, target=arrays["target"])
    columns = {
        "query": np.repeat(np.arange(53), 3),
        "rank": np.tile(np.arange(3), 53),
        "class": wanted.indices.reshape(-1),
        "log_prob": wanted.log_probs.reshape(-1),
        "logsumexp": np.repeat(wanted.logsumexp, 3),
        "target_log_prob": np.repeat(wanted.target_log_prob, 3),
    }
    for found in written(run, options, tmp_path, "query", "weight", "target", extra=("-k", 3, "--batch", 20)):
        assert list(found) == list(columns)
        for name, column in columns.items():
            np.testing.assert_array_equal(found[name], column)


def test_entmax_to_each_format(run, files, tmp_path):
    arrays, options = files
    wanted = sf.LinearHead(arrays["weight"]).entmax(arrays["query"], 1.3)
    extra = ("--map", "entmax", "--alpha", 1.3, "--batch", 20)
    run(*of(options, "weight", "query"), *extra, "--out", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz", allow_pickle=False) as out:
        np.testing.assert_array_equal(sf.SparseRows(**out).to_dense(), wanted.to_dense())
        for name in ("indptr", "indices", "values"):
            np.testing.assert_array_equal(out[name], getattr(wanted, name))
    for found in written(run, options, tmp_path, "weight", "query", extra=extra):
        assert list(found) == ["query", "class", "prob"]
        np.testing.assert_array_equal(found["query"], np.repeat(np.arange(53), np.diff(wanted.indptr)))
        np.testing.assert_array_equal(found["class"], wanted.indices)
        np.testing.assert_array_equal(found["prob"], wanted.values)


def written(run, options, folder, *names, extra):
    """The columns of a .csv file and, where it can be written, a .parquet file."""
    run(*of(options, *names), *extra, "--out", folder / "out.csv")
    with (folder / "out.csv").open() as file:
        header, *rows = csv.reader(file)
    columns = zip(header, zip(*rows, strict=True), strict=True)
    yield {name: np.array(column, np.float32 if "." in column[0] else np.int64) for name, column in columns}
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    run(*of(options, *names), *extra, "--out", folder / "out.parquet")
    table = parquet.read_table(folder / "out.parquet")
    yield {name: table[name].to_numpy() for name in table.column_names}


def test_safetensors_with_names_and_types(run, files, tmp_path):
    arrays, options = files
    path = tmp_path / "head.safetensors"
    sf.LinearHead(arrays["weight"], arrays["bias"], temperature=2.0).save(path)
    out = ("--out", tmp_path / "out.npz")
    saved = sf.LinearHead(arrays["weight"], arrays["bias"], temperature=2.0, dtype="int8")
    for weight, bias, dtype, head in [
        (path, (), (), sf.LinearHead(arrays["weight"], arrays["bias"], temperature=2.0)),
        (f"{path}:weight", ("--bias", "bias"), (), sf.LinearHead(arrays["weight"], arrays["bias"])),
        (path, (), ("--dtype", "int8"), saved),
    ]:
        run("--weight", weight, *of(options, "query"), *bias, *dtype, *out)
        with np.load(tmp_path / "out.npz") as found:
            wanted = head.score(arrays["query"])
            np.testing.assert_array_equal(found["indices"], wanted.indices)
            np.testing.assert_array_equal(found["log_probs"], wanted.log_probs)


def test_a_shard_has_its_own_classes(run, files, tmp_path):
    arrays, options = files
    head = sf.LinearHead(arrays["weight"], first_class=1000)
    head.save(tmp_path / "shard.safetensors")
    np.save(tmp_path / "target.npy", arrays["target"] + 1000)
    out = ("--out", tmp_path / "out.npz")
    shard = ("--weight", tmp_path / "shard.safetensors", *of(options, "query"), *out)
    run(*shard, *of(options, "target"))
    with np.load(tmp_path / "out.npz") as found:
        wanted = head.score(arrays["query"], target=arrays["target"] + 1000)
        np.testing.assert_array_equal(found["indices"], wanted.indices)
        np.testing.assert_array_equal(found["target_log_prob"], wanted.target_log_prob)
    run(*shard, "--map", "entmax")
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_array_equal(sf.SparseRows(**found).to_dense(), head.entmax(arrays["query"]).to_dense())


def test_no_queries(run, files, tmp_path):
    arrays, options = files
    np.save(tmp_path / "query.npy", arrays["query"][:0])
    for suffix, shape in ((".npz", (0, 10)), (".csv", None)):
        said = run(*of(options, "weight", "query"), "--out", tmp_path / f"out{suffix}")
        assert "0 queries" in said
        if shape:
            with np.load(tmp_path / f"out{suffix}") as out:
                assert out["indices"].shape == shape
    run(*of(options, "weight", "query"), "--map", "entmax", "--out", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as out:
        assert sf.SparseRows(**out).to_dense().shape == (0, 400)


def test_refuses_clearly_and_leaves_nothing(run, files, tmp_path):
    arrays, options = files
    np.save(tmp_path / "wide.npy", arrays["query"][:, :5])
    np.save(tmp_path / "few.npy", arrays["target"][1:])
    np.save(tmp_path / "high.npy", arrays["target"] + 390)
    (tmp_path / "text.npy").write_text("no array")
    before = sorted(tmp_path.iterdir())
    good = dict(options, out=("--out", tmp_path / "o.npz"))
    for changed, words in [
        ({"weight": ("--weight", tmp_path / "none.npy")}, ["none.npy"]),
        ({"weight": ("--weight", tmp_path / "text.npy")}, ["text.npy", "damaged"]),
        ({"weight": ("--weight", tmp_path / "weight.bin")}, [".bin", ".safetensors"]),
        ({"weight": ("--weight", f"{tmp_path / 'weight.npy'}:w")}, ["must end in .npy"]),
        ({"query": ("--query", tmp_path / "wide.npy")}, ["(53, 5)", "12 columns"]),
        ({"bias": ("--bias", tmp_path / "target.npy")}, ["int64"]),
        ({"target": ("--target", tmp_path / "few.npy")}, ["(52,)", "(53,)"]),
        ({"target": ("--target", tmp_path / "weight.npy")}, ["float32", "integers"]),
        ({"target": ("--target", tmp_path / "text.npy")}, ["text.npy"]),
        ({"target": ("--target", tmp_path / "high.npy")}, ["query", "[0, 399]"]),
        ({"k": ("-k", 401)}, ["401", "400"]),
        ({"k": ("-k", 0)}, ["-k", "1"]),
        ({"t": ("--temperature", 0)}, ["temperature"]),
        ({"d": ("--dtype", "int4")}, ["int4", "bfloat16"]),
        ({"m": ("--map", "entmax")}, ["--target", "softmax"]),
        ({"m": ("--map", "entmax", "--alpha", 0.5), "target": ()}, ["alpha", "0.5"]),
        ({"b": ("--batch", 0)}, ["batch"]),
        ({"out": ("--out", tmp_path / "o.txt")}, [".txt", ".parquet"]),
        ({"out": ("--out", tmp_path / "none" / "o.npz")}, ["no folder"]),
    ]:
        arguments = good | changed
        said = run(*of(arguments, *arguments), status=2)
        assert all(word in said for word in words), said
    assert sorted(tmp_path.iterdir()) == before


def test_parquet_without_pyarrow_says_how_to_install_it(files, tmp_path):
    _, options = files
    code = "import sys; sys.modules['pyarrow'] = None; from softmaxfam_rs.cli import main; main()"
    with started("score", *of(options, "weight", "query"), "--out", tmp_path / "o.parquet", code=code) as process:
        said = in_a_line(process.communicate(timeout=PATIENCE)[1])
    assert process.returncode == 2 and "pip install 'softmaxfam-rs[parquet]'" in said


STALLED = """
import signal, sys, time
from softmaxfam_rs.cli import main, score
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
scored = score.Work.scored
def stalling(self, rows):
    if rows.start == 30:  # the fourth batch of ten
        time.sleep(1000)
    return scored(self, rows)
score.Work.scored = stalling
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals go otherwise on Windows")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM], ids=lambda stop: stop.name)
@pytest.mark.parametrize("map_", ["softmax", "entmax"])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(run, files, tmp_path, stop, map_):
    _, options = files
    arguments = [*of(options, "weight", "query"), "--map", map_, "--batch", 10]
    out = ("--out", tmp_path / "out.npz")
    kept = tmp_path / "out.npz.partial"
    with started("score", *arguments, *out, code=STALLED) as process:
        until(lambda: len(list(kept.glob("[0-9]*.npz"))) == 3, process)
        process.send_signal(stop)
        said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == (130 if stop is signal.SIGINT else -stop)
    if stop is signal.SIGINT:
        assert "3 of 6 batches done" in said and "Traceback" not in said
        assert said.rstrip().endswith(f"--out {tmp_path / 'out.npz'} --resume")
    assert not (tmp_path / "out.npz").exists()
    assert "go on with --resume" in run(*arguments, *out, status=2)
    finished = {path: path.stat().st_mtime_ns for path in kept.glob("[0-9]*.npz")}
    (kept / f".00000003.npz.1-0{batches.UNFINISHED}").write_bytes(b"as kill -9 leaves it")
    with started("score", *arguments, *out, "--resume", code=STALLED) as process:  # stopped once more
        time.sleep(0.1)
        process.kill()
        process.communicate(timeout=PATIENCE)
    assert finished == {path: path.stat().st_mtime_ns for path in kept.glob("[0-9]*.npz")}
    run(*arguments, *out, "--resume", "--threads", 1)
    run(*arguments, "--out", tmp_path / "at_once.npz")
    assert (tmp_path / "out.npz").read_bytes() == (tmp_path / "at_once.npz").read_bytes()
    assert not kept.exists()


def until(condition, process):
    """Wait for what a process does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform == "win32", reason="signals go otherwise on Windows")
def test_ctrl_c_stops_within_a_batch(tmp_path):
    np.lib.format.open_memmap(tmp_path / "w.npy", "w+", np.float32, (200_000, 64))
    np.lib.format.open_memmap(tmp_path / "h.npy", "w+", np.float32, (60_000, 64))
    code = STALLED.replace("rows.start == 30", "False")
    inputs = ("--weight", tmp_path / "w.npy", "--query", tmp_path / "h.npy", "--batch", 60_000)
    with started("score", *inputs, "--out", tmp_path / "o.csv", code=code) as process:
        until((tmp_path / "o.csv.partial" / batches.MANIFEST).exists, process)
        time.sleep(0.3)
        pressed = time.monotonic()
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 130, said
    assert time.monotonic() - pressed < 5.0  # a tenth of a second and the end of Python, on a quiet machine
    assert "0 of 1 batches" in said


def test_another_run_is_not_gone_on_with(tmp_path):
    batches.Batches(tmp_path / "b", {"k": 5, "map": "softmax"}).start(resume=True)
    with pytest.raises(ValueError, match=r"k was 5, is 6.*remove the folder"):
        batches.Batches(tmp_path / "b", {"k": 6, "map": "softmax"}).start(resume=True)
    with pytest.raises(ValueError, match=r"map was softmax, is None"):
        batches.Batches(tmp_path / "b", {"k": 5}).start(resume=True)
    (tmp_path / "b" / batches.MANIFEST).write_text("[")
    with pytest.raises(ValueError, match=r"damaged; remove the folder"):
        batches.Batches(tmp_path / "b", {"k": 5}).start(resume=True)


def test_changed_inputs_are_not_gone_on_with(run, files, tmp_path):
    _, options = files
    code = STALLED.replace("time.sleep(1000)", "raise OSError('the disk is full')")
    arguments = [*of(options, "weight", "query"), "--batch", 10, "--out", tmp_path / "out.npz"]
    with started("score", *arguments, code=code) as process:
        said = in_a_line(process.communicate(timeout=PATIENCE)[1])
    assert process.returncode == 2 and "the disk is full" in said and "--resume" in said
    os.utime(tmp_path / "query.npy", ns=(0, 0))
    said = run(*arguments, "--resume", status=2)
    assert "file of query was" in said and "changed at 0 ns" in said


def test_a_batch_that_the_disk_lost_is_made_again(tmp_path):
    kept = batches.Batches(tmp_path / "b", {})
    assert kept.start(resume=False) == set()
    for number in range(3):
        kept.save(number, {"a": np.full(100, number)})
    whole = (tmp_path / "b" / "00000001.npz").read_bytes()
    for lost in (whole[:-5], b"", whole[:150] + b"!" + whole[151:]):
        (tmp_path / "b" / "00000001.npz").write_bytes(lost)
        assert kept.start(resume=True) == {0, 2}
    np.testing.assert_array_equal(kept.load(2)["a"], 2)
    (tmp_path / "b" / "note.txt").write_text("someone's own")
    kept.remove()
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["note.txt"]
