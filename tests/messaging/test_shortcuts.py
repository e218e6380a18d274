"""The simple cases: one channel, or one service."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import Future
from contextlib import aclosing
from functools import partial
from typing import Any

import anyio
import pytest

import tofu_aio as tofu
from tests.messaging.peers import connection_of, until
from tofu_aio import OpCode, State
from tofu_aio.messaging.limits import Limits


async def echo(channel: tofu.Channel) -> None:
    async for message in channel:
        with message:
            await channel.reply(message, message.body)


async def test_a_service_and_a_client(address: str) -> None:
    async with anyio.create_task_group() as tasks:
        where = await tasks.start(tofu.serve, echo, address)
        assert isinstance(where, tofu.TcpAddress | tofu.UdsAddress)
        async with tofu.connect(where, headers={"User": "Ada"}, body=b"hi") as channel:
            response = await channel.request(b"ping", timeout=20)
            assert response.body == b"ping"
        assert channel.state is State.CLOSED
        assert isinstance(channel.end, tofu.ChannelEnded)
        tasks.cancel_scope.cancel()


async def test_serving_without_being_started() -> None:
    seen: asyncio.Future[tofu.Channel] = asyncio.get_running_loop().create_future()

    async def handler(channel: tofu.Channel) -> None:
        seen.set_result(channel)
        await channel.receive()

    with pytest.raises(tofu.InvalidAddress):
        await tofu.serve(handler, "nonsense")
    async with anyio.create_task_group() as tasks:
        where = await tasks.start(tofu.serve, handler, "tcp://127.0.0.1:0")
        async with tofu.connect(where, headers={"User": "Ada"}, body=b"hi"):
            channel = await seen
            assert (channel.hello.headers["User"], channel.hello.body) == ("Ada", b"hi")
        tasks.cancel_scope.cancel()


async def test_a_service_that_cannot_start_says_why() -> None:
    async with anyio.create_task_group() as tasks:
        where = await tasks.start(tofu.serve, echo, "tcp://127.0.0.1:0")
        with pytest.raises(tofu.ListenFailed):
            await tofu.serve(echo, where)
        tasks.cancel_scope.cancel()


async def test_cancelling_a_service_closes_its_channels() -> None:
    serving = asyncio.Event()

    async def handler(channel: tofu.Channel) -> None:
        serving.set()
        await channel.receive()

    async with anyio.create_task_group() as tasks:
        where = await tasks.start(tofu.serve, handler, "tcp://127.0.0.1:0")
        async with tofu.connect(where) as channel:
            await serving.wait()
            tasks.cancel_scope.cancel()
            await until(lambda: channel.state is State.CLOSED)


async def test_what_is_raised_inside_leaves_nothing_open() -> None:
    async def fail(where: tofu.Address) -> None:
        async with tofu.connect(where):
            raise ZeroDivisionError

    async with anyio.create_task_group() as tasks:
        where = await tasks.start(tofu.serve, echo, "tcp://127.0.0.1:0")
        with pytest.raises(ZeroDivisionError):
            await fail(where)
        tasks.cancel_scope.cancel()


async def test_a_connect_that_fails() -> None:
    async def connect() -> None:
        async with tofu.connect("tcp://127.0.0.1:1", timeout=5):
            pass

    with pytest.raises(tofu.ConnectFailed):
        await connect()


async def test_the_pool_can_be_chosen() -> None:
    async def never_releases(channel: tofu.Channel) -> None:
        held = [await channel.receive() for _ in range(2)]
        await channel.signal(b"two")
        held.append(await channel.receive())

    async with anyio.create_task_group() as tasks:
        serve = lambda *, task_status: tofu.serve(  # noqa: E731
            never_releases, "tcp://127.0.0.1:0", pool_messages=2, task_status=task_status
        )
        where = await tasks.start(serve)
        async with tofu.connect(where, pool_messages=1) as channel:
            for _ in range(3):
                await channel.signal()
            assert (await channel.receive()).body == b"two"
            channel.abort()
        tasks.cancel_scope.cancel()


async def test_each_takes_the_limits_of_an_engine() -> None:
    limits: Any = {
        "pool_messages": 3,
        "pool_bytes": 400_000,
        "channel_share": 0.5,
        "write_high_water": 1000,
        "write_low_water": 10,
    }
    seen: list[tofu.Channel] = []

    async def handler(channel: tofu.Channel) -> None:
        seen.append(channel)
        await echo(channel)

    async with anyio.create_task_group() as tasks:
        where = await tasks.start(partial(tofu.serve, handler, "tcp://127.0.0.1:0", **limits))
        async with tofu.connect(where, **limits) as channel:
            seen.append(channel)
        async with aclosing(tofu.reconnecting(where, **limits)) as channels:
            seen.append(await anext(channels))
        tasks.cancel_scope.cancel()
    assert len(seen) == 4
    assert all(connection_of(channel).gate.limits == Limits(**limits) for channel in seen)


async def test_a_limit_that_makes_no_sense_is_told(address: str) -> None:
    with pytest.raises(ValueError, match="channel_share"):
        await tofu.connect(address, channel_share=2)
    with pytest.raises(ValueError, match="channel_share"):
        tofu.reconnecting(address, channel_share=2)
    with pytest.raises(ValueError, match="channel_share"):
        await tofu.serve(echo, address, channel_share=2)


async def test_a_service_on_the_loop_of_another_thread() -> None:
    """Two loops of a process have nothing in common but the source of message ids."""
    listening: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, tofu.Address]] = Future()

    async def serve() -> None:
        enough = asyncio.Event()
        async with anyio.create_task_group() as tasks:
            where = await tasks.start(tofu.serve, echo, "tcp://127.0.0.1:0")
            listening.set_result((asyncio.get_running_loop(), enough, where))
            await enough.wait()
            tasks.cancel_scope.cancel()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    loop, enough, where = await asyncio.wrap_future(listening)
    try:
        async with tofu.connect(where, pool_messages=2) as channel:
            for number in range(50):
                with await channel.request(b"%d" % number) as response:
                    assert response.body == b"%d" % number
    finally:
        loop.call_soon_threadsafe(enough.set)
        await asyncio.to_thread(thread.join)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has no eager tasks yet")
async def test_tasks_may_be_eager(transport_address: str) -> None:
    loop = asyncio.get_running_loop()
    if not isinstance(loop, asyncio.BaseEventLoop):
        pytest.skip("uvloop does not know them on every Python")
    factory = loop.get_task_factory()
    loop.set_task_factory(asyncio.eager_task_factory)
    try:
        async with tofu.Engine() as engine, engine.create_group() as group:
            header = tofu.parse_address(transport_address).to_header()
            group.post(tofu.Message(OpCode.WELCOME_REQUEST, headers={"~listen_on": header}))
            where = (await group.receive()).headers["~listen_on"]
            connecting = asyncio.create_task(group.connect(tofu.parse_address(where)))
            asked = await group.receive()
            answer = tofu.Message(OpCode.HELLO_RESPONSE)
            answer.channel_number = asked.channel_number
            group.post(answer)
            channel = await connecting
            request = asyncio.create_task(channel.request(b"?"))
            with await group.receive() as question:
                reply = tofu.Message(OpCode.RESPONSE, b"!", message_id=question.message_id)
                reply.channel_number = question.channel_number
                group.post(reply)
            assert (await request).body == b"!"
    finally:
        loop.set_task_factory(factory)
