"""A program that forks while it connects to a broker: ``python -m ...forked_early SAID LOOP``.

SAID is how many lines the broker has said by then, of the four that the program waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import tofu_aio as tofu

LINES = [
    b'INFO {"server_id": "x", "headers": true, "max_payload": 1048576}\r\n',
    *3 * [b"PONG\r\n"],
]


async def main(said: int) -> None:
    """The parent gives up, and its connection is over though the child lives."""
    reached, over = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for line in LINES[:said]:
            writer.write(line)
            await reader.readuntil(b"PING\r\n")
        reached.set()
        with contextlib.suppress(ConnectionResetError):
            await reader.read()  # to the end
        over.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with tofu.Engine() as engine, engine.create_group() as group:
        connecting = asyncio.ensure_future(group.connect(f"nats://127.0.0.1:{port}/x"))
        await reached.wait()
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(writing)
            os.read(reading, 1)  # until the parent has closed the other end
            os._exit(0)
        os.close(reading)
        connecting.cancel()
        await asyncio.wait([connecting])
        async with asyncio.timeout(20):
            await over.wait()
        ended = os.waitpid(child, os.WNOHANG)  # noqa: ASYNC222 - it does not wait
        assert ended == (0, 0), "the child has ended before"
        os.close(writing)
        os.waitpid(child, 0)  # noqa: ASYNC222 - it ends now
    server.close()
    print("over")


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=tofu.loop_factory(sys.argv[2])) as runner:
        runner.run(main(int(sys.argv[1])))
