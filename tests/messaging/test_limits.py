"""Limits and deadlines: peers that stall cost what they may, for as long as they may."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import sys

import anyio
import pytest

import tofu_aio as tofu
from tests.messaging.accepting.test_admission import SOON
from tests.messaging.certificates import client_context, server_context
from tests.messaging.peers import (
    ENOUGH,
    LARGE_HELLO,
    PATIENCE,
    RawPeer,
    admission_of,
    connection_of,
    frame,
    hello,
    settled,
    turns,
    until,
)
from tofu_aio import Message, OpCode, State, rare_warnings
from tofu_aio.messaging.accepting import admission as admission_module
from tofu_aio.messaging.limits import EARLY_BYTES
from tofu_aio.transport import socket_acceptor

# --- a maximum of channels -------------------------------------------------------------------


async def pair_of(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> tuple[tofu.Channel, tofu.Channel]:
    return await asyncio.gather(group.connect(listener.address), listener.accept())


def waiting(listener: tofu.Listener) -> int:
    """How many have sent something, and wait for a channel to close."""
    return len(admission_of(listener)._waiting)


def silent(listener: tofu.Listener) -> int:
    return len(admission_of(listener)._silent)


async def knock(listener: tofu.Listener, number: int = 1) -> RawPeer:
    """One that has sent a Hello and has to wait for a channel to close."""
    before = waiting(listener)
    peer = await RawPeer.connect(listener.address)
    await peer.send(hello(message_id=number))
    await until(lambda: waiting(listener) == before + 1)
    return peer


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
        assert engine.statistics().channels == 6, "the listener, two pairs, and one that connects"
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
        first = await pair_of(group, listener)
        crowd = [await knock(listener, number) for number in range(1, 6)]
        first[0].abort()
        for number in range(1, 6):
            channel = await listener.accept()
            assert channel.hello.message_id == number
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


async def test_who_says_nothing_takes_no_place(
    group: tofu.ChannelGroup, transport_address: str
) -> None:
    async with await group.listen(
        transport_address, max_channels=1, hello_timeout=1000
    ) as listener:
        crowd = [await RawPeer.connect(listener.address) for _ in range(3)]
        await until(lambda: silent(listener) == 3)
        for channel in await pair_of(group, listener):
            channel.abort()
        for peer in crowd:
            peer.close()
        await until(lambda: silent(listener) == 0)


async def test_who_says_half_a_hello_takes_a_place_for_a_bounded_time(
    group: tofu.ChannelGroup,
) -> None:
    async with await group.listen(
        "tcp://127.0.0.1:0", max_channels=1, hello_timeout=SOON
    ) as listener:
        with await RawPeer.connect(listener.address) as half:
            await half.send(LARGE_HELLO[:ENOUGH])
            await until(lambda: admission_of(listener)._handshaking)
            for channel in await pair_of(group, listener):
                channel.abort()
            assert await half.end() == b""


@pytest.mark.parametrize("knocks", ["before", "after"])
async def test_who_is_slow_gives_way_to_who_knocks(
    group: tofu.ChannelGroup,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    knocks: str,
) -> None:
    """No more of them than are needed, in order of arrival."""
    caplog.set_level(logging.INFO, "tofu_aio")
    monkeypatch.setattr(admission_module, "SLOW_HELLO", 0.0 if knocks == "after" else 0.05)
    async with await group.listen(
        "tcp://127.0.0.1:0", max_channels=2, hello_timeout=1000
    ) as listener:
        admission = admission_of(listener)
        slow = [await RawPeer.connect(listener.address) for _ in range(2)]
        for count, peer in enumerate(slow, start=1):
            await peer.send(LARGE_HELLO[:ENOUGH])
            await until(lambda count=count: len(admission._handshaking) == count)  # type: ignore[misc]
        if knocks == "after":
            await until(lambda: len(admission._slow) == 2)
        client, server = await pair_of(group, listener)
        assert await slow[0].end() == b""
        assert "no Hello arrived within" in caplog.text
        assert "and other connections are waiting" in caplog.text
        await until(lambda: len(admission._slow) == 1)
        await slow[1].send(LARGE_HELLO[ENOUGH:])
        last = await listener.accept()
        for channel in (client, server, last):
            channel.abort()
        for peer in slow:
            peer.close()


@pytest.mark.parametrize("ending", ["close", "half close", "reset"])
@pytest.mark.parametrize("said", [hello(), frame(OpCode.HELLO_REQUEST, bytes(4000))])
async def test_who_leaves_while_it_waits_is_forgotten(
    group: tofu.ChannelGroup, transport_address: str, ending: str, said: bytes
) -> None:
    async with await group.listen(transport_address, max_channels=1) as listener:
        first = await pair_of(group, listener)
        crowd = [await RawPeer.connect(listener.address) for _ in range(3)]
        for peer in crowd:
            await peer.send(said)
        await until(lambda: waiting(listener) == 3)
        last = asyncio.create_task(pair_of(group, listener))
        await until(lambda: waiting(listener) == 4)
        for peer in crowd:
            if ending == "reset":
                await peer.reset()
            elif ending == "half close":
                peer.half_close()
            else:
                peer.close()
        await until(lambda: waiting(listener) == 1)
        await asyncio.gather(*(end.aclose() for end in first))
        for channel in await last:
            channel.abort()
        for peer in crowd:
            peer.close()


PROACTOR: tuple[type, ...] = (asyncio.ProactorEventLoop,) if sys.platform == "win32" else ()
CHUNK = 65536
"""Bytes that the proactor's transport reads at a time, and delivers even while paused."""


async def test_of_who_waits_no_more_is_read_than_a_little(
    group: tofu.ChannelGroup, transport_address: str
) -> None:
    """The rest of a large Hello stays in the kernel, and is read when there is a place."""
    body = bytes(range(250)) * 250
    async with await group.listen(transport_address, max_channels=1) as listener:
        first = await pair_of(group, listener)
        connecting = asyncio.create_task(group.connect(listener.address, body=body))
        await until(lambda: waiting(listener) == 1)
        (caller,) = admission_of(listener)._waiting
        await until(lambda: not caller.transport.is_reading())
        await turns(20)
        proactor = isinstance(asyncio.get_running_loop(), PROACTOR)
        assert len(caller.early) <= EARLY_BYTES + (CHUNK if proactor else EARLY_BYTES)
        await asyncio.gather(*(end.aclose() for end in first))
        server = await listener.accept()
        assert server.hello.body == body
        await asyncio.gather(server.aclose(), (await connecting).aclose())


async def test_more_than_may_wait_are_refused(
    group: tofu.ChannelGroup,
    engine: tofu.Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With one line in the log, and counted."""
    monkeypatch.setattr(admission_module, "WAITING_CONNECTIONS", 2)
    async with await group.listen("tcp://127.0.0.1:0", max_channels=1) as listener:
        first = await pair_of(group, listener)
        crowd = [await knock(listener) for _ in range(2)]
        for _ in range(3):
            with pytest.raises(tofu.ConnectFailed, match="did not accept the channel"):
                await group.connect(listener.address)
        assert caplog.text.count("a connection was refused: 2 are pending already") == 1
        assert engine.statistics().refused == 3
        for peer in crowd:
            peer.close()
        await until(lambda: waiting(listener) == 0)
        await asyncio.gather(*(end.aclose() for end in first))
        for channel in await pair_of(group, listener):
            channel.abort()


async def refused_beside_a_crowd(group: tofu.ChannelGroup, listener: tofu.Listener) -> None:
    """One connection is refused, and then one is let in."""
    first = await pair_of(group, listener)
    crowd = [await knock(listener) for _ in range(2)]
    with pytest.raises(tofu.ConnectFailed, match="did not accept the channel"):
        await group.connect(listener.address)
    for peer in crowd:
        peer.close()
    await until(lambda: waiting(listener) == 0)
    await asyncio.gather(*(end.aclose() for end in first))


@pytest.mark.parametrize(("quiet", "warnings"), [(0.0, 3), (3600.0, 1)])
async def test_in_a_crowd_refusals_are_told_once_in_a_while(
    group: tofu.ChannelGroup,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    quiet: float,
    warnings: int,
) -> None:
    monkeypatch.setattr(admission_module, "WAITING_CONNECTIONS", 2)
    monkeypatch.setattr(rare_warnings, "WARNINGS_QUIET", quiet)
    async with await group.listen("tcp://127.0.0.1:0", max_channels=1) as listener:
        for _ in range(3):
            await refused_beside_a_crowd(group, listener)
    refusals = [record for record in caplog.records if "was refused" in record.getMessage()]
    assert [record.levelno for record in refusals].count(logging.WARNING) == warnings


async def test_who_is_silent_gives_way_to_more_than_may_wait(
    group: tofu.ChannelGroup,
    engine: tofu.Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The one that came first, however short its silence: more that are silent may be coming."""
    monkeypatch.setattr(admission_module, "WAITING_CONNECTIONS", 2)
    async with await group.listen("tcp://127.0.0.1:0", hello_timeout=2000) as listener:
        crowd = [await RawPeer.connect(listener.address) for _ in range(2)]
        await until(lambda: silent(listener) == 2)
        for channel in await pair_of(group, listener):
            channel.abort()
        assert await crowd[0].end() == b""
        assert silent(listener) == 1
        assert caplog.text.count("a connection was refused: 2 are pending already") == 1
        assert engine.statistics().refused == 1
        for peer in crowd:
            peer.close()


PARTS = {
    "a byte": hello()[:1],
    "a header": hello()[:16],
    "all but a byte": hello()[:-1],
    "less than is read": LARGE_HELLO[: ENOUGH - 1],
}


@pytest.mark.parametrize("said", PARTS.values(), ids=PARTS)
async def test_who_has_not_said_a_hello_gives_way_like_who_is_silent(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(admission_module, "WAITING_CONNECTIONS", 2)
    async with await group.listen(
        "tcp://127.0.0.1:0", max_channels=1, hello_timeout=2000
    ) as listener:
        first = await pair_of(group, listener)
        crowd = [await RawPeer.connect(listener.address) for _ in range(2)]
        for peer in crowd:
            await peer.send(said)
        callers = admission_of(listener)._silent
        await until(lambda: [len(caller.early) for caller in callers] == [len(said)] * 2)
        knocker = await knock(listener)
        assert await crowd[0].end() == b""
        assert (silent(listener), waiting(listener)) == (1, 1)
        await asyncio.gather(*(end.aclose() for end in first))
        (await listener.accept()).abort()
        for peer in (*crowd, knocker):
            peer.close()


@pytest.mark.parametrize("said", PARTS.values(), ids=PARTS)
async def test_at_a_full_listener_too_a_hello_must_come_in_time(
    group: tofu.ChannelGroup, said: bytes
) -> None:
    async with await group.listen(
        "tcp://127.0.0.1:0", max_channels=1, hello_timeout=0.2
    ) as listener:
        first = await pair_of(group, listener)
        with await RawPeer.connect(listener.address) as peer:
            await peer.send(said)
            assert await peer.end() == b""
        await asyncio.gather(*(end.aclose() for end in first))


@pytest.mark.parametrize("said", [b"", b"\x16", b"\x16\x03\x01\x02\x00" + bytes(511), b"GET /"])
async def test_where_tls_comes_first_its_first_record_must_come_in_time(
    group: tofu.ChannelGroup, said: bytes
) -> None:
    """What is no record is not waited for."""
    async with await group.listen(
        "tcp://127.0.0.1:0",
        max_channels=1,
        ssl=server_context(),
        hello_timeout=2000 if said.startswith(b"G") else 1,
    ) as listener:
        first = await asyncio.gather(
            group.connect(listener.address, ssl=client_context()), listener.accept()
        )
        with await RawPeer.connect(listener.address) as peer:
            await peer.send(said)
            assert await peer.end() == b""
        assert not waiting(listener)
        await asyncio.gather(*(end.aclose() for end in first))


async def test_a_hello_that_is_here_is_read_before_a_crowd_behind_it_has_come_in(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though all have connected when the listener first looks."""
    monkeypatch.setattr(admission_module, "WAITING_CONNECTIONS", 32)
    monkeypatch.setattr(socket_acceptor, "ACCEPTED_AT_ONCE", 2)
    async with await group.listen("tcp://127.0.0.1:0", hello_timeout=2000) as listener:
        name = (listener.address.host, listener.address.port)  # type: ignore[union-attr]
        good = RawPeer(socket.create_connection(name))
        good.sock.send(hello())
        crowd = [RawPeer(socket.create_connection(name)) for _ in range(40)]
        async with asyncio.timeout(PATIENCE):
            channel = await listener.accept()
        assert (await good.message()).op_code is OpCode.HELLO_RESPONSE
        channel.abort()
        for peer in (good, *crowd):
            peer.close()


@pytest.mark.parametrize("how", ["listener", "group"])
async def test_who_waits_is_dropped_with_the_listener_and_the_channels_live(
    engine: tofu.Engine, group: tofu.ChannelGroup, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with engine.create_group() as serving:
        listener = await serving.listen("tcp://127.0.0.1:0", max_channels=1)
        client, server = await pair_of(group, listener)
        with await knock(listener) as peer:
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
    ours = [r for r in caplog.records if r.name.startswith("tofu_aio")]
    assert not [r for r in ours if r.levelno >= logging.WARNING]


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
    """It takes the Bye and sends nothing."""


async def goes_on_talking(peer: RawPeer, channel: tofu.Channel) -> None:
    for number in range(50):
        await peer.send(frame(body=bytes(1000), message_id=number + 1))


async def never_reads(peer: RawPeer, channel: tofu.Channel) -> None:
    while not connection_of(channel).queue.paused:
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
        assert connection_of(channel).closing.done.done()
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
    from tofu_aio.messaging.connection import closing

    monkeypatch.setattr(closing, "BYE_TIMEOUT", 0.0)  # which is for peers that send nothing else
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
