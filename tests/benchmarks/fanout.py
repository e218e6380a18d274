"""A fan-out to 1,000 subscribers, 10 of which have stopped: how late the others get it.

A publisher, and subscribers in four processes, over a Unix socket. Those that have stopped are in a
process of their own, which gets SIGSTOP. The contenders run one after another, round after round.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from tests.benchmarks import processes
from tests.benchmarks.fanout_peers import Load
from tests.benchmarks.results import Spread

TITLES = {
    "topic": "tofu.Topic",
    "pyzmq": "pyzmq, PUB and SUB",
    "loop": "a loop of signal()",
}
"""By the names of the contenders."""

READERS = 4
"""Processes of subscribers that read."""

SETTLING = 0.5
"""Seconds in which what a subscriber has sent last arrives, and is handled."""

LIMIT = 40.0
"""Seconds beyond those of publishing, after which a process is taken to hang."""


class Figures(NamedTuple):
    """What one run gave.

    Attributes:
        published: messages that were published while it counted.
        delivered: the part of all deliveries that took place, of 0 to 1.
        median: of the delays, in milliseconds.
        p99: the delay that one in a hundred exceeded.
        before: MiB of the publisher when all had subscribed.
        after: and at the end.
    """

    published: float
    delivered: float
    median: float
    p99: float
    before: float
    after: float


def measure(contender: str, options: argparse.Namespace) -> Figures:
    """One run.

    Raises:
        RuntimeError: a process failed or hung.
    """
    with tempfile.TemporaryDirectory(prefix="tofu", dir="/tmp") as folder:
        path = str(Path(folder, "s"))
        load = Load(path, options.size, options.rate, options.seconds)
        running: list[subprocess.Popen[str]] = []
        watchdog = threading.Timer(load.whole + LIMIT, lambda: [each.kill() for each in running])
        watchdog.start()
        try:
            return _run(contender, options, load, running)
        finally:
            watchdog.cancel()
            processes.end(running)


def _run(
    contender: str, options: argparse.Namespace, load: Load, running: list[subprocess.Popen[str]]
) -> Figures:
    def start(role: str, *count: int) -> subprocess.Popen[str]:
        process = processes.start("fanout_peers", role, contender, load.to_json(), *count)
        running.append(process)
        return process

    publisher = start("publisher")
    processes.next_line(publisher)
    reading = options.subscribers - options.stopped
    counts = [reading // READERS + (number < reading % READERS) for number in range(READERS)]
    readers = [start("subscribers", count) for count in counts[:2]]
    stopped = start("subscribers", options.stopped)  # in the middle
    readers += [start("subscribers", count) for count in counts[2:]]
    for each in (*readers, stopped):
        processes.next_line(each)
    time.sleep(SETTLING)
    os.kill(stopped.pid, signal.SIGSTOP)
    before = processes.resident(publisher)
    processes.tell(publisher, "publish")
    published = int(processes.next_line(publisher))
    after = processes.resident(publisher)
    delays = sorted(delay for each in readers for delay in json.loads(processes.rest(each)))
    assert before is not None
    assert after is not None
    expected = load.count * reading
    return Figures(
        published,
        len(delays) / expected,
        statistics.median(delays) if delays else 0.0,
        delays[int(len(delays) * 0.99)] if delays else 0.0,
        before,
        after,
    )


def table(rounds: dict[str, list[Figures]], options: argparse.Namespace) -> Table:
    """The figures: the median of all rounds, and their range where that says something."""
    told = Table(
        "",
        "delivered",
        "delay, median",
        "delay, p99",
        "publisher, before",
        "publisher, after",
        title=f"{options.subscribers:,} subscribers, {options.stopped} of them stopped; "
        f"{options.size:,} bytes, {options.rate:g} times a second; {processes.machine()}",
    )
    for contender, each in rounds.items():
        if not each:
            continue
        columns = {name: Spread.of([getattr(f, name) for f in each]) for name in Figures._fields}
        told.add_row(
            TITLES[contender],
            f"{columns['delivered'].median:.0%}",
            _delay(columns["median"]),
            _delay(columns["p99"]),
            f"{columns['before'].median:.1f} MiB",
            f"{columns['after'].median:.1f} MiB",
        )
    return told


def _delay(delay: Spread) -> str:
    if not delay.highest:
        return "none came"
    return f"{delay.median:.0f} ms ({delay.lowest:.0f} to {delay.highest:.0f})"


def main() -> None:
    """Run all contenders in rounds, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--stopped", type=int, default=10)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rate", type=float, default=5.0, help="messages a second")
    parser.add_argument("--seconds", type=float, default=4.0, help="of publishing")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    console = Console()
    names = [name for name in TITLES if name != "pyzmq" or find_spec("zmq")]
    rounds: dict[str, list[Figures]] = {name: [] for name in names}
    for number in range(options.rounds):
        for name in reversed(names) if number % 2 else names:
            try:
                rounds[name].append(measure(name, options))
            except RuntimeError as error:
                console.print(f"FAILED {TITLES[name]}, round {number + 1}: {error}")
    if "pyzmq" not in names:
        console.print("LEFT OUT pyzmq: it is not installed; it is in the extra bench")
    console.print(table(rounds, options))


if __name__ == "__main__":
    main()
