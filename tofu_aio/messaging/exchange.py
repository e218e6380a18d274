"""One request and its answer, each in any number of parts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection

from anyio import BusyResourceError, CancelScope, WouldBlock
from anyio.abc import ObjectReceiveStream, ObjectSendStream

from ..protocol.binary_header import HEADER_SIZE, MAX_PART
from ..protocol.errors import (
    ChannelClosed,
    ChannelEnded,
    ExchangeFailed,
    SendFailed,
    TofuError,
    again,
)
from ..protocol.message import Message
from ..protocol.op_code import MORE_BIT, OpCode
from ..protocol.quoting import quoted
from ..protocol.status import LEFT, Status
from ..protocol.text_headers import HeadersLike, encoded
from ..protocol.withdrawal import WITHDRAWAL
from ..transport.socket_attributes import Attributes, both_ends
from .connection.agreements import Extension
from .connection.connection import Connection
from .delivery.mailbox import Mailbox
from .delivery.parts import pieces
from .delivery.slots import Slots
from .flow_control.receipts import inbox


class Exchange(ObjectReceiveStream[Message], ObjectSendStream[bytes]):
    """One request and its answer, each in any number of parts. Made by ``channel.stream``.

    Both sides use the same kind of object. One side sends parts with ``send``, the last one with
    ``finish``. The other side receives them by iterating, which ends after the last part. Both may
    send and receive at once, in two tasks. Any number of exchanges share a channel with all other
    messages.

    Only ``finish`` marks the data as complete. If the exchange is left without it, by an
    exception, a cancellation or a ``break``, a last part with the status PROCESSING_FAILED is
    sent, and the other side gets ``ExchangeFailed``. So truncated data is never taken for complete
    data. Parts that still come are dropped and counted, as late responses are. Nothing is sent to
    a peer that has finished before.

    Each part that has arrived, received or not, holds a permit of the engine's pool, or its
    channel's reserve, like any message. Parts that nobody receives eventually block all other
    messages of their channel. So receive the parts, in a task of its own if sending takes long, or
    leave the exchange.

    An async context manager: leaving it closes the exchange, never the channel.

    Attributes:
        message_id: the id that all its parts carry.
    """

    def __init__(
        self,
        connection: Connection,
        op_code: OpCode,
        message_id: int,
        headers: HeadersLike | None,
        forget: Callable[[Exchange], None],
        *,
        slots: Slots | None,
    ) -> None:
        self.message_id = message_id
        self._connection = connection
        self._op_code = op_code
        self._headers = encoded(headers)  # for the first part
        self._forget = forget  # called when it is left
        self._slots = slots  # for the exchanges that this side begins
        self._has_slot = False
        self._parts = Mailbox(inbox())
        # The peer knows of it once the first part is sent, or because the request is the peer's.
        self._begun = not self.asks  # the peer knows of it, and has not cancelled it
        self._finished = False
        self._body_incomplete = False  # only a piece of a body was sent
        self._burst = 0  # bytes sent since other tasks had a turn
        self._sending = False
        self._waiting: CancelScope | None = None  # around a wait for a slot or for room

    @property
    def extra_attributes(self) -> Attributes:  # type: ignore[override]
        """The typed attributes of the channel."""
        return both_ends(self._connection.queue.extra_info)

    @property
    def _receives(self) -> bool:
        """Whether parts may still come."""
        return self._parts.end is None

    @property
    def _waits(self) -> bool:
        """Whether a task waits for the next part."""
        return self._parts.waits

    @property
    def _unread(self) -> Collection[Message]:
        """Parts that have arrived and were not received yet."""
        return self._parts.items

    @property
    def asks(self) -> bool:
        """Whether this side made the request."""
        return self._op_code is OpCode.REQUEST

    def __repr__(self) -> str:
        return f"<Exchange #{self.message_id} channel={self._connection.number}>"

    # --- receiving ------------------------------------------------------------------------

    async def receive(self) -> Message:
        """The next part; its ``more`` says whether others follow. Cancelling loses no part.

        Raises:
            ExchangeFailed: the peer ended the exchange with a status other than SUCCESS.
            EndOfStream: the last part was received.
            PeerDisconnected, ProtocolViolation: the remaining parts will not come.
            ChannelClosed: the exchange was left, or its channel closed, on this side.
            BusyResourceError: another task is receiving.
        """
        parts = self._parts
        while not parts.items:
            arrival = parts.arrival()
            self._connection.lend()
            await arrival
        return parts.items.popleft()

    # --- sending --------------------------------------------------------------------------

    async def send(
        self, item: bytes | bytearray | memoryview, headers: HeadersLike | None = None
    ) -> None:
        """Send a part that others follow. A body that is too long for one part makes several.

        Waits for room as ``Channel.send`` does, and gives other tasks a turn every 64 KiB. The
        first part of a request also waits while this side has 1,024 other exchanges in progress
        on the channel. A cancelled call sends no incomplete part. If it was cancelled between two
        parts of one body, nothing more can be sent.

        Args:
            item: of any length; a part has at most 65,535 bytes.
            headers: of the part, or of the first of several.

        Raises:
            ExchangeFailed: the peer ended the exchange with a status other than SUCCESS, and
                needs no more parts.
            ChannelClosed: ``finish`` was called, the exchange was left, or its channel closed.
            SendFailed: a send was cancelled in the middle of its body.
            BusyResourceError: another task is sending.
            TofuError: as ``Channel.post``.
        """
        await self._send(item, headers, MORE_BIT, Status.SUCCESS)

    def send_nowait(
        self, item: bytes | bytearray | memoryview, headers: HeadersLike | None = None
    ) -> None:
        """Send one part that others follow, if there is room for it now. Never waits.

        After ``WouldBlock``, ``send`` waits for room, in order of arrival. This method gives no
        other task a turn, so whoever calls it in a loop has to bound the loop.

        Args:
            item: at most 65,535 bytes.
            headers: of the part.

        Raises:
            WouldBlock: (of anyio) ``send`` would have to wait. Nothing was sent.
            InvalidBodyLen: the item does not fit in one part.
            TofuError, BusyResourceError: as ``send``.
        """
        self._check_sending()
        text = encoded(headers)
        queue, slots = self._connection.queue, self._slots
        if queue.blocked:
            raise WouldBlock
        if slots is not None and not self._begun:
            self._has_slot = slots.acquire()
            if not self._has_slot:
                raise WouldBlock
        try:
            queue.enqueue(
                self._op_code | MORE_BIT, self.message_id, self._headers + text, item, 0, True
            )
        except BaseException:
            if not self._begun:
                self._give_slot_back()
            raise
        self._begun = True
        self._headers = b""

    async def finish(
        self,
        body: bytes | bytearray | memoryview = b"",
        headers: HeadersLike | None = None,
        *,
        status: Status = Status.SUCCESS,
    ) -> None:
        """Send the last part of this side. The peer's parts can still be received.

        Args:
            body: as ``send`` takes it.
            headers: as ``send`` takes them.
            status: SUCCESS, or why all parts sent are void; ``body`` is then a text for people.

        Raises:
            TofuError: as ``send``.
        """
        await self._send(body, headers, 0, status)

    async def send_eof(self) -> None:
        """Call ``finish``, unless that was done.

        Raises:
            TofuError: as ``send``.
        """
        if not self._finished:
            await self.finish()

    async def _send(
        self,
        body: bytes | bytearray | memoryview,
        headers: HeadersLike | None,
        more: int,
        status: Status,
    ) -> None:
        self._check_sending()
        text = encoded(headers)
        self._sending = True
        try:
            if self._slots is not None and not self._begun:
                await self._wait_for_slot(self._slots)
            for piece, last in pieces(body):
                await self._wait_for_room()
                self._check()
                proto = self._op_code | (more if last else MORE_BIT)
                end = status if last else Status.SUCCESS
                self._connection.queue.enqueue(
                    proto, self.message_id, self._headers + text, piece, end, True
                )
                self._begun, self._body_incomplete = True, not last
                self._headers = text = b""
                self._burst += HEADER_SIZE + len(piece)
            self._finished = not more
            self._forget_if_over()
        finally:
            self._sending = False
            if not self._begun:
                self._give_slot_back()

    async def _wait_for_slot(self, slots: Slots) -> None:
        """Wait until one more exchange may begin."""
        self._has_slot = slots.acquire()
        if not self._has_slot:
            try:
                with CancelScope() as self._waiting:
                    await slots.wait()
                    self._has_slot = True
            finally:
                self._waiting = None
            self._check()

    def _give_slot_back(self) -> None:
        """Free the slot of an exchange that has not begun, is over, or was left."""
        if self._slots is not None and self._has_slot:
            self._has_slot = False
            self._slots.release()

    async def _wait_for_room(self) -> None:
        # While there is room nothing else here awaits, and no other task would run.
        if self._burst >= MAX_PART:
            self._burst = 0
            await asyncio.sleep(0)
        connection = self._connection
        if connection.queue.blocked:
            try:
                with CancelScope() as self._waiting:
                    await connection.queue.wait_for_room()
            finally:
                self._waiting = None

    def _check_sending(self) -> None:
        """Raise the reason if no send may begin."""
        if self._sending:
            raise BusyResourceError("sending to")
        self._check()
        if self._body_incomplete:
            raise SendFailed("a send was cancelled in the middle of its body: leave the exchange")

    def _check(self) -> None:
        """Raise the reason if nothing may be sent."""
        end = self._parts.end
        if end is not None and not isinstance(end, ChannelEnded):
            raise again(end)
        if self._finished:
            raise ChannelClosed("the last part was sent already")

    def _wake_sender(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()

    # --- ending ---------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Leave the exchange: receive nothing more, and notify the peer unless all is finished.

        Never waits. May be called from any task, and again.
        """
        # A peer that supports cancellation and is still answering stops then.
        withdraw = (
            self.asks and self._receives and self._connection.peer_supports & Extension.CANCEL
        )
        self._forget(self)
        self._give_slot_back()
        self._close(ChannelClosed("the exchange was left on this side"))
        if self._begun and (withdraw or not self._finished):
            self._finished = True
            proto = WITHDRAWAL if withdraw else self._op_code
            with contextlib.suppress(TofuError):  # the channel has ended, and the peer knows
                enqueue = (
                    self._connection.queue.enqueue
                    if self.asks
                    else self._connection.queue.enqueue_answer
                )
                enqueue(proto, self.message_id, status=LEFT)

    # --- what the channel reports ---------------------------------------------------------

    def _deliver(self, part: Message) -> None:
        """Add a part that has arrived."""
        if part.more:
            self._parts.deliver([part])
        elif part.status is Status.SUCCESS:
            self._parts.deliver([part])
            self._parts.finish(ChannelEnded("the last part was received"))
            self._forget_if_over()
        else:
            part.release()
            self._lose(failed(part))
            self._give_slot_back()

    def _forget_if_over(self) -> None:
        """Once everything was sent and received, the channel need not know the exchange."""
        if self._finished and not self._receives:
            self._forget(self)
            self._give_slot_back()

    def _lose(self, error: TofuError) -> None:
        """No more parts come, for this reason. Parts that have arrived can still be received.

        Does nothing if the last part has arrived.
        """
        if self._receives:
            self._parts.finish(error)
        self._wake_sender()

    def _taken_back(self, error: TofuError) -> None:
        """The peer has cancelled its request: nothing is sent any more.

        That also holds if all its parts have arrived, and for the notice that the exchange was
        left: the peer may have begun another exchange under the same id.
        """
        self._begun = False
        self._parts.finish(error)
        self._wake_sender()

    def _close(self, error: TofuError) -> None:
        """Receive nothing more, not even parts that have arrived."""
        for part in self._parts.close(error):
            part.release()
        self._wake_sender()


def failed(part: Message) -> TofuError:
    """The error of an exchange that the peer has ended with this part."""
    text = quoted(part.body) or "the peer left the exchange, or could not go on"
    return ExchangeFailed(f"{part.status.name.lower()}: {text}", part.status, part)
