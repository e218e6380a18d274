"""The steps of an echo as ``compiled`` compares them: ``compiled_steps.py plain|compiled``.

Prints a JSON object: nanoseconds of processor time of one message, without sockets.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable

import tofu_aio as tofu
from tests.benchmarks import costs
from tofu_aio.messaging.channel import Channel
from tofu_aio.messaging.connection.connection import PORTION, Connection
from tofu_aio.messaging.flow_control.read_gate import ReadGate
from tofu_aio.messaging.limits import Limits
from tofu_aio.protocol import decoder
from tofu_aio.protocol.lifecycle import State


async def steps() -> dict[str, float]:
    """Nanoseconds of one message, without sockets; the echo with the task that answers."""
    gate = ReadGate(Limits(), lambda _: False, lambda _: None)
    gate.open()
    connection = Connection(gate, State.HELLO_AWAITED, 1)
    channel = Channel(connection, lambda _: None, lambda _: None)
    connection.connection_made(costs.Sink())
    connection.data_received(tofu.Message(tofu.OpCode.HELLO_REQUEST, message_id=1).encode())
    channel.accept()
    request = tofu.Message(tofu.OpCode.REQUEST, costs.BODY, message_id=2)
    frame = request.encode()

    def decode(count: int) -> None:
        for _ in range(count // 64):
            connection.decoder.feed(frame * 64, PORTION)
            while connection.decoder.pending:
                connection.decoder.more(64)

    def reply(count: int) -> None:
        async def run() -> None:
            for _ in range(count):
                await channel.reply(request, costs.BODY)

        costs.drive(run())

    def echo(size: int) -> Callable[[int], None]:
        def feed(count: int) -> None:
            for _ in range(count // size):
                connection.data_received(frame * size)

        return feed

    async def serve() -> None:
        async for message in channel:
            await channel.reply(message, message.body)

    async def in_a_callback(step: Callable[[int], None]) -> float:
        told: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: told.set_result(costs.least(step)))
        return await told

    figures = {"decode": costs.least(decode), "reply": costs.least(reply)}
    serving = asyncio.create_task(serve())
    await asyncio.sleep(0)
    for size in (1, 64, 200):
        figures[f"whole echo, {size} in a chunk"] = await in_a_callback(echo(size))
    serving.cancel()
    return figures


def main() -> None:
    """Measure what is asked for, if it is that."""
    (which,) = sys.argv[1:]
    if decoder.__file__.endswith(".py") is not (which == "plain"):
        sys.exit(f"{decoder.__file__} is not {which}")
    with asyncio.Runner() as runner:
        print(json.dumps(runner.run(steps())))


if __name__ == "__main__":
    main()
