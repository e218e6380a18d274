"""The blocking engine: entering, using and closing it."""

from __future__ import annotations

import socket

import pytest

import tofu_aio as tofu
from tests.blocking.conftest import POOL, Beside
from tests.blocking.helpers import echo_all, waits_in
from tofu_aio import OpCode, blocking
from tofu_aio.reactor import LoopFactory


def test_an_engine_is_entered_once(loop_factory: LoopFactory) -> None:
    engine = blocking.Engine(loop_factory=loop_factory)
    with (
        engine,
        pytest.raises(RuntimeError, match="entered before, and an engine can be entered only once"),
    ):
        engine.__enter__()
    with pytest.raises(RuntimeError, match="entered before"):
        engine.__enter__()


def test_an_engine_that_is_not_entered_says_so() -> None:
    with pytest.raises(tofu.ShutdownStarted, match="'with Engine"):
        blocking.Engine().create_group()
    with pytest.raises(ValueError, match="pool_messages is 0"):
        blocking.Engine(0)


def test_the_engine_may_be_used_by_many_threads_at_once(
    group: blocking.ChannelGroup, listener: blocking.Listener
) -> None:
    serving = Beside(lambda: echo_all(listener))
    with group.connect(listener.address) as channel:

        def ask(thread: int) -> None:
            for number in range(50):
                body = b"%d %d" % (thread, number)
                with channel.request(body) as response:
                    assert response.body == body

        asking = [Beside(lambda thread=thread: ask(thread)) for thread in range(8)]
        for thread in asking:
            thread.result()
    listener.close()
    serving.result()


def test_messages_of_the_pool(engine: blocking.Engine) -> None:
    assert engine.get().op_code is OpCode.REQUEST
    held = [engine.get(tofu.Allocation.POOL_ONLY, OpCode.SIGNAL) for _ in range(POOL)]
    assert engine.get(tofu.Allocation.POOL_ONLY) is None
    assert engine.statistics().pool_free == 0
    engine.put(held[0])
    assert engine.statistics().pool_free == 1


def test_closing_the_engine_ends_calls_that_wait(loop_factory: LoopFactory) -> None:
    with blocking.Engine(loop_factory=loop_factory) as engine:
        group, other = engine.create_group(), engine.create_group()
        listener = group.listen("tcp://127.0.0.1:0")
        accepting = Beside(listener.accept)
        client = other.connect(listener.address)
        server = accepting.result()
        assert isinstance(server, blocking.Channel)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            nobody = tofu.TcpAddress("127.0.0.1", silent.getsockname()[1])
            waiting = [
                Beside(call)
                for call in (
                    client.receive,
                    client.request,
                    group.receive,
                    listener.accept,
                    lambda: other.connect(nobody),
                )
            ]
            waits_in(engine, len(waiting))
            Beside(engine.close).result()
        for thread in waiting:
            with pytest.raises(tofu.TofuError) as caught:
                thread.result()
            assert isinstance(
                caught.value, tofu.ChannelClosed | tofu.ShutdownStarted | tofu.PeerDisconnected
            )
    for call in (
        engine.create_group,
        group.receive,
        server.receive,
        client.request,
        listener.accept,
        client.statistics,
    ):
        with pytest.raises(tofu.ShutdownStarted, match="the engine was closed"):
            call()
    with pytest.raises(tofu.ShutdownStarted, match="not running: use it inside 'with Engine"):
        blocking.Engine().create_group()
    with pytest.raises(tofu.ChannelClosed):
        group.post(tofu.Message(OpCode.SIGNAL))
    for thing in (server, client, listener, group, engine):
        thing.close()
    client.abort()
    assert list(listener) == []


def test_engines_close_once_however_many_threads_ask(loop_factory: LoopFactory) -> None:
    engine = blocking.Engine(loop_factory=loop_factory)
    engine.close()  # before it was entered
    with engine:
        closing = [Beside(engine.close) for _ in range(4)]
        for thread in closing:
            thread.result()
        engine.close()
    with pytest.raises(RuntimeError, match="once"):
        engine.__enter__()
