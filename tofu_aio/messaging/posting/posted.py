"""Channels and listeners of the message-level API, which use the group's mailbox for everything."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from ...protocol.account import LENT
from ...protocol.binary_header import BinaryHeader
from ...protocol.errors import (
    ChannelClosed,
    ChannelEnded,
    InvalidChannelNumber,
    NotAllowed,
    PeerDisconnected,
    TofuError,
)
from ...protocol.lifecycle import POST, WELCOMED, ListenerState
from ...protocol.message import Message, next_message_id, notification, returned
from ...protocol.op_code import OpCode
from ...protocol.pool import Pool
from ...protocol.status import Status
from ...transport.transport import Acceptor
from ..accepting.admission import Admission
from ..connection.connection import Connection
from ..connection.handshake import note_hello
from ..delivery.mailbox import Mailbox
from ..delivery.wake_up import WakeUps
from ..flow_control.usage import PoolUsage, of_connection
from ..threads.owner_loop import Call


class PostedChannel:
    """A channel that a posted HELLO_REQUEST made, or a connection to a posted listener.

    Args:
        connection: the connection of the channel.
        mailbox: of the group.
        forget: called once, with the channel number, when the socket is closed.
        follow: schedules a call after all messages that other threads have posted so far.
        held_up: the connections of the group that wait for permits. One that does not wait any more
            may still be in it.
        hello: the Hello of this side, which comes back if the peer does not answer it.
        admission: of the listener, if the connection was accepted by one.
    """

    def __init__(
        self,
        connection: Connection,
        mailbox: Mailbox[Message],
        forget: Callable[[int], None],
        follow: Callable[[Call], None],
        *,
        held_up: dict[Connection, None],
        hello: Message | None = None,
        admission: Admission | None = None,
    ) -> None:
        self._connection = connection
        connection.sink = self
        self._mailbox = mailbox
        self._forget = forget
        self._follow = follow
        self._held_up = held_up
        self._hello = hello
        self._hello_id = 0 if hello is None else hello.message_id
        self._admission = admission
        self._undecided: Message | None = None  # the peer's Hello, until the application decides
        self._nothing_received = True
        # Whether the application knows the channel: before the peer's Hello it does not.
        self._known = admission is None
        self._closed_notified = False  # channel_closed was delivered, or waits in ``follow``

    def post(self, message: Message) -> BinaryHeader:
        """Queue a message."""
        message_id = self._connection.queue.enqueue_message(message)
        return message.header_as(self._connection.number, message_id)

    def _check(self, message: Message) -> int:
        """Return the message id with which ``post`` would send a message now. For any thread.

        Raises:
            InvalidChannelNumber: the channel is about to be reported as closed.
            TofuError: as ``post``.
        """
        if self._closed_notified:
            raise no_channel(self._connection.number)
        return self._connection.queue.check(message)

    def give_up(self, error: TofuError) -> None:
        """End the channel because connecting failed. The Hello comes back with the error's status.

        Does nothing if the application has reset the channel in the meantime.
        """
        hello, self._hello = self._hello, None
        if hello is not None:
            self._notify([returned(hello, error.status, self._connection.number)])
        self._connection.closing.abort(ChannelClosed("connecting failed"))

    def _usage(self, pool: Pool) -> PoolUsage:
        """Return what the connection holds of the pool. The mailbox belongs to the group."""
        return of_connection(self._connection, pool)

    async def aclose(self) -> None:
        """Send a Bye, wait for the answer, and close."""
        await self._connection.closing.aclose()

    def deliver(self, batch: list[Message], wake_ups: WakeUps) -> None:
        """Pass all messages to the application."""
        refused = False
        if self._nothing_received:
            refused = batch[0].op_code is OpCode.HELLO_RESPONSE and bool(batch[0].status)
            self._nothing_received = False
            self._known = True
            self._hello = None
            headers = batch[0].headers.encode()
            note_hello(self._connection, headers, answer=self._admission is None, by_peer=True)
            if self._admission is not None:
                self._admission.hello_received(self._connection)
                self._undecided = batch[0]
        self._mailbox.deliver(batch, wake_ups)
        batch.clear()  # no reference is kept: a message that the application drops is freed at once
        if refused:  # after a refusal the peer waits for this side to close
            self._connection.closing.hang_up(PeerDisconnected("the peer refused the channel"))

    def accepted(self) -> None:
        """The application has answered the peer's Hello."""
        assert self._admission is not None
        self._undecided = None
        self._admission.accepted(self._connection)

    def ended(self, error: TofuError) -> None:
        """Return the unsent messages, then notify the reason unless it was a Bye."""
        if self._admission is not None:
            self._admission.ended(self._connection)
        self._withdraw_hello()
        number = self._connection.number
        unsent = self._connection.queue.unsent()
        if self._hello is None:
            notices = [not_sent(message, error, number) for message in unsent]
        else:  # sent or not, the Hello is the only message so far
            notices = [returned(self._hello, Status.CONNECT_FAILED, number)]
            self._hello = None
        if not isinstance(error, ChannelEnded | ChannelClosed):
            notices.append(notification(error.status, number))
        self._notify(notices)

    def _withdraw_hello(self) -> None:
        """Take back an undecided peer's Hello that was not received yet, when the peer is lost."""
        hello, self._undecided = self._undecided, None
        if hello is not None:
            with contextlib.suppress(ValueError):  # it was received
                self._mailbox.items.remove(hello)
                self._known = False

    @property
    def waits(self) -> int:
        """How many messages may be lent to a receiver that keeps some and waits for the next."""
        return LENT if self._mailbox.waits else 0

    def lost(self) -> None:
        """Do nothing: the end of the connection is notified anyway."""

    def suspended(self) -> None:
        """Note that the connection waits for permits, for the next ``receive`` to lend it some.

        The pool has notified the mailbox already.
        """
        self._held_up[self._connection] = None
        if self._mailbox.waits:
            self._connection.lend()

    def said(self) -> None:
        """The last bytes have been sent."""
        if self._admission is not None:
            self._admission.ended(self._connection)

    def closed(self) -> None:
        """The socket is closed."""
        self._held_up.pop(self._connection, None)
        if self._admission is not None:
            self._admission.ended(self._connection)
        self._closed_notified = True  # before follow(), which waits for other threads
        self._follow(self._notify_closed)

    def _notify_closed(self) -> None:
        """Notify channel_closed, and free the channel number."""
        number = self._connection.number
        self._notify([notification(Status.CHANNEL_CLOSED, number, self._hello_id)])
        self._forget(number)

    def _notify(self, notices: list[Message]) -> None:
        if self._known:
            self._mailbox.deliver(notices)


class PostedListener:
    """A listener that a posted WELCOME_REQUEST made."""

    def __init__(
        self,
        number: int,
        acceptor: Acceptor,
        mailbox: Mailbox[Message],
        forget: Callable[[int], None],
        follow: Callable[[Call], None],
        *,
        welcome_id: int,
    ) -> None:
        self._number = number
        self._welcome_id = welcome_id
        self._acceptor = acceptor
        self._mailbox = mailbox
        self._forget = forget
        self._follow = follow
        self._state = WELCOMED[True]

    def post(self, message: Message) -> BinaryHeader:
        """Close the listener, if the message is a Bye. It has no peer for other messages.

        Raises:
            NotAllowed: it is not a Bye.
        """
        message_id = self._check(message)
        self.close()
        return message.header_as(self._number, message_id)

    def _check(self, message: Message) -> int:
        """Return the message's id, or raise as ``post``. For any thread."""
        if self._state is ListenerState.CLOSED:
            raise ChannelClosed(f"listener {self._number} was closed")
        if message.op_code not in POST[self._state]:
            raise NotAllowed(
                f"channel {self._number} is a listener, and {message.op_code.name} cannot be "
                "posted to it: only BYE_SIGNAL or BYE_REQUEST, which close it"
            )
        return message.message_id or next_message_id()

    async def aclose(self) -> None:
        """Stop listening, and wait until the address is free."""
        self.close()
        await self._acceptor.wait_closed()

    def close(self) -> None:
        """Stop listening. Accepted channels stay open."""
        if self._state is ListenerState.CLOSED:
            return
        self._state = ListenerState.CLOSED
        self._acceptor.close()
        self._follow(self._notify_closed)

    def _notify_closed(self) -> None:
        last = notification(Status.CHANNEL_CLOSED, self._number, self._welcome_id)
        self._mailbox.deliver([last])
        self._forget(self._number)


def not_sent(message: Message, error: TofuError, number: int) -> Message:
    """Prepare a message that could not be sent for its return, with the reason as its status.

    The status channel_closed is reserved for the last notification of a channel, so that an
    application can rely on it. A message that was too late for its channel gets send_failed.
    """
    closed = error.status is Status.CHANNEL_CLOSED
    return returned(message, Status.SEND_FAILED if closed else error.status, number)


def no_channel(number: int) -> InvalidChannelNumber:
    """Return the error for a number that belongs to no channel."""
    return InvalidChannelNumber(f"there is no channel {number} (any more)")
