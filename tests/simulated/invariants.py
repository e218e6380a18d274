"""Checks of the engine that must pass in every run, made from outside of it."""

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
from tofu_aio.messaging.limits import WRITE_HIGH_WATER
from tofu_aio.protocol.account import Account
from tofu_aio.protocol.binary_header import HEADER_SIZE, MAX_PART
from tofu_aio.protocol.decoder import Decoder
from tofu_aio.protocol.message import Message
from tofu_aio.protocol.pool import Pool
from tofu_aio.testing import World

CHUNK = 256 * 1024
POSTED = 50 * 1100
"""Bytes that a side may post at once: bursts of 20 messages of 1,004 bytes, and a few more."""

MESSAGE = HEADER_SIZE + 2 * MAX_PART

_NOW_AND_THEN = 20
_KINDS = frozenset({Message, Decoder, Connection})
_OFTEN = 500
"""Turns between two checks of all objects that are alive."""


class Invariants:
    """Checks that no permit is lost, that memory is bounded, and that each channel ends once.

    Args:
        world: the world that is watched.
        engines: the engines in it.
    """

    def __init__(self, world: World, engines: Iterable[tofu.Engine]) -> None:
        self._world = world
        self._engines = list(engines)
        self._pools = [engine._gate.pool for engine in self._engines]
        self._turns = 0
        self._witnesses: dict[tuple[int, int], Witness | None] = {}  # None for listeners

    def __call__(self) -> None:
        """Called after each turn of the loop."""
        for index, engine in enumerate(self._engines):
            for group in engine._groups:
                for number in reversed(group._members):  # new channels are last
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
        """Count the permits and the bytes that all living objects hold."""
        out = dict.fromkeys(map(id, self._pools), 0)
        alive: dict[Account, list[int]] = {}  # the lengths of a channel's messages
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
            assert held[id(pool)] <= bound, (
                f"{held[id(pool)]} bytes are held, and at most {bound} are allowed"
            )

    def _check_waiting(self, connection: Suspended) -> None:
        """While a channel waits for a permit, it holds at most two chunks of data."""
        chunk = min(CHUNK, self._world.network.receive_buffer)
        held, bound = connection.decoder.held, 2 * chunk + HEADER_SIZE
        assert held <= bound, f"{held} bytes wait for a permit, and at most {bound} are allowed"

    def _check_sending(self, connection: Connection) -> None:
        """The queue and the transport's buffer are bounded; ``post`` may add to them."""
        bound = 2 * WRITE_HIGH_WATER + HEADER_SIZE + MAX_PART + POSTED
        queued = connection.queue.nbytes
        assert queued <= bound, f"{queued} bytes wait to be sent, and at most {bound} are allowed"

    def check_end(self) -> None:
        """Called after everything was closed."""
        for witness in filter(None, self._witnesses.values()):
            witness.check_end()
        self.look_at_everything()
        for engine in self._engines:
            left = engine.statistics()
            assert left.pool_free == left.pool_size, f"permits were not given back: {left}"
            assert not left.reserves, f"reserves were not given back: {left}"
            assert not left.joining_bytes, f"room for long bodies was not given back: {left}"
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
    """A channel's messages hold permits for all of their bytes, except those on its reserve.

    A message that holds all permits of the pool may be longer.
    """
    pool, beside = account.pool, account.reserved + account.lent
    counted = sorted(lengths)[: max(len(lengths) - beside, 0)]
    have = account.held * pool.unit
    enough = account.held >= pool.size or sum(counted) <= have
    assert enough, f"{sum(counted)} bytes in the pool, and {account.held} permits for {have}"


class Witness(Sink):
    """A sink between a connection and its real sink, which counts calls."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._sink = connection.sink
        # A connection may be accepted, used and lost in one turn, before this exists.
        self._ends, self._closes = int(connection.closing.reported), 0
        connection.sink = self

    def deliver(self, batch: list[Message], wake_ups: WakeUps) -> None:
        assert batch, "nothing was received"
        assert not self._ends, "a message was received after the end"
        self._sink.deliver(batch, wake_ups)

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
        assert self._ends == 1, "the end was reported twice"
        self._sink.ended(error)

    def said(self) -> None:
        assert self._ends, "the last message was sent before the end was reported"
        self._sink.said()

    def closed(self) -> None:
        self._closes += 1
        assert self._closes == 1, "the close was reported twice"
        assert self._ends, "the close was reported before the end"
        self._sink.closed()

    def check_end(self) -> None:
        number = self.connection.number
        reported = self._ends, self._closes
        assert reported == (1, 1), f"channel {number}: end and close reported {reported} times"


def _check_permits(pool: Pool, found: int) -> None:
    out, reserves = pool.out, len(pool.reserves)
    assert out + reserves == found, (
        f"{out} of {pool.size} permits are out and {reserves} reserves in use, but {found} are held"
    )
