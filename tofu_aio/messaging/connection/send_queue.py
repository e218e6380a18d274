"""The sending half of a connection: frames on their way to the transport."""

from __future__ import annotations

import asyncio
import struct
from typing import Final, Protocol

from ...core import fast
from ...protocol.binary_header import HEADER, HEADER_SIZE
from ...protocol.decoder import Decoder
from ...protocol.errors import ChannelClosed, TofuError
from ...protocol.lifecycle import State
from ...protocol.message import Message, checked_body, next_message_id
from ...protocol.op_code import OP_CODE_MASK, OP_CODES, ORIGIN_BIT, PUBLIC_BITS, OpCode
from ..limits import UNTAKEN_ANSWERS
from .frame_queue import FrameQueue, Owner
from .sending_rules import judge, unpackable, when_sending
from .waiting_senders import WaitingSenders

# For the hot path: looking up a global is faster than an enum's member.
_pack: Final = HEADER.pack
_OPEN: Final = State.OPEN
_RESPONSE: Final = int(OpCode.RESPONSE)
_SIGNAL: Final = int(OpCode.SIGNAL)
_LAST_REGULAR: Final = _SIGNAL
_SENT_BITS: Final = PUBLIC_BITS & ~ORIGIN_BIT
_LAST_OP_CODE: Final = int(OP_CODES[-1])
_BYE_SIGNAL: Final = int(OpCode.BYE_SIGNAL)

SHORT: Final = 1024
"""Bytes of a body below which copying it is faster than queueing it apart from its header."""

_FEW: Final = 32
"""Messages that are queued in less time than the system takes to send a high-water mark's worth of
them."""


class Sender(Owner, Protocol):
    """The connection that a queue belongs to."""

    end: TofuError | None

    @property
    def closed_here(self) -> bool:
        """Whether this side has closed it."""

    def abort(self, error: TofuError) -> None:
        """Drop what is queued and reset the connection, at once."""

    def control_sent(
        self, state: State, op_code: int, message_id: int, headers: bytes, status: int
    ) -> None:
        """Act on a Hello or Bye that was queued, and set the channel's state after it."""

    def reconcile_reading(self) -> None:
        """Start or stop reading, as the connection's state requires."""

    def go_on_decoding_soon(self) -> None:
        """Go on decoding in the next turn of the loop."""


class SendQueue(FrameQueue):
    """The sending half of a connection: which frames may be sent, and when senders have to wait.

    Frames are written all together. That happens after each portion of received messages, because
    the tasks that waited for those have answered by then, and otherwise at the end of the turn of
    the loop.

    Args:
        owner: the connection.
        decoder: its receiving half, whose ``state`` both halves share.
        number: of the channel, which each frame carries.
        high_water: bytes above which senders have to wait.

    Attributes:
        congested: whether ``wait_for_room`` may have to wait, because the transport is above its
            high-water mark, senders wait, or other tasks should get a turn. While it is false,
            ``enqueue`` may be called without waiting for room.
        watched_from: bytes in the queue from which ``enqueue`` has to act: 0 while no flush is
            scheduled, and the high-water mark while one comes anyway.
    """

    __slots__ = ()

    def __init__(self, owner: Sender, decoder: Decoder, number: int, high_water: int) -> None:
        super().__init__(number, high_water)
        self._owner: Sender = owner
        self._decoder = decoder
        self.watched_from = 0
        self._untaken = 0  # bytes of automatic answers that the peer has not taken
        self._turn_taken = False  # a burst was written since other tasks had their turn
        self._waiting: WaitingSenders | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""
        return self._owner.loop

    @property
    def senders_waiting(self) -> int:
        """How many tasks wait for room."""
        return len(self._waiting) if self._waiting is not None else 0

    @property
    def blocked(self) -> bool:
        """Whether a sender has to wait: for the peer, or behind other senders."""
        return self.paused or bool(self._waiting)

    # --- queueing frames ------------------------------------------------------------------

    @fast
    def enqueue_message(self, message: Message, at_once: bool = False) -> int:
        """Queue a message as it is now, and return the id that it is sent with.

        A received message that is sent on keeps its permit until its bytes have left the queue.

        Without ``at_once``, a signal handler or a finalizer may call this at any moment.

        Raises:
            InvalidBodyLen, InvalidHeadersLen, InvalidMessageId, NotAllowed, ChannelClosed,
            PeerDisconnected, TypeError: nothing was queued.
        """
        try:
            proto = message._proto & _SENT_BITS
        except AttributeError:
            raise TypeError(
                f"only a Message can be sent, not {type(message).__name__}: make one, for example "
                "Message(OpCode.SIGNAL, body), or use signal(body)"
            ) from None
        headers = message.headers._encoded  # without a call of encode()
        if _LAST_REGULAR < proto <= _LAST_OP_CODE:
            if proto == _BYE_SIGNAL:
                self._owner.abort(ChannelClosed("the channel was reset on this side"))
                return message.message_id or next_message_id()
            message_id = self.enqueue_judged(
                message._wire_proto, message.message_id, headers, message.body, message.status
            )
        else:
            message_id = self.enqueue(
                proto, message.message_id, headers, message.body, message.status, at_once
            )
        if message._permit is not None:
            self._carry_permit(message)
        return message_id

    @fast
    def enqueue(  # noqa: PLR0912, PLR0917 - inlined, and by position, because that is faster
        self,
        proto: int,
        message_id: int = 0,
        headers: bytes = b"",
        body: bytes | bytearray | memoryview = b"",
        status: int = 0,
        at_once: bool = False,
    ) -> int:
        """Queue a REQUEST, RESPONSE or SIGNAL, whole or not at all; return its id as sent.

        With ``at_once``, a queue above the high-water mark is written before the end of the turn,
        so that the next sender knows whether it has to wait. Not for signal handlers and
        finalizers, because transports and selectors are not reentrant.

        Raises:
            As ``enqueue_message``.
        """
        if type(body) is not bytes:
            body = checked_body(body)
        if self._decoder.state is not _OPEN or self._owner.end is not None:
            return self.enqueue_judged(proto, message_id, headers, body, status, at_once)
        if not message_id:
            if proto & OP_CODE_MASK == _RESPONSE:
                self.judge(_RESPONSE, 0)  # raises
            message_id = next_message_id()
        size = len(body)
        try:
            frame = _pack(self.number, proto, status, message_id, len(headers), size)
        except struct.error:
            raise unpackable(message_id, headers, body, status) from None
        if headers:
            frame += headers
        if size < SHORT:
            frame += body
            size = len(frame)
            if self.frames:
                self.frames.append(frame)
            else:
                fresh = [frame]
                if self.frames:  # a finalizer has queued one while the list was made
                    self.frames.append(frame)
                else:
                    self.frames = fresh
        else:
            size += len(frame)
            self._extend([frame, body])
        self.sent += 1
        self._nbytes = queued = self._nbytes + size
        if queued >= self.watched_from:
            self._attend(at_once)
        return message_id

    def enqueue_judged(  # noqa: PLR0917 - as ``enqueue``
        self,
        proto: int,
        message_id: int = 0,
        headers: bytes = b"",
        body: bytes = b"",
        status: int = 0,
        at_once: bool = False,
    ) -> int:
        """Queue any frame that the channel's state allows, and change the state accordingly.

        A Hello or a Bye is written at once.

        Raises:
            As ``enqueue_message``.
        """
        body = checked_body(body)
        op_code = proto & OP_CODE_MASK
        state = self._decoder.state
        after, message_id = self.judge(op_code, message_id)
        message_id = message_id or next_message_id()
        try:
            frame = _pack(self.number, proto, status, message_id, len(headers), len(body)) + headers
        except struct.error:
            raise unpackable(message_id, headers, body, status) from None
        self._extend([frame + body] if len(body) < SHORT else [frame, body])
        self._nbytes += len(frame) + len(body)
        self.sent += 1
        if op_code > _LAST_REGULAR:
            self.flush()
            self._turn_taken = False
            self._update_congested()
        else:
            self._attend(at_once)
        if after is not state:
            self._owner.control_sent(after, op_code, message_id, headers, status)
        return message_id

    def enqueue_answer(
        self, proto: int, message_id: int, body: bytes = b"", *, status: int
    ) -> None:
        """Queue an automatic answer: from the engine, or from code that cannot wait for room.

        A peer that sends requests and does not read must not make the queue grow without end. So
        once ``UNTAKEN_ANSWERS`` bytes of these answers wait for the peer, it is not read. Other
        queued frames do not count; otherwise two peers that both send much could wait for each
        other.

        Raises:
            As ``enqueue_message``.
        """
        self.enqueue(proto, message_id, body=body, status=status)
        if self.paused:
            self.count_answer(HEADER_SIZE + len(body))

    def count_answer(self, nbytes: int) -> None:
        """Count an automatic answer, the engine's or one of TLS, that the peer has not taken."""
        self._untaken += nbytes
        if self.answers_stuck:
            self._owner.reconcile_reading()

    @property
    def answers_stuck(self) -> bool:
        """Whether too many automatic answers wait for the peer, so that it is not read."""
        return self._untaken > UNTAKEN_ANSWERS

    def forget_answers(self) -> None:
        """Reset the count of automatic answers: the peer has taken them, or will take none."""
        stuck, self._untaken = self.answers_stuck, 0
        if stuck:
            self._owner.go_on_decoding_soon()

    def _attend(self, at_once: bool) -> None:
        """Write a full queue if that may be done now; otherwise see that it is written soon.

        A queue with long bodies is full only at twice the high-water mark, which is all that the
        transport may hold (see docs/design/messaging.md).
        """
        full = at_once and self._nbytes >= self.high_water
        if full and (not self._long or self.nbytes >= 2 * self.high_water):
            self._flush_burst()
        elif not self.watched_from:
            self._owner.loop.call_soon(self._flush_turn)
            # Last: if call_soon is interrupted, another flush comes.
            self.watched_from = self.high_water

    def _flush_burst(self) -> None:
        """Flush before the end of the turn. After many messages other tasks should get a turn."""
        # A few long ones soon fill the kernel's buffer, and then senders wait anyway.
        quick = self.sent - self._written <= _FEW
        self.flush()
        self._turn_taken = not (quick or self.paused)
        self._update_congested()

    def _flush_turn(self) -> None:
        self.watched_from = 0
        self.flush()

    def flush_all(self) -> None:
        """Give the transport all frames, even if it is above its high-water mark."""
        self.paused = False
        self._update_congested()
        self.flush()

    # --- waiting for room -----------------------------------------------------------------

    def pause(self) -> None:
        """The transport is above its high-water mark: keep the rest here."""
        self.paused = self.congested = True

    def resume(self) -> None:
        """The transport has room again. The caller has to ``flush`` and ``admit`` next."""
        self.paused = False
        self._update_congested()
        self.forget_answers()

    async def wait_for_room(self) -> None:
        """Wait, in order of arrival, until the peer has taken enough of what was sent.

        Returns at once while the peer keeps up. But after a burst of short messages other tasks
        get a turn; otherwise a loop of sends would allow no timeout and no cancellation. Returns
        early when nothing can be sent any more: then sending raises the reason.

        Raises:
            ChannelClosed, PeerDisconnected: nothing more can be sent.
        """
        if not self.blocked:
            if not self._turn_taken:
                return
            # Joins the queue anyway; otherwise tasks that send meanwhile would come first.
            self.admit_soon()
        self._turn_taken = False
        self._update_congested()
        self.check_open()
        if self._waiting is None:
            self._waiting = WaitingSenders()
        self.congested = True
        try:
            await self._waiting.wait(self)
        finally:
            self._update_congested()

    def admit_soon(self) -> None:
        """Wake waiting senders in the next turn of the loop."""
        self._owner.loop.call_soon(self.admit)

    def admit(self) -> None:
        """Wake a few waiting senders if there is room."""
        if self._waiting and not self.paused:
            self._waiting.admit()

    def turn_away(self) -> None:
        """Wake all waiting senders: nothing more can be sent."""
        if self._waiting:
            self._waiting.turn_away()

    def _update_congested(self) -> None:
        self.congested = self._turn_taken or self.blocked

    # --- what may be sent -----------------------------------------------------------------

    def check_open(self) -> None:
        """Raise if nothing can be sent any more, not even a signal.

        Raises:
            NotAllowed, ChannelClosed, PeerDisconnected: why.
        """
        self.judge(_SIGNAL, 0)

    def check(self, message: Message) -> int:
        """The id that a message would be sent with now. May be called from any thread.

        Raises:
            NotAllowed, InvalidMessageId, ChannelClosed, PeerDisconnected: it cannot be sent now.
        """
        message_id = message.message_id
        if message.op_code is not OpCode.BYE_SIGNAL:
            _, message_id = self.judge(int(message.op_code), message_id)
        return message_id or next_message_id()

    def judge(self, value: int, message_id: int) -> tuple[State, int]:
        """Call ``sending_rules.judge`` with this channel's present state."""
        end, decoder = self._owner.end, self._decoder
        if end is not None:
            if self._owner.closed_here:
                raise ChannelClosed("the channel was closed on this side")
            raise when_sending(end)
        return judge(OP_CODES[value], message_id, decoder.state, decoder.asked_id)
