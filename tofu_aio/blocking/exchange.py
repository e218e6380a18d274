"""The blocking exchange."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Self

from ..messaging import exchange as messaging
from ..protocol.errors import ChannelEnded
from ..protocol.message import Message
from ..protocol.status import Status
from ..protocol.text_headers import HeadersLike
from .closing import Closing
from .loop_thread import LoopThread


class Exchange(Closing):
    """``tofu_aio.Exchange`` for programs without asyncio. Created by ``channel.stream``.

    It iterates over parts, and is a context manager. Leaving it closes the exchange, but not the
    channel. One thread may send while another receives.
    """

    def __init__(self, thread: LoopThread, exchange: messaging.Exchange) -> None:
        self._thread = thread
        self._exchange = exchange
        self._returned: deque[Message] = deque()  # received by calls that were interrupted

    @property
    def message_id(self) -> int:
        """The message id that all parts of the exchange have."""
        return self._exchange.message_id

    @property
    def asks(self) -> bool:
        """Whether this side sends the request, and the peer the response."""
        return self._exchange.asks

    def receive(self, timeout: float | None = None) -> Message:
        """Return the next part. A call that times out or is interrupted loses no part.

        Args:
            timeout: seconds; 0 only looks whether a part has arrived already.

        Raises:
            TimeoutError: no part arrived in time.
            TofuError: see ``tofu_aio.Exchange.receive``.
        """
        return self._thread.receive_item(self._exchange.receive, timeout, self._returned)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        """Return the next part; the iteration ends after the last one."""
        try:
            return self.receive()
        except ChannelEnded:
            raise StopIteration from None

    def send(
        self,
        item: bytes | bytearray | memoryview,
        headers: HeadersLike | None = None,
        *,
        timeout: float | None = None,
    ) -> None:
        """Send a part that is not the last one. See ``tofu_aio.Exchange.send``.

        Raises:
            TimeoutError: there was no room in time. If some of a long body was already sent,
                nothing more can be sent in this exchange.
        """
        self._thread.run(partial(self._exchange.send, item, headers), timeout=timeout)

    def finish(
        self,
        body: bytes | bytearray | memoryview = b"",
        headers: HeadersLike | None = None,
        *,
        status: Status = Status.SUCCESS,
        timeout: float | None = None,
    ) -> None:
        """Send the last part. See ``tofu_aio.Exchange.finish``.

        Raises:
            TimeoutError: see ``send``.
        """
        finish = partial(self._exchange.finish, body, headers, status=status)
        self._thread.run(finish, timeout=timeout)

    def send_eof(self) -> None:
        """Send an empty last part, unless the last part was already sent."""
        self._thread.run(self._exchange.send_eof)

    def close(self) -> None:
        """Close the exchange. See ``tofu_aio.Exchange.aclose``."""
        self._returned.clear()
        self._thread.run_closing(self._exchange.aclose)

    def __repr__(self) -> str:
        return repr(self._exchange)
