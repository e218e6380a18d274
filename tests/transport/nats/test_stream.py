"""The asyncio transport by itself: what a protocol is told, and what the carrier is given."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.messaging.peers import turns
from tofu_aio.transport.nats.chunk import Chunk
from tofu_aio.transport.nats.credit import Budget, Window
from tofu_aio.transport.nats.limits import CHUNK_COST
from tofu_aio.transport.nats.stream import NatsStream
from tofu_aio.transport.unread import unread_of

PEER = "_INBOX.peer.1"


class Carrier:
    """Keeps what it is given, and carries nothing."""

    def __init__(self) -> None:
        self.budget = Budget()
        self.loop = asyncio.get_running_loop()
        self.most = 1000
        self.marked: set[NatsStream] = set()
        self.posted: list[str] = []
        self.left = False

    def add(self, member: NatsStream) -> str:
        return "1"

    def mark(self, stream: NatsStream) -> None:
        self.marked.add(stream)

    def post(self, inbox: str, token: str, what: Chunk) -> None:
        self.posted.append(what.kind)

    def hurry(self) -> None:
        pass

    def leave(self, token: str, left: Any) -> None:
        self.left = True
        self.loop.call_soon(left)


class Told(asyncio.Protocol):
    """Notes what it is told."""

    def __init__(self, *, keeps_open: bool = True) -> None:
        self.calls: list[Any] = []
        self.keeps_open = keeps_open

    def data_received(self, data: bytes) -> None:
        self.calls.append(bytes(data))

    def eof_received(self) -> bool:
        self.calls.append("eof")
        return self.keeps_open

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append(type(exc).__name__ if exc else "closed")


class InPieces(asyncio.BufferedProtocol):
    """Has a buffer for three bytes, and pauses after each piece."""

    def __init__(self) -> None:
        self.buffer = bytearray(3)
        self.got = bytearray()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.got += self.buffer[:nbytes]
        self.transport.pause_reading()


def opened(carrier: Carrier, protocol: asyncio.BaseProtocol, credit: int = 10_000) -> NatsStream:
    window = Window(carrier.budget)
    window.grant()
    stream = NatsStream(carrier, "1", PEER, credit, window)
    stream.start(protocol)
    return stream


def sent(stream: NatsStream) -> list[tuple[str, bytes]]:
    return list(stream.chunks())


async def test_what_is_written_in_a_turn_is_one_chunk() -> None:
    carrier, told = Carrier(), Told()
    stream = opened(carrier, told)
    stream.writelines([b"a", b"b"])
    stream.write(memoryview(b"c"))
    assert carrier.marked == {stream}
    assert sent(stream) == [("d1", b"abc")]
    stream.write(bytes(2500))
    assert [(tail, len(data)) for tail, data in sent(stream)] == [
        ("d2", 1000),
        ("d3", 1000),
        ("d4", 500),
    ]


async def test_without_credit_writing_is_paused_and_goes_on_with_it() -> None:
    carrier, told = Carrier(), Told()
    stream = opened(carrier, told, credit=0)
    stream.set_write_buffer_limits(100, 50)
    stream.write(bytes(101))
    assert (told.calls, stream.get_write_buffer_size()) == (["pause"], 101)
    assert sent(stream) == []
    stream.arrived(PEER, Chunk("c", 1, 101 + CHUNK_COST), b"")
    assert sent(stream) == [("d1", bytes(101))]
    assert told.calls == ["pause", "resume"]


async def test_a_paused_protocol_gets_nothing_and_the_peer_no_credit() -> None:
    carrier, told = Carrier(), Told()
    stream = opened(carrier, told)
    stream.pause_reading()
    stream.arrived(PEER, Chunk("d", 1), bytes(9000))
    stream.arrived(PEER, Chunk("e", 2), b"")
    await turns(2)
    assert (told.calls, sent(stream)) == ([], [])
    stream.resume_reading()
    await turns(1)
    assert told.calls == [bytes(9000), "eof"]
    assert [tail.partition("-")[0] for tail, _ in sent(stream)] == ["c1"]


async def test_a_buffer_that_takes_a_part_and_a_protocol_that_pauses() -> None:
    carrier, protocol = Carrier(), InPieces()
    stream = opened(carrier, protocol)
    await turns(1)
    stream.arrived(PEER, Chunk("d", 1), b"abcdefgh")
    assert protocol.got == b"abc"
    for expected in (b"abcdef", b"abcdefgh"):
        stream.resume_reading()
        await turns(1)
        assert protocol.got == expected
    assert stream._receiver.window.unread == 0


async def test_closing_sends_what_is_buffered_and_then_that_it_closes() -> None:
    carrier, told = Carrier(), Told()
    stream = opened(carrier, told)
    stream.write(b"last")
    stream.close()
    stream.write(b"too late")
    assert not carrier.left
    assert sent(stream) == [("d1", b"last"), ("x2", b"")]
    await turns(1)
    assert told.calls == ["closed"]


async def test_the_end_of_each_direction() -> None:
    carrier, told = Carrier(), Told()
    stream = opened(carrier, told)
    await turns(1)
    stream.write_eof()
    with pytest.raises(RuntimeError, match="write_eof"):
        stream.write(b"x")
    assert sent(stream) == [("e1", b"")]
    stream.arrived(PEER, Chunk("d", 1), b"x")
    stream.arrived(PEER, Chunk("x", 2), b"")
    assert told.calls == [b"x", "eof"]
    stream.close()
    assert sent(stream) == []  # nobody is there to be told
    await turns(1)
    assert told.calls[-1] == "closed"


async def test_a_protocol_that_does_not_stay_open_is_closed_at_the_end() -> None:
    carrier, told = Carrier(), Told(keeps_open=False)
    stream = opened(carrier, told)
    await turns(1)
    stream.arrived(PEER, Chunk("e", 1), b"")
    assert sent(stream) == [("x1", b"")]
    await turns(1)
    assert told.calls == ["eof", "closed"]


async def test_a_peer_that_ends_and_then_closes_has_one_end() -> None:
    carrier, told = Carrier(), Told()
    stream = opened(carrier, told)
    await turns(1)
    stream.arrived(PEER, Chunk("e", 1), b"")
    stream.arrived(PEER, Chunk("c", 2, 1), b"")  # it still reads
    stream.arrived(PEER, Chunk("x", 3), b"")
    assert told.calls == ["eof"]
    stream.close()
    await turns(1)
    assert told.calls == ["eof", "closed"]


async def test_an_end_that_was_not_read_before_the_peer_closed() -> None:
    carrier, told = Carrier(), Told()
    stream = opened(carrier, told)
    stream.pause_reading()
    stream.arrived(PEER, Chunk("d", 1), bytes(9000))
    stream.arrived(PEER, Chunk("e", 2), b"")
    stream.arrived(PEER, Chunk("x", 3), b"")
    stream.resume_reading()
    await turns(1)
    assert told.calls == [bytes(9000), "eof"]
    assert sent(stream) == []  # no credit, which would be answered with a reset


@pytest.mark.parametrize(("first", "second"), ["ed", "ee", "xd", "xe", "xx"])
async def test_who_goes_on_after_the_end_does_not_keep_to_the_protocol(
    first: str, second: str
) -> None:
    carrier, told = Carrier(), Told()
    stream = opened(carrier, told)
    await turns(1)
    stream.arrived(PEER, Chunk(first, 1), b"")
    stream.arrived(PEER, Chunk(second, 2), b"late" if second == "d" else b"")
    await turns(1)
    assert told.calls == ["eof", "ConnectionResetError"]
    assert carrier.posted == ["r"]


async def test_a_peer_that_has_closed_loses_what_is_written() -> None:
    carrier, told = Carrier(), Told()
    stream = opened(carrier, told)
    await turns(1)
    stream.arrived(PEER, Chunk("x", 1), b"")
    stream.write(b"x")
    await turns(1)
    assert told.calls == ["eof", "BrokenPipeError"]


async def test_a_blocked_writer_is_told_that_its_peer_has_closed_while_reading_is_paused() -> None:
    carrier, told = Carrier(), Told()
    stream = opened(carrier, told, credit=0)
    stream.pause_reading()
    stream.write(bytes(100_000))
    stream.arrived(PEER, Chunk("d", 1), b"kept")
    stream.arrived(PEER, Chunk("x", 2), b"")
    await turns(1)
    assert told.calls == ["pause", "BrokenPipeError"]
    unread = unread_of(stream)
    assert unread is not None
    assert [unread.read(), unread.read()] == [b"kept", b""]


async def test_aborting_drops_everything_and_resets_the_peer() -> None:
    carrier, told = Carrier(), Told()
    stream = opened(carrier, told)
    stream.write(b"x")
    stream.abort()
    stream.abort()
    assert (sent(stream), carrier.posted) == ([], ["r"])
    await turns(1)
    assert told.calls == ["closed"]


async def test_a_loss_is_told_once_and_what_had_arrived_is_kept() -> None:
    carrier, told = Carrier(), Told()
    stream = opened(carrier, told)
    stream.pause_reading()
    stream.arrived(PEER, Chunk("d", 1), b"kept")
    stream.arrived(PEER, Chunk("d", 3), b"after a gap")
    stream.arrived(PEER, Chunk("d", 4), b"later")
    stream.cut(OSError())
    stream.unheard()
    await turns(1)
    assert told.calls == ["ConnectionResetError"]
    assert carrier.posted == ["r"]
    unread = unread_of(stream)
    assert unread is not None
    assert [unread.read(), unread.read()] == [b"kept", b""]
    assert carrier.budget.free == Budget().free


async def test_only_chunks_from_the_inbox_of_the_peer_are_taken() -> None:
    carrier, told = Carrier(), Told()
    stream = opened(carrier, told, credit=0)
    stream.write(b"x")
    await turns(1)
    for kind in "dcexr":
        stream.arrived("_INBOX.stranger.1", Chunk(kind, 1, 999), b"")
    await turns(1)
    assert (sent(stream), told.calls, carrier.posted) == ([], [], [])
    stream.arrived("_INBOX.stranger.1", Chunk("a", 0, 999), b"")
    assert carrier.posted == ["r"]  # so that it keeps no channel that nobody uses
    stream.arrived(PEER, Chunk("c", 1, 999), b"")
    assert sent(stream) == [("d1", b"x")]


async def test_a_failing_protocol_is_reported_and_loses_its_channel() -> None:
    class Failing(Told):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError

    carrier, told = Carrier(), Failing()
    heard: list[Any] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: heard.append(context["exception"]))
    try:
        stream = opened(carrier, told)
        await turns(1)
        stream.arrived(PEER, Chunk("d", 1), b"x")
        await turns(1)
    finally:
        loop.set_exception_handler(before)
    assert [type(error) for error in heard] == [ZeroDivisionError]
    assert told.calls == ["ZeroDivisionError"]


@pytest.mark.parametrize(("high", "low"), [(1, 2), (0, -1)])
async def test_limits_that_make_no_sense(high: int, low: int) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        opened(Carrier(), Told()).set_write_buffer_limits(high, low)
