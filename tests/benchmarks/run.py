"""The whole table of speed: ``nox -s bench``, or ``python -m tests.benchmarks.run --help``.

A server and a client, a process and a core each, over TCP on loopback. All contenders of a case run
in turn, round after round, so that a noisy machine hurts them alike; what counts is the median of
the ratios of each round. It ends with the project's targets, and which of them are reached.

The exit code is 1 if a measurement failed, and 0 otherwise, whatever was reached.
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from tests.benchmarks import (
    against,
    calibration,
    idle,
    idle_case,
    plots,
    processes,
    reactor_case,
    roster,
    rounds,
    tables,
    targets,
)
from tests.benchmarks.cases import CASES
from tests.benchmarks.results import Results
from tests.benchmarks.roster import CONTENDERS, LOOPS, Field

ROUNDS = 5
"""Enough for a median."""

AGAINST = 9
"""Of so many rounds in a row one revision is the faster by mere chance once in 256 times."""


class Options(argparse.Namespace):
    """What the user asked for."""

    rounds: int | None
    seconds: float
    contenders: list[str]
    loops: list[str]
    connections: int
    json: Path
    plots: Path
    against: str | None


def options() -> Options:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=positive, help=f"by default {ROUNDS}, or {AGAINST}")
    parser.add_argument("--seconds", type=float, default=0.4, help="of each measurement")
    parser.add_argument(
        "--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME"
    )
    parser.add_argument("--loops", nargs="+", choices=LOOPS, default=LOOPS, metavar="NAME")
    parser.add_argument("--connections", type=int, default=10_000, help="that idle; 0 for none")
    parser.add_argument("--json", type=Path, default=processes.FOLDER / "bench.json")
    parser.add_argument("--plots", type=Path, default=processes.FOLDER, help="folder for them")
    parser.add_argument(
        "--against", metavar="REV", help="compare tofu_aio with this revision of it, and no more"
    )
    return parser.parse_args(namespace=Options())


def positive(text: str) -> int:
    """A number of rounds."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def draw(results: Results, field: Field, folder: Path) -> None:
    """Each plot into its file."""
    folder.mkdir(parents=True, exist_ok=True)
    plots.throughput(results, field, folder / "throughput.svg")
    plots.latency(results, field, folder / "latency.svg")


def main() -> int:
    """Measure, tell, draw."""
    asked = options()
    console = Console(soft_wrap=True, markup=False)
    field = roster.choose(asked.contenders, asked.loops)
    for line in field.left_out:
        console.print(f"LEFT OUT {line}")
    if asked.against:
        count = asked.rounds or AGAINST
        return against.run(asked.against, field, count, asked.seconds, console)
    count = asked.rounds or ROUNDS
    results = Results(left_out=field.left_out)
    jobs = list(rounds.plan(CASES, field, asked.seconds))
    rounds.run(jobs, count, console, results)
    if {"reactor", "asyncio"} <= set(field.loops):
        with console.status("the reactor beside the stock loop, event by event"):
            reactor_case.run(results, count, asked.seconds)
    idle_ones: idle.SeenOf = {}
    if asked.connections:
        idle_ones = idle_case.run(results, field, asked.connections, console)
    outcomes = targets.outcomes(results, field.loops)
    console.print(f"{processes.machine()}; medians of {count} rounds (lowest to highest)")
    console.print(f"{calibration.line(results)}\n")
    console.print(tables.all_of(results, field, idle_ones, outcomes))
    processes.write_json(
        asked.json,
        {
            "versions": {name: roster.CONTENDERS[name].version() for name in field.contenders},
            "seconds": asked.seconds,
            "calibration": calibration.line(results),
            **results.to_json(),
            "targets": targets.to_json(outcomes),
        },
    )
    if find_spec("matplotlib"):
        draw(results, field, asked.plots)
        if idle_ones:
            idle.draw(idle_ones, asked.plots / "idle.svg")
    else:
        console.print("no plots: matplotlib is not installed; it is in the extra bench")
    for line in results.failures:
        console.print(f"FAILED {line}")
    return int(bool(results.failures))


if __name__ == "__main__":
    sys.exit(main())
