"""The code in the docs runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = sorted((Path(__file__).parent.parent / "docs").glob("*.md"))


@pytest.mark.parametrize("path", DOCS, ids=[path.name for path in DOCS])
def test_python_blocks_run_in_their_order(path):
    if path.name == "torch.md":
        pytest.importorskip("torch", reason="torch is not installed")
    blocks = re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    for library in sorted(set(re.findall(r"^(?:import|from) (\w+)", "\n".join(blocks), flags=re.MULTILINE))):
        pytest.importorskip(library, reason=f"{library} is not installed")
    names = {}
    for block in blocks:
        exec(compile(block, path.name, "exec"), names)  # noqa: S102  our own docs


@pytest.mark.parametrize(
    ("name", "labels"), [("losses", ["rankmax_loss", "entmax, alpha inf"]), ("bias", ["negatives", "dashed: theory"])]
)
def test_pictures_are_drawn(tmp_path, name, labels):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    script = DOCS[0].parent / f"draw_{name}.py"
    file = tmp_path / f"{name}.svg"
    subprocess.run([sys.executable, str(script), str(file)], check=True)
    drawn = file.read_text(encoding="utf-8")
    assert all(label in drawn for label in labels)


def test_the_estimate_in_the_docs_of_samplers_is_right():
    names = {}
    path = next(path for path in DOCS if path.name == "samplers.md")
    for block in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL):
        exec(block, names)  # noqa: S102  our own docs
    total, exact = names["total"], names["counts"].sum()
    assert abs(total.mean() - exact) < 5 * total.std() / len(total) ** 0.5
    assert total.std() < 0.01 * exact
