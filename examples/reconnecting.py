"""Connect again and continue when the server comes back: python reconnecting.py."""

import asyncio
from collections import deque

import tofu_aio as tofu

WORDS = (b"one", b"two", b"three", b"four", b"five")


async def client(address: tofu.Address) -> None:
    waiting = deque(WORDS)
    quick = tofu.Backoff(initial=0.01, maximum=0.1)
    async for channel in tofu.reconnecting(address, backoff=quick):
        print("connected")
        try:
            while waiting:
                with await channel.request(waiting[0], timeout=30) as response:
                    print(response.body.decode())
                waiting.popleft()  # a request that was not answered is made again
            break  # closes the channel, and ends the loop
        except (tofu.TofuError, TimeoutError):  # the channel has ended, or there was no response
            print("lost")


async def server(listener: tofu.Listener, answers: int) -> None:
    """Answer some requests, then close everything."""
    async with await listener.accept() as channel:
        await listener.aclose()
        for _ in range(answers):
            with await channel.receive() as request:
                await channel.reply(request, request.body.upper())


async def main() -> None:
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen("tcp://127.0.0.1:0")  # on any free port
        asking = asyncio.create_task(client(listener.address))
        for answers in (1, 2):
            await server(listener, answers)
            listener = await group.listen(listener.address)  # at the same address
        await server(listener, answers=2)
        await asking


tofu.run(main())
