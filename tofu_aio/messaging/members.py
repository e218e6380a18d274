"""The channels and listeners of a group, by number."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeGuard
from weakref import WeakSet

from ..protocol.message import Message
from ..protocol.pool import Pool
from .channel import Channel
from .connection.connection import Connection
from .flow_control.traffic import Traffic, of_connection
from .flow_control.usage import PoolUsage
from .listener import Listener
from .numbers import NumberedTable
from .posting.posted import PostedChannel, PostedListener

Postable: TypeAlias = Channel | PostedChannel | PostedListener
Member: TypeAlias = Postable | Listener


class Numbers(NumberedTable["Members"]):
    """The channel numbers of all groups of an engine, and the members that each belongs to.

    Attributes:
        ended_traffic: what the channels that exist no more have received and sent.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ended_traffic = Traffic()


class Members(dict[int, Member]):
    """The members of a group, including closed channels that still have messages to receive.

    Args:
        numbers: the channel numbers of all groups of the engine, and the members of the group that
            each number belongs to.

    Attributes:
        report_exhausted: called with the number of a channel that waits for permits. It notifies
            the application if the channel belongs to the group's mailbox, and returns whether it
            does.
    """

    def __init__(self, numbers: Numbers) -> None:
        super().__init__()
        self.numbers = numbers
        self.report_exhausted: Callable[[int], bool] = lambda _: False
        self._ended: WeakSet[Channel] = WeakSet()  # those with messages still to be received

    def new_number(self) -> int:
        """Assign a number for a new member.

        Raises:
            AllocationFailed: all numbers are in use.
        """
        return self.numbers.add(self)

    def forget(self, number: int) -> None:
        """Remove a member, and free its number."""
        # The number is freed first: to another thread, a number without a member would look like a
        # channel that is being opened.
        self.numbers.remove(number)
        member = self.pop(number, None)
        if member is not None and is_channel(member):
            self.numbers.ended_traffic += of_connection(member._connection)
        if isinstance(member, Channel) and member._mailbox.items:
            self._ended.add(member)

    def accepted_by(self, introduced: Callable[[Channel], None]) -> list[Channel]:
        """The channels whose listener follows them with this function, open or not yet."""
        channels = [member for member in self.values() if isinstance(member, Channel)]
        return [channel for channel in channels if channel._dispatcher.reports_to(introduced)]

    @property
    def connections(self) -> list[Connection]:
        """The connections of all channels."""
        return [member._connection for member in self.values() if is_channel(member)]

    @property
    def traffic(self) -> Traffic:
        """What the present channels have received and sent."""
        return sum(map(of_connection, self.connections), Traffic())

    # --- what they hold -------------------------------------------------------------------

    def usage(self, pool: Pool) -> PoolUsage:
        """Return what all channels together hold of a pool."""
        channels = [member for member in (*self.values(), *self._ended) if is_channel(member)]
        return sum((channel._usage(pool) for channel in channels), PoolUsage())

    def awaited(self) -> int:
        """Return the number of in-flight requests of all channels together."""
        return sum(each._dispatcher.awaited for each in self.values() if isinstance(each, Channel))

    def unreceived(self) -> list[Message]:
        """Return the messages that the application has not received, including incomplete ones."""
        messages: list[Message] = []
        for member in (*self.values(), *self._ended):
            if isinstance(member, Channel):
                messages += member._mailbox.items
            if is_channel(member):
                arriving = member._connection.decoder.arriving
                messages += [arriving.message] if arriving is not None else []
        return messages


def is_channel(member: Member) -> TypeGuard[Channel | PostedChannel]:
    """Return whether a member is a channel, and not a listener."""
    return isinstance(member, Channel | PostedChannel)
