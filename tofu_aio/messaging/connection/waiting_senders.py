"""The tasks that wait until a send queue has room."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from itertools import islice
from typing import Final, Protocol

_WOKEN_AT_ONCE: Final = 32
"""Senders that are woken in one turn of the loop: their short messages leave with one system call,
and only a few have been woken for nothing if the first of them take all the room."""


class Queue(Protocol):
    """What a sender looks at before it goes on."""

    paused: bool

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""

    def check_open(self) -> None:
        """Raise if nothing more can be sent."""

    def admit_soon(self) -> None:
        """Call ``WaitingSenders.admit`` in the next turn of the loop."""


class WaitingSenders:
    """Senders in order of arrival.

    A sender that is cancelled leaves without disturbing the order. One that was woken and finds no
    room, because those before it took it, keeps its place.
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
        place = object()
        try:
            while True:
                turn = self._turns[place] = queue.loop.create_future()
                if not await turn:
                    return
                if not queue.paused and next(iter(self._turns)) is place:
                    return
                queue.check_open()  # nobody wakes it a second time for an end that came meanwhile
        finally:
            del self._turns[place]
            following = next(iter(self._turns.values()), None)
            if following is not None and not following.done():
                queue.admit_soon()  # after the caller has queued its message, or was cancelled

    def admit(self) -> None:
        """Wake the first few. Each goes on if there is still room when it runs."""
        for turn in islice(self._turns.values(), _WOKEN_AT_ONCE):
            if not turn.done():
                turn.set_result(True)

    def turn_away(self) -> None:
        """Wake all: nothing more can be sent, and the attempt to send raises the reason."""
        for turn in self._turns.values():
            if not turn.done():
                turn.set_result(False)
