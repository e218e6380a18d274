"""One process of a measurement: ``peer TREE server LOAD`` or ``peer TREE client LOAD``.

TREE is where the tofu_aio to be measured must come from. A server says its port and, when its stdin
ends, how much processor time it has taken since. A client is told the port; it
says that it begins, and then what it measured.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import time
from pathlib import Path

import tofu_aio as tofu
from tests.benchmarks import processes
from tests.benchmarks.load import Load, Meter


def pin(number: int) -> None:
    """Keep this process, with all threads that it will have, to a core, where that can be said."""
    if sys.platform == "linux":
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})


async def serve(load: Load) -> None:
    """Until stdin ends."""
    contender = importlib.import_module(f"tests.benchmarks.contenders.{load.contender}")
    async with contender.serve(load) as port:
        print(port, flush=True)
        begun = time.process_time()
        await asyncio.to_thread(sys.stdin.read)
        print(time.process_time() - begun, flush=True)


async def drive(load: Load) -> None:
    """Until the time is up."""
    contender = importlib.import_module(f"tests.benchmarks.contenders.{load.contender}")
    meter = Meter(load, lambda: print("begun", flush=True))
    port = int(sys.stdin.readline())
    await contender.drive(load, port, meter)
    print(json.dumps(meter.figures()), flush=True)


def main() -> None:
    """Run one role to its end."""
    tree, role, load_as_json = sys.argv[1:]
    if not Path(tofu.__file__).is_relative_to(tree):
        sys.exit(f"tofu_aio comes from {tofu.__file__}, and not from {tree}")
    load = Load.from_json(load_as_json)
    processes.check_variant()
    pin(int(role == "client"))
    processes.allow_descriptors()
    with asyncio.Runner(loop_factory=tofu.loop_factory(load.loop)) as runner:
        runner.run(serve(load) if role == "server" else drive(load))


if __name__ == "__main__":
    main()
