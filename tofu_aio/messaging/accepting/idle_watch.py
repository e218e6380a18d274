"""Closing channels without messages, even if their peers keep the connections alive."""

from __future__ import annotations

import asyncio
from typing import Final

from ...protocol.errors import ChannelClosed
from ..connection.connection import Connection

_LOOKS: Final = 4
"""How often a channel is checked during the timeout. It is closed at most a quarter later."""


class IdleWatch:
    """Closes channels, with a Bye, when no message was sent or received for too long.

    Heartbeats and incomplete messages do not count, because otherwise a peer could keep its channel
    for ever. Data that the peer receives from the send queue does count. While this side has
    suspended reading for lack of permits, the silence is not the peer's fault and the time does not
    run; unless the send queue is full at the same time, because a peer that sends and never reads
    could keep its channel for ever, too.

    There is one timer for all channels, and none without channels.

    Args:
        timeout: in seconds.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        # For each channel: the number of messages sent and received, the checks since it changed,
        # and the bytes in the send queue at the last check.
        self._seen: dict[Connection, tuple[int, int, int]] = {}

    def add(self, connection: Connection) -> None:
        """Watch a channel, as if it had received a message just now."""
        self._seen[connection] = (-1, 0, 0)  # -1 makes the first check find a change
        if self._timer is None:
            self._look_later()

    def discard(self, connection: Connection) -> None:
        """Stop watching a channel."""
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
            excused = connection.suspended and not connection.queue.paused
            if messages != before or queued < queued_before or excused:
                self._seen[connection] = (messages, 0, queued)
            elif looks + 1 < _LOOKS:
                self._seen[connection] = (messages, looks + 1, queued)
            else:
                self.discard(connection)
                error = f"no message was sent or received for {self._timeout:g} s (idle_timeout)"
                connection.closing.dismiss(ChannelClosed(error))
