"""Who of those that connect to a listener becomes a channel, and when."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ...protocol.address import Address
from ...protocol.errors import ChannelClosed, ProtocolViolation, TofuError
from ...protocol.status import Status
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
from ..rare_warnings import RareWarnings
from .bounds import NO_BOUNDS, Bounds
from .connection_counts import NOT_COUNTED, ConnectionCounts, CountedConnection
from .eviction import evict_silent
from .first_bytes import client_hello_bytes, hello_bytes
from .idle_watch import IdleWatch
from .pending_connection import PendingConnection

logger = logging.getLogger("tofu_aio.listener")


class Admission:
    """The steps from a connection to an open channel, each of them bounded.

    A caller is *silent*, and little more than a descriptor, until its Hello is here, or as much of
    one as is read of who waits. Then it *knocks*, until there is a place for it: then it is a
    *stranger* with a connection and a number, and introduces itself, which takes time if its Hello
    is large, or TLS comes first. The application accepts it, and it is *open*. In the end it may be
    *leaving*: nothing travels any more, and the peer is to hang up. Who does not go on in time is
    dropped; and while somebody knocks, who is slow, or silent for too long, gives way.

    Args:
        address: of the listener, for the log.
        admit: makes the connection of a new channel.
        layer: puts TLS between a connection and its socket, if that is wanted.
        refused: told of each connection that is refused.
        bounds: on what they may cost.
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
        self._filling = False  # for who is invited may end in that moment
        self._counts = ConnectionCounts(bounds.max_connections_per_address)
        self._counted: dict[Connection, CountedConnection] = {}  # as far as they are counted
        # All in order of arrival.
        self._silent: dict[PendingConnection, asyncio.TimerHandle] = {}
        self._waiting: dict[PendingConnection, None] = {}
        self._undecided: set[Connection] = set()
        self._handshaking: dict[Connection, asyncio.TimerHandle] = {}  # strangers without a Hello
        self._slow: dict[Connection, None] = {}  # those that have had time for it
        self._open: set[Connection] = set()  # only where there is a maximum to hold
        self._lingering: dict[Connection, None] = {}
        self._idle = None if bounds.idle_timeout is None else IdleWatch(bounds.idle_timeout)
        # Of the open, those that were told and have still to be sent their last bytes, and when.
        self._evicted: dict[Connection, float] = {}
        self._too_few_silent = False  # were silent for long enough at the last look
        self._look_again: asyncio.TimerHandle | None = None  # for who may give way

    def close(self) -> None:
        """Drop everyone whose Hello has not come."""
        self._closed = True
        self._stop_looking()
        for caller in [*self._silent, *self._waiting]:
            self._drop(caller)
        for connection in list(self._handshaking):
            connection.closing.abort(ChannelClosed("the listener was closed"))

    # --- what callers tell ----------------------------------------------------------------

    def count(self, name: object) -> CountedConnection | None:
        """Count a connection that was accepted; None if its address has too many, and it must go.

        Args:
            name: of the peer, as accept(2) tells it.
        """
        counted = self._counts.begin(name)
        if counted is None:
            self._refuse(
                "an address",
                f"{name[0] if isinstance(name, tuple) else name} has as many connections as "
                "max_connections_per_address allows",
            )
        return counted

    def arrived(self, caller: PendingConnection) -> None:
        """It is connected, and silent."""
        if self._closed or not self._has_room():
            caller.transport.abort()
        else:
            self._silent[caller] = self._loop.call_later(
                self._hello_timeout, self._drop_silent, caller
            )

    def spoke(self, caller: PendingConnection) -> None:
        """It has said something, maybe enough to knock."""
        if caller not in self._silent:
            return  # it knocks already, or was dropped
        wanted = self._first_bytes(caller.early)
        if wanted is None and not self._has_slot():
            logger.info("%s: a connection was refused: it said no Hello", self._address)
            self._drop(caller)
        elif wanted is None or len(caller.early) >= wanted:
            # Where a place is free the connection itself finds out what is wrong, and says it best.
            self._wait(caller)

    def _wait(self, caller: PendingConnection) -> None:
        self._silent.pop(caller).cancel()
        self._waiting[caller] = None
        if self._slow and not self._has_slot():
            self._drop_slow(next(iter(self._slow)))
        self._fill_slots()

    def gone(self, caller: PendingConnection) -> None:
        """It has left, or must."""
        self._waiting.pop(caller, None)
        deadline = self._silent.pop(caller, None)
        if deadline is not None:
            deadline.cancel()

    # --- what connections tell ------------------------------------------------------------

    def introduced(self, connection: Connection) -> None:
        """The stranger's Hello is here: from now on the time is the application's."""
        deadline = self._handshaking.pop(connection, None)
        if deadline is not None:
            deadline.cancel()
            self._slow.pop(connection, None)

    def accepted(self, connection: Connection) -> None:
        """It is a stranger no more."""
        self._undecided.discard(connection)
        if self._max_channels is not None:
            self._open.add(connection)
        if self._idle is not None:
            self._idle.add(connection)
        self._fill_slots()

    def left(self, connection: Connection) -> None:
        """It has ended. Told again when our last word has left, and when its socket is gone."""
        early = connection in self._handshaking
        if early:
            self.introduced(connection)
            if isinstance(connection.end, ProtocolViolation):
                # Who knocks at the wrong door is no news for those who run the service.
                logger.info("%s: a connection was refused: %s", self._address, connection.end)
        if self._idle is not None:
            self._idle.discard(connection)
        if connection.gone:
            self._lingering.pop(connection, None)
            self._counted.pop(connection, NOT_COUNTED).release()
        elif connection.closing.lingers:
            self._linger(connection)
        elif not early:
            return  # something of it is still to be sent, which costs as much as when it was open
        self._undecided.discard(connection)
        self._open.discard(connection)
        self._evicted.pop(connection, None)
        self._fill_slots()

    def _linger(self, connection: Connection) -> None:
        """It costs a descriptor and no more: so it takes no place, unless there are too many."""
        self._lingering[connection] = None
        if len(self._lingering) > LEAVING_CHANNELS:
            oldest = next(iter(self._lingering))
            del self._lingering[oldest]
            oldest.closing.linger_no_more()

    # --- the steps ------------------------------------------------------------------------

    def _has_room(self) -> bool:
        """Whether one more caller may wait, maybe in place of who has been silent longest.

        However short that is: if it were protected, as many as may wait could come anew all the
        time, and nobody else would get in. Who means to speak has mostly done so by then.
        """
        if len(self._silent) + len(self._waiting) < WAITING_CONNECTIONS:
            return True
        oldest = next(iter(self._silent), None)
        self._refuse("a crowd", f"{WAITING_CONNECTIONS} wait already")
        if oldest is not None:
            self._drop(oldest)
        return oldest is not None

    def _has_slot(self) -> bool:
        return not self._is_full() and len(self._undecided) < PENDING_CHANNELS

    def _is_full(self) -> bool:
        """Whether there are as many channels as there may be."""
        channels = len(self._undecided) + len(self._open)
        return self._max_channels is not None and channels >= self._max_channels

    def _evict(self) -> bool:
        """Have open channels give way to those that knock; whether any has left its place already.

        If too few may it is looked again in a while: not for each that knocks, for they may be
        many. So it is for those that were told and do not leave in time: others do in their stead.
        """
        if self._heartbeat is None or not self._is_full():
            return False
        wanted = min(len(self._waiting), PENDING_CHANNELS - len(self._undecided))
        wanted -= len(self._evicted)
        if wanted > 0 and not self._too_few_silent:
            yielding = evict_silent(self._open, wanted)
            self._too_few_silent = len(yielding) < wanted
            self._evicted |= dict.fromkeys(self._open.intersection(yielding), self._loop.time())
        if self._look_again is None and not self._has_slot():
            self._look_again = self._loop.call_later(self._heartbeat / 2, self._look)
        return self._has_slot()

    def _look(self) -> None:
        self._look_again = None
        self._too_few_silent = False
        overdue = self._loop.time() - EVICTION_TIME
        self._evicted = {each: told for each, told in self._evicted.items() if told > overdue}
        self._fill_slots()

    def _stop_looking(self) -> None:
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None

    def _fill_slots(self) -> None:
        """Give those that knock the places there are."""
        if self._filling:
            return  # whoever is at it will see the place that this is about
        self._filling = True
        try:
            self._fill()
        finally:
            self._filling = False

    def _fill(self) -> None:
        while self._waiting and (self._has_slot() or self._evict()):
            caller = next(iter(self._waiting))
            del self._waiting[caller]
            connection = self._new_channel()
            if connection is None:
                caller.transport.abort()
            else:
                if caller.counted is not NOT_COUNTED:
                    self._counted[connection] = caller.counted
                connection.peer_address = caller.address
                caller.become(self._layer(connection))

    def _new_channel(self) -> Connection | None:
        """A connection for one more, unless the group is closing or its numbers have run out."""
        try:
            connection = self._admit()
        except ChannelClosed:
            return None
        except TofuError as error:
            self._refuse("a number", str(error))
            return None
        self._undecided.add(connection)
        self._handshaking[connection] = self._loop.call_later(
            min(SLOW_HELLO, self._hello_timeout), self._is_slow, connection
        )
        return connection

    def _is_slow(self, connection: Connection) -> None:
        """The stranger's Hello is not here, though it could be."""
        rest = self._hello_timeout - SLOW_HELLO
        if self._waiting:
            self._drop_slow(connection)
        elif rest <= 0:
            self._drop_late(connection)
        else:
            self._slow[connection] = None
            self._handshaking[connection] = self._loop.call_later(rest, self._drop_late, connection)

    def _drop_slow(self, connection: Connection) -> None:
        _dismiss(connection, f"no Hello came within {SLOW_HELLO:g} s, and others wait")

    def _drop_late(self, connection: Connection) -> None:
        text = f"no Hello came within {self._hello_timeout:g} s: is it a tofu peer?"
        _dismiss(connection, text)

    def _drop_silent(self, caller: PendingConnection) -> None:
        logger.info(
            "%s: a connection said no Hello within %g s: is it a tofu peer?",
            self._address,
            self._hello_timeout,
        )
        self._drop(caller)

    def _drop(self, caller: PendingConnection) -> None:
        self.gone(caller)
        caller.transport.abort()

    def _refuse(self, kind: str, reason: str) -> None:
        """Count a connection that is refused, and tell why; who refuses has better things to do."""
        self._count_refusal()
        self._warnings.warn(kind, f"{self._address}: a connection was refused: {reason}")


def _dismiss(connection: Connection, text: str) -> None:
    connection.closing.abort(ProtocolViolation(text, Status.INVALID_OP_CODE))
