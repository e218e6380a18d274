"""Engines and groups that are entered again, twice at a time, or in a loop that is not theirs."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

import tofu_aio as tofu
from tests.conftest import _LOOPS
from tests.messaging.peers import check_nothing_is_held


async def test_an_engine_that_was_left_may_be_entered_again(group: tofu.ChannelGroup) -> None:
    engine = tofu.Engine()
    for _ in range(2):
        async with engine, engine.create_group() as own:
            listener = await own.listen("tcp://127.0.0.1:0")
            accepting = asyncio.create_task(listener.accept())
            async with group.connect(listener.address), await accepting:
                pass


async def test_an_engine_is_not_entered_twice_at_a_time() -> None:
    engine = tofu.Engine()
    async with engine:
        with pytest.raises(RuntimeError, match="engine is entered already"):
            await engine.__aenter__()
        engine.create_group()


@pytest.fixture(scope="module", autouse=True)
def what_a_process_opens_once() -> None:
    """What libuv opens with its first loop, and keeps, is not left behind by a test."""
    for name in _LOOPS:
        tofu.loop_factory(name)().close()


class UncleanRun:
    """An engine, and what it had when its loop was closed without a word."""

    def __init__(self, loop_name: str) -> None:
        self.engine = tofu.Engine()
        self.make_loop = tofu.loop_factory(loop_name)
        self.run(self._use())

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=self.make_loop) as runner:
            return runner.run(coroutine)

    async def _use(self) -> None:
        await self.engine.__aenter__()
        self.group = self.engine.create_group()
        self.listener = await self.group.listen("tcp://127.0.0.1:0")
        self.address = self.listener.address
        accepting = asyncio.create_task(self.listener.accept())
        self.client = await self.group.connect(self.address)
        self.server = await accepting
        await self.client.signal(b"unread")

    def forget_what_it_had(self) -> None:
        for name in ("group", "listener", "client", "server"):
            vars(self).pop(name, None)


@pytest.fixture(params=_LOOPS)
def unclean(request: pytest.FixtureRequest) -> Iterator[UncleanRun]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of the sockets that were left open
        run = UncleanRun(request.param)
        yield run
        vars(run).clear()
        gc.collect()


def test_an_engine_whose_loop_was_closed_begins_anew(unclean: UncleanRun) -> None:
    async def use_again() -> None:
        async with unclean.engine as engine, engine.create_group() as group:
            assert engine.statistics().channels == 0
            listener = await group.listen(unclean.address)
            accepting = asyncio.create_task(listener.accept())
            async with group.connect(listener.address) as client, await accepting as server:
                await client.signal(b"hello")
                with await server.receive() as message:
                    assert message.body == b"hello"
        check_nothing_is_held(engine)

    unclean.forget_what_it_had()
    for _ in range(2):
        unclean.run(use_again())


def test_what_a_group_had_in_a_closed_loop_is_refused_in_another(unclean: UncleanRun) -> None:
    async def use_the_old_one() -> None:
        async with unclean.engine:
            with pytest.raises(tofu.ShutdownStarted, match="event loop was closed"):
                await unclean.group.listen("tcp://127.0.0.1:0")
            with pytest.raises(tofu.ShutdownStarted):
                await unclean.group.connect(unclean.address)
            with pytest.raises(tofu.ShutdownStarted):
                await unclean.group.__aenter__()
            await unclean.group.aclose()

    unclean.run(use_the_old_one())


def test_an_engine_of_a_loop_that_is_not_closed_stays_there() -> None:
    engine = tofu.Engine()

    async def enter() -> tofu.ChannelGroup:
        return (await engine.__aenter__()).create_group()

    async def use_elsewhere() -> None:
        with pytest.raises(RuntimeError, match="engine is entered already"):
            await engine.__aenter__()
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            await group.listen("tcp://127.0.0.1:0")

    loop = tofu.new_event_loop()
    group = loop.run_until_complete(enter())
    tofu.run(use_elsewhere())
    loop.run_until_complete(engine.aclose())
    loop.close()


async def test_a_closed_group_is_not_entered() -> None:
    async with tofu.Engine() as engine:
        group = engine.create_group()
        await group.aclose()
        with pytest.raises(tofu.ChannelClosed, match="the group was closed"):
            await group.__aenter__()
