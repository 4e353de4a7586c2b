"""Class matrices in files: what is read back, what is refused, and what it costs."""

import json
import os
import pickle
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import softmaxfam_rs as sf
from softmaxfam_rs import _head_files, _safetensors
from softmaxfam_rs._head_files import StoredHead, open_head, open_matrix, open_vector, save_head
from softmaxfam_rs._head_weights import widened

SLOW = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def safetensors_bytes(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype, shape, start, stop):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@pytest.fixture
def weight(rng):
    return rng.standard_normal((7, 5)).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_npy_matrix_is_mapped(tmp_path, weight, dtype, order):
    stored = np.asarray(weight, dtype, order=order)
    np.save(tmp_path / "w.npy", stored)
    array, kind = open_matrix(tmp_path / "w.npy")
    assert isinstance(array, np.memmap) and not array.flags.writeable
    assert kind == np.dtype(dtype).name
    np.testing.assert_array_equal(array, stored)


def test_a_vector_becomes_float32(tmp_path):
    bias = np.arange(4.0)
    np.save(tmp_path / "bias.npy", bias)
    np.save(tmp_path / "single.npy", bias.astype(np.float32))
    for name in ("bias.npy", "single.npy"):
        found = open_vector(tmp_path / name)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, bias)
    np.save(tmp_path / "bias.npy", np.eye(2))
    with pytest.raises(ValueError, match=r"shape \(2, 2\), must have one axis"):
        open_vector(tmp_path / "bias.npy")


def test_files_of_the_safetensors_package_are_read(tmp_path, weight):
    save_file = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed").save_file
    path = tmp_path / "model.safetensors"
    tensors = {"head": weight, "half": weight.astype(np.float16), "bias": weight[:, 0].copy(), "ids": np.arange(3)}
    save_file(tensors, path, metadata={"format": "pt"})
    for name in ("head", "half"):
        array, kind = open_matrix(path, name)
        assert isinstance(array, np.memmap) and not array.flags.writeable
        assert kind == tensors[name].dtype.name
        np.testing.assert_array_equal(array, tensors[name])
    head = open_head(path, weight="head", bias="bias")
    np.testing.assert_array_equal(head.bias, weight[:, 0])
    assert open_head(path, weight="head").bias is None
    with pytest.raises(ValueError, match=r"holds 2 matrices.*'h.*', 'h.*'"):
        open_head(path)
    with pytest.raises(ValueError, match=r"no tensor 'lm_head'.*'h.*', 'h.*'"):
        open_head(path, weight="lm_head")
    with pytest.raises(ValueError, match=r"'ids'.*I64 and shape \[3\]"):
        open_matrix(path, "ids")


def test_bfloat16_of_torch_is_its_bits(tmp_path, weight):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    save_file = pytest.importorskip("safetensors.torch", reason="safetensors is not installed").save_file
    tensor = torch.from_numpy(weight).bfloat16()
    save_file({"w": tensor, "b": tensor[:, 0].contiguous()}, tmp_path / "w.safetensors")
    head = open_head(tmp_path / "w.safetensors", bias="b")
    assert head.kind == "bfloat16" and head.weight.dtype == np.uint16
    numbers = tensor.float().numpy()
    np.testing.assert_array_equal(widened(head.weight, "bfloat16"), numbers)
    np.testing.assert_array_equal(head.bias, numbers[:, 0])


def stored_heads(weight):
    ones = np.ones(len(weight), np.float32)
    codes = np.arange(weight.size, dtype=np.int8).reshape(weight.shape)
    norms = np.arange(2.0 * len(weight), dtype=np.float32).reshape(-1, 2)
    return {
        "float32": StoredHead(weight, "float32", ones, temperature=0.7, first_class=3),
        "without bias": StoredHead(weight, "float32"),
        "float16": StoredHead(weight.astype(np.float16), "float16"),
        "bfloat16": StoredHead(weight.view(np.uint16)[:, 1::2], "bfloat16", ones),
        "strided": StoredHead(np.repeat(weight, 2, axis=1)[::-1, ::2], "float32"),
        "big-endian": StoredHead(weight.astype(">f4"), "float32", ones.astype(">f4")),
        "int8": StoredHead(codes, "int8", ones, 0.5 * ones, norms, temperature=2.0),
        "no width": StoredHead(weight[:, :0], "float32", ones),
    }


@pytest.mark.parametrize("name", stored_heads(np.zeros((7, 5), np.float32)))
def test_what_is_saved_comes_back(tmp_path, weight, name, monkeypatch):
    head = stored_heads(weight)[name]
    path = tmp_path / "head.safetensors"
    monkeypatch.setattr(_safetensors, "ROWS_AT_A_TIME", 50)
    save_head(path, head)
    again = open_head(path)
    for part, wanted in zip(again, head, strict=True):
        np.testing.assert_array_equal(part, wanted)
    assert again.weight.flags.aligned
    save_head(path, again)  # over the file that it is mapped from
    np.testing.assert_array_equal(open_head(path).weight, head.weight)
    assert [found.name for found in tmp_path.iterdir()] == ["head.safetensors"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16", "int8"])
def test_the_safetensors_package_reads_what_is_saved(tmp_path, weight, name):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    safe_open = pytest.importorskip("safetensors", reason="safetensors is not installed").safe_open
    head = stored_heads(weight)[name]
    save_head(tmp_path / "head.safetensors", head)
    with safe_open(tmp_path / "head.safetensors", framework="pt") as file:
        assert file.metadata()["format"] == "softmaxfam linear head 1"
        assert float(file.metadata()["temperature"]) == head.temperature
        found = file.get_tensor("weight")
        assert str(found.dtype) == f"torch.{name}"
        bits = found.view(torch.int16).numpy().view(np.uint16) if name == "bfloat16" else found.numpy()
        np.testing.assert_array_equal(bits, head.weight)
        if head.norms is not None:
            np.testing.assert_array_equal(file.get_tensor("norms").numpy(), head.norms)


def test_a_bias_may_lie_in_a_file_of_its_own(tmp_path, weight):
    np.save(tmp_path / "w.npy", weight)
    np.save(tmp_path / "bias.npy", weight[:, 0])
    save_head(tmp_path / "w.safetensors", StoredHead(weight, "float32", weight[:, 1]))
    apart = tmp_path / "bias.npy"
    for path in (tmp_path / "w.npy", tmp_path / "w.safetensors"):
        for bias in (apart, str(apart)):
            np.testing.assert_array_equal(open_head(path, bias=bias).bias, weight[:, 0])
    named = open_head(tmp_path / "w.npy", bias=f"{tmp_path / 'w.safetensors'}:bias")
    np.testing.assert_array_equal(named.bias, weight[:, 1])
    np.save(apart, weight[1:, 0])
    with pytest.raises(ValueError, match=r"bias for .*w.npy has shape \(6,\), must be \(7,\)"):
        open_head(tmp_path / "w.npy", bias=apart)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
def test_a_head_comes_back_with_the_same_scores(tmp_path, rng, weight, dtype):
    queries = rng.standard_normal((3, 5)).astype(np.float32)
    head = sf.LinearHead(weight, weight[:, 2], dtype=dtype, temperature=0.7, first_class=40)
    head.save(tmp_path / "head.safetensors")
    again = sf.LinearHead.open(tmp_path / "head.safetensors")
    assert repr(again) == repr(head)
    for found, wanted in zip(again.score(queries, 4)[:3], head.score(queries, 4)[:3], strict=True):
        np.testing.assert_array_equal(found, wanted)
    copied = pickle.loads(pickle.dumps(again))
    np.testing.assert_array_equal(copied.score(queries, 4).log_probs, head.score(queries, 4).log_probs)
    other = sf.LinearHead.open(tmp_path / "head.safetensors", temperature=1.0, first_class=0, prepack=True)
    assert (other.temperature, other.first_class) == (1.0, 0)
    if dtype != "float32":
        np.save(tmp_path / "exact.npy", weight)
        exact = sf.LinearHead(weight, weight[:, 2], temperature=0.7, first_class=40).score(queries, 4)
        for given in (tmp_path / "exact.npy", weight):
            certified = sf.LinearHead.open(tmp_path / "head.safetensors", exact=given)
            np.testing.assert_array_equal(certified.score(queries, 4, rescore=True).indices, exact.indices)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_head_of_a_npy_file_has_the_scores_of_its_array(tmp_path, rng, weight, dtype, order):
    stored = np.asarray(weight, dtype, order=order)
    np.save(tmp_path / "w.npy", stored)
    queries = rng.standard_normal((3, 5)).astype(np.float32)
    bias = np.arange(7.0)
    found = sf.LinearHead.open(tmp_path / "w.npy", bias=bias, dtype="float32").score(queries, 7)
    wanted = sf.LinearHead(stored, bias, dtype="float32").score(queries, 7)
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_array_equal(found.log_probs, wanted.log_probs)


GOOD = {"w": entry("F32", [2, 3], 0, 24), "b": entry("F32", [2], 24, 32)}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["0 bytes", "8"]),
        (b"\x01\x02\x03", ["3 bytes", "8"]),
        ((2**40).to_bytes(8, "little") + b"{}", [str(2**40), "at most 2 "]),
        ((2**64 - 1).to_bytes(8, "little") + b"{}", [str(2**64 - 1)]),
        (safetensors_bytes(b""), ["no JSON object"]),
        (safetensors_bytes(b"{"), ["no JSON object"]),
        (safetensors_bytes(b"\xff\xfe{}"), ["no JSON object", "utf-8"]),
        (safetensors_bytes(b"[]"), ["JSON list", "object"]),
        (safetensors_bytes(b"[" * 100_000), ["nested without end"]),
        (safetensors_bytes(b'{"w":' * 100_000), ["nested without end"]),
        (safetensors_bytes(b'{"w":{"shape":' + b"9" * 5000 + b"}}"), ["no JSON object"]),
        (safetensors_bytes(b'{"w": {}, "w": {}}'), ["'w' stands in it twice"]),
        (safetensors_bytes(b'{"w": {"dtype": "F32", "dtype": "F16"}}'), ["'dtype' stands in it twice"]),
        (safetensors_bytes({"__metadata__": {"a": 1}}), ["__metadata__", "strings"]),
        (safetensors_bytes({"__metadata__": []}), ["__metadata__", "strings"]),
        (safetensors_bytes({"w": [1]}), ["tensor 'w' is [1]", "object"]),
        (safetensors_bytes({"w": entry(7, [2], 0, 8)}), ["dtype 7"]),
        (safetensors_bytes({"w": {"dtype": "F32"}}), ["shape None"]),
        *(
            (safetensors_bytes({"w": entry("F32", shape, 0, 0)}), ["shape", "whole numbers >= 0"])
            for shape in ([-1, 0], [True, 0], [0.0, 1], "ab", [None], [2**63, 0], [1] * 65, {"a": 0})
        ),
        (safetensors_bytes({"w": entry("F32", [2**40, 2**40], 0, 24)}, bytes(24)), ["24 bytes, must have"]),
        (safetensors_bytes({"w": entry("F32", [0, 2**62], 0, 0)}), ["0 bytes, must have 0"]),
        *(
            (safetensors_bytes({"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": at}}, bytes(24)), ["24 bytes"])
            for at in ([0, 25], [1, 25], [24, 0], [-24, 0], [0], [0, 24, 24], [0.0, 24], None, [0, 2**70], "ab")
        ),
        (safetensors_bytes({"w": entry("F32", [2, 3], 0, 20)}, bytes(24)), ["20 bytes, must have 24"]),
        (safetensors_bytes(GOOD, bytes(31)), ["'b'", "[24, 32]", "31 bytes"]),
        (safetensors_bytes({"q": entry("F4", [2, 3], 0, 3)}, bytes(3)), ["0 matrices"]),
        (safetensors_bytes({"w": entry("F32", [0, 3], 0, 0)}), ["shape (0, 3)", "a row for each class"]),
        (safetensors_bytes({"w": entry("I8", [2, 3], 0, 6)}, bytes(6)), ["scales", "LinearHead.save"]),
        (safetensors_bytes({"__metadata__": {"format": _head_files.FORMAT}} | GOOD, bytes(32)), ["no tensor 'weight'"]),
        (
            safetensors_bytes({"__metadata__": {"format": _head_files.FORMAT}, "weight": GOOD["w"]}, bytes(24)),
            ["temperature", "first_class"],
        ),
        *(
            (
                safetensors_bytes(
                    {
                        "__metadata__": {"format": _head_files.FORMAT, "temperature": heat, "first_class": first},
                        "weight": GOOD["w"],
                    },
                    bytes(24),
                ),
                ["temperature > 0", "first_class"],
            )
            for heat, first in (
                ("0", "0"),
                ("nan", "0"),
                ("hot", "0"),
                ("1", "-1"),
                ("1", "1.5"),
                ("1", str(2**63 - 2)),
            )
        ),
    ],
)
def test_a_damaged_safetensors_file_is_one_clear_error(tmp_path, content, words):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.safetensors") as caught:
        open_head(path)
    assert type(caught.value) is ValueError
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert len(message) < 600


def npy_bytes(header, data=b""):
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["npy"]),
        (b"no array at all", ["npy"]),
        (b"PK\x03\x04" + bytes(50), ["npy"]),
        (npy_bytes(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}"), ["24 bytes", "at most 0"]),
        (npy_bytes(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -3)}", bytes(24)), ["negative"]),
        (npy_bytes(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3", bytes(24)), ["npy"]),
        (npy_bytes(b"(" * 5000), ["npy"]),
        (npy_bytes(b"{'descr': '<f4', 'fortran_order': False, 'shape': (4, %d)}" % 2**62, bytes(24)), ["24"]),
        (npy_bytes(b"{'descr': '<f4', 'fortran_order': False, 'shape': (0, %d)}" % 2**62), ["npy"]),
        (npy_bytes(b"{'descr': '<f4', 'fortran_order': False, 'shape': (%s)}" % (b"9" * 90 + b",") * 90), ["npy"]),
        (npy_bytes(b"{'descr': '|O', 'fortran_order': False, 'shape': (2, 3)}", bytes(48)), ["dtype object"]),
        (npy_bytes(b"{'descr': '<V2', 'fortran_order': False, 'shape': (2, 3)}", bytes(12)), ["bfloat16"]),
        (npy_bytes(b"{'descr': '<f4', 'fortran_order': False, 'shape': (6,)}", bytes(24)), ["(6,)", "two axes"]),
        (npy_bytes(b"{'descr': '<f4', 'fortran_order': False, 'shape': ()}", bytes(24)), ["()", "two axes"]),
    ],
)
def test_a_damaged_npy_file_is_one_clear_error(tmp_path, content, words):
    path = tmp_path / "w.npy"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.npy") as caught:
        open_head(path)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert len(message) < 600


def test_paths_are_checked_too(tmp_path, weight):
    with pytest.raises(FileNotFoundError):
        open_head(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match=r"w.bin ends in .bin, must end in .npy or .safetensors"):
        open_head(tmp_path / "w.bin")
    np.save(tmp_path / "w.npy", weight)
    with pytest.raises(ValueError, match="'w' is the name of a tensor"):
        open_head(tmp_path / "w.npy", weight="w")
    with pytest.raises(ValueError, match=r"must end in .safetensors"):
        save_head(tmp_path / "w.npz", StoredHead(weight, "float32"))
    for name in ("device.npy", "device.safetensors"):
        (tmp_path / name).symlink_to("/dev/zero")
        with pytest.raises(ValueError, match="regular file"):
            open_head(tmp_path / name)


def test_other_byte_orders_are_refused(tmp_path, weight, monkeypatch):
    save_head(tmp_path / "w.safetensors", StoredHead(weight, "float32"))
    monkeypatch.setattr(_safetensors.sys, "byteorder", "big")
    with pytest.raises(ValueError, match="big-endian, must be little-endian"):
        open_head(tmp_path / "w.safetensors")


def test_a_save_that_fails_leaves_the_old_file(tmp_path, weight):
    path = tmp_path / "w.safetensors"
    save_head(path, StoredHead(weight, "float32"))
    before = path.read_bytes()

    class Broken:
        size, shape, itemsize = 35, (7, 5), 4

        def __len__(self):
            return 7

        def __getitem__(self, rows):
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        save_head(path, StoredHead(Broken(), "float32"))
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["w.safetensors"]


def test_tensors_off_their_alignment_are_copied(tmp_path, weight):
    path = tmp_path / "w.safetensors"
    header = {"i": entry("U8", [3], 0, 3), "w": entry("F32", [7, 5], 3, 143)}
    path.write_bytes(safetensors_bytes(header, bytes(3) + weight.tobytes()))
    array, _ = open_matrix(path)
    assert array.flags.aligned
    np.testing.assert_array_equal(array, weight)


@pytest.mark.parametrize("suffix", [".safetensors", ".npy"])
def test_opening_reads_nothing_but_the_header(tmp_path, suffix):
    path = tmp_path / f"large{suffix}"
    shape = (1 << 20, 1024)  # 4 GiB, which the disk does not hold
    if suffix == ".npy":
        np.lib.format.open_memmap(path, "w+", np.float32, shape)
    else:
        header = json.dumps({"w": entry("F32", list(shape), 0, 4 << 30)}).encode()
        path.write_bytes(safetensors_bytes(header.ljust(96)))  # aligned, as the package does
        os.truncate(path, path.stat().st_size + (4 << 30))
    before = resource.getrusage(resource.RUSAGE_SELF)
    head = sf.LinearHead.open(path)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert (head.n_classes, head.width) == shape
    assert after.ru_minflt - before.ru_minflt < 10_000  # pages touched; the file has a million
    assert after.ru_maxrss - before.ru_maxrss < 50_000  # KB


def opened_or_refused(path):
    """The parts of a head, read to their last byte; nothing where they are refused."""
    try:
        head = open_head(path)
    except ValueError as error:
        refused = error
    else:
        refused = None
    if refused is not None:
        assert type(refused) is ValueError and path.name in str(refused)
        return None
    for part in head[:5]:
        if isinstance(part, np.ndarray):
            part.tobytes()
    scorer = sf.LinearHead.open(path)
    k = min(3, scorer.n_classes)
    assert scorer.score(np.ones((2, scorer.width)), k).indices.shape == (2, k)
    return head


@SLOW
@given(content=st.binary(max_size=300))
def test_any_bytes_are_refused_or_read(tmp_path, content):
    for name in ("any.safetensors", "any.npy"):
        (tmp_path / name).write_bytes(content)
        opened_or_refused(tmp_path / name)


@SLOW
@given(header=st.binary(max_size=200), data=st.binary(max_size=50))
def test_any_header_is_refused_or_read(tmp_path, header, data):
    for name, content in (("h.safetensors", safetensors_bytes(header, data)), ("h.npy", npy_bytes(header, data))):
        (tmp_path / name).write_bytes(content)
        opened_or_refused(tmp_path / name)


NUMBERS = st.one_of(st.integers(-3, 40), st.integers(-(2**70), 2**70), st.floats(), st.none(), st.booleans())
SHAPES = st.one_of(st.lists(NUMBERS, max_size=4), st.lists(st.integers(0, 5), min_size=2, max_size=2), st.text())
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.one_of(st.sampled_from(["F32", "F16", "BF16", "F64", "I8", "U8", "F4"]), st.text(max_size=3)),
        "shape": SHAPES,
        "data_offsets": st.one_of(SHAPES, st.just([0, 24])),
    },
)
HEADERS = st.dictionaries(st.sampled_from(["weight", "bias", "scales", "norms", "__metadata__"]), ENTRIES)


@SLOW
@given(header=HEADERS, size=st.integers(0, 60), ours=st.booleans())
def test_any_entries_are_refused_or_read(tmp_path, header, size, ours):
    options = {"format": _head_files.FORMAT, "temperature": "1.0", "first_class": "0"}
    path = tmp_path / "e.safetensors"
    path.write_bytes(safetensors_bytes(({"__metadata__": options} if ours else {}) | header, bytes(size)))
    head = opened_or_refused(path)
    if head is not None:
        assert head.weight.nbytes <= size and head.weight.ndim == 2


def mutated(content, changes, cut):
    content = bytearray(content)
    for place, byte in changes:
        content[place % len(content)] = byte
    return bytes(content[: len(content) - cut % (len(content) + 1)])


CHANGES = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=4)


@SLOW
@given(changes=CHANGES, cut=st.one_of(st.just(0), st.integers(0, 2**16)), name=st.sampled_from(["float32", "int8"]))
def test_a_mutated_file_is_refused_or_read(tmp_path, changes, cut, name):
    head = stored_heads(np.ones((7, 5), np.float32))[name]
    wholes = [tmp_path / f"{name}.safetensors", tmp_path / "whole.npy"]
    if not wholes[0].exists():
        save_head(wholes[0], head)
        np.save(wholes[1], np.ones((7, 5), np.float32))
    for path in wholes:
        copy = Path(tmp_path / f"copy{path.suffix}")
        copy.write_bytes(mutated(path.read_bytes(), changes, cut))
        again = opened_or_refused(copy)
        if not changes and cut == 0:
            assert again is not None and again.weight.shape == (7, 5)
