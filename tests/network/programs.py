"""A program that a test has started: lines go in, and reports in JSON come out."""

from __future__ import annotations

import contextlib
import json
import selectors
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from tests.network.limits import PATIENCE


class Program:
    """A process with pipes, which are not part of the network that is tested.

    Args:
        process: with pipes for stdin and stdout.
        errors: the file that is its stderr.
    """

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self._process = process
        self._errors = errors
        self._buffer = b""

    def tell(self, line: str) -> None:
        """Send it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def expect(self, event: str, after_any: str = "") -> dict[str, Any]:
        """Its next report, which must be this one; any number of others may come before it."""
        report = self.read()
        while after_any and report.get("event") == after_any:
            report = self.read()
        assert report.get("event") == event, f"{event!r} was due, and there is {report}: {self}"
        return report

    def read(self) -> dict[str, Any]:
        """Its next report, whatever it is."""
        ends = time.monotonic() + PATIENCE
        while b"\n" not in self._buffer:
            self._fill(ends - time.monotonic())
        line, _, self._buffer = self._buffer.partition(b"\n")
        report = json.loads(line)
        assert isinstance(report, dict)
        return report

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self._process.terminate()

    def join(self) -> None:
        """Wait until it has ended by itself, without an error."""
        code = self._process.wait(PATIENCE)
        assert code == 0, f"it exited with {code}: {self}"

    def kill(self) -> None:
        """End it, if it has not ended, and take back what it needed."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        for pipe in self._process.stdin, self._process.stdout, self._errors:
            assert pipe is not None
            with contextlib.suppress(OSError):  # of a line that was not read
                pipe.close()

    def _fill(self, seconds: float) -> None:
        output = self._process.stdout
        assert output is not None
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            assert selector.select(max(0, seconds)), f"it reported nothing more: {self}"
        data = output.read1(65_536)  # type: ignore[attr-defined]
        assert data, f"it has ended: {self}"
        self._buffer += data

    def __str__(self) -> str:
        self._errors.seek(0)
        return f"{self._process.args!r}, stderr:\n{self._errors.read().decode()}"


def started(command: Sequence[str], folder: Path) -> Program:
    """Start a program in a folder."""
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by ``kill``
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=folder, stdin=pipe, stdout=pipe, stderr=errors)
    return Program(process, errors)
