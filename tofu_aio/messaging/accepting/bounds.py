"""Limits on what the connections to a listener may cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from ...checks import checked_count, checked_seconds
from ...protocol.address import Address
from ...protocol.errors import WrongAddress
from ...transport.transports import transport_to
from ..connection.heartbeat import interval_of
from ..limits import HELLO_TIMEOUT, IDLE_TIMEOUT_MIN
from ..options import ListenOptions


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits on what the connections to a listener may cost, together and each of them.

    Attributes:
        hello_timeout: seconds that a pending connection has for the first bytes of its Hello, and
            then again for the rest of it.
        max_channels: the maximum of undecided and open channels together; None for no limit.
        max_connections_per_address: the maximum of connections from one address, from accept(2)
            until the socket is closed; None for no limit.
        idle_timeout: seconds without a message after which a channel is closed; None for never.
        heartbeat: seconds between the heartbeats that the listener requests; None for none.

    Raises:
        TypeError, ValueError: one of them is not allowed; the message says which.
    """

    hello_timeout: float = HELLO_TIMEOUT
    max_channels: int | None = None
    max_connections_per_address: int | None = None
    idle_timeout: float | None = None
    heartbeat: float | None = None

    def __post_init__(self) -> None:
        checked_seconds("hello_timeout", self.hello_timeout)
        for name in ("max_channels", "max_connections_per_address"):
            count = getattr(self, name)
            if count is not None:
                checked_count(name, count)
        if self.idle_timeout is not None:
            checked_seconds("idle_timeout", self.idle_timeout, IDLE_TIMEOUT_MIN)

    @classmethod
    def of(cls, where: Address, options: ListenOptions) -> Self:
        """Make the limits from the options of a listener.

        Raises:
            TypeError, ValueError: an option is not allowed; the message says which.
            WrongAddress: an option is not for this kind of address.
        """
        per_address = options.get("max_connections_per_address")
        bounds = cls(
            hello_timeout=options.get("hello_timeout", HELLO_TIMEOUT),
            max_channels=options.get("max_channels"),
            max_connections_per_address=per_address,
            idle_timeout=options.get("idle_timeout"),
            heartbeat=interval_of(options.get("heartbeat", "auto"), where),
        )
        if per_address is not None and not transport_to(where).has_hosts:
            raise WrongAddress(
                f"{where}: max_connections_per_address is for TCP only, as clients of a Unix "
                "socket have no address: leave it out"
            )
        return bounds


NO_BOUNDS: Final = Bounds()
