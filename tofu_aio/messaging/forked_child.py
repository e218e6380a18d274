"""A forked child has no part in the conversations of its parent."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from ..protocol.errors import ChannelClosed, TofuError
from ..transport.stand_ins import replace_connected
from .channel import Channel
from .posting.posted import PostedChannel
from .threads.owner_loop import NOT_YOURS

if TYPE_CHECKING:
    from .engine import Engine
    from .group import ChannelGroup


def leave_to_parent(engine: Engine) -> None:
    """In a forked child: refuse what is asked of an engine, and let go of its connections."""
    engine._gate.home.in_parent = True
    end = ChannelClosed(NOT_YOURS)
    transports = [each for group in list(engine._groups) for each in _transports(group, end)]
    found = [transport.get_extra_info("socket") for transport in transports]
    replace_connected([cast("socket.socket", sock) for sock in found if sock is not None])


def _transports(group: ChannelGroup, end: TofuError) -> Iterator[asyncio.BaseTransport]:
    """End a group and all its members, without a word to anybody, and find their transports."""
    group._mailbox.end = group._mailbox.end or end
    for member in list(group._members.values()):
        if isinstance(member, Channel):
            member._mailbox.end = member._mailbox.end or end
        if isinstance(member, Channel | PostedChannel):
            connection = member._connection
            connection.end = connection.end or end
            if connection.queue.transport is not None:
                yield connection.queue.transport
        elif member._acceptor is not None:
            member._acceptor.leave_to_parent()  # those it has accepted are still connecting
