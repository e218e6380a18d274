"""Channels over which no message goes: they are closed, whatever their peers do to stay."""

from __future__ import annotations

import asyncio
from typing import Final

from ...protocol.errors import ChannelClosed
from ..connection.connection import Connection

_LOOKS: Final = 4
"""How often in its time a channel is looked at: it is closed within a quarter more than that."""


class IdleWatch:
    """Closes, with a Bye, the channels over which no message has come or gone for too long.

    A heartbeat is no message, nor is a part of one that is not whole: else a peer could stay for
    ever. What the peer takes of what was queued for it counts as going. While this side does not
    read the channel, for want of permits, the silence is its own; unless it waits itself for the
    peer to take something, for a peer that sends and never reads could stay for ever too.
    There is one timer for all channels, and none without channels.

    Args:
        timeout: seconds.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        # Of each channel how many messages had come and gone, and the looks since then; and what
        # was queued at the last one.
        self._seen: dict[Connection, tuple[int, int, int]] = {}

    def add(self, connection: Connection) -> None:
        """Watch one, as if a message had come now."""
        self._seen[connection] = (-1, 0, 0)  # so the first look finds something new
        if self._timer is None:
            self._look_later()

    def discard(self, connection: Connection) -> None:
        """Watch it no more."""
        self._seen.pop(connection, None)
        if not self._seen and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self) -> None:
        self._timer = self._loop.call_later(self._timeout / _LOOKS, self._look)

    def _look(self) -> None:
        self._look_later()
        for connection, (before, looks, queued_before) in list(self._seen.items()):
            messages = connection.received + connection.queue.sent
            queued = connection.queue.nbytes
            ours = connection.suspended and not connection.queue.paused
            if messages != before or queued < queued_before or ours:
                self._seen[connection] = (messages, 0, queued)
            elif looks + 1 < _LOOKS:
                self._seen[connection] = (messages, looks + 1, queued)
            else:
                self.discard(connection)
                error = f"no message came or went for {self._timeout:g} s, the idle_timeout"
                connection.closing.dismiss(ChannelClosed(error))
