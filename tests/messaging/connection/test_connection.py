"""One connection over a transport that a test drives by hand: every order of events."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import pytest

import tofu_aio as tofu
from tests.messaging.peers import Pair, frame, transport_of, turns, until
from tofu_aio import OpCode, Status
from tofu_aio.messaging.connection import closing as closing_module
from tofu_aio.messaging.connection.closing import Closing
from tofu_aio.messaging.connection.connection import AT_ONCE, PORTION, Connection
from tofu_aio.messaging.connection.frame_queue import LONG
from tofu_aio.messaging.connection.sink import Sink
from tofu_aio.messaging.delivery.wake_up import WakeUps
from tofu_aio.messaging.flow_control.read_gate import ReadGate
from tofu_aio.messaging.limits import Limits
from tofu_aio.protocol.binary_header import HEADER_SIZE
from tofu_aio.protocol.decoder import Decoder
from tofu_aio.protocol.lifecycle import State
from tofu_aio.protocol.message import Message

HIGH_WATER = 2 * LONG
"""So that one of the longest bodies is above, and is written at once."""

gathers = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no call that sends several chunks"
)


class FakeTransport(asyncio.Transport):
    """Does what asyncio's contract requires, when the test calls for it.

    Like some versions of asyncio it does not check its buffer's limit after ``writelines``.
    """

    def __init__(self, protocol: Connection) -> None:
        super().__init__()
        self.protocol = protocol
        self.writes: list[bytes] = []
        self.gathered: list[list[bytes]] = []
        self.stuck = False  # the peer takes nothing: what is written stays in the buffer
        self.buffered = 0
        self.high = 0
        self.reading = True
        self.closing = False
        self.aborted = False
        self.lost = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        self.high = high
        if self.buffered > high:
            self.protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def write(self, data: Any) -> None:
        was = self.buffered
        self._keep(bytes(data))
        if was <= self.high < self.buffered:
            self.protocol.pause_writing()

    def writelines(self, pieces: Any) -> None:
        self.gathered.append(list(pieces))
        self._keep(b"".join(pieces))

    def _keep(self, data: bytes) -> None:
        assert data, "an empty write"
        if not self.lost:
            self.writes.append(data)
            self.buffered += len(data) * self.stuck

    def take(self) -> None:
        """The peer takes all."""
        was, self.buffered = self.buffered, 0
        if was > self.high:
            self.protocol.resume_writing()
        if self.closing:
            self._lose(None)

    def is_reading(self) -> bool:
        return self.reading and not self.closing

    def pause_reading(self) -> None:
        assert self.is_reading()
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.closing
        assert not self.reading
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True
        if not self.buffered:
            self._lose(None)

    def abort(self) -> None:
        self.closing = self.aborted = True
        self.buffered = 0
        self._lose(None)

    def fail(self, error: Exception | None) -> None:
        """The connection breaks."""
        self.closing = True
        self.buffered = 0
        self._lose(error)

    def _lose(self, error: Exception | None) -> None:
        if not self.lost:
            self.lost = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, error)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    @property
    def sent(self) -> list[Message]:
        """What was written, as messages."""
        return Decoder(None, State.OVERHEARD).feed(b"".join(self.writes))


class Recorder:
    """A sink that records all reports, in order, and then calls ``act`` with the messages."""

    def __init__(self) -> None:
        self.act: Callable[[list[Message], WakeUps], None] | None = None
        self.told: list[object] = []
        self.messages: list[Message] = []
        self.suspensions = 0
        self.says = 0

    def deliver(self, batch: list[Message], wake_ups: WakeUps) -> None:
        assert batch, "an empty batch was delivered"
        assert not any(isinstance(what, tofu.TofuError) for what in self.told)
        self.messages += batch
        self.told += [(message.op_code, message.body) for message in batch]
        if self.act is not None:
            self.act(batch, wake_ups)

    def ended(self, error: tofu.TofuError) -> None:
        self.told.append(error)

    @property
    def waits(self) -> int:
        return 0

    def lost(self) -> None:
        """Not recorded."""

    def suspended(self) -> None:
        self.suspensions += 1

    def said(self) -> None:
        assert self.errors, "the last frame left before the end was reported"
        self.says += 1

    def closed(self) -> None:
        self.told.append("closed")

    @property
    def bodies(self) -> list[bytes]:
        return [message.body for message in self.messages]

    @property
    def errors(self) -> list[tofu.TofuError]:
        return [what for what in self.told if isinstance(what, tofu.TofuError)]


class Bench:
    """A connection between a fake transport and a recorder.

    Args:
        size: of its pool; with 0 others hold all of that, and the connection has its reserve.
        state: of the connection.
    """

    def __init__(self, size: int = 4, state: State = State.OPEN) -> None:
        limits = Limits(size or 1, write_high_water=HIGH_WATER)
        self.gate = ReadGate(limits, lambda _: True, lambda _: None)
        self.gate.open()
        self.pool = self.gate.pool
        self.others = 0 if size else 1
        for _ in range(self.others):
            self.pool.free.pop()
        self.connection = Connection(self.gate, state, 7)
        self.sink = Recorder()
        sink: Sink = self.sink
        self.connection.sink = sink
        self.transport = FakeTransport(self.connection)
        self.connection.connection_made(self.transport)

    @property
    def held(self) -> int:
        """How many of its messages hold a permit, or the reserve."""
        return self.pool.out - self.others + len(self.pool.reserves)

    def feed(self, *frames: bytes) -> None:
        self.connection.data_received(b"".join(frames))

    async def end(self) -> None:
        """After any history, closing works, is reported once and last, and leaves no permit out."""
        await self.connection.closing.aclose()
        await turns(2)
        assert self.connection.closing.done.done()
        assert self.transport.lost
        assert len(self.sink.errors) == 1
        assert self.sink.told[-2:] == [self.sink.errors[0], "closed"]
        assert not self.pool.suspended
        for message in self.sink.messages:
            message.release()
        assert self.held == 0


def bye(op_code: OpCode = OpCode.BYE_REQUEST, message_id: int = 99) -> bytes:
    return frame(op_code, message_id=message_id)


# --- receiving -----------------------------------------------------------------------------


async def test_messages_come_in_order_under_the_local_number() -> None:
    bench = Bench()
    bench.feed(frame(body=b"1"), frame(body=b"2", channel=5))
    assert bench.sink.bodies == [b"1", b"2"]
    assert {message.channel_number for message in bench.sink.messages} == {7}
    assert bench.connection.received == 2
    bench.transport.fail(None)
    await bench.end()


@pytest.mark.parametrize("last_word", ["eof", "lost", "eof then lost"])
async def test_what_arrived_before_the_end_comes_first(last_word: str) -> None:
    bench = Bench()
    bench.feed(frame(body=b"1"), frame(body=b"2")[:-1])
    if "eof" in last_word:
        assert bench.connection.eof_received() is True
    if "lost" in last_word:
        bench.transport.fail(ConnectionResetError("reset"))
    await turns(3)
    assert bench.sink.bodies == [b"1"]
    (error,) = bench.sink.errors
    assert isinstance(error, tofu.PeerDisconnected)
    assert bench.held == 1, "the incomplete one gave its permit back"
    await bench.end()


@pytest.mark.parametrize("last_word", ["eof", "lost", "eof then lost"])
async def test_the_end_waits_until_a_starved_channel_has_delivered_all(last_word: str) -> None:
    bench = Bench(size=0)
    bench.feed(frame(body=b"1"), frame(body=b"2"), frame(body=b"3"))
    if "eof" in last_word:
        bench.connection.eof_received()
    if "lost" in last_word:
        bench.transport.fail(None)
    await turns(4)
    assert bench.sink.bodies == [b"1"]
    assert not bench.sink.errors
    bench.sink.messages[0].release()
    await turns(2)
    assert bench.sink.bodies == [b"1", b"2"]
    assert not bench.sink.errors
    bench.sink.messages[1].release()
    await turns(4)
    assert bench.sink.bodies == [b"1", b"2", b"3"]
    assert isinstance(bench.sink.errors[0], tofu.PeerDisconnected)
    await bench.end()


@pytest.mark.parametrize("last_word", ["eof", "lost"])
async def test_a_finished_bye_is_no_loss_however_late_it_is_read(last_word: str) -> None:
    """All of it was in the buffer of a starved channel when the peer, done, went away."""
    bench = Bench(size=0)
    bye_id = bench.connection.queue.enqueue_judged(OpCode.BYE_REQUEST)
    bench.feed(frame(body=b"1"), frame(body=b"2"), bye(OpCode.BYE_RESPONSE, bye_id))
    bench.connection.eof_received() if last_word == "eof" else bench.transport.fail(None)
    await turns(4)
    bench.sink.messages[0].release()
    await turns(4)
    assert [op_code for op_code, _ in bench.sink.told[:3]] == [  # type: ignore[misc]
        OpCode.REQUEST,
        OpCode.REQUEST,
        OpCode.BYE_RESPONSE,
    ]
    assert isinstance(bench.sink.errors[0], tofu.ChannelEnded)
    await bench.end()


async def test_a_violation_that_waited_for_a_permit_is_told_although_the_peer_has_gone() -> None:
    bench = Bench(size=0)
    bench.feed(frame(body=b"1"), frame(body=b"2"), frame(13))
    bench.connection.eof_received()
    await turns(3)
    bench.sink.messages[0].release()
    await turns(3)
    assert bench.sink.bodies == [b"1", b"2"]
    assert isinstance(bench.sink.errors[0], tofu.ProtocolViolation)
    await bench.end()


async def test_good_messages_before_a_violation_are_delivered() -> None:
    bench = Bench()
    bench.feed(frame(body=b"1"), frame(13, body=b"x"), frame(body=b"2"))
    assert bench.sink.bodies == [b"1"]
    (error,) = bench.sink.errors
    assert isinstance(error, tofu.ProtocolViolation)
    assert error.status is Status.INVALID_OP_CODE
    assert "op code 13" in str(error)
    bench.feed(frame(body=b"3"))
    assert bench.sink.bodies == [b"1"]
    await bench.end()


async def test_more_data_for_a_starved_channel_stops_reading_there_and_then() -> None:
    bench = Bench(size=0)
    bench.feed(frame(body=b"1"), frame(body=b"2"))
    assert bench.transport.reading, "not before the end of the turn"
    bench.feed(frame(body=b"3"))
    assert not bench.transport.reading
    assert list(bench.pool.waiters) == [bench.connection.suspension], "it waits in line once"
    assert bench.connection.suspension.suspensions == 1
    bench.sink.messages[0].release()
    await turns(2)
    bench.sink.messages[1].release()
    await turns(2)
    assert bench.sink.bodies == [b"1", b"2", b"3"]
    assert bench.transport.reading
    bench.transport.fail(None)
    await bench.end()


async def test_starving_and_recovering_within_a_turn_never_touches_the_transport() -> None:
    bench = Bench(size=0)
    touched: list[str] = []
    bench.transport.pause_reading = lambda: touched.append("pause")  # type: ignore[method-assign]
    bench.transport.resume_reading = lambda: touched.append("resume")  # type: ignore[method-assign]
    bench.feed(frame(body=b"1"), frame(body=b"2"))
    assert bench.connection.decoder.starved
    bench.sink.messages[0].release()
    await turns(3)
    assert bench.sink.bodies == [b"1", b"2"]
    assert not touched
    assert bench.connection.suspension.suspensions == 1
    bench.transport.fail(None)
    await bench.end()


# --- sending -------------------------------------------------------------------------------


async def test_a_turn_has_one_write() -> None:
    bench = Bench()
    for number in range(10):
        bench.connection.queue.enqueue(OpCode.SIGNAL, body=b"%d" % number)
    assert not bench.transport.writes
    assert bench.connection.queue.nbytes == 10 * 17
    await turns(1)
    assert len(bench.transport.writes) == 1
    assert [message.body for message in bench.transport.sent] == [b"%d" % n for n in range(10)]
    assert bench.connection.queue.nbytes == 0
    bench.transport.fail(None)
    await bench.end()


async def test_what_is_answered_while_it_is_received_is_written_portion_by_portion() -> None:
    bench = Bench(1000)

    def echo(batch: list[Message], _: WakeUps) -> None:
        for message in batch:
            bench.connection.queue.enqueue(OpCode.RESPONSE, message.message_id)

    bench.sink.act = echo
    bench.feed(*[frame()] * (3 * PORTION + 2))
    assert [len(write) // HEADER_SIZE for write in bench.transport.writes] == [
        PORTION,
        2 * PORTION,
        2,
    ]
    assert len(bench.transport.sent) == len(bench.sink.messages) == 3 * PORTION + 2
    bench.transport.fail(None)
    await bench.end()


async def test_a_long_chunk_leaves_others_their_turns() -> None:
    bench = Bench(AT_ONCE)
    count = 3 * AT_ONCE

    def release(batch: list[Message], _: WakeUps) -> None:
        for message in batch:
            message.release()

    bench.sink.act = release
    bench.feed(*[frame()] * count)
    handled = len(bench.sink.messages)
    assert AT_ONCE <= handled < 2 * AT_ONCE
    bench.feed(frame(body=b"last"))
    assert not bench.transport.reading
    bench.connection.eof_received()
    assert len(bench.sink.messages) == handled
    assert not bench.sink.errors, "what has arrived comes before the end"
    await turns(3)
    assert len(bench.sink.messages) == count + 1
    assert bench.sink.bodies[-1] == b"last"
    assert isinstance(bench.sink.errors[0], tofu.PeerDisconnected)
    await bench.end()


async def test_who_was_answered_goes_on_whatever_comes_in_between() -> None:
    bench = Bench()
    told: list[str] = []

    def fail(_: list[Message], wake_ups: WakeUps) -> None:
        wake_ups.append((copy_context(), told.append, "went on"))
        raise MemoryError

    bench.sink.act = fail
    with pytest.raises(MemoryError):
        bench.feed(frame())
    await turns(1)
    assert told == ["went on"]
    bench.transport.fail(None)
    await bench.end()


@gathers
async def test_long_bodies_are_written_together_and_uncopied() -> None:
    bench = Bench()
    body = bytes(LONG)
    bench.connection.queue.enqueue(OpCode.SIGNAL, body=b"short")
    for _ in range(3):
        bench.connection.queue.enqueue(OpCode.SIGNAL, body=body, at_once=True)
    assert not bench.transport.gathered, "it is less than twice the high-water mark"
    bench.connection.queue.enqueue(OpCode.SIGNAL, body=body, at_once=True)
    (pieces,) = bench.transport.gathered
    assert [piece for piece in pieces if piece is body] == 4 * [body]
    assert [message.body for message in bench.transport.sent] == [b"short", *4 * [body]]
    bench.connection.queue.enqueue(OpCode.SIGNAL, body=body, at_once=True)
    await turns(1)
    assert len(bench.transport.gathered) == 2, "nor is a turn waited"
    bench.transport.fail(None)
    await bench.end()


@gathers
async def test_what_the_transport_holds_counts_when_long_bodies_are_collected() -> None:
    bench = Bench()
    bench.transport.stuck = True
    bench.connection.queue.enqueue(OpCode.SIGNAL, body=bytes(LONG - 1), at_once=True)
    await turns(1)
    assert 0 < bench.transport.buffered < HIGH_WATER
    for _ in range(3):
        assert not bench.transport.gathered
        bench.connection.queue.enqueue(OpCode.SIGNAL, body=bytes(LONG), at_once=True)
    assert len(bench.transport.gathered) == 1
    assert bench.connection.queue.nbytes == bench.transport.buffered <= 2 * HIGH_WATER + LONG
    bench.transport.fail(None)
    await bench.end()


async def test_beyond_the_high_water_mark_frames_stay_here_until_there_is_room() -> None:
    bench = Bench()
    bench.transport.stuck = True
    for _ in range(10):
        bench.connection.queue.enqueue(OpCode.SIGNAL, body=bytes(65535), at_once=True)
    assert len(bench.transport.writes) == 1
    assert bench.transport.high == HIGH_WATER
    assert bench.connection.queue.nbytes == 10 * (65535 + 16)
    bench.transport.stuck = False
    bench.transport.take()
    assert len(bench.transport.writes) == 1, "the transport is in the middle of something"
    await turns(1)
    assert len(bench.transport.sent) == 10
    bench.transport.fail(None)
    await bench.end()


async def test_a_refused_message_queues_nothing() -> None:
    bench = Bench()
    queue = bench.connection.queue
    cases: list[tuple[type[Exception], tuple[Any, ...]]] = [
        (tofu.InvalidMessageId, (OpCode.RESPONSE, 0)),
        (tofu.InvalidMessageId, (OpCode.REQUEST, 2**64)),
        (tofu.InvalidMessageId, (OpCode.REQUEST, -1)),
        (tofu.InvalidHeadersLen, (OpCode.REQUEST, 1, bytes(65536))),
        (tofu.InvalidBodyLen, (OpCode.REQUEST, 1, b"", bytes(65536))),
        (TypeError, (OpCode.REQUEST, 1, b"", "text")),
        (tofu.NotAllowed, (OpCode.HELLO_REQUEST,)),
        (tofu.NotAllowed, (OpCode.WELCOME_REQUEST,)),
        (tofu.NotAllowed, (OpCode.BYE_RESPONSE, 1)),
    ]
    for error, (op_code, *others) in cases:
        put = queue.enqueue if op_code <= OpCode.SIGNAL else queue.enqueue_judged
        with pytest.raises(error):
            put(op_code, *others)
    assert queue.nbytes == queue.sent == 0
    await turns(2)
    assert not bench.transport.writes
    bench.transport.fail(None)
    await bench.end()


async def test_a_forwarded_message_keeps_its_permit_until_it_is_written() -> None:
    bench = Bench(size=2)
    bench.transport.stuck = True
    bench.connection.queue.enqueue(OpCode.SIGNAL, body=bytes(65535), at_once=True)
    assert bench.connection.queue.paused
    bench.feed(frame(body=b"1"))
    message = bench.sink.messages[0]
    bench.connection.queue.enqueue_message(message)
    message.release()
    assert bench.held == 1, "the queue holds it"
    bench.connection.queue.enqueue_message(message)
    assert bench.held == 1
    bench.transport.take()
    await turns(1)
    assert bench.held == 0
    bench.transport.fail(None)
    await bench.end()


async def test_the_permit_of_a_forwarded_message_returns_to_its_own_pool() -> None:
    """A message of one engine, sent on over a channel of another."""
    here, there = Bench(size=2), Bench(size=2)
    here.feed(frame(body=b"1"))
    there.connection.queue.enqueue_message(here.sink.messages[0])
    assert (here.held, there.held) == (1, 0)
    await turns(2)
    assert (here.held, there.held) == (0, 0)
    for bench in (here, there):
        bench.transport.fail(None)
        await bench.end()


async def test_a_forwarded_message_gives_its_permit_back_when_its_channel_is_lost() -> None:
    bench = Bench(size=2)
    bench.transport.stuck = True
    bench.connection.queue.enqueue(OpCode.SIGNAL, body=bytes(65535), at_once=True)
    bench.feed(frame(body=b"1"))
    bench.connection.queue.enqueue_message(bench.sink.messages[0])
    assert bench.held == 1
    bench.transport.fail(ConnectionResetError())
    await turns(2)
    assert bench.held == 0
    await bench.end()


async def test_a_refused_message_keeps_its_permit() -> None:
    bench = Bench(size=2)
    bench.feed(frame(OpCode.RESPONSE, message_id=5))
    message = bench.sink.messages[0]
    message.message_id = 0
    with pytest.raises(tofu.InvalidMessageId):
        bench.connection.queue.enqueue_message(message)
    assert bench.held == 1
    bench.transport.fail(None)
    await bench.end()


async def test_senders_wait_in_line_and_each_gets_its_turn() -> None:
    bench = Bench()
    bench.transport.stuck = True
    bench.connection.queue.enqueue(OpCode.SIGNAL, body=bytes(65535), at_once=True)

    async def send(number: int) -> None:
        await bench.connection.queue.wait_for_room()
        bench.connection.queue.enqueue(OpCode.SIGNAL, body=bytes([number]) * 65535, at_once=True)

    senders = [asyncio.create_task(send(number)) for number in range(4)]
    await turns(3)
    senders[1].cancel()
    for done in (1, 2, 3):
        bench.transport.take()
        await turns(4)
        assert sum(sender.done() for sender in senders) == done + 1, "one at a time"
    bench.transport.take()
    assert [message.body[:1] for message in bench.transport.sent] == [b"\0", b"\0", b"\2", b"\3"]
    assert senders[1].cancelled()
    bench.transport.fail(None)
    await bench.end()


async def test_a_sender_does_not_pass_one_that_found_no_room_at_its_turn() -> None:
    bench = Bench()
    connection = bench.connection
    bench.transport.stuck = True
    connection.queue.enqueue(OpCode.SIGNAL, body=bytes(65535), at_once=True)
    went: list[int] = []

    async def send(number: int) -> None:
        await connection.queue.wait_for_room()
        went.append(number)

    class RoomAgain(CountedLoop):
        """There is room as soon as the first has begun to wait again."""

        def create_future(self) -> CountedFuture:
            connection.queue.paused = False
            return super().create_future()

    senders = [asyncio.create_task(send(number)) for number in range(3)]
    await turns(2)
    bench.transport.take()
    await turns(1)  # all three are woken, and none has run
    connection.queue.paused = True
    connection.loop = RoomAgain()  # type: ignore[assignment]
    await turns(3)
    assert not went
    connection._go_on_writing()
    await asyncio.gather(*senders)
    assert went == [0, 1, 2]
    bench.transport.fail(None)
    await bench.end()


@pytest.mark.parametrize("end", ["lost", "bye", "dismissed"])
async def test_a_sender_that_was_woken_hears_of_an_end_before_its_turn(end: str) -> None:
    """Though there is no room by then: the end is not reported again."""
    bench = Bench()
    connection = bench.connection
    bench.transport.stuck = True
    connection.queue.enqueue(OpCode.SIGNAL, body=bytes(65535), at_once=True)
    sending = asyncio.create_task(connection.queue.wait_for_room())
    await turns(2)
    bench.transport.take()
    await turns(1)  # it is woken, and has not run
    connection.queue.paused = True
    if end == "lost":
        bench.transport.fail(None)
        connection.connection_lost(None)
    elif end == "bye":
        connection.queue.enqueue_judged(OpCode.BYE_REQUEST)
    else:
        connection.closing.dismiss(tofu.ChannelClosed("away"))
    connection.queue.paused = True
    with pytest.raises((tofu.ChannelClosed, tofu.PeerDisconnected)):
        await sending
    assert not connection.queue.senders_waiting
    if end != "lost":
        bench.transport.fail(None)
    await bench.end()


async def test_a_bye_is_no_burst_of_messages_after_which_others_have_a_turn() -> None:
    bench = Bench()
    bench.connection.queue.enqueue_judged(OpCode.BYE_REQUEST, at_once=True)
    assert not bench.connection.queue.congested
    bench.connection.queue.enqueue_message(tofu.Message(OpCode.BYE_SIGNAL))
    await bench.end()


class CountedFuture(asyncio.Future[None]):
    """Counts how often one is compared with another."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        CountedFuture.compared += 1
        return self is other

    __hash__ = asyncio.Future.__hash__


class CountedLoop:
    """The running loop, but for what its futures are."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def create_future(self) -> CountedFuture:
        return CountedFuture(loop=self._loop)


@pytest.mark.parametrize("order", [1, -1], ids=["the first first", "the last first"])
async def test_a_sender_that_is_cancelled_is_not_searched_for_among_the_others(order: int) -> None:
    bench = Bench()
    bench.transport.stuck = True
    bench.connection.loop = CountedLoop()  # type: ignore[assignment]
    bench.connection.queue.enqueue(OpCode.SIGNAL, body=bytes(65535), at_once=True)
    senders = [asyncio.create_task(bench.connection.queue.wait_for_room()) for _ in range(100)]
    await turns(2)
    assert bench.connection.queue.senders_waiting == 100
    CountedFuture.compared = 0
    for sender in senders[::order]:
        sender.cancel()
        await turns(2)
        assert sender.cancelled()
    assert not bench.connection.queue.senders_waiting
    assert CountedFuture.compared == 0
    bench.transport.fail(None)
    await bench.end()


async def test_a_sender_cancelled_as_its_turn_comes_passes_it_on() -> None:
    bench = Bench()
    bench.transport.stuck = True
    bench.connection.queue.enqueue(OpCode.SIGNAL, body=bytes(65535), at_once=True)
    first = asyncio.create_task(bench.connection.queue.wait_for_room())
    second = asyncio.create_task(bench.connection.queue.wait_for_room())
    await turns(2)
    bench.transport.take()
    first.cancel()
    await turns(4)
    assert first.cancelled()
    assert second.done()
    await second
    bench.transport.fail(None)
    await bench.end()


async def test_who_sends_without_a_pause_still_lets_a_loss_come_through() -> None:
    """After a failed write a transport accepts everything, drops it, and reports that later."""
    bench = Bench()
    connection = bench.connection
    bench.transport.fail(ConnectionResetError("reset"))

    async def flood() -> None:
        for _ in range(1000):
            if connection.queue.paused or connection.queue.senders_waiting:
                await connection.queue.wait_for_room()
            connection.queue.enqueue(OpCode.SIGNAL, body=bytes(60000), at_once=True)

    with pytest.raises(tofu.PeerDisconnected, match="reset"):
        await flood()
    assert connection.queue.sent < 5
    await bench.end()


@pytest.mark.parametrize("starved", [False, True])
@pytest.mark.parametrize("end", ["eof", "lost", "aclose", "send_eof", "abort"])
async def test_who_waits_for_room_learns_of_the_end_at_once(end: str, starved: bool) -> None:
    """Also where the end itself must wait for permits, which the senders may be holding."""
    bench = Bench(size=0)
    bench.transport.stuck = True
    bench.connection.queue.enqueue(OpCode.SIGNAL, body=bytes(65535), at_once=True)
    if starved:
        bench.feed(frame(body=b"1"), frame(body=b"2"))

    async def send() -> None:
        await bench.connection.queue.wait_for_room()
        bench.connection.queue.enqueue(OpCode.SIGNAL)

    sender = asyncio.create_task(send())
    await turns(2)
    closing: asyncio.Task[None] | None = None
    expected: type[tofu.TofuError] = tofu.ChannelClosed
    if end == "eof":
        bench.connection.eof_received()
        expected = tofu.PeerDisconnected
    elif end == "lost":
        bench.transport.fail(None)
        expected = tofu.PeerDisconnected
    elif end == "aclose":
        closing = asyncio.create_task(bench.connection.closing.aclose())
    elif end == "send_eof":
        bench.connection.queue.enqueue_judged(OpCode.BYE_REQUEST)
    else:
        bench.connection.closing.abort(tofu.ChannelClosed("aborted"))
    await turns(4)
    assert sender.done()
    with pytest.raises(expected):
        await sender
    with pytest.raises(expected):
        await send()
    bench.transport.fail(None)
    if closing is not None:
        await closing
    await bench.end()


# --- ending --------------------------------------------------------------------------------


async def test_closing_a_starved_channel_answers_the_bye_that_waited() -> None:
    bench = Bench(size=0)
    bench.feed(frame(body=b"1"), frame(body=b"2"), bye())
    await bench.connection.closing.aclose()
    assert [message.op_code for message in bench.transport.sent] == [OpCode.BYE_RESPONSE]
    assert bench.sink.bodies == [b"1"]
    await bench.end()


@pytest.mark.parametrize("last_word", ["eof", "lost"])
async def test_closing_a_starved_channel_whose_peer_said_bye_and_left(last_word: str) -> None:
    bench = Bench(size=0)
    bench.feed(frame(body=b"1"), frame(body=b"2"), bye())
    bench.connection.eof_received() if last_word == "eof" else bench.transport.fail(None)
    await turns(3)
    assert not bench.sink.errors
    await bench.end()


async def test_aborting_a_starved_channel_sends_nothing_more() -> None:
    bench = Bench(size=0)
    bench.transport.stuck = True
    bench.connection.queue.enqueue(OpCode.SIGNAL, body=bytes(65535), at_once=True)
    bench.connection.queue.enqueue(OpCode.SIGNAL, body=b"dropped")
    bench.feed(frame(body=b"1"), frame(body=b"2"), bye())
    reason = tofu.ChannelClosed("aborted")
    bench.connection.closing.abort(reason)
    assert bench.transport.aborted
    assert bench.sink.errors == [reason]
    assert len(bench.transport.writes) == 1
    await bench.end()


async def test_crossing_byes_end_once_both_are_answered() -> None:
    bench = Bench()
    closing = asyncio.create_task(bench.connection.closing.aclose())
    await turns(2)
    (ours,) = bench.transport.sent
    bench.feed(bye())
    await turns(2)
    assert not closing.done()
    assert [message.op_code for message in bench.transport.sent] == [
        OpCode.BYE_REQUEST,
        OpCode.BYE_RESPONSE,
    ]
    assert bench.transport.sent[1].message_id == 99
    bench.feed(bye(OpCode.BYE_RESPONSE, ours.message_id))
    await closing
    await bench.end()


async def test_a_bye_answered_with_the_wrong_id_is_a_violation() -> None:
    bench = Bench()
    bye_id = bench.connection.queue.enqueue_judged(OpCode.BYE_REQUEST)
    bench.feed(bye(OpCode.BYE_RESPONSE, bye_id + 1))
    (error,) = bench.sink.errors
    assert isinstance(error, tofu.ProtocolViolation)
    assert error.status is Status.INVALID_MESSAGE_ID
    await bench.end()


async def test_a_peer_that_never_answers_bye_is_left_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(closing_module, "BYE_TIMEOUT", 0.02)
    bench = Bench()
    await bench.connection.closing.aclose()
    assert not bench.transport.aborted, "the kernel has it all, and goes on delivering"
    assert "did not answer Bye within 0.02 s" in str(bench.sink.errors[0])
    await bench.end()


async def test_a_peer_that_takes_nothing_of_the_last_words_is_left_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """hang_up has its own deadline, and needs no task that waits in aclose."""
    monkeypatch.setattr(closing_module, "BYE_TIMEOUT", 0.02)
    bench = Bench()
    bench.transport.stuck = True
    bench.connection.queue.enqueue(OpCode.SIGNAL, body=bytes(65535), at_once=True)
    bench.feed(frame(13))
    assert bench.transport.closing
    assert not bench.transport.lost
    await until(lambda: bench.transport.lost)
    assert bench.transport.aborted
    await bench.end()


async def test_all_that_was_queued_is_written_before_hanging_up() -> None:
    bench = Bench()
    bench.transport.stuck = True
    for _ in range(4):
        bench.connection.queue.enqueue(OpCode.SIGNAL, body=bytes(65535), at_once=True)
    bench.feed(bye())
    bench.connection.queue.enqueue_judged(OpCode.BYE_RESPONSE)
    bench.connection.eof_received()
    assert bench.transport.closing
    assert not bench.transport.lost
    assert [message.op_code for message in bench.transport.sent] == [
        *[OpCode.SIGNAL] * 4,
        OpCode.BYE_RESPONSE,
    ]
    bench.transport.take()
    await bench.end()


async def test_after_the_end_nothing_can_be_sent() -> None:
    bench = Bench()
    bench.connection.eof_received()
    with pytest.raises(tofu.PeerDisconnected):
        bench.connection.queue.enqueue(OpCode.SIGNAL)
    await bench.end()
    with pytest.raises(tofu.ChannelClosed):
        bench.connection.queue.enqueue(OpCode.SIGNAL)


async def test_what_comes_while_closing_is_dropped_without_permits() -> None:
    bench = Bench(size=0)
    bench.feed(frame(body=b"1"), frame(body=b"2"))
    closing = asyncio.create_task(bench.connection.closing.aclose())
    await turns(2)
    assert not bench.pool.suspended, "it no longer blocks others"
    assert bench.transport.reading
    for _ in range(10):
        bench.feed(frame(body=b"late"))
        assert bench.held == 1
    assert bench.sink.bodies == [b"1"]
    bench.feed(bye(OpCode.BYE_RESPONSE, bench.transport.sent[0].message_id))
    await closing
    await bench.end()


async def test_unsent_messages_come_back_as_they_were() -> None:
    bench = Bench()
    bench.transport.stuck = True
    bench.connection.queue.enqueue(OpCode.SIGNAL, body=bytes(65535), at_once=True)
    bench.connection.queue.enqueue(OpCode.REQUEST, 5, b"a:1\r\n", b"body")
    bench.connection.queue.enqueue_judged(OpCode.BYE_REQUEST, 6)
    unsent = bench.connection.queue.unsent()
    assert [(m.op_code, m.message_id, dict(m.headers), m.body) for m in unsent] == [
        (OpCode.REQUEST, 5, {"a": "1"}, b"body"),
        (OpCode.BYE_REQUEST, 6, {}, b""),
    ]
    assert not bench.connection.queue.unsent()
    bench.transport.fail(None)
    await bench.end()


async def test_a_connection_leaves_no_cycle_that_holds_permits() -> None:
    bench = Bench(size=4)
    bench.feed(frame(body=b"1"), frame(body=b"2"), frame(body=b"3")[:-1])
    pool = bench.pool
    bench.transport.fail(None)
    await turns(2)
    del bench
    gc.collect()
    assert (pool.out, len(pool.reserves)) == (0, 0)


# --- with real sockets ---------------------------------------------------------------------


async def test_nodelay_is_on_at_both_ends(tcp_pair: Pair) -> None:
    for channel in tcp_pair:
        sock = transport_of(channel).get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_connection_has_one_closing_even_if_a_handler_resets_it_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    made: list[Closing] = []
    make = Closing.__init__

    def interrupted(self: Closing, connection: Connection) -> None:
        monkeypatch.undo()
        made.append(connection.closing)  # as a signal handler that resets the channel does
        make(self, connection)

    monkeypatch.setattr(Closing, "__init__", interrupted)
    assert bench.connection.closing is made[0]
    assert bench.connection.closing is made[0]
    bench.transport.fail(None)
    await bench.end()
