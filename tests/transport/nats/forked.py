"""A program that forks while it has a channel over NATS: ``python -m ...forked ADDRESS``."""

from __future__ import annotations

import asyncio
import os
import sys

import tofu_aio as tofu
from tests.messaging.peers import transport_of


async def main(address: str) -> None:
    """The child says what it may not, and the parent's channel goes on."""
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen(address)
        client, server = await asyncio.gather(group.connect(address), listener.accept())
        descriptor = transport_of(client)._carrier._client._streams.socket.fileno()  # type: ignore[attr-defined]
        before = os.fstat(descriptor).st_ino
        child = os.fork()
        if not child:
            if os.fstat(descriptor).st_ino == before:
                os._exit(2)  # it could write to the parent's connection
            try:
                client.post(tofu.Message(tofu.OpCode.SIGNAL, b"of the child"))
            except tofu.TofuError:
                asyncio.events._set_running_loop(None)
                asyncio.set_event_loop(None)
                tofu.run(of_its_own(address))
                os._exit(0)
            os._exit(1)
        channel = await listener.accept()
        async for request in channel:
            await channel.reply(request, b"for the child")
        _, status = os.waitpid(child, 0)  # noqa: ASYNC222 - it has ended its channel
        assert status == 0, status
        await client.signal(b"of the parent")
        with await server.receive() as message:
            assert message.body == b"of the parent"
        await asyncio.gather(client.aclose(), server.aclose())
    print("over")


async def of_its_own(address: str) -> None:
    """A child that has an engine of its own, and with it a connection of its own."""
    async with tofu.connect(address) as channel:
        with await channel.request(b"x") as response:
            assert response.body == b"for the child"


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=tofu.loop_factory(sys.argv[2])) as runner:
        runner.run(main(sys.argv[1]))
