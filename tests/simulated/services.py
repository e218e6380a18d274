"""Small programs that tests of the simulated world share."""

from __future__ import annotations

import asyncio

import tofu_aio as tofu


async def echo(channel: tofu.Channel) -> None:
    async for message in channel:
        with message:
            await channel.reply(message, message.body)


async def asked(address: str = "tcp://127.0.0.1:0", **options: object) -> bytes:
    """Make one request to an echo service in the same program."""
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen(address)
        serving = asyncio.create_task(listener.serve(echo))
        async with await group.connect(listener.address) as channel:
            with await channel.request(b"ping") as response:
                body = response.body
        await listener.aclose()
        await serving
    return body
