"""What a service tells of itself."""

from __future__ import annotations

import asyncio

import pytest

import tofu_aio as tofu
from tests.messaging.peers import until
from tests.service.observed import add_handlers, images, served
from tofu_aio.service.statistics import MAX_CALLERS, ServiceStatistics


@pytest.fixture
def service() -> tofu.Service:
    """A service that tells its statistics."""
    service = tofu.Service(statistics=True)
    add_handlers(service)
    return service


async def ask(client: tofu.Client) -> ServiceStatistics:
    return await client.call("tofu.statistics", result=ServiceStatistics)


async def test_a_caller_is_told_what_the_service_does(service: tofu.Service) -> None:
    async with served(service) as address, tofu.Client(address) as client:
        await client.call("double", 1)
        with pytest.raises(tofu.ServiceError):
            await client.call("fail", "not_found")
        with pytest.raises(tofu.ServiceError):
            await client.call("nobody")
        waiting = asyncio.create_task(client.call("wait"))
        await until(lambda: service.handlers["wait"].running == 1)
        told = await ask(client)
        waiting.cancel()
        await until(lambda: service.handlers["wait"].running == 0)
        handlers = told.handlers
        assert handlers["double"].ended["ok"].calls == 1
        assert handlers["fail"].ended["not_found"].calls == 1
        assert handlers["wait"].running == 1
        assert handlers["tofu.statistics"].running == 1
        assert told.refusals == {"unimplemented": 1}
        assert (told.channels, len(told.callers)) == (1, 1)
        (caller,) = told.callers
        assert caller.running >= 1
        assert caller.received >= 5
        assert caller.peer.startswith("tcp://127.0.0.1:")
        assert not told.draining
        assert told.seconds > 0


async def test_its_engine_is_told_when_it_is_known(
    service: tofu.Service, engine: tofu.Engine
) -> None:
    async with served(service) as address, tofu.Client(address) as client:
        assert (await ask(client)).engine is None
        service.engine = engine
        told = (await ask(client)).engine
        assert told is not None
        assert told.pool_size == 8


async def test_the_loop_is_told_if_it_counts(service: tofu.Service) -> None:
    async with served(service) as address, tofu.Client(address) as client:
        told = (await ask(client)).loop
    if isinstance(asyncio.get_running_loop(), tofu.Loop):
        assert told is not None
        assert told.turns > 0
    else:
        assert told is None


async def test_not_all_callers_are_told_one_by_one(service: tofu.Service) -> None:
    async with (
        served(service) as address,
        tofu.Engine() as engine,
        engine.create_group() as group,
        tofu.Client(address) as client,
    ):
        for _ in range(MAX_CALLERS):
            await group.connect(address)
        told = await ask(client)
    assert (told.channels, len(told.callers)) == (MAX_CALLERS + 1, MAX_CALLERS)


async def test_a_service_tells_nothing_unless_it_was_asked_to() -> None:
    async with served(images()) as address, tofu.Client(address) as client:
        with pytest.raises(tofu.ServiceError, match=r"tofu\.Service\(statistics=True\)") as caught:
            await ask(client)
        assert caught.value.code == "unimplemented"
        assert "tofu.statistics" not in await client.call("tofu.names", result=list[str])


async def test_its_name_is_listed_where_it_tells(service: tofu.Service) -> None:
    async with served(service) as address, tofu.Client(address) as client:
        assert "tofu.statistics" in await client.call("tofu.names", result=list[str])
