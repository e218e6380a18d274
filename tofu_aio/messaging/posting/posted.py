"""Channels and listeners at the altitude of messages: everything goes to the group's mailbox."""

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
from ..accepting.acceptor import Acceptor
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
        connection: its half of the engine.
        mailbox: the group's.
        forget: called once, with the number, when the socket is gone.
        follow: has something done after what other threads have posted, which comes back first.
        held_up: those of the group that wait for permits; one that waits no more may still be here.
        hello: our own, which comes back if the peer does not answer it.
        admission: of the listener it came to, if it did.
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
        self._undecided: Message | None = None  # the peer's Hello, until it is decided upon
        self._silent = True  # nothing was received yet
        self._known = admission is None  # to the application: who has not said Hello is not
        self._over = False  # channel_closed was told, or waits for what other threads have posted

    def post(self, message: Message) -> BinaryHeader:
        """Queue a message."""
        message_id = self._connection.queue.enqueue_message(message)
        return message.header_as(self._connection.number, message_id)

    def check(self, message: Message) -> int:
        """The id under which ``post`` would send the message now. From any thread.

        Raises:
            InvalidChannelNumber: channel_closed is on its way, and nothing may follow it.
            TofuError: as ``post``.
        """
        if self._over:
            raise no_channel(self._connection.number)
        return self._connection.queue.check(message)

    def give_up(self, error: TofuError) -> None:
        """Connecting failed: the Hello comes back with the error's status, and the channel ends.

        Does nothing if the application has reset the channel meanwhile.
        """
        hello, self._hello = self._hello, None
        if hello is not None:
            self._tell([returned(hello, error.status, self._connection.number)])
        self._connection.closing.abort(ChannelClosed("connecting failed"))

    def _usage(self, pool: Pool) -> PoolUsage:
        """What it has in hand for the peer; the mailbox is the group's."""
        return of_connection(self._connection, pool)

    async def aclose(self) -> None:
        """Say Bye, wait for the answer, and close."""
        await self._connection.closing.aclose()

    def deliver(self, batch: list[Message], wake_ups: WakeUps) -> None:
        """Everything is the application's business."""
        refused = False
        if self._silent:
            refused = batch[0].op_code is OpCode.HELLO_RESPONSE and bool(batch[0].status)
            self._silent = False
            self._known = True
            self._hello = None
            headers = batch[0].headers.encode()
            note_hello(self._connection, headers, answer=self._admission is None, by_peer=True)
            if self._admission is not None:
                self._admission.introduced(self._connection)
                self._undecided = batch[0]
        self._mailbox.deliver(batch, wake_ups)
        batch.clear()  # who drops a message that it has received has dropped it
        if refused:  # who has refused waits for that
            self._connection.closing.hang_up(PeerDisconnected("the peer refused the channel"))

    def accepted(self) -> None:
        """The application has answered the peer's Hello."""
        assert self._admission is not None
        self._undecided = None
        self._admission.accepted(self._connection)

    def ended(self, error: TofuError) -> None:
        """What could not be sent comes back, then the reason unless it was a Bye."""
        if self._admission is not None:
            self._admission.left(self._connection)
        self._withdraw()
        number = self._connection.number
        unsent = self._connection.queue.unsent()
        if self._hello is None:
            notices = [come_back(message, error, number) for message in unsent]
        else:  # sent or not, it is the only one so far
            notices = [returned(self._hello, Status.CONNECT_FAILED, number)]
            self._hello = None
        if not isinstance(error, ChannelEnded | ChannelClosed):
            notices.append(notification(error.status, number))
        self._tell(notices)

    def _withdraw(self) -> None:
        """A peer that leaves undecided, and whose Hello nobody has received, was never here."""
        hello, self._undecided = self._undecided, None
        if hello is not None:
            with contextlib.suppress(ValueError):  # it was received
                self._mailbox.items.remove(hello)
                self._known = False

    @property
    def waits(self) -> int:
        """How many messages may be kept by who waits for the group's next one."""
        return LENT if self._mailbox.waits else 0

    def lost(self) -> None:
        """Its end will tell."""

    def suspended(self) -> None:
        """The pool has told the mailbox already; whoever receives is to lend it something."""
        self._held_up[self._connection] = None
        if self._mailbox.waits:
            self._connection.lend()

    def said(self) -> None:
        """Our last word has left."""
        if self._admission is not None:
            self._admission.left(self._connection)

    def closed(self) -> None:
        """The socket is gone."""
        self._held_up.pop(self._connection, None)
        if self._admission is not None:
            self._admission.left(self._connection)
        self._over = True  # before follow(): from here on no thread can add to what it waits for
        self._follow(self._say_last)

    def _say_last(self) -> None:
        """Tell channel_closed, and give the number back."""
        number = self._connection.number
        self._tell([notification(Status.CHANNEL_CLOSED, number, self._hello_id)])
        self._forget(number)

    def _tell(self, notices: list[Message]) -> None:
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
        """A Bye closes the listener; there is no peer to tell anything else.

        Raises:
            NotAllowed: it is not a Bye.
        """
        message_id = self.check(message)
        self.close()
        return message.header_as(self._number, message_id)

    def check(self, message: Message) -> int:
        """The id of the message; raises as ``post``. From any thread."""
        if self._state is ListenerState.CLOSED:
            raise ChannelClosed(f"listener {self._number} was closed")
        if message.op_code not in POST[self._state]:
            raise NotAllowed(
                f"channel {self._number} is a listener: only BYE_SIGNAL or BYE_REQUEST, to close "
                f"it, can be posted to it, not {message.op_code.name}"
            )
        return message.message_id or next_message_id()

    async def aclose(self) -> None:
        """Stop listening."""
        self.close()

    def close(self) -> None:
        """Stop listening. Channels that it brought live on."""
        if self._state is ListenerState.CLOSED:
            return
        self._state = ListenerState.CLOSED
        self._acceptor.close()
        self._follow(self._say_last)

    def _say_last(self) -> None:
        last = notification(Status.CHANNEL_CLOSED, self._number, self._welcome_id)
        self._mailbox.deliver([last])
        self._forget(self._number)


def come_back(message: Message, error: TofuError, number: int) -> Message:
    """Mark a message that could not be sent, with the reason as its status.

    The status channel_closed is reserved for the notification that ends a channel, so that an
    application can rely on it; a message that came too late for its channel has send_failed.
    """
    closed = error.status is Status.CHANNEL_CLOSED
    return returned(message, Status.SEND_FAILED if closed else error.status, number)


def no_channel(number: int) -> InvalidChannelNumber:
    """What posting to a number that belongs to no channel raises."""
    return InvalidChannelNumber(f"there is no channel {number} (any more)")
