"""A flood: who sends as fast as it can to a reader that takes 50 ms for each 64 KiB.

Each contender is two processes on loopback, all of them at the same time: the reader sets the
pace, so they do not disturb each other. The resident memory of each process is looked at from
outside four times a second. What the kernel holds for a socket is not in it, for any of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks import processes
from tests.benchmarks.processes import FOLDER, MIB

SAMPLE = 0.25
"""Seconds between two looks."""

START = 2.0
"""Seconds in which all processes have begun; so much earlier than others the first may end."""

LINGER = 60.0
"""Seconds after the flood in which all must be drained and reported."""

CONTENDERS = {
    "tofu_aio on reactor": ("tofu", "reactor"),
    "tofu_aio on asyncio": ("tofu", "asyncio"),
    "tofu_aio on uvloop": ("tofu", "uvloop"),
    "websockets": ("websockets", "asyncio"),
    "pyzmq, PUSH and PULL": ("zmq", "asyncio"),
    "streams and an unbounded Queue": ("queue", "asyncio"),
}


class Pair(NamedTuple):
    """Both processes of a contender."""

    reader: subprocess.Popen[str]
    sender: subprocess.Popen[str]


class Started(NamedTuple):
    """Both processes of a contender, and the MiB that its reader had before anybody sent."""

    pair: Pair
    before: float | None


def launch(seconds: float, limit: int) -> dict[str, Started]:
    """Start all that are installed: first who listens, then who sends."""
    chosen = {
        name: (contender, loop)
        for name, (contender, loop) in CONTENDERS.items()
        if all(
            x in {"tofu", "queue", "reactor", "asyncio"} or find_spec(x) for x in (contender, loop)
        )
    }
    load = (seconds, limit)
    readers = {
        name: processes.start("flood_peers", "reader", *which, *load)
        for name, which in chosen.items()
    }
    ports = {name: processes.next_line(reader) for name, reader in readers.items()}
    before = {name: processes.resident(reader) for name, reader in readers.items()}
    senders = {
        name: processes.start("flood_peers", "sender", *which, *load, ports[name])
        for name, which in chosen.items()
    }
    return {name: Started(Pair(readers[name], senders[name]), before[name]) for name in chosen}


def watch(started: dict[str, Started], seconds: float) -> dict[str, Any]:
    """Look at each process until it ends; then hear what it says."""
    pairs = {name: pair for name, (pair, _) in started.items()}
    result: dict[str, Any] = {
        name: {"before": before} | {side: {"memory": []} for side in Pair._fields}
        for name, (_, before) in started.items()
    }
    begun = time.monotonic()
    living = True
    while living:
        now = time.monotonic() - begun
        if now > seconds + LINGER:
            raise TimeoutError("somebody hangs: see what was measured so far")
        living = False
        for name, pair in pairs.items():
            for side, process in pair._asdict().items():
                size = processes.resident(process) if process.poll() is None else None
                if size is not None:
                    living = True
                    result[name][side]["memory"].append((round(now, 2), round(size, 2)))
        time.sleep(SAMPLE)
    for name, pair in pairs.items():
        for side, process in pair._asdict().items():
            result[name][side] |= json.loads(processes.next_line(process))
    return result


def at(memory: list[tuple[float, float]], moment: float) -> str:
    """MiB at a moment, if it lived that long."""
    sizes = [size for now, size in memory if now <= moment]
    return f"{sizes[-1]:.1f}" if memory[-1][0] >= moment - START else "ended"


def verdict(reader: dict[str, Any], sender: dict[str, Any]) -> str:
    """What became of the messages."""
    if reader["stopped"]:
        return f"stopped after {reader['memory'][-1][0]:.0f} s"
    if not reader["in_order"]:
        return "order broken"
    if reader["told"] == reader["received"] == sender["sent"]:
        return "all, in order"
    return f"{sender['sent'] - reader['received']} lost"


def table(result: dict[str, Any], seconds: float) -> str:
    """The figures."""
    early = min(5.0, seconds / 4)
    rows = []
    for name, sides in result.items():
        reader, sender = sides["reader"], sides["sender"]
        sizes = [
            at(side["memory"], moment) for side in (reader, sender) for moment in (early, seconds)
        ]
        rows.append(
            [
                name,
                f"{sides['before']:.1f}",
                *sizes,
                sender["sent"],
                sender["waited"],
                f"{sender['waiting']:.1f}",
                reader["received"],
                verdict(reader, sender),
            ]
        )
    columns = [
        "",
        "reader, before",
        f"reader, {early:g} s",
        f"reader, {seconds:g} s",
        f"sender, {early:g} s",
        f"sender, {seconds:g} s",
        "sent",
        "sends that waited",
        "seconds waited",
        "received",
        "",
    ]
    return processes.markdown(columns, rows)


def draw(result: dict[str, Any], seconds: float, path: Path) -> None:
    """Time across, resident memory up."""
    figure, panels = processes.figure(
        2, "64 KiB messages, as fast as they go; the reader takes 50 ms for each"
    )
    for panel, side in zip(panels, Pair._fields, strict=True):
        for name, sides in result.items():
            times, sizes = zip(*sides[side]["memory"], strict=True)
            (line,) = panel.plot(times, sizes, label=name, linewidth=1.5)
            if sides["reader"]["stopped"]:
                panel.plot(times[-1:], sizes[-1:], "x", color=line.get_color())
        panel.axvline(seconds, color="grey", linewidth=0.8, linestyle=":")
        panel.set(title=side, xlabel="seconds", yscale="log")
        panel.set_yticks(ticks := [20, 50, 100, 200, 500, 1000, 2000], ticks)
        panel.minorticks_off()
        panel.set_ylim(bottom=15)
    panels[0].set_ylabel("resident memory, MiB")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    processes.write_svg(figure, path)


def main() -> None:
    """Run all at once, print the table, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of the flood")
    parser.add_argument("--limit", type=int, default=2048, help="MiB for who has no bound")
    parser.add_argument("--plot", type=Path, default=FOLDER / "flood.svg")
    parser.add_argument("--json", type=Path, help="write all that was measured here")
    options = parser.parse_args()
    started = launch(options.seconds, options.limit * MIB)
    try:
        result = watch(started, options.seconds)
    finally:
        processes.end(process for pair, _ in started.values() for process in pair)
    print(f"Resident memory in MiB; {processes.machine()}\n")
    print(table(result, options.seconds))
    draw(result, options.seconds, options.plot)
    if options.json:
        processes.write_json(options.json, {"seconds": options.seconds, "contenders": result})


if __name__ == "__main__":
    main()
