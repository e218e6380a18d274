"""One request and its answer, each in any number of parts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection

from anyio import BusyResourceError, CancelScope
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
from ..protocol.text_headers import HeadersLike, TextHeaders
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

    Both sides have the same object: what one sends with ``send``, and ends with ``finish``, the
    other receives by iterating, which ends after the last part. Both may send and receive at
    once, in two tasks; any number of exchanges, and all other messages, share the channel.

    Only ``finish`` says that all was sent. Who leaves without it, by an exception, a
    cancellation or a ``break``, ends with a part of status PROCESSING_FAILED, and the other side
    gets ``ExchangeFailed``: what was cut short never passes for whole. Parts that still come are
    dropped and counted, as late responses are; to a peer that has said all that it had to say
    before, nothing is told.

    A received part holds a permit of the engine's pool, or its channel's reserve, like any message,
    whether it was received from here already or waits to be. Parts that nobody receives hold up, in
    the end, all that comes on their channel: receive what comes, in a task of its own where sending
    takes long, or leave.

    An async context manager: leaving it closes the exchange, never the channel.

    Attributes:
        message_id: what ties its parts together.
        begun: whether the peer knows of it, and has not taken it back.
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
        self._headers = _encoded(headers)  # for the first part
        self._forget = forget  # called when it is left
        self._slots = slots  # of those that this side has begun
        self._has_slot = False
        self._parts = Mailbox(inbox())
        # The peer knows of it: from the first part that is sent, or because it asked.
        self.begun = not self.asks
        self._finished = False
        self._torn = False  # only a piece of a body was sent
        self._burst = 0  # bytes sent since others had their turn
        self._sending = False
        self._waiting: CancelScope | None = None  # where sending waits for room

    @property
    def extra_attributes(self) -> Attributes:  # type: ignore[override]
        """The typed attributes of its channel."""
        return both_ends(self._connection.queue.extra_info)

    @property
    def receives(self) -> bool:
        """Whether parts may still come."""
        return self._parts.end is None

    @property
    def waits(self) -> bool:
        """Whether somebody waits for the next part."""
        return self._parts.waits

    @property
    def unread(self) -> Collection[Message]:
        """Parts that have come, and nobody has received."""
        return self._parts.items

    @property
    def asks(self) -> bool:
        """Whether this side made the request."""
        return self._op_code is OpCode.REQUEST

    def __repr__(self) -> str:
        return f"<Exchange #{self.message_id} channel={self._connection.number}>"

    # --- receiving ------------------------------------------------------------------------

    async def receive(self) -> Message:
        """The next part; ``more`` tells whether others follow. Cancelled, it loses none.

        Raises:
            ExchangeFailed: the peer ended it with a status other than SUCCESS.
            EndOfStream: the last part was received.
            PeerDisconnected, ProtocolViolation: the others will never come.
            ChannelClosed: the exchange was left, or its channel was closed, on this side.
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
        """Send a part, and say that more follow. One that is too long for a part makes several.

        Waits for room as ``Channel.send`` does, and gives other tasks a turn every 64 KiB. The
        first part of a request also waits while 1,024 other exchanges of this side are under way on
        the channel. A part is sent whole, or, if cancelled, not at all. Where that leaves a longer
        body in the middle nothing can be sent any more.

        Args:
            item: of any length; parts have 65,535 bytes at most.
            headers: of the part; of the first one, if they are several.

        Raises:
            ExchangeFailed: the peer ended the exchange with a status other than SUCCESS: it
                needs no more.
            ChannelClosed: ``finish`` was called, or the exchange left, or its channel closed.
            SendFailed: a send was cancelled in the middle of its body.
            BusyResourceError: another task is sending.
            TofuError: as ``Channel.post``.
        """
        await self._send(item, headers, MORE_BIT, Status.SUCCESS)

    async def finish(
        self,
        body: bytes | bytearray | memoryview = b"",
        headers: HeadersLike | None = None,
        *,
        status: Status = Status.SUCCESS,
    ) -> None:
        """Send the last part: nothing more comes from this side. What the peer sends still does.

        Args:
            body: as ``send`` takes it.
            headers: as ``send`` takes them.
            status: SUCCESS, or why all of it is void; ``body`` is then a text for people.

        Raises:
            TofuError: as ``send``.
        """
        await self._send(body, headers, 0, status)

    async def send_eof(self) -> None:
        """Finish, if that was not done yet.

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
        if self._sending:
            raise BusyResourceError("sending to")
        self._check()
        if self._torn:
            raise SendFailed("a send was cancelled in the middle of its body: leave the exchange")
        text = _encoded(headers)
        self._sending = True
        try:
            if self._slots is not None and not self.begun:
                await self._slot(self._slots)
            for piece, last in pieces(body):
                await self._room()
                self._check()
                proto = self._op_code | (more if last else MORE_BIT)
                end = status if last else Status.SUCCESS
                self._connection.queue.enqueue(
                    proto, self.message_id, self._headers + text, piece, end, True
                )
                self.begun, self._torn = True, not last
                self._headers = text = b""
                self._burst += HEADER_SIZE + len(piece)
            self._finished = not more
            self._forget_if_over()
        finally:
            self._sending = False
            if not self.begun:
                self._give_slot_back()

    async def _slot(self, slots: Slots) -> None:
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
        """It has not begun, or is over, or was left."""
        if self._slots is not None and self._has_slot:
            self._has_slot = False
            self._slots.release()

    async def _room(self) -> None:
        # While there is room nothing else here waits, and nobody else would run.
        if self._burst >= MAX_PART:
            self._burst = 0
            await asyncio.sleep(0)
        connection = self._connection
        if connection.queue.paused or connection.queue.senders_waiting:
            try:
                with CancelScope() as self._waiting:
                    await connection.queue.wait_for_room()
            finally:
                self._waiting = None

    def _check(self) -> None:
        """Raise why nothing may be sent."""
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
        """Leave it: nothing more is received, and the peer learns of it unless all is done.

        Never waits. Safe from any task, and to repeat.
        """
        # A peer that is still answering stops, if it has said that it wants to be told.
        tells = self.asks and self.receives and self._connection.peer_supports & Extension.CANCEL
        self._forget(self)
        self._give_slot_back()
        self.close(ChannelClosed("the exchange was left on this side"))
        if self.begun and (tells or not self._finished):
            self._finished = True
            proto = WITHDRAWAL if tells else self._op_code
            with contextlib.suppress(TofuError):  # the channel has ended: the peer knows
                say = (
                    self._connection.queue.enqueue
                    if self.asks
                    else self._connection.queue.enqueue_answer
                )
                say(proto, self.message_id, status=LEFT)

    # --- what the channel tells -----------------------------------------------------------

    def deliver(self, part: Message) -> None:
        """Take a part."""
        if part.more:
            self._parts.deliver([part])
        elif part.status is Status.SUCCESS:
            self._parts.deliver([part])
            self._parts.finish(ChannelEnded("the last part was received"))
            self._forget_if_over()
        else:
            part.release()
            self.lose(failed(part))
            self._give_slot_back()

    def _forget_if_over(self) -> None:
        """All was sent and received: there is nothing more to tell it."""
        if self._finished and not self.receives:
            self._forget(self)
            self._give_slot_back()

    def lose(self, error: TofuError) -> None:
        """No more parts come, and why, unless all have. What has come can still be received."""
        if self.receives:
            self._parts.finish(error)
        self._wake_sender()

    def taken_back(self, error: TofuError) -> None:
        """The caller has given up: nothing needs to be sent, though all parts may have come.

        Not even that it is left: the caller may have begun another one under the same id.
        """
        self.begun = False
        self._parts.finish(error)
        self._wake_sender()

    def close(self, error: TofuError) -> None:
        """Nothing more is received, not even what has come."""
        for part in self._parts.close(error):
            part.release()
        self._wake_sender()


def _encoded(headers: HeadersLike | None) -> bytes:
    return TextHeaders(headers).encode() if headers else b""


def failed(part: Message) -> TofuError:
    """What an exchange says when its peer has ended it with this part."""
    text = quoted(part.body) or "the peer left the exchange, or could not go on"
    return ExchangeFailed(f"{part.status.name.lower()}: {text}", part.status, part)
