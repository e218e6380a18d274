"""Chaos for minutes or hours, on real sockets, between real processes.

``nox -s soak -- --minutes 60 --loop uvloop``. A server with a small pool and some clients run in
rounds: they flood, read slowly, cancel, reset and reconnect, while clients and the server are
killed, and clients are stopped for a while. After each round, everything finishes, and nothing may
be left. The seed that is printed first decides what a round does: the same seed runs the same
scenes and kills. It does not decide when the system switches between processes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.util import find_spec
from typing import TypeAlias

from tests.soak import sabotage
from tests.soak.workers import Findings, Worker

LOOPS = ("reactor", "asyncio", "uvloop")
CLIENTS = 3
LIKELY = 0.2
"""The probability of each disturbance in a round: stopping or killing a process."""

Disturbance: TypeAlias = Callable[[random.Random, float], Awaitable[None]]
"""Something that happens to a process in a round. It takes the round's duration in seconds."""


class Soak:
    """The processes that run on one loop.

    Args:
        loop: the loop's name.
        seed: the source of all random decisions.
        broken: how the library is sabotaged.
        folder: where sockets are created.
        findings: where results are recorded.
    """

    def __init__(self, loop: str, seed: str, broken: str, folder: str, findings: Findings) -> None:
        self._loop = loop
        self._seed = f"{seed}/{loop}"
        self._broken = broken
        self._findings = findings
        self._addresses = ["tcp://127.0.0.1:0", f"uds://{folder}/{loop}"]
        self._started: list[Worker] = []
        self._server: Worker
        self._clients: dict[int, Worker] = {}

    async def play(self, seconds: float) -> None:
        """Run rounds until the time is up."""
        end = time.monotonic() + seconds
        try:
            self._server = await self._start("server")
            number = 0
            while time.monotonic() < end and not self._findings.broken:
                number += 1
                await self._round(f"{self._seed}/{number}", end - time.monotonic())
            for worker in (*self._clients.values(), self._server):
                await worker.close()
        finally:
            for worker in self._started:
                if worker.alive:
                    await worker.kill()

    async def _start(self, role: str) -> Worker:
        life = len(self._started) + 1
        arguments = [f"tests.soak.{role}", self._loop, f"{self._seed}/{life}", self._broken]
        worker = Worker(
            f"{role} {life} on {self._loop}", [*arguments, *self._addresses], self._findings
        )
        self._started.append(worker)
        first_report = await worker.start()
        self._addresses = first_report.get("addresses", self._addresses)
        return worker

    async def _round(self, seed: str, most: float) -> None:
        luck = random.Random(seed)
        for place in range(CLIENTS):
            if place not in self._clients:
                self._clients[place] = await self._start("client")
        for place, client in self._clients.items():
            client.send_line(f"round {seed}/{place}")
        self._clients[0].send_line(
            "fork"
        )  # only this one: children of clients that are killed would stay
        seconds = min(luck.uniform(1, 6), max(1.0, most))
        # The first client is never killed, to check one that runs for a long time.
        disturbances: list[Disturbance] = [partial(self._stop, place) for place in range(CLIENTS)]
        disturbances += [partial(self._kill_client, place) for place in range(1, CLIENTS)]
        disturbances += [self._kill_server]
        chosen = [disturb for disturb in disturbances if luck.random() < LIKELY]
        await asyncio.gather(
            asyncio.sleep(seconds), *(disturb(luck, seconds) for disturb in chosen)
        )
        for client in self._clients.values():
            await client.run_command("calm")
        await self._server.run_command("calm")

    async def _stop(self, place: int, luck: random.Random, seconds: float) -> None:
        begin, rest = luck.uniform(0, seconds / 2), luck.uniform(0, seconds / 2)
        await asyncio.sleep(begin)
        if place in self._clients:
            await self._clients[place].stop(rest)

    async def _kill_client(self, place: int, luck: random.Random, seconds: float) -> None:
        await asyncio.sleep(luck.uniform(0, seconds))
        with contextlib.suppress(KeyError):
            await self._clients.pop(place).kill()

    async def _kill_server(self, luck: random.Random, seconds: float) -> None:
        begin, rest = luck.uniform(0, seconds), luck.uniform(0, 0.5)
        await asyncio.sleep(begin)
        await self._server.kill()
        await asyncio.sleep(rest)
        self._server = await self._start("server")


async def run(options: argparse.Namespace) -> Findings:
    """Run a soak on each loop, one after the other."""
    findings = Findings()
    loops = [name for name in LOOPS if name != "uvloop" or find_spec(name)]
    loops = loops if options.loop == "all" else [options.loop]
    with tempfile.TemporaryDirectory(prefix="tofu") as folder:
        for loop in loops:
            soak = Soak(loop, options.seed, options.sabotage, folder, findings)
            await soak.play(60 * options.minutes / len(loops))
            if findings.broken:
                break
    return findings


def main() -> None:
    """Run, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=1.0, help="duration for all loops together"
    )
    parser.add_argument("--loop", default="all", choices=["all", *LOOPS])
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--sabotage", default="none", choices=sabotage.WAYS)
    options = parser.parse_args()
    if options.sabotage != "none":
        os.environ["TOFU_AIO_PURE"] = "1"  # of the processes: what is compiled is not broken by it
    print(f"seed {options.seed}", flush=True)
    findings = asyncio.run(run(options))
    print(
        f"{findings.done} scenes played, {findings.cut} cut short, {findings.kills} processes "
        f"killed, {findings.suspensions} waits for a permit; {len(findings.broken)} broken promises"
    )
    if findings.broken:
        sys.exit(
            f"repeat with --minutes {options.minutes:g} --loop {options.loop} --seed {options.seed}"
        )


if __name__ == "__main__":
    main()
