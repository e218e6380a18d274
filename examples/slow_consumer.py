"""Send faster than the receiver can handle: python slow_consumer.py.

Nothing is dropped, and memory does not grow. While the receiver's pool is empty, its socket is not
read, the kernel's buffers fill, and `send` waits for room.
"""

import asyncio

import tofu_aio as tofu

MESSAGES = 200
BODY = b"x" * 60_000


async def send_all(address: tofu.Address) -> None:
    async with tofu.connect(address) as channel:
        for number in range(MESSAGES):
            await channel.send(tofu.Message(tofu.OpCode.SIGNAL, BODY, {"Number": str(number)}))
            if number % 50 == 49:
                print(f"sent {number + 1}")


async def main() -> None:
    async with tofu.Engine(pool_messages=4) as engine, engine.create_group() as group:
        listener = await group.listen("tcp://127.0.0.1:0")
        sending = asyncio.create_task(send_all(listener.address))
        channel = await listener.accept()
        expected = 0
        async for message in channel:
            with message:
                assert message.headers["Number"] == str(expected)
                expected += 1
                await asyncio.sleep(0.01)  # the slow part
        await sending
        statistics = channel.statistics()
        print(f"received {expected}, in order")
        print("reading was suspended:", "yes" if statistics.suspensions else "no")


tofu.run(main())
