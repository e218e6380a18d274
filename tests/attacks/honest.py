"""The honest client, which wants to be served whatever others do."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import tofu_aio as tofu
from tests.attacks.attacker import trusting

PATIENCE = 10.0
"""Seconds for an answer, or to get in, which ``connect`` takes unless it is told otherwise."""

PAUSE = 0.02
"""Seconds between its requests."""

FEW = 3
"""Requests, and visits, that have to end well while the attack goes on."""


class Honest:
    """One channel that stays, and visits that come and go.

    Args:
        address: of the server.
        tls: whether to speak it.

    Attributes:
        requests: that were answered on the channel that stays.
        visits: that were let in and had their request answered.
        failed: why others were not.
        slowest: seconds that the slowest of them took.
    """

    def __init__(self, address: str, *, tls: bool) -> None:
        self._address = address
        self._options: dict[str, Any] = {"ssl": trusting() if tls else None, "timeout": PATIENCE}
        self.requests = self.visits = 0
        self.slowest = 0.0
        self.failed: list[str] = []

    @contextlib.asynccontextmanager
    async def here(self) -> AsyncIterator[None]:
        """Connected, with a counted behind it: what is loaded with the first of them is loaded."""
        await self._visit()
        async with tofu.connect(self._address, **self._options) as self._channel:
            await self._ask(self._channel)
            yield

    async def run_wake_ups(self, stop: asyncio.Event) -> None:
        """Ask and counted until that, and until there was enough of it, or something failed."""
        await asyncio.gather(self._stay(stop), self._come(stop))

    async def _stay(self, stop: asyncio.Event) -> None:
        while not self._is_over(stop, self.requests):
            with self._counting_failures("request"):
                await self._ask(self._channel)
                self.requests += 1
            await asyncio.sleep(PAUSE)

    async def _come(self, stop: asyncio.Event) -> None:
        while not self._is_over(stop, self.visits):
            with self._counting_failures("counted"):
                await self._visit()
                self.visits += 1
            await asyncio.sleep(PAUSE)

    def _is_over(self, stop: asyncio.Event, done: int) -> bool:
        return stop.is_set() and (done >= FEW or bool(self.failed))

    @contextlib.contextmanager
    def _counting_failures(self, what: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
            self.slowest = max(self.slowest, time.monotonic() - begun)
        except (tofu.TofuError, TimeoutError) as error:
            self.failed.append(f"{what}: {error!r:.200}")

    async def _visit(self) -> None:
        async with tofu.connect(self._address, **self._options) as channel:
            await self._ask(channel)

    async def _ask(self, channel: tofu.Channel) -> None:
        body = b"honest" * 100
        with await channel.request(body, timeout=PATIENCE) as response:
            if response.body != body:
                self.failed.append(f"the answer was {bytes(response.body)[:50]!r}")
