"""How a listener enters and leaves the queue group, when the broker is slow or lost."""

from __future__ import annotations

import asyncio

import pytest

import tofu_aio as tofu
from tests.messaging.peers import until
from tests.transport.nats.conftest import Start
from tests.transport.nats.test_opening import echoing


async def test_a_busy_broker_costs_a_full_listener_no_channel(
    group: tofu.ChannelGroup, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves the queue group and enters it again, and no answer of the broker is in time."""
    from tofu_aio.transport.nats import client as client_module

    own = start()

    def waits_for_clients() -> bool:
        found = own.state("connz?subs=1")["connections"]
        return any("tofu.service" in one["subscriptions_list"] for one in found)

    async with echoing(group, own.url(), max_channels=2):
        first = await group.connect(own.url())
        monkeypatch.setattr(client_module, "BROKER_TIMEOUT", 1e-9)
        for _ in range(3):
            second = await group.connect(own.url())
            await until(lambda: not waits_for_clients())
            assert (await first.request(b"x")).body == b"x"
            await second.aclose()
            await until(waits_for_clients)
            assert (await first.request(b"x")).body == b"x"
        await first.aclose()


async def test_closing_a_listener_does_not_wait_for_brokers_that_say_nothing(
    group: tofu.ChannelGroup, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tofu_aio.transport.nats import client as client_module

    own = start()
    tried = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tried.set()
        await reader.read()
        writer.close()

    listener = await group.listen(own.url())
    monkeypatch.setattr(client_module, "BROKER_TIMEOUT", 3600)
    own.kill()
    server = await asyncio.start_server(say_nothing, "127.0.0.1", own.port)
    await tried.wait()
    await listener.aclose()
    server.close()
    await server.wait_closed()
