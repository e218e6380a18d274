"""The honest client, which must be served during an attack."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import tofu_aio as tofu
from tests.attacks.attacker import trusting

PATIENCE = 10.0
"""Seconds for a response, or to connect: the default of ``connect``."""

PAUSE = 0.02
"""Seconds between its requests."""

FEW = 3
"""Requests, and visits, that must succeed during the attack."""


class Honest:
    """Makes requests on one channel that stays open, and visits: short connections with a request.

    Args:
        address: the server's address.
        tls: whether to use TLS.

    Attributes:
        requests: how many were answered on the channel that stays open.
        visits: how many were accepted and answered.
        failed: the errors of the others.
        slowest: seconds that the slowest of them took.
    """

    def __init__(self, address: str, *, tls: bool) -> None:
        self._address = address
        self._options: dict[str, Any] = {"ssl": trusting() if tls else None, "timeout": PATIENCE}
        self.requests = self.visits = 0
        self.slowest = 0.0
        self.failed: list[str] = []

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Make one visit, so that the server has imported everything, then stay connected."""
        await self._visit()
        async with tofu.connect(self._address, **self._options) as self._channel:
            await self._ask(self._channel)
            yield

    async def run(self, stop: asyncio.Event) -> None:
        """Make requests and visits until ``stop``, and until a few succeeded or one failed."""
        await asyncio.gather(self._make_requests(stop), self._make_visits(stop))

    async def _make_requests(self, stop: asyncio.Event) -> None:
        while not self._is_over(stop, self.requests):
            with self._counting_failures("request"):
                await self._ask(self._channel)
                self.requests += 1
            await asyncio.sleep(PAUSE)

    async def _make_visits(self, stop: asyncio.Event) -> None:
        while not self._is_over(stop, self.visits):
            with self._counting_failures("visit"):
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
                self.failed.append(f"the response was {bytes(response.body)[:50]!r}")
