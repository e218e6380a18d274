"""Messages that come before a Hello is answered: a client of the Zig library may post at once."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable

import pytest

import tofu_aio as tofu
from tests.messaging.certificates import client_context, server_context
from tests.messaging.connection.test_connection import Bench, bye
from tests.messaging.peers import (
    RawPeer,
    RawServer,
    admission_of,
    connection_of,
    frame,
    hello,
    turns,
    until,
)
from tests.messaging.raw_tls import RawTls
from tofu_aio import Message, OpCode, State, Status
from tofu_aio.messaging.connection.handshake import note_hello
from tofu_aio.messaging.flow_control.read_gate import READ_AT_ONCE
from tofu_aio.messaging.limits import EARLY_BYTES

BYE = frame(OpCode.BYE_REQUEST, message_id=70)


def request(number: int, size: int = 0) -> bytes:
    return frame(body=struct.pack(">I", number) + bytes(size), message_id=number + 1)


def numbers(messages: list[Message]) -> list[int]:
    return [int.from_bytes(message.body[:4], "big") for message in messages]


async def echo(channel: tofu.Channel) -> None:
    async for message in channel:
        with message:
            await channel.reply(message, message.body)


async def answers(peer: RawPeer, count: int) -> None:
    """The Hello's answer comes first, then those of the requests, in order."""
    assert (await peer.message()).op_code is OpCode.HELLO_RESPONSE
    got = [await peer.message() for _ in range(count)]
    assert numbers(got) == list(range(count))
    assert {message.op_code for message in got} <= {OpCode.RESPONSE}


# --- they wait -----------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1_000_000, 100, 7, 1], ids=["whole", "100", "7", "1"])
@pytest.mark.parametrize("decides", [False, True], ids=["accepts", "decides"])
async def test_they_are_served_in_order_once_the_client_is_accepted(
    group: tofu.ChannelGroup, transport_address: str, decides: bool, chunk: int
) -> None:
    enough = asyncio.Event()

    async def decide(channel: tofu.Channel) -> None:
        await enough.wait()

    async with await group.listen(transport_address) as listener:
        serving = asyncio.create_task(listener.serve(echo, decide=decide if decides else None))
        with await RawPeer.connect(listener.address) as peer:
            data = hello() + b"".join(request(number) for number in range(20))
            for at in range(0, len(data), chunk):
                await peer.send(data[at : at + chunk])
                await turns(1)
            await turns(20)
            enough.set()
            await answers(peer, 20)
            await peer.send(request(20))
            assert numbers([await peer.message()]) == [20], "and reading goes on"
        await listener.aclose()
        await serving


async def test_they_are_no_messages_before_that(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str
) -> None:
    async with await group.listen(transport_address) as listener:
        with await RawPeer.connect(listener.address) as peer:
            await peer.send(hello() + request(0) + request(1))
            channel = await listener.receive_hello()
            await until(lambda: connection_of(channel).decoder.early)
            statistics = engine.statistics()
            assert statistics.pool_free == statistics.pool_size, "and need no permits"
            assert statistics.held_bytes, "but they are counted"
            assert channel.state is State.HELLO_HEARD
            assert channel.statistics().received == 1
            channel.accept()
            assert numbers([await channel.receive(), await channel.receive()]) == [0, 1]
            peer.close()
            await channel.aclose()


async def test_they_wait_for_permits_like_others(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str
) -> None:
    """Twenty times as many as there are."""
    count = 20 * engine.statistics().pool_size
    async with await group.listen(transport_address) as listener:
        with await RawPeer.connect(listener.address) as peer:
            await peer.send(hello() + b"".join(map(request, range(count))))
            channel = await listener.accept()
            for number in range(count):
                with await channel.receive() as message:
                    assert numbers([message]) == [number]
            peer.close()
            await channel.aclose()


async def test_there_is_an_end_to_what_waits(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str
) -> None:
    """Then reading stops, and the kernel holds the rest up; nothing of it is lost."""
    count, size = 300, 60_000
    async with await group.listen(transport_address) as listener:
        with await RawPeer.connect(listener.address) as peer:
            await peer.send(hello())
            channel = await listener.receive_hello()
            data = b"".join(request(number, size) for number in range(count))
            sending = asyncio.create_task(peer.send(data))
            decoder = connection_of(channel).decoder
            await until(lambda: decoder.held >= EARLY_BYTES)
            await turns(200)
            assert not sending.done()
            assert decoder.held <= 2 * READ_AT_ONCE
            channel.accept()
            for number in range(count):
                with await channel.receive() as message:
                    assert numbers([message]) == [number]
            await sending
            peer.close()
            await channel.aclose()


async def test_reading_stops_and_resumes_once() -> None:
    bench = Bench(size=8, state=State.HELLO_AWAITED)
    connection, transport = bench.connection, bench.transport
    calls: list[str] = []
    pause, resume = transport.pause_reading, transport.resume_reading
    transport.pause_reading = lambda: (calls.append("pause"), pause())[1]  # type: ignore[method-assign]
    transport.resume_reading = lambda: (calls.append("resume"), resume())[1]  # type: ignore[method-assign]
    bench.feed(hello(), frame(body=b"1"), frame(body=b"2")[:-1])
    note_hello(connection, b"", answer=False, by_peer=True)  # as a channel does
    bench.feed(b"2", frame(body=bytes(EARLY_BYTES)))
    bench.feed(frame(body=b"3"))  # had been on its way
    assert calls == ["pause"]
    assert [op_code for op_code, _ in bench.sink.told] == [OpCode.HELLO_REQUEST]  # type: ignore[misc]
    bench.sink.accepted = lambda: None  # type: ignore[attr-defined]
    connection.queue.enqueue_judged(OpCode.HELLO_RESPONSE)
    assert len(bench.sink.told) == 1, "not within whatever accepts"
    await turns(1)
    assert bench.sink.bodies[1:] == [b"1", b"2", bytes(EARLY_BYTES), b"3"]
    assert calls == ["pause", "resume"]
    transport.fail(None)
    await bench.end()


async def test_with_the_hello_may_come_as_much_as_is_read_at_once() -> None:
    bench = Bench(state=State.HELLO_AWAITED)
    bench.feed(hello(), frame(body=bytes(EARLY_BYTES)))
    assert bench.transport.reading
    note_hello(bench.connection, b"", answer=False, by_peer=True)
    assert not bench.transport.reading
    bench.transport.fail(None)
    await bench.end()


async def test_they_may_come_to_messages(group: tofu.ChannelGroup, transport_address: str) -> None:
    number, peer, close = await posted(group, transport_address, hello() + request(0) + request(1))
    post(group, number, OpCode.HELLO_RESPONSE)
    assert numbers([await group.receive(), await group.receive()]) == [0, 1]
    peer.close()
    assert await ends(group) == [Status.PEER_DISCONNECTED, Status.CHANNEL_CLOSED]
    await close()


async def posted(
    group: tofu.ChannelGroup, address: str, data: bytes
) -> tuple[int, RawPeer, Callable[[], object]]:
    """A peer by hand that has sent this to a posted listener; and what ends the listener."""
    header = {tofu.LISTEN_ON: tofu.parse_address(address).to_header()}
    group.post(Message(OpCode.WELCOME_REQUEST, headers=header))
    listening = await group.receive()
    peer = await RawPeer.connect(tofu.parse_address(listening.headers[tofu.LISTEN_ON]))
    await peer.send(data)
    asked = await group.receive()
    assert asked.op_code is OpCode.HELLO_REQUEST

    async def close() -> None:
        post(group, listening.channel_number, OpCode.BYE_REQUEST)
        assert await ends(group) == [Status.CHANNEL_CLOSED]

    return asked.channel_number, peer, close


def post(
    group: tofu.ChannelGroup, number: int, op_code: OpCode, status: Status = Status.SUCCESS
) -> None:
    message = Message(op_code)
    message.channel_number, message.status = number, status
    group.post(message)


async def ends(group: tofu.ChannelGroup) -> list[Status]:
    """What comes, up to the last of a channel."""
    statuses: list[Status] = []
    while Status.CHANNEL_CLOSED not in statuses:
        statuses.append((await group.receive()).status)
    return statuses


async def test_they_may_come_over_tls(group: tofu.ChannelGroup) -> None:
    async with await group.listen("tcp://127.0.0.1:0", ssl=server_context()) as listener:
        with await RawPeer.connect(listener.address) as raw:
            peer = RawTls(raw, client_context())
            await peer.shake()
            await raw.send(peer.sealed(hello() + request(0)))
            channel = await listener.receive_hello()
            await raw.send(peer.sealed(request(1)))
            await turns(10)
            channel.accept()
            assert numbers([await channel.receive(), await channel.receive()]) == [0, 1]
            raw.close()
            await channel.aclose()


# --- they are dropped ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["reject", "decide", "aclose", "post"])
async def test_who_is_refused_is_not_heard(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str, how: str
) -> None:
    heard: list[Message] = []

    async def handler(channel: tofu.Channel) -> None:
        heard.extend([message async for message in channel])

    async def decide(channel: tofu.Channel) -> None:
        await until(lambda: connection_of(channel).decoder.early)
        raise tofu.Rejected("no")

    async with await group.listen(transport_address) as listener:
        with await RawPeer.connect(listener.address) as peer:
            await peer.send(hello() + request(0) + request(1, 10_000) + BYE)
            if how == "decide":
                refusing = asyncio.create_task(listener.serve(handler, decide=decide))
            else:
                channel = await listener.receive_hello()
                await until(lambda: connection_of(channel).decoder.early)
                refusing = asyncio.create_task(refuse(channel, how))
            if how == "aclose":
                assert not await peer.end(), "which says nothing"
            else:
                answer = await peer.message()
                assert (answer.op_code, answer.status) == (
                    OpCode.HELLO_RESPONSE,
                    Status.NOT_ALLOWED,
                )
                peer.half_close()
                assert not await peer.resets()
            await until(lambda: not admission_of(listener)._undecided)
        await listener.aclose()
        await refusing
    assert not heard


async def refuse(channel: tofu.Channel, how: str) -> None:
    if how == "reject":
        await channel.reject("no")
    elif how == "aclose":
        await channel.aclose()
    else:
        message = Message(OpCode.HELLO_RESPONSE)
        message.status = Status.NOT_ALLOWED
        channel.post(message)


LEAVING = ["close", "half close", "reset"]


async def leave(peer: RawPeer, how: str) -> None:
    if how == "close":
        peer.close()
    elif how == "half close":
        peer.half_close()
    else:
        await peer.reset()


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("early", [b"", request(0), request(0) + BYE, b"\0" * 7])
async def test_who_leaves_undecided_is_given_up(
    group: tofu.ChannelGroup, transport_address: str, early: bytes, how: str
) -> None:
    """And the deciding task is cancelled."""
    cancelled = asyncio.Event()
    began = asyncio.Event()

    async def decide(channel: tofu.Channel) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with await group.listen(transport_address) as listener:
        serving = asyncio.create_task(listener.serve(echo, decide=decide, decide_timeout=1000))
        with await RawPeer.connect(listener.address) as peer:
            await peer.send(hello() + early)
            await began.wait()
            await leave(peer, how)
            async with asyncio.timeout(20):
                await cancelled.wait()
        await until(lambda: not admission_of(listener)._undecided)
        await listener.aclose()
        await serving


@pytest.mark.parametrize("how", LEAVING)
async def test_to_messages_who_leaves_undecided_is_lost(
    group: tofu.ChannelGroup, transport_address: str, how: str
) -> None:
    number, peer, close = await posted(group, transport_address, hello() + request(0) + BYE)
    await leave(peer, how)
    assert await ends(group) == [Status.PEER_DISCONNECTED, Status.CHANNEL_CLOSED]
    with pytest.raises(tofu.InvalidChannelNumber):
        post(group, number, OpCode.HELLO_RESPONSE)
    peer.close()
    await close()


@pytest.mark.parametrize("last_word", ["eof", "lost", "reset"])
async def test_what_an_undecided_one_has_sent_keeps_its_end_from_nobody(last_word: str) -> None:
    bench = Bench(state=State.HELLO_AWAITED)
    bench.feed(hello(), frame(), bye())
    if last_word == "eof":
        bench.connection.eof_received()
    else:
        bench.transport.fail(ConnectionResetError("reset") if last_word == "reset" else None)
    await turns(2)
    assert isinstance(bench.sink.errors[0], tofu.PeerDisconnected)
    assert len(bench.sink.messages) == 1
    await bench.end()


async def test_who_says_bye_at_once_is_served_and_then_answered(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str
) -> None:
    async with await group.listen(transport_address) as listener:
        serving = asyncio.create_task(listener.serve(echo))
        with await RawPeer.connect(listener.address) as peer:
            await peer.send(hello() + request(0) + request(1) + BYE)
            await answers(peer, 2)
            farewell = await peer.message()
            assert (farewell.op_code, farewell.message_id) == (OpCode.BYE_RESPONSE, 70)
        await until(lambda: engine.statistics().channels == 1)
        await listener.aclose()
        await serving


@pytest.mark.parametrize("early", [hello(), frame(13), frame(OpCode.HELLO_RESPONSE)])
async def test_what_breaks_the_rules_does_so_when_it_is_looked_at(
    group: tofu.ChannelGroup, transport_address: str, early: bytes
) -> None:
    async with await group.listen(transport_address) as listener:
        with await RawPeer.connect(listener.address) as peer:
            await peer.send(hello() + request(0) + early)
            channel = await listener.receive_hello()
            await turns(10)
            assert channel.state is State.HELLO_HEARD
            channel.accept()
            assert numbers([await channel.receive()]) == [0]
            with pytest.raises(tofu.ProtocolViolation):
                await channel.receive()
            await channel.aclose()


async def test_accepting_and_leaving_in_one_breath(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str
) -> None:
    """Whichever of the two is noticed first."""
    for patience in range(12):
        async with await group.listen(transport_address) as listener:
            peer = await RawPeer.connect(listener.address)
            await peer.send(hello() + request(0) + BYE)
            channel = await listener.receive_hello()
            await turns(patience % 4)
            peer.close()
            await turns(patience // 4)
            with contextlib.suppress(tofu.PeerDisconnected):
                channel.accept()
                assert numbers([message async for message in channel]) == [0]
            await channel.aclose()
        await until(lambda: not engine.statistics().channels)


# --- the other way round -------------------------------------------------------------------------


@pytest.mark.parametrize("op_code", [OpCode.REQUEST, OpCode.SIGNAL, OpCode.BYE_REQUEST])
async def test_a_server_that_talks_and_does_not_answer_the_hello_is_told_so(
    group: tofu.ChannelGroup, raw_server: RawServer, op_code: OpCode
) -> None:
    connecting = asyncio.create_task(group.connect(raw_server.address))
    with await raw_server.accept() as peer:
        await peer.message()
        await peer.send(frame(op_code, message_id=5))
        with pytest.raises(
            tofu.ConnectFailed,
            match=f"the peer sent {op_code.name} before it answered the Hello with HELLO_RESPONSE",
        ):
            await connecting
        assert await peer.end() == b""


# --- text headers that only the Zig library writes -----------------------------------------------

ZIG_HEADERS = [b"Blank: \r\n", b"Empty:\r\n", b"Lf:a\nb\r\n", b"Cr:a\rb\r\n", b"End:a\r\r\n"]


@pytest.mark.parametrize("line", ZIG_HEADERS)
async def test_their_headers_go_through_unchanged(
    group: tofu.ChannelGroup, transport_address: str, line: bytes
) -> None:
    """In the Hello, in a request, and back in its answer."""

    async def echo_all(channel: tofu.Channel) -> None:
        assert line in channel.hello.headers.encode()
        async for message in channel:
            with message:
                await channel.reply(message, message.body, message.headers)

    async with await group.listen(transport_address) as listener:
        serving = asyncio.create_task(listener.serve(echo_all))
        with await RawPeer.connect(listener.address) as peer:
            await peer.send(frame(OpCode.HELLO_REQUEST, headers=line))
            await peer.message()
            await peer.send(frame(body=b"x", headers=b"A:b\r\n" + line + b"C:d\r\n"))
            answer = await peer.message()
            assert answer.headers.encode() == b"A:b\r\n" + line + b"C:d\r\n"
            name, _, value = line[:-2].decode().partition(":")
            assert answer.headers[name] == value.strip(" ")
            assert len(answer.headers) == 3
        await listener.aclose()
        await serving


async def test_a_line_without_a_colon_ends_the_channel_and_is_named(
    group: tofu.ChannelGroup, transport_address: str
) -> None:
    async with await group.listen(transport_address) as listener:
        accepting = asyncio.create_task(listener.accept())
        with await RawPeer.introduced(listener.address) as peer:
            channel = await accepting
            await peer.send(frame(headers=b"A:b\r\nNoColon\r\nC:d\r\n"))
            with pytest.raises(tofu.ProtocolViolation, match="'NoColon' is not a text header"):
                await channel.receive()
            assert await peer.end() == b""
            await channel.aclose()
