"""Services and their clients in one test, with checks that both leave nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final, Protocol, Unpack, cast

from ..messaging.accepting.decision import Decide
from ..messaging.limits import EngineOptions
from ..messaging.options import ListenOptions, ReconnectingClientOptions, ServerOptions, split
from ..protocol.address import Address
from .leftovers import checked_engine

if TYPE_CHECKING:  # these need msgspec
    from ..service.client import Client
    from ..service.codec import Codec
    from ..service.service import Service

FREE: Final = "tcp://127.0.0.1:0"
"""Lets the system choose a port; in a simulated world it is one of its network."""


@asynccontextmanager
async def serving(
    service: Service,
    *addresses: str | Address,
    decide: Decide | None = None,
    **options: Unpack[ServerOptions],
) -> AsyncGenerator[list[Address]]:
    """Serve calls while the block runs; the addresses are its value. It handles no signals.

    Args:
        service: the handlers.
        addresses: where to listen; by default on a free port of this machine.
        decide: examines a caller before its channel is accepted; see ``Listener.serve``.
        options: those of ``ChannelGroup.listen`` and of ``Engine``.

    Raises:
        AssertionError: at the end, the service keeps a message that it has received.
        TofuError, TypeError, ValueError: as ``ChannelGroup.listen`` and ``Engine``.
    """
    run = _Serving(service, decide, options)
    # In a task, because a fixture may be left in another task than it was entered in, and the
    # service's resources may not.
    task = asyncio.create_task(run.serve(addresses or (FREE,)))
    try:
        begun = asyncio.create_task(run.begun.wait())
        await asyncio.wait({task, begun}, return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        if task.done():
            await task
        yield run.addresses
    except BaseException:
        task.cancel()
        await asyncio.wait({task})
        raise
    run.over.set()
    await task


class _Serving:
    """Serves until it is told to stop."""

    def __init__(self, service: Service, decide: Decide | None, options: ServerOptions) -> None:
        self._service = service
        self._decide = decide
        self._limits, self._options = split("serving", options, ListenOptions)
        self.addresses: list[Address] = []
        self.begun = asyncio.Event()
        self.over = asyncio.Event()

    async def serve(self, addresses: tuple[str | Address, ...]) -> None:
        async with (
            self._service,
            checked_engine(**self._limits) as engine,
            engine.create_group() as group,
            asyncio.TaskGroup() as tasks,
        ):
            listeners = [await group.listen(each, **self._options) for each in addresses]
            for listener in listeners:
                tasks.create_task(listener.serve(self._service.handle, decide=self._decide))
                self.addresses.append(listener.address)
            self.begun.set()
            await self.over.wait()
            for listener in listeners:
                await listener.aclose()


class CallOptions(ReconnectingClientOptions, total=False):
    """The options of a ``Client``, apart from its group; it describes them."""

    codec: Codec
    call_timeout: float | None
    attempts: int
    streams: int


@asynccontextmanager
async def client_of(
    target: Service | str | Address, *others: str | Address, **options: Unpack[CallOptions]
) -> AsyncGenerator[Client]:
    """A client for the length of the block.

    Args:
        target: a service, which is then served on a free port of this machine; or an address.
        others: more addresses.
        options: those of ``tofu_aio.Client``.

    Raises:
        AssertionError: at the end, the client or the service keeps a message.
        TofuError, TypeError, ValueError: as ``serving`` and ``tofu_aio.Client``.
    """
    from ..service.client import Client  # noqa: PLC0415 - it needs msgspec
    from ..service.service import Service  # noqa: PLC0415

    if isinstance(target, Service):
        async with serving(target) as found, client_of(*found, *others, **options) as client:
            yield client
        return
    known = EngineOptions.__annotations__
    limits = {name: value for name, value in options.items() if name in known}
    async with (
        checked_engine(**cast("EngineOptions", limits)) as engine,
        engine.create_group() as group,
        Client(target, *others, group=group, **options) as client,
    ):
        yield client


# --- for fixtures -------------------------------------------------------------------------


class ServeFixture(Protocol):
    """The type of the fixture ``tofu_service``."""

    async def __call__(
        self,
        service: Service,
        *addresses: str | Address,
        decide: Decide | None = None,
        **options: Unpack[ServerOptions],
    ) -> list[Address]:
        """Serve until the end of the test, and return the addresses; see ``serving``.

        For a service that is served already, and without addresses, only return where.
        """


class ClientFixture(Protocol):
    """The type of the fixture ``tofu_client``."""

    async def __call__(
        self,
        target: Service | str | Address,
        *others: str | Address,
        **options: Unpack[CallOptions],
    ) -> Client:
        """Return a client, which is closed at the end of the test; see ``client_of``."""


@asynccontextmanager
async def services() -> AsyncGenerator[ServeFixture]:
    """A function that serves services until the end of the block."""
    served: dict[Service, list[Address]] = {}
    async with AsyncExitStack() as stack:

        async def serve(
            service: Service,
            *addresses: str | Address,
            decide: Decide | None = None,
            **options: Unpack[ServerOptions],
        ) -> list[Address]:
            if service not in served or addresses:
                block = serving(service, *addresses, decide=decide, **options)
                served[service] = await stack.enter_async_context(block)
            return served[service]

        yield serve


@asynccontextmanager
async def clients(serve: ServeFixture) -> AsyncGenerator[ClientFixture]:
    """A function that makes clients. They are closed at the end of the block.

    Args:
        serve: serves what is not served yet.
    """
    from ..service.service import Service  # noqa: PLC0415 - it needs msgspec

    async with AsyncExitStack() as stack:

        async def client(
            target: Service | str | Address,
            *others: str | Address,
            **options: Unpack[CallOptions],
        ) -> Client:
            targets = await serve(target) if isinstance(target, Service) else [target]
            block = client_of(*targets, *others, **options)
            return await stack.enter_async_context(block)

        yield client
