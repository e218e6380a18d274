"""The processes of a soak, and what is found."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass, field
from typing import Any

PATIENCE = 90.0
"""Seconds for a worker to answer; it has 30 for itself, for each of several things."""

WARM_UP = 2
"""Rounds of a worker's life in which its memory may grow."""

MORE_OBJECTS = 3000
"""Objects of Python's that it may have more after that. A channel has some tens."""

MORE_RESIDENT = 24 * 1024 * 1024
"""Bytes likewise: what allocators keep for themselves goes up and down."""


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
