"""A listener, waited for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Self

from ..messaging import listener as messaging
from ..protocol.address import Address
from ..protocol.errors import ChannelClosed, ShutdownStarted
from ..protocol.lifecycle import State
from .channel import Channel
from .closing import Closing
from .loop_thread import LoopThread
from .serving import MAX_THREADS, serve


class Listener(Closing):
    """``tofu_aio.Listener`` for programs without asyncio. Made by ``group.listen``.

    An iterator of channels, and a context manager.
    """

    def __init__(self, thread: LoopThread, listener: messaging.Listener) -> None:
        self._thread = thread
        self._listener = listener
        self._kept: deque[Channel] = deque()  # accepted
        self._heard: deque[Channel] = deque()  # undecided

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
        return self._thread.take(self._accept, timeout, self._kept)

    async def _accept(self) -> Channel:
        while self._heard:
            channel = self._heard.popleft()
            if channel.state is State.HELLO_HEARD:
                channel._channel.accept()
                return channel
        return Channel(self._thread, await self._listener.accept())

    def receive_hello(self, timeout: float | None = None) -> Channel:
        """The next channel, undecided: look at its ``hello`` and ``peer``, then decide.

        ``channel.accept()`` opens it, ``channel.reject(reason)`` tells the peer why not. As
        ``tofu_aio.Listener.receive_hello``.

        Raises:
            TimeoutError, TofuError, BusyResourceError: as ``accept``.
        """
        return self._thread.take(self._receive_hello, timeout, self._heard)

    async def _receive_hello(self) -> Channel:
        return Channel(self._thread, await self._listener.receive_hello())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Channel:
        """The next channel; the iteration ends when the listener is closed."""
        try:
            return self.accept()
        except (ChannelClosed, ShutdownStarted):
            raise StopIteration from None

    def serve(
        self,
        handler: Callable[[Channel], object],
        *,
        decide: Callable[[Channel], object] | None = None,
        max_threads: int = MAX_THREADS,
    ) -> None:
        """Run ``handler(channel)`` in a thread for each channel, until the listener is closed.

        Then it waits for the handlers. A channel is closed when its handler returns. One whose
        handler raises is aborted and the error is logged; the others, and the listener, go on. A
        peer that was lost is no error. Ctrl-C ends it without waiting; ``sys.exit`` in a handler
        ends that handler only, as in any thread.

        Args:
            handler: a function that takes the channel.
            decide: a function that looks at ``channel.hello`` and ``channel.peer`` before the
                channel is accepted, in the same thread. It accepts by returning, and refuses by
                raising ``Rejected``, whose text and status the peer is told. Of any other exception
                the peer learns only that the decision failed, and the log everything.
            max_threads: how many there may be at once; beyond it channels wait, not accepted, and
                the log says so.

        Raises:
            TypeError: ``handler`` or ``decide`` is no plain function.
            TypeError, ValueError: ``max_threads`` is no whole number, 1 or more.
        """
        serve(self, handler, decide, max_threads)

    def close(self) -> None:
        """Stop listening. Accepted channels live on; those not accepted are closed."""

        async def close() -> None:
            for kept in (self._kept, self._heard):
                while kept:
                    kept.popleft()._channel.abort()
            await self._listener.aclose()

        self._thread.leave(close)

    def __repr__(self) -> str:
        return repr(self._listener)
