"""Post to a channel of the event loop from other threads: python from_threads.py."""

import asyncio
from collections import Counter

import tofu_aio as tofu
from tofu_aio import Message, OpCode

THREADS = 4
MESSAGES = 250


def measure(group: tofu.ChannelGroup, channel_number: int, name: str) -> None:
    """Run in a thread of its own: post never waits, and a batch wakes the loop only once."""
    for number in range(MESSAGES):
        message = Message(OpCode.SIGNAL, b"%d" % number, {"Sensor": name})
        message.channel_number = channel_number
        group.post(message)


async def collect(channel: tofu.Channel) -> None:
    seen: Counter[str] = Counter()
    async for message in channel:
        with message:
            sensor = message.headers["Sensor"]
            assert int(message.body) == seen[sensor]  # each thread's messages keep their order
            seen[sensor] += 1
    for sensor, count in sorted(seen.items()):
        print(f"{sensor}: {count}, in order")


async def main() -> None:
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen("tcp://127.0.0.1:0")
        serving = asyncio.create_task(listener.serve(collect))
        async with group.connect(listener.address) as channel:
            names = [f"sensor {number}" for number in range(THREADS)]
            await asyncio.gather(
                *(asyncio.to_thread(measure, group, channel.number, name) for name in names)
            )
        await listener.aclose()
        await serving


tofu.run(main())
