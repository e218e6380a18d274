"""Which connections to a listener become channels, and when."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ...protocol.address import Address
from ...protocol.errors import ChannelClosed, ProtocolViolation, TofuError
from ...protocol.status import Status
from ...rare_warnings import RareWarnings
from ...transport.stream_protocol import StreamProtocol
from ...transport.tls import as_it_is
from ..connection.connection import Connection
from ..limits import (
    EVICTION_TIME,
    LEAVING_CHANNELS,
    PENDING_CHANNELS,
    SLOW_HELLO,
    WAITING_CONNECTIONS,
)
from .bounds import NO_BOUNDS, Bounds
from .connection_counts import NOT_COUNTED, ConnectionCounts, CountedConnection
from .eviction import evict_silent
from .first_bytes import client_hello_bytes, hello_bytes
from .idle_watch import IdleWatch
from .pending_connection import PendingConnection

logger = logging.getLogger("tofu_aio.listener")


class Admission:
    """The steps from a connection to an open channel, each of them limited in number and time.

    1. A pending connection is *silent* until its Hello has arrived, or as much of it as is read
       ahead. It costs little more than a file descriptor.
    2. Then it is *waiting* until there is a free slot.
    3. With a slot it has a channel number, and is *handshaking* until its Hello is complete. This
       takes time if the Hello is large, or if TLS comes first.
    4. It is *undecided* from step 3 on, until the application accepts the channel.
    5. Then it is *open*.
    6. At the end it may be *lingering*: nothing is sent any more, and the peer has to close.

    A connection that does not proceed in time is dropped. While others are waiting, a handshake
    that is slow is dropped earlier, and open channels that have been silent too long are evicted.

    Args:
        address: of the listener, for the log.
        admit: makes the connection of a new channel.
        layer: puts TLS between a connection and its socket, if the listener uses TLS.
        refused: called for each connection that is refused.
        bounds: the limits.
    """

    def __init__(
        self,
        address: Address,
        admit: Callable[[], Connection],
        layer: Callable[[StreamProtocol], StreamProtocol],
        refused: Callable[[], None],
        bounds: Bounds = NO_BOUNDS,
    ) -> None:
        self._address = address
        self._hello_timeout = bounds.hello_timeout
        self._admit = admit
        self._layer = layer
        self._first_bytes = hello_bytes if layer is as_it_is else client_hello_bytes
        self._count_refusal = refused
        self._max_channels = bounds.max_channels
        self._heartbeat = bounds.heartbeat
        self._loop = asyncio.get_running_loop()
        self._warnings = RareWarnings(logger, self._loop.time)
        self._closed = False
        self._filling = False  # a connection that gets a slot may end, and free it, at that moment
        self._counts = ConnectionCounts(bounds.max_connections_per_address)
        self._counted: dict[Connection, CountedConnection] = {}  # those that are counted
        self._changed: Callable[[], object] = int  # for an acceptor that needs to know
        # All of these are in the order of arrival.
        self._silent: dict[PendingConnection, asyncio.TimerHandle] = {}
        self._waiting: dict[PendingConnection, None] = {}
        self._undecided: set[Connection] = set()
        self._handshaking: dict[Connection, asyncio.TimerHandle] = {}
        self._slow: dict[Connection, None] = {}  # those handshaking for longer than SLOW_HELLO
        self._open: set[Connection] = set()  # only if there is a maximum
        self._lingering: dict[Connection, None] = {}
        self._idle = None if bounds.idle_timeout is None else IdleWatch(bounds.idle_timeout)
        # Open channels that were evicted and still have bytes to send, and when they were evicted.
        self._evicted: dict[Connection, float] = {}
        self._too_few_silent = False  # the last check found fewer channels to evict than wanted
        self._look_again: asyncio.TimerHandle | None = None  # the next check

    def close(self) -> None:
        """Drop all connections whose Hello has not arrived."""
        self._closed = True
        self._stop_looking()
        for pending in [*self._silent, *self._waiting]:
            self._drop(pending)
        for connection in list(self._handshaking):
            connection.closing.abort(ChannelClosed("the listener was closed"))

    # --- called by the acceptor -----------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether a further connection would have to wait for one to end."""
        pending = len(self._silent) + len(self._waiting)
        channels = len(self._undecided) + len(self._open)
        return self._max_channels is not None and pending + channels >= self._max_channels

    def watch(self, changed: Callable[[], object]) -> None:
        """Call a function whenever ``full`` may have changed."""
        self._changed = changed

    def expect(
        self, address: Address | None, taken_over: Callable[[], object]
    ) -> PendingConnection | None:
        """Count a connection that is being accepted; None if its address has too many already.

        Args:
            address: of the peer.
            taken_over: called when a channel's connection has the transport.
        """
        counted = self._counts.begin(address)
        if counted is None:
            host = getattr(address, "host", address)
            text = f"{host} has as many connections as max_connections_per_address allows"
            self._refuse("address", text)
            return None
        return PendingConnection(self, counted, address, taken_over)

    # --- called for pending connections ---------------------------------------------------

    def connected(self, pending: PendingConnection) -> None:
        """Handle a new pending connection."""
        if self._closed or not self._has_room():
            pending.transport.abort()
        else:
            self._silent[pending] = self._loop.call_later(
                self._hello_timeout, self._drop_silent, pending
            )
            self._changed()

    def bytes_received(self, pending: PendingConnection) -> None:
        """Handle received bytes, which may be enough for a slot."""
        if pending not in self._silent:
            return  # it is waiting already, or was dropped
        wanted = self._first_bytes(pending.early)
        if wanted is None and not self._has_slot():
            logger.info("%s: a connection was refused: it sent no Hello", self._address)
            self._drop(pending)
        elif wanted is None or len(pending.early) >= wanted:
            # What is not a Hello gets a slot, too, if one is free: the connection's own checks give
            # a better error message.
            self._wait(pending)

    def _wait(self, pending: PendingConnection) -> None:
        self._silent.pop(pending).cancel()
        self._waiting[pending] = None
        if self._slow and not self._has_slot():
            self._drop_slow(next(iter(self._slow)))
        self._fill_slots()

    def remove(self, pending: PendingConnection) -> None:
        """Forget a pending connection that was lost, or is being dropped."""
        self._waiting.pop(pending, None)
        deadline = self._silent.pop(pending, None)
        if deadline is not None:
            deadline.cancel()
        self._changed()

    # --- called for the connections of channels -------------------------------------------

    def hello_received(self, connection: Connection) -> None:
        """Handle a complete Hello: from now on it is the application's turn."""
        deadline = self._handshaking.pop(connection, None)
        if deadline is not None:
            deadline.cancel()
            self._slow.pop(connection, None)

    def accepted(self, connection: Connection) -> None:
        """Handle that the application has accepted the channel."""
        self._undecided.discard(connection)
        if self._max_channels is not None:
            self._open.add(connection)
        if self._idle is not None:
            self._idle.add(connection)
        self._fill_slots()

    def ended(self, connection: Connection) -> None:
        """Handle the end of a connection.

        Called again when the last bytes have been sent, and when the socket is closed.
        """
        early = connection in self._handshaking
        if early:
            self.hello_received(connection)
            if isinstance(connection.end, ProtocolViolation):
                # A client of another protocol is not worth a warning.
                logger.info("%s: a connection was refused: %s", self._address, connection.end)
        if self._idle is not None:
            self._idle.discard(connection)
        if connection.gone:
            self._lingering.pop(connection, None)
            self._counted.pop(connection, NOT_COUNTED).release()
        elif connection.closing.lingers:
            self._linger(connection)
        elif not early:
            return  # it still has bytes to send, and costs as much as an open one
        self._undecided.discard(connection)
        self._open.discard(connection)
        self._evicted.pop(connection, None)
        self._fill_slots()

    def _linger(self, connection: Connection) -> None:
        """Let a connection linger. It costs only a file descriptor, so it does not take a slot.

        If there are too many of them, close the oldest.
        """
        self._lingering[connection] = None
        if len(self._lingering) > LEAVING_CHANNELS:
            oldest = next(iter(self._lingering))
            del self._lingering[oldest]
            oldest.closing.linger_no_more()

    # --- the steps ------------------------------------------------------------------------

    def _has_room(self) -> bool:
        """Return whether there is room for one more pending connection.

        If necessary, drop the one that has been silent longest, however short that is. If it were
        protected for some time, connections that stay silent could fill all the room over and over
        again, and lock out all others. Most good clients send their Hello before that.
        """
        if len(self._silent) + len(self._waiting) < WAITING_CONNECTIONS:
            return True
        oldest = next(iter(self._silent), None)
        self._refuse("pending", f"{WAITING_CONNECTIONS} are pending already")
        if oldest is not None:
            self._drop(oldest)
        return oldest is not None

    def _has_slot(self) -> bool:
        return not self._is_full() and len(self._undecided) < PENDING_CHANNELS

    def _is_full(self) -> bool:
        """Return whether there are as many channels as allowed."""
        channels = len(self._undecided) + len(self._open)
        return self._max_channels is not None and channels >= self._max_channels

    def _evict(self) -> bool:
        """Evict silent channels for waiting connections. Return whether a slot is free already.

        If there are too few silent channels, check again later: not for each waiting connection,
        as there may be many. An evicted channel that does not close in time counts no more, and
        another one is evicted in its place.
        """
        if self._heartbeat is None or not self._is_full():
            return False
        wanted = min(len(self._waiting), PENDING_CHANNELS - len(self._undecided))
        wanted -= len(self._evicted)
        if wanted > 0 and not self._too_few_silent:
            evicted = evict_silent(self._open, wanted)
            self._too_few_silent = len(evicted) < wanted
            self._evicted |= dict.fromkeys(self._open.intersection(evicted), self._loop.time())
        if self._look_again is None and not self._has_slot():
            self._look_again = self._loop.call_later(self._heartbeat / 2, self._look)
        return self._has_slot()

    def _look(self) -> None:
        self._look_again = None
        self._too_few_silent = False
        overdue = self._loop.time() - EVICTION_TIME
        self._evicted = {each: since for each, since in self._evicted.items() if since > overdue}
        self._fill_slots()

    def _stop_looking(self) -> None:
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None

    def _fill_slots(self) -> None:
        """Give the free slots to waiting connections."""
        if self._filling:
            return  # the call that is in progress will see the slot that this one is about
        self._filling = True
        try:
            self._fill()
        finally:
            self._filling = False
        self._changed()

    def _fill(self) -> None:
        while self._waiting and (self._has_slot() or self._evict()):
            pending = next(iter(self._waiting))
            del self._waiting[pending]
            connection = self._new_channel()
            if connection is None:
                pending.transport.abort()
            else:
                if pending.counted is not NOT_COUNTED:
                    self._counted[connection] = pending.counted
                connection.peer_address = pending.address
                pending.become(self._layer(connection))

    def _new_channel(self) -> Connection | None:
        """Make a connection; None if the group is closing or there is no channel number left."""
        try:
            connection = self._admit()
        except ChannelClosed:
            return None
        except TofuError as error:
            self._refuse("number", str(error))
            return None
        self._undecided.add(connection)
        self._handshaking[connection] = self._loop.call_later(
            min(SLOW_HELLO, self._hello_timeout), self._is_slow, connection
        )
        return connection

    def _is_slow(self, connection: Connection) -> None:
        """Handle a handshake that has taken longer than ``SLOW_HELLO``."""
        rest = self._hello_timeout - SLOW_HELLO
        if self._waiting:
            self._drop_slow(connection)
        elif rest <= 0:
            self._drop_late(connection)
        else:
            self._slow[connection] = None
            self._handshaking[connection] = self._loop.call_later(rest, self._drop_late, connection)

    def _drop_slow(self, connection: Connection) -> None:
        text = f"no Hello arrived within {SLOW_HELLO:g} s, and other connections are waiting"
        _abort(connection, text)

    def _drop_late(self, connection: Connection) -> None:
        text = f"no Hello arrived within {self._hello_timeout:g} s: is it a tofu peer?"
        _abort(connection, text)

    def _drop_silent(self, pending: PendingConnection) -> None:
        logger.info(
            "%s: a connection sent no Hello within %g s: is it a tofu peer?",
            self._address,
            self._hello_timeout,
        )
        self._drop(pending)

    def _drop(self, pending: PendingConnection) -> None:
        self.remove(pending)
        pending.transport.abort()

    def _refuse(self, kind: str, reason: str) -> None:
        """Count a refused connection, and log why, at a limited rate."""
        self._count_refusal()
        self._warnings.warn(kind, f"{self._address}: a connection was refused: {reason}")


def _abort(connection: Connection, text: str) -> None:
    connection.closing.abort(ProtocolViolation(text, Status.INVALID_OP_CODE))
