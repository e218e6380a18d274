"""Run on another loop: python on_uvloop.py [LOOP], one of reactor, asyncio, uvloop, auto."""

import asyncio
import sys

import tofu_aio as tofu


async def echo(channel: tofu.Channel) -> None:
    async for request in channel:
        with request:
            await channel.reply(request, request.body)


async def main() -> None:
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen("tcp://127.0.0.1:0")
        serving = asyncio.create_task(listener.serve(echo))
        async with tofu.connect(listener.address) as channel:
            response = await channel.request(b"hello", timeout=5)
            loop = type(asyncio.get_running_loop())
            print(f"{response.body.decode()} from {loop.__module__.partition('.')[0]}")
        await listener.aclose()
        await serving


factory = tofu.loop_factory(sys.argv[1] if len(sys.argv) > 1 else "uvloop")
with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(main())
