"""Network address translation: many machines behind one address, and what it forgets."""

from __future__ import annotations

import time
from typing import Final

from tests.network import packets

_FIRST_PORT: Final = 20_000


class Translation:
    """The connections of machines behind one address, as home routers and clouds keep them.

    A packet of a connection that it does not know is dropped, in both directions and without an
    answer, unless it begins a connection from inside.

    Args:
        outside: the address that machines outside see.
        idle: seconds without a packet after which a connection is forgotten; 0 for never.
    """

    def __init__(self, outside: str, idle: float) -> None:
        self._outside = packets.packed(outside)
        self._idle = idle
        self._port = _FIRST_PORT
        self._ports: dict[tuple[bytes, int], int] = {}
        self._insides: dict[int, tuple[bytes, int]] = {}
        self._used: dict[int, float] = {}

    def forget(self) -> None:
        """Forget all connections, as a router does that loses power."""
        self._ports.clear()
        self._insides.clear()

    def outward(self, packet: bytes) -> bytes | None:
        """A packet from inside as it goes on; None if it is dropped."""
        if not packets.is_tcp(packet):
            return None
        inside = packets.end_of(packet, packets.SOURCE)
        port = self._ports.get(inside)
        if port is None or not self._use(port):
            if not packets.begins_connection(packet):
                return None
            port, self._port = self._port, self._port + 1
            self._ports[inside], self._insides[port] = port, inside
            self._used[port] = time.monotonic()
        return packets.with_end(packet, packets.SOURCE, self._outside, port)

    def inward(self, packet: bytes) -> bytes | None:
        """A packet from outside as it goes on; None if it is dropped."""
        if not packets.is_tcp(packet):
            return None
        address, port = packets.end_of(packet, packets.DESTINATION)
        inside = self._insides.get(port)
        if address != self._outside or inside is None or not self._use(port):
            return None
        return packets.with_end(packet, packets.DESTINATION, *inside)

    def _use(self, port: int) -> bool:
        """Note that a connection is in use; return whether it is still known."""
        now = time.monotonic()
        if self._idle and now - self._used[port] > self._idle:
            del self._ports[self._insides.pop(port)]
            return False
        self._used[port] = now
        return True
