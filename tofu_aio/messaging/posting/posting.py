"""The message-level API of a group: ``post``, ``update_receiver`` and ``receive``."""

from __future__ import annotations

from functools import partial
from threading import get_ident
from typing import Final

from ...protocol.binary_header import UNASSIGNED_CHANNEL, BinaryHeader
from ...protocol.errors import (
    ChannelClosed,
    InvalidChannelGroup,
    InvalidChannelNumber,
    NotAllowed,
    TofuError,
    again,
)
from ...protocol.message import Message, next_message_id, notification, null_message, snapshot
from ...protocol.op_code import OpCode
from ...protocol.status import Status
from ...worker_threads import RevocableCall
from ..connection.connection import Connection
from ..delivery.mailbox import Mailbox
from ..flow_control.read_gate import ReadGate
from ..flow_control.receipts import inbox
from ..listener import Listener
from ..members import Members
from ..threads.call_queue import CallQueue
from .openings import Openings
from .posted import PostedChannel, no_channel, not_sent
from .snapshots import handing_over

_OPENINGS: Final = frozenset({OpCode.WELCOME_REQUEST, OpCode.HELLO_REQUEST})


class Posting:
    """The part of a group that implements the message-level API.

    ``post`` and ``update_receiver`` may be called from any thread.

    Args:
        gate: of the engine.
        members: of the group.

    Attributes:
        calls: the calls of other threads that the owner loop has not made yet.
        mailbox: of the group. It is closed together with the group.
        openings: the channels and listeners that are being opened.
    """

    def __init__(self, gate: ReadGate, members: Members) -> None:
        self._owner_loop = gate.owner_loop
        self._members = members
        members.report_exhausted = self.pool_exhausted
        self._held_up: dict[Connection, None] = {}  # see PostedChannel
        self.mailbox = Mailbox(inbox())
        self.calls = CallQueue(gate.owner_loop)
        self.openings = Openings(
            gate,
            members,
            self.mailbox,
            self.calls,
            held_up=self._held_up,
            check_open=self.check_open,
        )

    @property
    def closed(self) -> bool:
        """Whether the group is closed."""
        return self.mailbox.end is not None

    def check_open(self) -> None:
        """Raise if the group is closed."""
        if self.mailbox.end is not None:
            raise again(self.mailbox.end)

    def close(self) -> None:
        """Carry out what other threads have posted, and release the messages not received yet."""
        self.calls.close(group_closed())
        for message in self.mailbox.close(group_closed()):
            message.release()

    def post(self, message: Message) -> BinaryHeader:
        """Post a message. See ``ChannelGroup.post``."""
        if get_ident() != self._owner_loop.thread:
            return self._post_from_elsewhere(message)
        self.check_open()
        try:
            opening = message.op_code in _OPENINGS
        except AttributeError:
            raise null_message(message) from None
        if opening:
            return self.openings.open_soon(message)
        number = message.channel_number
        member = self._members.get(number)
        if member is None or isinstance(member, Listener):
            raise self._no_peer(number)
        return member.post(message)

    def update_receiver(self, message: Message | None) -> None:
        """Wake the receiver. See ``ChannelGroup.update_receiver``."""
        if message is None:
            self._update(notification(Status.RECEIVER_UPDATE))
            return
        own = snapshot(message)
        with handing_over(message, own):
            self._update(own)

    async def receive(self) -> Message:
        """Receive the next message. See ``ChannelGroup.receive``."""
        mailbox = self.mailbox
        while not mailbox.items:
            arrival = mailbox.arrival()
            for connection in list(self._held_up):
                if not connection.suspended:
                    del self._held_up[connection]
                else:
                    connection.lend()
            await arrival
        return mailbox.items.popleft()

    def pool_exhausted(self, number: int) -> bool:
        """Notify the application that a channel found no permit, if its messages come here.

        Return whether they do.
        """
        if not isinstance(self._members.get(number), PostedChannel):
            return False
        self.mailbox.deliver([notification(Status.POOL_EMPTY)])
        return True

    def _update(self, update: Message) -> None:
        if get_ident() != self._owner_loop.thread:
            self.calls.submit(RevocableCall(partial(self.mailbox.deliver, [update])))
        else:
            self.check_open()
            self.mailbox.deliver([update])

    def _no_peer(self, number: int) -> TofuError:
        """Return the error that explains why nothing can be posted to a number."""
        members = self._members
        if number in members:
            return NotAllowed(f"channel {number} is a listener: it has no peer to post to")
        if number == UNASSIGNED_CHANNEL:
            return InvalidChannelNumber("the message has no channel: set its channel_number")
        owner = members.numbers.get(number)
        opening = self.openings.tasks.get(number)
        if owner is None or (opening is not None and opening.done()):
            return no_channel(number)
        if owner is not members:
            return InvalidChannelGroup(f"channel {number} belongs to another group")
        return NotAllowed(f"channel {number} is not open yet: wait for the answer to its request")

    # --- from other threads ---------------------------------------------------------------

    def _post_from_elsewhere(self, message: Message) -> BinaryHeader:
        """Check a message at once, and do the rest in the owner loop."""
        own = snapshot(message)
        if own.op_code in _OPENINGS:
            return self.openings.open_soon(message)
        self.check_open()
        # The mark delays channel_closed: if the channel ends now, the message comes back before.
        mark = object()
        try:
            self.calls.submitting.add(mark)
            own.message_id = self._checked(own)
            header = own.header_as(own.channel_number, own.message_id)
            with handing_over(message, own):
                self.calls.submit(RevocableCall(partial(self._post_late, own)))
            return header
        finally:
            self.calls.submitting.discard(mark)

    def _checked(self, message: Message) -> int:
        """Return the id for a message of another thread, if it may be posted."""
        # Read this before the channel's state: the pending calls may change what is allowed.
        unsettled = self.calls.pending
        number = message.channel_number
        member = self._members.get(number)
        try:
            if member is None or isinstance(member, Listener):
                raise self._no_peer(number)
            return member._check(message)
        except TofuError as error:
            if self.closed:
                raise group_closed() from None
            if not (unsettled and isinstance(error, NotAllowed)):
                raise
            return message.message_id or next_message_id()

    def _post_late(self, message: Message) -> None:
        """Post a message of another thread. It comes back if it cannot be posted any more."""
        try:
            self.post(message)
        except TofuError as error:
            self.mailbox.deliver([not_sent(message, error, message.channel_number)])


def group_closed() -> TofuError:
    """Return the error for operations on a closed group."""
    return ChannelClosed("the group was closed")
