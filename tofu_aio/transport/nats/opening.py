"""A client's request for a channel to any listener of a service."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Final

from . import chunk
from .chunk import Chunk
from .credit import Window
from .limits import DECLINED, DECLINED_PAUSE
from .link import Link
from .stream import NatsStream

PREFIX: Final = "tofu."
"""Services are under this in the tree of the broker's subjects."""


class NoListener(Exception):
    """Nobody listens on the service, or everybody who does is full."""


async def opened(link: Link, subject: str) -> NatsStream:
    """Return a stream to a listener, which must be started.

    Args:
        link: a connection to the broker.
        subject: of the service.

    Raises:
        NoListener: no listener takes a client.
        OSError: the broker refuses the request, or is lost.
    """
    for attempt in count(1):
        stream = await _asked(link, subject)
        if stream is not None:
            return stream
        if attempt >= DECLINED:
            await asyncio.sleep(DECLINED_PAUSE)
    raise AssertionError("count() does not end")


async def _asked(link: Link, subject: str) -> NatsStream | None:
    """Ask once; None if the listener that was asked takes no client."""
    opening = _Opening(link, subject)
    try:
        return await opening.answer
    except BaseException:
        opening.give_up()
        raise


class _Opening:
    """One such request, until it is answered.

    Attributes:
        answer: the stream, or None, or an exception.
        peer: the subject of the service.
    """

    def __init__(self, link: Link, subject: str) -> None:
        self._link = link
        self._window = Window(link.budget)
        self.peer = subject
        self.answer: asyncio.Future[NatsStream | None] = link.loop.create_future()
        self._token = link.add(self)
        link.post(subject, self._token, Chunk(chunk.OPEN, 0, self._window.grant()))

    def arrived(self, inbox: str, what: Chunk, _: bytes) -> None:
        """Take the answer of a listener."""
        kind, number, value = what
        if self.answer.done():  # the caller is about to give up
            if kind == chunk.ACCEPT:
                self._link.post(inbox, self._token, Chunk(chunk.RESET, 0))
        elif kind == chunk.ACCEPT and number == 0:
            stream = NatsStream(self._link, self._token, inbox, value, self._window)
            self._link.replace(self._token, stream)
            self.answer.set_result(stream)
        else:
            self._leave()
            self.answer.set_result(None)

    def unheard(self) -> None:
        """Handle that no listener has a subscription."""
        self.lose(NoListener())

    def lose(self, error: Exception) -> None:
        """End without a stream."""
        if not self.answer.done():
            self._leave()
            self.answer.set_exception(error)

    cut = lose

    def give_up(self) -> None:
        """End, because the caller waits no more. A listener that accepts later is told then."""
        if not self.answer.done() or self.answer.cancelled():
            self._leave()
        elif self.answer.exception() is None and (stream := self.answer.result()) is not None:
            stream.abort()

    def _leave(self) -> None:
        self._window.close()
        self._link.leave(self._token, lambda: None)
