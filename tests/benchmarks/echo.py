"""Pipelined echo of small messages, beside a bare asyncio protocol that echoes bytes.

Two processes, a core each, over TCP on loopback. All contenders run in turn, round after round,
so that a noisy machine hurts them alike; what counts is the median of the ratios of each round.
Run by ``nox -s bench``; ``python tests/benchmarks/echo.py --help`` tells the options.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

PEERS = Path(__file__).with_name("peers.py")
LIMIT = 60
"""Seconds after which a process of a round is taken to hang."""


def measure(contender: str, loop: str, window: int, size: int, seconds: float) -> float:
    """One round of one contender: echoes a second."""
    cores = (os.cpu_count() or 1) > 1
    command = [sys.executable, str(PEERS)]
    server = subprocess.Popen(
        [*command, "server", contender, loop, "0"], stdout=subprocess.PIPE, text=True
    )
    with server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            load = [port, str(window), str(size), str(seconds)]
            client = subprocess.run(
                [*command, "client", contender, loop, str(int(cores)), *load],
                stdout=subprocess.PIPE,
                text=True,
                timeout=LIMIT,
                check=True,
            )
            server.wait(LIMIT)
        finally:
            server.kill()
    rate: float = json.loads(client.stdout)["rate"]
    return rate


def main() -> None:
    """Run all rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 64, 200])
    parser.add_argument("--size", type=int, default=64, help="of a body, in bytes")
    parser.add_argument("--loops", nargs="+", default=["reactor", "asyncio", "uvloop"])
    parser.add_argument("--json", type=Path, help="write all rounds here")
    options = parser.parse_args()
    console = Console()
    loops = [name for name in options.loops if name in {"reactor", "asyncio"} or find_spec(name)]
    rates: dict[str, list[float]] = {}
    cases = [(loop, window) for loop in loops for window in options.windows]
    for _ in track(range(options.rounds), "rounds", console=console, disable=None):
        for loop, window in cases:
            for contender in ("bare", "tofu"):
                rate = measure(contender, loop, window, options.size, options.seconds)
                rates.setdefault(f"{contender} {loop} {window}", []).append(rate)
    table = Table(title=f"Echoes a second, {options.size} B, median of {options.rounds} rounds")
    for column in ("loop", "window", "bare protocol", "tofu_aio", "ratio", "lowest", "highest"):
        table.add_column(column, justify="left" if column == "loop" else "right")
    for loop, window in cases:
        bare, ours = (rates[f"{contender} {loop} {window}"] for contender in ("bare", "tofu"))
        ratios = [our / limit for our, limit in zip(ours, bare, strict=True)]
        table.add_row(
            loop,
            str(window),
            f"{statistics.median(bare):,.0f}",
            f"{statistics.median(ours):,.0f}",
            *(f"{pick(ratios):.2f}" for pick in (statistics.median, min, max)),
        )
    console.print(table)
    if options.json:
        options.json.write_text(json.dumps(rates, indent=1))


if __name__ == "__main__":
    main()
