"""The checks that run in a simulated world detect broken promises."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

import tofu_aio as tofu
from tofu_aio.protocol.account import LENT
from tofu_aio.testing import Delivery, PoolCheck, World


def test_items_out_of_order_repeated_or_missing_are_found() -> None:
    delivery = Delivery[str]("talk")
    for item in "abc":
        with delivery.sending(item):
            pass
    delivery.received("a")
    with pytest.raises(AssertionError, match="talk: 'c' arrived, but 'b' was due"):
        delivery.received("c")
    with pytest.raises(AssertionError, match=r"talk: 1 did not arrive, among them \['c'\]"):
        delivery.check_complete()
    delivery.received("c")
    with pytest.raises(
        AssertionError,
        match="talk: 'c' arrived, but was not due: it was not sent, or arrived before",
    ):
        delivery.received("c")
    delivery.check_complete()


def test_an_item_whose_sending_failed_may_arrive_or_not() -> None:
    delivery = Delivery[int]("talk")
    for number in range(4):
        try:
            with delivery.sending(number):
                if number % 2 == 0:
                    raise TimeoutError
        except TimeoutError:
            pass
    delivery.received(1)
    delivery.received(2)
    delivery.received(3)
    delivery.check_complete()


def test_an_item_that_came_back_must_not_have_arrived() -> None:
    delivery = Delivery[int]("talk")
    with delivery.sending(1):
        pass
    delivery.received(1)
    with pytest.raises(AssertionError, match="came back, but has arrived, too"):
        delivery.withdraw(1)


async def two_hungry_channels(
    world: World, spoil: Callable[[tofu.Engine], Awaitable[None]]
) -> None:
    """Three channels wait for one permit; each keeps its reserve and the permits it was lent."""
    async with (
        tofu.Engine(pool_messages=1, channel_share=1) as engine,
        engine.create_group() as group,
    ):
        check = PoolCheck(world, engine, longest_wait=50)
        world.watch(check)
        listener = await group.listen("tcp://127.0.0.1:0")
        connecting = [group.connect(listener.address) for _ in range(3)]
        accepting = asyncio.create_task(_accepted(listener, 3))
        channels = await asyncio.gather(*connecting)
        others = await accepting
        for channel in channels:
            for number in range(LENT + 4):
                await channel.signal(str(number).encode())
        kept = [await other.receive() for other in others for _ in range(LENT + 1)]
        await asyncio.sleep(1)
        assert check.waiting == 3
        await spoil(engine)
        await asyncio.gather(*map(_received_three, others))
        assert 0 < check.waited <= 50
        kept.clear()
    check.check_end()


async def _received_three(channel: tofu.Channel) -> None:
    for _ in range(3):
        (await channel.receive()).release()


async def _accepted(listener: tofu.Listener, count: int) -> list[tofu.Channel]:
    return [await listener.accept() for _ in range(count)]


def held(spoil: Callable[[tofu.Engine], Awaitable[None]]) -> None:
    world = World()
    world.run(two_hungry_channels(world, spoil))


def test_a_pool_that_keeps_its_promises_passes() -> None:
    async def nothing(_: tofu.Engine) -> None: ...

    held(nothing)


def test_a_wait_that_is_too_long_is_found() -> None:
    async def idle(_: tofu.Engine) -> None:
        await asyncio.sleep(100)

    with pytest.raises(AssertionError, match=r"a channel has waited .* s for a permit"):
        held(idle)


def test_serving_out_of_order_is_found() -> None:
    async def turn_round(engine: tofu.Engine) -> None:
        waiters = engine._gate.pool.waiters
        for reader in [*waiters][::-1]:
            waiters.move_to_end(reader)

    with pytest.raises(AssertionError, match="which has waited longer"):
        held(turn_round)


def test_a_permit_taken_before_waiting_channels_is_found() -> None:
    async def overtake(engine: tofu.Engine) -> None:
        engine._gate.pool.free.append(None)
        engine._gate.pool.free.pop()
        await asyncio.sleep(1)

    with pytest.raises(AssertionError, match="a permit was taken although channels wait for one"):
        held(overtake)


@pytest.mark.parametrize(
    ("count", "says"), [(1, "1 reserves were not given back"), (2, "1 permits were not given back")]
)
def test_permits_that_are_not_given_back_are_found(count: int, says: str) -> None:
    async def keep(world: World) -> None:
        async with tofu.Engine(4) as engine, engine.create_group() as group:
            check = PoolCheck(world, engine)
            listener = await group.listen("tcp://127.0.0.1:0")
            client, server = await asyncio.gather(
                group.connect(listener.address), listener.accept()
            )
            for _ in range(count):
                await client.signal()
            kept = [await server.receive() for _ in range(count)]
        with pytest.raises(AssertionError, match=says):
            check.check_end()
        kept.clear()
        check.check_end()

    world = World()
    world.run(keep(world))


def test_too_many_permits_are_found() -> None:
    async def forge(engine: tofu.Engine) -> None:
        engine._gate.pool.free.extend([None, None])

    with pytest.raises(AssertionError, match="of 1 permits are free"):
        held(forge)
