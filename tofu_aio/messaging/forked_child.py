"""Ending an engine in a forked child, which must not use the connections of its parent."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Iterator
from typing import Protocol, cast

from ..protocol.errors import ChannelClosed, TofuError
from ..transport.stand_ins import replace_connected
from .channel import Channel
from .members import Members
from .posting.posted import PostedChannel
from .posting.posting import Posting
from .threads.owner_loop import NOT_YOURS


class Group(Protocol):
    """The parts of a group that are needed here."""

    _members: Members
    _posting: Posting


def leave_to_parent(groups: Iterable[Group]) -> None:
    """End the groups of an engine in a forked child, and replace the sockets of their connections.

    See ``transport.stand_ins``.
    """
    end = ChannelClosed(NOT_YOURS)
    transports = [each for group in groups for each in _transports(group, end)]
    found = [transport.get_extra_info("socket") for transport in transports]
    replace_connected([cast("socket.socket", sock) for sock in found if sock is not None])


def _transports(group: Group, end: TofuError) -> Iterator[asyncio.BaseTransport]:
    """End a group and its members without sending anything, and yield their transports."""
    mailbox = group._posting.mailbox
    mailbox.end = mailbox.end or end
    for member in list(group._members.values()):
        if isinstance(member, Channel):
            member._mailbox.end = member._mailbox.end or end
        if isinstance(member, Channel | PostedChannel):
            connection = member._connection
            connection.end = connection.end or end
            if connection.queue.transport is not None:
                yield connection.queue.transport
        elif member._acceptor is not None:
            # The sockets of its pending connections are in ``stand_ins.connecting``.
            member._acceptor.leave_to_parent()
