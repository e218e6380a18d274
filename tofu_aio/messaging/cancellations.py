"""Requests that the peer has cancelled."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager

from anyio import CancelScope

from ..protocol.message import Message
from .channel_life import ChannelLife


class Cancellations(ChannelLife):
    """The part of a channel that tells which answers nobody waits for any more."""

    def cancelled(self, request: Message) -> bool:
        """Whether the peer no longer waits for the answer to a request that was received here.

        Its call was cancelled or timed out, its exchange was left, or the peer is gone. Only peers
        that run this library report a cancellation. Each channel remembers the last 1,024
        requests that were cancelled and not answered.
        """
        return not self._dispatcher.is_awaited(request.message_id) or self._dispatcher.unreachable

    def cancel_scope(self, request: Message) -> AbstractContextManager[CancelScope]:
        """A block that is cancelled when the peer cancels a request, or is lost.

        ``with channel.cancel_scope(request): await channel.reply(request, await work())``

        It is an anyio ``CancelScope``: an ``await`` in the block raises ``CancelledError``, which
        ends the block. Then ``scope.cancelled_caught`` is true.

        Args:
            request: a request that was received here.
        """
        cancelled = self.cancelled(request)
        return self._dispatcher.incoming_requests().cancel_scope(
            request.message_id, cancelled=cancelled
        )

    def cancel_with(self, request: Message, task: asyncio.Task[object]) -> None:
        """Cancel a task when the peer cancels a request or is lost: a ``cancel_scope`` for tasks.

        Args:
            request: a request that was received here.
            task: the one that works on it.
        """
        cancelled = self.cancelled(request)
        self._dispatcher.incoming_requests().cancel_task(
            request.message_id, task, cancelled=cancelled
        )
