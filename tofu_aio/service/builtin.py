"""The handlers that every service has."""

from __future__ import annotations

from typing import Final, Protocol

from .errors import UNIMPLEMENTED, ServiceError
from .handlers import Handler
from .statistics import ServiceStatistics

PREFIX: Final = "tofu."
"""The names of built-in handlers begin with this."""

NAMES: Final = "tofu.names"
"""Returns the names of all handlers."""

HEALTH: Final = "tofu.health"
"""Returns {"status": "serving"}, or "draining" while the service is shutting down."""


STATISTICS: Final = "tofu.statistics"
"""Returns ``ServiceStatistics``, if the service allows it."""


class Host(Protocol):
    """What built-in handlers tell about their service."""

    draining: bool
    handlers: dict[str, Handler]

    def add(self, name: str, function: object, *, unbounded: bool) -> None:
        """Add a handler."""

    def statistics(self) -> ServiceStatistics:
        """A snapshot of its counters."""


def add_to(service: Host, *, statistics: bool) -> None:
    """Add the built-in handlers to a service. They answer even while all slots are taken.

    Args:
        service: to which.
        statistics: whether callers may ask for the statistics, which name all callers.
    """

    async def names() -> list[str]:
        return sorted(name for name in service.handlers if statistics or name != STATISTICS)

    async def tell() -> ServiceStatistics:
        if not statistics:
            raise ServiceError(
                UNIMPLEMENTED,
                "the service does not tell its statistics: make it with "
                "tofu.Service(statistics=True)",
            )
        return service.statistics()

    async def health() -> dict[str, str]:
        return {"status": "draining" if service.draining else "serving"}

    service.add(NAMES, names, unbounded=True)
    service.add(HEALTH, health, unbounded=True)
    service.add(STATISTICS, tell, unbounded=True)
