"""Both processes of ``broker_memory``: ``broker_memory_peers ROLE CONTENDER URL SLOW FAST``.

A sender sends to each reader as fast as it may, from the line "go" until its stdin ends, and prints
how many messages it has sent. Of the readers, SLOW take their time for each message, and FAST do
not. From the line "hurry" on none takes its time. When all has been read, they print what came.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

import tofu_aio as tofu
from tests.transport.nats.brokers import handled

BODY = bytes(60_000)

PAUSE = 0.1
"""Seconds that a slow reader takes for a message."""


async def said() -> str:
    """What the parent says next; empty at the end of stdin."""
    return await asyncio.to_thread(sys.stdin.readline)


def tell(what: str) -> None:
    """Say something to the parent."""
    print(what, flush=True)


async def tofu_sender(url: str) -> int:
    """Send on each channel, until stdin ends. Return how many messages were sent."""
    sent = 0
    going, over = asyncio.Event(), asyncio.Event()

    async def send(channel: tofu.Channel) -> None:
        nonlocal sent
        await going.wait()
        while not over.is_set():
            await channel.signal(BODY)
            sent += 1

    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen(url)
        serving = asyncio.create_task(listener.serve(send))
        tell("listening")
        await said()
        going.set()
        await said()
        over.set()
        await listener.drain()  # each channel ends when its reader has taken everything
        await serving
    return sent


async def tofu_readers(url: str, slow: int, fast: int) -> Counter[str]:
    """Read until the sender ends the channels."""
    came: Counter[str] = Counter()
    hurry = asyncio.Event()

    async def read(channel: tofu.Channel, kind: str) -> None:
        async for message in channel:
            with message:
                came[kind] += 1
                if kind == "slow":
                    await pause(hurry)

    async with tofu.Engine() as engine, engine.create_group() as group:
        kinds = ["slow"] * slow + ["fast"] * fast
        channels = [await group.connect(url) for _ in kinds]
        tell("connected")
        reading = asyncio.gather(*map(read, channels, kinds))
        await said()
        hurry.set()
        await reading
    return came


async def pause(hurry: asyncio.Event) -> None:
    """Take the time of a slow reader, unless all are to hurry."""
    try:
        async with asyncio.timeout(PAUSE):
            await hurry.wait()
    except TimeoutError:
        pass


async def nats_sender(url: str, readers: int) -> int:
    """Publish on a subject for each reader, until stdin ends."""
    sent = 0
    over = asyncio.Event()

    async def send(number: int) -> None:
        nonlocal sent
        while not over.is_set():
            for _ in range(8):
                await connection.publish(f"readers.{number}", BODY)
                sent += 1
            # publish() waits for nobody: without this, gigabytes are buffered in this process.
            await connection.flush(60)

    async with await nats.connect(url) as connection:
        tell("connected")
        await said()
        sending = asyncio.gather(*map(send, range(readers)))
        await said()
        over.set()
        await sending
        await connection.flush(60)
    return sent


async def nats_readers(url: str, slow: int, fast: int) -> Counter[str]:
    """Read until the end of stdin, and then what has arrived."""
    came: Counter[str] = Counter()
    hurry = asyncio.Event()

    async def read_slowly(_: Msg) -> None:
        came["slow"] += 1
        await pause(hurry)

    async def read(_: Msg) -> None:
        came["fast"] += 1

    async def failed(error: Exception) -> None:
        came[type(error).__name__] += 1

    async def reconnected() -> None:
        came["reconnected"] += 1

    connection: Client = await nats.connect(
        url, error_cb=failed, reconnected_cb=reconnected, drain_timeout=600
    )
    callbacks = [read_slowly] * slow + [read] * fast
    for number, callback in enumerate(callbacks):
        await connection.subscribe(f"readers.{number}", cb=callback)
    await handled(connection)
    tell("subscribed")
    await said()
    hurry.set()
    await said()
    await connection.flush(60)  # what the broker still has
    await connection.drain()
    return came


async def main(role: str, contender: str, url: str, *readers: str) -> None:
    """Run one role to its end."""
    slow, fast = map(int, readers)
    if role == "sender":
        sent = await (tofu_sender(url) if contender == "tofu" else nats_sender(url, slow + fast))
        tell(json.dumps({"sent": sent}))
    else:
        read = tofu_readers if contender == "tofu" else nats_readers
        tell(json.dumps(await read(url, slow, fast)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
