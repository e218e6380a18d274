"""A topic: each message that is published goes to all subscribers, and none of them slows it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypeVar, get_args

from ..checks import checked_count
from ..protocol.errors import ChannelClosed, InvalidBodyLen, again
from .codec import BYTES, JSON, Codec
from .cursor import Cursor, Event
from .errors import RESOURCE_EXHAUSTED, UNAVAILABLE, ServiceError
from .payloads import Codecs, is_bytes
from .pump import Pump
from .ring import OVERHEAD, Entry, Ring

T = TypeVar("T")

Slow: TypeAlias = Literal["skip", "disconnect", "wait"]

CAPACITY: Final = 1024
"""Default for the messages that a topic keeps."""

CAPACITY_BYTES: Final = 16 * 1024 * 1024
"""Default for their bytes."""

MAX_SUBSCRIBERS: Final = 10_000
"""Default for the subscribers that a topic has at once."""

_BURST: Final = 64 * 1024
"""Bytes that ``send`` publishes before other tasks have a turn."""

_WORTH: Final = 1024
"""What a message counts in a burst besides its body, so that 64 short ones are one."""


class TopicFull(asyncio.QueueFull):
    """``publish`` found no room: a subscriber has not taken the oldest message. Use ``send``."""


@dataclass(frozen=True, slots=True)
class TopicStatistics:
    """A topic at one moment.

    Attributes:
        published: messages that were ever published: the number of the latest.
        messages: in the ring now.
        bytes: of these messages.
        leaving_bytes: of messages that have left the ring and are still being sent.
        subscribers: now.
        skipped: messages that subscribers have missed, over all subscribers.
        disconnected: subscribers that were too slow, and were ended for that.
    """

    published: int
    messages: int
    bytes: int
    leaving_bytes: int
    subscribers: int
    skipped: int
    disconnected: int


class Topic:
    """Messages for any number of subscribers.

        topic = tofu.Topic()
        service.topic("telemetry", topic)
        topic.publish({"temperature": 21.5})

    Subscribers are clients (``client.subscribe``) and tasks of this process (``topic.subscribe``).
    Each message is encoded once and kept in one ring for all of them. A subscriber is a position
    in the ring, and what its channel has queued: at most ``write_high_water`` of the engine, 16 KiB
    and one part of a message.

    Args:
        capacity: how many messages the ring keeps, 1 or more.
        capacity_bytes: how many bytes they may have together; 64 are counted for the headers of
            each. Once the ring is full, each new message displaces the oldest ones.
        slow: what happens when that is a message which a subscriber has not taken. "skip", the
            default: the subscriber misses it, and its next event says how many it has missed.
            "disconnect": the subscriber is ended, with the error ``resource_exhausted``. "wait":
            ``publish`` raises ``TopicFull`` and ``send`` waits.
        codec: encodes the messages; JSON by default. Bytes are sent as they are.
        max_subscribers: how many there may be at once. One more is refused with the error
            ``resource_exhausted``. They do not count towards the ``streams`` of the service.

    Attributes:
        epoch: a random text, by which subscribers notice that the publisher was restarted.

    Raises:
        TypeError, ValueError: an argument has no meaning. The message names it.
    """

    def __init__(
        self,
        capacity: int = CAPACITY,
        capacity_bytes: int = CAPACITY_BYTES,
        *,
        slow: Slow = "skip",
        codec: Codec = JSON,
        max_subscribers: int = MAX_SUBSCRIBERS,
    ) -> None:
        if slow not in get_args(Slow):
            raise ValueError(f'slow is {slow!r}: give "skip", "disconnect" or "wait"')
        checked_count("capacity", capacity)
        self._limit = checked_count("capacity_bytes", capacity_bytes, OVERHEAD + 1)
        self._max_subscribers = checked_count("max_subscribers", max_subscribers)
        self._slow = slow
        self._codecs = Codecs(codec)
        self.epoch = secrets.token_hex(8)
        self.ring = Ring(capacity, capacity_bytes)
        self.pump = Pump()
        self.closed = False
        self._cursors: dict[Cursor, None] = {}
        self._subscribers = 0  # with those that have been ended, and whose tasks have not
        self._taken = 0  # all subscribers have taken the messages up to this one, perhaps more
        self._turn = asyncio.Lock()  # of the tasks that wait in ``send``
        self._burst = 0
        # The tasks of this process that wait for a message.
        self._sleeping: dict[Cursor, None] = {}
        self._skipped = 0  # by subscribers that have left
        self._disconnected = 0

    @property
    def content_type(self) -> str:
        """The encoding of the messages."""
        return self._codecs.own.content_type

    # --- publishing -----------------------------------------------------------------------

    def publish(self, value: object) -> int:
        """Publish a message and return its number. Never waits. Call it in the loop's thread.

        Raises:
            TopicFull: with ``slow="wait"``, a subscriber has not taken the oldest message.
            InvalidBodyLen: the message is longer than ``capacity_bytes``.
            ChannelClosed: the topic is closed.
            TypeError: the codec cannot encode the value.
            RuntimeError: there are subscribers, and no loop is running in this thread.
        """
        return self._publish(*self._encoded(value))

    async def send(self, value: object) -> int:
        """Publish a message as ``publish``, but wait for room with ``slow="wait"``.

        Tasks wait in order of arrival. A cancelled call publishes nothing. Other tasks get a turn
        every 64 messages, or 64 KiB, so that subscribers are served meanwhile.

        Raises:
            InvalidBodyLen, ChannelClosed, TypeError: as ``publish``.
        """
        content_type, body = self._encoded(value)
        async with self._turn:
            if self._burst >= _BURST:
                self._burst = 0
                await asyncio.sleep(0)
            self._burst += len(body) + _WORTH
            while True:
                try:
                    return self._publish(content_type, body)
                except TopicFull:
                    await self._displaceable()

    def close(self) -> None:
        """End the topic: nothing more can be published. Subscribers get what they lack, and end."""
        self.closed = True
        self.ring.recheck()
        for cursor in list(self._cursors):
            cursor.wake()

    def _encoded(self, value: object) -> tuple[str, bytes]:
        if is_bytes(value):
            content_type, body = BYTES, bytes(value)
        else:
            codec = self._codecs.own
            content_type, body = codec.content_type, codec.encode(value)
        if len(body) + OVERHEAD > self._limit:
            raise InvalidBodyLen(
                f"the message has {len(body)} bytes, and the ring has room for "
                f"{self._limit - OVERHEAD}: raise capacity_bytes, or publish it in pieces"
            )
        return content_type, body

    def _publish(self, content_type: str, body: bytes) -> int:
        if self.closed:
            raise ChannelClosed("the topic was closed")
        if self._cursors:
            asyncio.get_running_loop()  # raises in other threads
        ring = self.ring
        while not ring.has_room(len(body)):
            self._displace()
        number = ring.last + 1
        ring.append(Entry(number, content_type, body))
        if self.pump.feeds:
            self.pump.start()
        sleeping, self._sleeping = self._sleeping, {}
        for cursor in sleeping:
            cursor.wake()
        return number

    def _displace(self) -> None:
        """Drop the oldest message to make room.

        Raises:
            TopicFull: a subscriber has not taken it, and the topic waits for slow ones.
        """
        ring = self.ring
        oldest = ring.first
        if oldest > self._taken and self._slow != "skip":
            self._taken = min((cursor.taken for cursor in self._cursors), default=ring.last)
            if oldest > self._taken:
                self._await_or_end(oldest)
        ring.evict()
        if ring.leaving_bytes > self._limit:
            self._end_holders()

    def _end_holders(self) -> None:
        """End subscribers that have stopped in the middle of messages: they must not keep many."""
        ring = self.ring
        for entry in list(ring.leaving.values()):
            error = ServiceError(UNAVAILABLE, f"message {entry.number} was displaced meanwhile")
            for cursor in self._cursors:
                if cursor.held is entry:
                    cursor.end(again(error))
            if ring.leaving_bytes <= self._limit:
                break

    def _await_or_end(self, oldest: int) -> None:
        """Do what the topic does with subscribers that have not taken a message."""
        slow = [cursor for cursor in self._cursors if cursor.taken < oldest]
        if self._slow == "wait":
            raise TopicFull(
                f"{len(slow)} of {len(self._cursors)} subscribers have not taken message {oldest}, "
                "and the ring is full: use 'await topic.send(value)' to wait for them"
            )
        error = ServiceError(
            RESOURCE_EXHAUSTED,
            f"the subscriber was too slow: it had not taken message {oldest}, and the topic keeps "
            "no more",
        )
        self._disconnected += len(slow)
        for cursor in slow:
            cursor.end(again(error))
            self._forget(cursor)

    async def _displaceable(self) -> None:
        """Wait until the oldest message may have been taken by all."""
        ring = self.ring
        ring.awaited = asyncio.get_running_loop().create_future()
        try:
            await ring.awaited
        finally:
            ring.awaited = None

    # --- subscribing ----------------------------------------------------------------------

    def subscribe(
        self, *, item: type[T], after: int | None = None, epoch: str = ""
    ) -> AsyncGenerator[Event[T]]:
        """Iterate over the messages in a task of this process.

        Leaving the loop unsubscribes. The iteration ends when the topic is closed.

        Args:
            item: the type of the values. ``bytes`` gives each message as it is encoded.
            after: the number of the last message that the task has. Those after it come first, as
                far as the ring has them; with 0, all that it has. By default, only messages that
                are published from now on.
            epoch: the epoch of that message. If the topic has another one, ``after`` does not
                count, and all that the ring has comes.

        Raises:
            ServiceError: there are too many subscribers, or this one was too slow; from the
                iteration.
            ValueError: a message has another type; from the iteration.
        """
        taken, restarted = self.start(after, epoch)
        return self._events(Cursor(self.ring, taken), item, restarted=restarted)

    async def _events(
        self, cursor: Cursor, item: type[T], *, restarted: bool
    ) -> AsyncGenerator[Event[T]]:
        self.add(cursor)
        try:
            while True:
                entry = cursor.next()
                if entry is None:
                    if self.closed:
                        return
                    self._sleeping[cursor] = None
                    await cursor.sleep()
                    continue
                missed = None if restarted else cursor.missed(entry)
                restarted = False
                cursor.take(entry)
                value = self._codecs.decode(entry.content_type, entry.body, item)
                number = entry.number
                del entry  # not kept while the subscriber works
                yield Event(value, number, missed, self.epoch)
        finally:
            self._sleeping.pop(cursor, None)
            self.remove(cursor)

    def start(self, after: int | None, epoch: str) -> tuple[int, bool]:
        """Where a subscriber begins.

        Args:
            after: as ``subscribe`` takes it.
            epoch: as ``subscribe`` takes it.

        Returns:
            The number of the message before its first one; and whether the publisher was restarted
            since ``after``.

        Raises:
            ValueError: ``after`` is negative.
        """
        if after is None:
            return self.ring.last, False
        checked_count("after", after, 0)
        if epoch not in {"", self.epoch} or after > self.ring.last:
            return self.ring.first - 1, True
        return after, False

    def add(self, cursor: Cursor) -> None:
        """Add a subscriber.

        Raises:
            ServiceError: there are too many.
        """
        if self._subscribers >= self._max_subscribers:
            raise ServiceError(RESOURCE_EXHAUSTED, "the topic has too many subscribers")
        self._subscribers += 1
        self._cursors[cursor] = None
        self._taken = min(self._taken, cursor.taken)

    def remove(self, cursor: Cursor) -> None:
        """Forget a subscriber, whose task has ended."""
        self._subscribers -= 1
        self._forget(cursor)

    def _forget(self, cursor: Cursor) -> None:
        if cursor in self._cursors:
            del self._cursors[cursor]
            self._skipped += cursor.skipped
            self.ring.recheck()

    def statistics(self) -> TopicStatistics:
        """A snapshot of the topic's counters."""
        ring = self.ring
        return TopicStatistics(
            published=ring.last,
            messages=len(ring),
            bytes=ring.nbytes,
            leaving_bytes=ring.leaving_bytes,
            subscribers=self._subscribers,
            skipped=self._skipped + sum(cursor.skipped for cursor in self._cursors),
            disconnected=self._disconnected,
        )

    def __repr__(self) -> str:
        return f"<Topic published={self.ring.last} subscribers={self._subscribers}>"
