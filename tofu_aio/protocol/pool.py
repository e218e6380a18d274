"""The accounting of received messages: permits of the shared pool, and each channel's reserve.

The pool is a budget, not a cache: a permit says that one more received message may be alive, of so
many bytes; a longer one needs several. Beside it each channel has a reserve, room for one message,
which nobody else can take: so whatever others keep, a channel whose messages were all let go of can
always receive the next one. Network switches manage their buffers the same way, with a guaranteed
minimum for each queue and a shared rest under a dynamic threshold.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, Protocol

from .atomic import see_all

LENT: Final = 4
"""Messages of a channel that a program may keep while it waits for the next one, whatever others
have: the one of its loop, and a few that it wants later."""

LENT_A_STREAM: Final = 2
"""So many more for each request that is answered or received in parts: its first part, which has
the headers, and the one of its loop."""

LENT_TO_STREAMS: Final = 1024
"""But so many in all, over all channels: a peer may begin as many such requests as it likes."""

_PERMIT: Final = 0
_RESERVE: Final = 1
_LENT: Final = 2
_LENT_TO_STREAM: Final = 3
"""What one of a channel's messages gives back: a permit of the pool, the channel's reserve, or what
was lent to the application, in general or for what comes in parts."""

_NONE: Final[list[int]] = []
"""Where nothing was ever taken: a list of its own would be half of an idle channel's account."""


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
        """How many permits it is. The reserve counts as one."""

    @property
    def pool(self) -> Pool:
        """Whose."""

    def release(self) -> None:
        """Give it back. From any thread, and from a finalizer in the middle of anything."""


class Reader(Protocol):
    """A channel whose reading is suspended while it waits for permits, or for its reserve."""

    suspended_at: float | None
    """When it began to wait, in its loop's time; None while it does not."""
    suspended_for: float
    """Seconds for which it has waited, but for now."""
    suspensions: int
    """How often it began to wait."""

    @property
    def account(self) -> Account:
        """What its messages hold."""

    @property
    def needs(self) -> int:
        """How many permits it waits for; 0 if it does not."""

    @property
    def over_its_share(self) -> bool:
        """Whether it is its own messages, not those of others, that it waits for."""

    def may_go_on(self) -> bool:
        """Whether it needs nothing of the pool: its reserve is free, or it waits for nothing.

        The reserve is freed if the application waits for the next message, see ``Account.lend``.
        """

    def resume(self, granted: int) -> None:
        """Take the permits that it was granted, which are free now, or its reserve, and go on."""

    def reconcile_reading(self) -> None:
        """Read from the socket exactly if the channel can take something."""


class Waiters(OrderedDict[Reader, None]):
    """Channels that wait, the longest first; any of them may leave at any time."""

    def append(self, reader: Reader) -> None:
        """Wait behind all others."""
        self[reader] = None

    @property
    def first(self) -> Reader:
        """Who has waited longest."""
        return next(iter(self))

    def popleft(self) -> Reader:
        """Take out who has waited longest."""
        return self.popitem(last=False)[0]

    def discard(self, reader: Reader) -> None:
        """Take one out, if it is there."""
        self.pop(reader, None)


class Pool:
    """``size`` permits, a first-come-first-served queue, and who has its share.

    It is itself the permit of a message that belongs to no channel. ``release`` may be called from
    any thread, and from a finalizer in the middle of anything: it is two atomic steps, an append
    and a look at who waits; so are those of ``take``. All else belongs to the loop's thread.

    Args:
        size: how many permits; at least 1.
        on_release: called, in whatever thread, when a permit or a reserve came back while someone
            waits.
        unit: bytes that a message may have for each permit it takes. One that has more than all
            permits are worth takes all.
        share: the part of what the others leave that one channel may hold, above 0 up to 1; one
            permit at least.

    Attributes:
        size, unit, share: as given.
        free: the permits not taken, as a deque because its ``append`` and ``pop`` are atomic, and
            ``extend`` by a tuple is: they run no Python code.
            ``pop`` takes one; it raises IndexError when there is none.
        suspended: whose channels wait, for permits or for their reserve.
        waiters: those of them that wait for permits, the longest first. Nobody may take one past
            them.
        parked: those that wait until they hold less than their share; in nobody's way.
        reserves: an entry for each reserve in use, and for each message that was lent.
        to_lend: an entry for each message that may still be lent for what comes in parts.
        restored: accounts whose reserve, or what was lent, came back while somebody waited.

    Raises:
        ValueError: ``size`` is less than 1.
    """

    __slots__ = (
        "_on_release",
        "free",
        "parked",
        "reserves",
        "restored",
        "share",
        "size",
        "suspended",
        "to_lend",
        "unit",
        "waiters",
    )

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
        self.suspended: dict[Account, Reader] = {}
        self.waiters = Waiters()
        self.parked = Waiters()
        self.reserves: deque[None] = deque()
        self.restored: deque[Account] = deque()
        self.to_lend: deque[None] = deque((None,) * LENT_TO_STREAMS)
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

    @property
    def largest_share(self) -> int:
        """How many permits one channel may hold if all are free."""
        return max(int(self.size * self.share), 1)

    def take(self) -> bool:
        """Take a permit for somebody who can do without: not past those who wait. Any thread."""
        if self.waiters:
            return False
        try:
            self.free.pop()
        except IndexError:
            return False
        return True

    def suspend(self, account: Account, reader: Reader) -> None:
        """Enter who waits: what comes back from now on is told, and what came back before is here.

        In the loop's thread.
        """
        self.suspended[account] = reader
        see_all(self.free, self.reserves)

    def release(self) -> None:
        """Take a permit back."""
        self.free.append(None)
        # In this order: who starts to wait looks at ``free`` after it was entered there, so one of
        # the two sides always sees the other.
        if self.suspended:
            self._on_release()


class Account:
    """What one channel's messages hold. Itself the permit of each message that takes just one.

    The reserve is the first that a channel takes and the last that it gives back, whichever of its
    messages is released first. So of ``n`` short messages alive ``n - 1`` are in the pool, and an
    application that keeps the last message of each channel keeps nothing of it.

    A loop ``async for message in channel`` keeps the last message until it has the next one, and
    a program may keep a few others beside it. So that it always gets the next one, what it keeps
    may be *lent* while it waits for that, which frees the reserve: so often, that is, so many
    messages, as ``lend`` is told. What was lent is in the application's hands, not in the engine's.

    Args:
        pool: where the permits come from.

    Attributes:
        pool: as given.
        reserved: whether the reserve is in use.
        taken: an entry for each message that takes just one permit, or the reserve: those for the
            reserve and for what was lent come before all others. ``release`` takes them from the
            end, with ``pop``, which is atomic.
        bundled: an entry for each permit of the long messages in the pool.
    """

    __slots__ = ("bundled", "pool", "reserved", "taken")

    worth = 1

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.reserved = False
        self.taken = self.bundled = _NONE  # lists of its own once something is taken

    @property
    def held(self) -> int:
        """How many permits of the pool its messages hold."""
        return len(self.taken) - self._beside_the_pool() + len(self.bundled)

    @property
    def lent(self) -> int:
        """How many messages were lent to the application."""
        return self._beside_the_pool() - self.reserved

    def _beside_the_pool(self) -> int:
        """How many of its messages are on the reserve, or were lent."""
        # They come first, and are few. What takes a permit may be many thousands.
        count = 0
        for kind in self.taken:
            if kind == _PERMIT:
                break
            count += 1
        return count

    @property
    def worth_of_all(self) -> int:
        """What its messages hold, permits and the reserve."""
        return len(self.taken) + len(self.bundled)

    def budget(self) -> int:
        """How many permits it may take now: not past those who wait."""
        pool = self.pool
        if pool.waiters:
            return 0
        free, held = len(pool.free), self.held
        if not held and free:
            return int(free * pool.share) or 1
        return int((free + held) * pool.share) - held

    def over_share(self, price: int) -> bool:
        """Whether its share would not allow for so many permits, if just those were free.

        Then it is its own messages that it waits for, or a time when more is free; and nobody else
        should wait for it.
        """
        return self.held + price > self.share(max(len(self.pool.free), price))

    def share(self, free: int) -> int:
        """How many permits it may hold in all if so many are free; one at least."""
        return max(int((free + self.held) * self.pool.share), 1)

    def charge(self, count: int) -> None:
        """Account for so many permits, at least one, that were taken out of ``pool.free``.

        If the reserve is free it pays for one of them, which goes back.
        """
        taken = self.taken
        if not self.reserved:
            self._use_reserve()
            pool = self.pool
            pool.free.append(None)
            if pool.suspended:
                pool._on_release()
            if count == 1:
                return
            count -= 1
            taken = self.taken
        taken.extend((_PERMIT,) * count)

    def take(self, price: int, budget: int, *, apart: bool = False) -> Permit | None:
        """The reserve, if it is free, or else so many permits at once; None if they are not.

        The reserve, and a single permit, are the account itself, unless a permit is to be ``apart``
        from the reserve, so that one can tell them from each other.
        """
        if not self.reserved:
            self._use_reserve()
            return self
        if price > budget:
            return None
        free = self.pool.free
        pop, taken = free.pop, 0
        try:
            for taken in range(price):  # noqa: B007 - how many, should the next one be missing
                pop()
        except IndexError:
            free.extend((None,) * taken)
            return None
        if price == 1 and not apart:
            self.charge(1)
            return self
        if self.bundled is _NONE:
            self.bundled = []
        self.bundled.extend((_PERMIT,) * price)
        return _Bundle(self, price)

    def release(self) -> None:
        """Give back what one of its messages holds."""
        pool = self.pool
        kind = self.taken.pop()
        if kind == _PERMIT:
            pool.free.append(None)
            # In this order, as in Pool.release; written out to spare a call for each message.
            if pool.suspended:
                pool._on_release()
            return
        # In this order, as in Pool.release: free it, lock a deque, and look.
        if kind == _RESERVE:
            self.reserved = False
        elif kind == _LENT_TO_STREAM:
            pool.to_lend.append(None)
        pool.reserves.pop()
        if pool.suspended:
            pool.restored.append(self)
            pool._on_release()

    def lend(self, most: int) -> None:
        """Free the reserve for a message that the application waits for, so often at most.

        ``LENT`` are sure. Those beyond that come out of ``LENT_TO_STREAMS``.
        """
        pool, lent = self.pool, self.lent
        if not self.reserved or lent >= most:
            return
        kind = _LENT
        if lent >= LENT:
            try:
                pool.to_lend.pop()
            except IndexError:
                return
            kind = _LENT_TO_STREAM
        taken = self.taken
        try:
            # Other threads only take from the end: what is found is there, or gone meanwhile.
            taken[taken.index(_RESERVE)] = kind
        except (ValueError, IndexError):  # another thread was faster, and has freed it
            if kind == _LENT_TO_STREAM:
                pool.to_lend.append(None)
        else:
            self.reserved = False

    def _use_reserve(self) -> None:
        taken = self.taken
        if taken is _NONE:
            taken = self.taken = []
        self.reserved = True
        self.pool.reserves.append(None)
        # At its bottom, though another thread may have given it back a moment ago, between a look
        # at it and a permit.
        taken.insert(0, _RESERVE)


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
        account = self._account
        pool, pop = account.pool, account.bundled.pop
        # One by one through the pool it would take three times as long, more than half of what
        # copying 64 KiB takes.
        for _ in range(self.worth):
            pop()
        pool.free.extend((None,) * self.worth)
        if pool.suspended:  # in this order, as in Pool.release
            pool._on_release()
