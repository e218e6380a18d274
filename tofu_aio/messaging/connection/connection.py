"""One connection: bytes of an asyncio transport on one side, messages on the other side."""

from __future__ import annotations

import asyncio
from typing import Final, cast

from ...core import ConnectionFields, fast
from ...protocol.address import Address
from ...protocol.decoder import Decoder
from ...protocol.errors import (
    ChannelClosed,
    ChannelEnded,
    PeerDisconnected,
    ProtocolViolation,
    TofuError,
)
from ...protocol.lifecycle import State
from ...protocol.message import Message
from ...protocol.op_code import OpCode
from ...transport.stream_protocol import StreamProtocol
from ...transport.unread import unread_of
from ..delivery.wake_up import WakeUps, run_wake_ups, schedule_wake_ups
from ..flow_control.read_gate import ReadGate
from ..limits import EARLY_BYTES
from .agreements import NO_EXTENSION
from .closing import Closing
from .handshake import note_hello
from .heartbeat import Beating
from .send_queue import SendQueue
from .sink import Sink
from .suspension import Suspension

_OPEN: Final = State.OPEN

PORTION: Final = 32
"""Messages that are decoded, delivered and answered before the next ones. So the peer gets work,
and answered messages give their permits back, while the rest of a long chunk is processed. Each
portion is twice as long as the one before, because a peer with more work is busy for longer, but
leaves most of the pool to others."""

AT_ONCE: Final = 1024
"""Messages of a channel that are delivered before others have a turn. A chunk of 256 KiB may have
sixteen times as many."""

SMALL: Final = 16 * 1024
"""Bytes up to which a chunk is copied as a whole, which is faster than copying its messages one by
one. A longer chunk may have large bodies, which should not be copied twice."""


class Connection(ConnectionFields, StreamProtocol, asyncio.BufferedProtocol):
    """The engine's half of a channel, from the first byte to the last.

    It ties its parts together: ``decoder`` receives, ``queue`` sends, ``closing`` ends it, and
    ``gate`` decides which connections are read.

    Args:
        gate: of the engine.
        state: CONNECTING for a client, HELLO_AWAITED for a server.
        number: the local channel number.

    Attributes:
        beat_after, beat_before and so on: see ``Beating``.
        decoder: the receiving half. Its ``state`` is the channel's.
        end: why nothing more is received, as soon as that is known; None before.
        gate: as given.
        heartbeat: the interval that the Hello asks for, then the one agreed; None for none.
        peer_address: of the peer's socket, as known when it was connected.
        peer_supports: the peer's extensions, from its Hello or its answer to this side's.
        queue: the sending half.
        received: how many messages have arrived.
        sink: takes the received messages. Set before the first byte.
        suspension: made when the connection first waits for permits; None before.
    """

    __slots__ = ()

    def __init__(self, gate: ReadGate, state: State, number: int) -> None:
        self.gate = gate
        self.loop = asyncio.get_running_loop()
        self.decoder = Decoder(gate.pool, state, number)
        self.queue = SendQueue(self, self.decoder, number, gate.limits.write_high_water)
        self.end: TofuError | None = None
        self.sink: Sink
        self.received = 0
        self.suspension: Suspension | None = None
        self._closing: Closing | None = None
        self.heartbeat: float | None = None
        self.peer_address: Address | None = None
        self.peer_supports = NO_EXTENSION
        self.beat_after: Beating | None = None
        self.beat_before: Beating | None = None
        self.beat_arrived: int  # these are set when heartbeats begin
        self.beat_sent: int
        self.beat_sent_at: float
        self.beat_silent: int
        self.beat_taken: int

    @property
    def number(self) -> int:
        """The local channel number."""
        return self.queue.number

    @property
    def closing(self) -> Closing:
        """The part that ends the connection. Made at the first call."""
        if self._closing is None:
            fresh = Closing(self)
            if self._closing is None:  # else a signal handler has made one meanwhile
                self._closing = fresh
        return self._closing

    @property
    def closed_here(self) -> bool:
        """Whether it is closed, or being closed, on this side. Callable from any thread."""
        return self._closing is not None and self._closing.discarding

    @property
    def gone(self) -> bool:
        """Whether its socket is closed."""
        return self._closing is not None and self._closing.gone

    @property
    def suspended(self) -> bool:
        """Whether it waits for permits."""
        return self.suspension is not None and self.suspension.suspended_at is not None

    @property
    def _reported(self) -> bool:
        """Whether the sink knows the end."""
        return self._closing is not None and self._closing.reported

    # --- asyncio's protocol ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, and set its write limits."""
        self.queue.transport = cast("asyncio.Transport", transport)
        self.set_write_limits()

    def set_write_limits(self) -> None:
        """Make the transport compare its buffer with the high-water mark."""
        assert self.queue.transport is not None
        self.queue.transport.set_write_buffer_limits(*self.gate.limits.water)

    @fast
    def get_buffer(self, _: int) -> memoryview:
        """The buffer for a read: one for all connections, since each read is processed at once.

        For protocols without a buffer asyncio allocates 256 KiB for each read, which takes three
        system calls and more time than a small message.
        """
        return self.gate.buffer

    @fast
    def buffer_updated(self, nbytes: int) -> None:
        """Decode and deliver what arrived in the buffer."""
        view, decoder = self.gate.buffer[:nbytes], self.decoder
        data = view if nbytes > SMALL else view.tobytes()
        if decoder.waiting:
            self.data_received(data)
        else:  # at once: a call less for each read
            self.gate.received_bytes += nbytes
            self._receive(decoder.feed(data, PORTION))

    @fast
    def data_received(self, data: bytes | memoryview) -> None:
        """Decode and deliver what arrived."""
        self.gate.received_bytes += len(data)
        decoder = self.decoder
        if decoder.waiting:
            # More came before the end of the turn, so reading may have to stop now.
            decoder.feed(data)
            self.reconcile_reading()
        else:
            self._receive(decoder.feed(data, PORTION))

    def eof_received(self) -> bool:
        """The peer sends no more. Keep the transport for what this side still has to send."""
        closing = self.closing
        closing.lingering = False
        closing.finish(PeerDisconnected("the peer closed the connection without a Bye"))
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed. What it has received is still delivered."""
        closing, transport = self.closing, self.queue.transport
        if exc is not None and not closing.reported and transport is not None:
            closing.unread = unread_of(transport)
        self.detach()
        if isinstance(exc, TofuError):
            closing.finish(exc)
        else:
            lost = PeerDisconnected(f"the connection was lost: {exc or 'closed by the peer'}")
            # The frames of a traceback would keep alive what arrived at that moment.
            lost.__cause__ = exc and exc.with_traceback(None)
            closing.finish(lost)
        self.sink.lost()
        closing.read_rest()

    def detach(self) -> None:
        """Forget the closed transport. uvloop does not report one that was still being made."""
        self.queue.transport = None
        # Queued messages will never be sent, and messages that arrived may need their permits.
        self.queue.release_carried()
        self.queue.forget_answers()
        if self._closing is not None:
            self._closing.cancel_deadline()
        if self.heartbeat is not None:
            self.gate.heartbeats.leave(self, self.heartbeat)

    def pause_writing(self) -> None:
        """The transport is above its high-water mark."""
        self.queue.pause()

    def resume_writing(self) -> None:
        """The transport has room again. Write in the next turn, not within its callback.

        If a write from here finds the connection lost, some versions of asyncio (3.11 to 3.13)
        report an orderly close, and unread data of the peer would not be looked for.
        """
        self.queue.resume()
        self.loop.call_soon(self._go_on_writing)

    def _go_on_writing(self) -> None:
        self.queue.flush()
        self.queue.admit()
        if self._closing is not None and self._closing.reported and self._closing.lingers:
            self.sink.said()

    def count_answer(self, nbytes: int) -> None:
        """Count bytes that TLS has sent to the peer by itself."""
        self.queue.count_answer(nbytes)

    # --- receiving ------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether everything that has arrived was delivered."""
        return not self.decoder.waiting

    def reconcile_reading(self) -> None:
        """Make the transport read if, and only if, this channel can take something."""
        # Before its Hello is answered it is also read, to notice when the peer closes.
        undecided = self.decoder.early and self.decoder.held < EARLY_BYTES
        wanted = (self.idle or undecided) and not self.queue.answers_stuck
        transport = self.queue.transport
        if (
            transport is not None
            and not transport.is_closing()
            and transport.is_reading() is not wanted
        ):
            if wanted:
                transport.resume_reading()
            else:
                transport.pause_reading()
        if self.suspended:
            self.sink.suspended()

    def resume(self, granted: int) -> None:
        """Go on decoding with permits that were granted, or with the reserve, which came back."""
        # If the peer does not take answers, decode only the message that needed permits.
        portion = 0 if self.queue.answers_stuck else PORTION
        self._receive(self.decoder.resume(portion, granted))
        if self._closing is not None and self._closing.unread is not None:
            self._closing.read_rest()

    def lend(self) -> None:
        """A task begins to wait for a message: let one come even if permits are short."""
        if self.suspension is not None:
            self.suspension.lend()

    def reconsider(self) -> None:
        """Go on at the end of this turn if the message that waits no longer needs permits."""
        if self.suspension is not None and self.decoder.needs_none:
            self.gate.retry(self.suspension)

    def go_on_decoding_soon(self) -> None:
        """Go on decoding in the next turn, so that others have one before."""
        self.loop.call_soon(self._go_on_decoding)

    def _go_on_decoding(self) -> None:
        if self.decoder.pending:
            self._receive(self.decoder.more(PORTION))
            if self._closing is not None:
                self._closing.read_rest()
        self.reconcile_reading()

    @fast
    def _receive(self, batch: list[Message]) -> None:
        """Deliver what was decoded, portion by portion, and send the answers to each portion."""
        decoder, queue = self.decoder, self.queue
        wake_ups: WakeUps = []
        portion = PORTION
        last = self.received + AT_ONCE
        queue.watched_from = queue.high_water
        try:
            while True:
                if batch:
                    self.received += len(batch)
                    if self._closing is not None and self._closing.discarding:
                        self._discard(batch)
                    else:
                        self.sink.deliver(batch, wake_ups)
                pending = decoder.waiting and decoder.pending  # mostly without a call
                if not pending and (
                    decoder.needs
                    or decoder.violation is not None
                    or decoder.state is not _OPEN
                    or self.end is not None
                ):
                    self._conclude()
                if wake_ups:
                    run_wake_ups(wake_ups)
                if queue.frames:
                    queue.flush()
                if not pending or queue.answers_stuck:
                    break
                if self.received >= last:
                    self.go_on_decoding_soon()
                    break
                portion = max(PORTION, min(2 * portion, self.gate.pool.size // 4))
                batch = decoder.more(portion)
        finally:
            queue.watched_from = 0
            if wake_ups:
                schedule_wake_ups(wake_ups)
        if queue.frames:  # a signal handler has posted something since the last check
            queue.flush()

    def _conclude(self) -> None:
        """Act on the reason why nothing more can be decoded now."""
        decoder = self.decoder
        if decoder.needs:
            if self.suspension is None:
                self.suspension = Suspension(self)
            self.suspension.begin()
        elif decoder.violation is not None and not self._reported:
            violation = decoder.violation
            error = ProtocolViolation(str(violation), violation.status)
            error.__cause__ = violation
            self.closing.hang_up(error)
        elif decoder.state is State.CLOSED and not self._reported:
            self.closing.hang_up(ChannelEnded("both sides said Bye"))
        elif self.end is not None:
            self.closing.settle()

    def _discard(self, batch: list[Message]) -> None:
        for message in batch:
            message.release()
            if message.op_code is OpCode.BYE_REQUEST and self.end is None:
                self.queue.enqueue_judged(OpCode.BYE_RESPONSE)

    # --- what the queue and heartbeats report ---------------------------------------------

    def control_sent(
        self, state: State, op_code: int, message_id: int, headers: bytes, status: int
    ) -> None:
        """Act on a Hello or Bye that was queued, and set the channel's state after it."""
        decoder = self.decoder
        decoder.state = state
        if op_code == OpCode.HELLO_REQUEST:
            note_hello(self, headers, answer=False, by_peer=False)
        elif op_code == OpCode.HELLO_RESPONSE and status:
            self.closing.linger(ChannelClosed("the channel was refused on this side"))
        elif op_code == OpCode.HELLO_RESPONSE:
            note_hello(self, headers, answer=True, by_peer=False)
            self.sink.accepted()
            if decoder.pending:
                self.go_on_decoding_soon()
        if op_code in {OpCode.HELLO_REQUEST, OpCode.BYE_REQUEST}:
            decoder.awaited_id = message_id
            self.queue.turn_away()  # after a Bye; before the answer to a Hello no sender waits
        if state is State.CLOSED:
            self.closing.linger(ChannelEnded("both sides said Bye"))

    def abort(self, error: TofuError) -> None:
        """Drop what is queued and reset the connection, at once."""
        self.closing.abort(error)

    def lose(self, error: PeerDisconnected) -> None:
        """Reset the connection at once: the peer is gone, and the kernel does not know."""
        self.closing.lose(error)
