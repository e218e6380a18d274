"""What channels cost that nobody uses: the CPU time of connecting, and of their heartbeats.

Both ends are in one process, so each figure is what both of them take together. The time between
two heartbeats is a second here, so that there are many to measure: the default is 20 seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import time

from rich.console import Console
from rich.table import Table

import tofu_aio as tofu
from tests.benchmarks import processes

BEAT = 1.0
"""Seconds between two heartbeats of a channel."""


async def measure(channels: int, seconds: float) -> dict[str, float]:
    """Microseconds of CPU time."""
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen("tcp://127.0.0.1:0", heartbeat=BEAT)
        begun = time.process_time()
        for _ in range(channels):
            connecting = asyncio.ensure_future(group.connect(listener.address, heartbeat=BEAT))
            await listener.accept()
            await connecting
        connected = time.process_time()
        idle = time.process_time()
        await asyncio.sleep(seconds)
        beats = channels * seconds / BEAT
        return {
            "to make a channel": (connected - begun) / channels * 1e6,
            "a heartbeat of each end": (time.process_time() - idle) / beats * 1e6,
        }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    processes.allow_descriptors()
    table = Table(title=f"CPU time of both ends, on {processes.machine()}")
    table.add_column("what")
    table.add_column("µs", justify="right")
    for what, cost in tofu.run(measure(options.channels, options.seconds)).items():
        table.add_row(what, f"{cost:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
