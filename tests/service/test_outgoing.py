"""The hooks of a client: around each call, and around each channel."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

import tofu_aio as tofu
from tests.messaging.peers import until
from tests.service.observed import images, served


class Seen:
    """A hook that notes each call, and adds a header to it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.ends: list[str] = []

    @contextmanager
    def around(self, call: tofu.OutgoingCall) -> Iterator[None]:
        self.calls.append((call.kind, call.name))
        call.headers["token"] = f"secret {len(self.calls)}"
        try:
            yield
        except BaseException as error:
            self.ends.append(type(error).__name__)
            raise
        self.ends.append("ok")


async def test_a_hook_surrounds_each_call_and_adds_headers() -> None:
    service, seen, tokens = images(), Seen(), list[str]()

    @service.use
    async def note(call: tofu.Call, following: object) -> object:
        tokens.append(call.headers["token"])
        assert call.headers["own"] == "1"
        return await following(call)  # type: ignore[operator, no-any-return]

    own = {"own": "1"}
    async with served(service) as address, tofu.Client(address, around_call=seen.around) as client:
        await client.call("double", 1, headers=own)
        assert [i async for i in client.stream("count", 1, item=int, headers=own)] == [0]
        await client.upload("total", [1], result=int, headers=own)
        with pytest.raises(tofu.ServiceError):
            await client.call("fail", "not_found", headers=own)
        stream = client.stream("count", 5, item=int, headers=own)
        await anext(stream)
        await stream.aclose()
    assert seen.calls == [
        ("call", "double"),
        ("stream", "count"),
        ("upload", "total"),
        ("call", "fail"),
        ("stream", "count"),
    ]
    assert seen.ends == ["ok", "ok", "ok", "ServiceError", "GeneratorExit"]
    assert tokens == [f"secret {number}" for number in range(1, 6)]


async def test_a_hook_knows_where_the_call_may_go() -> None:
    where: list[tuple[str, ...]] = []

    @contextmanager
    def around(call: tofu.OutgoingCall) -> Iterator[None]:
        where.append(call.addresses)
        yield

    async with served(images()) as address, tofu.Client(address, around_call=around) as client:
        await client.call("double", 1)
    assert where == [(str(address),)]


async def test_a_hook_that_fails_fails_its_call_only() -> None:
    @contextmanager
    def around(call: tofu.OutgoingCall) -> Iterator[None]:
        if call.name == "fail":
            raise LookupError("no token")
        yield

    async with served(images()) as address, tofu.Client(address, around_call=around) as client:
        with pytest.raises(LookupError, match="no token"):
            await client.call("fail", "x")
        assert await client.call("double", 1) == 2
        assert client.counts.running == 0


class Channels:
    """A hook that notes which channels are open."""

    def __init__(self) -> None:
        self.open: set[int] = set()
        self.all = 0

    @contextmanager
    def around(self, channel: tofu.Channel) -> Iterator[None]:
        assert channel.state is tofu.State.OPEN
        self.open.add(channel.number)
        self.all += 1
        yield
        assert channel.end is not None
        self.open.remove(channel.number)


async def test_a_hook_surrounds_each_channel() -> None:
    channels = Channels()
    async with (
        served(images()) as address,
        tofu.Client(address, around_channel=channels.around) as client,
    ):
        assert not channels.open
        await client.call("double", 1)
        await client.call("double", 1)
        assert (len(channels.open), channels.all) == (1, 1)
        async for _ in client.stream("count", 1, item=int):
            assert len(channels.open) == 2
    assert (len(channels.open), channels.all) == (0, 2)


async def test_a_hook_is_left_when_the_peer_closes_the_channel(
    group: tofu.ChannelGroup,
) -> None:
    channels = Channels()
    listener = await group.listen("tcp://127.0.0.1:0")
    async with (
        listener,
        tofu.Client(listener.address, around_channel=channels.around) as client,
    ):
        calling = asyncio.create_task(client.call("double", 1))
        async with await listener.accept() as channel:
            (await channel.receive()).release()
            assert len(channels.open) == 1
            channel.abort()
        with pytest.raises(tofu.PeerDisconnected):
            await calling
        await until(lambda: not channels.open)


async def test_a_channel_hook_that_fails_closes_the_channel() -> None:
    @contextmanager
    def around(_: tofu.Channel) -> Iterator[None]:
        raise LookupError("not now")
        yield

    async with served(images()) as address, tofu.Client(address, around_channel=around) as client:
        with pytest.raises(LookupError, match="not now"):
            await client.call("double", 1)
        with pytest.raises(LookupError, match="not now"):
            await anext(client.stream("count", 1, item=int))
        assert client.engine is not None
        await until(lambda: client.engine.statistics().channels == 0)


async def test_a_channel_hook_that_fails_at_the_end_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @contextmanager
    def around(_: tofu.Channel) -> Iterator[None]:
        yield
        raise LookupError("too late")

    async with served(images()) as address, tofu.Client(address, around_channel=around) as client:
        await client.call("double", 1)
    record = next(r for r in caplog.records if r.levelno == logging.ERROR)
    assert "around_channel failed" in record.getMessage()
    assert "too late" in str(record.exc_info)


class Session:
    """What a channel has."""


async def test_a_resource_of_a_channel_opens_and_closes_with_it() -> None:
    service, events = images(), list[str]()

    @service.resource("channel")
    @asynccontextmanager
    async def session(channel: tofu.Channel) -> AsyncIterator[Session]:
        events.append(f"open {channel.state.name}")
        yield Session()
        events.append("closed")

    async with served(service) as address:
        async with tofu.Client(address) as client:
            await client.call("double", 1)
            await client.call("double", 1)
            assert events == ["open OPEN"]
        await until(lambda: events == ["open OPEN", "closed"])
