"""Checks for a run: order and completeness of messages, and the promises of an engine's pool."""

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
    """Checks one direction of a conversation: every item arrives once, in order, and nothing else.

    Args:
        name: begins the messages of errors.

    Attributes:
        count: how many items have arrived.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._sent: deque[tuple[T, list[bool]]] = deque()  # and whether it was certainly sent
        self.count = 0

    @contextlib.contextmanager
    def sending(self, item: T) -> Iterator[None]:
        """Enclose the sending of an item. If the block raises, the item may or may not arrive."""
        sure = [False]
        self._sent.append((item, sure))
        yield
        sure[0] = True

    def withdraw(self, item: T) -> None:
        """Record that an item came back to the sender, and so must not arrive.

        Raises:
            AssertionError: it has arrived.
        """
        for entry in self._sent:
            if entry[0] == item:
                self._sent.remove(entry)
                return
        raise AssertionError(f"{self._name}: {item!r} came back, but has arrived, too")

    def received(self, item: T) -> None:
        """Record that an item has arrived.

        Raises:
            AssertionError: another item had to arrive next.
        """
        while self._sent:
            expected, sure = self._sent.popleft()
            if expected == item:
                self.count += 1
                return
            if sure[0]:
                raise AssertionError(f"{self._name}: {item!r} arrived, but {expected!r} was due")
        raise AssertionError(
            f"{self._name}: {item!r} arrived, but was not due: it was not sent, or arrived before"
        )

    def check_complete(self) -> None:
        """Check that every item has arrived.

        Raises:
            AssertionError: an item is missing.
        """
        missing = [item for item, sure in self._sent if sure[0]]
        assert not missing, (
            f"{self._name}: {len(missing)} did not arrive, among them {missing[:5]!r}"
        )


class PoolCheck:
    """Checks the promises of an engine's pool, after every turn of a world's loop.

    There are never more free permits than the pool's size. The channel that has waited longest for
    a permit gets the next one, and no other channel takes one meanwhile. No channel waits too long.
    Create the check before the engine has channels, and pass it to ``World.watch``.

    Args:
        world: the world that the engine runs in.
        engine: the engine whose pool is checked.
        longest_wait: seconds of virtual time that a channel may wait for a permit.

    Attributes:
        waited: the longest wait so far, in seconds.
        waiting: the largest number of channels that have waited at the same time.
    """

    def __init__(self, world: World, engine: Engine, longest_wait: float = math.inf) -> None:
        self._world = world
        self._pool = pool = engine._gate.pool
        self._queue = pool.waiters = _Queue(pool.waiters)
        self._permits = pool.free = _Permits(pool.free, self._queue)
        self._longest_wait = longest_wait
        self._since: dict[tuple[Suspension, int], float] = {}  # when each wait began
        self.waited = 0.0
        self.waiting = 0
        world.explain(self._describe_waiters)

    def _describe_waiters(self) -> str:
        """The channels that wait for permits, for the text of a deadlock."""
        pool = self._pool
        lines = [f"  {len(pool.free)} of {pool.size} permits are free"]
        for reader in pool.suspended.values():
            channel, account = cast("Suspension", reader).number, reader.account
            lines.append(
                f"  channel {channel} waits for {reader.needs} permits: it holds {account.held}"
                + (" and its reserve" if account.reserved else "; its reserve is free")
                + (f", and {account.lent} more that were lent" if account.lent else "")
                + ("; it is over its share" if reader.over_its_share else "")
            )
        return "\n".join(lines)

    def __call__(self) -> None:
        """Check the pool.

        Raises:
            AssertionError: the pool breaks a promise.
        """
        pool, before = self._pool, self._since
        assert 0 <= len(pool.free) <= pool.size, f"{len(pool.free)} of {pool.size} permits are free"
        self._check_order()
        if not pool.waiters and not before:
            return
        assert self._permits.taken <= self._queue.served, (
            "a permit was taken although channels wait for one"
        )
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
            f"a channel has waited {self.waited:g} s for a permit, longer than "
            f"{self._longest_wait:g} s\n{self._describe_waiters()}"
        )

    def check_end(self) -> None:
        """Check that every permit was given back, after everything was closed.

        Raises:
            AssertionError: a permit was not given back, or a channel waits for one.
        """
        if self._pool.out or self._pool.reserves:
            gc.collect()  # messages that only an exception's traceback keeps alive
        left = len(self._pool.waiters) + len(self._pool.parked)
        assert not left, f"{left} channels still wait for a permit"
        assert not self._pool.out, f"{self._pool.out} permits were not given back"
        reserves = len(self._pool.reserves)
        assert not reserves, f"{reserves} reserves were not given back"

    def _check_order(self) -> None:
        """Check that the channel that was served had waited longest."""
        if self._queue.overtaken is not None:
            served, first = cast("tuple[Suspension, Suspension]", self._queue.overtaken)
            raise AssertionError(
                f"channel {served.number} got a permit before channel {first.number}, "
                "which has waited longer"
            )


class _Queue(Waiters):
    """The channels that wait, with a record of who was served, and whether out of order.

    It looks at each channel as it is served, because within one turn of the loop a channel may be
    served, handled, and wait again.

    Attributes:
        served: how many permits the channels needed that were served.
        overtaken: a channel that was served, and one that should have been served before it.
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
        self._serve(reader)  # the last one is out of order, which `_serve` finds out
        return reader, None

    def _serve(self, reader: Reader) -> None:
        self.served += reader.needs
        first = min(self, key=self._arrival.__getitem__, default=reader)
        if self._arrival[first] < self._arrival[reader]:
            self.overtaken = reader, first


class _Permits(deque[None]):
    """The free permits.

    Attributes:
        taken: how many were taken while channels waited. Only those that are served may take one.
    """

    def __init__(self, permits: Iterable[None], queue: _Queue) -> None:
        super().__init__(permits)
        self._queue = queue
        self.taken = 0

    def pop(self) -> None:  # type: ignore[override]
        super().pop()
        if self._queue:
            self.taken += 1
