"""The telemetry without processes: python -m pytest."""

import asyncio

import hub
import pytest
from interface import Reading

from tofu_aio import testing


async def test_who_watches_gets_what_is_reported(tofu_client: testing.ClientFixture) -> None:
    client = await tofu_client(hub.service)
    first, second = Reading("boiler", 0, 20.5), Reading("pump", 0, 1.5)
    number = await client.call("report", first, result=int)
    await client.call("report", second)
    readings = client.subscribe("readings", item=Reading, after=number - 1)
    assert [(await anext(readings)).value for _ in range(2)] == [first, second]
    await readings.aclose()


async def test_the_page_gets_events(
    tofu_client: testing.ClientFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastapi")
    import page  # noqa: PLC0415 - it needs fastapi

    client = await tofu_client(hub.service)
    monkeypatch.setattr(page, "hub", client)
    number = await client.call("report", Reading("boiler", 0, 20.5), result=int)
    events = page.told(number - 1, hub.readings.epoch)
    assert await anext(events) == "retry: 500\n\n"
    event = f"id: {number} {hub.readings.epoch}\n"
    event += 'data: {"sensor":"boiler","count":0,"value":20.5}\n\n'
    assert await anext(events) == event
    await events.aclose()


@pytest.mark.parametrize("seed", range(10))
def test_who_is_slow_is_told(tofu_world: testing.WorldFixture, seed: int) -> None:
    """In the simulated network, where a minute without one takes no time."""
    world = tofu_world(seed)

    async def main() -> None:
        async with testing.client_of(hub.service) as client:
            readings = client.subscribe("readings", item=Reading, after=0)
            hub.readings.publish(Reading("boiler", -1, 0.0))
            previous = (await anext(readings)).number
            for link in world.links:
                link.stall(60)
            last = 0
            for count in range(5000):
                last = hub.readings.publish(Reading("boiler", count, 0.0))
                if count % 100 == 0:
                    await asyncio.sleep(0.01)
            missed = 0
            async for event in readings:
                missed += event.missed or 0
                previous += 1 + (event.missed or 0)
                assert event.number == previous
                if event.number == last:
                    break
            assert missed > 0
            await readings.aclose()

    world.run(main())
