"""The server that is attacked, an ordinary program: ``server LOOP KIND OPTIONS [LIMIT=VALUE ...]``.

It prints two addresses, for honest clients and for the attacker. ``OPTIONS`` are those of
``listen``, in JSON, with ``max_threads`` or ``tls``. ``LIMIT`` is a constant of the library, such
as ``messaging.connection.UNTAKEN_ANSWERS``, to see the verdict if that limit had another value.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import sys
import threading
from typing import Any

import tofu_aio as tofu
from tests.benchmarks import processes
from tests.messaging.certificates import client_context, server_context
from tofu_aio import blocking

HERE = "tcp://127.0.0.1:0"
FORMAT = "%(levelname)s %(name)s: %(message)s"
WRONG = "wrong"
"""The token of clients that are rejected."""


async def decide(channel: tofu.Channel) -> None:
    """Reject clients with the wrong token."""
    if channel.hello.headers.get("Token") == WRONG:
        raise tofu.Rejected("this is the wrong token")


async def answer(exchange: tofu.Exchange) -> None:
    """Answer each part of a request with one that has the same body."""
    async with exchange:
        async for part in exchange:
            with part:
                await exchange.send(part.body)
        await exchange.finish()


async def call(group: tofu.ChannelGroup, address: str, *, tls: bool) -> None:
    """Stay connected to another server."""
    ssl = client_context(trusting=True) if tls else None
    async for channel in group.reconnecting(address, ssl=ssl, backoff=tofu.Backoff(0.01, 0.05)):
        with contextlib.suppress(tofu.TofuError):  # the next iteration connects again
            async for message in channel:
                message.release()


async def serve(group: tofu.ChannelGroup, listener: tofu.Listener, *, tls: bool = False) -> None:
    """Echo requests, answer exchanges, connect where a client says, and keep all signals."""

    async def handle(channel: tofu.Channel) -> None:
        kept = []
        async with asyncio.TaskGroup() as tasks:
            async for message in channel:
                where = message.headers.get("Call")
                if message.op_code is tofu.OpCode.SIGNAL:
                    kept.append(message)
                elif message.more:
                    tasks.create_task(answer(channel.stream(message)))
                else:
                    with message:
                        if where is not None:
                            tasks.create_task(call(group, where, tls=tls))
                        await channel.reply(message, message.body)

    await listener.serve(handle, decide=decide)


async def streams(options: dict[str, Any]) -> None:
    """Serve at the stream level."""
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen(HERE, **options)
        print(listener.address, listener.address, flush=True)
        await serve(group, listener, tls="ssl" in options)


async def messages(_: dict[str, Any]) -> None:
    """Serve at the stream level, and listen at the message level without ever receiving."""
    async with tofu.Engine() as engine, engine.create_group() as group:
        busy = engine.create_group()
        welcome = {"~listen_on": "tcp|127.0.0.1|0"}
        busy.post(tofu.Message(tofu.OpCode.WELCOME_REQUEST, headers=welcome))
        where = (await busy.receive()).headers["~listen_on"]
        listener = await group.listen(HERE)
        print(listener.address, tofu.parse_address(where), flush=True)
        await serve(group, listener)


def threads(loop: str, options: dict[str, Any]) -> None:
    """Serve each channel in a thread."""

    def handle(channel: blocking.Channel) -> None:
        for request in channel:
            with request:
                channel.reply(request, request.body)

    most = options.pop("max_threads")
    with blocking.Engine(loop_factory=tofu.loop_factory(loop)) as engine:
        listener = engine.create_group().listen(HERE, **options)
        print(listener.address, listener.address, flush=True)
        # In a thread of its own, so that this one can be interrupted on each Python.
        serving = threading.Thread(
            target=listener.serve, args=(handle,), kwargs={"max_threads": most}
        )
        serving.start()
        serving.join()


def set_limit(text: str) -> None:
    """Change a limit of the library."""
    name, _, value = text.partition("=")
    module, _, constant = name.rpartition(".")
    place = importlib.import_module(f"tofu_aio.{module}")
    setattr(place, constant, type(getattr(place, constant))(value))


def main() -> None:
    """Serve until killed."""
    loop, kind, json_options, *limits = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, format=FORMAT)
    logging.captureWarnings(True)
    processes.allow_descriptors()
    for limit in limits:
        set_limit(limit)
    options = json.loads(json_options)
    if options.pop("tls", False):
        options["ssl"] = server_context()
    if kind == "threads":
        threads(loop, options)
        return
    with asyncio.Runner(loop_factory=tofu.loop_factory(loop)) as runner:
        runner.run({"streams": streams, "messages": messages}[kind](options))


if __name__ == "__main__":
    main()
