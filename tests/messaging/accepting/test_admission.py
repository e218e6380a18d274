"""Bad clients of every kind are closed in limited time, and the next good client works."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from random import Random

import pytest

import tofu_aio as tofu
from tests.messaging.peers import (
    ENOUGH,
    LARGE_HELLO,
    RawPeer,
    admission_of,
    check_nothing_is_held,
    connection_of,
    frame,
    hello,
    turns,
    until,
)
from tofu_aio import OpCode, Status
from tofu_aio.messaging.accepting import admission as admission_module
from tofu_aio.protocol.op_code import MORE_BIT

SOON = 0.3 if sys.platform == "win32" else 0.03
"""Seconds: longer than a good client needs for its Hello."""


async def good_client_works(listener: tofu.Listener, group: tofu.ChannelGroup) -> None:
    client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
    request = asyncio.create_task(client.request(b"ping"))
    with await server.receive() as received:
        await server.reply(received, b"pong")
    with await request as response:
        assert response.body == b"pong"
    await asyncio.gather(client.aclose(), server.aclose())


@pytest.fixture
async def checked_listener(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str
) -> AsyncIterator[tofu.Listener]:
    """A listener that must work after the test, and have no channel left."""
    async with await group.listen(transport_address) as listener:
        yield listener
        await until(lambda: engine.statistics().channels == 1, "for the bad peer's channel to go")
        assert not listener._ready.items
        assert engine.statistics().pool_free == engine.statistics().pool_size
        await good_client_works(listener, group)


NOT_HELLO = {
    "random bytes": Random(2).randbytes(5000),
    "more random bytes": Random(13).randbytes(16),
    "text": b"hello? is anybody there?\r\n" * 3,
    "HTTP": b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "TLS": bytes.fromhex("1603010200010001fc0303") + bytes(600),
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "zeros": bytes(100),
    "op code 13": frame(13),
    "op code 10": frame(10),
    "op code 15 with all bits": frame(0xFF),
    "a request": frame(OpCode.REQUEST, b"body"),
    "a response": frame(OpCode.RESPONSE),
    "a signal": frame(OpCode.SIGNAL),
    "a Hello's answer": frame(OpCode.HELLO_RESPONSE),
    "a Bye": frame(OpCode.BYE_REQUEST),
    "a Bye's answer": frame(OpCode.BYE_RESPONSE),
    "a Bye signal": frame(OpCode.BYE_SIGNAL),
    "Welcome": frame(OpCode.WELCOME_REQUEST, headers=b"~listen_on:tcp|127.0.0.1|1\r\n"),
    "Welcome's answer": frame(OpCode.WELCOME_RESPONSE),
    "Hello without an id": hello(message_id=0),
    "Hello with more": frame(OpCode.HELLO_REQUEST | MORE_BIT),
    "Hello with a header that is none": frame(OpCode.HELLO_REQUEST, headers=b"no colon\r\n"),
    "Hello with a header without end": frame(OpCode.HELLO_REQUEST, headers=b"name:value"),
    "Hello with an empty header": frame(OpCode.HELLO_REQUEST, headers=b":value\r\n"),
}


@pytest.mark.parametrize("data", NOT_HELLO.values(), ids=NOT_HELLO)
async def test_a_connection_without_a_valid_hello_is_closed(
    listener: tofu.Listener, group: tofu.ChannelGroup, engine: tofu.Engine, data: bytes
) -> None:
    with await RawPeer.connect(listener.address) as peer:
        await peer.send(data)
        assert await peer.end() == b"", "it is told nothing"
    await until(lambda: engine.statistics().channels == 1)
    await good_client_works(listener, group)


HALVES = {
    "nothing": b"",
    "a byte": hello()[:1],
    "half a header": hello()[:8],
    "a header that promises more": hello()[:16],
    "all but the last byte": hello()[:-1],
    "a header that promises everything": frame(
        OpCode.HELLO_REQUEST, b"some", headers_len=0, body_len=65535
    ),
}


@pytest.mark.parametrize("ending", ["close", "half close", "reset"])
@pytest.mark.parametrize("data", HALVES.values(), ids=HALVES)
async def test_a_peer_that_disconnects_before_its_hello_is_complete_leaves_nothing(
    group: tofu.ChannelGroup,
    listener: tofu.Listener,
    engine: tofu.Engine,
    data: bytes,
    ending: str,
) -> None:
    with await RawPeer.connect(listener.address) as peer:
        await peer.send(data)
        await turns(3)
        if ending == "reset":
            await peer.reset()
        elif ending == "half close":
            peer.half_close()
            assert await peer.end() == b""
    await until(lambda: engine.statistics().channels == 1)
    await good_client_works(listener, group)


async def test_a_silent_connection_is_closed_in_time(
    group: tofu.ChannelGroup, engine: tofu.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """It never has a channel."""
    caplog.set_level(logging.INFO, "tofu_aio")
    async with await group.listen("tcp://127.0.0.1:0", hello_timeout=SOON) as listener:
        with await RawPeer.connect(listener.address) as peer:
            await until(lambda: admission_of(listener)._silent)
            assert engine.statistics().channels == 1
            assert await peer.end() == b""
        assert not admission_of(listener)._silent
        assert f"a connection sent no Hello within {SOON:g} s: is it a tofu peer?" in caplog.text
        await good_client_works(listener, group)


SLOW = {name: data for name, data in HALVES.items() if data}


@pytest.mark.parametrize("data", SLOW.values(), ids=SLOW)
async def test_a_connection_that_stops_within_its_hello_is_closed_in_time(
    group: tofu.ChannelGroup, engine: tofu.Engine, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It never has a channel, like a silent connection."""
    caplog.set_level(logging.INFO, "tofu_aio")
    async with await group.listen("tcp://127.0.0.1:0", hello_timeout=SOON) as listener:
        with await RawPeer.connect(listener.address) as peer:
            await peer.send(data)
            assert await peer.end() == b""
        assert f"a connection sent no Hello within {SOON:g} s: is it a tofu peer?" in caplog.text
        assert engine.statistics().channels == 1
        await good_client_works(listener, group)


async def test_a_handshake_that_takes_too_long_is_closed(
    group: tofu.ChannelGroup, engine: tofu.Engine
) -> None:
    async with await group.listen("tcp://127.0.0.1:0", hello_timeout=0.2) as listener:
        with await RawPeer.connect(listener.address) as peer:
            await peer.send(LARGE_HELLO[:ENOUGH])
            await until(lambda: engine.statistics().channels == 2)
            (channel,) = [m for m in group._members.values() if isinstance(m, tofu.Channel)]
            assert await peer.end() == b""
        assert isinstance(channel.end, tofu.ProtocolViolation)
        assert "no Hello arrived within 0.2 s: is it a tofu peer?" in str(channel.end)
        await until(lambda: engine.statistics().channels == 1)
        await good_client_works(listener, group)


async def test_a_hello_that_trickles_in_has_no_more_time_than_others(
    group: tofu.ChannelGroup,
) -> None:
    async with await group.listen("tcp://127.0.0.1:0", hello_timeout=SOON) as listener:
        with await RawPeer.connect(listener.address) as peer:
            trickle = asyncio.create_task(_trickle(peer))
            assert await peer.end() == b""
            trickle.cancel()
            await asyncio.gather(trickle, return_exceptions=True)
        await good_client_works(listener, group)


async def _trickle(peer: RawPeer) -> None:
    while True:
        for byte in frame(OpCode.HELLO_REQUEST, bytes(60000)):
            await peer.send(bytes([byte]))
            await asyncio.sleep(0.005)


async def test_a_hello_in_single_bytes_is_a_hello(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    with await RawPeer.connect(listener.address) as peer:
        for byte in hello():
            await peer.send(bytes([byte]))
            await turns(1)
        channel = await listener.accept()
        assert channel.hello.op_code is OpCode.HELLO_REQUEST
        channel.abort()


async def test_the_largest_hello_is_a_hello(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    with await RawPeer.connect(listener.address) as peer:
        await peer.send(frame(OpCode.HELLO_REQUEST, bytes(65535), b"a:" + b"b" * 65531 + b"\r\n"))
        channel = await listener.accept()
        assert (len(channel.hello.body), len(channel.hello.headers["a"])) == (65535, 65531)
        channel.abort()


async def test_a_hello_needs_no_permit(
    group: tofu.ChannelGroup, listener: tofu.Listener, engine: tofu.Engine
) -> None:
    client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
    held = [engine.get(tofu.Allocation.POOL_ONLY) for _ in range(8)]
    for _ in range(2):
        await client.signal()
    await until(lambda: engine.statistics().waiting == 1)
    assert engine.statistics().pool_free == 0
    other, accepted = await asyncio.gather(group.connect(listener.address), listener.accept())
    await asyncio.gather(*(c.aclose() for c in (client, server, other, accepted)))
    del held


async def test_an_accepted_channel_has_no_deadline(
    group: tofu.ChannelGroup, engine: tofu.Engine
) -> None:
    """Neither has an undecided channel."""
    async with await group.listen("tcp://127.0.0.1:0", hello_timeout=SOON) as listener:
        connecting = asyncio.create_task(group.connect(listener.address))
        await until(lambda: listener._ready.items)
        assert not admission_of(listener)._handshaking
        with await RawPeer.connect(listener.address) as silent:
            await silent.end()  # its deadline has passed, and so would the other's have
        server = await listener.accept()
        client = await connecting
        await asyncio.gather(client.aclose(), server.aclose())


# --- after the Hello -------------------------------------------------------------------------


VIOLATIONS = {
    "op code 13": (frame(13), Status.INVALID_OP_CODE),
    "another Hello": (hello(), Status.INVALID_OP_CODE),
    "an answer to no Hello": (frame(OpCode.HELLO_RESPONSE), Status.INVALID_OP_CODE),
    "an answer to no Bye": (frame(OpCode.BYE_RESPONSE), Status.INVALID_OP_CODE),
    "a Bye signal": (frame(OpCode.BYE_SIGNAL), Status.INVALID_OP_CODE),
    "Welcome": (frame(OpCode.WELCOME_REQUEST), Status.INVALID_OP_CODE),
    "Welcome's answer": (frame(OpCode.WELCOME_RESPONSE), Status.INVALID_OP_CODE),
    "Bye with more": (frame(OpCode.BYE_REQUEST | MORE_BIT), Status.INVALID_MORE_USAGE),
    "an id of 0": (frame(message_id=0), Status.INVALID_MESSAGE_ID),
    "a Bye with an id of 0": (frame(OpCode.BYE_REQUEST, message_id=0), Status.INVALID_MESSAGE_ID),
    "a header that is none": (frame(headers=b"x\r\n"), Status.INVALID_MESSAGE),
}


@pytest.mark.parametrize(("data", "status"), VIOLATIONS.values(), ids=VIOLATIONS)
async def test_a_violation_ends_its_channel_and_no_other(
    group: tofu.ChannelGroup,
    listener: tofu.Listener,
    engine: tofu.Engine,
    data: bytes,
    status: Status,
) -> None:
    client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
    peer, channel = await asyncio.gather(RawPeer.introduced(listener.address), listener.accept())
    with peer:
        await peer.send(frame(body=b"good") + data + frame(body=b"never"))
        assert await peer.end() == b""
    with await channel.receive() as message:
        assert message.body == b"good"
    for _ in range(2):
        with pytest.raises(tofu.ProtocolViolation, match=r"^at byte \d+: ") as caught:
            await channel.receive()
        assert caught.value.status is status
    with pytest.raises(tofu.ProtocolViolation):
        await channel.signal()
    await channel.aclose()
    await client.signal(b"unimpressed")
    with await server.receive() as message:
        assert message.body == b"unimpressed"
    await asyncio.gather(client.aclose(), server.aclose())
    assert engine.statistics().channels == 1


async def test_nothing_may_follow_a_bye(group: tofu.ChannelGroup, listener: tofu.Listener) -> None:
    peer, channel = await asyncio.gather(RawPeer.introduced(listener.address), listener.accept())
    with peer:
        await peer.send(
            frame(body=b"good") + frame(OpCode.BYE_REQUEST) + frame(body=b"a moment more")
        )
        await peer.end()
    (await channel.receive()).release()
    with pytest.raises(tofu.ChannelEnded):
        await channel.receive()
    assert isinstance(channel.end, tofu.ProtocolViolation)
    await channel.aclose()


@pytest.mark.parametrize("ending", ["close", "half close", "reset"])
@pytest.mark.parametrize("size", [15, 16, 20000])
async def test_a_peer_that_leaves_in_the_middle_of_a_message(
    group: tofu.ChannelGroup,
    checked_listener: tofu.Listener,
    engine: tofu.Engine,
    size: int,
    ending: str,
) -> None:
    peer, channel = await asyncio.gather(
        RawPeer.introduced(checked_listener.address), checked_listener.accept()
    )
    with peer:
        await peer.send(frame(body=b"whole") + frame(body=bytes(40000))[:size])
        await until(lambda: connection_of(channel).decoder.held == size)
        now = engine.statistics()
        assert (now.reserves, now.pool_free) == (1, 8 if size < 16 else 7)
        if ending == "close":
            peer.close()
        elif ending == "reset":
            await peer.reset()
        else:
            peer.half_close()
        with await channel.receive() as message:
            assert message.body == b"whole"
        with pytest.raises(tofu.PeerDisconnected):
            await channel.receive()
    await channel.aclose()


async def test_a_peer_that_promises_and_stalls_holds_its_reserve_until_it_is_closed(
    group: tofu.ChannelGroup, listener: tofu.Listener, engine: tofu.Engine
) -> None:
    peer, channel = await asyncio.gather(RawPeer.introduced(listener.address), listener.accept())
    with peer:
        await peer.send(frame(body=b"x", body_len=65535))
        await until(lambda: engine.statistics().reserves == 1)
        await good_client_works(listener, group)
        channel.abort()
        check_nothing_is_held(engine)


# --- many connections ------------------------------------------------------------------------


@pytest.fixture
def slots(monkeypatch: pytest.MonkeyPatch) -> int:
    """Limit the number of undecided channels, and return it."""
    monkeypatch.setattr(admission_module, "PENDING_CHANNELS", 3)
    return 3


@pytest.mark.usefixtures("slots")
async def test_pending_connections_beyond_the_limit_wait_without_a_channel(
    group: tofu.ChannelGroup, engine: tofu.Engine, listener: tofu.Listener
) -> None:
    crowd = [await RawPeer.connect(listener.address) for _ in range(8)]
    for peer in crowd:
        await peer.send(hello())
    await until(lambda: engine.statistics().channels == 4)
    await turns(30)
    assert engine.statistics().channels == 4
    for _ in crowd:
        channel = await listener.accept()
        channel.abort()
    for peer in crowd:
        assert (await peer.message()).op_code is OpCode.HELLO_RESPONSE
        peer.close()
    await until(lambda: engine.statistics().channels == 1)
    await good_client_works(listener, group)


@pytest.mark.usefixtures("slots")
async def test_connections_that_disconnect_free_their_slots(
    group: tofu.ChannelGroup, engine: tofu.Engine, listener: tofu.Listener
) -> None:
    crowd = [await RawPeer.connect(listener.address) for _ in range(8)]
    for peer in crowd:
        await peer.send(LARGE_HELLO[:ENOUGH])
    await until(lambda: engine.statistics().channels == 4)
    connecting = asyncio.create_task(good_client_works(listener, group))
    for peer in reversed(crowd):  # those who wait first
        peer.close()
        await turns(3)
    await connecting
    await until(lambda: engine.statistics().channels == 1)


@pytest.mark.usefixtures("slots")
async def test_connections_that_fall_silent_free_their_slots_in_time(
    group: tofu.ChannelGroup,
) -> None:
    async with await group.listen("tcp://127.0.0.1:0", hello_timeout=SOON) as listener:
        crowd = [await RawPeer.connect(listener.address) for _ in range(8)]
        for peer in crowd:
            await peer.send(LARGE_HELLO[:ENOUGH])
        await good_client_works(listener, group)
        for peer in crowd:
            peer.close()


@pytest.mark.usefixtures("slots")
@pytest.mark.parametrize("after", range(8))
async def test_pending_connections_are_dropped_with_the_listener(
    group: tofu.ChannelGroup, engine: tofu.Engine, after: int, caplog: pytest.LogCaptureFixture
) -> None:
    listener = await group.listen("tcp://127.0.0.1:0", hello_timeout=1000)
    crowd = [await RawPeer.connect(listener.address) for _ in range(8)]
    for peer in crowd[::2]:
        await peer.send(hello())
    await turns(after)
    await listener.aclose()
    for peer in crowd:
        assert await peer.end() == b""
        peer.close()
    await until(lambda: engine.statistics().channels == 0)
    assert not [r for r in caplog.records if r.name.startswith("tofu_aio")]


async def test_many_clients_of_another_protocol_leave_nothing(
    group: tofu.ChannelGroup, engine: tofu.Engine
) -> None:
    """Without a free slot they are dropped at once; with one they are refused by the channel."""
    async with await group.listen("tcp://127.0.0.1:0", max_channels=1) as listener:
        first = await asyncio.gather(group.connect(listener.address), listener.accept())
        crowd = [await RawPeer.connect(listener.address) for _ in range(300)]
        for peer in crowd:
            await peer.send(b"GET / HTTP/1.1\r\n\r\n")
        for peer in crowd:
            assert await peer.end() == b""
            peer.close()
        await asyncio.gather(*(end.aclose() for end in first))
        await until(lambda: engine.statistics().channels == 1)
        assert not admission_of(listener)._waiting
        crowd = [await RawPeer.connect(listener.address) for _ in range(300)]
        for peer in crowd:
            await peer.send(b"GET / HTTP/1.1\r\n\r\n")
        await good_client_works(listener, group)
        for peer in crowd:
            peer.close()


async def test_a_hundred_good_clients_at_once(
    group: tofu.ChannelGroup, engine: tofu.Engine, listener: tofu.Listener
) -> None:
    async def echo(channel: tofu.Channel) -> None:
        async for message in channel:
            with message:
                await channel.reply(message, message.body)

    async def ask(number: int) -> None:
        async with await group.connect(listener.address) as channel:
            with await channel.request(b"%d" % number) as response:
                assert response.body == b"%d" % number

    serving = asyncio.create_task(listener.serve(echo))
    await asyncio.gather(*(ask(number) for number in range(100)))
    await listener.aclose()
    await serving


async def test_without_a_channel_number_left_connections_are_refused(
    group: tofu.ChannelGroup,
    engine: tofu.Engine,
    listener: tofu.Listener,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from tofu_aio.messaging import numbers

    with monkeypatch.context() as patch:
        patch.setattr(numbers, "MAX_CHANNEL", 1)
        with await RawPeer.connect(listener.address) as peer:
            await peer.send(hello())
            assert await peer.end() == b""
    assert "no channel number is left" in caplog.text
    await good_client_works(listener, group)
