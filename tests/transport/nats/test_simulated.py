"""Channels over NATS in simulated worlds: whatever the broker does, nothing is lost in silence."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from importlib.util import find_spec

import pytest

import tofu_aio as tofu
from tests.transport.nats.simulated_broker import simulated
from tofu_aio.testing import World, simulate

pytestmark = pytest.mark.skipif(
    find_spec("nats") is None, reason="nats-py is not installed: pip install 'tofu-aio[nats]'"
)

URL = "nats://127.0.0.1/simulated"


async def converse(world: World, *, loss: float, restarts: bool) -> None:
    """Clients send numbers to a listener, which checks that there is no gap before the end."""
    random = world.random
    heard: Counter[str] = Counter()
    wrong: list[str] = []  # an exception of a handler would only be logged

    taken: list[asyncio.Future[None]] = []  # of each channel: whether it has ended

    async def count(channel: tofu.Channel) -> None:
        ended = asyncio.get_running_loop().create_future()
        taken.append(ended)
        try:
            await count_all(channel)
        finally:
            ended.set_result(None)

    async def count_all(channel: tofu.Channel) -> None:
        expected = 0
        async for message in channel:
            with message:
                if int(message.body) != expected:
                    wrong.append(f"{expected} was lost, and the channel was not")
            expected += 1
            heard["messages"] += 1
        if expected != int(channel.hello.headers["Count"]):
            wrong.append("the end of a stream was lost, and the channel was not")

    async def connected(group: tofu.ChannelGroup, headers: dict[str, str]) -> tofu.Channel:
        while True:
            try:
                return await group.connect(URL, timeout=5, headers=headers)
            except tofu.ConnectFailed:
                heard["no channel"] += 1
                await asyncio.sleep(random.uniform(0, 0.5))

    async def talk(group: tofu.ChannelGroup) -> None:
        for _ in range(3):
            numbers = random.randint(1, 300)
            try:
                async with await connected(group, {"Count": str(numbers)}) as channel:
                    for number in range(numbers):
                        await channel.signal(b"%d" % number)
                        if random.random() < 0.05:
                            await asyncio.sleep(random.uniform(0, 1))
                heard["byes"] += 1
            except tofu.TofuError as error:
                heard[type(error).__name__] += 1

    async with (
        simulated(random, loss=loss, delay=0.05) as broker,
        tofu.Engine() as engine,
        engine.create_group() as group,
    ):
        listeners = [await group.listen(URL) for _ in range(2)]
        serving = [asyncio.create_task(each.serve(count)) for each in listeners]
        talking = [asyncio.create_task(talk(group)) for _ in range(5)]
        if restarts:
            for _ in range(2):
                await asyncio.sleep(random.uniform(0, 3))
                await broker.stop()
                await asyncio.sleep(random.uniform(0, 1))
                await broker.start()
        await asyncio.gather(*talking)
        async with asyncio.timeout(60):  # the listeners are back
            while True:
                with contextlib.suppress(tofu.TofuError):
                    broker.loss = 0
                    await (await group.connect(URL, headers={"Count": "0"})).aclose()
                    break
                await asyncio.sleep(0.1)
        # A channel whose reset was lost ends when its heartbeat is answered with another.
        await asyncio.wait(taken, timeout=600)
        assert all(ended.done() for ended in taken)
        for listener in listeners:
            await listener.aclose()
        await asyncio.gather(*serving)
    assert not wrong, wrong
    assert heard["messages"]
    if not loss and not restarts:
        assert heard.keys() == {"messages", "byes"}


@pytest.mark.parametrize("loss", [0, 0.01, 0.05])
@pytest.mark.parametrize("restarts", [False, True])
def test_no_stream_is_shorter_than_what_was_sent(loss: float, restarts: bool) -> None:
    simulate(lambda world: converse(world, loss=loss, restarts=restarts), range(5))
