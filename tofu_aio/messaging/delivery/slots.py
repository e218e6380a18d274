"""A bounded number of exchanges of a channel: one more waits until one is over."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict

logger = logging.getLogger("tofu_aio")


class Slots:
    """Slots, given to waiting tasks in order of arrival. A cancelled task loses none.

    Args:
        size: how many slots there are.
        number: of the channel, for the log, which warns once when all slots are taken.
    """

    __slots__ = ("_free", "_number", "_waiting", "_warned")

    def __init__(self, size: int, number: int) -> None:
        self._free = size
        self._number = number
        self._warned = False
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    def acquire(self) -> bool:
        """Take a slot if one is free, which means that no task waits; return whether it was."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def wait(self) -> None:
        """Wait for a slot, in order of arrival, and take it. Only while none is free."""
        if not self._warned:
            self._warned = True
            logger.warning(
                "channel %d has as many exchanges in progress as it may: another one waits until "
                "one of them is over. Leave exchanges that are no longer used, as 'async with "
                "channel.stream(...)' does at its end",
                self._number,
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        try:
            await turn
        except asyncio.CancelledError:
            self._waiting.pop(turn, None)
            if not turn.cancelled():  # it got a slot just before the cancellation
                self.release()
            raise

    def release(self) -> None:
        """Give a slot to the next waiting task, or free it."""
        while self._waiting:
            turn, _ = self._waiting.popitem(last=False)
            if not turn.done():  # done if it was cancelled and its task has not run since
                turn.set_result(None)
                return
        self._free += 1
