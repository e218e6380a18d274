"""One connection: bytes of an asyncio transport on one side, messages on the other."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Final, Protocol, cast

from ..protocol.account import Account
from ..protocol.address import Address
from ..protocol.binary_header import HEADER, HEADER_SIZE, MAX_PART
from ..protocol.decoder import Decoder
from ..protocol.errors import (
    ChannelClosed,
    ChannelEnded,
    InvalidHeadersLen,
    InvalidMessageId,
    NotAllowed,
    PeerDisconnected,
    ProtocolViolation,
    TofuError,
    again,
)
from ..protocol.lifecycle import BYE_SAID, HUNG_UP, SEND, State
from ..protocol.message import Message, checked_body, next_message_id
from ..protocol.op_code import OP_CODE_MASK, OP_CODES, ORIGIN_BIT, PUBLIC_BITS, OpCode, Role
from ..protocol.pool import Permit
from .agreements import NO_EXTENSION, agreed, agreed_interval
from .flow import ReadGate
from .joining import JoiningRoom
from .limits import BYE_TIMEOUT, EARLY_BYTES, LINGER, UNTAKEN_ANSWERS
from .peer import Peer, peer_of
from .rare_warnings import RareWarnings
from .remains import Remains
from .upper import UpperProtocol
from .waking import Answered, go_on, go_on_soon

# What the hot path uses for each message: a global is found faster than an enum's member.
_pack: Final = HEADER.pack
_OPEN: Final = State.OPEN
_RESPONSE: Final = int(OpCode.RESPONSE)
_SIGNAL: Final = int(OpCode.SIGNAL)
_LAST_REGULAR: Final = _SIGNAL
_SENT_BITS: Final = PUBLIC_BITS & ~ORIGIN_BIT
_LAST_OP_CODE: Final = int(OP_CODES[-1])
_BYE_SIGNAL: Final = int(OpCode.BYE_SIGNAL)

_GATHERS: Final = sys.platform != "win32"
"""Whether transports send several chunks with one system call. On Windows none does, and of several
asyncio's selector loop drops what the system has no room for (3.12 to 3.14)."""

_RESET: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""struct linger, on with 0 seconds: closing sends RST and drops what is unsent (socket(7))."""

PORTION: Final = 32
"""Messages that are decoded, handed on and answered before the next are. So the peer has work, and
those that were answered have given their permits back, while the rest of a long chunk is done.
Each portion is twice as long as the one before, for the more the peer has, the longer it is busy;
but it leaves most of the pool to others."""

AT_ONCE: Final = 1024
"""Messages of a channel that are handed on before others have their turn: a chunk of 256 KiB may
have sixteen times as many."""

SHORT: Final = 1024
"""Bytes of a body below which it is faster to copy it than to keep it beside its header."""

LONG: Final = 16 * 1024
"""Bytes of a body from which it is given to the transport as it is, uncopied."""

_ADMITTED: Final = 32
"""Senders that are woken in a turn: so their short messages leave with one system call, and those
that find no room have been woken for nothing, but are few."""

_FEW_PIECES: Final = 64
"""Frames, long bodies apart, that are queued in less time than the system takes to send them."""

SMALL: Final = 16 * 1024
"""Bytes of a chunk that is copied as a whole: faster than the messages in it one by one, and from a
longer one large bodies should not be copied twice."""


class Sink(Protocol):
    """Who takes what a connection receives."""

    def received(self, batch: list[Message], answered: Answered) -> None:
        """Take messages, in order; never none. Who waits for one is answered, and goes on later."""

    def accepted(self) -> None:
        """The peer's Hello was answered from here: the channel is open."""

    def ended(self, error: TofuError) -> None:
        """Nothing more will be received, and why. Told once, after all that was."""

    @property
    def waits(self) -> int:
        """How many messages the application may keep while it waits for the next one; 0 if not."""

    def suspended(self) -> None:
        """It is not read for want of permits, since the end of this turn of the loop."""

    def lost(self) -> None:
        """Nothing that is sent is heard any more, though what came before may still be received."""

    def said(self) -> None:
        """It has ended, and now our last word has left as well. Not told if that was so already."""

    def closed(self) -> None:
        """The socket is gone as well. Told once, last of all."""


class Connection(UpperProtocol, asyncio.BufferedProtocol):
    """The engine's half of a channel, from the first byte to the last.

    Receiving: in portions, as far as permits go; then ``gate`` decides who reads.
    Sending: frames are queued and written all together, after each portion that was received, for
    who waited for that has gone on and answered it, and else at the end of the turn.

    Args:
        gate: the engine's pool and its readers.
        state: CONNECTING for a client, HELLO_AWAITED for a server.
        number: the local channel number.

    Attributes:
        beat_after, beat_before: its neighbours among those that are looked at together.
        beat_arrived, beat_sent, beat_sent_at, beat_silent, beat_taken: what the last look by
            ``Wheel`` found.
        carried: the permits that queued messages hold.
        decoder: the receiving half; its ``state`` is the channel's.
        end: why nothing more is received, as soon as that is known; None while open.
        heartbeat: the interval of heartbeats that the Hello has asked for, and once it is answered
            the one that both sides keep; None for none.
        peer_address: of the peer's socket, as known when it was connected.
        peer_supports: what the peer can do, by its Hello or its answer to ours.
        sink: who takes what is received. Set before the first byte.
        sent: messages accepted for sending.
        received: messages that arrived.
        suspensions: how often it began to wait for a permit.
        suspended_at: when it began, in the loop's time; None while it does not.
        suspended_for: seconds for which it has waited, but for now.
        write_paused: the transport's buffer is above the high-water mark.
        senders: who waits for ``room``, in order, if anyone ever did.
        turn_taken: the high-water mark of short messages was written since others had their turn.
            While these three are false ``room`` returns at once, and need not be called.
    """

    __slots__ = (
        "_closed",
        "_deadline",
        "_discarding",
        "_done",
        "_flushing",
        "_gate",
        "_given",
        "_high_water",
        "_lingering",
        "_long",
        "_loop",
        "_out",
        "_queued",
        "_remains",
        "_told",
        "_transport",
        "_untaken",
        "_writing",
        "beat_after",
        "beat_arrived",
        "beat_before",
        "beat_sent",
        "beat_sent_at",
        "beat_silent",
        "beat_taken",
        "carried",
        "decoder",
        "end",
        "heartbeat",
        "number",
        "peer_address",
        "peer_supports",
        "received",
        "senders",
        "sent",
        "sink",
        "suspended_at",
        "suspended_for",
        "suspensions",
        "turn_taken",
        "write_paused",
    )

    def __init__(self, gate: ReadGate, state: State, number: int) -> None:
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self.number = number
        self.decoder = Decoder(gate.pool, state, number)
        self.end: TofuError | None = None
        self.sink: Sink
        self._done: asyncio.Future[None] | None = None  # once somebody asks for it
        self._closed = False  # the sink knows that the socket is gone
        self.sent = self.received = self.suspensions = 0
        self.suspended_at: float | None = None
        self.suspended_for = 0.0
        self._high_water = gate.limits.write_high_water
        self._transport: asyncio.Transport | None = None
        self._remains: Remains | None = None  # of a socket that failed, to be read first
        self._told = False  # the sink knows the end
        self._lingering = False  # our last word is said, and the peer is to hang up first
        self._discarding = False  # closing: what comes is thrown away
        # Frames that the transport has not got: of each its header, its text headers and its body.
        # Signal handlers and finalizers may post in the midst of anything here. So a frame enters
        # by a single step, and only one flush at a time takes them out.
        self._out: list[bytes] = []
        self._queued = 0  # bytes in it, unless it is empty
        self._given = 0  # bytes that the transport has got
        self._long = False  # whether there is a long body among them
        self.carried: list[Permit] | tuple[()] = ()  # what the messages in _out hold
        self._flushing = False  # a flush is to come
        self._writing = False  # one is under way
        self._untaken = 0  # bytes of the engine's, and TLS's, answers while no more is taken
        self.write_paused = False
        self.turn_taken = False
        self.senders: OrderedDict[object, asyncio.Future[bool]] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self.heartbeat: float | None = None
        self.peer_address: Address | None = None
        self.peer_supports = NO_EXTENSION
        self.beat_after: Connection | None = None
        self.beat_before: Connection | None = None
        self.beat_arrived: int  # these are set when heartbeats begin
        self.beat_sent: int
        self.beat_sent_at: float
        self.beat_silent: int
        self.beat_taken: int

    @property
    def done(self) -> asyncio.Future[None]:
        """Completed when the socket is gone."""
        if self._done is None:
            self._done = self._loop.create_future()
            if self._closed:
                self._done.set_result(None)
        return self._done

    @property
    def gone(self) -> bool:
        """Whether its socket is."""
        return self._closed

    @property
    def lingers(self) -> bool:
        """Whether all is said, and has left, and only the peer's hanging up is waited for."""
        return self._lingering and not self.queued_bytes

    @property
    def closed_here(self) -> bool:
        """Whether it is closed, or being closed, on this side. From any thread."""
        return self._discarding

    def extra_info(self, name: str) -> object:
        """What the transport tells about its socket; None once that is closed."""
        return self._transport.get_extra_info(name) if self._transport is not None else None

    # --- asyncio's protocol ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start: bound the transport's own buffer."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(*self._gate.limits.water)

    def get_buffer(self, _: int) -> memoryview:
        """Where the transport reads to: one place for all, left before the next one reads.

        asyncio allocates 256 KiB for each read of a protocol that has no buffer, which takes three
        system calls and more time than a small message.
        """
        return self._gate.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Decode and hand on what arrived in the buffer."""
        data = self._gate.buffer[:nbytes]
        self.data_received(data if nbytes > SMALL else data.tobytes())

    def data_received(self, data: bytes | memoryview) -> None:
        """Decode and hand on what arrived."""
        decoder = self.decoder
        if decoder.waiting:
            # More came before the turn's end: at this rate it may not wait for that.
            decoder.feed(data)
            self.reconcile_reading()
            return
        self._receive(decoder.feed(data, PORTION))

    def eof_received(self) -> bool:
        """The peer will send no more. The transport stays, for what we still have to send."""
        self._lingering = False
        self._finish(PeerDisconnected("the peer closed the connection without a Bye"))
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone. What it had brought is still delivered."""
        if exc is not None and not self._told and self._transport is not None:
            self._remains = Remains.of(self._transport)
        self.detach()
        if isinstance(exc, TofuError):
            self._finish(exc)
        else:
            lost = PeerDisconnected(f"the connection was lost: {exc or 'closed by the peer'}")
            # Its frames would know, as long as anyone knows the error, what arrived in that moment.
            lost.__cause__ = exc and exc.with_traceback(None)
            self._finish(lost)
        self.sink.lost()
        self._read_remains()

    def detach(self) -> None:
        """The transport is closed: for uvloop does not tell, if it was while being made."""
        self._transport = None
        # What is queued will never leave: were its permits kept for it, what has arrived could wait
        # for them without end.
        self._release_carried()
        self._forget_untaken()
        if self._deadline is not None:
            self._deadline.cancel()
        if self.heartbeat is not None:
            self._gate.heartbeats.leave(self, self.heartbeat)

    def pause_writing(self) -> None:
        """The transport holds enough: keep the rest here."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """The transport has room again. It is in the middle of something: write in the next turn.

        Some asyncios that find the connection lost in a write from here call it a close in good
        order (3.11 to 3.13), and what the peer had sent before would not be looked for.
        """
        self.write_paused = False
        self._forget_untaken()
        self._loop.call_soon(self._go_on_writing)

    def _go_on_writing(self) -> None:
        self.flush()
        self._admit_senders()
        if self._told and self.lingers:
            self.sink.said()

    # --- receiving ------------------------------------------------------------------------

    @property
    def needs(self) -> int:
        """How many permits it waits for; 0 if it does not."""
        return self.decoder.needs

    @property
    def account(self) -> Account:
        """What its messages hold."""
        account = self.decoder.account
        assert account is not None  # else it would wait for nothing
        return account

    @property
    def over_its_share(self) -> bool:
        """Whether it is its own messages, not those of others, that it waits for."""
        return self.account.over_share(self.decoder.needs)

    @property
    def waited(self) -> float:
        """Seconds for which it has waited for permits in all."""
        if self.suspended_at is None:
            return self.suspended_for
        return self.suspended_for + self._loop.time() - self.suspended_at

    def may_go_on(self) -> bool:
        """Whether it needs nothing of the pool: its reserve is free, or it waits for nothing.

        The reserve is freed if the application waits for the next message.
        """
        account = self.account
        if account.reserved:
            account.lend(self.sink.waits)
        return not account.reserved or self.decoder.needs_none

    def resume(self, granted: int) -> None:
        """Go on with what waited for a permit: so many were granted, or its reserve came back."""
        # Of what waits also for its answers to be taken, only one that needed its permits.
        portion = 0 if self.answers_stuck else PORTION
        self._receive(self.decoder.resume(portion, granted))
        if self._remains is not None:
            self._read_remains()

    def _read_remains(self) -> None:
        """Take what a failed socket still holds, as far as permits go; then settle."""
        while self._remains is not None and self._idle:
            data = self._remains.read()
            if data:
                self._receive(self.decoder.feed(data, PORTION))
            else:
                self._remains = None
        self._settle()

    def reconcile_reading(self) -> None:
        """Make the transport read if, and only if, this channel can take something."""
        self._reading(wanted=(self._idle or self._undecided) and not self.answers_stuck)
        if self.suspended_at is not None:
            self.sink.suspended()

    def reconsider(self) -> None:
        """Go on, at the end of this turn, if what waits has been asked for by now."""
        if self.decoder.needs_none:
            self._gate.retry(self)

    def lend(self) -> None:
        """Somebody begins to wait for a message: let one come, whatever the application keeps."""
        if self.may_go_on():  # lent now, for whoever waits may have gone by the end of the turn
            self._gate.retry(self)

    @property
    def answers_stuck(self) -> bool:
        """Whether it is not read because its peer does not take what it is answered."""
        return self._untaken > UNTAKEN_ANSWERS

    @property
    def warnings(self) -> RareWarnings:
        """Of what its peer, or another one by coming again, can bring about without end."""
        return self._gate.warnings

    @property
    def joining(self) -> JoiningRoom:
        """Where bodies are put together that are too long for one message."""
        return self._gate.joining

    @property
    def _idle(self) -> bool:
        """Whether all that has arrived has been handed on."""
        return not self.decoder.waiting

    @property
    def _undecided(self) -> bool:
        """Whether it is read although something waits: a stranger's leaving is to be noticed."""
        return self.decoder.early and self.decoder.held < EARLY_BYTES

    def _reading(self, *, wanted: bool) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or transport.is_reading() is wanted:
            return
        if wanted:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def _receive(self, batch: list[Message]) -> None:
        """Hand on what was decoded, portion by portion, and send what is answered to each."""
        decoder = self.decoder
        answered: Answered = []
        portion = PORTION
        last = self.received + AT_ONCE
        self._flushing = True
        try:
            while True:
                if batch:
                    self.received += len(batch)
                    if self._discarding:
                        self._discard(batch)
                    else:
                        self.sink.received(batch, answered)
                pending = decoder.waiting and decoder.pending  # mostly without a call
                if not pending and (
                    decoder.needs
                    or decoder.violation is not None
                    or decoder.state is not _OPEN
                    or self.end is not None
                ):
                    self._conclude()
                if answered:
                    go_on(answered)
                if self._out:
                    self.flush()
                if not pending or self.answers_stuck:
                    break
                if self.received >= last:
                    self._loop.call_soon(self._continue)
                    break
                portion = max(PORTION, min(2 * portion, self._gate.pool.size // 4))
                batch = decoder.more(portion)
        finally:
            self._flushing = False
            if answered:
                go_on_soon(answered)
        if self._out:  # posted by a signal handler since we have looked
            self.flush()

    def _continue(self) -> None:
        """Others have had their turn, or the peer has taken what the engine answered."""
        if self.decoder.pending:
            self._receive(self.decoder.more(PORTION))
            self._read_remains()
        self.reconcile_reading()

    def _conclude(self) -> None:
        """Nothing more can be decoded: why?"""
        decoder = self.decoder
        if decoder.needs:
            self.account.lend(self.sink.waits)
            self._gate.starve(self)
        elif decoder.violation is not None and not self._told:
            violation = decoder.violation
            error = ProtocolViolation(str(violation), violation.status)
            error.__cause__ = violation
            self.hang_up(error)
        elif decoder.state is State.CLOSED and not self._told:
            self.hang_up(ChannelEnded("both sides said Bye"))
        elif self.end is not None:
            self._settle()

    def _discard(self, batch: list[Message]) -> None:
        for message in batch:
            message.release()
            if message.op_code is OpCode.BYE_REQUEST and self.end is None:
                self.put(OpCode.BYE_RESPONSE)

    def peer(self) -> Peer:
        """Who is at the other end."""
        return peer_of(self._transport, self.peer_address)

    # --- sending --------------------------------------------------------------------------

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait to be sent, here and in the transport."""
        transport = self._transport
        buffered = transport.get_write_buffer_size() if transport else 0
        return self._queued + buffered if self._out else buffered

    @property
    def taken(self) -> int:
        """Bytes that the kernel has taken for the peer. With TLS it is about as many."""
        buffered = self._transport.get_write_buffer_size() if self._transport else 0
        return self._given - buffered

    def post(self, message: Message, at_once: bool = False) -> int:
        """Queue a message as it is now, and return the id it travels under.

        A received message that is sent on keeps its permit until its bytes have left the queue.

        Unless ``at_once``, a signal handler or a finalizer may do so, in the midst of anything.

        Raises:
            InvalidBodyLen, InvalidHeadersLen, InvalidMessageId, NotAllowed, ChannelClosed,
            PeerDisconnected: nothing was queued.
        """
        try:
            proto = message._proto & _SENT_BITS
        except AttributeError:
            raise TypeError(
                f"a Message can be sent, not {type(message).__name__}: make one, "
                "Message(OpCode.SIGNAL, body) say, or use signal(body)"
            ) from None
        if _LAST_REGULAR < proto <= _LAST_OP_CODE:
            if proto == _BYE_SIGNAL:
                self.abort(ChannelClosed("the channel was reset on this side"))
                return message.message_id or next_message_id()
            proto = message._wire_proto
        headers = message.headers.encode()
        message_id = self.put(
            proto, message.message_id, headers, message.body, message.status, at_once
        )
        if message._permit is not None:
            carried: list[Permit] = []  # before we look: making a list may run finalizers
            permit = message._take_permit()
            if permit is None:
                pass  # another thread was faster to release it
            elif self._out:
                if not self.carried:
                    self.carried = carried
                self.carried.append(permit)
            else:
                permit.release()
        return message_id

    def check(self, message: Message) -> int:
        """The id under which a message would travel if it were posted now. From any thread.

        Raises:
            NotAllowed, InvalidMessageId, ChannelClosed, PeerDisconnected: it would not.
        """
        message_id = message.message_id
        if message.op_code is not OpCode.BYE_SIGNAL:
            _, message_id = self._judge(int(message.op_code), message_id)
        return message_id or next_message_id()

    def put(  # noqa: PLR0917 - by position it is faster
        self,
        proto: int,
        message_id: int = 0,
        headers: bytes = b"",
        body: bytes | bytearray | memoryview = b"",
        status: int = 0,
        at_once: bool = False,
    ) -> int:
        """Queue one frame, whole or not at all, and return the id it travels under.

        ``at_once``, what is queued is written before the end of the turn if it is above the
        high-water mark, so that a task that waits for room is told when there is none. Never so in
        a signal handler or a finalizer: transports and selectors stand no call within another.

        Raises:
            As ``post``.
        """
        if type(body) is not bytes:
            body = checked_body(body)
        op_code = proto & OP_CODE_MASK
        after = state = self.decoder.state
        if state is not _OPEN or op_code > _LAST_REGULAR or self.end is not None:
            after, message_id = self._judge(op_code, message_id)
        if not message_id:
            if op_code == _RESPONSE:
                self._judge(op_code, message_id)
            message_id = next_message_id()
        size = len(body)
        try:
            head = _pack(self.number, proto, status, message_id, len(headers), size)
        except struct.error:
            raise _unpackable(message_id, headers, body) from None
        if headers:
            head += headers
        if size < SHORT:
            frame = head + body
            self._out.append(frame)
            queued = self._queued + len(frame)
        else:
            pieces = head, body
            if size >= LONG:
                self._long = True
            self._out.extend(pieces)
            queued = self._queued + len(head) + size
        self._queued = queued
        self.sent += 1
        if op_code > _LAST_REGULAR or (
            queued >= self._high_water
            and at_once
            # With twice it the transport would hold all that it may: see docs/design.
            and (not self._long or self.queued_bytes >= 2 * self._high_water)
        ):
            # Long bodies fill the kernel's buffer soon enough, and then sending waits.
            quick = self._long and len(self._out) <= _FEW_PIECES
            self.flush()
            burst = at_once and op_code <= _LAST_REGULAR
            self.turn_taken = burst and not (quick or self.write_paused)
        elif not self._flushing:
            self._loop.call_soon(self._flush_turn)
            self._flushing = True  # after it: should that be interrupted, another one comes
        if after is not state:
            self._enter(after, op_code, message_id, headers, status)
        return message_id

    def answer(self, proto: int, message_id: int, body: bytes = b"", *, status: int) -> None:
        """Queue what the engine itself, or who cannot wait for room, answers to a request.

        A peer that sends requests, and does not read, must not make the queue grow without end. So
        once it has not taken ``UNTAKEN_ANSWERS`` bytes of these it is not read either. What waits
        for room is no reason for that, nor is anything else that its peer did not cause: two that
        both send much would wait for each other.

        Raises:
            As ``post``.
        """
        self.put(proto, message_id, body=body, status=status)
        if self.write_paused:
            self.answered(HEADER_SIZE + len(body))

    def answered(self, nbytes: int) -> None:
        """Count an answer, ours or one of TLS, that the peer has caused and has not taken."""
        self._untaken += nbytes
        if self.answers_stuck:
            self.reconcile_reading()

    def _forget_untaken(self) -> None:
        """The peer has taken the answers, or will take none."""
        stuck, self._untaken = self.answers_stuck, 0
        if stuck:
            self._loop.call_soon(self._continue)

    def flush(self) -> None:
        """Give the transport what is queued, in one piece, unless it holds enough.

        Within another one, in a signal handler or a finalizer, it leaves that to the other.
        """
        transport = self._transport
        while self._out and not (self.write_paused or self._writing or transport is None):
            if transport.is_closing():
                # A write failed, and connection_lost comes in a later turn. Until then the
                # transport takes, and drops, all there is: who sends without a pause would never
                # let it come.
                self.write_paused = True
                return
            self._writing = True
            try:
                self._given += self._queued
                long, frames = self._long, self._forget_queue()
                if long and _GATHERS:
                    self._write_long(transport, frames)
                else:
                    transport.write(b"".join(frames))
            finally:
                self._writing = False

    def _write_long(self, transport: asyncio.Transport, frames: list[bytes]) -> None:
        """Give it long bodies as they are, and what is between them in one piece."""
        chunks: list[bytes] = []
        begin = 0
        for end, piece in enumerate(frames):
            if len(piece) >= LONG:
                chunks += (b"".join(frames[begin:end]), piece)
                begin = end + 1
        if begin < len(frames):
            chunks.append(b"".join(frames[begin:]))
        transport.writelines(chunks)
        if transport.get_write_buffer_size() > self._high_water:
            # Not every asyncio looks then whether that was too much (3.12.1 and 3.13.0 do not).
            transport.set_write_buffer_limits(*self._gate.limits.water)

    async def room(self) -> None:
        """Wait, in order of arrival, until the peer has taken enough of what was sent.

        While the peer keeps up nothing is waited for; so now and then it lets other tasks run, else
        a loop of sending would never let a timeout or a cancellation come. Returns early when
        nothing can be sent any more: sending says why.

        Raises:
            ChannelClosed, PeerDisconnected: it will take no more.
        """
        if not (self.write_paused or self.senders):
            if not self.turn_taken:
                return
            # In the queue all the same: else whoever sends in the meantime would be first.
            self._loop.call_soon(self._admit_senders)
        self.turn_taken = False
        self._judge(_SIGNAL, 0)
        if self.senders is None:
            self.senders = OrderedDict()
        place = object()
        try:
            while True:
                turn = self.senders[place] = self._loop.create_future()
                if not await turn:
                    return
                if not self.write_paused and next(iter(self.senders)) is place:
                    return
                self._judge(_SIGNAL, 0)  # The end came in between: nobody tells of it again.
        finally:
            del self.senders[place]
            following = next(iter(self.senders.values()), None)
            if following is not None and not following.done():
                # After the caller has queued its message, or was cancelled.
                self._loop.call_soon(self._admit_senders)

    def unsent(self) -> list[Message]:
        """The messages that were queued and never given to the transport."""
        messages = Decoder(None, State.OVERHEARD).feed(b"".join(self._forget_queue()))
        return [message for message in messages if message.message_id]  # a heartbeat has none

    def _flush_turn(self) -> None:
        self._flushing = False
        self.flush()

    def _forget_queue(self) -> list[bytes]:
        """Empty the queue, and return what was in it."""
        fresh: list[bytes] = []  # before we look: making a list may run finalizers
        frames = self._out
        self._out = fresh
        self._queued = 0
        self._long = False
        if self.carried:
            self._release_carried()
        return frames

    def _release_carried(self) -> None:
        carried, self.carried = self.carried, ()
        for permit in carried:
            permit.release()

    def _admit_senders(self) -> None:
        """Wake some of those who wait. Each goes on if there still is room by its turn."""
        if self.senders and not self.write_paused:
            for turn in islice(self.senders.values(), _ADMITTED):
                if not turn.done():
                    turn.set_result(True)

    def _turn_away_senders(self) -> None:
        """Who waits for room waits in vain: the attempt to send will tell each why."""
        for turn in self.senders.values() if self.senders else ():
            if not turn.done():
                turn.set_result(False)

    def _judge(self, value: int, message_id: int) -> tuple[State, int]:
        """The state after sending this, and the id it must carry."""
        op_code = OP_CODES[value]
        state = self.decoder.state
        if self.end is not None:
            if self._discarding:
                raise ChannelClosed("the channel was closed on this side")
            raise when_sending(self.end)
        after = SEND[state].get(op_code)
        if after is None:
            raise _out_of_turn(op_code, state)
        if op_code.role is Role.RESPONSE:
            asked = message_id if op_code is OpCode.RESPONSE else self.decoder.asked_id
            message_id = message_id or asked
            if not message_id or message_id != asked:
                raise InvalidMessageId(
                    f"{op_code.name} must carry its request's message id"
                    + (f", {asked}, not {message_id}" if asked else ", not 0")
                )
        return after, message_id

    def _enter(
        self, state: State, op_code: int, message_id: int, headers: bytes, status: int
    ) -> None:
        self.decoder.state = state
        if op_code == OpCode.HELLO_REQUEST:
            self.hello_passed(headers, answer=False, by_peer=False)
        elif op_code == OpCode.HELLO_RESPONSE and status:
            self._linger(ChannelClosed("the channel was refused on this side"))
        elif op_code == OpCode.HELLO_RESPONSE:
            self.hello_passed(headers, answer=True, by_peer=False)
            self.sink.accepted()
            if self.decoder.pending:
                self._loop.call_soon(self._continue)
        if op_code in {OpCode.HELLO_REQUEST, OpCode.BYE_REQUEST}:
            self.decoder.awaited_id = message_id
            self._turn_away_senders()  # after a Bye; before a Hello's answer there are none
        if state is State.CLOSED:
            self._linger(ChannelEnded("both sides said Bye"))

    # --- staying alive --------------------------------------------------------------------

    def hello_passed(self, headers: bytes, *, answer: bool, by_peer: bool) -> None:
        """Note what a Hello agrees upon; after the answer, do it.

        Args:
            headers: encoded.
            answer: whether it answers the other side's.
            by_peer: whether the peer has sent it.
        """
        interval, supports = agreed(headers, answer=answer)
        decoder = self.decoder
        if by_peer:
            self.peer_supports = supports
        earlier = decoder.heartbeats is not None  # the Hello before this one has asked
        self.heartbeat = agreed_interval(self.heartbeat, interval) if answer else interval
        if interval is not None:
            # The peer may send some from now on. If it asked, it takes part.
            decoder.heartbeats = bool(decoder.heartbeats) or by_peer
        if answer and self.heartbeat is not None and self.end is None:
            self._gate.heartbeats.join(self, self.heartbeat)
            we_asked = earlier if by_peer else interval is not None
            if decoder.heartbeats and not we_asked and OpCode.SIGNAL in SEND[decoder.state]:
                self.beat()  # only by this can the peer know that we take part
        if by_peer and decoder.early:
            self.reconcile_reading()  # that may be as much as may wait

    def beat(self) -> None:
        """Send a heartbeat: no message, so it has no id and is not counted."""
        self._queue_header(_SIGNAL)
        self.flush()

    def _queue_header(self, proto: int, message_id: int = 0) -> None:
        """Queue a frame that is no more than its header, whatever the state and the count."""
        self._out.append(_pack(self.number, proto, 0, message_id, 0, 0))
        self._queued += HEADER_SIZE

    # --- ending ---------------------------------------------------------------------------

    def hang_up(self, error: TofuError) -> None:
        """Send what is queued and close the socket; reset it if the peer takes too long."""
        self._lingering = False
        self._send_all()
        self._finish(error)

    def _linger(self, error: TofuError) -> None:
        """End after our last word, and let the peer, which has none left, hang up first.

        What still comes is read and dropped: a socket that is closed while something is unread in
        it is reset (tcp(7)), and a reset takes from the peer what it has not read.
        """
        self._lingering = True
        self._send_all()
        if self._transport is not None and self.queued_bytes:
            self._transport.set_write_buffer_limits(0)  # so it tells when all has left
        self._wait(LINGER, partial(self._linger_on, self._loop.time(), self.queued_bytes))
        self.decoder.close()
        self._finish(error)
        self.reconcile_reading()

    def linger_no_more(self) -> None:
        """Close the socket: the peer has had its time, or others need its place.

        In order, unless something is left to be sent.
        """
        if self.queued_bytes:
            self._reset()
        else:
            self._lingering = False
            self._settle()

    def _linger_on(self, since: float, before: int) -> None:
        """The peer has had its time, if our last word left, or it took nothing, for that long.

        Args:
            since: when it was last seen to take something.
            before: bytes that were queued at the last look.
        """
        queued, now = self.queued_bytes, self._loop.time()
        if queued < before:
            since = now
        if not queued:
            self.linger_no_more()
        elif now < since + BYE_TIMEOUT:
            self._wait(LINGER, partial(self._linger_on, since, queued))
        else:
            self._reset()

    def _send_all(self) -> None:
        """Give the transport what is queued, whatever it holds."""
        self.write_paused = False
        self.flush()

    def _wait(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back in so many seconds, and nobody else: there is one deadline at a time."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._loop.call_later(seconds, callback)

    def abort(self, error: TofuError) -> None:
        """Drop what is queued and reset the connection, at once."""
        self._forget_queue()
        self._reset()  # first: to settle would close the socket, and TLS would say so in words
        self._finish(error)
        self.discard()

    def lose(self, error: PeerDisconnected) -> None:
        """The peer is gone, and the kernel does not know: reset the connection, at once."""
        self._reset()
        self._finish(error)

    def dismiss(self, error: TofuError) -> None:
        """Say Bye, if it is open, and end here and now; the peer has a second to hang up.

        Its answer is not looked at: it may have none.
        """
        if self.end is not None:
            return
        state = self.decoder.state
        if state is State.OPEN:
            self.put(OpCode.BYE_REQUEST)
            self._linger(error)
        elif state is State.BYE_HEARD:
            self._answer_bye(error)
        else:
            self.hang_up(error)

    def close_at_once(self, error: TofuError) -> None:
        """Hang up if all has left and the peer is only to hang up as well, else abort."""
        if self.lingers:
            self.hang_up(error)
        else:
            self.abort(error)

    def _answer_bye(self, error: TofuError) -> None:
        """End as by ``put`` of the answer, but by another error."""
        self.decoder.state, message_id = self._judge(OpCode.BYE_RESPONSE, 0)
        self._queue_header(int(OpCode.BYE_RESPONSE), message_id)
        self.sent += 1
        self._linger(error)

    def discard(self) -> None:
        """Throw away all that comes, and need no permits for it: only a Bye matters now."""
        self._discarding = True
        self._gate.forget(self)
        self.decoder.stop_counting()
        if self.decoder.starved:
            self.resume(0)
        self.reconcile_reading()

    async def aclose(self, timeout: float | None = None) -> None:
        """Say or answer Bye, wait for the peer's last word, and close.

        Safe from any task, any number of times. Cancelled, it aborts. In a forked child nothing is
        done.

        Args:
            timeout: seconds that it may take; None for 5 seconds in which nothing is taken.
        """
        if self._gate.home.in_parent:
            return
        self._begin_to_close()
        await self._gone("answer Bye", timeout)

    def leave(self) -> None:
        """Close as ``aclose`` does, with nobody waiting for it."""
        if self._gate.home.in_parent:
            return
        self._begin_to_close()
        # A task, because that is what asyncio.run cancels when the loop ends before the Bye is
        # answered; and a callback, because a task can be cancelled before it begins.
        waiting = self._loop.create_task(self._stalled(), name=f"tofu close {self.number}")
        waiting.add_done_callback(self._left)

    def _left(self, waiting: asyncio.Task[object]) -> None:
        if self._closed:
            return
        if waiting.cancelled():
            self.hang_up(ChannelClosed("closing was cancelled"))  # our Bye is on its way, at least
        else:
            self._give_up("answer Bye", BYE_TIMEOUT)

    def _begin_to_close(self) -> None:
        self.discard()
        state = self.decoder.state
        if self.end is None:
            if OpCode.BYE_REQUEST in SEND[state]:
                self.put(OpCode.BYE_REQUEST)
            elif OpCode.BYE_RESPONSE in SEND[state]:
                self.put(OpCode.BYE_RESPONSE)
            elif state not in {State.BYE_SENT, State.BYE_ANSWERED}:
                self.hang_up(ChannelClosed("the channel was closed before it was open"))

    async def refused(self) -> None:
        """Wait until the peer, whose Hello was answered with a refusal, has hung up, or a second.

        Takes as long as ``aclose`` at most. Cancelled, it waits no longer.
        """
        await self._gone("leave", BYE_TIMEOUT)

    async def part(self) -> None:
        """Close as ``aclose`` does, but do not wait for a peer that is only to hang up."""
        if self._gate.home.in_parent:
            return
        self._begin_to_close()
        if not self.lingers:
            await self._gone("answer Bye", None)

    async def _gone(self, awaited: str, timeout: float | None) -> None:
        """Wait until the socket is gone; give up if it takes too long."""
        try:
            if timeout is None:
                await self._stalled()
            else:
                await asyncio.wait([self.done], timeout=timeout)
            if not self.done.done():
                self._give_up(awaited, BYE_TIMEOUT if timeout is None else timeout)
            await asyncio.shield(self.done)
        except asyncio.CancelledError:
            self.close_at_once(ChannelClosed("closing was cancelled"))
            raise

    async def _stalled(self) -> None:
        """Wait until the socket is gone, or nothing has left for it within 5 seconds.

        A slow peer that still takes what was sent before our Bye is no reason to drop that.
        """
        queued = 0
        while not self.done.done():
            before, queued = queued, self.queued_bytes
            if before and queued >= before:
                break
            await asyncio.wait([self.done], timeout=BYE_TIMEOUT)
            if not self.queued_bytes:
                break

    def _give_up(self, awaited: str, timeout: float) -> None:
        """Close at once: in order if all has left that was to be said, else by a reset."""
        error = ChannelClosed(f"the peer did not {awaited} within {timeout:g} s")
        if unsent := self.queued_bytes:
            text = f"channel {self.number}: {error}; {unsent} bytes were not sent"
            self.warnings.warn("unsent bytes", text)
            self.abort(error)
        else:
            # The kernel goes on delivering them, a Bye behind them.
            self.hang_up(error)

    def _finish(self, error: TofuError) -> None:
        # A loss is noticed before what waits for a permit has been read: that came first, and if
        # it is an end as well, a finished Bye say, it counts.
        if self.end is None or (not self._told and isinstance(self.end, PeerDisconnected)):
            self.end = error
        if self.decoder.early:
            self.decoder.close()  # who leaves, or is left, undecided is given up
        self._turn_away_senders()
        self._settle()

    def _settle(self) -> None:
        """Once all that arrived is delivered, tell the end; once the socket is gone too, that."""
        if self.end is None or not self._idle or self._remains is not None:
            return
        if not self._told:
            self._told = True
            if self.decoder.state in HUNG_UP and isinstance(self.end, PeerDisconnected):
                self.decoder.state = HUNG_UP[self.decoder.state]
                self.end = ChannelEnded("both sides said Bye, and the peer hung up")
            self._gate.forget(self)
            self.decoder.close()
            self.sink.ended(self.end)
        transport = self._transport
        if transport is None:
            if not self._closed:
                self._closed = True
                if self._done is not None:
                    self._done.set_result(None)
                self.sink.closed()
                self._forget_queue()
        elif not self._lingering and not transport.is_closing():
            transport.close()
            self._wait(BYE_TIMEOUT, self._reset)

    def _reset(self) -> None:
        transport = self._transport
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
            # The peer was faster: it is reset already, or, so uvloop, even closed.
            with contextlib.suppress(OSError, ValueError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()


def when_sending(end: TofuError) -> TofuError:
    """How the end of receiving looks to a sender: there is nobody to send to."""
    return PeerDisconnected("the peer said Bye") if isinstance(end, ChannelEnded) else again(end)


def _out_of_turn(op_code: OpCode, state: State) -> TofuError:
    if state in BYE_SAID:
        return ChannelClosed(f"Bye was said on this side: {op_code.name} cannot follow it")
    return NotAllowed(f"{op_code.name} may not be sent in state {state.name.lower()}")


def _unpackable(message_id: int, headers: bytes, body: bytes) -> TofuError:
    if len(headers) > MAX_PART:
        return InvalidHeadersLen(f"the headers have {len(headers)} bytes and may have {MAX_PART}")
    checked_body(body)
    return InvalidMessageId(f"the message id is {message_id}: it must be from 0 to 2**64 - 1")
