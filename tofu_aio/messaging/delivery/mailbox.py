"""A queue with one receiver, which loses no item when it is cancelled."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Generic, Never, TypeVar, cast

from anyio import BusyResourceError

from ...core import MailboxFields, fast
from ...protocol.errors import TofuError, again
from .wake_up import WakeUps, complete

T = TypeVar("T")


NO_ITEMS: Final = cast("deque[Never]", deque(maxlen=0))
"""The items of all empty mailboxes: a deque each would be a third of an idle channel's memory."""


class Mailbox(MailboxFields, Generic[T]):
    """Items in order of arrival, then an end.

    A signal handler or a finalizer may call ``deliver`` at any moment. Such code runs only within
    calls, so no call here stands between a check and the action that depends on it.

    Args:
        make: makes the deque in which items wait.

    Attributes:
        items: the items that wait to be received, the oldest on the left. While there is none,
            wait for ``arrival``.
        end: the error that receiving raises after the last item; None while more may come.
    """

    __slots__ = ()

    def __init__(self, make: Callable[[Iterable[T]], deque[T]] = deque) -> None:
        self._make = make
        self.items: deque[T] = cast("deque[T]", NO_ITEMS)
        self.end: TofuError | None = None
        self._receiver: asyncio.Future[None] | None = None

    @fast
    def deliver(self, items: Iterable[T], wake_ups: WakeUps | None = None) -> None:
        """Append items, and wake the receiver: as one of ``wake_ups``, or else in the next turn.

        After the end items are dropped, because none would be received.
        """
        if self.end is not None:
            return
        if self.items:
            self.items.extend(items)
        else:
            fresh = self._make(items)
            if self.items:  # a finalizer has delivered something while the deque was made
                self.items.extend(items)
            else:
                self.items = fresh
        receiver = self._receiver
        if receiver is not None:
            self._receiver = None  # so that nothing else wakes it again
            if wake_ups is not None and not receiver.done():
                complete(receiver, None, wake_ups)
            else:
                _wake(receiver)

    def finish(self, error: TofuError) -> None:
        """Let nothing come after the present items."""
        self.end = error
        self._wake_receiver()

    def close(self, error: TofuError) -> list[T]:
        """Let nothing more be received. The present items are returned instead."""
        self.finish(error)  # first, so that nothing is delivered any more
        left = list(self.items)
        self.items.clear()
        return left

    @property
    def waits(self) -> bool:
        """Whether a task waits for the next item."""
        receiver = self._receiver
        return not self.items and receiver is not None and not receiver.done()

    def remove(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Take out and return the items that are not to be received."""
        removed: list[T] = []
        for _ in range(len(self.items)):  # once around; items delivered meanwhile go behind
            item = self.items[0]
            if unwanted(item):
                del self.items[0]
                removed.append(item)
            else:
                self.items.rotate(-1)
        return removed

    @fast
    def arrival(self) -> asyncio.Future[None]:
        """A future to await while there is no item. Then check again.

        It has no result: an item is taken without an ``await``, so a cancellation can lose none.

        Raises:
            BusyResourceError: another task is waiting here.
            TofuError: the end.
        """
        if self.end is not None:
            raise again(self.end)
        receiver = self._receiver
        if receiver is not None and not receiver.done():
            raise BusyResourceError("receiving from")
        receiver = asyncio.get_running_loop().create_future()
        self._receiver = receiver
        if self.items or self.end is not None:  # one of them came since the checks
            self._wake_receiver()
        else:
            self.items = NO_ITEMS  # type: ignore[assignment]  # costs nothing, as a cast would
        return receiver

    async def receive(self) -> T:
        """Wait for the next item and take it.

        Raises:
            As ``arrival``.
        """
        while not self.items:
            await self.arrival()
        return self.items.popleft()

    def _wake_receiver(self) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            _wake(receiver)


def _wake(receiver: asyncio.Future[None]) -> None:
    """Wake a task in the next turn, unless it was cancelled."""
    if not receiver.done():
        receiver.set_result(None)
