"""Heartbeats: they tell a silent peer from a lost one, even if the application does not receive."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final, Literal, Protocol, TypeAlias

from ...checks import checked_seconds
from ...protocol import text_headers
from ...protocol.address import Address
from ...protocol.decoder import Decoder
from ...protocol.errors import PeerDisconnected, TofuError
from ...protocol.lifecycle import RECEIVE, SEND, State
from ...protocol.op_code import OpCode
from ...transport.tls import SEALED
from ...transport.transports import transport_to
from ..limits import HEARTBEAT, HEARTBEAT_MAX, HEARTBEAT_MIN, HEARTBEATS_MISSED
from ..threads.owner_loop import OwnerLoop
from .send_queue import SendQueue

HeartbeatOption: TypeAlias = float | Literal["auto"] | None
"""The values of ``heartbeat=``."""

_LOOKS: Final = 2
"""How often a channel is checked in each interval. A check is called a look."""

_SILENT_LOOKS: Final = HEARTBEATS_MISSED * _LOOKS
"""Looks in a row without a sign of life, after which the peer is lost."""

_DUE: Final = 0.75
"""The part of an interval after which a heartbeat is due: at the next look it would be late. It
lies between two looks, so timers may be a little early or late."""

_EARLY: Final = 1 / 16
"""The part of half an interval that a look may be early. If it is earlier, the timer is set
again."""

_MOST_SLOTS: Final = 16
"""The highest number of slots that a wheel divides its channels into."""

_SHORTEST_STEP: Final = 0.05
"""The shortest time between the looks at two slots, in seconds. With shorter steps, waking up would
cost more than the looks at the few channels of a slot."""


class Beating(Protocol):
    """A connection, with the results of the last look at it.

    Attributes:
        beat_after, beat_before: its neighbours in its slot.
        beat_arrived: bytes that had arrived from the peer. With -1 the next look counts as a sign
            of life.
        beat_sent: messages that had been sent.
        beat_sent_at: when something was last sent, as far as is known, in the loop's time.
        beat_silent: looks in a row without a sign of life.
        beat_taken: bytes that the peer had taken.
    """

    beat_after: Beating | None
    beat_arrived: int
    beat_before: Beating | None
    beat_sent: int
    beat_sent_at: float
    beat_silent: int
    beat_taken: int
    decoder: Decoder
    end: TofuError | None
    heartbeat: float | None
    queue: SendQueue

    @property
    def number(self) -> int:
        """Its local number."""

    def lose(self, error: PeerDisconnected) -> None:
        """Reset the connection, because its peer is lost."""


def interval_of(heartbeat: HeartbeatOption, where: Address) -> float | None:
    """The interval in seconds that an option asks for; None for none.

    Args:
        heartbeat: seconds; None for none; "auto" for the default of this kind of address.
        where: the channel's, or the listener's.

    Raises:
        TypeError, ValueError: as ``checked_seconds``: it is not 0.01 to 86,400 seconds.
    """
    if heartbeat == "auto":
        # On a Unix socket the kernel reports the end of the peer's process, whatever its cause.
        heartbeat = HEARTBEAT if transport_to(where).networked else None
    if heartbeat is None:
        return None
    return checked_seconds("heartbeat", heartbeat, HEARTBEAT_MIN, HEARTBEAT_MAX)


def heartbeat_header(heartbeat: HeartbeatOption, where: Address) -> dict[str, str]:
    """The header that asks for heartbeats in a Hello; empty if none are wanted.

    Raises:
        TypeError, ValueError: as ``interval_of``.
    """
    interval = interval_of(heartbeat, where)
    return {} if interval is None else {text_headers.HEARTBEAT: str(round(interval * 1000))}


def silence(connection: Beating) -> float:
    """For how many seconds the peer has neither sent nor taken anything, by its own fault.

    0 if that is shorter than the silence after which a peer that takes part in heartbeats is lost
    (unless that peer was not read). Also 0 if neither side has asked for heartbeats or one side has
    sent a Bye, because then nothing is known, and if the channel has ended.
    """
    interval = connection.heartbeat
    state = connection.decoder.state
    if interval is None or connection.end is not None or state is not State.OPEN:
        return 0.0
    looks = connection.beat_silent
    return looks * interval / _LOOKS if looks >= _SILENT_LOOKS else 0.0


class Heartbeats:
    """The heartbeats of all channels of an engine.

    All channels with the same interval share one timer. Without channels there is none.
    """

    __slots__ = ("_owner_loop", "_wheels")

    def __init__(self, owner_loop: OwnerLoop) -> None:
        self._owner_loop = owner_loop
        self._wheels: dict[float, Wheel] = {}

    def join(self, connection: Beating, interval: float) -> None:
        """Send and expect heartbeats from now on, as soon as the peer takes part."""
        wheel = self._wheels.get(interval)
        if wheel is None:
            wheel = self._wheels[interval] = Wheel(self._owner_loop, interval)
        wheel.add(connection)

    def leave(self, connection: Beating, interval: float) -> None:
        """Stop heartbeats: the socket is closed. Does nothing for a channel that did not join."""
        wheel = self._wheels.get(interval)
        if wheel is not None:
            wheel.remove(connection)
            if not wheel.slots:
                del self._wheels[interval]


class Slot:
    """Some channels of a wheel, which are checked together.

    The channels are the links of a linked list. In a set, each would take three to six times the
    memory.

    Attributes:
        due: the time of the next look, by the loop's clock.
        looked: the time of the last look; for a new slot, half an interval before ``due``.
    """

    __slots__ = ("_first", "_last", "due", "looked")

    def __init__(self, looked: float, due: float) -> None:
        self.looked = looked
        self.due = due
        self._first: Beating | None = None
        self._last: Beating | None = None

    def __bool__(self) -> bool:
        """Whether the slot has a channel."""
        return self._first is not None

    def __iter__(self) -> Iterator[Beating]:
        """The channels, in the order in which they were added."""
        connection = self._first
        while connection is not None:
            yield connection
            connection = connection.beat_after

    def add(self, connection: Beating) -> None:
        """Add a channel at the end."""
        connection.beat_before = self._last
        if self._last is None:
            self._first = connection
        else:
            self._last.beat_after = connection
        self._last = connection

    def discard(self, connection: Beating) -> None:
        """Remove a channel, if it is in this slot."""
        before, after = connection.beat_before, connection.beat_after
        if before is not None:
            before.beat_after = after
        elif self._first is connection:
            self._first = after
        else:
            return
        if after is not None:
            after.beat_before = before
        else:
            self._last = before
        connection.beat_before = connection.beat_after = None


class Wheel:
    """The channels with the same interval, and their one timer.

    It looks at each channel twice an interval. Other traffic replaces heartbeats: one is sent only
    if nothing else was sent for an interval, and any byte that arrives is a sign of life, also a
    byte of an incomplete TLS record. A look compares counters that exist anyway, so messages do not
    become more expensive.

    *Sending follows the clock*: a loop with slow callbacks looks seldom, and must send heartbeats
    all the same. *Receiving counts looks*, which are about half an interval apart: a loop that was
    blocked for long looks once afterwards, so it does not take its own delay for the silence of its
    peers.

    The channels are spread over slots by their numbers, which are random. The looks at two slots
    are some time apart, so that the heartbeats of 10,000 channels are not all sent in one turn.

    Args:
        owner_loop: the event loop, for the time and the timer.
        interval: seconds.
    """

    __slots__ = ("_at", "_owner_loop", "_period", "_size", "_step", "_timer", "interval", "slots")

    def __init__(self, owner_loop: OwnerLoop, interval: float) -> None:
        self._owner_loop = owner_loop
        self.interval = interval
        self._period = interval / _LOOKS
        self._size = max(1, min(_MOST_SLOTS, int(self._period / _SHORTEST_STEP)))
        self._step = self._period / self._size
        self.slots: dict[int, Slot] = {}  # only slots with channels
        self._timer: asyncio.TimerHandle | None = None
        self._at = 0.0  # when the timer fires

    def add(self, connection: Beating) -> None:
        """Look at this channel too, for the first time within half an interval."""
        now = self._owner_loop.time()
        connection.heartbeat = self.interval  # the same object for all channels
        key = connection.number % self._size
        slot = self.slots.get(key)
        if slot is None:
            due = now + (key + 1) * self._step
            slot = self.slots[key] = Slot(due - self._period, due)
            self._set_timer(now)
        slot.add(connection)
        connection.beat_sent, connection.beat_sent_at = connection.queue.sent, slot.looked
        connection.beat_arrived = -1  # so that the first look counts as a sign of life
        connection.beat_taken = connection.queue.taken
        connection.beat_silent = 0

    def remove(self, connection: Beating) -> None:
        """Stop looking at a channel."""
        key = connection.number % self._size
        slot = self.slots.get(key)
        if slot is None:
            return
        slot.discard(connection)
        if not slot:
            del self.slots[key]
        if not self.slots and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, now: float) -> None:
        at = min(slot.due for slot in self.slots.values())
        if self._timer is not None:
            if at >= self._at:
                return
            self._timer.cancel()
        self._at = at
        self._timer = self._owner_loop.call_later(at - now, self._tick)

    def _tick(self) -> None:
        now = self._owner_loop.time()
        # Timers may fire early: on some loops by less than a millisecond, on Windows by up to 16.
        soon = now + _EARLY * self._period
        due = [(key, slot) for key, slot in self.slots.items() if slot.due <= soon]
        for key, slot in due:
            # After the loop was blocked for long, all slots are due at once, and are spread again.
            delayed = now - slot.due > self._step
            slot.due = now + self._period + (key * self._step if delayed else 0.0)
        self._timer = None
        self._set_timer(now)
        for _, slot in due:
            before, slot.looked = slot.looked, now
            for connection in list(slot):
                self._look(connection, now, before)

    def _look(self, connection: Beating, now: float, before: float) -> None:
        if connection.end is not None:
            return
        state = connection.decoder.state
        takes_part = connection.decoder.heartbeats
        if takes_part and OpCode.SIGNAL in SEND[state]:
            self._beat_if_quiet(connection, now, before)
        # If the peer is not known to take part, its silence is only counted.
        if OpCode.SIGNAL in RECEIVE[state] and self._is_silent(connection) and takes_part:
            connection.lose(
                PeerDisconnected(
                    f"nothing came from the peer for {HEARTBEATS_MISSED * self.interval:g} s, and "
                    f"a heartbeat was due every {self.interval:g} s"
                )
            )

    def _beat_if_quiet(self, connection: Beating, now: float, before: float) -> None:
        if connection.queue.sent != connection.beat_sent:
            connection.beat_sent = connection.queue.sent
            connection.beat_sent_at = before  # the earliest possible time: just after that look
        # Queued bytes are as good a sign of life, and a heartbeat would only wait behind them.
        if now - connection.beat_sent_at >= _DUE * self.interval and not connection.queue.nbytes:
            connection.queue.send_heartbeat()
            connection.beat_sent_at = now

    def _is_silent(self, connection: Beating) -> bool:
        """Count silent looks; return whether a peer that takes part is lost by their number."""
        decoder = connection.decoder
        # The decoder gets a TLS record only when it is complete, which may take long.
        sealed = connection.queue.extra_info(SEALED)
        if isinstance(sealed, int):
            arrived = sealed
        else:
            held = decoder.held
            arrived = decoder.offset + held if held else decoder.offset
        taken = connection.queue.taken
        takes, connection.beat_taken = taken > connection.beat_taken, taken
        if decoder.starved or connection.queue.answers_stuck:
            # The connection is not read, so a full deadline begins when reading goes on.
            connection.beat_arrived = -1
            if connection.queue.paused and not takes:
                connection.beat_silent += 1  # this side waits for the peer to take bytes
                return False
        elif arrived != connection.beat_arrived:
            connection.beat_arrived = arrived
        elif decoder.heartbeats or not (takes or _has_work(connection)):
            # A peer that takes part must send heartbeats, whatever else it does.
            connection.beat_silent += 1
            return connection.beat_silent >= _SILENT_LOOKS
        connection.beat_silent = 0
        return False


def _has_work(connection: Beating) -> bool:
    """Whether this side has messages of the peer, unread or in work, and no bytes wait for it."""
    account = connection.decoder.account
    return account is not None and account.worth_of_all > 0 and not connection.queue.paused
