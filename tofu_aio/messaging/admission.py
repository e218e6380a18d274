"""Who of those that connect to a listener becomes a channel, and when."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
from collections.abc import Callable
from typing import cast

from ..protocol.address import Address
from ..protocol.errors import ChannelClosed, ProtocolViolation, TofuError
from ..protocol.status import Status
from .connection import Connection
from .limits import (
    EARLY_BYTES,
    PENDING_CHANNELS,
    REFUSALS_QUIET,
    SILENCE,
    WAITING_CONNECTIONS,
)
from .upper import UpperProtocol
from .windows import send_at_once

logger = logging.getLogger(__name__)


class Admission:
    """The steps from a connection to an open channel, each of them bounded.

    A caller is *silent*, and no more than a descriptor, until its first bytes come. Then it
    *knocks*, until there is a place for it: then it is a *stranger* with a connection and a number,
    and introduces itself. The application accepts it, and it is *open*. Who does not go on in time
    is dropped; and while somebody knocks, who is slow gives way to him.

    Args:
        address: of the listener, for the log.
        hello_timeout: seconds that a caller may be silent, and a stranger without its Hello.
        admit: makes the connection of a new channel.
        layer: puts TLS between a connection and its socket, if that is wanted.
        max_channels: how many strangers and open channels there may be; None for any number.
    """

    def __init__(
        self,
        address: Address,
        hello_timeout: float,
        admit: Callable[[], Connection],
        layer: Callable[[UpperProtocol], UpperProtocol],
        max_channels: int | None,
    ) -> None:
        self._address = address
        self._hello_timeout = hello_timeout
        self._admit = admit
        self._layer = layer
        self._max_channels = max_channels
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._refusing = False  # and it was logged
        self._told_refusal = -math.inf
        self._inviting = False  # for who is invited may end in that moment
        # All in order of arrival.
        self._silent: dict[Caller, asyncio.TimerHandle] = {}
        self._knocking: dict[Caller, None] = {}
        self._strangers: set[Connection] = set()
        self._introducing: dict[Connection, asyncio.TimerHandle] = {}  # strangers without a Hello
        self._dawdling: dict[Connection, None] = {}  # those that have had time for it
        self._open: set[Connection] = set()  # only where there is a maximum to hold

    def close(self) -> None:
        """Drop everyone whose Hello has not come."""
        self._closed = True
        for caller in [*self._silent, *self._knocking]:
            self._drop(caller)
        for connection in list(self._introducing):
            connection.abort(ChannelClosed("the listener was closed"))

    # --- what callers tell ----------------------------------------------------------------

    def arrived(self, caller: Caller) -> None:
        """It is connected, and silent."""
        if self._closed or not self._has_room():
            caller.transport.abort()
        else:
            self._silent[caller] = self._loop.call_later(
                self._hello_timeout, self._drop_silent, caller
            )

    def spoke(self, caller: Caller) -> None:
        """It has sent something."""
        deadline = self._silent.pop(caller, None)
        if deadline is None:
            return  # it knocks already, or was dropped
        deadline.cancel()
        self._knocking[caller] = None
        if self._dawdling and not self._has_place():
            self._yield(next(iter(self._dawdling)))
        self._invite()

    def gone(self, caller: Caller) -> None:
        """It has left, or must."""
        self._knocking.pop(caller, None)
        deadline = self._silent.pop(caller, None)
        if deadline is not None:
            deadline.cancel()

    # --- what connections tell ------------------------------------------------------------

    def introduced(self, connection: Connection) -> None:
        """The stranger's Hello is here: from now on the time is the application's."""
        deadline = self._introducing.pop(connection, None)
        if deadline is not None:
            deadline.cancel()
            self._dawdling.pop(connection, None)

    def accepted(self, connection: Connection) -> None:
        """It is a stranger no more."""
        self._strangers.discard(connection)
        if self._max_channels is not None:
            self._open.add(connection)
        self._invite()

    def left(self, connection: Connection) -> None:
        """It has ended before its Hello, or its socket is gone. Told again, it does nothing."""
        if connection in self._introducing:
            self.introduced(connection)
            if isinstance(connection.end, ProtocolViolation):
                # Who knocks at the wrong door is no news for those who run the service.
                logger.info("%s: a connection was refused: %s", self._address, connection.end)
        self._strangers.discard(connection)
        self._open.discard(connection)
        self._invite()

    # --- the steps ------------------------------------------------------------------------

    def _has_room(self) -> bool:
        """Whether one more caller may wait, maybe in place of who was silent too long."""
        if len(self._silent) + len(self._knocking) < WAITING_CONNECTIONS:
            return True
        oldest = next(iter(self._silent), None)
        if oldest is not None and oldest.since + SILENCE <= self._loop.time():
            self._drop(oldest)
            return True
        self._tell_refusal(f"{WAITING_CONNECTIONS} wait already")
        return False

    def _has_place(self) -> bool:
        strangers = len(self._strangers)
        if self._max_channels is not None and strangers + len(self._open) >= self._max_channels:
            return False
        return strangers < PENDING_CHANNELS

    def _invite(self) -> None:
        """Give those that knock the places there are."""
        if self._inviting:
            return  # whoever is at it will see the place that this is about
        self._inviting = True
        try:
            self._invite_all()
        finally:
            self._inviting = False

    def _invite_all(self) -> None:
        while self._knocking and self._has_place():
            caller = next(iter(self._knocking))
            del self._knocking[caller]
            connection = self._new_stranger()
            if connection is None:
                caller.transport.abort()
            else:
                connection.peer_address = caller.address
                caller.become(self._layer(connection))

    def _new_stranger(self) -> Connection | None:
        """A connection for one more, unless the group is closing or its numbers have run out."""
        try:
            connection = self._admit()
        except ChannelClosed:
            return None
        except TofuError as error:
            self._tell_refusal(str(error))
            return None
        if self._loop.time() >= self._told_refusal + REFUSALS_QUIET:
            self._refusing = False
        self._strangers.add(connection)
        self._introducing[connection] = self._loop.call_later(
            min(SILENCE, self._hello_timeout), self._dawdles, connection
        )
        return connection

    def _dawdles(self, connection: Connection) -> None:
        """The stranger's Hello is not here, though it could be."""
        rest = self._hello_timeout - SILENCE
        if self._knocking:
            self._yield(connection)
        elif rest <= 0:
            self._too_late(connection)
        else:
            self._dawdling[connection] = None
            self._introducing[connection] = self._loop.call_later(rest, self._too_late, connection)

    def _yield(self, connection: Connection) -> None:
        _dismiss(connection, f"no Hello came within {SILENCE:g} s, and others wait")

    def _too_late(self, connection: Connection) -> None:
        text = f"no Hello came within {self._hello_timeout:g} s: is it a tofu peer?"
        _dismiss(connection, text)

    def _drop_silent(self, caller: Caller) -> None:
        logger.info(
            "%s: a connection was silent for %g s: is it a tofu peer?",
            self._address,
            self._hello_timeout,
        )
        self._drop(caller)

    def _drop(self, caller: Caller) -> None:
        self.gone(caller)
        caller.transport.abort()

    def _tell_refusal(self, reason: str) -> None:
        """Warn once, until somebody is let in: who refuses has better things to do than log."""
        level = logging.DEBUG if self._refusing else logging.WARNING
        logger.log(level, "%s: a connection was refused: %s", self._address, reason)
        if not self._refusing:
            self._refusing = True
            self._told_refusal = self._loop.time()


def _dismiss(connection: Connection, text: str) -> None:
    connection.abort(ProtocolViolation(text, Status.INVALID_OP_CODE))


class Caller(asyncio.BufferedProtocol):
    """A connection before it has a place.

    It is read, for else nobody would notice that the peer has left; but no more than a little,
    which a buffer of our own sees to: the rest stays in the kernel. (Windows' proactor loop has
    read 64 KiB by then.)

    Args:
        admission: of the listener.
        address: of its socket, as accept(2) has told. Later the system may not know it any more.

    Attributes:
        address: as given.
        since: when it came, in the loop's time.
    """

    def __init__(self, admission: Admission, address: Address | None) -> None:
        self._admission = admission
        self.address = address
        self.since = asyncio.get_running_loop().time()
        self._buffer = bytearray()
        self._early = b""
        self._successor: UpperProtocol | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait."""
        self.transport = cast("asyncio.Transport", transport)
        if sys.platform == "win32":
            send_at_once(transport)
        self._admission.arrived(self)

    def get_buffer(self, _: int) -> bytearray:
        """Room for a little, made when something comes: who is silent has none."""
        room = EARLY_BYTES - len(self._early)
        # Windows' proactor loop deals out all the 64 KiB that it has read, whatever it is told.
        self._buffer = bytearray(room if room > 0 else EARLY_BYTES)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Keep it, and knock."""
        data = bytes(memoryview(self._buffer)[:nbytes])
        self._buffer = bytearray()
        if self._successor is not None:
            # Windows' proactor loop deals a chunk out that it has read before.
            self._successor.data_received(data)
            return
        self._early += data
        if len(self._early) >= EARLY_BYTES:
            self.transport.pause_reading()
        self._admission.spoke(self)

    def eof_received(self) -> bool:
        """It does not wait for an answer: close."""
        self._admission.gone(self)
        return False

    def connection_lost(self, _: Exception | None) -> None:
        """Wait no more."""
        self._admission.gone(self)

    def become(self, protocol: UpperProtocol) -> None:
        """Go on as a channel's connection."""
        self._successor = protocol
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        if not self.transport.is_reading():
            self.transport.resume_reading()
        early, self._early = self._early, b""
        protocol.data_received(early)
