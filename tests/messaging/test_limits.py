"""Limits and deadlines: peers that stall cost what they may, for as long as they may."""

from __future__ import annotations

import asyncio
import logging
import math

import anyio
import pytest

import tofu_aio as tofu
from tests.messaging.peers import (
    RawPeer,
    connection_of,
    frame,
    hello,
    settled,
    turns,
    until,
)
from tofu_aio import Message, OpCode, State
from tofu_aio.messaging import acceptor as acceptor_module

# --- a maximum of channels -------------------------------------------------------------------


async def pair_of(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> tuple[tofu.Channel, tofu.Channel]:
    return await asyncio.gather(group.connect(listener.address), listener.accept())


def waiting(listener: tofu.Listener) -> int:
    assert listener._acceptor is not None
    return len(listener._acceptor._waiting)


@pytest.mark.parametrize("ending", ["close", "abort", "lost"])
async def test_beyond_the_maximum_a_connection_waits_until_a_channel_closes(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str, ending: str
) -> None:
    async with await group.listen(transport_address, max_channels=2) as listener:
        first = await pair_of(group, listener)
        second = await pair_of(group, listener)
        third = asyncio.create_task(pair_of(group, listener))
        await until(lambda: waiting(listener) == 1)
        await turns(20)
        assert not third.done()
        assert engine.statistics().channels == 6, "the listener, two pairs, and one who waits"
        with await settled_request(*second) as response:
            assert response.body == b"as ever"
        if ending == "close":
            await asyncio.gather(*(end.aclose() for end in first))
        elif ending == "abort":
            first[1].abort()
        else:
            first[0].abort()
        await third
        for channel in (*first, *second, *third.result()):
            channel.abort()


async def settled_request(client: tofu.Channel, server: tofu.Channel) -> Message:
    asking = asyncio.create_task(client.request(b"as ever"))
    with await server.receive() as message:
        await server.reply(message, message.body)
    return await asking


async def test_they_are_served_in_order_of_arrival(group: tofu.ChannelGroup) -> None:
    async with await group.listen("tcp://127.0.0.1:0", max_channels=1) as listener:
        crowd = []
        for number in range(5):
            peer = await RawPeer.connect(listener.address)
            await peer.send(hello(message_id=number + 1))
            await until(lambda number=number: waiting(listener) == number)  # type: ignore[misc]
            crowd.append(peer)
        for number in range(5):
            channel = await listener.accept()
            assert channel.hello.message_id == number + 1
            channel.abort()
        for peer in crowd:
            peer.close()


async def test_the_maximum_is_of_each_listener(group: tofu.ChannelGroup) -> None:
    async with (
        await group.listen("tcp://127.0.0.1:0", max_channels=1) as one,
        await group.listen("tcp://127.0.0.1:0", max_channels=1) as other,
    ):
        for channel in (*await pair_of(group, one), *await pair_of(group, other)):
            channel.abort()


async def test_who_says_nothing_takes_a_place_for_a_bounded_time(
    group: tofu.ChannelGroup,
) -> None:
    async with await group.listen(
        "tcp://127.0.0.1:0", max_channels=2, hello_timeout=0.03
    ) as listener:
        silent = await RawPeer.connect(listener.address)
        half = await RawPeer.connect(listener.address)
        await half.send(hello()[:20])
        await until(lambda: len(listener._acceptor._introducing) == 2)  # type: ignore[union-attr]
        for channel in await pair_of(group, listener):
            channel.abort()
        for peer in (silent, half):
            assert await peer.end() == b""
            peer.close()


async def test_who_leaves_while_it_waits_is_passed_over(group: tofu.ChannelGroup) -> None:
    async with await group.listen("tcp://127.0.0.1:0", max_channels=1) as listener:
        first = await pair_of(group, listener)
        crowd = [await RawPeer.connect(listener.address) for _ in range(3)]
        await until(lambda: waiting(listener) == 3)
        last = asyncio.create_task(pair_of(group, listener))
        await until(lambda: waiting(listener) == 4)
        for peer in crowd:
            peer.close()
        await asyncio.gather(*(end.aclose() for end in first))
        for channel in await last:
            channel.abort()


async def test_more_than_may_wait_are_refused(
    group: tofu.ChannelGroup,
    engine: tofu.Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(acceptor_module, "WAITING_CONNECTIONS", 2)
    async with await group.listen("tcp://127.0.0.1:0", max_channels=1) as listener:
        first = await pair_of(group, listener)
        crowd = [await RawPeer.connect(listener.address) for _ in range(2)]
        await until(lambda: waiting(listener) == 2)
        with pytest.raises(tofu.ConnectFailed, match="did not accept the channel"):
            await group.connect(listener.address)
        assert "a connection was refused: 2 wait already" in caplog.text
        for peer in crowd:
            peer.close()
        await asyncio.gather(*(end.aclose() for end in first))
        for channel in await pair_of(group, listener):
            channel.abort()


@pytest.mark.parametrize("how", ["listener", "group"])
async def test_who_waits_is_dropped_with_the_listener_and_the_channels_live(
    engine: tofu.Engine, group: tofu.ChannelGroup, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with engine.create_group() as serving:
        listener = await serving.listen("tcp://127.0.0.1:0", max_channels=1)
        client, server = await pair_of(group, listener)
        with await RawPeer.connect(listener.address) as peer:
            await until(lambda: waiting(listener) == 1)
            if how == "listener":
                await listener.aclose()
                with await settled_request(client, server) as response:
                    assert response.body == b"as ever"
                await asyncio.gather(client.aclose(), server.aclose())
            else:
                closing = asyncio.create_task(serving.aclose())
                await client.aclose()
                await closing
            assert await peer.end() == b""
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


async def test_a_service_has_the_same_limits() -> None:
    async def stay(channel: tofu.Channel) -> None:
        async for message in channel:
            message.release()

    async def serve(*, task_status: anyio.abc.TaskStatus[tofu.Address]) -> None:
        await tofu.serve(
            stay,
            "tcp://127.0.0.1:0",
            max_channels=1,
            hello_timeout=0.2,
            heartbeat=3600.0,
            task_status=task_status,
        )

    async with anyio.create_task_group() as tasks:
        where = await tasks.start(serve)
        with await RawPeer.connect(where) as silent:
            await silent.end()
        async with tofu.connect(where, heartbeat=1800.0) as channel:
            assert channel.hello.headers["~heartbeat"] == "3600000"
            with pytest.raises(tofu.ConnectFailed, match=r"within 0\.05 s"):
                async with tofu.connect(where, timeout=0.05):
                    pass
        async with tofu.connect(where):
            pass
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("max_channels", [0, -1])
async def test_a_listener_that_could_accept_nobody_is_refused(
    group: tofu.ChannelGroup, max_channels: int
) -> None:
    with pytest.raises(ValueError, match=r"max_channels is .*: give 1 or more"):
        await group.listen("tcp://127.0.0.1:0", max_channels=max_channels)


# --- deadlines -------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-1, -0.001, math.nan])
async def test_a_deadline_that_cannot_be_is_refused(
    group: tofu.ChannelGroup, engine: tofu.Engine, seconds: float
) -> None:
    with pytest.raises(ValueError, match=r"hello_timeout is .* give 0 or more seconds"):
        await group.listen("tcp://127.0.0.1:0", hello_timeout=seconds)
    assert engine.statistics().channels == 0
    async with await group.listen("tcp://127.0.0.1:0") as listener:
        client, server = await pair_of(group, listener)
    with pytest.raises(ValueError, match=r"timeout is .* give 0 or more seconds"):
        await client.aclose(seconds)
    assert client.state is State.OPEN, "nothing is half-done"
    await asyncio.gather(client.aclose(), server.aclose())


async def answers_no_bye(peer: RawPeer, channel: tofu.Channel) -> None:
    """It takes the Bye and says nothing."""


async def goes_on_talking(peer: RawPeer, channel: tofu.Channel) -> None:
    for number in range(50):
        await peer.send(frame(body=bytes(1000), message_id=number + 1))


async def never_reads(peer: RawPeer, channel: tofu.Channel) -> None:
    while not connection_of(channel).write_paused:
        channel.post(Message(OpCode.SIGNAL, bytes(60000)))
        await turns(2)


async def answers_half_a_bye(peer: RawPeer, channel: tofu.Channel) -> None:
    await peer.send(frame(OpCode.BYE_RESPONSE)[:9])


STALLS = [answers_no_bye, goes_on_talking, never_reads, answers_half_a_bye]


@pytest.mark.parametrize("stall", STALLS, ids=lambda stall: stall.__name__)
async def test_closing_takes_as_long_as_it_is_told_whatever_the_peer_does(
    group: tofu.ChannelGroup, listener: tofu.Listener, stall: object
) -> None:
    peer, channel = await asyncio.gather(RawPeer.introduced(listener.address), listener.accept())
    with peer:
        await stall(peer, channel)  # type: ignore[operator]
        await settled(channel)
        await channel.aclose(timeout=0.03)
        assert channel.state is State.CLOSED
        assert connection_of(channel).done.done()
        assert isinstance(channel.end, tofu.ChannelClosed)
        assert "the peer did not answer Bye within 0.03 s" in str(channel.end)


async def test_to_give_no_time_says_bye_and_resets(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    peer, channel = await asyncio.gather(RawPeer.introduced(listener.address), listener.accept())
    with peer:
        await channel.aclose(0)
        assert channel.state is State.CLOSED


async def test_the_shortest_deadline_of_two_counts(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    peer, channel = await asyncio.gather(RawPeer.introduced(listener.address), listener.accept())
    with peer:
        patient = asyncio.create_task(channel.aclose(timeout=1000))
        await turns(2)
        await channel.aclose(timeout=0.03)
        await patient
        assert "within 0.03 s" in str(channel.end)


async def test_a_patient_close_waits_for_the_peer(
    group: tofu.ChannelGroup, listener: tofu.Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tofu_aio.messaging import connection

    monkeypatch.setattr(connection, "BYE_TIMEOUT", 0.0)  # which is for those who say nothing else
    peer, channel = await asyncio.gather(RawPeer.introduced(listener.address), listener.accept())
    with peer:
        closing = asyncio.create_task(channel.aclose(timeout=1000))
        bye = await peer.message()
        await turns(20)
        assert not closing.done()
        await peer.send(frame(OpCode.BYE_RESPONSE, message_id=bye.message_id))
        await peer.end()
        await closing
    assert isinstance(channel.end, tofu.ChannelEnded)
