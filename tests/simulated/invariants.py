"""What must hold of the engine in every run, looked at from outside of it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterable
from typing import cast

import tofu_aio as tofu
from tofu_aio.messaging.connection.connection import Connection
from tofu_aio.messaging.connection.sink import Sink
from tofu_aio.messaging.connection.suspension import Suspended, Suspension
from tofu_aio.messaging.delivery.wake_up import WakeUps
from tofu_aio.protocol.account import Account
from tofu_aio.protocol.binary_header import HEADER_SIZE, MAX_PART
from tofu_aio.protocol.decoder import Decoder
from tofu_aio.protocol.message import Message
from tofu_aio.protocol.pool import Pool
from tofu_aio.testing import World
from tofu_aio.transport.limits import WRITE_HIGH_WATER

CHUNK = 256 * 1024
POSTED = 50 * 1100
"""Bytes of all that a side may post at once: bursts of 20 messages of 1,004 bytes, and a few."""

MESSAGE = HEADER_SIZE + 2 * MAX_PART

_NOW_AND_THEN = 20
_KINDS = frozenset({Message, Decoder, Connection})
_OFTEN = 500
"""Turns between two looks at everything that is alive."""


class Invariants:
    """Conservation of permits, the memory bound, and exactly one end and one close of each channel.

    Args:
        world: that is watched.
        engines: in it.
    """

    def __init__(self, world: World, engines: Iterable[tofu.Engine]) -> None:
        self._world = world
        self._engines = list(engines)
        self._pools = [engine._gate.pool for engine in self._engines]
        self._turns = 0
        self._witnesses: dict[tuple[int, int], Witness | None] = {}  # of listeners there is none

    def __call__(self) -> None:
        """After each turn."""
        for index, engine in enumerate(self._engines):
            for group in engine._groups:
                for number in reversed(group._members):  # the new ones are the last
                    if (index, number) in self._witnesses:
                        break
                    connection = getattr(group._members[number], "_connection", None)
                    self._witnesses[index, number] = connection and Witness(connection)
        self._turns += 1
        for pool in self._pools:
            for reader in pool.waiters:
                self._check_waiting(cast("Suspension", reader)._connection)
        if not self._turns % _NOW_AND_THEN:
            for witness in filter(None, self._witnesses.values()):
                self._check_sending(witness.connection)
        if not self._turns % _OFTEN:
            self.look_at_everything()
            for link in self._world.links:
                link.check()

    def look_at_everything(self) -> None:
        """Who holds a permit, and how much is buffered, of all objects that are alive."""
        out = dict.fromkeys(map(id, self._pools), 0)
        alive: dict[Account, list[int]] = {}  # lengths of what a channel's messages hold it for
        held = dict.fromkeys(map(id, self._pools), 0)
        channels = dict.fromkeys(map(id, self._pools), 0)
        for thing in [thing for thing in gc.get_objects() if type(thing) in _KINDS]:
            kind = type(thing)
            if kind is not Connection:
                permit = getattr(thing, "_permit", None)
                if permit is not None and id(permit.pool) in out:
                    out[id(permit.pool)] += permit.worth
                    if kind is Message:
                        held[id(permit.pool)] += len(thing.body)
                        account = getattr(permit, "_account", permit)
                        if isinstance(account, Account):
                            alive.setdefault(account, []).append(_length(thing))
            elif id(thing.gate.pool) in out:
                key = id(thing.gate.pool)
                channels[key] += 1
                held[key] += thing.decoder.held
                for permit in thing.queue.carried:
                    out[id(permit.pool)] += permit.worth
        for account, lengths in alive.items():
            _check_worth(account, lengths)
        for pool, engine in zip(self._pools, self._engines, strict=True):
            _check_permits(pool, out[id(pool)])
            messages = pool.size * min(pool.unit, MESSAGE) + engine._gate.joining.used
            bound = messages + channels[id(pool)] * (2 * MESSAGE + 2 * CHUNK)
            bound += len(pool.reserves) * MESSAGE
            assert held[id(pool)] <= bound, f"{held[id(pool)]} bytes are held, and {bound} may be"

    def _check_waiting(self, connection: Suspended) -> None:
        """Two chunks at most, however much more comes while it waits for a permit."""
        chunk = min(CHUNK, self._world.network.receive_buffer)
        held, bound = connection.decoder.held, 2 * chunk + HEADER_SIZE
        assert held <= bound, f"{held} bytes wait for a permit, and {bound} may"

    def _check_sending(self, connection: Connection) -> None:
        """What is queued, and what the transport has; ``post`` adds what who posts is asked to."""
        bound = 2 * WRITE_HIGH_WATER + HEADER_SIZE + MAX_PART + POSTED
        queued = connection.queue.nbytes
        assert queued <= bound, f"{queued} bytes wait to be sent, and {bound} may"

    def check_end(self) -> None:
        """After all is closed."""
        for witness in filter(None, self._witnesses.values()):
            witness.check_end()
        self.look_at_everything()
        for engine in self._engines:
            left = engine.statistics()
            assert left.pool_free == left.pool_size, f"permits never came back: {left}"
            assert not left.reserves, f"reserves never came back: {left}"
            assert not left.joining_bytes, f"room for long bodies never came back: {left}"
            assert (left.channels, left.waiting) == (0, 0), f"left behind: {left}"
        assert not self._world.open_sockets, f"{self._world.open_sockets} sockets are left open"
        loop = asyncio.get_running_loop()
        tasks = [t.get_name() for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        assert not tasks, f"tasks are left: {tasks}"
        timers = [repr(t) for t in loop._scheduled if not t.cancelled()]  # type: ignore[attr-defined]
        assert not timers, f"timers are left: {timers}"


def _length(message: Message) -> int:
    return HEADER_SIZE + len(message.headers.encode()) + len(message.body)


def _check_worth(account: Account, lengths: list[int]) -> None:
    """A channel's messages have permits for all of their bytes, but for those on its reserve.

    And unless one of them has all permits that there are.
    """
    pool, beside = account.pool, account.reserved + account.lent
    counted = sorted(lengths)[: max(len(lengths) - beside, 0)]
    have = account.held * pool.unit
    enough = account.held >= pool.size or sum(counted) <= have
    assert enough, f"{sum(counted)} bytes in the pool, and {account.held} permits for {have}"


class Witness(Sink):
    """Stands between a connection and who takes what it receives, and counts."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._sink = connection.sink
        # A connection may be accepted, heard and lost in one turn, before it is stood beside.
        self._ends, self._closes = int(connection.closing.reported), 0
        connection.sink = self

    def received(self, batch: list[Message], wake_ups: WakeUps) -> None:
        assert batch, "nothing was received"
        assert not self._ends, "a message came after the end"
        self._sink.deliver(batch, answered)

    def accepted(self) -> None:
        self._sink.accepted()

    @property
    def waits(self) -> int:
        return self._sink.waits

    def lost(self) -> None:
        self._sink.lost()

    def suspended(self) -> None:
        self._sink.suspended()

    def ended(self, error: tofu.TofuError) -> None:
        self._ends += 1
        assert self._ends == 1, "the end was told twice"
        self._sink.ended(error)

    def said(self) -> None:
        assert self._ends, "the last word left before the end was told"
        self._sink.said()

    def closed(self) -> None:
        self._closes += 1
        assert self._closes == 1, "closing was told twice"
        assert self._ends, "closing was told before the end"
        self._sink.closed()

    def check_end(self) -> None:
        number = self.connection.number
        told = self._ends, self._closes
        assert told == (1, 1), f"channel {number} was told its end and its close {told} times"


def _check_permits(pool: Pool, found: int) -> None:
    out, reserves = pool.out, len(pool.reserves)
    assert out + reserves == found, (
        f"{out} of {pool.size} permits are out and {reserves} reserves in use, and {found} are held"
    )
