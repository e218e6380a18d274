"""Detect a peer that hangs although its connection is open: python heartbeat.py."""

import asyncio
import threading

import tofu_aio as tofu

INTERVAL = 0.5  # short, for this example; 5 to 30 seconds are usual


async def hang(address: tofu.Address, lost: threading.Event) -> None:
    async with tofu.connect(address) as channel:
        await channel.request(b"hello", timeout=30)
        lost.wait()  # blocks the loop, so nothing is sent, not even heartbeats
        try:
            await channel.request(b"am I late?", timeout=30)
        except tofu.TofuError:
            print("client: too late")


async def main() -> None:
    async with tofu.Engine() as engine, engine.create_group() as group:
        # It is enough if one side asks for heartbeats; the client then sends them, too.
        listener = await group.listen("tcp://127.0.0.1:0", heartbeat=INTERVAL)
        lost = threading.Event()
        # Another loop in another thread stands for another program.
        hanging = asyncio.create_task(asyncio.to_thread(tofu.run, hang(listener.address, lost)))
        channel = await listener.accept()
        try:
            async for request in channel:
                with request:
                    print(f"server: {request.body.decode()}")
                    await channel.reply(request)
        except tofu.PeerDisconnected as error:
            print(f"server: {error}")
        lost.set()
        await hanging


tofu.run(main())
