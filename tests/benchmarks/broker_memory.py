"""What a NATS broker holds while some readers are slow: channels over it, and nats-py alone.

``python -m tests.benchmarks.broker_memory`` starts a broker, a process that sends to all readers as
fast as it may, and a process of readers, some of which take 0.1 s for each message of 60,000 bytes.
One contender runs after the other. The broker is asked twice a second what it holds. The figures
are printed as a table, and drawn.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks import processes
from tests.benchmarks.processes import FOLDER, MIB
from tests.transport.nats.brokers import Broker, missing, running

SAMPLE = 0.5
"""Seconds between two looks."""

FAST = 2
"""Readers that take no time for a message."""

CONTENDERS = {"tofu": "channels over nats://", "nats": "nats-py, publish and subscribe"}


class Sample(NamedTuple):
    """One look.

    Attributes:
        when: seconds since it began.
        broker: MiB of memory that the broker has.
        readers: MiB that the process of the readers has.
    """

    when: float
    broker: float
    readers: float


class Measured(NamedTuple):
    """What one run gave.

    Attributes:
        samples: all looks.
        passed: MiB that the broker has sent.
        slow: consumers that the broker has closed because they were slow, until all was read.
        sent: messages.
        came: messages by the kind of reader, and nats-py's errors by their names.
    """

    samples: list[Sample]
    passed: float
    slow: int
    sent: int
    came: dict[str, int]

    @property
    def lost(self) -> int:
        """Messages that were sent and read by nobody."""
        return self.sent - self.came.get("slow", 0) - self.came.get("fast", 0)


def look(broker: Broker, readers: subprocess.Popen[str], began: float) -> Sample:
    """Ask the broker, and look at the readers' process."""
    held = broker.state()["mem"] / MIB
    memory = processes.resident(readers)
    assert memory is not None, "the readers have ended"
    return Sample(round(time.monotonic() - began, 2), held, memory)


def measure(contender: str, seconds: float, slow: int) -> Measured:
    """Run one contender through a broker of its own."""
    with running() as broker:
        url = broker.url("memory") if contender == "tofu" else broker.url("").rstrip("/")
        arguments = (contender, url, slow, FAST)
        started = []
        try:
            for role in ("sender", "readers"):
                started.append(processes.start("broker_memory_peers", role, *arguments))
                processes.next_line(started[-1])
            sender, readers = started
            began = time.monotonic()
            samples = [look(broker, readers, began)]
            processes.tell(sender, "go")
            while samples[-1].when < seconds:
                time.sleep(SAMPLE)
                samples.append(look(broker, readers, began))
            processes.tell(readers, "hurry")
            sent = json.loads(processes.rest(sender))["sent"]
            came = json.loads(processes.rest(readers))
            end = broker.state()
            return Measured(samples, end["out_bytes"] / MIB, end["slow_consumers"], sent, came)
        finally:
            processes.end(started)


def table(found: dict[str, Measured]) -> str:
    """The figures."""
    rows = []
    for name, measured in found.items():
        broker = [sample.broker for sample in measured.samples]
        came = dict(measured.came)
        slow, fast = came.pop("slow", 0), came.pop("fast", 0)
        rows.append(
            [
                CONTENDERS[name],
                f"{min(broker):.1f}",
                f"{max(broker):.1f}",
                f"{max(sample.readers for sample in measured.samples):.1f}",
                f"{measured.passed:,.0f}",
                measured.slow,
                f"{measured.sent:,}",
                f"{slow:,}",
                f"{fast:,}",
                f"{measured.lost:,}",
                ", ".join(f"{count:,} {what}" for what, count in came.items()) or "none",
            ]
        )
    columns = [
        "",
        "broker, least",
        "broker, most",
        "readers, most",
        "passed",
        "slow consumers",
        "sent",
        "read by the slow",
        "read by the fast",
        "lost",
        "errors",
    ]
    return processes.markdown(columns, rows)


def draw(found: dict[str, Measured], slow: int, path: Path) -> None:
    """Time across, memory up."""
    title = f"Memory while {slow} readers take 0.1 s for each message, and {FAST} take none"
    figure, axes = processes.figure(len(found), title)
    panels = axes if len(found) > 1 else [axes]
    for panel, (name, measured) in zip(panels, found.items(), strict=True):
        times = [sample.when for sample in measured.samples]
        for label, column in (("the broker", 1), ("the process with the readers", 2)):
            panel.plot(times, [s[column] for s in measured.samples], label=label, linewidth=1.5)
        panel.set(title=CONTENDERS[name], xlabel="seconds", yscale="log")
        panel.set_yticks(ticks := [10, 20, 50, 100, 200, 500, 1000, 2000], ticks)
        panel.minorticks_off()
        panel.set_ylim(bottom=10)
    panels[0].set_ylabel("memory, MiB")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    processes.write_svg(figure, path)


def main() -> None:
    """Run one after the other, print the table, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--readers", type=int, default=8, help="slow ones")
    parser.add_argument("--plots", type=Path, default=FOLDER, help="folder of the plot")
    options = parser.parse_args()
    if (text := missing()) is not None:
        parser.error(text)
    found = {name: measure(name, options.seconds, options.readers) for name in CONTENDERS}
    print(f"Memory in MiB; {processes.machine()}\n")
    print(table(found))
    if find_spec("matplotlib") is None:
        print("no plot: matplotlib is not installed")
    else:
        draw(found, options.readers, options.plots / "nats-memory.svg")


if __name__ == "__main__":
    main()
