"""One measurement: a server and a client, a process and a core each."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tests.benchmarks import processes
from tests.benchmarks.load import Load

LIMIT = 30.0
"""Seconds beyond those of measuring, after which a process is taken to hang."""

T = TypeVar("T")


STEADY_HEAP = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(1 << 30))
"""For glibc (mallopt(3)): what it has from the kernel it keeps. asyncio allocates 256 KiB for each
read of a protocol without a buffer of its own, and bodies may have 64. Whether such memory is taken
from the kernel anew each time depends on what else is in the heap, by chance, and it doubles the
time of a bare round trip, and of a long body."""


class MeasurementFailed(Exception):
    """It did not come to its end, for the reason that is its text."""


class Peer:
    """One of the two processes.

    Its methods raise MeasurementFailed if it has ended or does so with an error.
    """

    def __init__(self, role: str, load: Load, tree: Path) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed by end()
        self.process = processes.start(
            "peer",
            tree,
            role,
            load.to_json(),
            tree=tree,
            errors=self._errors,
            environment=STEADY_HEAP | processes.variant(load.compiled),
        )
        self.hung = False

    def hear(self) -> str:
        """Its next line."""
        return self._sure(lambda: processes.next_line(self.process))

    def tell(self, line: str) -> None:
        """Say a line to it."""
        self._sure(lambda: processes.tell(self.process, line))

    def finish(self) -> str:
        """End its stdin, and return all that it still says."""
        # Not communicate(), which knows nothing of what was read ahead together with a line.
        told = self._sure(lambda: processes.rest(self.process))
        if self.process.returncode:
            raise MeasurementFailed(self._why())
        return told

    def bite(self) -> None:
        """Its time is up."""
        self.hung = True
        self.process.kill()

    def end(self) -> None:
        """Leave nothing of it."""
        processes.end([self.process])
        self._errors.close()

    def _sure(self, do: Callable[[], T]) -> T:
        try:
            return do()
        except (RuntimeError, OSError):
            self.process.wait()  # it has closed its end
            raise MeasurementFailed(self._why()) from None

    def _why(self) -> str:
        """The last thing that it said."""
        if self.hung:
            return "it hung"
        self._errors.seek(0)
        lines = self._errors.read().split("\n")
        return next(filter(None, reversed(lines)), f"exit code {self.process.returncode}")


def measure(load: Load, tree: Path = processes.ROOT) -> dict[str, float]:
    """What the client measured, and the processor time that an echo took on the server.

    Args:
        load: what to do.
        tree: the folder that has the tofu_aio to do it with.

    Raises:
        MeasurementFailed: A process failed or hung.
    """
    with a_peer("server", load, tree) as server, a_peer("client", load, tree) as client:
        client.tell(server.hear())
        client.hear()  # it begins
        figures: dict[str, float] = json.loads(client.finish())
        busy = float(server.finish())
    figures["cpu"] = busy / figures.pop("echoes") * 1e6
    return figures


@contextmanager
def a_peer(role: str, load: Load, tree: Path) -> Iterator[Peer]:
    """A process that does not outlive this, nor its time."""
    peer = Peer(role, load, tree)
    watchdog = threading.Timer(load.seconds + LIMIT, peer.bite)
    watchdog.start()
    try:
        yield peer
    finally:
        watchdog.cancel()
        peer.end()
