"""What those that connect to a listener may cost."""

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
    """What those that connect to a listener may cost, all together and each.

    Attributes:
        hello_timeout: seconds that a caller has to knock, and a stranger for the rest of its Hello.
        max_channels: how many strangers and open channels there may be; None for any number.
        max_connections_per_address: how many connections one address may have, from acceptance to
            the end; None for any number.
        idle_timeout: seconds without a message after which a channel is closed; None for never.
        heartbeat: seconds between the heartbeats that the listener asks for; None for none.

    Raises:
        TypeError, ValueError: one makes no sense: the message says which.
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
        """Those that the options of a listener ask for.

        Raises:
            TypeError, ValueError: one makes no sense.
            WrongAddress: one is not for this kind of address.
        """
        per_address = options.get("max_connections_per_address")
        bounds = cls(
            hello_timeout=options.get("hello_timeout", HELLO_TIMEOUT),
            max_channels=options.get("max_channels"),
            max_connections_per_address=per_address,
            idle_timeout=options.get("idle_timeout"),
            heartbeat=interval_of(options.get("heartbeat", "auto"), where),
        )
        if per_address is not None and not transport_to(where).networked:
            raise WrongAddress(
                f"{where}: max_connections_per_address is for TCP: who connects to a Unix socket "
                "has no address"
            )
        return bounds


NO_BOUNDS: Final = Bounds()
