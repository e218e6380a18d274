"""Chaos for minutes or hours, on real sockets, between real processes.

``nox -s soak -- --minutes 60 --loop uvloop``. A server with a small pool and some clients play
rounds: they flood, read slowly, cancel, reset and reconnect, while clients and the server are
killed, and clients stopped for a while. After each round all is calm, and then nothing may be left.
What a round does is drawn from the seed that is printed first: the same one brings the same scenes
and the same kills. When the system switches between the processes is not in its power.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import secrets
import signal
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any, TypeAlias

from tests.soak import sabotage

LOOPS = ("reactor", "asyncio", "uvloop")
CLIENTS = 3
PATIENCE = 90.0
"""Seconds for a worker to answer; it has 30 for itself, for each of several things."""

LIKELY = 0.2
"""How likely each deed is in a round: to stop a client, to kill one, to kill the server."""

WARM_UP = 2
"""Rounds of a worker's life in which its memory may grow."""

MORE_OBJECTS = 3000
"""Objects of Python's that it may have more after that. A channel has some tens."""

MORE_RESIDENT = 24 * 1024 * 1024
"""Bytes likewise: what allocators keep for themselves goes up and down."""

Deed: TypeAlias = Callable[[random.Random, float], Awaitable[None]]
"""What happens to a process in a round, which takes so many seconds."""


@dataclass
class Findings:
    """What is broken, and what was done.

    Attributes:
        broken: check and text, as they came.
        done: scenes played to their ends.
        cut: scenes that were not, by a kill, a reset, or a channel's end.
        suspensions: how often a channel waited for a permit.
        kills: processes killed.
    """

    broken: list[tuple[str, str]] = field(default_factory=list)
    done: int = 0
    cut: int = 0
    suspensions: int = 0
    kills: int = 0

    def blame(self, check: str, text: str) -> None:
        """Something is broken."""
        self.broken.append((check, text))
        print(f"BROKEN {check}: {text}", flush=True)


class Worker:
    """A process of the soak.

    Args:
        name: for people.
        arguments: the module and what it is given.
        findings: where what it says goes.
    """

    def __init__(self, name: str, arguments: list[str], findings: Findings) -> None:
        self.name = name
        self._arguments = arguments
        self._findings = findings
        self._process: Process
        self._hearing: asyncio.Task[None]
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._reports: list[dict[str, int]] = []
        self.alive = False

    async def start(self) -> dict[str, Any]:
        """Start it, and return what it says first."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *self._arguments, stdin=PIPE, stdout=PIPE
        )
        self.alive = True
        self._hearing = asyncio.create_task(self._hear())
        return await self._answer()

    async def ask(self, line: str) -> None:
        """Let it do something, and have it check itself."""
        self.tell(line)
        report = await self._answer()
        if not report:
            return
        self._reports.append(report)
        self._findings.done += report["done"]
        self._findings.cut += report["cut"]
        self._findings.suspensions += report["suspensions"]
        if len(self._reports) > WARM_UP:
            self._compare(self._reports[WARM_UP - 1], report)

    def tell(self, line: str) -> None:
        """Let it do something."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    async def kill(self) -> None:
        """Without a warning."""
        self.alive = False
        self._findings.kills += 1
        self._process.kill()
        await self._process.wait()
        await self._hearing

    async def stop(self, seconds: float) -> None:
        """Let it not run for a while."""
        with contextlib.suppress(ProcessLookupError):  # killed meanwhile
            self._process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            self._process.send_signal(signal.SIGCONT)

    async def end(self) -> None:
        """Let it close everything, and end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(PATIENCE):
                code = await self._process.wait()
                await self._hearing
        except TimeoutError:
            self._findings.blame("hang", f"{self.name} does not end")
            await self.kill()
            return
        self.alive = False
        if code:
            self._findings.blame("died", f"{self.name} ended with {code}")

    async def _answer(self) -> dict[str, Any]:
        """What it says next; nothing if it says nothing."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._answers.get()
        except TimeoutError:
            self._findings.blame("hang", f"{self.name} does not answer")
            return {}

    async def _hear(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said = json.loads(line)
            if "broken" in said:
                self._findings.blame(said["broken"], f"{self.name}: {said['text']}")
            else:
                self._answers.put_nowait(said)
        if self.alive and await self._process.wait():
            self._findings.blame("died", f"{self.name} ended with {self._process.returncode}")
            self._answers.put_nowait({})

    def _compare(self, before: dict[str, int], now: dict[str, int]) -> None:
        grown = now["objects"] - before["objects"]
        if grown > MORE_OBJECTS:
            self._findings.blame("memory", f"{self.name} has {grown} objects more")
        grown = now["resident"] - before["resident"]
        if grown > MORE_RESIDENT:
            self._findings.blame("memory", f"{self.name} has {grown >> 20} MiB more")


class Soak:
    """All processes on one loop.

    Args:
        loop: its name.
        seed: of everything that is drawn.
        broken: how the library is sabotaged.
        folder: for sockets.
        findings: where to tell.
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
        """Rounds, until the time is up."""
        end = time.monotonic() + seconds
        try:
            self._server = await self._start("server")
            number = 0
            while time.monotonic() < end and not self._findings.broken:
                number += 1
                await self._round(f"{self._seed}/{number}", end - time.monotonic())
            for worker in (*self._clients.values(), self._server):
                await worker.end()
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
        said = await worker.start()
        self._addresses = said.get("addresses", self._addresses)
        return worker

    async def _round(self, seed: str, most: float) -> None:
        luck = random.Random(seed)
        for place in range(CLIENTS):
            if place not in self._clients:
                self._clients[place] = await self._start("client")
        for place, client in self._clients.items():
            client.tell(f"round {seed}/{place}")
        seconds = min(luck.uniform(1, 6), max(1.0, most))
        # The first client is never killed, to see what becomes of one that lives long.
        deeds: list[Deed] = [partial(self._stop, place) for place in range(CLIENTS)]
        deeds += [partial(self._kill_client, place) for place in range(1, CLIENTS)]
        deeds += [self._kill_server]
        chosen = [deed for deed in deeds if luck.random() < LIKELY]
        await asyncio.gather(asyncio.sleep(seconds), *(deed(luck, seconds) for deed in chosen))
        for client in self._clients.values():
            await client.ask("calm")
        await self._server.ask("calm")

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
    """All loops in turn."""
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
    """Run, and tell whether all is well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="for all loops together")
    parser.add_argument("--loop", default="all", choices=["all", *LOOPS])
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--sabotage", default="none", choices=sabotage.WAYS)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    findings = asyncio.run(run(options))
    print(
        f"{findings.done} scenes played, {findings.cut} cut short, {findings.kills} processes "
        f"killed, {findings.suspensions} waits for a permit; {len(findings.broken)} broken promises"
    )
    if findings.broken:
        sys.exit(
            f"again with: --minutes {options.minutes:g} --loop {options.loop} --seed {options.seed}"
        )


if __name__ == "__main__":
    main()
