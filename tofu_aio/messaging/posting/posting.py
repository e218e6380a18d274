"""The message API of a group: what ``post``, ``update_receiver`` and ``receive`` do."""

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
from .posted import PostedChannel, come_back, no_channel
from .snapshots import handing_over

_OPENINGS: Final = frozenset({OpCode.WELCOME_REQUEST, OpCode.HELLO_REQUEST})


class Posting:
    """A part of each group. ``post`` and ``update_receiver`` may be called from any thread.

    Args:
        gate: of the engine.
        members: of the group.

    Attributes:
        calls: what other threads have posted and the owner loop has not done yet.
        mailbox: of the group. Its end is that of the group.
        openings: channels and listeners that are being made.
    """

    def __init__(self, gate: ReadGate, members: Members) -> None:
        self._owner_loop = gate.owner_loop
        self._members = members
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
        """Whether the group was closed."""
        return self.mailbox.end is not None

    def check_open(self) -> None:
        """Raise if the group was closed."""
        if self.mailbox.end is not None:
            raise again(self.mailbox.end)

    def close(self) -> None:
        """Do what other threads have posted, and drop what nobody has received."""
        self.calls.close(group_closed())
        for message in self.mailbox.close(group_closed()):
            message.release()

    def post(self, message: Message) -> BinaryHeader:
        """As ``ChannelGroup.post``."""
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
        """As ``ChannelGroup.update_receiver``."""
        if message is None:
            self._update(notification(Status.RECEIVER_UPDATE))
            return
        own = snapshot(message)
        with handing_over(message, own):
            self._update(own)

    async def receive(self) -> Message:
        """As ``ChannelGroup.receive``."""
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
        """Notify the application if the channel that found no permit belongs to the mailbox."""
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
        """Why nothing can be posted to this number."""
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
        return NotAllowed(f"channel {number} is not open yet: wait for the answer that it is")

    # --- from other threads ---------------------------------------------------------------

    def _post_from_elsewhere(self, message: Message) -> BinaryHeader:
        """Check at once; do the rest in the owner loop."""
        own = snapshot(message)
        if own.op_code in _OPENINGS:
            return self.openings.open_soon(message)
        self.check_open()
        # Marked: if the channel ends, what was posted before comes back first, and then its end.
        mark = object()
        try:
            self.calls.putting.add(mark)
            own.message_id = self._checked(own)
            header = own.header_as(own.channel_number, own.message_id)
            with handing_over(message, own):
                self.calls.submit(RevocableCall(partial(self._post_late, own)))
            return header
        finally:
            self.calls.putting.discard(mark)

    def _checked(self, message: Message) -> int:
        """The id that a message of another thread gets, if it may be posted."""
        # Looked at before the channel: what is still to be done may change what it allows.
        unsettled = self.calls.pending
        number = message.channel_number
        member = self._members.get(number)
        try:
            if member is None or isinstance(member, Listener):
                raise self._no_peer(number)
            return member.check(message)
        except TofuError as error:
            if self.closed:
                raise group_closed() from None
            if not (unsettled and isinstance(error, NotAllowed)):
                raise
            return message.message_id or next_message_id()

    def _post_late(self, message: Message) -> None:
        """Post what another thread did; it comes back if that is no longer possible."""
        try:
            self.post(message)
        except TofuError as error:
            self.mailbox.deliver([come_back(message, error, message.channel_number)])


def group_closed() -> TofuError:
    """The error for what is asked of a closed group."""
    return ChannelClosed("the group was closed")
