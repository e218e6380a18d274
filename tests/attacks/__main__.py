"""What hostile peers cost: ``python -m tests.attacks [NAME ...] [--loop NAME] [--seconds N]``.

For each attack and loop there are a server and an attacker, each in a process of its own, and an
honest client here, which makes requests all the time. It prints what the attacker has spent and
what the attack has cost the server. The verdict is bad, and the exit status 1, if memory exceeds
the bound, if the honest client is not served, or if the log has errors or lines that a peer wrote.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

from tests.attacks.catalogue import ATTACKS, Attack
from tests.attacks.honest import Honest
from tests.benchmarks import processes
from tests.benchmarks.processes import MIB

LOOPS = ("reactor", "asyncio", "uvloop")

PATIENCE = 60.0
"""Seconds until an attack must have started."""

GOOD_LINE = re.compile(r"(DEBUG|INFO|WARNING) [\w.]+: .{1,1000}")
"""The lines that the server's log may have."""

start = partial(processes.start, package="tests.attacks")


@dataclass
class Outcome:
    """The results of an attack.

    Attributes:
        connections: how many the attacker has made.
        sent: bytes that the attacker has sent.
        grown: bytes by which the peak of the server's memory has grown.
        honest: the honest client, with its results.
        bad: violations that were found.
    """

    connections: int
    sent: int
    grown: float
    honest: Honest
    bad: list[str]


def faults_of(log: str, wanted: str) -> list[str]:
    """Return the faults of a log: wrong lines, or that ``wanted`` is missing."""
    lines = log.split("\n")[:-1]
    bad = [line for line in lines if not (GOOD_LINE.fullmatch(line) and line.isprintable())]
    found = [f"{len(bad)} bad lines in the log, the first: {bad[0]!r:.300}"] if bad else []
    return found if wanted in log else [*found, f"the log does not contain {wanted!r}"]


async def measure(attack: Attack, loop: str, seconds: float, limits: list[str]) -> Outcome:
    """Attack for some seconds, and until the honest client has been served a few times."""
    running: list[subprocess.Popen[str]] = []
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogateescape") as log:
        try:
            options = json.dumps(dict(attack.options))
            server = start("server", loop, attack.kind, options, *limits, errors=log)
            running.append(server)
            address, target = processes.next_line(server).split()
            honest = Honest(address, tls=attack.tls)
            async with honest.connected():
                before = processes.peak(server)
                attacker = start("attacker", attack.name, target)
                running.append(attacker)
                async with asyncio.timeout(PATIENCE):
                    await asyncio.to_thread(processes.next_line, attacker)
                stop = asyncio.Event()
                asyncio.get_running_loop().call_later(seconds, stop.set)
                await honest.run(stop)
                grown = (processes.peak(server) - before) * MIB
                report = json.loads(await asyncio.to_thread(processes.rest, attacker) or "null")
                if report is None:
                    raise RuntimeError(f"the attacker of {attack.name} failed: see its stderr")
        finally:
            processes.end(running)
        log.seek(0)
        bad = [*honest.failed[:1], *report["found"], *faults_of(log.read(), attack.logs)]
    if grown > attack.bound:
        bad.append(f"memory beyond the bound by {(grown - attack.bound) / MIB:.1f} MiB")
    return Outcome(report["connections"], report["sent"], grown, honest, bad)


def row(attack: Attack, loop: str, outcome: Outcome) -> list[object]:
    """A row of the table."""
    return [
        attack.name,
        loop,
        f"{outcome.connections:,}",
        f"{outcome.sent / 1000:,.1f}",
        f"{outcome.grown / MIB:.1f}",
        f"{attack.bound / MIB:.1f}",
        f"{outcome.honest.requests:,}",
        f"{outcome.honest.visits:,}",
        len(outcome.honest.failed),
        f"{outcome.honest.slowest:.1f}",
        "; ".join(outcome.bad) or "held",
    ]


COLUMNS = [
    "attack",
    "loop",
    "connections",
    "KB sent",
    "MiB grown",
    "bound",
    "requests",
    "visits",
    "failed",
    "slowest, s",
    "verdict",
]


def main() -> int:
    """Run the attacks, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ATTACKS))
    parser.add_argument("--loop", choices=LOOPS, help="one loop (default: all that are installed)")
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of each attack")
    parser.add_argument(
        "--limits", nargs="+", default=[], metavar="LIMIT=VALUE", help="see server.py"
    )
    options = parser.parse_args()
    if unknown := set(options.names) - set(ATTACKS):
        parser.error(f"no such attack: {', '.join(unknown)}; there are {', '.join(ATTACKS)}")
    processes.allow_descriptors()
    loops = [options.loop] if options.loop else [x for x in LOOPS if x != "uvloop" or find_spec(x)]
    names = options.names or list(ATTACKS)
    rows, bad = [], 0
    for name in names:
        for loop in loops:
            outcome = asyncio.run(measure(ATTACKS[name], loop, options.seconds, options.limits))
            rows.append(row(ATTACKS[name], loop, outcome))
            print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
            bad += bool(outcome.bad)
    print("| attack | what it is |\n| --- | --- |")
    for name in names:
        print(f"| {name} | {ATTACKS[name].what} |")
    print(f"\n{options.seconds:g} seconds each; {processes.machine()}\n")
    print(processes.markdown(COLUMNS, rows))
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
