"""What samplers promise besides their laws: streams, outputs, files, errors."""

import copy
import os
import pickle
import subprocess
import sys
import threading
from collections import Counter

import numpy as np
import pytest

import softmaxfam_rs as sf
from backends import on_each_other_backend

WEIGHTS = np.array([5.0, 1.0, 0.0, 2.5, 1e-3, 40.0, 7.0])
SAMPLERS = {
    "alias": sf.AliasTable(WEIGHTS, power=0.75),
    "uniform": sf.UniformSampler(1_000_000),
    "log-uniform": sf.LogUniformSampler(1_000_000),
}
samplers = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)

# New numbers here break the promise of streams: a major version, and a line under "Streams" in the CHANGELOG.
KNOWN_DRAWS = {
    "alias": [5, 0, 5, 3, 6, 5, 5, 5],
    "uniform": [185361, 76249, 136838, 488515, 869770, 566121, 418566, 187583],
    "log-uniform": [11, 1, 5, 852, 165431, 2492, 323, 12],
}


@pytest.mark.parametrize("dtype", ["int64", "int32"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_value_stability(name, dtype):
    ids, logq = SAMPLERS[name].sample(8, rng=sf.Stream(42, key=7).at(1001), dtype=dtype)
    assert ids.tolist() == KNOWN_DRAWS[name]
    assert ids.dtype == dtype
    assert logq.dtype == np.float32
    np.testing.assert_array_equal(logq, SAMPLERS[name].logq(ids))


SCRIPT = """
import hashlib, numpy as np, softmaxfam_rs as sf
digest = hashlib.sha256()
weights = np.random.default_rng(0).pareto(1.0, 100_000)
scores = np.random.default_rng(1).standard_normal((3, 300_000)).astype("f4")
for sampler in (sf.AliasTable(weights, power=0.75), sf.UniformSampler(10**6), sf.LogUniformSampler(10**6)):
    for samples in (
        sampler.sample((7, 30_001), rng=sf.Stream(3, key=9).at(5)),
        sampler.sample((50, 300), rng=4, unique=True),
        sampler.sample((100, 50), rng=5, exclude=np.arange(100)),
    ):
        for array in (*samples, samples.tries, samples.threshold):
            digest.update(b"" if array is None else array.tobytes())
for unique in (False, True):
    for array in sf.sample_scores(scores, 40, rng=6, unique=unique):
        digest.update(array.tobytes())
print(digest.hexdigest())
"""


def test_the_same_draws_on_all_instruction_sets_and_threads():
    def digest(**environment):
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=os.environ | environment, capture_output=True, text=True, check=True
        )
        return run.stdout

    expected = digest(SOFTMAXFAM_NUM_THREADS="1")
    for isa in sf.show_config()["isa_available"]:
        assert digest(SOFTMAXFAM_ISA=isa, SOFTMAXFAM_NUM_THREADS="2") == expected, isa


@samplers
def test_draws_do_not_depend_on_how_they_are_cut(sampler):
    whole = sampler.sample((100, 70), rng=sf.Stream(1, key=2))
    stream = sf.Stream(1, key=2)
    parts = [sampler.sample(count, rng=stream) for count in (1, 2, 3, 494, 6000, 500)]
    np.testing.assert_array_equal(np.concatenate([part.ids for part in parts]), whole.ids.ravel())
    np.testing.assert_array_equal(np.concatenate([part.logq for part in parts]), whole.logq.ravel())
    assert stream.position == 7000
    np.testing.assert_array_equal(sampler.sample((30, 70), rng=stream.at(70 * 70)).ids, whole.ids[70:])


def test_distinct_draws_do_not_depend_on_how_rows_are_cut():
    sampler = SAMPLERS["log-uniform"]
    whole = sampler.sample((20, 9), rng=3, unique=True)
    stream = sf.Stream(3)
    parts = [sampler.sample((count, 9), rng=stream, unique=True) for count in (1, 12, 7)]
    np.testing.assert_array_equal(np.concatenate([part.ids for part in parts]), whole.ids)
    np.testing.assert_array_equal(np.concatenate([part.tries for part in parts]), whole.tries)
    np.testing.assert_array_equal(np.concatenate([part.threshold for part in parts]), whole.threshold)
    assert stream.position == 20


def test_streams():
    stream = sf.Stream(7, key=3)
    parts = stream.at(10).split(3)
    assert [part.position for part in parts][:2] == [10, 10 + (2**63 - 10) // 3]
    parts[0].position += 2**62 // 3  # most of its part
    again = pickle.loads(pickle.dumps(parts[1]))
    assert repr(again) == repr(parts[1])
    sampler = SAMPLERS["uniform"]
    np.testing.assert_array_equal(sampler.sample(5, rng=again).ids, sampler.sample(5, rng=parts[1]).ids)
    last = stream.at(2**63 - 3)
    sampler.sample(3, rng=last)
    with pytest.raises(ValueError, match="0 left"):
        sampler.sample(1, rng=last)
    stream.split(4)
    with pytest.raises(ValueError, match="0 left"):
        sampler.sample(1, rng=stream)


def test_a_stream_shared_by_threads_gives_each_word_once():
    stream, drawn = sf.Stream(5), []
    sampler = sf.UniformSampler(2**32 - 1)

    def work():
        drawn.extend(sampler.sample(10, rng=stream).ids.tolist() for _ in range(200))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = sampler.sample((800, 10), rng=5).ids.tolist()
    assert sorted(drawn) == sorted(expected)


def test_generators_of_numpy():
    def draw(rng):
        return SAMPLERS["uniform"].sample(4, rng=rng).ids.tolist()

    generator = np.random.default_rng(0)
    first, second = draw(generator), draw(generator)
    assert first != second
    assert first == draw(np.random.default_rng(0))
    assert draw(7) == draw(np.int64(7)) == draw(sf.Stream(7))


@samplers
@pytest.mark.parametrize("shape", [(), (0,), 0, (3, 0), (0, 5), (2, 3, 4), 1, (4097,)])
def test_shapes(sampler, shape):
    axes = shape if isinstance(shape, tuple) else (shape,)
    ids, logq = sampler.sample(shape, rng=1)
    assert ids.shape == logq.shape == axes
    if axes[-1:] in {(3,), (4,), (0,)}:
        samples = sampler.sample(shape, rng=1, unique=True)
        assert samples.ids.shape == axes
        assert samples.tries.shape == samples.threshold.shape == axes[:-1]


def test_excluded_classes_are_redrawn_or_marked():
    table = sf.AliasTable(np.ones(6))
    plain = table.sample((50, 40), rng=2)
    positives = np.arange(50) % 6
    redrawn = table.sample((50, 40), rng=2, exclude=positives)
    hit = plain.ids == positives[:, None]
    assert 0 < hit.sum() < hit.size
    assert not (redrawn.ids == positives[:, None]).any()
    np.testing.assert_array_equal(redrawn.ids[~hit], plain.ids[~hit])
    marked = table.sample((50, 40), rng=2, exclude=positives, hits="mark")
    np.testing.assert_array_equal(marked.ids, plain.ids)
    np.testing.assert_array_equal(marked.hits, hit)
    several = np.stack([positives, np.full(50, -1), (positives + 1) % 6], axis=1)
    marked = table.sample((50, 40), rng=2, exclude=several, hits="mark").hits
    np.testing.assert_array_equal(marked, hit | (plain.ids == several[:, 2:]))
    distinct = table.sample((50, 4), rng=2, exclude=several, unique=True)
    assert (distinct.threshold == -np.inf).all()  # all that are left
    assert all(
        set(row) == set(range(6)) - set(out) for row, out in zip(distinct.ids.tolist(), several.tolist(), strict=True)
    )
    shared = table.sample(30, rng=2, exclude=[3, 4])
    assert not np.isin(shared.ids, [3, 4]).any()


def test_shared_buffers():
    ids, logq = np.empty((5, 8), np.int32), np.empty((5, 8), np.float32)
    samples = SAMPLERS["alias"].sample((5, 8), rng=3, out=(ids, logq))
    assert samples.ids is ids
    assert samples.logq is logq
    expected = SAMPLERS["alias"].sample((5, 8), rng=3)
    np.testing.assert_array_equal(ids, expected.ids)
    np.testing.assert_array_equal(logq, expected.logq)
    strided = np.full((5, 16), -9)[:, ::2], np.empty((8, 5), np.float32).T
    SAMPLERS["alias"].sample((5, 8), rng=3, out=strided)
    np.testing.assert_array_equal(strided[0], expected.ids)
    np.testing.assert_array_equal(strided[1], expected.logq)
    SAMPLERS["alias"].sample((5, 8), rng=3, out=(ids, None), logq=False)
    assert SAMPLERS["alias"].sample(3, rng=3, logq=False).logq is None
    distinct = SAMPLERS["alias"].sample((5, 3), rng=3, unique=True)
    SAMPLERS["alias"].sample((5, 3), rng=3, unique=True, out=(ids[:, :3], logq[:, 2:5]))
    np.testing.assert_array_equal(ids[:, :3], distinct.ids)
    np.testing.assert_array_equal(logq[:, 2:5], distinct.logq)


def test_weights_of_any_kind():
    expected = sf.AliasTable(WEIGHTS)
    for weights in (
        WEIGHTS.tolist(),
        np.repeat(WEIGHTS, 2)[::2],
        WEIGHTS.astype(">f8"),
        np.where(np.arange(7) >= 0, WEIGHTS, 0)[::-1][::-1],
    ):
        np.testing.assert_array_equal(sf.AliasTable(weights).logq(range_ := np.arange(7)), expected.logq(range_))
    counts = np.array([3, 0, 9], np.uint8)
    for dtype in ("u1", "i2", "i8", "u8", "f2", "f4", "f8"):
        assert sf.AliasTable(counts.astype(dtype)).probs(2) == 0.75
    assert sf.AliasTable([True, False, True]).probs(1) == 0
    counter = Counter("abracadabra")
    table = sf.AliasTable.from_counts(counter, power=1)
    np.testing.assert_allclose(table.probs(np.arange(5)), np.array(list(counter.values())) / 11, rtol=1e-6)
    np.testing.assert_allclose(sf.AliasTable.from_counts([1, 16]).probs(1), 8 / 9, rtol=1e-6)


def test_pickles_copies_updates(tmp_path):
    classes = np.arange(7)
    for sampler in SAMPLERS.values():
        for again in (pickle.loads(pickle.dumps(sampler)), copy.copy(sampler), copy.deepcopy(sampler)):
            assert repr(again) == repr(sampler)
            np.testing.assert_array_equal(again.logq(classes), sampler.logq(classes))
            np.testing.assert_array_equal(again.sample(99, rng=1).ids, sampler.sample(99, rng=1).ids)
    table = sf.AliasTable(WEIGHTS, power=0.75)
    table.save(tmp_path / "a.npz")
    again = sf.AliasTable.load(tmp_path / "a.npz")
    assert again.power == 0.75
    np.testing.assert_array_equal(again.logq(classes), table.logq(classes))
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    assert (tmp_path / "a.npz").stat().st_size < 8 * 7 + 1000
    assert (table.nbytes, len(table)) == (12 * 7, 7)
    again.update([1.0, 1.0], power=1)
    assert len(again) == 2
    with pytest.raises(ValueError, match="class 1"):
        again.update([1.0, -1.0])
    assert again.probs(0) == 0.5  # as before
    samples = table.sample((3, 2), rng=1, unique=True)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(samples)).ids, samples.ids)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(samples)).tries, samples.tries)


def test_damaged_and_foreign_files(tmp_path):
    good = tmp_path / "good.npz"
    sf.AliasTable(np.arange(1, 5000)).save(good)
    data = good.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 0xFF
    with np.load(good) as file:
        parts = dict(file)
    wrong_slots = parts["slots"].copy()
    wrong_slots[17] |= np.uint64(0xFFFF_FFFF)
    cases = {
        "cut": data[: len(data) // 2],
        "empty": b"",
        "flipped": bytes(flipped),
        "text": b"no table at all",
        "foreign": {"weights": WEIGHTS},
        "array": WEIGHTS,
        "other format": parts | {"format": np.array("softmaxfam alias table 9")},
        "float slots": parts | {"slots": parts["slots"].astype(float)},
        "two axes": parts | {"slots": parts["slots"][None]},
        "no slots": parts | {"slots": parts["slots"][:0]},
        "wrong slots": parts | {"slots": wrong_slots},
        "wrong power": parts | {"power": np.array(np.nan)},
        "pickle": {"format": np.array([{}], dtype=object)},
    }
    for name, content in cases.items():
        path = tmp_path / f"{name}.npz"
        with path.open("wb") as file:
            if isinstance(content, dict):
                np.savez(file, **content)
            elif isinstance(content, np.ndarray):
                np.save(file, content)
            else:
                file.write(content)
        with pytest.raises(ValueError, match="is no alias table") as caught:
            sf.AliasTable.load(path)
        assert name in str(caught.value)
    with pytest.raises(FileNotFoundError):
        sf.AliasTable.load(tmp_path / "none.npz")


table = SAMPLERS["alias"]
scores = np.arange(12.0).reshape(3, 4)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: sf.AliasTable([1.0, float("nan")]), ValueError, ["class 1", "NaN"]),
        (lambda: sf.AliasTable([1.0, -2.0, -3.0]), ValueError, ["class 1", "-2"]),
        (lambda: sf.AliasTable([float("inf")]), ValueError, ["class 0", "inf"]),
        (lambda: sf.AliasTable(np.zeros(3)), ValueError, ["all 3", "> 0"]),
        (lambda: sf.AliasTable([]), ValueError, ["classes is 0"]),
        (lambda: sf.AliasTable(np.ones((2, 2))), ValueError, ["(2, 2)"]),
        (lambda: sf.AliasTable(["a"]), TypeError, ["weights", "<U1"]),
        (lambda: sf.AliasTable(np.ones(2, complex)), TypeError, ["complex128"]),
        (lambda: sf.AliasTable(np.ones(2, np.longdouble)), TypeError, ["float64"]),
        (lambda: sf.AliasTable(None), TypeError, ["NoneType"]),
        (lambda: sf.AliasTable([1.0], power=-1), ValueError, ["power", "-1"]),
        (lambda: sf.UniformSampler(0), ValueError, ["n is 0"]),
        (lambda: sf.LogUniformSampler(2**32), ValueError, ["4294967296"]),
        (lambda: sf.UniformSampler(2.5), TypeError, ["float"]),
        (lambda: table.sample(3, rng=None), TypeError, ["NoneType", "Stream"]),
        (lambda: table.sample(3, rng=np.random), TypeError, ["module"]),
        (lambda: table.sample(3, rng=-1), ValueError, ["seed is -1"]),
        (lambda: table.sample(-3, rng=1), ValueError, ["-3"]),
        (lambda: table.sample(2.0, rng=1), TypeError, ["2.0"]),
        (lambda: table.sample(3, rng=1, dtype="int16"), TypeError, ["int16", "int32"]),
        (lambda: table.sample(7, rng=1, unique=True), ValueError, ["7 distinct", "of 6"]),
        (lambda: table.sample((2, 6), rng=1, unique=True, exclude=[2, 1]), ValueError, ["row 1", "6 distinct", "of 5"]),
        (lambda: table.sample(3, rng=1, exclude=np.arange(7)), ValueError, ["row 0", "of 0"]),
        (lambda: table.sample((2, 3), rng=1, exclude=[1, 7]), ValueError, ["class 7", "[0, 6]"]),
        (lambda: table.sample((2, 3), rng=1, exclude=[1]), ValueError, ["(1,)", "(2,)"]),
        (lambda: table.sample((2, 3), rng=1, exclude=[1.5, 2]), TypeError, ["exclude", "float64"]),
        (lambda: table.sample(3, rng=1, hits="drop"), ValueError, ["drop", "mark"]),
        (lambda: table.sample(3, rng=1, unique=True, logq=False), ValueError, ["logq"]),
        (lambda: table.sample(3, rng=1, device="cuda"), ValueError, ["cuda", "xp"]),
        (lambda: table.sample(3, rng=1, out=np.empty(3, int)), TypeError, ["pair"]),
        (
            lambda: table.sample(3, rng=1, out=(np.empty(4, int), np.empty(3, "f4"))),
            ValueError,
            ["ids", "(4,)", "(3,)"],
        ),
        (lambda: table.sample(3, rng=1, out=(np.empty(3, int), np.empty(3))), ValueError, ["logq", "float64"]),
        (lambda: table.sample(3, rng=1, out=(np.empty(3, "i2"), np.empty(3, "f4"))), TypeError, ["int16"]),
        (lambda: sf.UniformSampler(2**31 + 1).sample(1, rng=1, dtype="int32"), ValueError, ["int32"]),
        (lambda: table.logq([7]), ValueError, ["class 7"]),
        (lambda: table.logq([-1]), ValueError, ["class -1"]),
        (lambda: table.logq([0.5]), TypeError, ["float64"]),
        (lambda: sf.Stream(1).at(2**63 + 1), ValueError, ["position"]),
        (lambda: sf.Stream(1).split(0), ValueError, ["n is 0"]),
        (lambda: sf.Stream(1.5), TypeError, ["seed", "float"]),
        (lambda: sf.Stream(2**64), ValueError, ["seed"]),
        (lambda: sf.sample_scores(scores, 0, rng=1), ValueError, ["m is 0"]),
        (lambda: sf.sample_scores(scores, 5, rng=1, unique=True), ValueError, ["m is 5", "4"]),
        (lambda: sf.sample_scores(scores, 1, rng=1, axis=2), ValueError, ["axis is 2"]),
        (lambda: sf.sample_scores(scores, 1, rng=1, temperature=0), ValueError, ["temperature"]),
        (lambda: sf.sample_scores(scores.astype(complex), 1, rng=1), TypeError, ["complex128"]),
    ],
)
def test_messages(call, error, words):
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "panic" not in message


def test_nothing_is_written_on_error():
    ids, logq = np.full((2, 6), 7), np.full((2, 6), 7, np.float32)
    with pytest.raises(ValueError, match="row 1"):
        table.sample((2, 6), rng=1, unique=True, exclude=[2, 1], out=(ids, logq))
    memory = np.full(20, 7.0).view(np.float32)
    with pytest.raises(ValueError, match="shares memory"):
        table.sample(4, rng=1, out=(memory[:8].view(np.int64), memory[4:8]))
    assert (ids == 7).all()
    assert (logq == 7).all()


def test_rows_of_scores_at_the_edges():
    inf, nan = np.inf, np.nan
    x = np.array([[0.0, nan, 1.0], [inf, 0, 0], [-inf, -inf, -inf], [-inf, 2.0, -inf], [1.0, -inf, 1.0]], np.float32)
    for unique in (False, True):
        samples = sf.sample_scores(x, 2, rng=1, unique=unique)
        assert (samples.ids[:3] == -1).all()
        assert np.isnan(samples.logq[:3]).all()
        assert samples.ids[3].tolist() == ([1, -1] if unique else [1, 1])
        np.testing.assert_allclose(samples.logq[3], [0.0, -inf] if unique else [0.0, 0.0], atol=1e-8)
        assert (samples.logq[3] <= 0).all()
        assert set(samples.ids[4].tolist()) <= {0, 2}
    masked = sf.sample_scores(np.zeros((2, 3)), 1, rng=1, where=np.array([[True, True, False], [False] * 3]))
    assert masked.ids[0, 0] in {0, 1}
    assert (masked.ids[1, 0], masked.logq[1, 0]) == (-1, -inf)
    assert sf.sample_scores(np.zeros((2, 0)), 1, rng=1).ids.tolist() == [[-1], [-1]]
    assert sf.sample_scores(np.zeros((0, 3)), 2, rng=1).ids.shape == (0, 2)
    assert sf.sample_scores(np.float64(3), 1, rng=1).ids.tolist() in ([0], 0)


def test_scores_of_any_layout(rng):
    x = rng.standard_normal((6, 5000)).astype(np.float32)
    for unique in (False, True):
        expected = sf.sample_scores(x, 7, rng=1, unique=unique, temperature=0.5)
        along_first = sf.sample_scores(np.ascontiguousarray(x.T), 7, rng=1, unique=unique, axis=0, temperature=0.5)
        np.testing.assert_array_equal(along_first.ids.T, expected.ids)
        turned = sf.sample_scores(x[:, ::-1], 7, rng=1, unique=unique, temperature=np.full((6, 1), 0.5))
        assert turned.ids.shape == (6, 7)
        np.testing.assert_allclose(np.take_along_axis(sf.log_softmax(2 * x), expected.ids, 1), expected.logq, atol=1e-5)
        np.testing.assert_array_equal(
            sf.sample_scores(x[3:], 7, rng=sf.Stream(1).at(3 if unique else 21), unique=unique, temperature=0.5).ids,
            expected.ids[3:],
        )
    assert sf.sample_scores(x.astype(np.float16), 3, rng=1, dtype="int32").ids.dtype == np.int32


def test_torch_and_other_libraries():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    expected = table.sample((3, 4), rng=1)
    for options in ({"xp": torch}, {"like": torch.zeros(2)}, {"xp": torch, "device": "cpu"}):
        samples = table.sample((3, 4), rng=1, unique=False, exclude=torch.tensor([2, 2, 2]), hits="mark", **options)
        assert isinstance(samples.ids, torch.Tensor) and samples.ids.dtype == torch.int64
        np.testing.assert_array_equal(samples.ids.numpy(), expected.ids)
        np.testing.assert_array_equal(samples.logq.numpy(), expected.logq)
        assert samples.hits.dtype == torch.bool
    assert table.sample((3, 4), rng=1, xp=torch, dtype=torch.int32).ids.dtype == torch.int32
    ids, logq = torch.empty(3, 4, dtype=torch.int64), torch.empty(3, 4)
    assert table.sample((3, 4), rng=1, out=(ids, logq)).ids is ids
    np.testing.assert_array_equal(ids.numpy(), expected.ids)
    assert isinstance(table.logq(ids), torch.Tensor)
    np.testing.assert_array_equal(
        sf.AliasTable(torch.tensor(WEIGHTS)).logq(np.arange(7)), sf.AliasTable(WEIGHTS).logq(np.arange(7))
    )
    generator = torch.Generator().manual_seed(3)
    first, second = (table.sample(20, rng=generator).ids.tolist() for _ in range(2))
    assert first != second
    assert first == table.sample(20, rng=torch.Generator().manual_seed(3)).ids.tolist()
    x = torch.randn(3, 100, generator=generator)
    for given in (x, x.requires_grad_(), x.detach().bfloat16(), x.detach().T.contiguous().T):
        drawn = sf.sample_scores(given, 5, rng=1, unique=True)
        assert all(isinstance(array, torch.Tensor) for array in (*drawn, drawn.threshold))


@on_each_other_backend
def test_arrays_of_each_library(backend):
    if backend.library == "dask":
        pytest.skip("draws are made at once, not lazily")
    like, weights = backend.array(np.zeros(2, np.float32)), backend.array(WEIGHTS.astype(np.float32))
    table = sf.AliasTable(weights)
    samples, plain = table.sample((3, 4), rng=1, like=like), table.sample((3, 4), rng=1)
    of_scores, of_plain = sf.sample_scores(weights, 2, rng=1), sf.sample_scores(WEIGHTS.astype(np.float32), 2, rng=1)
    for own, expected in (
        (samples.ids, plain.ids),
        (samples.logq, plain.logq),
        (table.logq(samples.ids), table.logq(plain.ids)),
        (of_scores.ids, of_plain.ids),
        (of_scores.logq, of_plain.logq),
    ):
        assert backend.is_own(own) or str(backend) == "a subclass of torch"  # whose arrays are torch's own
        np.testing.assert_array_equal(backend.numpy(own), expected)


def test_torch_is_not_imported():
    code = "import sys, softmaxfam_rs as sf; sf.AliasTable([1, 2]).sample(3, rng=1); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
