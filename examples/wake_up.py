"""Wake up a receiver from another thread: python wake_up.py."""

import asyncio
from queue import SimpleQueue

import tofu_aio as tofu
from tofu_aio import Message, OpCode, Status


def produce(group: tofu.ChannelGroup, orders: SimpleQueue[str]) -> None:
    """Run in a thread of its own."""
    for order in ("tea", "coffee"):
        orders.put(order)
        group.update_receiver()  # nothing is sent: receive() returns a wake-up
    # A message is received as it is, and can carry anything.
    group.update_receiver(Message(OpCode.SIGNAL, b"that was all"))


async def main() -> None:
    async with tofu.Engine() as engine, engine.create_group() as group:
        orders: SimpleQueue[str] = SimpleQueue()
        producing = asyncio.create_task(asyncio.to_thread(produce, group, orders))
        while True:
            with await group.receive() as message:
                if message.status is Status.RECEIVER_UPDATE:
                    print(f"woken up for {orders.get()}")
                else:
                    print(message.body.decode())
                    break
        await producing


tofu.run(main())
