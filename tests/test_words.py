"""Skip-gram: against a twin in NumPy with the same draws, for each loss; corpora, files and the command."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import softmaxfam_rs as sf
from softmaxfam_rs import _core
from softmaxfam_rs._words import LOSSES

WIDTH, M, SEED = 20, 3, 7
CHUNK = 32


def a_text(length=1400, words=30, seed=0):
    rng = np.random.default_rng(seed)
    ids = np.minimum(rng.zipf(1.4, size=length) - 1, words - 1).astype(np.int32)
    ids[rng.random(length) < 0.05] = -1
    counts = np.bincount(ids[ids >= 0], minlength=words).astype(np.float64) + 1
    return ids, counts


def a_core(counts, loss, *, window=1, sample=0.0):
    return _core.SkipGram(counts, loss, WIDTH, window, M, 0.75, sample, SEED)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def twin(ids, counts, loss, epoch, rates, limit):
    """Train one epoch with windows of 1 and no word left out; return inputs, outputs, pairs and loss."""
    inputs, outputs = (part.astype(np.float64) for part in a_core(counts, loss).vectors())
    table = sf.AliasTable(counts, power=0.75)
    tree = sf.HierarchicalSoftmax(counts, width=1)._tree.parents
    block = _core.SkipGram.BLOCK
    pairs, total = 0, 0.0
    for first in range(0, len(ids), block):
        rate = rates[0] + (rates[1] - rates[0]) * first / len(ids)
        steps = [np.zeros_like(inputs), np.zeros_like(outputs)]
        terms = [np.zeros(len(inputs)), np.zeros(len(outputs))]
        for start in range(first, min(first + block, len(ids)), CHUNK):
            window = 0
            for centre in range(start, min(start + CHUNK, len(ids))):
                near = [at for at in (centre - 1, centre + 1) if 0 <= at < len(ids) and ids[at] >= 0]
                if ids[centre] < 0 or not near:
                    continue
                if loss == "hs":
                    at, path, labels = ids[centre], [], []
                    while at < len(tree):
                        path.append(tree[at] >> 1)
                        labels.append(tree[at] & 1)
                        at = len(tree) // 2 + 1 + (tree[at] >> 1)
                    rows, labels, shifts = np.array(path), np.array(labels), np.zeros(len(path))
                else:
                    stream = sf.Stream(SEED, key=2 * epoch + 1).at(start * M + window * M)
                    rows = np.r_[ids[centre], table.sample(M, rng=stream).ids]
                    labels = np.r_[1, np.zeros(M)]
                    log_q = table.logq(rows).astype(np.float64)
                    shifts = {"neg": 0 * log_q, "nce": log_q + np.log(M), "sampled-softmax": log_q}[loss]
                window += 1
                for word in ids[near]:
                    x = outputs[rows] @ inputs[word] - shifts
                    if loss == "sampled-softmax":
                        p = np.exp(x - x.max()) / np.exp(x - x.max()).sum()
                        total -= np.log(p[0])
                    else:
                        p = sigmoid(x)
                        total -= np.log(np.where(labels == 1, p, 1 - p)).sum()
                    slopes = rate * (labels - p)
                    steps[0][word] += slopes @ outputs[rows]
                    terms[0][word] += len(rows)
                    np.add.at(steps[1], rows, slopes[:, None] * inputs[word])
                    np.add.at(terms[1], rows, 1)
                    pairs += 1
        shares = [np.where(count > limit, limit / np.maximum(count, 1), 1)[:, None] for count in terms]
        inputs, outputs = inputs + shares[0] * steps[0], outputs + shares[1] * steps[1]
    return inputs, outputs, pairs, total


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("limit", [1e9, 20.0])
def test_steps_are_those_of_the_definition(loss, limit):
    ids, counts = a_text()
    core = a_core(counts, loss)
    rates = (0.05, 0.01)
    pairs, total = core.train(ids, 0, 1 << 30, 0, 1, rates, limit)
    inputs, outputs, want_pairs, want_total = twin(ids, counts, loss, 0, rates, limit)
    assert pairs == want_pairs
    np.testing.assert_allclose(total, want_total, rtol=1e-5)
    found = core.vectors()
    np.testing.assert_allclose(found[0], inputs, rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(found[1], outputs, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_cutting_of_a_training_changes_no_bit(loss):
    ids, counts = a_text(3000)
    whole, parts = (a_core(counts, loss, window=4, sample=1e-2) for _ in range(2))
    found = whole.train(ids, 0, 6, 1, 3, (0.05, 0.01), 64.0)
    several = [parts.train(ids, first, first + 2, 1, 3, (0.05, 0.01), 64.0) for first in (0, 2, 4)]
    assert found[0] == sum(pairs for pairs, _ in several)
    for a, b in zip(whole.vectors(), parts.vectors(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_frequent_words_are_left_out_and_windows_vary():
    ids, counts = a_text(20_000)
    pairs = {
        (window, sample): a_core(counts, "neg", window=window, sample=sample).train(ids, 0, 99, 0, 1, (0.0, 0.0), 1.0)[
            0
        ]
        for window, sample in ((1, 0.0), (5, 0.0), (5, 1e-3))
    }
    assert 2.3 < pairs[5, 0.0] / pairs[1, 0.0] < 3.1  # 3 of a side on average, less at the ends of sentences
    frequency = counts / counts.sum()
    kept = np.minimum(1, np.sqrt(1e-3 / frequency) + 1e-3 / frequency) @ frequency
    assert pairs[5, 1e-3] < 1.5 * kept * pairs[5, 0.0]


def test_the_same_bits_for_any_threads_and_instructions():
    code = (
        "import sys, numpy as np, softmaxfam_rs as sf\n"
        "rng = np.random.default_rng(0)\n"
        "ids = np.minimum(rng.zipf(1.3, size=6000) - 1, 199).astype(np.int32); ids[::40] = -1\n"
        "corpus = sf.Corpus([str(i) for i in range(200)], np.bincount(ids[ids >= 0], minlength=200) + 1, ids)\n"
        "for loss in ('neg', 'sampled-softmax', 'hs'):\n"
        "    model = sf.SkipGram(loss, 33, epochs=2, rates=(.1, .1)).fit(corpus)\n"
        "    sys.stdout.buffer.write(model.vectors.tobytes() + model.outputs.tobytes())\n"
    )
    outputs = []
    for threads, isa in (("1", ""), ("3", ""), *(("2", name) for name in sf.show_config()["isa_available"])):
        environment = {"SOFTMAXFAM_NUM_THREADS": threads} | ({"SOFTMAXFAM_ISA": isa} if isa else {})
        run = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, env={**os.environ, **environment}
        )
        outputs.append(run.stdout)
    assert len(set(outputs)) == 1 and len(outputs[0]) > 100_000


@pytest.mark.parametrize("loss", LOSSES)
def test_words_of_like_neighbours_become_alike(loss):
    rng = np.random.default_rng(0)
    groups = [[f"{name}{i}" for i in range(6)] for name in ("a", "b", "c")]
    sentences = [list(rng.choice(groups[i % 3], size=8)) for i in range(1500)]
    seen = []
    model = sf.SkipGram(loss, 16, sample=0, epochs=12, rates=(0.1, 0.01)).fit(sentences, callback=seen.append)
    assert seen[-1].share == 1.0 and seen[-1].epoch == 12 and seen[-1].words == 12 * 1500 * 9
    assert seen[-1].loss < seen[0].loss
    assert {word[0] for word, _ in model.most_similar("b2", 5)} == {"b"}
    ids = np.array([model.words.index(word) for word in ("a0", "b1")])
    others = np.array([model.words.index(word) for word in ("a3", "b4")])
    assert model.cross_entropy(ids, others) < np.log(18) - 0.5


def test_corpora():
    corpus = sf.Corpus.of(iter([iter(["x", "y", "x"]), [], ["z", "x"]]), min_count=2)
    assert (corpus.words, corpus.counts.tolist(), corpus.ids.tolist()) == (["x"], [3], [0, 0, -1, -1, 0, -1])
    with pytest.raises(TypeError, match="a sentence is the string 'to be'"):
        sf.Corpus.of(["to be"])
    with pytest.raises(ValueError, match="must be 2 or more; set min_count"):
        sf.SkipGram().fit([["only", "once"]])


def test_a_callback_stops():
    sentences = [["a", "b", "c"]] * 50
    calls = []
    sf.SkipGram(width=4, epochs=9).fit(sentences, callback=lambda progress: calls.append(progress) or True)
    assert len(calls) == 1


def test_files(tmp_path):
    model = sf.SkipGram("hs", 8, epochs=1).fit([["a", "b", "c", "a"]] * 40)
    model.save(tmp_path / "words.safetensors")
    again = sf.SkipGram.load(tmp_path / "words.safetensors")
    assert repr(again) == repr(model) == "<SkipGram: hs, width 8, 3 words>" and again.words == model.words
    np.testing.assert_array_equal(again.vectors, model.vectors)
    np.testing.assert_array_equal(again.outputs, model.outputs)
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        model.save("words.bin")
    sf.HierarchicalSoftmax([1, 2], width=2).save(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"must be a file of SkipGram\.save"):
        sf.SkipGram.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": "cbow"}, "loss is 'cbow'"),
        ({"width": 0}, "width is 0"),
        ({"window": 0}, "window is 0"),
        ({"negatives": 0}, "negatives is 0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"sample": -1.0}, "sample is -1.0"),
        ({"seed": -1}, "seed is -1"),
        ({"rates": (0.1, float("nan"))}, "rates is"),
    ],
)
def test_what_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        sf.SkipGram(**options)


def write_text(path, sentences=3000):
    rng = np.random.default_rng(0)
    groups = [[f"{x}{y}" for y in ("ing", "ed", "er", "est", "ly")] for x in ("walk", "talk", "sing", "bake")]
    path.write_text("\n".join(" ".join(rng.choice(groups[i % 4], size=8)) for i in range(sentences)))


def test_the_command(tmp_path):
    pytest.importorskip("typer", reason="typer is not installed")
    from test_cli import run

    text, out = tmp_path / "text.txt", tmp_path / "words.safetensors"
    write_text(text)
    options = ("--text", text, "--out", out, "--width", 16, "--epochs", 20, "--sample", 0, "--rate", 0.1)
    said = run("train-words", *options)
    assert "24000 words, 20 distinct ones" in said and "words/s; exact cross-entropy" in said
    before, after = (float(said.split(f" {word}")[0].split()[-1]) for word in ("before", "after"))
    assert after < before - 0.5
    head = sf.LinearHead.open(str(out), weight="outputs", bias="bias")
    model = sf.SkipGram.load(out)
    query = model.vectors[model.words.index("walking")]
    assert sum(model.words[i].startswith("walk") for i in head.score(query, 5).indices) >= 4
    np.save(tmp_path / "queries.npy", model.vectors[:3])
    run("score", "--weight", f"{out}:outputs", "--query", tmp_path / "queries.npy", "--out", tmp_path / "best.npz")
    assert "must end in .safetensors" in run("train-words", "--out", "x.npz", fails=True)
    assert "loss is 'cbow'" in run("train-words", "--loss", "cbow", fails=True)
    assert "cannot be read" in run("train-words", "--text", tmp_path / "missing", fails=True)
    (tmp_path / "short.txt").write_text("too short")
    assert "set min_count" in run("train-words", "--text", tmp_path / "short.txt", fails=True)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_leaves_a_file(tmp_path):
    pytest.importorskip("typer", reason="typer is not installed")
    text, out = tmp_path / "text.txt", tmp_path / "words.safetensors"
    write_text(text)
    command = [sys.executable, "-u", "-m", "softmaxfam_rs.cli", "train-words", "--text", text, "--out", out]
    process = subprocess.Popen(
        [*map(str, command), "--epochs", "1000000", "--sample", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = process.stdout.readline()  # that the text was read: training begins
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    said += process.communicate(timeout=60)[0]
    assert process.returncode == 0 and "stopped; what was learned is kept" in said, said
    model = sf.SkipGram.load(out)
    assert np.isfinite(model.vectors).all() and len(model.words) == 20
