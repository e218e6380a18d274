"""How connections of a simulated network are established, disturbed and lost."""

from __future__ import annotations

import asyncio

import pytest

import tofu_aio as tofu
from tests.simulated.services import asked, echo
from tofu_aio import testing
from tofu_aio.testing import Network, World


def test_connections_overtake_each_other() -> None:
    async def main() -> list[int]:
        order: list[int] = []
        async with tofu.Engine() as engine, engine.create_group() as group:
            listener = await group.listen("tcp://127.0.0.1:0")

            async def heard(channel: tofu.Channel) -> None:
                order.append(int((await channel.receive()).body))

            serving = asyncio.create_task(listener.serve(heard))
            channels = [await group.connect(listener.address) for _ in range(5)]
            for number, channel in enumerate(channels):
                await channel.signal(str(number).encode())
            await asyncio.sleep(1)
            await listener.aclose()
            await serving
        return order

    orders = {tuple(testing.run(main(), seed=seed)) for seed in range(10)}
    assert all(sorted(order) == list(range(5)) for order in orders)
    assert len(orders) > 3


async def connected(world: World, address: str) -> float:
    """Connect, and return the time; raise if that fails."""
    async with tofu.Engine() as engine, engine.create_group() as group:
        try:
            await group.connect(address)
        except tofu.TofuError as error:
            world.note("client", "fails", error)
            raise
        return world.time


def test_a_timeout_for_a_silent_host_takes_no_real_time() -> None:
    world = World(network=Network(silent={"10.0.0.9"}))
    with pytest.raises(tofu.ConnectFailed, match="within 10 s"):
        world.run(connected(world, "tcp://10.0.0.9:1"))
    assert world.time == pytest.approx(10, abs=0.1)


def test_nobody_listens() -> None:
    world = World()
    with pytest.raises(tofu.ConnectFailed, match="nobody is listening"):
        world.run(connected(world, "tcp://127.0.0.1:1"))


def test_connections_may_be_refused_by_chance() -> None:
    with pytest.raises(tofu.ConnectFailed, match="nobody is listening"):
        testing.run(asked(), network=Network(refusals=1.0))


def test_everything_may_be_reset() -> None:
    with pytest.raises(tofu.ConnectFailed, match="did not accept the channel"):
        testing.run(asked(), network=Network(resets=1.0))


def test_accepting_may_fail_for_a_while() -> None:
    failed = 0
    for seed in range(30):
        world = World(seed, Network(accept_failures=0.7))
        try:
            assert world.run(asked()) == b"ping"
        except tofu.ConnectFailed:
            failed += 1  # accepting lost the connection
        assert not world.open_sockets
    assert 0 < failed < 30


def test_a_link_can_be_reset_and_stalled_by_hand() -> None:
    async def main(world: World) -> None:
        async with tofu.Engine() as engine, engine.create_group() as group:
            # With heartbeats the peer would be lost meanwhile.
            listener = await group.listen("tcp://127.0.0.1:0", heartbeat=None)
            serving = asyncio.create_task(listener.serve(echo))
            channel = await group.connect(listener.address, heartbeat=None)
            (link,) = world.links
            link.stall(100)
            began = world.time
            await channel.request(b"slow")
            assert world.time - began > 100
            link.reset()
            with pytest.raises(tofu.PeerDisconnected):
                await channel.receive()
            await listener.aclose()
            await serving
        assert not world.links

    world = World()
    world.run(main(world))


def test_a_listener_on_all_addresses() -> None:
    async def main() -> bytes:
        async with tofu.Engine() as engine, engine.create_group() as group:
            listener = await group.listen("tcp://*:7000")
            serving = asyncio.create_task(listener.serve(echo))
            async with await group.connect("tcp://127.0.0.1:7000") as channel:
                body = (await channel.request(b"all")).body
            await listener.aclose()
            await serving
        return body

    assert testing.run(main()) == b"all"
