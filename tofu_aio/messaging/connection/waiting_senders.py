"""The tasks that wait until a send queue has room."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from itertools import islice
from typing import Final, Protocol

_WOKEN_AT_ONCE: Final = 32
"""Senders that are woken in one turn of the loop. Their short messages leave with one system call,
and only a few were woken in vain if the first of them take all the room."""


class Queue(Protocol):
    """The queue that senders wait for."""

    paused: bool

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""

    def check_open(self) -> None:
        """Raise if nothing more can be sent."""

    def admit_soon(self) -> None:
        """Call ``WaitingSenders.admit`` in the next turn of the loop."""


class WaitingSenders:
    """Waiting senders in order of arrival.

    Cancelling a sender does not change the order of the others. A sender that was woken and finds
    no room, because senders before it took it, keeps its position.
    """

    __slots__ = ("_turns",)

    def __init__(self) -> None:
        self._turns: OrderedDict[object, asyncio.Future[bool]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._turns)

    async def wait(self, queue: Queue) -> None:
        """Wait for a turn, or until nothing more can be sent.

        Raises:
            ChannelClosed, PeerDisconnected: the end came while this sender was being woken.
        """
        position = object()
        try:
            while True:
                turn = self._turns[position] = queue.loop.create_future()
                if not await turn:
                    return
                if not queue.paused and next(iter(self._turns)) is position:
                    return
                queue.check_open()  # it is not woken again for an end that came meanwhile
        finally:
            del self._turns[position]
            following = next(iter(self._turns.values()), None)
            if following is not None and not following.done():
                queue.admit_soon()  # after the caller has queued its message, or was cancelled

    def admit(self) -> None:
        """Wake the first few senders. Each goes on if there is still room when it runs."""
        for turn in islice(self._turns.values(), _WOKEN_AT_ONCE):
            if not turn.done():
                turn.set_result(True)

    def turn_away(self) -> None:
        """Wake all senders: nothing more can be sent, and trying it raises the reason."""
        for turn in self._turns.values():
            if not turn.done():
                turn.set_result(False)
