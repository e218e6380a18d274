"""The engine's pool of permits, which bounds the received messages that are alive at any time.

The pool is a budget, not a cache. A permit allows one more received message of up to ``unit`` bytes
to be alive; a longer message needs several permits. In addition each channel has a *reserve*: room
for one message that no other channel can take (see ``account``). A channel whose messages have all
been released can therefore always receive the next one, whatever other channels hold. Network
switches manage their buffers the same way: each queue has a guaranteed minimum, and a dynamic
threshold governs the shared rest.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, Protocol

from ..core import PoolFields, counter
from .atomic import see_all

LENT_TO_STREAMS: Final = 1024
"""Messages that all channels together may lend for requests that are answered or received in parts
(see ``account.LENT_A_STREAM``). A peer may begin as many such requests as it likes."""


class Allocation(Enum):
    """What ``Engine.get`` takes from the pool for a new message."""

    ALWAYS = auto()
    """Nothing: ``get`` always returns a message."""
    POOL_ONLY = auto()
    """One permit, which the message holds until it is sent, released or put back."""


class Permit(Protocol):
    """What a message holds of a pool, and gives back when it is released."""

    @property
    def worth(self) -> int:
        """The number of permits. The reserve counts as one."""

    @property
    def pool(self) -> Pool:
        """The pool that they belong to."""

    def release(self) -> None:
        """Give them back. Any thread may call it, and so may a finalizer, at any moment."""


class ReaderAccount(Protocol):
    """What the messages of a channel hold, as far as others look at it. See ``account.Account``."""

    @property
    def reserved(self) -> bool:
        """Whether the channel's reserve is in use."""

    @property
    def held(self) -> int:
        """The number of permits that the messages hold."""

    @property
    def lent(self) -> int:
        """The number of messages that were lent to the application."""

    def share(self, free: int) -> int:
        """The number of permits that the channel may hold while ``free`` permits are free."""


class Reader(Protocol):
    """A channel whose reading is suspended while it waits for permits or for its reserve."""

    suspended_at: float | None
    """When the wait began, in the time of the channel's loop; None while the channel is read."""
    suspended_for: float
    """Seconds of all waits that have ended."""
    suspensions: int
    """The number of waits that have begun."""

    @property
    def account(self) -> ReaderAccount:
        """What the channel's messages hold."""

    @property
    def needs(self) -> int:
        """The number of permits that the channel waits for; 0 while it does not wait."""

    @property
    def over_its_share(self) -> bool:
        """Whether the channel waits for its own messages to be released, not for others'."""

    def may_go_on(self) -> bool:
        """Whether the channel can continue without a permit.

        It can if its reserve is free, or if what it has received needs no permit any more. If the
        application waits for the next message, this frees the reserve, see ``Account.lend``.
        """

    def resume(self, granted: int) -> None:
        """Continue with the permits that were granted, which are free now, or with the reserve."""

    def reconcile_reading(self) -> None:
        """Make the transport read if the channel can take data, and not read otherwise."""


class Waiters(OrderedDict[Reader, None]):
    """Channels that wait, the one that has waited longest first. Any of them can be removed."""

    def append(self, reader: Reader) -> None:
        """Add a channel behind all others."""
        self[reader] = None

    @property
    def first(self) -> Reader:
        """The channel that has waited longest."""
        return next(iter(self))

    def popleft(self) -> Reader:
        """Remove and return the channel that has waited longest."""
        return self.popitem(last=False)[0]

    def discard(self, reader: Reader) -> None:
        """Remove a channel if it waits here."""
        self.pop(reader, None)


class Pool(PoolFields):
    """``size`` permits, and the channels that wait for some of them.

    The pool is itself the permit of a message that belongs to no channel. Any thread may call
    ``release``, and so may a finalizer at any moment: it consists of two atomic steps, an append
    and a look for waiting channels. ``acquire`` is safe in the same way. Everything else must be
    called in the loop's thread.

    Args:
        size: the number of permits; at least 1.
        on_release: called, in any thread, when a permit or a reserve comes back while a channel
            waits.
        unit: the number of bytes that a message may have for each permit. A message that is longer
            than all permits are worth takes all of them.
        share: the part, above 0 and up to 1, that one channel may hold of the permits that the
            other channels leave. A channel may always hold one permit.

    Attributes:
        size, unit, share: as given.
        free: the permits that are not taken. A deque, because its ``append``, its ``pop`` and its
            ``extend`` by a tuple are atomic: they run no Python code. ``pop`` takes a permit and
            raises IndexError if there is none.
        suspended: the channels that wait for permits or for their reserve, by their account.
        waiters: those of them that wait for permits, in the order in which they are served. No
            permit may be taken past them.
        parked: those of them that hold their share and wait for their own messages. They do not
            hold up anybody.
        reserves: one entry for each reserve in use, and one for each message that was lent.
        to_lend: one entry for each message that may still be lent for requests in parts.
        restored: accounts whose reserve, or a message that was lent, came back while a channel
            waited.

    Raises:
        ValueError: ``size`` is less than 1.
    """

    __slots__ = ()

    worth = 1

    def __init__(
        self,
        size: int,
        on_release: Callable[[], None],
        *,
        unit: int = sys.maxsize,
        share: float = 1.0,
    ) -> None:
        if size < 1:
            raise ValueError(
                f"the size of the pool is {size}: it must be at least 1, or nothing could be "
                "received"
            )
        self.size = size
        self.unit = unit
        self.share = share
        self.free: deque[None] = counter(size)
        self.suspended: dict[ReaderAccount, Reader] = {}
        self.waiters = Waiters()
        self.parked = Waiters()
        self.reserves: deque[None] = counter()
        self.restored: deque[ReaderAccount] = deque()
        self.to_lend: deque[None] = counter(LENT_TO_STREAMS)
        self._on_release = on_release

    @property
    def pool(self) -> Pool:
        """The pool itself, as ``Permit`` asks for it."""
        return self

    @property
    def out(self) -> int:
        """The number of permits that are taken. It is derived, so it cannot contradict ``free``."""
        return self.size - len(self.free)

    def price(self, length: int) -> int:
        """The number of permits that a message of ``length`` bytes takes."""
        price = -(-length // self.unit)
        return price if price < self.size else self.size  # noqa: FURB136 - min takes longer

    @property
    def largest_share(self) -> int:
        """The number of permits that one channel may hold while all are free."""
        return max(int(self.size * self.share), 1)

    def acquire(self) -> bool:
        """Take one permit for a purpose that can be put off, in any thread.

        Returns:
            False, without a permit, if none is free or if a channel waits for one.
        """
        if self.waiters:
            return False
        try:
            self.free.pop()
        except IndexError:
            return False
        return True

    def suspend(self, account: ReaderAccount, reader: Reader) -> None:
        """Register a channel that begins to wait. Call it in the loop's thread.

        From now on ``on_release`` is called for everything that comes back. What came back before
        is visible once this returns.
        """
        self.suspended[account] = reader
        see_all(self.free, self.reserves)

    def release(self) -> None:
        """Give one permit back."""
        self.free.append(None)
        # The order matters. A channel that begins to wait is entered in ``suspended`` before it
        # looks at ``free``, so at least one of the two sides sees what the other did.
        if self.suspended:
            self._on_release()
