"""A service with handlers of each kind, served on a free port of this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import tofu_aio as tofu


def images() -> tofu.Service:
    """Handlers that succeed, fail, stream, and wait."""
    service = tofu.Service()
    add_handlers(service)
    return service


def add_handlers(service: tofu.Service) -> None:
    """Add them to a service."""

    @service.handler("double")
    async def double(number: int) -> int:
        return 2 * number

    @service.handler("fail")
    async def fail(code: str) -> None:
        if not code:
            raise RuntimeError("a bug")
        raise tofu.ServiceError(code, "because", {"field": 1})

    @service.handler("count")
    async def count(limit: int) -> AsyncIterator[int]:
        for number in range(limit):
            yield number

    @service.handler("total")
    async def total(parts: AsyncIterator[int]) -> int:
        return sum([part async for part in parts])

    @service.handler("wait")
    async def wait() -> None:
        await asyncio.Event().wait()


@asynccontextmanager
async def served(service: tofu.Service) -> AsyncIterator[tofu.Address]:
    """The address at which a service is served during the block."""
    async with service, tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen("tcp://127.0.0.1:0")
        async with listener, asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(listener.serve(service.handle))
            try:
                yield listener.address
            finally:
                serving.cancel()
