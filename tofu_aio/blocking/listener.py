"""The blocking listener."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Self

from ..messaging import listener as messaging
from ..messaging.limits import DRAIN_TIMEOUT
from ..protocol.address import Address
from ..protocol.errors import ChannelClosed, ShutdownStarted
from ..protocol.lifecycle import State
from .channel import Channel
from .closing import Closing
from .loop_thread import LoopThread
from .serving import MAX_THREADS, HandlerThreads


class Listener(Closing):
    """``tofu_aio.Listener`` for programs without asyncio. Created by ``group.listen``.

    It iterates over accepted channels, and is a context manager.
    """

    def __init__(self, thread: LoopThread, listener: messaging.Listener) -> None:
        self._thread = thread
        self._listener = listener
        # Channels that calls received and could not return, because Ctrl-C interrupted them.
        self._accepted: deque[Channel] = deque()
        self._undecided: deque[Channel] = deque()

    @property
    def channel_number(self) -> int:
        """The listener's local number, 1 to 65534."""
        return self._listener.channel_number

    @property
    def address(self) -> Address:
        """The address it listens on. If the port was given as 0, this has the one chosen."""
        return self._listener.address

    def accept(self, timeout: float | None = None) -> Channel:
        """Accept the next channel. A call that times out or is interrupted loses no channel.

        Args:
            timeout: seconds; 0 only looks whether a channel waits to be accepted.

        Raises:
            TimeoutError: no channel arrived in time.
            ChannelClosed, ShutdownStarted: the listener, or the engine, was closed.
            BusyResourceError: another thread is accepting.
        """
        return self._thread.receive_item(self._accept, timeout, self._accepted)

    async def _accept(self) -> Channel:
        while self._undecided:
            channel = self._undecided.popleft()
            if channel.state is State.HELLO_HEARD:
                channel._channel.accept()
                return channel
        return Channel(self._thread, await self._listener.accept())

    def receive_hello(self, timeout: float | None = None) -> Channel:
        """Return the next channel without accepting it.

        Look at its ``hello`` and ``peer``. Then ``channel.accept()`` opens it, or
        ``channel.reject(reason)`` tells the peer why it was rejected. See
        ``tofu_aio.Listener.receive_hello``.

        Raises:
            TimeoutError, TofuError, BusyResourceError: see ``accept``.
        """
        return self._thread.receive_item(self._receive_hello, timeout, self._undecided)

    async def _receive_hello(self) -> Channel:
        return Channel(self._thread, await self._listener.receive_hello())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Channel:
        """Accept the next channel; the iteration ends when the listener is closed."""
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

        Then wait until the handlers have returned. They receive the messages that had arrived when
        the listener was closed, and nothing after them, as after the peer's Bye; a handler that
        waits for something else is not ended. A channel is closed when its handler returns.
        If the handler raises, its channel is aborted and the error is logged; other channels and
        the listener are not affected. An error that a handler raises because its peer was lost is
        not logged as an error. Ctrl-C ends ``serve`` without waiting for handlers. ``sys.exit`` in
        a handler ends only that handler, as in any thread.

        Args:
            handler: a function that takes the channel.
            decide: a function that looks at ``channel.hello`` and ``channel.peer`` before the
                channel is accepted, in the handler's thread. Returning accepts the channel.
                Raising ``Rejected`` rejects it, and the peer receives the exception's text and
                status. If it raises any other exception, the peer learns only that the decision
                failed, and the exception is logged.
            max_threads: how many handlers may run at the same time. Further channels wait to be
                accepted, and a warning is logged.

        Raises:
            TypeError: ``handler`` or ``decide`` is not a function, or is an async one.
            TypeError, ValueError: ``max_threads`` is not an integer, 1 or more.
        """
        HandlerThreads(
            self._thread,
            self._listener,
            self._undecided,
            handler=handler,
            decide=decide,
            max_threads=max_threads,
        ).serve()

    def close(self) -> None:
        """Stop listening. Channels that were accepted stay open; those that wait are closed.

        A handler of ``serve`` gets the messages that have arrived, and no more; see there.
        """

        async def close() -> None:
            self._abort_unreturned()
            await self._listener.aclose()

        self._thread.run_closing(close)

    def drain(self, timeout: float = DRAIN_TIMEOUT) -> None:
        """End gracefully: accept nothing more, and give all channels time to be closed.

        If Ctrl-C interrupts it, the listener is closed, and its channels are left as they are. See
        ``tofu_aio.Listener.drain``.

        Args:
            timeout: seconds, 0 or more, that channels may stay open.

        Raises:
            TypeError, ValueError: ``timeout`` is not a number of seconds, 0 or more.
        """

        async def drain() -> None:
            self._abort_unreturned()
            await self._listener.drain(timeout)

        self._thread.run_closing(drain)

    def _abort_unreturned(self) -> None:
        """Abort the channels that interrupted calls have received, and so nobody has."""
        for channels in (self._accepted, self._undecided):
            while channels:
                channels.popleft()._channel.abort()

    def __repr__(self) -> str:
        return repr(self._listener)
