"""The processes of a soak, and the results."""

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
"""Seconds for a worker to answer. It may take 30 for each of several things."""

WARM_UP = 2
"""The first rounds of a worker, in which its memory may grow."""

MORE_OBJECTS = 3000
"""Python objects that it may have in addition after that. A channel has some tens."""

MORE_RESIDENT = 24 * 1024 * 1024
"""Bytes that it may have in addition: what allocators keep varies."""


@dataclass
class Findings:
    """The results of a soak.

    Attributes:
        broken: the broken promises: the check and its text.
        done: scenes that were completed.
        cut: scenes that ended early, by a kill, a reset, or a channel's end.
        suspensions: how often a channel waited for a permit.
        kills: processes killed.
    """

    broken: list[tuple[str, str]] = field(default_factory=list)
    done: int = 0
    cut: int = 0
    suspensions: int = 0
    kills: int = 0

    def blame(self, check: str, text: str) -> None:
        """Record a broken promise."""
        self.broken.append((check, text))
        print(f"BROKEN {check}: {text}", flush=True)


class Worker:
    """A process of the soak.

    Args:
        name: its name in messages.
        arguments: its module and that module's arguments.
        findings: where its reports are recorded.
    """

    def __init__(self, name: str, arguments: list[str], findings: Findings) -> None:
        self.name = name
        self._arguments = arguments
        self._findings = findings
        self._process: Process
        self._reading: asyncio.Task[None]
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._reports: list[dict[str, int]] = []
        self.alive = False

    async def start(self) -> dict[str, Any]:
        """Start the process, and return its first report."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *self._arguments, stdin=PIPE, stdout=PIPE
        )
        self.alive = True
        self._reading = asyncio.create_task(self._read_reports())
        return await self._answer()

    async def run_command(self, line: str) -> None:
        """Send a command, and record the report that answers it."""
        self.send_line(line)
        report = await self._answer()
        if not report:
            return
        self._reports.append(report)
        self._findings.done += report["done"]
        self._findings.cut += report["cut"]
        self._findings.suspensions += report["suspensions"]
        if len(self._reports) > WARM_UP:
            self._compare(self._reports[WARM_UP - 1], report)

    def send_line(self, line: str) -> None:
        """Send a command that is not answered."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    async def kill(self) -> None:
        """Kill the process."""
        self.alive = False
        self._findings.kills += 1
        self._process.kill()
        await self._process.wait()
        await self._reading

    async def stop(self, seconds: float) -> None:
        """Stop the process for some seconds."""
        with contextlib.suppress(ProcessLookupError):  # it was killed meanwhile
            self._process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            self._process.send_signal(signal.SIGCONT)

    async def close(self) -> None:
        """Let the process close everything and exit."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(PATIENCE):
                code = await self._process.wait()
                await self._reading
        except TimeoutError:
            self._findings.blame("hang", f"{self.name} does not exit")
            await self.kill()
            return
        self.alive = False
        if code:
            self._findings.blame("died", f"{self.name} exited with {code}")

    async def _answer(self) -> dict[str, Any]:
        """Wait for its next report; return an empty one if there is none in time."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._answers.get()
        except TimeoutError:
            self._findings.blame("hang", f"{self.name} does not answer")
            return {}

    async def _read_reports(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            report = json.loads(line)
            if "broken" in report:
                self._findings.blame(report["broken"], f"{self.name}: {report['text']}")
            else:
                self._answers.put_nowait(report)
        if self.alive and await self._process.wait():
            self._findings.blame("died", f"{self.name} exited with {self._process.returncode}")
            self._answers.put_nowait({})

    def _compare(self, before: dict[str, int], now: dict[str, int]) -> None:
        grown = now["objects"] - before["objects"]
        if grown > MORE_OBJECTS:
            self._findings.blame("memory", f"{self.name} has {grown} more objects")
        grown = now["resident"] - before["resident"]
        if grown > MORE_RESIDENT:
            self._findings.blame("memory", f"{self.name} has {grown >> 20} MiB more memory")
