"""The accounting of the bounded pool: permits, who holds them, and who waits for some.

The pool is a budget, not a cache: a permit says that one more received message may be alive, of so
many bytes; a longer one needs several.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, Protocol

_UNSETTLED: Final = 64
"""Permits given back that an account may leave uncounted while nobody asks."""


class Allocation(Enum):
    """What ``Engine.get`` may draw on for a message."""

    ALWAYS = auto()
    """Nothing of the pool: it never fails."""
    POOL_ONLY = auto()
    """One of the pool's permits, which the message holds until it is sent, released or put back."""


class Permit(Protocol):
    """What a message gives back when it is released."""

    @property
    def worth(self) -> int:
        """How many permits it is."""

    @property
    def pool(self) -> Pool:
        """Whose."""

    def release(self) -> None:
        """Give it back. From any thread, and from a finalizer in the middle of anything."""


class Reader(Protocol):
    """A channel whose reading is suspended while it waits for permits."""

    suspended_at: float | None
    """When it began to wait, in its loop's time; None while it does not."""
    suspended_for: float
    """Seconds for which it has waited, but for now."""
    suspensions: int
    """How often it began to wait."""

    @property
    def needs(self) -> int:
        """How many permits it waits for; 0 if it does not."""

    @property
    def over_its_share(self) -> bool:
        """Whether it is its own messages, not those of others, that it waits for."""

    def resume(self) -> None:
        """Take the permits that it needs, which are free now, and go on."""

    def reconcile_reading(self) -> None:
        """Read from the socket exactly if the channel can take something."""


class Pool:
    """``size`` permits, a first-come-first-served queue, and who has its share.

    It is itself the permit of a message that belongs to no channel. ``release`` may be called from
    any thread, and from a finalizer in the middle of anything: it is two atomic steps, an append
    and a look at who waits; so are those of ``take``. All else belongs to the loop's thread.

    Args:
        size: how many permits; at least 1.
        on_release: called, in whatever thread, when a permit came back while someone waits.
        unit: bytes that a message may have for each permit it takes. One that has more than all
            permits are worth takes all.
        share: the part of what the others leave that one channel may hold, above 0 up to 1. One
            message it may always hold.

    Attributes:
        size, unit, share: as given.
        free: the permits not taken, as a deque because its ``append`` and ``pop`` are atomic, and
            ``extend`` by a tuple is: they run no Python code.
            ``pop`` takes one; it raises IndexError when there is none.
        waiters: who waits for permits, the longest first. Nobody may take one past them.
        parked: who waits until it holds less than its share; in nobody's way.

    Raises:
        ValueError: ``size`` is less than 1.
    """

    __slots__ = ("_on_release", "free", "parked", "share", "size", "unit", "waiters")

    worth = 1

    def __init__(
        self, size: int, on_release: Callable[[], None], *, unit: int = 1 << 62, share: float = 1.0
    ) -> None:
        if size < 1:
            raise ValueError(f"a pool of {size} messages could never receive: it needs at least 1")
        self.size = size
        self.unit = unit
        self.share = share
        self.free: deque[None] = deque((None,) * size)
        self.waiters: deque[Reader] = deque()
        self.parked: dict[Reader, None] = {}
        self._on_release = on_release

    @property
    def pool(self) -> Pool:
        """Itself."""
        return self

    @property
    def out(self) -> int:
        """How many permits are taken. Derived: taken and free are the size, always."""
        return self.size - len(self.free)

    def price(self, length: int) -> int:
        """How many permits a message of so many bytes takes."""
        price = -(-length // self.unit)
        return price if price < self.size else self.size  # noqa: FURB136 - min takes longer

    def take(self) -> bool:
        """Take a permit for somebody who can do without: not past those who wait. Any thread."""
        if self.waiters:
            return False
        try:
            self.free.pop()
        except IndexError:
            return False
        return True

    def release(self) -> None:
        """Take a permit back."""
        self.free.append(None)
        # In this order: who starts to wait looks at ``free`` after joining the queue, so one of
        # the two sides always sees the other.
        if self.waiters or self.parked:
            self._on_release()


class Account:
    """What one channel holds of a pool. Itself the permit of each message that takes just one.

    Args:
        pool: where the permits come from.

    Attributes:
        pool: as given.
        held: permits that its messages hold, after ``settle``.
        returned: one entry for each permit given back since then; likewise.
    """

    __slots__ = ("held", "pool", "returned")

    worth = 1

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.held = 0
        self.returned: list[None] = []

    def settle(self) -> int:
        """Count what has come back, and return what is still held."""
        count = len(self.returned)
        if count:
            del self.returned[:count]
            self.held -= count
        return self.held

    def budget(self) -> int:
        """How many permits it may take now, if there are as many: not past those who wait."""
        pool = self.pool
        if pool.waiters:
            return 0
        if pool.share == 1.0:
            if len(self.returned) > _UNSETTLED:
                self.settle()
            return len(pool.free)
        held = self.settle()
        share = int((len(pool.free) + held) * pool.share) - held
        return share if held else max(share, 1)

    def over_share(self, price: int) -> bool:
        """Whether its share would not allow for so many permits if they were free.

        Then it is its own messages that it waits for, and nobody else should wait for it.
        """
        held = self.settle()
        free = max(len(self.pool.free), price)
        return held > 0 and held + price > int((free + held) * self.pool.share)

    def take(self, price: int) -> Permit | None:
        """Take so many permits at once, if they are free."""
        free = self.pool.free
        pop, taken = free.pop, 0
        try:
            for taken in range(price):  # noqa: B007 - how many, should the next one be missing
                pop()
        except IndexError:
            free.extend((None,) * taken)
            return None
        self.held += price
        return self if price == 1 else _Bundle(self, price)

    def release(self) -> None:
        """Give one permit back."""
        self.returned.append(None)
        pool = self.pool  # Pool.release, without a call more for each message
        pool.free.append(None)
        if pool.waiters or pool.parked:  # in this order, as in Pool.release
            pool._on_release()


class _Bundle:
    """The permits of a long message."""

    __slots__ = ("_account", "worth")

    def __init__(self, account: Account, worth: int) -> None:
        self._account = account
        self.worth = worth

    @property
    def pool(self) -> Pool:
        """Whose permits they are."""
        return self._account.pool

    def release(self) -> None:
        """Give all of them back, and then look at who waits."""
        # One by one it would take three times as long, more than half of what copying 64 KiB takes.
        rest = (None,) * (self.worth - 1)
        self._account.returned.extend(rest)
        self._account.pool.free.extend(rest)
        self._account.release()
