"""A service in another thread, for tests of the blocking client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import pytest

import tofu_aio as tofu
from tests.blocking.conftest import PATIENCE, Beside
from tests.extras import WITHOUT_MSGSPEC
from tofu_aio.reactor import LoopFactory
from tofu_aio.testing import serving

pytest.importorskip("msgspec", reason=WITHOUT_MSGSPEC)


class Service(tofu.Service):
    """Handlers, and what has become of their calls.

    Attributes:
        waiting: released when a call of "wait" or "drip" has begun.
        cancelled: released when one was cancelled.
        failures: of the streams that "total" has received.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Semaphore(0)
        self.cancelled = threading.Semaphore(0)
        self.failures: list[BaseException] = []
        for function in (self.double, self.refuse, self.wait, self.count, self.drip):
            self.handler(function.__name__)(function)
        for function in (self.total, self.first, self.size, self.squares, self.left):
            self.handler(function.__name__)(function)

    async def double(self, number: int) -> int:
        return 2 * number

    async def refuse(self) -> None:
        raise tofu.ServiceError("no_way", "not today", {"until": 7})

    async def wait(self) -> None:
        try:
            self.waiting.release()
            await asyncio.Event().wait()
        finally:
            self.cancelled.release()

    async def count(self, number: int) -> AsyncIterator[int]:
        for each in range(number):
            yield each

    async def drip(self) -> AsyncIterator[int]:
        """One item, and no more."""
        try:
            yield 0
            self.waiting.release()
            await asyncio.Event().wait()
        finally:
            self.cancelled.release()

    async def total(self, numbers: AsyncIterator[int]) -> int:
        found = 0
        try:
            async for number in numbers:
                found += number
                self.waiting.release()
        except BaseException as error:
            self.failures.append(error)
            self.cancelled.release()
            raise
        return found

    async def first(self, parts: AsyncIterator[bytes]) -> bytes:
        async for part in parts:
            return part
        return b""

    async def size(self, parts: AsyncIterator[bytes]) -> int:
        return sum([len(part) async for part in parts])

    async def squares(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]:
        async for number in numbers:
            yield number**2

    async def left(self, call: tofu.Call) -> float | None:
        return call.remaining


def acquired(semaphore: threading.Semaphore) -> None:
    """Wait for a semaphore."""
    assert semaphore.acquire(timeout=PATIENCE)


@contextmanager
def served(
    service: tofu.Service, loop_factory: LoopFactory, *addresses: str | tofu.Address
) -> Iterator[tofu.Address]:
    """The address of a service that is served in another thread, on a loop of its own."""
    started = threading.Event()
    found: list[tofu.Address] = []
    ends: list[Callable[[], object]] = []

    async def serve() -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        ends.append(lambda: loop.call_soon_threadsafe(over.set))
        async with serving(service, *addresses) as bound:
            found.extend(bound)
            started.set()
            await over.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(serve())

    thread = Beside(run)
    assert started.wait(PATIENCE)
    try:
        yield found[0]
    finally:
        ends[0]()
        thread.result()
