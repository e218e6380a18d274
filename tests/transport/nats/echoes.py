"""A process with a listener that echoes: ``python -m tests.transport.nats.echoes ADDRESS``.

It prints a line when it listens, and echoes until it is killed.
"""

from __future__ import annotations

import sys

import tofu_aio as tofu


async def main(address: str) -> None:
    """Echo."""

    async def echo(channel: tofu.Channel) -> None:
        async for message in channel:
            if message.body != b"hang":
                await channel.reply(message, message.body)

    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen(address)
        print("listening", flush=True)
        await listener.serve(echo)


if __name__ == "__main__":
    tofu.run(main(sys.argv[1]))
