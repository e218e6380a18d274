"""What the received messages of a channel hold: permits of the pool and the channel's reserve."""

from __future__ import annotations

from typing import Final

from ..core import AccountFields, fast
from .pool import Permit, Pool

LENT: Final = 4
"""Messages of a channel that the application may keep while it waits for the next one, whatever
other channels hold: the one that its loop is at, and a few that it wants later."""

LENT_A_STREAM: Final = 2
"""Additional messages for each request that is answered or received in parts: its first part, which
has the headers, and the part that the application's loop is at."""

PERMIT: Final = 0
_RESERVE: Final = 1
_LENT: Final = 2
_LENT_TO_STREAM: Final = 3
"""What the release of one message gives back: a permit of the pool, the channel's reserve, or what
was lent to the application, in general or for a request in parts."""

NOTHING_TAKEN: Final[list[int]] = []
"""Shared by all accounts that have never taken anything: a list of its own would double the size of
an idle channel's account."""


class Account(AccountFields):
    """What the messages of a channel hold. It is itself the permit of each message that takes one.

    The reserve is the first thing that a channel takes and the last that it gives back, in whatever
    order its messages are released. So of ``n`` short messages alive, ``n - 1`` hold permits of the
    pool, and an application that keeps only the last message of each channel holds none.

    A loop ``async for message in channel`` keeps its last message until it has the next one, and
    a program may keep a few others besides. While it waits for the next message, those that it
    keeps can be *lent* to it. That frees the reserve, so that the next message can always arrive.
    The number of messages lent is limited, see ``lend``. In the statistics a message that was lent
    belongs to the application, not to the engine.

    Args:
        pool: where the permits come from.

    Attributes:
        pool: as given.
        reserved: whether the reserve is in use.
        taken: one entry for each message that holds a single permit or the reserve, or that was
            lent. The entries for the reserve and for what was lent come before all others.
            ``release`` removes entries at the end, with ``pop``, which is atomic.
        bundled: one entry for each permit that long messages hold.
    """

    __slots__ = ()

    worth = 1

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.reserved = False
        self.taken = self.bundled = NOTHING_TAKEN  # replaced by a list once something is taken

    @property
    def held(self) -> int:
        """The number of permits that the channel's messages hold."""
        return len(self.taken) - self._beside_the_pool() + len(self.bundled)

    @property
    def lent(self) -> int:
        """The number of messages that were lent to the application."""
        return self._beside_the_pool() - self.reserved

    def _beside_the_pool(self) -> int:
        """The number of messages that hold no permit: one on the reserve, and those lent."""
        # They come first and are few. Those that hold permits may be many thousands.
        count = 0
        for kind in self.taken:
            if kind == PERMIT:
                break
            count += 1
        return count

    @property
    def worth_of_all(self) -> int:
        """The number of permits held, plus the reserve, plus the messages lent."""
        return len(self.taken) + len(self.bundled)

    def budget(self) -> int:
        """The number of permits that the channel may take now: 0 while other channels wait."""
        pool = self.pool
        if pool.waiters:
            return 0
        free, held = len(pool.free), self.held
        if not held and free:
            return int(free * pool.share) or 1
        return int((free + held) * pool.share) - held

    def over_share(self, price: int) -> bool:
        """Whether ``price`` more permits would exceed the channel's share, if just those were free.

        In that case the channel waits for its own messages to be released, or until more permits
        are free, and no other channel should wait behind it.
        """
        return self.held + price > self.share(max(len(self.pool.free), price))

    def share(self, free: int) -> int:
        """The number of permits the channel may hold while ``free`` are free; at least 1."""
        return max(int((free + self.held) * self.pool.share), 1)

    def charge(self, count: int) -> None:
        """Record ``count`` permits, at least 1, that were already taken out of ``pool.free``.

        If the reserve is free, it replaces one of them, which goes back to the pool.
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
        taken.extend((PERMIT,) * count)

    def acquire(self, price: int, budget: int, *, apart: bool = False) -> Permit | None:
        """Take the reserve if it is free, or else ``price`` permits of the pool, all or none.

        Args:
            price: the number of permits.
            budget: the number that may be taken, see ``budget``.
            apart: return a single permit as an object of its own, so that it can be told from the
                reserve.

        Returns:
            What was taken, or None if the permits are not free or exceed the budget. The reserve
            and a single permit are the account itself.
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
        if self.bundled is NOTHING_TAKEN:
            self.bundled = []
        self.bundled.extend((PERMIT,) * price)
        return _Bundle(self, price)

    @fast
    def release(self) -> None:
        """Give back what one message holds. ``Message.__del__`` does the same."""
        kind = self.taken.pop()
        if kind == PERMIT:
            self.pool.release()
        else:
            self.restore(kind)

    def restore(self, kind: int) -> None:
        """Give back the reserve, or what was lent, whose entry was removed from ``taken``."""
        pool = self.pool
        # The order of Pool.release: free the reserve, lock a deque, look for waiting channels.
        if kind == _RESERVE:
            self.reserved = False
        elif kind == _LENT_TO_STREAM:
            pool.to_lend.append(None)
        pool.reserves.pop()
        if pool.suspended:
            pool.restored.append(self)
            pool._on_release()

    def lend(self, most: int) -> None:
        """Free the reserve for a message that the application waits for.

        The message on the reserve becomes one that is lent. At most ``most`` messages are lent at
        a time. The first ``LENT`` of them are guaranteed; the others count against
        ``LENT_TO_STREAMS``, and nothing happens once those are used up.
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
            # Other threads only remove entries at the end: the entry is at the index that was
            # found, or it is gone.
            taken[taken.index(_RESERVE)] = kind
        except (ValueError, IndexError):  # another thread has released the message meanwhile
            if kind == _LENT_TO_STREAM:
                pool.to_lend.append(None)
        else:
            self.reserved = False

    def _use_reserve(self) -> None:
        taken = self.taken
        if taken is NOTHING_TAKEN:
            taken = self.taken = []
        self.reserved = True
        self.pool.reserves.append(None)
        # At the start, so that it comes back last. Between a look at the reserve and the taking of
        # a permit another thread may have given the reserve back, so there may be entries.
        taken.insert(0, _RESERVE)


class _Bundle:
    """The permits of a long message."""

    __slots__ = ("_account", "worth")

    def __init__(self, account: Account, worth: int) -> None:
        self._account = account
        self.worth = worth

    @property
    def pool(self) -> Pool:
        """The pool that the permits belong to."""
        return self._account.pool

    def release(self) -> None:
        """Give all permits back, then look for waiting channels."""
        account = self._account
        pool, pop = account.pool, account.bundled.pop
        # Releasing them one by one through the pool would take three times as long, which is more
        # than half of the time that copying 64 KiB takes.
        for _ in range(self.worth):
            pop()
        pool.free.extend((None,) * self.worth)
        if pool.suspended:  # the order is that of Pool.release
            pool._on_release()
