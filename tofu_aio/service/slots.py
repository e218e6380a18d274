"""Bounds for what runs at once."""

from __future__ import annotations

import asyncio
from collections import deque


class Slots:
    """A number of slots. Whoever finds none waits, in order of arrival.

    It is an ``asyncio.Semaphore`` that can be asked without awaiting.

    Args:
        free: how many.

    Attributes:
        free: how many are free.
    """

    __slots__ = ("_waiting", "free")

    def __init__(self, free: int) -> None:
        self.free = free
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        """Take a slot, once there is one. A cancelled call takes none."""
        if self.free > 0 and not self._waiting:
            self.free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.remove(turn)
                if self.free:  # came back meanwhile, and somebody may wait behind this one
                    self.free -= 1
                    self.release()
            else:
                self.release()  # it was given a slot and cancelled in the same turn of the loop
            raise

    def release(self) -> None:
        """Give a slot back, or pass it on to whoever has waited longest."""
        if self._waiting:  # mostly nobody does
            for turn in self._waiting:
                if not turn.done():
                    self._waiting.remove(turn)
                    turn.set_result(None)
                    return
        self.free += 1
