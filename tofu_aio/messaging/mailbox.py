"""A queue with one receiver, who loses nothing when cancelled."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Generic, Never, TypeVar, cast

from anyio import BusyResourceError

from ..protocol.errors import TofuError, again
from .waking import Answered, answer

T = TypeVar("T")


_NOTHING: Final = cast("deque[Never]", deque(maxlen=0))
"""Where nothing waits: a deque of its own would be a third of what an idle channel takes."""


class Mailbox(Generic[T]):
    """What arrived, in order, then an end.

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

    def put(self, items: Iterable[T], answered: Answered | None = None) -> None:
        """Append, and wake the receiver: with those who are answered, or else in the next turn.

        After the end it keeps nothing: nobody would take it.
        """
        if self.end is not None:
            return
        if self.items:
            self.items.extend(items)
        else:
            self.items = self._make(items)
        self._wake(answered)

    def finish(self, error: TofuError) -> None:
        """Nothing comes after what is here."""
        self.end = error
        self._wake(None)

    def close(self, error: TofuError) -> list[T]:
        """Nothing more is received, not even what is here: that is returned instead."""
        left = list(self.items)
        self.items.clear()
        self.finish(error)
        return left

    @property
    def waits(self) -> bool:
        """Whether somebody waits for the next item."""
        return not self.items and self._receiver is not None and not self._receiver.done()

    def remove(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Take out what nobody is to receive."""
        removed = [item for item in self.items if unwanted(item)]
        if removed:
            rest = [item for item in self.items if not unwanted(item)]
            self.items.clear()
            self.items.extend(rest)
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
        if self._receiver is not None and not self._receiver.done():
            raise BusyResourceError("receiving from")
        self.items = _NOTHING  # type: ignore[assignment]  # which costs nothing, as a cast would
        self._receiver = asyncio.get_running_loop().create_future()
        return self._receiver

    async def take(self) -> T:
        """Wait for the next and take it.

        Raises:
            As ``arrival``.
        """
        while not self.items:
            await self.arrival()
        return self.items.popleft()

    def _wake(self, answered: Answered | None) -> None:
        receiver = self._receiver
        if receiver is None or receiver.done():
            return
        if answered is None:
            receiver.set_result(None)
        else:
            answer(receiver, None, answered)
