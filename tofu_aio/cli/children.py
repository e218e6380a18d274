"""Processes that the demo starts, and that do not outlive it."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import Final, Self

from .demo_events import Event, heard
from .errors import Failure

_GRACE: Final = 5.0
"""Seconds that a process has to end by itself."""


class Child:
    """Another ``tofu`` process.

    The end of its standard input tells it to end, so it does even if this process is killed.

    Args:
        role: what it is called when it fails.
        arguments: its command line.
    """

    def __init__(self, role: str, *arguments: str) -> None:
        self._role = role
        # A file never fills up, as a pipe that nobody reads does.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(  # noqa: S603 - it is this very program
            [sys.executable, "-m", "tofu_aio", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def event(self) -> Event | None:
        """The next thing it tells; None if it has ended instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return heard(line) if line.endswith(b"\n") else None

    def end(self) -> None:
        """Have it end, by force if need be."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def killed(self) -> bool:
        """Whether it did not end but was ended, by a signal."""
        return self._process.returncode < 0

    @property
    def failed(self) -> bool:
        """Whether it had something to complain about, other than being told to end."""
        return self._process.returncode == 1

    def verdict(self) -> str:
        """How it ended, in words; it has to have ended."""
        code = self._process.returncode
        if self.killed:
            return f"the {self._role} process was killed by {signal.Signals(-code).name}"
        self._errors.seek(0)
        complaint = self._errors.read().decode(errors="replace").partition(": ")[2].strip()
        return f"the {self._role} process: {complaint or f'exit code {code}'}"


def early_end(*children: Child) -> Failure:
    """Why they did not do what they were started for."""
    for child in children:
        child.end()
    # Where one was killed, the other's complaint is only that it has lost it.
    guilty = [child for child in children if child.killed]
    guilty = guilty or [child for child in children if child.failed] or list(children)
    return Failure("; ".join(child.verdict() for child in guilty))
