"""Send a long request in parts: python upload.py."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import tofu_aio as tofu


async def storage(channel: tofu.Channel) -> None:
    async with asyncio.TaskGroup() as uploads:
        async for first in channel:  # other messages may arrive between the parts
            uploads.create_task(storing(channel.stream(first), first.headers["Name"]))


async def storing(exchange: tofu.Exchange, name: str) -> None:
    try:
        await store(exchange, name)
    except tofu.ExchangeFailed:  # the client left early: the other uploads continue
        print(f"{name} was cancelled")


async def store(exchange: tofu.Exchange, name: str) -> None:
    digest = hashlib.sha256()
    async with exchange:
        async for part in exchange:
            with part:  # each part holds a permit, so a slow reader slows the sender down
                digest.update(part.body)
            if name == "forbidden":
                await exchange.finish(b"no room for it", status=tofu.Status.NOT_ALLOWED)
                return
        await exchange.finish(digest.hexdigest().encode())


async def chunks() -> AsyncIterator[bytes]:
    for _ in range(30):
        yield bytes(100_000)  # longer than a part may be, so send() makes two


async def upload(channel: tofu.Channel, name: str) -> str:
    try:
        async with channel.stream(headers={"Name": name}) as exchange:
            async for chunk in chunks():
                await exchange.send(chunk)
            await exchange.finish()
            with await exchange.receive() as response:
                return f"{name} was stored: {response.body.decode()[:8]}"
    except tofu.ExchangeFailed as error:  # raised by send() as soon as the response has arrived
        return f"{name} was not: {error}"


async def main() -> None:
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen("tcp://127.0.0.1:0")
        serving = asyncio.create_task(listener.serve(storage))
        async with tofu.connect(listener.address) as channel:
            names = ("zeros", "forbidden", "more zeros")
            for answer in await asyncio.gather(*(upload(channel, name) for name in names)):
                print(answer)
        await listener.aclose()
        await serving


tofu.run(main())
