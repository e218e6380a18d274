"""Room for so many exchanges of a channel: one more waits until one is over."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict

logger = logging.getLogger("tofu_aio")


class Slots:
    """Dealt out in order of arrival; none is lost to whoever is cancelled.

    Args:
        size: how many there are.
        number: of the channel, for the log, which says once that they do not suffice.
    """

    __slots__ = ("_free", "_number", "_waiting", "_warned")

    def __init__(self, size: int, number: int) -> None:
        self._free = size
        self._number = number
        self._warned = False
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    def acquire(self) -> bool:
        """Take one, if one is free: then nobody waits."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def wait(self) -> None:
        """Wait for one while none is free, in turn, and take it."""
        if not self._warned:
            self._warned = True
            logger.warning(
                "channel %d has as many exchanges under way as it may: another one waits until one "
                "of them is over. Leave those that are done with, as 'async with "
                "channel.stream(...)' does at its end",
                self._number,
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        try:
            await turn
        except asyncio.CancelledError:
            self._waiting.pop(turn, None)
            if not turn.cancelled():  # its turn came in this very moment
                self.release()
            raise

    def release(self) -> None:
        """It is the next one's."""
        while self._waiting:
            turn, _ = self._waiting.popitem(last=False)
            if not turn.done():  # else it was cancelled, and its task has not run since
                turn.set_result(None)
                return
        self._free += 1
