"""The thread that runs the loop, when something fails or hangs in it."""

from __future__ import annotations

import asyncio
import threading
import time
from contextvars import ContextVar
from functools import partial

import pytest

import tofu_aio as tofu
from tests.blocking.conftest import PATIENCE, Beside
from tests.blocking.helpers import Pair, waits_in
from tofu_aio import blocking
from tofu_aio.reactor import LoopFactory


def test_an_error_of_the_loop_factory_is_raised() -> None:
    def broken() -> asyncio.AbstractEventLoop:
        raise OSError("no descriptor to spare")

    with (
        pytest.raises(OSError, match="no descriptor to spare"),
        blocking.Engine(loop_factory=broken),
    ):
        pass


def test_a_loop_that_fails_ends_calls_that_wait(loop_factory: LoopFactory) -> None:
    def broken() -> None:
        raise SystemExit("the loop's own end")

    engine = blocking.Engine(loop_factory=loop_factory)
    engine.__enter__()
    group = engine.create_group()
    receiving = Beside(group.receive)
    waits_in(engine)
    engine._thread.call_soon(broken)
    with pytest.raises((tofu.ShutdownStarted, tofu.ChannelClosed), match="closed"):
        receiving.result()
    with pytest.raises(SystemExit, match="the loop's own end"):
        engine.close()
    engine.close()


def test_closing_does_not_wait_for_a_name_server(
    loop_factory: LoopFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name server does not answer."""

    async def never(_: object) -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr("tofu_aio.transport.tcp._resolve", never)
    with blocking.Engine(loop_factory=loop_factory) as engine:
        group = engine.create_group()
        listening = Beside(lambda: group.listen("tcp://localhost:0"))
        waits_in(engine)
    with pytest.raises((tofu.ShutdownStarted, tofu.ChannelClosed), match="closed"):
        listening.result()


def test_calls_in_the_thread_of_an_event_loop_are_refused(
    engine: blocking.Engine, pair: Pair
) -> None:
    client, _ = pair

    async def main() -> None:
        for call in (client.receive, client.close, engine.close, engine.create_group):
            with pytest.raises(RuntimeError, match="use tofu_aio's async API here"):
                call()
        with pytest.raises(RuntimeError, match="use tofu_aio's async API here"):
            blocking.connect("tcp://127.0.0.1:1")

    asyncio.run(main())
    client.signal(b"goes on")


def test_each_call_has_the_context_of_its_thread(engine: blocking.Engine) -> None:
    """Even if the loop begins the calls of several threads at once."""
    variable: ContextVar[int] = ContextVar("variable")
    thread, gate = engine._thread, threading.Event()
    thread.call_soon(lambda: gate.wait(PATIENCE))

    def ask(number: int) -> int:
        variable.set(number)
        return thread.call(variable.get)

    asking = [Beside(partial(ask, number)) for number in range(5)]
    ends = time.monotonic() + PATIENCE
    while len(thread._calls.made) < 5:
        assert time.monotonic() < ends
    gate.set()
    assert [each.result() for each in asking] == [0, 1, 2, 3, 4]
