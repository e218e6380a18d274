"""A queue of received messages with one receiver, who loses nothing when cancelled."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from anyio import BusyResourceError

from ..protocol.errors import TofuError, again
from ..protocol.message import Message


class Mailbox:
    """Messages in order, then an end.

    Attributes:
        items: the messages that wait. ``receive`` may be spared while it is not empty.
        end: what ``receive`` raises once they are gone; None while more may come.
    """

    __slots__ = ("_receiver", "end", "items")

    def __init__(self) -> None:
        self.items: deque[Message] = deque()
        self.end: TofuError | None = None
        self._receiver: asyncio.Future[None] | None = None

    def put(self, messages: Iterable[Message]) -> None:
        """Append messages and wake the receiver."""
        self.items.extend(messages)
        self._wake()

    def finish(self, error: TofuError) -> None:
        """Nothing comes after what is here. The first end stands."""
        if self.end is None:
            self.end = error
            self._wake()

    def discard(self) -> None:
        """Throw away what nobody will receive any more, and give its permits back."""
        while self.items:
            self.items.popleft().release()

    async def wait(self) -> None:
        """Return when a message is here.

        It does not take the message: that is done without waiting, so nothing can be cancelled
        between taking and having.

        Raises:
            BusyResourceError: another task is waiting here.
            TofuError: the end, once all messages are gone.
        """
        while not self.items:
            if self.end is not None:
                raise again(self.end)
            if self._receiver is not None:
                raise BusyResourceError("receiving from")
            self._receiver = asyncio.get_running_loop().create_future()
            try:
                await self._receiver
            finally:
                self._receiver = None

    def _wake(self) -> None:
        if self._receiver is not None and not self._receiver.done():
            self._receiver.set_result(None)
