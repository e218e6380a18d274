"""One task that goes on when its server comes back: python reconnecting.py."""

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
                waiting.popleft()  # what was not answered is asked again
            break  # says Bye, and ends it
        except (tofu.TofuError, TimeoutError):  # the channel has ended, or no answer came
            print("lost")


async def server(listener: tofu.Listener, answers: int) -> None:
    """Answer so many requests, and go."""
    async with await listener.accept() as channel:
        await listener.aclose()
        for _ in range(answers):
            with await channel.receive() as request:
                await channel.reply(request, request.body.upper())


async def main() -> None:
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen("tcp://127.0.0.1:0")  # finds a free port
        asking = asyncio.create_task(client(listener.address))
        for answers in (1, 2):
            await server(listener, answers)
            listener = await group.listen(listener.address)  # it is back, where it was
        await server(listener, answers=2)
        await asking


tofu.run(main())
