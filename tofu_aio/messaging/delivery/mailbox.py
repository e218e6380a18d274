"""A queue with one receiver, who loses nothing when cancelled."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Generic, Never, TypeVar, cast

from anyio import BusyResourceError

from ...protocol.errors import TofuError, again
from .wake_up import WakeUps, complete

T = TypeVar("T")


_NOTHING: Final = cast("deque[Never]", deque(maxlen=0))
"""Where nothing waits: a deque of its own would be a third of what an idle channel takes."""


class Mailbox(Generic[T]):
    """What arrived, in order, then an end.

    A signal handler or a finalizer may ``deliver`` in the middle of anything here. Such code runs
    only within calls, so there is no call between a look and what is done upon it.

    Args:
        make: what items wait in.

    Attributes:
        items: what waits to be received, taken from the left; while it is empty, see ``arrival``.
        end: what receiving raises once it is gone; None while more may come.
    """

    __slots__ = ("_make", "_receiver", "end", "items")

    def __init__(self, make: Callable[[Iterable[T]], deque[T]] = deque) -> None:
        self._make = make
        self.items: deque[T] = cast("deque[T]", _NOTHING)
        self.end: TofuError | None = None
        self._receiver: asyncio.Future[None] | None = None

    def deliver(self, items: Iterable[T], wake_ups: WakeUps | None = None) -> None:
        """Append, and wake the receiver: together with other tasks, or else in the next turn.

        After the end it keeps nothing: nobody would take it.
        """
        if self.end is not None:
            return
        if self.items:
            self.items.extend(items)
        else:
            fresh = self._make(items)
            if self.items:  # a finalizer has put something while the deque was made
                self.items.extend(items)
            else:
                self.items = fresh
        receiver = self._receiver
        if receiver is not None:
            self._receiver = None  # whoever takes it wakes it
            if wake_ups is not None and not receiver.done():
                complete(receiver, None, wake_ups)
            else:
                _wake(receiver)

    def finish(self, error: TofuError) -> None:
        """Nothing comes after what is here."""
        self.end = error
        self._wake_receiver()

    def close(self, error: TofuError) -> list[T]:
        """Nothing more is received, not even what is here: that is returned instead."""
        self.finish(error)  # first: from here on nothing is put
        left = list(self.items)
        self.items.clear()
        return left

    @property
    def waits(self) -> bool:
        """Whether somebody waits for the next item."""
        receiver = self._receiver
        return not self.items and receiver is not None and not receiver.done()

    def remove(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Take out what nobody is to receive."""
        removed: list[T] = []
        for _ in range(len(self.items)):  # once around; what is put meanwhile goes behind
            item = self.items[0]
            if unwanted(item):
                del self.items[0]
                removed.append(item)
            else:
                self.items.rotate(-1)
        return removed

    def arrival(self) -> asyncio.Future[None]:
        """What to await while nothing is here, and then to look again.

        It brings nothing: an item is taken without waiting, so that nothing can be cancelled
        between taking and having.

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
        if not self.items:
            self.items = _NOTHING  # type: ignore[assignment]  # costs nothing, as a cast would
        else:
            self._wake_receiver()  # something was put since the receiver has looked
        return receiver

    async def receive(self) -> T:
        """Wait for the next and take it.

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
    """Have a task look again in the next turn, unless it was cancelled."""
    if not receiver.done():
        receiver.set_result(None)
