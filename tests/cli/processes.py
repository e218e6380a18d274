"""The ``tofu`` command and other programs as real processes, and what they leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

import tofu_aio as tofu

BOUND = 50.0
"""Seconds after which a process that has not ended is a failure. Nothing is timed by it."""

signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
unix = pytest.mark.skipif(sys.platform == "win32", reason="this Python has no Unix sockets there")


class Ended(NamedTuple):
    """What a process left."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line on stderr, after the command's name."""
        assert self.err.endswith("\n"), self
        assert self.err.count("\n") == 1, self
        return self.err.removesuffix("\n").partition(": ")[2]


class Running:
    """A process under way. What was read as lines is not in the ``out`` that it ends with."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def line(self) -> str:
        """The next line of its output. Waiting for one is how tests know how far it is."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.endswith("\n"), f"it ended early: {self.finish()}"
        return line.removesuffix("\n")

    def listening(self) -> str:
        """The address in its line that says so."""
        words, _, address = self.line().rpartition(" ")
        assert words == "listening on"
        return address

    def stop(self, number: int = signal.SIGINT) -> Ended:
        """Send it a signal, that of Ctrl-C by default, and wait for its end."""
        self.process.send_signal(number)
        return self.finish()

    def finish(self) -> Ended:
        """Wait for its end."""
        out, err = self.process.communicate(timeout=BOUND)
        return Ended(self.process.returncode, out, err)


class Start(Protocol):
    """Starts ``tofu`` with these arguments, in a folder of the test's own."""

    def __call__(
        self, *arguments: str | os.PathLike[str], before: Callable[[], None] | None = None
    ) -> Running: ...


class Run(Protocol):
    """Runs ``tofu`` with these arguments, to its end."""

    def __call__(self, *arguments: str | os.PathLike[str]) -> Ended: ...


def python_path() -> str:
    """What lets a process in any folder find this very package."""
    paths = (str(Path(tofu.__file__).parents[1]), os.environ.get("PYTHONPATH"))
    return os.pathsep.join(filter(None, paths))


def spawn(
    *command: str | os.PathLike[str],
    folder: Path,
    stdin: int = subprocess.DEVNULL,
    before: Callable[[], None] | None = None,
) -> Running:
    """Start Python with this command line."""
    process = subprocess.Popen(
        # What is left open shows on stderr, which tests look at.
        [sys.executable, "-W", "default::ResourceWarning", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": python_path(), "PYTHONUTF8": "1"},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        preexec_fn=before,  # noqa: PLW1509 - no thread of the tests holds a lock it needs
    )
    return Running(process)
