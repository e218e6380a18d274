"""A process that ends with everything open ends, and prints nothing but its own program's error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import _LOOPS
from tests.faults import leaving

PROGRAM = leaving.__file__
ROOT = Path(__file__).parents[2]
PATIENCE = 50


def left_by(loop: str, how: str, *options: str) -> tuple[int, list[str]]:
    """How a process ended, and what it printed."""
    ended = subprocess.run(
        [sys.executable, *options, PROGRAM, loop, how],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return ended.returncode, ended.stdout.splitlines()


modes = pytest.mark.parametrize("options", [(), ("-X", "dev")], ids=["plain", "dev"])
loops = pytest.mark.parametrize("loop", _LOOPS)
needs_no_task = pytest.mark.skipif(
    sys.platform == "win32", reason="there asyncio accepts in a task, and says that it is destroyed"
)
UNCLOSED = [
    pytest.param(
        loop,
        how,
        marks=needs_no_task if (loop, how) == ("asyncio", "loop closed") else (),
    )
    for how in sorted(leaving.UNCLOSED)
    for loop in _LOOPS
]
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither")


@modes
@loops
@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("main ended", 0),
        ("exit in main", 3),
        ("exit in a handler", 3),
        pytest.param("fork", 0, marks=posix),
    ],
)
def test_it_prints_nothing(loop: str, how: str, code: int, options: tuple[str, ...]) -> None:
    assert left_by(loop, how, *options) == (code, [])


@modes
@loops
def test_an_exception_is_printed_once(loop: str, options: tuple[str, ...]) -> None:
    code, lines = left_by(loop, "exception", *options)
    assert code == 1
    assert lines[-1] == "ValueError: the program's own"
    assert [line for line in lines if not line.startswith("  ")] == [
        "Traceback (most recent call last):",
        "ValueError: the program's own",
    ]


@posix
@modes
@loops
def test_ctrl_c_is_all_that_is_printed(loop: str, options: tuple[str, ...]) -> None:
    code, lines = left_by(loop, "sigint", *options)
    assert code == -2
    assert [line for line in lines if line and not line.startswith("  ")] == [
        "Traceback (most recent call last):",
        "asyncio.exceptions.CancelledError",
        "During handling of the above exception, another exception occurred:",
        "Traceback (most recent call last):",
        "KeyboardInterrupt",
    ]


@pytest.mark.parametrize(("loop", "how"), UNCLOSED)
def test_an_engine_that_was_never_closed_costs_nothing(loop: str, how: str) -> None:
    assert left_by(loop, how) == (0, [])


@pytest.mark.parametrize(("loop", "how"), UNCLOSED)
def test_an_engine_that_was_never_closed_shows_in_development_mode(loop: str, how: str) -> None:
    """Python's own words for sockets that nobody closed, and nothing else: no task, no crash."""
    code, lines = left_by(loop, how, "-X", "dev")
    assert code == 0
    odd = [line for line in lines if "ResourceWarning: unclosed" not in line and line[:1] != " "]
    assert odd == []
    assert lines or sys.platform == "win32"  # there they may go too late to be told of
