"""A program that ends with everything open: ``python leaving.py LOOP HOW``."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import linecache
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator

import tofu_aio as tofu
from tofu_aio import OpCode

if sys.platform == "win32":  # as in tests/conftest.py
    linecache.checkcache = lambda filename=None: None


async def until_quiet() -> None:
    """Whatever is under way, waits by now."""
    for _ in range(100):
        await asyncio.sleep(0)


def own_of(task: asyncio.Task[object]) -> None:
    """Its end is looked at, as a program should."""
    if not task.cancelled():
        task.exception()


@contextlib.asynccontextmanager
async def everything(how: str) -> AsyncIterator[tofu.ChannelGroup]:
    """Waiting calls, floods, strangers, half frames, openings, streams and messages."""
    silent = socket.create_server(("127.0.0.1", 0))
    where = tofu.TcpAddress("127.0.0.1", silent.getsockname()[1])
    async with contextlib.AsyncExitStack() as stack:
        engine = tofu.Engine(pool_messages=4)
        if how in UNCLOSED:
            await engine.__aenter__()
        else:
            stack.callback(silent.close)
            await stack.enter_async_context(engine)
        group = engine.create_group()
        group.post(tofu.Message(OpCode.WELCOME_REQUEST, headers={"~listen_on": "tcp|127.0.0.1|0"}))
        (await group.receive()).release()
        if hasattr(socket, "AF_UNIX"):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tofu", dir="/tmp"))
            await group.listen(f"uds://{folder}/s")
        listener = await group.listen("tcp://127.0.0.1:0")
        pairs = [
            await asyncio.gather(group.connect(listener.address), listener.accept())
            for _ in range(4)
        ]
        half = socket.create_connection((listener.address.host, listener.address.port))  # type: ignore[union-attr]
        half.send(bytes(7))
        KEPT.extend([engine, group, listener, pairs, half, silent])
        if how in UNCLOSED:
            await until_quiet()
            yield group
            return
        stack.callback(half.close)

        async def flood(channel: tofu.Channel) -> None:
            while True:
                await channel.signal(bytes(60_000))

        waiting = [
            pairs[0][0].request(b"?"),
            pairs[1][0].receive(),
            flood(pairs[2][0]),
            flood(pairs[2][1]),
            listener.accept(),
            group.receive(),
            group.connect(where),
        ]
        for coroutine in waiting:
            task = asyncio.create_task(coroutine)
            task.add_done_callback(own_of)
            KEPT.append(task)
        hello = tofu.Message(OpCode.HELLO_REQUEST, headers={"~connect_to": where.to_header()})
        group.post(hello)
        pairs[3][0].post(tofu.Message(OpCode.SIGNAL, b"unread"))
        await until_quiet()
        yield group


KEPT: list[object] = []
UNCLOSED = {"loop closed", "main ended open"}
"""Where nobody closes the engine, and no task of the program is left either."""


async def main(how: str) -> None:
    asyncio.get_running_loop().slow_callback_duration = 60  # nothing is timed here
    async with everything(how) as group:
        match how:
            case "main ended":
                return
            case "main ended open" | "loop closed":
                return
            case "exception":
                raise ValueError("the program's own")
            case "sigint":
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.Event().wait()
            case "exit in a handler":

                async def handle(channel: tofu.Channel) -> None:
                    sys.exit(3)

                listener = await group.listen("tcp://127.0.0.1:0")
                connecting = asyncio.create_task(group.connect(listener.address))
                connecting.add_done_callback(own_of)
                await listener.serve(handle)
            case "exit in main":
                sys.exit(3)
            case "fork":
                await fork(group)
            case _:
                raise AssertionError(how)


def in_child() -> None:
    """A child that ends; what it inherited is collected there."""
    KEPT.clear()
    gc.collect()


async def fork(group: tofu.ChannelGroup) -> None:
    """The parent goes on after its children have ended."""
    warnings.simplefilter("ignore", DeprecationWarning)  # of forking a process with threads
    child = multiprocessing.get_context("fork").Process(target=in_child)
    child.start()
    child.join()
    assert child.exitcode == 0
    pid = os.fork()
    if not pid:
        in_child()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0  # noqa: ASYNC222 - nothing else is to happen meanwhile
    async with await group.listen("tcp://127.0.0.1:0") as listener:
        client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
    client.post(tofu.Message(OpCode.SIGNAL))
    await asyncio.gather(client.aclose(), server.aclose())


if __name__ == "__main__":
    name, how = sys.argv[1:]
    factory = tofu.loop_factory(name)
    if how == "loop closed":
        loop = factory()
        loop.run_until_complete(main(how))
        loop.close()
    else:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main(how))
