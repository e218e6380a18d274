"""Serve on several addresses, over TCP and Unix sockets: python several_listeners.py."""

import asyncio
import tempfile
from pathlib import Path

import tofu_aio as tofu


async def greet(channel: tofu.Channel) -> None:
    async for request in channel:
        with request:
            await channel.reply(request, b"hello, " + request.body)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with tofu.Engine() as engine, engine.create_group() as group:
            listeners = [
                await group.listen("tcp://127.0.0.1:0"),
                await group.listen(f"uds://{Path(folder) / 'greeter.sock'}"),
            ]
            async with asyncio.TaskGroup() as serving:
                for listener in listeners:
                    serving.create_task(listener.serve(greet))
                for name, listener in zip((b"internet", b"neighbour"), listeners, strict=True):
                    async with tofu.connect(listener.address) as channel:
                        response = await channel.request(name, timeout=5)
                        scheme = str(listener.address).partition(":")[0]
                        print(f"{scheme}: {response.body.decode()}")
                for listener in listeners:
                    await listener.aclose()


tofu.run(main())
