"""Send parts in both directions at the same time, in one exchange: python both_ways.py."""

import asyncio

import tofu_aio as tofu

LINES = ("the quick brown fox", "jumps over", "the lazy dog")


async def typist(channel: tofu.Channel) -> None:
    async for first in channel:
        async with channel.stream(first) as exchange:
            async for part in exchange:  # answer while the request is still arriving
                with part:
                    for word in part.body.split():
                        await exchange.send(word.upper())
            await exchange.finish(b"(end)")


async def dictate(exchange: tofu.Exchange) -> None:
    for line in LINES:
        await exchange.send(line.encode())
    await exchange.finish()


async def main() -> None:
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen("tcp://127.0.0.1:0")
        serving = asyncio.create_task(listener.serve(typist))
        async with (
            tofu.connect(listener.address) as channel,
            channel.stream() as exchange,
            asyncio.TaskGroup() as tasks,
        ):
            # Two tasks: with only one, each side could wait for the other one to receive.
            tasks.create_task(dictate(exchange))
            async for part in exchange:
                with part:
                    print(part.body.decode())
        await listener.aclose()
        await serving


tofu.run(main())
