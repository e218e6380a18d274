"""Which address a stream goes to, and how long it waits for its turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import tofu_aio as tofu
from tests.cli.processes import unix

from .serving import served

NOBODY = "tcp://127.0.0.1:1"


def counting() -> tofu.Service:
    """A service with a streamed result and a streamed request."""
    service = tofu.Service()

    @service.handler("count")
    async def count(numbers: int) -> AsyncIterator[int]:
        for number in range(numbers):
            yield number

    @service.handler("add")
    async def add(numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    @service.handler("wait")
    async def wait() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    return service


async def test_a_stream_goes_to_an_address_that_can_be_connected() -> None:
    async with (
        served(counting()) as server,
        tofu.Client(NOBODY, server.address) as client,
    ):
        for _ in range(4):  # one of the first two begins with the address where nobody is
            assert [n async for n in client.stream("count", 3, item=int)] == [0, 1, 2]
            assert await client.upload("add", [1, 2], result=int) == 3


@unix
async def test_where_no_socket_is_nothing_can_be_connected(socket_path: str) -> None:
    async with tofu.Client(f"uds://{socket_path}", attempts=1) as client:
        with pytest.raises(tofu.ConnectFailed, match="there is no socket"):
            await client.call("count", 1)
    async with tofu.Client(f"uds://{socket_path}", attempts=1) as client:
        with pytest.raises(tofu.ConnectFailed, match="there is no socket"):
            await client.upload("add", [1], result=int)


async def test_a_stream_that_waits_for_its_turn_times_out() -> None:
    async with served(counting()) as server, server.client(streams=1) as client:
        first = client.stream("wait", item=int)
        assert await anext(first) == 1
        with pytest.raises(TimeoutError):
            await anext(client.stream("count", 1, item=int, timeout=0.05))
        await first.aclose()
        assert await anext(client.stream("count", 1, item=int)) == 0
