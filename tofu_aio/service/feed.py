"""A subscription, as its service sends it."""

from __future__ import annotations

from typing import Annotated, Final

from anyio import CancelScope, WouldBlock
from msgspec import Meta, Struct

from ..messaging.exchange import Exchange
from ..protocol.text_headers import TextHeaders
from .cursor import Cursor
from .headers import EPOCH, MISSED, SEQUENCE
from .ring import Entry
from .topic import Topic

BURST: Final = 16 * 1024
"""Bytes that a subscriber is sent in one turn of the loop. What one turn has queued is written at
its end, and only then is it known whether there is room for more."""

_WORTH: Final = 64
"""What a part counts in a burst besides its body."""


class Start(Struct):
    """The payload of a subscription: where it begins, as ``Topic.subscribe`` takes it."""

    after: Annotated[int, Meta(ge=0)] | None = None
    epoch: str = ""


class Feed(Cursor):
    """Sends a topic's messages to a subscriber, as the parts of a streamed result.

    While its channel has room, the topic's pump pushes it. When there is none, its task waits for
    room, sends one part, and lets the pump go on.

    Args:
        topic: whose messages.
        start: where to begin.
    """

    def __init__(self, topic: Topic, start: Start) -> None:
        super().__init__(topic.ring, topic.start(start.after, start.epoch)[0])
        self._topic = topic
        self._exchange: Exchange | None = None
        self._part = 0  # of the message that is being sent: the index of the next part
        self._scope: CancelScope | None = None  # around a wait for room

    async def run(self, exchange: Exchange) -> None:
        """Send messages until the subscriber leaves, or the topic is closed.

        Raises:
            ServiceError: there are too many subscribers, or this one was too slow.
            TofuError: as ``Exchange.send``.
        """
        self._exchange = exchange
        topic = self._topic
        topic.add(self)
        try:
            await exchange.send(b"", {EPOCH: topic.epoch, SEQUENCE: str(self.taken)})
            while True:
                topic.pump.add(self)
                await self.sleep()
                topic.pump.remove(self)
                entry = self._entry()
                if entry is not None:
                    await self._send(exchange, entry)
                elif topic.closed:
                    break
            await exchange.finish()
        finally:
            topic.pump.remove(self)
            self._let_go()
            topic.remove(self)

    def push(self) -> bool:
        """Send what there is room for now; return whether to go on in a later turn."""
        assert self._exchange is not None
        left = BURST
        try:
            while left > 0:
                entry = self._entry()
                if entry is None:
                    if self._topic.closed:
                        self.wake()
                    return False
                body, headers = self._content(entry)
                try:
                    self._exchange.send_nowait(body, headers)
                except WouldBlock:
                    self._hold(entry)
                    self._topic.pump.remove(self)
                    self.wake()
                    return False
                self._sent(entry)
                left -= len(body) + _WORTH
        except Exception as error:
            self.end(error)  # its task raises it: the feeds behind this one must not suffer
            return False
        return True

    async def _send(self, exchange: Exchange, entry: Entry) -> None:
        """Wait for room, and send a part."""
        with CancelScope() as self._scope:
            await exchange.send(*self._content(entry))
        self._scope = None
        if self.error is not None:
            raise self.error
        self._sent(entry)

    def end(self, error: Exception) -> None:
        """Let it get no more, for this reason."""
        super().end(error)
        self._let_go()
        if self._scope is not None:
            self._scope.cancel()

    def _entry(self) -> Entry | None:
        """The message that is being sent, or the next one."""
        return self.held if self.held is not None else self.next()

    def _content(self, entry: Entry) -> tuple[bytes, TextHeaders | None]:
        """The next part of a message, and its headers."""
        if self._part:
            return entry.parts[self._part], None
        missed = self.missed(entry)
        if missed:
            pairs = [*entry.headers.pairs, (MISSED, str(missed))]
            return entry.parts[0], TextHeaders(pairs)
        return entry.parts[0], entry.headers

    def _sent(self, entry: Entry) -> None:
        """Go on to the next part, or to the next message."""
        self._part += 1
        if self._part < len(entry.parts):
            self._hold(entry)
        else:
            self._part = 0
            self._let_go()
            self.take(entry)

    def _hold(self, entry: Entry) -> None:
        """Keep a message that has been sent in part, or is about to be."""
        if self.held is None:
            self.held = entry
            self._ring.hold(entry)

    def _let_go(self) -> None:
        entry, self.held = self.held, None
        if entry is not None:
            self._ring.release(entry)
