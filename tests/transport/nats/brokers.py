"""NATS brokers for tests and benchmarks: processes of their own, on free ports of loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("nats-server")
PATIENCE = 20.0
"""Seconds after which a test says what it waits for in vain. Nothing is timed by it."""


def missing() -> str | None:
    """What has to be installed before tests can use a broker; None if nothing is missing."""
    if find_spec("nats") is None:
        return "nats-py is not installed: pip install 'tofu-aio[nats]'"
    if PROGRAM is None:
        return "nats-server is not installed: apt-get install nats-server"
    return None


class Broker:
    """One nats-server. It is killed at the end, whatever state it is in.

    Attributes:
        pid: of its process.
        port: for clients.
        monitoring: the port that it tells its state on.
        routing: the port for other brokers; None outside of a cluster.
    """

    def __init__(self, folder: Path, config: str = "", *, port: int = -1) -> None:
        assert PROGRAM is not None
        path = folder / f"broker{time.monotonic_ns()}.conf"
        path.write_text(f"{config}\n")
        self._folder = folder
        self._log = path.with_suffix(".log")
        command = [PROGRAM, "-a", "127.0.0.1", "-p", str(port), "-m", "-1", "-c", str(path)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--ports_file_dir", str(folder)], stdout=log, stderr=log
            )
        self.pid = self._process.pid
        ports = self._ports()
        self.port = _port(ports["nats"])
        self.monitoring = _port(ports["monitoring"])
        self.routing = _port(ports["cluster"]) if "cluster" in ports else None

    def _ports(self) -> dict[str, list[str]]:
        path = self._folder / f"nats-server_{self.pid}.ports"
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            if self._process.poll() is not None:
                raise AssertionError(f"nats-server has ended: {self._log.read_text()}")
            try:
                found: dict[str, list[str]] = json.loads(path.read_text())
            except (FileNotFoundError, json.JSONDecodeError):
                time.sleep(0.005)
            else:
                return found
        raise AssertionError("nats-server does not listen")

    def url(self, service: str = "service", proof: str = "") -> str:
        """The address of a service."""
        return f"nats://{proof}127.0.0.1:{self.port}/{service}"

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Let it do nothing until it is thawed."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Kill it, unless it was killed."""
        if self._process.poll() is None:
            self.kill()

    def state(self, what: str = "varz") -> dict[str, Any]:
        """What it tells about itself. Blocks, so call it in a thread if this loop is to go on."""
        url = f"http://127.0.0.1:{self.monitoring}/{what}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            found: dict[str, Any] = json.load(answer)
        return found


def _port(urls: list[str]) -> int:
    return int(urls[0].rpartition(":")[2])


@contextmanager
def running(config: str = "", *, port: int = -1) -> Iterator[Broker]:
    """A broker, while the block runs."""
    with tempfile.TemporaryDirectory(prefix="tofu-nats") as folder:
        broker = Broker(Path(folder), config, port=port)
        try:
            yield broker
        finally:
            broker.close()


@contextmanager
def cluster(count: int = 3) -> Iterator[list[Broker]]:
    """Brokers that know each other, while the block runs."""
    with ExitStack() as stack:
        brokers: list[Broker] = []
        while len(brokers) < count:
            # Each chooses a port that is free, and those before it tell it of each other.
            routes = ", ".join(f"nats-route://127.0.0.1:{broker.routing}" for broker in brokers)
            config = f'cluster {{ name: c, listen: "127.0.0.1:-1", routes: [{routes}] }}'
            brokers.append(stack.enter_context(running(config)))
        give_up = time.monotonic() + PATIENCE
        while any(broker.state("routez")["num_routes"] < count - 1 for broker in brokers):
            assert time.monotonic() < give_up, "the brokers do not find each other"
            time.sleep(0.01)
        yield brokers


async def handled(connection: Any) -> None:
    """Wait until the broker has handled all that a connection of nats-py has sent.

    The ping of ``flush`` is written at once and overtakes what waits for nats-py's flusher, so a
    subscription may come after it. That is sent by the time of the answer, and so before a second.
    """
    await connection.flush()
    await connection.flush()
