"""The messages of a topic: encoded once, and bounded, however many subscribers there are."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from ..protocol.binary_header import MAX_PART
from ..protocol.text_headers import TextHeaders
from .codec import BYTES
from .headers import CONTENT_TYPE, LENGTH, SEQUENCE

OVERHEAD: Final = 64
"""Bytes that the ring counts for each message besides its body: for its headers."""


class Entry:
    """One message of a topic.

    Args:
        number: of the message.
        content_type: of its body.
        body: the encoded value.

    Attributes:
        number, content_type: as given.
        parts: the body, in pieces that each fit in one part of an exchange.
        headers: of the first part.
        nbytes: how much the ring counts for it.
        senders: how many subscribers are in the middle of it.
    """

    __slots__ = ("content_type", "headers", "nbytes", "number", "parts", "senders")

    def __init__(self, number: int, content_type: str, body: bytes) -> None:
        self.number = number
        self.content_type = content_type
        pairs = {SEQUENCE: str(number)}
        if content_type == BYTES:
            pairs[CONTENT_TYPE] = BYTES
        if len(body) > MAX_PART:
            pairs[LENGTH] = str(len(body))
            self.parts = tuple(
                body[begin : begin + MAX_PART] for begin in range(0, len(body), MAX_PART)
            )
        else:
            self.parts = (body,)
        self.headers = TextHeaders(pairs)
        self.nbytes = len(body) + OVERHEAD
        self.senders = 0

    @property
    def body(self) -> bytes:
        """The encoded value."""
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)


class Ring:
    """The last messages of a topic.

    A message that is being sent to a subscriber when it leaves the ring is kept until that is done,
    and counted in ``leaving_bytes``.

    Args:
        messages: how many it has room for.
        nbytes: for how many bytes of them.

    Attributes:
        nbytes: of the messages in the ring.
        first: the number of the oldest message in the ring; ``last + 1`` if it is empty.
        last: the number of the latest message.
        leaving: the messages that have left the ring and are still being sent, the oldest first.
        leaving_bytes: of those.
        awaited: a future that a publisher waits for; None if none waits. It is done once the oldest
            message was taken by a subscriber, which may have been the last one.
    """

    def __init__(self, messages: int, nbytes: int) -> None:
        self._room = messages, nbytes
        self._entries: deque[Entry] = deque()
        self.nbytes = 0
        self.first = 1
        self.last = 0
        self.leaving: dict[int, Entry] = {}
        self.leaving_bytes = 0
        self.awaited: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, number: int) -> Entry:
        return self._entries[number - self.first]

    def has_room(self, length: int) -> bool:
        """Whether one more message with a body of this length fits."""
        messages, limit = self._room
        return len(self._entries) < messages and self.nbytes + length + OVERHEAD <= limit

    def append(self, entry: Entry) -> None:
        """Add the latest message."""
        self._entries.append(entry)
        self.last = entry.number
        self.nbytes += entry.nbytes

    def evict(self) -> None:
        """Drop the oldest message."""
        entry = self._entries.popleft()
        self.first = entry.number + 1
        self.nbytes -= entry.nbytes
        if entry.senders:
            self.leaving[entry.number] = entry
            self.leaving_bytes += entry.nbytes

    def was_taken(self, number: int) -> None:
        """A subscriber has taken a message."""
        if self.awaited is not None and number <= self.first:
            self.recheck()

    def recheck(self) -> None:
        """Let the publisher that waits try again."""
        if self.awaited is not None and not self.awaited.done():
            self.awaited.set_result(None)

    def hold(self, entry: Entry) -> None:
        """A subscriber is in the middle of a message: keep it until ``release``."""
        entry.senders += 1

    def release(self, entry: Entry) -> None:
        """One subscriber less is in the middle of a message."""
        entry.senders -= 1
        if not entry.senders and self.leaving.pop(entry.number, None) is not None:
            self.leaving_bytes -= entry.nbytes
