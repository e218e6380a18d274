"""One request and its answer, each in any number of parts, waited for."""

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
    """``tofu_aio.Exchange`` for programs without asyncio. Made by ``channel.stream``.

    An iterator of parts, and a context manager: leaving it closes the exchange, never the channel.
    One thread may send while another receives.
    """

    def __init__(self, thread: LoopThread, exchange: messaging.Exchange) -> None:
        self._thread = thread
        self._exchange = exchange
        self._kept: deque[Message] = deque()

    @property
    def message_id(self) -> int:
        """What ties its parts together."""
        return self._exchange.message_id

    @property
    def asks(self) -> bool:
        """Whether the request is made here, and the answer there."""
        return self._exchange.asks

    def receive(self, timeout: float | None = None) -> Message:
        """The next part. Timed out or interrupted, it loses none.

        Raises:
            TimeoutError: none came within so many seconds. 0 asks for what is here already.
            TofuError: as ``tofu_aio.Exchange.receive``.
        """
        return self._thread.take(self._exchange.receive, timeout, self._kept)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        """The next part; the iteration ends after the last one."""
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
        """Send a part, and say that more follow. As ``tofu_aio.Exchange.send``.

        Raises:
            TimeoutError: there was no room in time. A longer body may have been sent in part:
                then nothing can be sent any more.
        """
        self._thread.ask(partial(self._exchange.send, item, headers), timeout=timeout)

    def finish(
        self,
        body: bytes | bytearray | memoryview = b"",
        headers: HeadersLike | None = None,
        *,
        status: Status = Status.SUCCESS,
        timeout: float | None = None,
    ) -> None:
        """Send the last part. As ``tofu_aio.Exchange.finish``.

        Raises:
            TimeoutError: as ``send``.
        """
        finish = partial(self._exchange.finish, body, headers, status=status)
        self._thread.ask(finish, timeout=timeout)

    def send_eof(self) -> None:
        """Finish, if that was not done yet."""
        self._thread.ask(self._exchange.send_eof)

    def close(self) -> None:
        """Leave it. As ``tofu_aio.Exchange.aclose``."""
        self._kept.clear()
        self._thread.leave(self._exchange.aclose)

    def __repr__(self) -> str:
        return repr(self._exchange)
