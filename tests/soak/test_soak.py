"""A soak of some seconds, and soaks that must find a sabotage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP and no kill -9"),
    pytest.mark.timeout(180),
]

ROOT = Path(__file__).parents[2]


def soak(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a soak."""
    return subprocess.run(
        [sys.executable, "-m", "tests.soak.run", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_is_lost_and_nothing_is_left_in_some_seconds_of_chaos_on_each_loop() -> None:
    result = soak("--minutes", "0.4")
    assert result.returncode == 0, result.stdout + result.stderr
    assert " 0 broken promises" in result.stdout


@pytest.mark.parametrize(
    ("sabotage", "check"), [("permit-twice", "permits"), ("log", "log"), ("task", "tasks")]
)
def test_a_soak_finds_what_is_broken(sabotage: str, check: str) -> None:
    result = soak("--minutes", "0.05", "--loop", "asyncio", "--seed", "a", "--sabotage", sabotage)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"BROKEN {check}: " in result.stdout
    assert "--seed a" in result.stderr
