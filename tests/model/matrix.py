"""The models, checked exhaustively: all rules kept, and with one removed at a time.

The models are the Promela files beside this one; ``docs/design/reactor.md`` says what they stand
for. Each case is one run of ``spin``: a model with some macros, and one of two kinds of property.
With all rules kept no property may fail; with one removed the named one must, and ``spin`` must be
able to replay the counterexample. Run by ``nox -s model``; ``--show CASE`` prints a counterexample
step by step.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FOLDER = Path(__file__).parent
LIMIT = 600
"""Seconds after which a run is taken to hang."""

Kind = Literal["safety", "liveness"]

# Assertions and invalid end states; or the ltl formula, under weak fairness and whatever the
# assertions say.
COMPILE: dict[Kind, list[str]] = {
    "safety": ["-DSAFETY", "-DNOCLAIM"],
    "liveness": ["-DNFAIR=4"],  # room for the processes of the largest model
}
CHECK: dict[Kind, list[str]] = {"safety": [], "liveness": ["-a", "-f", "-A"]}

WRONG_CHANNEL = "assertion violated (about[fd]==c)"
FOR_NOTHING = "assertion violated (useless<=2)"
WHOLE_POOL = "assertion violated (held[e]<2)"
STARVES = "acceptance cycle"

REPLAYED = "Error: assertion violated|START OF CYCLE"


@dataclass(frozen=True)
class Case:
    """One run.

    Attributes:
        name: What is special about it; unique.
        model: The file.
        kind: What is checked.
        macros: What is defined for it.
        fails: What ``spin`` must find; None where the property must hold.
    """

    name: str
    model: str
    kind: Kind
    macros: tuple[str, ...] = ()
    fails: str | None = None


CASES = [
    # The long ones first, so that the short ones fill the gaps.
    Case("every rule, served", "reactor", "liveness"),
    Case("every rule, no permit lost", "permits", "liveness"),
    Case("every rule, a chain goes on", "progress", "liveness", ("LEVELS=3",)),
    Case("every rule, two permits", "progress", "liveness", ("PERMITS=2",)),
    Case("no share", "progress", "liveness", ("PERMITS=2", "NO_SHARE")),
    Case("long messages", "progress", "liveness", ("PERMITS=2", "LONG")),
    Case("three calls at once", "progress", "liveness", ("CALLS=3", "ALONE")),
    Case(
        "request kept until the next",
        "progress",
        "liveness",
        ("LOOP_VARIABLE", "LENDING", "LEVELS=1"),
    ),
    Case("the same in a chain", "progress", "liveness", ("LOOP_VARIABLE", "LENDING", "ALONE")),
    Case("every rule, reserve noticed", "reserves", "liveness"),
    Case("one-shot, re-armed", "reactor", "liveness", ("ONE_SHOT",)),
    Case("ADD may wait", "reactor", "liveness", ("DEFERRED_ADD",)),
    Case("every rule, no wrong event", "reactor", "safety"),
    Case("every rule, no deadlock", "permits", "safety"),
    Case("every rule, accounts right", "reserves", "safety"),
    Case("every rule, nothing stuck", "progress", "safety", ("LEVELS=3",)),
    Case("every rule, nobody has all", "progress", "safety", ("PERMITS=2",)),
    Case("lent, accounts right", "progress", "safety", ("LOOP_VARIABLE", "LENDING", "LEVELS=1")),
    Case("DEL may wait", "reactor", "liveness", ("DEFERRED_DEL",), STARVES),
    Case("events of older generations", "reactor", "safety", ("OLD_EVENTS",), WRONG_CHANNEL),
    Case("empty mask kept", "reactor", "safety", ("EMPTY_MASK",), FOR_NOTHING),
    Case("stale registrations believed", "reactor", "safety", ("STALE_BELIEVED",), WRONG_CHANNEL),
    Case("stale registrations kept", "reactor", "safety", ("STALE_KEPT",), FOR_NOTHING),
    Case("queue jumped", "reactor", "liveness", ("QUEUE_JUMPED",), STARVES),
    Case("edge-triggered", "reactor", "liveness", ("EDGE",), STARVES),
    Case(
        "one-shot, never re-armed",
        "reactor",
        "liveness",
        ("ONE_SHOT", "NEVER_REARMED"),
        STARVES,
    ),
    Case("looks, then gives back", "permits", "liveness", ("LOOK_FIRST",), STARVES),
    Case("queues, never looks again", "permits", "liveness", ("NO_SECOND_LOOK",), STARVES),
    Case("looks, then lowers the flag", "permits", "liveness", ("LOWER_LATE",), STARVES),
    Case("clears, then empties the pipe", "permits", "liveness", ("CLEAR_FIRST",), STARVES),
    Case("looks, then frees the reserve", "reserves", "liveness", ("LOOK_FIRST",), STARVES),
    Case("looks in two places", "reserves", "liveness", ("TWO_PLACES",), STARVES),
    Case("waits, reserve already back", "reserves", "liveness", ("NO_SECOND_LOOK",), STARVES),
    Case("no reserve", "progress", "liveness", ("NO_RESERVE",), STARVES),
    Case("no reserve, no neighbour", "progress", "liveness", ("NO_RESERVE", "ALONE"), STARVES),
    Case(
        "responses need permits",
        "progress",
        "liveness",
        ("RESPONSES_NEED_PERMITS", "CALLS=3", "ALONE"),
        STARVES,
    ),
    Case("reserve behind the queue", "progress", "liveness", ("RESERVE_BEHIND_QUEUE",), STARVES),
    Case("no share, one has all", "progress", "safety", ("PERMITS=2", "NO_SHARE"), WHOLE_POOL),
    Case("calls in a cycle", "progress", "liveness", ("CYCLE", "CALLS=3", "ALONE"), STARVES),
    Case("signals unread", "progress", "liveness", ("UNREAD",), STARVES),
    Case("nothing lent", "progress", "liveness", ("LOOP_VARIABLE", "LEVELS=1"), STARVES),
]


@dataclass(frozen=True)
class Verdict:
    """What a run said: what it found (None for nothing), its cost, and what is wrong with that."""

    found: str | None
    states: int
    seconds: float
    complaint: str | None


def run(command: list[str], folder: str) -> str:
    """Run a tool in a folder; return what it said, whatever its exit status."""
    done = subprocess.run(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return done.stdout


def macros(case: Case) -> list[str]:
    return [f"-D{macro}" for macro in case.macros]


def check(case: Case, folder: str, compiler: str) -> Verdict:
    """Check a case in an empty folder; a counterexample's trail stays there."""
    model = f"{case.model}.pml"
    shutil.copy(FOLDER / model, folder)
    said = run(["spin", "-a", *macros(case), model], folder)
    said += run([compiler, "-w", "-O2", *COMPILE[case.kind], "-o", "pan", "pan.c"], folder)
    if not Path(folder, "pan").exists():
        return Verdict(None, 0, 0, said)
    said = run(["./pan", "-m1000000", *CHECK[case.kind]], folder)
    found = re.search(r"^pan:1: (.*) \(at depth", said, re.MULTILINE)
    errors = re.search(r"errors: (\d+)", said)
    states = re.search(r"(\S+) states, stored", said)
    seconds = re.search(r"elapsed time (\S+) seconds", said)
    if errors is None or states is None or seconds is None:
        return Verdict(None, 0, 0, said)
    verdict = found[1] if found else None
    complaint = None
    if verdict != case.fails:
        complaint = f"expected {case.fails or 'nothing'} to be found"
    elif verdict is None and (errors[1] != "0" or "too small" in said or "not completed" in said):
        complaint = said  # not exhaustive
    elif verdict is not None and not re.search(REPLAYED, replay(case, folder)):
        complaint = "the counterexample does not replay"
    return Verdict(verdict, int(float(states[1])), float(seconds[1]), complaint)


def replay(case: Case, folder: str) -> str:
    return run(["spin", "-t", "-p", "-g", *macros(case), f"{case.model}.pml"], folder)


def main() -> None:
    """Check all cases and print what each found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 4), help="at a time")
    parser.add_argument("--show", metavar="CASE", help="print this case's counterexample instead")
    options = parser.parse_args()
    compiler = next(filter(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang")), None)
    if compiler is None or shutil.which("spin") is None:
        sys.exit("the models need spin (https://spinroot.com, `apt install spin`) and a C compiler")

    def examine(case: Case) -> Verdict:
        with tempfile.TemporaryDirectory() as folder:
            verdict = check(case, folder, compiler)
            if options.show:
                print(replay(case, folder))
            return verdict

    if options.show:
        examine(next(case for case in CASES if case.name == options.show))
        return
    wrong = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for case, verdict in zip(CASES, pool.map(examine, CASES), strict=True):
            found = verdict.found or "holds"
            cost = f"{verdict.states:>9,} states {verdict.seconds:6.1f} s"
            print(f"{case.model:8} {case.kind:9} {case.name:30} {cost}  {found}", flush=True)
            if verdict.complaint:
                wrong.append(f"{case.name}: {verdict.complaint}")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
