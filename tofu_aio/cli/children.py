"""Processes that the demo starts, and that end with it."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import Final, Self

from .demo_events import Event, parse_event
from .errors import Failure

_GRACE: Final = 5.0
"""Seconds that a process has to exit before it is killed."""


class Child:
    """Another ``tofu`` process.

    It exits when its standard input is closed, and so also when this process is killed.

    Args:
        role: names the process in error messages.
        arguments: its command line.
    """

    def __init__(self, role: str, *arguments: str) -> None:
        self._role = role
        # Not a pipe, which could fill up: it is read only after the process has exited.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(  # noqa: S603 - this program itself
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
        self.stop()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def next_event(self) -> Event | None:
        """Wait for the next event that it reports; None if it has exited."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return parse_event(line) if line.endswith(b"\n") else None

    def stop(self) -> None:
        """Make it exit, and wait for that; kill it if it takes too long."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def killed(self) -> bool:
        """Whether a signal ended it."""
        return self._process.returncode < 0

    @property
    def failed(self) -> bool:
        """Whether it exited with an error of its own, not because it was stopped."""
        return self._process.returncode == 1

    def describe_exit(self) -> str:
        """Say how it ended. It must have exited."""
        code = self._process.returncode
        if self.killed:
            return f"the {self._role} process was killed by {signal.Signals(-code).name}"
        self._errors.seek(0)
        reason = self._errors.read().decode(errors="replace").partition(": ")[2].strip()
        return f"the {self._role} process failed: {reason or f'exit code {code}'}"


def premature_exit(*children: Child) -> Failure:
    """Stop the processes, and say why they exited before their work was done."""
    for child in children:
        child.stop()
    # If one process was killed, the other one fails only because it has lost its peer.
    causes = [child for child in children if child.killed]
    causes = causes or [child for child in children if child.failed] or list(children)
    return Failure("; ".join(child.describe_exit() for child in causes))
