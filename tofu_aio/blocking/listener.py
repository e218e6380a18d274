"""A listener, waited for."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Self

from ..messaging import listener as messaging
from ..messaging.channel import Channel as AsyncChannel
from ..protocol.address import Address
from ..protocol.errors import ChannelClosed, ShutdownStarted
from .channel import Channel
from .loop_thread import LoopThread


class Listener:
    """``tofu_aio.Listener`` for programs without asyncio. Made by ``group.listen``.

    An iterator of channels, and a context manager.
    """

    def __init__(self, thread: LoopThread, listener: messaging.Listener) -> None:
        self._thread = thread
        self._listener = listener
        self._kept: deque[AsyncChannel] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def channel_number(self) -> int:
        """Its local number, 1 to 65534."""
        return self._listener.channel_number

    @property
    def address(self) -> Address:
        """Where it listens; the port is the one the system chose, if that was left to it."""
        return self._listener.address

    def accept(self, timeout: float | None = None) -> Channel:
        """The next channel, open. Timed out or interrupted, it loses none.

        Raises:
            TimeoutError: none came within so many seconds. 0 asks for what is here already.
            ChannelClosed, ShutdownStarted: the listener, or the engine, was closed.
            BusyResourceError: another thread is waiting here.
        """
        return Channel(self._thread, self._thread.take(self._listener.accept, timeout, self._kept))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Channel:
        """The next channel; the iteration ends when the listener is closed."""
        try:
            return self.accept()
        except (ChannelClosed, ShutdownStarted):
            raise StopIteration from None

    def close(self) -> None:
        """Stop listening. Accepted channels live on; those not accepted are closed."""
        self._thread.leave(self._listener.aclose)
        while self._kept:
            self._thread.tell(self._kept.popleft().abort)

    def __repr__(self) -> str:
        return repr(self._listener)
