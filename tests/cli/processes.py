"""Running the ``tofu`` command and other programs as processes."""

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
"""Seconds that a process may take; longer is a failure. No test depends on the exact value."""

signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows does not have these signals")
unix = pytest.mark.skipif(
    sys.platform == "win32", reason="Python does not support Unix sockets on Windows"
)


class Ended(NamedTuple):
    """The exit code and the output of a process."""

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
    """A running process. Lines that were read with ``line`` are not in the final ``out``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def line(self) -> str:
        """Wait for the next line of its output, by which tests know how far it is."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.endswith("\n"), f"it ended early: {self.finish()}"
        return line.removesuffix("\n")

    def listening(self) -> str:
        """Wait for the line with the address that it listens on."""
        words, _, address = self.line().rpartition(" ")
        assert words == "listening on"
        return address

    def stop(self, number: int = signal.SIGINT) -> Ended:
        """Send it a signal, by default that of Ctrl-C, and wait until it has exited."""
        self.process.send_signal(number)
        return self.finish()

    def finish(self) -> Ended:
        """Wait until it has exited."""
        out, err = self.process.communicate(timeout=BOUND)
        return Ended(self.process.returncode, out, err)


class Start(Protocol):
    """Starts ``tofu`` with these arguments in the test's folder."""

    def __call__(
        self, *arguments: str | os.PathLike[str], before: Callable[[], None] | None = None
    ) -> Running: ...


class Run(Protocol):
    """Runs ``tofu`` with these arguments until it exits."""

    def __call__(self, *arguments: str | os.PathLike[str]) -> Ended: ...


class StartService(Protocol):
    """Starts ``service_program`` with these arguments, and returns its address."""

    def __call__(self, *arguments: str, address: str = "tcp://127.0.0.1:0") -> str: ...


def python_path() -> str:
    """The PYTHONPATH with which a process in any folder imports this package."""
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
        # Resources left open show on stderr, which the tests check.
        [sys.executable, "-W", "default::ResourceWarning", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": python_path(), "PYTHONUTF8": "1"},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        preexec_fn=before,  # noqa: PLW1509 - the tests have no threads that hold locks
    )
    return Running(process)
