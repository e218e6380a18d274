"""One measurement: a server and a client, a process and a core each."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.benchmarks import processes
from tests.benchmarks.load import Load

LIMIT = 30.0
"""Seconds beyond those of measuring, after which a process is taken to hang."""


class MeasurementFailed(Exception):
    """It did not come to its end, for the reason that is its text."""


def measure(load: Load, tree: Path = processes.ROOT) -> dict[str, float]:
    """What the client measured, and the processor time that an echo took on the server.

    Args:
        load: what to do.
        tree: the folder that has the tofu_aio to do it with.

    Raises:
        MeasurementFailed: A process failed or hung.
    """
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = processes.start("peer", tree, *arguments, tree=tree, errors=errors)
        running.append(process)
        return process

    with tempfile.TemporaryFile("w+") as errors, watchdog(running, load.seconds + LIMIT) as hung:
        try:
            server, client = (start(role, load.to_json()) for role in ("server", "client"))
            processes.tell(client, processes.next_line(server))
            processes.next_line(client)  # it begins
            processes.tell(server, "count")
            figures: dict[str, float] = json.loads(finish(client))
            busy = float(finish(server))
        except (RuntimeError, OSError) as error:
            # Who still writes would do so from where we read: the file has one position for all.
            processes.end(running)
            why = "it hung" if hung.is_set() else last_line(errors) or str(error)
            raise MeasurementFailed(why) from None
        finally:
            processes.end(running)
    figures["cpu"] = busy / figures.pop("echoes") * 1e6
    return figures


@contextmanager
def watchdog(running: list[subprocess.Popen[str]], seconds: float) -> Iterator[threading.Event]:
    """Kill what runs when the time is up, and say so in the event."""
    hung = threading.Event()

    def bite() -> None:
        hung.set()
        for process in running:
            process.kill()

    timer = threading.Timer(seconds, bite)
    timer.start()
    try:
        yield hung
    finally:
        timer.cancel()


def finish(process: subprocess.Popen[str]) -> str:
    """End its stdin, and return all that it still says.

    Raises:
        RuntimeError: It failed.
    """
    told, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}")
    return told


def last_line(errors: IO[str]) -> str:
    """What a process said last before it failed."""
    errors.seek(0)
    return next(reversed(errors.read().splitlines()), "")
