"""What clients and services count."""

from __future__ import annotations

import asyncio

import pytest

import tofu_aio as tofu
from tests.messaging.peers import until
from tests.service.observed import images, served
from tofu_aio.service.counts import BUCKETS, MAX_KINDS, OTHER, Counts


def calls(counts: Counts) -> dict[tuple[str, str], int]:
    return {kind: counted.calls for kind, counted in counts.ended_calls.items()}


async def test_both_sides_count_calls_by_name_and_code() -> None:
    service = images()
    async with served(service) as address, tofu.Client(address) as client:
        for _ in range(3):
            await client.call("double", 1)
        with pytest.raises(tofu.ServiceError):
            await client.call("fail", "not_found")
        assert [item async for item in client.stream("count", 2, item=int)] == [0, 1]
        assert await client.upload("total", [1, 2], result=int) == 3
        expected = {
            ("double", "ok"): 3,
            ("fail", "not_found"): 1,
            ("count", "ok"): 1,
            ("total", "ok"): 1,
        }
        assert calls(client.counts) == expected
        await until(lambda: calls(service.counts) == expected)
        assert (client.counts.running, service.counts.running) == (0, 0)
        assert (client.counts.connects, client.counts.retries) == (2, 0)  # one is for streams
        counted = client.counts.ended_calls["double", "ok"]
        assert sum(counted.buckets) == counted.calls
        assert counted.seconds > 0


async def test_a_client_counts_what_failed_on_its_side() -> None:
    async with served(images()) as address, tofu.Client(address) as client:
        with pytest.raises(TimeoutError):
            await client.call("wait", timeout=0.01)
        with pytest.raises(tofu.InvalidMessage):
            await client.call("double", 1, result=str)
        waiting = asyncio.create_task(client.call("wait"))
        await until(lambda: client.counts.running == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        stream = client.stream("count", 10, item=int)
        await anext(stream)
        await stream.aclose()
        assert calls(client.counts) == {
            ("wait", "deadline_exceeded"): 1,
            ("double", "internal"): 1,
            ("wait", "cancelled"): 1,
            ("count", "cancelled"): 1,
        }
        assert client.counts.running == 0


@pytest.mark.usefixtures("in_order")
async def test_a_call_that_is_tried_again_counts_once_and_its_retries_apart() -> None:
    async with served(images()) as address:
        gone = tofu.Client("tcp://127.0.0.1:1", address)
        async with gone as client:
            await client.call("double", 1)
        assert calls(client.counts) == {("double", "ok"): 1}
        assert (client.counts.retries, client.counts.connects) == (1, 1)


async def test_a_client_without_a_service_counts_unavailable() -> None:
    async with tofu.Client("tcp://127.0.0.1:1", attempts=1) as client:
        with pytest.raises(tofu.ConnectFailed):
            await client.call("double", 1)
    assert calls(client.counts) == {("double", "unavailable"): 1}
    assert client.counts.connects == 0


def test_a_duration_is_counted_in_the_bucket_that_it_fits_in() -> None:
    counts = Counts()
    for seconds in (0.0, BUCKETS[0], BUCKETS[1], 1000.0):
        counts.ended("name", "ok", seconds)
    assert counts.ended_calls["name", "ok"].buckets == [2, 1, *[0] * (len(BUCKETS) - 2), 1]


def test_a_peer_cannot_fill_the_memory_with_codes() -> None:
    counts = Counts()
    for number in range(MAX_KINDS + 100):
        counts.ended("name", str(number), 0)
    assert len(counts.ended_calls) == MAX_KINDS + 1
    assert counts.ended_calls[OTHER, OTHER].calls == 100
