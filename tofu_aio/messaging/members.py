"""The channels and listeners of a group, by number."""

from __future__ import annotations

from typing import TypeAlias, TypeGuard
from weakref import WeakSet

from ..protocol.message import Message
from ..protocol.pool import Pool
from .channel import Channel
from .connection.connection import Connection
from .flow_control.usage import PoolUsage
from .listener import Listener
from .numbers import NumberedTable
from .posting.posted import PostedChannel, PostedListener

Postable: TypeAlias = Channel | PostedChannel | PostedListener
Member: TypeAlias = Postable | Listener


class Members(dict[int, Member]):
    """What a group has, and what of its closed channels is still to be received.

    Args:
        numbers: of all groups of the engine, each entered under its members.
    """

    def __init__(self, numbers: NumberedTable[Members]) -> None:
        super().__init__()
        self.numbers = numbers
        self._ended: WeakSet[Channel] = WeakSet()  # that still have something to be received

    def new_number(self) -> int:
        """A number for a member.

        Raises:
            AllocationFailed: all are taken.
        """
        return self.numbers.add(self)

    def forget(self, number: int) -> None:
        """Take one out, and give its number back."""
        # The number first: with a number and no member it would look, to another thread, like a
        # channel that is being opened.
        self.numbers.remove(number)
        member = self.pop(number, None)
        if isinstance(member, Channel) and member._mailbox.items:
            self._ended.add(member)

    @property
    def connections(self) -> list[Connection]:
        """Those of all channels."""
        return [member._connection for member in self.values() if is_channel(member)]

    # --- what they hold -------------------------------------------------------------------

    def usage(self, pool: Pool) -> PoolUsage:
        """What all channels together hold of a pool."""
        channels = [member for member in (*self.values(), *self._ended) if is_channel(member)]
        return sum((channel._usage(pool) for channel in channels), PoolUsage())

    def awaited(self) -> int:
        """Requests in flight, on all channels together."""
        return sum(each._dispatcher.awaited for each in self.values() if isinstance(each, Channel))

    def unreceived(self) -> list[Message]:
        """The messages that the application has not received, those that arrive among them."""
        messages: list[Message] = []
        for member in (*self.values(), *self._ended):
            if isinstance(member, Channel):
                messages += member._mailbox.items
            if is_channel(member):
                arriving = member._connection.decoder.arriving
                messages += [arriving.message] if arriving is not None else []
        return messages


def is_channel(member: Member) -> TypeGuard[Channel | PostedChannel]:
    """Whether it has a peer."""
    return isinstance(member, Channel | PostedChannel)
