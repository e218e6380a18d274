"""Heartbeats: a silent peer is told from a lost one, whether or not anyone is receiving."""

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
"""What ``heartbeat=`` may be."""

_LOOKS: Final = 2
"""How often in each interval a channel is looked at."""

_SILENT_LOOKS: Final = HEARTBEATS_MISSED * _LOOKS
"""Looks in a row that find nothing new, after which the peer is lost."""

_DUE: Final = 0.75
"""The part of an interval after which a heartbeat is due: at the look after that it would be late.
It lies between two looks, so it does not matter if the loop calls us a little early or late."""

_EARLY: Final = 1 / 16
"""The part of half an interval that a look may come early; before that its timer is set again."""

_MOST_SLOTS: Final = 16
"""How many groups a wheel divides its channels into, at most."""

_SHORTEST_STEP: Final = 0.05
"""Seconds between the looks at two groups, at least: with more wake-ups there would be less in each
than a wake-up costs."""


class Beating(Protocol):
    """A connection, with what the last look at it found.

    Attributes:
        beat_after, beat_before: its neighbours in its slot.
        beat_arrived: bytes of the peer that had arrived; -1 makes the next look find something new.
        beat_sent: messages that had been sent.
        beat_sent_at: when something was last sent, as far as is known, in the loop's time.
        beat_silent: looks in a row that found nothing new from the peer.
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
        """Reset the connection: its peer is lost."""


def interval_of(heartbeat: HeartbeatOption, where: Address) -> float | None:
    """The interval in seconds that an option asks for; None for none.

    Args:
        heartbeat: seconds; None for none; "auto" for the default of this kind of address.
        where: the channel's, or the listener's.

    Raises:
        TypeError, ValueError: as ``checked_seconds``: it is not 0.01 to 86,400 seconds.
    """
    if heartbeat == "auto":
        # The kernel tells the end of a Unix socket's other process, whatever ends it.
        heartbeat = HEARTBEAT if transport_to(where).networked else None
    if heartbeat is None:
        return None
    return checked_seconds("heartbeat", heartbeat, HEARTBEAT_MIN, HEARTBEAT_MAX)


def heartbeat_header(heartbeat: HeartbeatOption, where: Address) -> dict[str, str]:
    """The header of a Hello that asks for heartbeats; none if none are wanted.

    Raises:
        TypeError, ValueError: as ``interval_of``.
    """
    interval = interval_of(heartbeat, where)
    return {} if interval is None else {text_headers.HEARTBEAT: str(round(interval * 1000))}


def silence(connection: Beating) -> float:
    """For how many seconds a peer has neither sent nor taken anything, by its own fault.

    0 unless that is as long as one that takes part in heartbeats may be silent: that one is lost by
    then, unless it was not read. Nothing is known of a peer where neither side has asked for
    heartbeats, or one has said Bye; and of a channel that has ended nothing is to be had.
    """
    interval = connection.heartbeat
    state = connection.decoder.state
    if interval is None or connection.end is not None or state is not State.OPEN:
        return 0.0
    looks = connection.beat_silent
    return looks * interval / _LOOKS if looks >= _SILENT_LOOKS else 0.0


class Heartbeats:
    """The heartbeats of all channels of an engine.

    There is one timer for all channels that have the same interval, and none without channels.
    """

    __slots__ = ("_owner_loop", "_wheels")

    def __init__(self, owner_loop: OwnerLoop) -> None:
        self._owner_loop = owner_loop
        self._wheels: dict[float, Wheel] = {}

    def join(self, connection: Beating, interval: float) -> None:
        """Send and expect heartbeats from now on, once the peer is known to take part."""
        wheel = self._wheels.get(interval)
        if wheel is None:
            wheel = self._wheels[interval] = Wheel(self._owner_loop, interval)
        wheel.add(connection)

    def leave(self, connection: Beating, interval: float) -> None:
        """The socket is gone. Does nothing for a channel that has not joined."""
        wheel = self._wheels.get(interval)
        if wheel is not None:
            wheel.remove(connection)
            if not wheel.slots:
                del self._wheels[interval]


class Slot:
    """Some channels of a wheel, looked at together.

    They are a linked list, and are the links themselves: in a set each would take three to six
    times the memory.

    Attributes:
        due: when they are looked at next, by the loop's clock.
        looked: when they were last. For a new one it is as long before ``due`` as ever.
    """

    __slots__ = ("_first", "_last", "due", "looked")

    def __init__(self, looked: float, due: float) -> None:
        self.looked = looked
        self.due = due
        self._first: Beating | None = None
        self._last: Beating | None = None

    def __bool__(self) -> bool:
        """Whether there is a channel."""
        return self._first is not None

    def __iter__(self) -> Iterator[Beating]:
        """The channels, in the order in which they came."""
        connection = self._first
        while connection is not None:
            yield connection
            connection = connection.beat_after

    def add(self, connection: Beating) -> None:
        """Put it at the end."""
        connection.beat_before = self._last
        if self._last is None:
            self._first = connection
        else:
            self._last.beat_after = connection
        self._last = connection

    def discard(self, connection: Beating) -> None:
        """Take it out, if it is here."""
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
    """The channels that have one interval, and one timer for them.

    It looks at each channel twice an interval. What travels anyway is as good as a heartbeat: one
    is sent only where nothing else was for an interval, and any byte that arrives is a sign of
    life, one of an unfinished TLS record too. A look compares counters that are kept anyway, so a
    message costs nothing more.

    *Sending goes by the clock*: a loop whose callbacks take long looks seldom, and must send all
    the same. *Listening goes by looks*, which are hardly closer than half an interval: a loop that
    was held up for long looks once afterwards, and does not take its own sleep for its peers'
    silence.

    The channels are spread over slots by their numbers, which are random. The looks at two slots
    are some time apart, so that the heartbeats of 10,000 channels are not all sent in one turn.

    Args:
        home: whose clock and timers it uses.
        interval: seconds.
    """

    __slots__ = ("_at", "_owner_loop", "_period", "_size", "_step", "_timer", "interval", "slots")

    def __init__(self, owner_loop: OwnerLoop, interval: float) -> None:
        self._owner_loop = owner_loop
        self.interval = interval
        self._period = interval / _LOOKS
        self._size = max(1, min(_MOST_SLOTS, int(self._period / _SHORTEST_STEP)))
        self._step = self._period / self._size
        self.slots: dict[int, Slot] = {}  # those that have members
        self._timer: asyncio.TimerHandle | None = None
        self._at = 0.0  # when the timer runs out

    def add(self, connection: Beating) -> None:
        """Look at this channel too, for the first time within half an interval."""
        now = self._owner_loop.time()
        connection.heartbeat = self.interval  # one object for all channels
        key = connection.number % self._size
        slot = self.slots.get(key)
        if slot is None:
            due = now + (key + 1) * self._step
            slot = self.slots[key] = Slot(due - self._period, due)
            self._set_timer(now)
        slot.add(connection)
        connection.beat_sent, connection.beat_sent_at = connection.queue.sent, slot.looked
        connection.beat_arrived = -1  # so the first look finds something new
        connection.beat_taken = connection.queue.taken
        connection.beat_silent = 0

    def remove(self, connection: Beating) -> None:
        """Look at it no more."""
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
        # Timers run out early: on some loops by less than a millisecond, on Windows by up to 16.
        soon = now + _EARLY * self._period
        due = [(key, slot) for key, slot in self.slots.items() if slot.due <= soon]
        for key, slot in due:
            # After a long hold-up all are due at once. They are spread again.
            held_up = now - slot.due > self._step
            slot.due = now + self._period + (key * self._step if held_up else 0.0)
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
        # Of a peer that is not known to take part it is only counted how long it is silent.
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
            connection.beat_sent_at = before  # for all we know it was just after that look
        # What still waits to be sent says as much, and another would only wait behind it.
        if now - connection.beat_sent_at >= _DUE * self.interval and not connection.queue.nbytes:
            connection.queue.send_heartbeat()
            connection.beat_sent_at = now

    def _is_silent(self, connection: Beating) -> bool:
        """Count for how many looks it is; return whether a peer that takes part is lost by that."""
        decoder = connection.decoder
        # The decoder sees nothing of a TLS record before all of it is here, which may take long.
        sealed = connection.queue.extra_info(SEALED)
        if isinstance(sealed, int):
            arrived = sealed
        else:
            held = decoder.held
            arrived = decoder.offset + held if held else decoder.offset
        taken = connection.queue.taken
        takes, connection.beat_taken = taken > connection.beat_taken, taken
        if decoder.starved or connection.queue.answers_stuck:
            # Not read: what the peer says is not heard, and a full deadline begins after that.
            connection.beat_arrived = -1
            if connection.queue.paused and not takes:
                connection.beat_silent += 1  # but it is the peer that this side waits for
                return False
        elif arrived != connection.beat_arrived:
            connection.beat_arrived = arrived
        elif decoder.heartbeats or not (takes or _owes(connection)):
            # Of a peer that takes part heartbeats are to come, whatever else it does.
            connection.beat_silent += 1
            return connection.beat_silent >= _SILENT_LOOKS
        connection.beat_silent = 0
        return False


def _owes(connection: Beating) -> bool:
    """Whether what the peer has sent is unread, or worked on, and no answer waits for it."""
    account = connection.decoder.account
    return account is not None and account.worth_of_all > 0 and not connection.queue.paused
