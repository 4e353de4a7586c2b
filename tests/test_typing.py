"""What type checkers make of the package: `typing/user_program.py` states it, call by call."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMANDS = {"mypy": ["--strict", "tests/typing/user_program.py"], "pyright": ["--pythonpath", sys.executable]}


@pytest.mark.parametrize("checker", COMMANDS)
def test_a_user_program_has_the_types_it_states(checker):
    for needed in (checker, "torch"):
        pytest.importorskip(needed, reason=f"{needed} is not installed")
    command = [sys.executable, "-m", checker, *COMMANDS[checker]]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
