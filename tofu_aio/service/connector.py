"""How a client makes its channels."""

from __future__ import annotations

import asyncio
from typing import Final, cast

from ..messaging.backoff import Backoff
from ..messaging.channel import Channel
from ..messaging.engine import Engine
from ..messaging.group import ChannelGroup
from ..messaging.limits import EngineOptions
from ..messaging.options import AttemptOptions, ConnectOptions, ReconnectOptions, evaluated
from ..protocol.address import Address, parse_address
from .breaker import Breaker
from .counts import ClientCounts
from .endpoint import AroundChannel, Endpoint

_ATTEMPT: Final = AttemptOptions.__optional_keys__


class Connector:
    """Makes the channels of a client, in a group of its own engine unless it is given one.

    Args:
        group: the group; None for an own engine.
        limits: of the own engine.
        options: of the channels.
        around: the program's hook around each channel; None for none.
        counts: of the client.

    Attributes:
        engine: the own one; None if there is none.
        backoff: the bounds of the times for which an address is left alone.

    Raises:
        TypeError, ValueError: an option has no meaning.
    """

    def __init__(
        self,
        group: ChannelGroup | None,
        limits: EngineOptions,
        options: ReconnectOptions,
        *,
        around: AroundChannel | None,
        counts: ClientCounts,
    ) -> None:
        if limits and group is not None:
            raise TypeError(
                f"{', '.join(limits)} would limit an engine, and the group has one: give the "
                "limits to that, or no group"
            )
        self.engine = Engine(**limits) if group is None else None
        self.backoff = options.get("backoff") or Backoff()
        self._group = group
        self._entering = asyncio.Lock()
        self._options = options
        self._around = around
        self._counts = counts

    def endpoint(self, target: str | Address | Channel) -> Endpoint:
        """The endpoint for an address, or for the only channel.

        Raises:
            InvalidAddress: it cannot be parsed.
        """
        breaker = Breaker(self.backoff)
        if isinstance(target, Channel):
            return Endpoint(f"channel {target.number}", None, breaker, target)
        address = parse_address(target)

        async def connect() -> Channel:
            group = await self._opened_group()
            options = {name: value for name, value in self._options.items() if name in _ATTEMPT}
            options["headers"] = await evaluated(self._options.get("headers", ()))
            options["body"] = await evaluated(self._options.get("body", b""))
            channel = await group.connect(address, **cast("ConnectOptions", options))
            self._counts.connects += 1
            return channel

        return Endpoint(str(address), connect, breaker, around=self._around)

    async def aclose(self) -> None:
        """Close the own engine."""
        if self.engine is not None:
            await self.engine.aclose()

    async def _opened_group(self) -> ChannelGroup:
        async with self._entering:
            if self._group is None:
                assert self.engine is not None
                self._group = (await self.engine.__aenter__()).create_group()
        return self._group
