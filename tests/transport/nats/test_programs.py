"""Whole programs over NATS: services, topics, threads, the command, and forks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import tofu_aio as tofu
from tests.cli.conftest import start, tofu_run
from tests.cli.processes import Run, Start
from tests.extras import needs_msgspec
from tests.messaging.peers import until
from tests.transport.nats.brokers import Broker, handled, missing
from tofu_aio import blocking

nats = pytest.importorskip("nats", reason=str(missing()))

__all__ = ["start", "tofu_run"]


@contextlib.asynccontextmanager
async def serving(service: tofu.Service, address: str) -> AsyncIterator[None]:
    """A service that runs while the block does."""
    async with anyio.create_task_group() as tasks:
        await tasks.start(service.serve, address)
        yield
        tasks.cancel_scope.cancel()


def calculator() -> tofu.Service:
    """A service with each kind of handler."""
    service = tofu.Service()

    @service.handler("double")
    async def double(number: int) -> int:
        return 2 * number

    @service.handler("count")
    async def count(to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    @service.handler("add")
    async def add(parts: AsyncIterator[bytes]) -> int:
        return sum([len(part) async for part in parts])

    return service


@needs_msgspec
async def test_calls_streams_and_uploads(broker: Broker) -> None:
    url = broker.url("calculator")
    async with serving(calculator(), url), tofu.Client(url) as client:
        calls = [client.call("double", number, result=int) for number in range(200)]
        assert await asyncio.gather(*calls) == [2 * number for number in range(200)]
        counted = client.stream("count", 1000, item=int)
        assert [number async for number in counted] == list(range(1000))

        async def parts() -> AsyncIterator[bytes]:
            for _ in range(50):
                yield bytes(50_000)

        assert await client.upload("add", parts(), result=int) == 2_500_000


@needs_msgspec
async def test_a_topic(broker: Broker) -> None:
    topic = tofu.Topic()
    service = tofu.Service()
    service.topic("news", topic)
    url = broker.url("news")
    async with serving(service, url), tofu.Client(url) as client:
        got: list[int] = []

        async def subscribe() -> None:
            async with contextlib.aclosing(client.subscribe("news", item=int)) as news:
                async for event in news:
                    got.append(event.value)
                    if event.value == 99:
                        return

        subscribed = [asyncio.create_task(subscribe()) for _ in range(3)]
        await until(lambda: topic.statistics().subscribers == 3)
        for number in range(100):
            topic.publish(number)
        await asyncio.gather(*subscribed)
        assert sorted(got) == sorted(list(range(100)) * 3)


async def test_reconnecting_over_a_listener_that_goes(
    group: tofu.ChannelGroup, broker: Broker
) -> None:
    url = broker.url("goes")
    turns = 0

    async def serve() -> None:
        """Three listeners, each of which takes one channel, and drops it."""
        for _ in range(3):
            async with await group.listen(url) as listener:
                channel = await listener.accept()
            (await channel.receive()).release()
            channel.abort()

    serving = asyncio.create_task(serve())
    async for channel in group.reconnecting(url, backoff=tofu.Backoff(0.01, 0.02)):
        turns += 1
        await channel.signal(b"x")
        with pytest.raises(tofu.PeerDisconnected):
            await channel.receive()
        if turns == 3:
            break
    await serving


async def test_posted_messages(group: tofu.ChannelGroup, broker: Broker) -> None:
    where = tofu.parse_address(broker.url("posted")).to_header()
    group.post(tofu.Message(tofu.OpCode.WELCOME_REQUEST, headers={tofu.LISTEN_ON: where}))
    welcome = await group.receive()
    assert welcome.status is tofu.Status.SUCCESS
    assert welcome.headers[tofu.LISTEN_ON] == where
    group.post(tofu.Message(tofu.OpCode.HELLO_REQUEST, headers={tofu.CONNECT_TO: where}))
    hello = await group.receive()
    assert hello.op_code is tofu.OpCode.HELLO_REQUEST
    answer = tofu.Message(tofu.OpCode.HELLO_RESPONSE, message_id=hello.message_id)
    answer.channel_number = hello.channel_number
    group.post(answer)
    assert (await group.receive()).op_code is tofu.OpCode.HELLO_RESPONSE
    nowhere = where.replace("posted", "nobody")
    group.post(tofu.Message(tofu.OpCode.HELLO_REQUEST, headers={tofu.CONNECT_TO: nowhere}))
    failed = await group.receive()
    assert failed.status is tofu.Status.CONNECT_FAILED


def test_threads(broker: Broker) -> None:
    url = broker.url("threads")
    with blocking.Engine() as engine, engine.create_group() as group:
        listener = group.listen(url)

        def echo() -> None:
            with listener.accept() as server:
                for message in server:
                    server.reply(message, message.body)

        serving = threading.Thread(target=echo)
        serving.start()
        with group.connect(url) as client:
            assert client.request(b"x").body == b"x"
        serving.join()


def test_the_command(broker: Broker, start: Start) -> None:
    url = broker.url("command")
    server = start("serve", url)
    assert server.listening() == url
    ended = start("ping", "-c", "3", "-i", "0", url).finish()
    assert (ended.code, ended.err) == (0, "")
    assert f"{url}: 3 sent, 3 answered, 0% lost" in ended.out
    refused = start("ping", "-c", "1", broker.url("nobody")).finish()
    assert refused.code == 1
    assert "nobody listens on" in refused.err
    wrong = start("ping", f"nats://u:secret@127.0.0.1:{broker.port}/x y").finish()
    assert wrong.code == 2
    assert "secret" not in wrong.err


def test_decode_reads_what_travels(broker: Broker, tofu_run: Run, tmp_path: Path) -> None:
    """Payloads are nothing but frames. Here a stranger listens to all that a listener receives."""
    url = broker.url("overheard")
    heard: list[bytes] = []

    async def talk() -> None:
        stranger = await nats.connect(f"nats://127.0.0.1:{broker.port}")

        async def hear(message: Any) -> None:
            heard.append(message.data)

        async with tofu.Engine() as engine, engine.create_group() as group:
            listener = await group.listen(url)
            client, server = await asyncio.gather(group.connect(url), listener.accept())
            assert isinstance(server.peer.address, tofu.NatsAddress)
            await stranger.subscribe(server.peer.address.service, cb=hear)
            await handled(stranger)
            await server.signal(b"to be overheard", headers={"Name": "value"})
            await server.send(tofu.Message(tofu.OpCode.SIGNAL, bytes(60_000)))
            for _ in range(2):
                (await client.receive()).release()
            await asyncio.gather(client.aclose(), server.aclose())
        await stranger.close()

    asyncio.run(talk())
    captured = tmp_path / "captured"
    captured.write_bytes(b"".join(heard))
    ended = tofu_run("decode", captured)
    assert ended.code == 0, ended
    assert "Name" in ended.out
    assert "to be overheard" in ended.out


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")
@pytest.mark.parametrize("loop", ["reactor", "asyncio"])
def test_a_child_leaves_the_connection_to_its_parent(broker: Broker, loop: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.transport.nats.forked", broker.url("forked"), loop],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")
@pytest.mark.parametrize("loop", ["reactor", "asyncio"])
@pytest.mark.parametrize("said", range(4))
def test_a_child_keeps_no_connection_that_its_parent_is_making(loop: str, said: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.transport.nats.forked_early", str(said), loop],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr
