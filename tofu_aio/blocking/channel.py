"""The blocking channel."""

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

    Created by ``group.connect``, ``listener.accept`` and ``blocking.connect``. It iterates over
    messages, and is a context manager. Any number of threads may send and make requests at the
    same time; one at a time may receive.

    Methods that wait take a ``timeout`` in seconds; None waits without limit. A call that times
    out, or that Ctrl-C interrupts, loses no message and never sends only part of one.
    """

    def __init__(self, thread: LoopThread, channel: messaging.Channel) -> None:
        self._thread = thread
        self._channel = channel
        self._on_closed: Callable[[], None] = _do_nothing
        self._returned: deque[Message] = deque()  # received by calls that were interrupted

    # --- attributes -----------------------------------------------------------------------

    @property
    def number(self) -> int:
        """The channel's local number, 1 to 65534."""
        return self._channel.number

    @property
    def state(self) -> State:
        """The channel's state."""
        return self._channel.state

    @property
    def end(self) -> TofuError | None:
        """The error that says why the peer sends nothing more; None while it may still send."""
        return self._channel.end

    @property
    def _closed_here(self) -> bool:
        return self._channel._closed_here or self._thread.closed

    @property
    def hello(self) -> Message:
        """The peer's Hello: its HELLO_REQUEST, or its HELLO_RESPONSE to this side's."""
        return self._channel.hello

    @property
    def peer(self) -> Peer:
        """The peer's identity. See ``tofu_aio.Channel.peer``."""
        return self._channel.peer

    @property
    def triggers(self) -> Triggers:
        """What the channel waits for at the moment."""
        return self._thread.call(lambda: self._channel.triggers)

    def statistics(self) -> ChannelStatistics:
        """Return a snapshot of the channel's counters."""
        return self._thread.call(self._channel.statistics)

    def __repr__(self) -> str:
        return repr(self._channel)

    # --- deciding -------------------------------------------------------------------------

    def accept(self, body: bytes = b"", headers: HeadersLike | None = None) -> None:
        """Answer the peer's Hello, which opens the channel. See ``tofu_aio.Channel.accept``."""
        self._thread.call(partial(self._channel.accept, body, headers))

    def reject(self, reason: str, status: Status = Status.NOT_ALLOWED) -> None:
        """Tell the peer why it is not accepted, and close. See ``tofu_aio.Channel.reject``."""
        self._thread.run(partial(self._channel.reject, reason, status))

    # --- receiving ------------------------------------------------------------------------

    def receive(self, timeout: float | None = None) -> Message:
        """Return the next message.

        Args:
            timeout: seconds; 0 only looks whether a message has arrived already.

        Raises:
            TimeoutError: no message arrived in time.
            BusyResourceError: another thread is receiving from this channel.
            ShutdownStarted: the engine was closed.
            TofuError: see ``tofu_aio.Channel.receive``.
        """
        return self._thread.receive_item(self._channel.receive, timeout, self._returned)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        """Return the next message; the iteration ends at the peer's Bye."""
        try:
            return self.receive()
        except ChannelEnded:
            raise StopIteration from None

    # --- sending --------------------------------------------------------------------------

    def post(self, message: Message) -> BinaryHeader:
        """Queue a message, and return its header as sent. See ``tofu_aio.Channel.post``."""
        return self._thread.call(partial(self._channel.post, message))

    def send(self, item: Message, *, timeout: float | None = None) -> None:
        """Wait for room, then send the message. See ``tofu_aio.Channel.send``.

        Raises:
            TimeoutError: there was no room in time.
        """
        self._thread.run(partial(self._channel.send, item), timeout=timeout)

    def signal(
        self,
        body: bytes = b"",
        headers: HeadersLike | None = None,
        *,
        message_id: int = 0,
        timeout: float | None = None,
    ) -> None:
        """Send a message that needs no response. See ``tofu_aio.Channel.signal``.

        Raises:
            TimeoutError: there was no room in time.
        """
        signal = partial(self._channel.signal, body, headers, message_id=message_id)
        self._thread.run(signal, timeout=timeout)

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
        """Respond to a request. See ``tofu_aio.Channel.reply``.

        Raises:
            TimeoutError: there was no room in time.
        """
        reply = partial(self._channel.reply, request, body, headers, status=status, more=more)
        self._thread.run(reply, timeout=timeout)

    def request(
        self,
        body: Body = b"",
        headers: HeadersLike | None = None,
        *,
        timeout: float | None = None,
        message_id: int = 0,
    ) -> Message:
        """Send a request and return its response. See ``tofu_aio.Channel.request``."""
        return self._thread.run(
            partial(self._channel.request, body, headers, timeout=timeout, message_id=message_id)
        )

    def cancelled(self, request: Message) -> bool:
        """Return whether the peer has cancelled its request. See ``tofu_aio.Channel.cancelled``.

        Call this between the steps of long work: a thread cannot be stopped from outside.
        """
        return self._thread.call(partial(self._channel.cancelled, request))

    def stream(
        self, request: Message | None = None, *, headers: HeadersLike | None = None
    ) -> Exchange:
        """Return an exchange, in which request and response have any number of parts.

        Use it in a ``with`` statement. See ``tofu_aio.Channel.stream``.
        """

        async def stream() -> Exchange:
            return Exchange(self._thread, self._channel.stream(request, headers=headers))

        return self._thread.run(stream, undo=lambda exchange: exchange._exchange.aclose())

    # --- closing --------------------------------------------------------------------------

    def drain(self) -> None:
        """Announce that this side will close the channel soon. See ``tofu_aio.Channel.drain``."""
        self._thread.call(self._channel.drain)

    @property
    def draining(self) -> bool:
        """Whether this side or the peer has announced that it will close the channel soon."""
        return self._channel.draining

    def send_eof(self) -> None:
        """Tell the peer that nothing more will be sent. See ``tofu_aio.Channel.send_eof``."""
        self._thread.run(self._channel.send_eof)

    def close(self, timeout: float | None = None) -> None:
        """Send a Bye, wait for the response, and close. See ``tofu_aio.Channel.aclose``."""
        self._returned.clear()
        try:
            self._thread.run_closing(partial(self._channel.aclose, timeout))
        finally:
            self._on_closed()

    def _close_after_handler(self) -> None:
        """Close, but do not wait for the peer to close a connection that needs nothing more."""
        self._returned.clear()
        self._thread.run_closing(self._channel._part)

    def abort(self) -> None:
        """Reset the connection at once. Queued messages are not sent, nor is anything received."""
        self._returned.clear()

        async def abort() -> None:
            self._channel.abort()

        try:
            self._thread.run_closing(abort)
        finally:
            self._on_closed()


def _do_nothing() -> None:
    """The default: most channels have no engine of their own to close."""
