"""A channel, waited for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Self

from ..messaging import channel as messaging
from ..messaging.delivery.parts import Body
from ..messaging.statistics import ChannelStatistics
from ..messaging.triggers import Triggers
from ..protocol.binary_header import BinaryHeader
from ..protocol.errors import ChannelEnded, TofuError
from ..protocol.lifecycle import State
from ..protocol.message import Message
from ..protocol.status import Status
from ..protocol.text_headers import HeadersLike
from ..transport.peer import Peer
from .closing import Closing
from .exchange import Exchange
from .loop_thread import LoopThread


class Channel(Closing):
    """``tofu_aio.Channel`` for programs without asyncio.

    Made by ``group.connect``, ``listener.accept`` and ``blocking.connect``. An iterator of
    messages, and a context manager. Any number of threads may send and make requests at once;
    one at a time may receive.

    What waits takes a ``timeout`` in seconds; None waits without end. A call that timed out, or
    was interrupted by Ctrl-C, has left no trace: no message is lost, none was sent by half.
    """

    def __init__(self, thread: LoopThread, channel: messaging.Channel) -> None:
        self._thread = thread
        self._channel = channel
        self._closed: Callable[[], None] = _nothing  # called after it
        self._kept: deque[Message] = deque()

    # --- what it is -----------------------------------------------------------------------

    @property
    def number(self) -> int:
        """Its local number, 1 to 65534."""
        return self._channel.number

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self._channel.state

    @property
    def end(self) -> TofuError | None:
        """Why nothing more comes from the peer; None while something may."""
        return self._channel.end

    @property
    def _closed_here(self) -> bool:
        return self._channel._closed_here or self._thread.closed

    @property
    def hello(self) -> Message:
        """How the peer introduced itself: its HELLO_REQUEST, or its answer to ours."""
        return self._channel.hello

    @property
    def peer(self) -> Peer:
        """Who is at the other end. As ``tofu_aio.Channel.peer``."""
        return self._channel.peer

    @property
    def triggers(self) -> Triggers:
        """What it waits for at this moment."""
        return self._thread.call(lambda: self._channel.triggers)

    def statistics(self) -> ChannelStatistics:
        """A snapshot of its counters."""
        return self._thread.call(self._channel.statistics)

    def __repr__(self) -> str:
        return repr(self._channel)

    # --- deciding -------------------------------------------------------------------------

    def accept(self, body: bytes = b"", headers: HeadersLike | None = None) -> None:
        """Answer the peer's Hello: the channel is open. As ``tofu_aio.Channel.accept``."""
        self._thread.call(partial(self._channel.accept, body, headers))

    def reject(self, reason: str, status: Status = Status.NOT_ALLOWED) -> None:
        """Tell the peer why it is not accepted, and close. As ``tofu_aio.Channel.reject``."""
        self._thread.ask(partial(self._channel.reject, reason, status))

    # --- receiving ------------------------------------------------------------------------

    def receive(self, timeout: float | None = None) -> Message:
        """The next message.

        Raises:
            TimeoutError: none came in time. 0 asks for what is here already.
            BusyResourceError: another thread is waiting here.
            ShutdownStarted: the engine was closed.
            TofuError: as ``tofu_aio.Channel.receive``.
        """
        return self._thread.take(self._channel.receive, timeout, self._kept)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        """The next message; the iteration ends at the peer's Bye."""
        try:
            return self.receive()
        except ChannelEnded:
            raise StopIteration from None

    # --- sending --------------------------------------------------------------------------

    def post(self, message: Message) -> BinaryHeader:
        """Queue a message, and return its header as sent. As ``tofu_aio.Channel.post``."""
        return self._thread.call(partial(self._channel.post, message))

    def send(self, item: Message, *, timeout: float | None = None) -> None:
        """Wait for room, then send the message. As ``tofu_aio.Channel.send``.

        Raises:
            TimeoutError: there was no room in time.
        """
        self._thread.ask(partial(self._channel.send, item), timeout=timeout)

    def signal(
        self,
        body: bytes = b"",
        headers: HeadersLike | None = None,
        *,
        message_id: int = 0,
        timeout: float | None = None,
    ) -> None:
        """Send a message that needs no answer. As ``tofu_aio.Channel.signal``.

        Raises:
            TimeoutError: there was no room in time.
        """
        signal = partial(self._channel.signal, body, headers, message_id=message_id)
        self._thread.ask(signal, timeout=timeout)

    def reply(
        self,
        request: Message,
        body: Body = b"",
        headers: HeadersLike | None = None,
        *,
        status: Status = Status.SUCCESS,
        more: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Answer a request. As ``tofu_aio.Channel.reply``.

        Raises:
            TimeoutError: there was no room in time.
        """
        reply = partial(self._channel.reply, request, body, headers, status=status, more=more)
        self._thread.ask(reply, timeout=timeout)

    def request(
        self,
        body: Body = b"",
        headers: HeadersLike | None = None,
        *,
        timeout: float | None = None,
        message_id: int = 0,
    ) -> Message:
        """Send a request and return its response. As ``tofu_aio.Channel.request``."""
        return self._thread.ask(
            partial(self._channel.request, body, headers, timeout=timeout, message_id=message_id)
        )

    def cancelled(self, request: Message) -> bool:
        """Whether the caller of a request has given up. As ``tofu_aio.Channel.cancelled``.

        Ask it between the steps of work that takes long: no thread can be stopped in one.
        """
        return self._thread.call(partial(self._channel.cancelled, request))

    def stream(
        self, request: Message | None = None, *, headers: HeadersLike | None = None
    ) -> Exchange:
        """One request and its answer, each in any number of parts, for a ``with``.

        As ``tofu_aio.Channel.stream``.
        """

        async def stream() -> Exchange:
            return Exchange(self._thread, self._channel.stream(request, headers=headers))

        return self._thread.ask(stream, unheard=lambda exchange: exchange._exchange.aclose())

    # --- closing --------------------------------------------------------------------------

    def send_eof(self) -> None:
        """Say that nothing more is sent. As ``tofu_aio.Channel.send_eof``."""
        self._thread.ask(self._channel.send_eof)

    def close(self, timeout: float | None = None) -> None:
        """Say Bye, wait for the answer, and close. As ``tofu_aio.Channel.aclose``."""
        self._kept.clear()
        try:
            self._thread.leave(partial(self._channel.aclose, timeout))
        finally:
            self._closed()

    def _part(self) -> None:
        """Close, but do not wait for a peer that is only to hang up."""
        self._kept.clear()
        self._thread.leave(self._channel._part)

    def abort(self) -> None:
        """Reset the connection, at once: nothing queued is sent, nothing more is received."""
        self._kept.clear()

        async def abort() -> None:
            self._channel.abort()

        try:
            self._thread.leave(abort)
        finally:
            self._closed()


def _nothing() -> None:
    """Most channels have no engine of their own to close."""
