"""A user's typed program: mypy and pyright accept it, and find what is wrong in a call."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

CHECKERS = {
    "mypy": ["mypy", "--strict", "--no-incremental", "--python-version", "3.11"],
    "pyright": ["pyright"],
}


def checked(name: str, program: str) -> tuple[int, set[int], str]:
    """The exit code of a checker, the lines that it complains of, and its output."""
    command = shutil.which(CHECKERS[name][0], path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip(f"{name} is not installed")
    run = subprocess.run(
        [command, *CHECKERS[name][1:], str(HERE / program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    said = run.stdout + run.stderr
    if name == "pyright" and "informations" not in said and "0 errors" not in said:
        pytest.skip(f"pyright cannot run here: {said[:200]}")
    lines = re.findall(rf"{re.escape(program)}:(\d+)(?::\d+)?(?: -|:) error", said)
    return run.returncode, set(map(int, lines)), said


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CHECKERS)
def test_a_right_program_is_accepted(name: str) -> None:
    code, _, said = checked(name, "right.py")
    assert code == 0, said


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CHECKERS)
def test_each_mistake_is_found(name: str) -> None:
    lines = (HERE / "wrong.py").read_text("utf-8").splitlines()
    expected = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    code, found, said = checked(name, "wrong.py")
    assert code != 0
    assert found == expected, said
