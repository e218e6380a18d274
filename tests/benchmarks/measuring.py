"""One measurement: a server and a client, a process and a core each."""

from __future__ import annotations

import json
import subprocess
import tempfile
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
    with tempfile.TemporaryFile("w+") as errors:
        try:
            server = processes.start(
                "peer", tree, "server", load.to_json(), tree=tree, errors=errors
            )
            running.append(server)
            port = processes.next_line(server)
            client = processes.start(
                "peer", tree, "client", load.to_json(), port, tree=tree, errors=errors
            )
            running.append(client)
            told, _ = client.communicate(timeout=load.seconds + LIMIT)
            if client.returncode:
                raise MeasurementFailed(last_line(errors) or f"exit code {client.returncode}")
            busy, _ = server.communicate(timeout=LIMIT)
        except RuntimeError:
            raise MeasurementFailed(last_line(errors) or "it ended early") from None
        except subprocess.TimeoutExpired as error:
            raise MeasurementFailed(f"it hung: no end within {error.timeout:g} s") from None
        finally:
            processes.end(running)
    figures: dict[str, float] = json.loads(told)
    figures["cpu"] = float(busy) / figures.pop("echoes") * 1e6
    return figures


def last_line(errors: IO[str]) -> str:
    """What a process said last before it failed."""
    errors.seek(0)
    return next(reversed(errors.read().split("\n")[:-1]), "")
