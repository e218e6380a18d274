"""What can be held of a run: order and completeness of what is sent, and an engine's pool."""

from __future__ import annotations

import contextlib
import gc
import math
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Generic, TypeVar, cast

from ..messaging.connection.suspension import Suspension
from ..messaging.engine import Engine
from ..protocol.pool import Reader, Waiters
from .world import World

T = TypeVar("T")


class Delivery(Generic[T]):
    """One direction of a conversation: everything arrives in order, once, and nothing else.

    Args:
        name: for the messages of what goes wrong.

    Attributes:
        count: how many items have arrived.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._sent: deque[tuple[T, list[bool]]] = deque()  # with whether it was sent for sure
        self.count = 0

    @contextlib.contextmanager
    def sending(self, item: T) -> Iterator[None]:
        """The block sends the item. If it raises, the item may have been sent or not."""
        sure = [False]
        self._sent.append((item, sure))
        yield
        sure[0] = True

    def withdraw(self, item: T) -> None:
        """It came back: it was not delivered, and never will be.

        Raises:
            AssertionError: it has been delivered.
        """
        for entry in self._sent:
            if entry[0] == item:
                self._sent.remove(entry)
                return
        raise AssertionError(f"{self._name}: {item!r} came back, and was delivered as well")

    def received(self, item: T) -> None:
        """It has arrived.

        Raises:
            AssertionError: it is not what had to come next.
        """
        while self._sent:
            expected, sure = self._sent.popleft()
            if expected == item:
                self.count += 1
                return
            if sure[0]:
                raise AssertionError(f"{self._name}: {item!r} came where {expected!r} was due")
        raise AssertionError(f"{self._name}: {item!r} came, and was never sent")

    def check_complete(self) -> None:
        """Hold that all has arrived that was sent.

        Raises:
            AssertionError: something is missing.
        """
        missing = [item for item, sure in self._sent if sure[0]]
        assert not missing, f"{self._name}: {missing[:5]!r} never came, {len(missing)} in all"


class PoolCheck:
    """Hold an engine to what its pool promises, after every turn of a world's loop.

    Permits free are never more than there are. Who waits longest for a permit gets the next one,
    nobody who does not wait takes one meanwhile, and nobody waits too long. Make it before the
    engine has channels, and give it to ``World.watch``.

    Args:
        world: whose time it is.
        engine: whose pool.
        longest_wait: seconds of virtual time that a channel may wait for a permit.

    Attributes:
        waited: the longest wait so far, in seconds.
        waiting: the most channels that have waited at once.
    """

    def __init__(self, world: World, engine: Engine, longest_wait: float = math.inf) -> None:
        self._world = world
        self._pool = pool = engine._gate.pool
        self._queue = pool.waiters = _Queue(pool.waiters)
        self._permits = pool.free = _Permits(pool.free, self._queue)
        self._longest_wait = longest_wait
        self._since: dict[tuple[Suspension, int], float] = {}  # each wait, and when it began
        self.waited = 0.0
        self.waiting = 0
        world.explain(self._who_waits)

    def _who_waits(self) -> str:
        """For the text of a deadlock."""
        pool = self._pool
        lines = [f"  of {pool.size} permits {len(pool.free)} are free"]
        for reader in pool.suspended.values():
            channel, account = cast("Suspension", reader).number, reader.account
            lines.append(
                f"  channel {channel} waits for {reader.needs} permits: it holds {account.held}"
                + (" and its reserve" if account.reserved else "; its reserve is free")
                + (f", {account.lent} more were lent" if account.lent else "")
                + (", and is over its share" if reader.over_its_share else "")
            )
        return "\n".join(lines)

    def __call__(self) -> None:
        """Look at the pool.

        Raises:
            AssertionError: it breaks a promise.
        """
        pool, before = self._pool, self._since
        assert 0 <= len(pool.free) <= pool.size, f"{len(pool.free)} of {pool.size} permits are free"
        self._check_order()
        if not pool.waiters and not before:
            return
        assert self._permits.past <= self._queue.served, "a permit was taken past those who wait"
        readers = [cast("Suspension", reader) for reader in pool.waiters]
        waits = dict.fromkeys((reader, reader.suspensions) for reader in readers)
        now = self._world.time
        self._since = {wait: since for wait, since in before.items() if wait in waits}
        for wait in waits:
            self._since.setdefault(wait, now)
        self.waiting = max(self.waiting, len(waits))
        if waits:
            self.waited = max(self.waited, now - min(self._since.values()))
        assert self.waited <= self._longest_wait, (
            f"a channel has waited for {self.waited:g} s\n{self._who_waits()}"
        )

    def check_end(self) -> None:
        """Hold that everything has come back, once all is closed.

        Raises:
            AssertionError: a permit is out, or somebody waits for one.
        """
        if self._pool.out or self._pool.reserves:
            gc.collect()  # messages that only an exception's traceback still knows
        left = len(self._pool.waiters) + len(self._pool.parked)
        assert not left, f"{left} channels still wait for a permit"
        assert not self._pool.out, f"{self._pool.out} permits never came back"
        reserves = len(self._pool.reserves)
        assert not reserves, f"{reserves} reserves never came back"

    def _check_order(self) -> None:
        """Who was served had waited longest."""
        if self._queue.overtaken is not None:
            served, first = cast("tuple[Suspension, Suspension]", self._queue.overtaken)
            raise AssertionError(
                f"channel {served.number} got a permit before channel {first.number}, "
                "which has waited longer"
            )


class _Queue(Waiters):
    """Who waits, how many permits those needed that were served, and who was not in his turn.

    It looks at each that is served: within a turn of the loop a channel may be served, handled and
    wait again.
    """

    def __init__(self, readers: Iterable[Reader]) -> None:
        super().__init__()
        self.served = 0
        self.overtaken: tuple[Reader, Reader] | None = None
        self._arrival: dict[Reader, int] = {}
        self._arrivals = count()
        for reader in readers:
            self.append(reader)

    def append(self, reader: Reader) -> None:
        self._arrival[reader] = next(self._arrivals)
        super().append(reader)

    def popitem(self, last: bool = True) -> tuple[Reader, None]:
        reader, _ = super().popitem(last)
        self._serve(reader)  # the last one out of turn, as will be seen
        return reader, None

    def _serve(self, reader: Reader) -> None:
        self.served += reader.needs
        first = min(self, key=self._arrival.__getitem__, default=reader)
        if self._arrival[first] < self._arrival[reader]:
            self.overtaken = reader, first


class _Permits(deque[None]):
    """The free permits, and how many were taken while somebody waits: by who is served, at most."""

    def __init__(self, permits: Iterable[None], queue: _Queue) -> None:
        super().__init__(permits)
        self._queue = queue
        self.past = 0

    def pop(self) -> None:  # type: ignore[override]
        super().pop()
        if self._queue:
            self.past += 1
