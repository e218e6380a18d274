"""Where the time of an echo goes: the CPU time of each step of a message, in nanoseconds.

One process, no sockets: a channel over a transport that takes everything. Each figure is the
least of several runs of process time, less that of an empty loop, so that other programs on the
machine disturb it little; still, only figures of one run can be compared with each other. Plain
Python and the compiled core each have a process, one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from functools import partial

from rich.console import Console
from rich.table import Table

import tofu_aio as tofu
from tests.benchmarks import processes
from tests.benchmarks.contenders import sketch
from tofu_aio.messaging.channel import Channel
from tofu_aio.messaging.connection.connection import Connection
from tofu_aio.messaging.flow_control.read_gate import ReadGate
from tofu_aio.messaging.limits import Limits
from tofu_aio.protocol.decoder import Decoder
from tofu_aio.protocol.lifecycle import State

MESSAGES = 64 * 2000
RUNS = 7
BODY = bytes(64)


class Sink(asyncio.Transport):
    """A transport that always has room."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Never full."""

    def get_write_buffer_size(self) -> int:
        """Never anything in it."""
        return 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Gone."""

    def is_closing(self) -> bool:
        return False

    def is_reading(self) -> bool:
        return True


def least_of(messages: int, step: Callable[[int], None]) -> float:
    """Nanoseconds of one message."""
    times = []
    for _ in range(RUNS):
        start = time.process_time_ns()
        step(messages)
        times.append(time.process_time_ns() - start)
    return min(times) / messages


def drive(coroutine: Coroutine[object, object, None]) -> None:
    """Run what never has to wait."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it waited")


async def measure(messages_each: int) -> dict[str, float]:
    """All steps."""
    least = partial(least_of, messages_each)
    gate = ReadGate(Limits(), lambda _: False, lambda _: None)
    gate.open()

    def open_channel(number: int) -> tuple[Connection, Channel]:
        connection = Connection(gate, State.HELLO_AWAITED, number)
        channel = Channel(connection, lambda _: None, lambda _: None)
        connection.connection_made(Sink())
        connection.data_received(tofu.Message(tofu.OpCode.HELLO_REQUEST, message_id=1).encode())
        channel.accept()
        return connection, channel

    sender, channel = open_channel(1)
    connection, served = open_channel(2)  # one that has asked nothing, as a server's
    request = tofu.Message(tofu.OpCode.REQUEST, BODY, message_id=2)
    frame = request.encode()
    chunk = frame * 64

    def nothing(count: int) -> None:
        for _ in range(count):
            pass

    decoder = Decoder(gate.pool, State.OPEN, 1)

    def decode(count: int) -> None:
        for _ in range(count // 64):
            decoder.feed(chunk)

    def iterate(count: int) -> None:
        async def run() -> None:
            left = count
            async for _ in channel:
                left -= 1
                if not left:
                    return

        channel._dispatcher.deliver([request] * count, [])
        drive(run())

    async def replies() -> None:
        for _ in range(64):
            request._proto = 0  # a request is answered once: so it is a new one each time
            await channel.reply(request, BODY)

    async def messages() -> None:
        for _ in range(64):
            await channel.send(request)

    def in_turns(what: Callable[[], Coroutine[object, object, None]], count: int) -> None:
        for _ in range(count // 64):
            drive(what())
            sender.queue.flush()  # as at the end of a turn: otherwise senders give up theirs

    async def serve() -> None:
        async for message in served:
            await served.reply(message, message.body)

    def fed(protocol: asyncio.BufferedProtocol, messages: int) -> Callable[[int], None]:
        chunk = frame * messages

        def feed(count: int) -> None:
            for _ in range(count // 64):
                for _ in range(64 // messages):
                    memoryview(protocol.get_buffer(-1))[: len(chunk)] = chunk
                    protocol.buffer_updated(len(chunk))
                connection.queue.flush()  # as above

        return feed

    empty = least(nothing)
    costs = {
        "decode, and give the permit back": least(decode) - empty,
        "async for message in channel": least(iterate) - empty,
        "await channel.reply(message, body)": least(partial(in_turns, replies)) - empty,
        "await channel.send(message)": least(partial(in_turns, messages)) - empty,
    }
    # From here on the task answers, within the call that brings the chunk.
    connection.queue.flush()
    server = asyncio.create_task(serve())
    await asyncio.sleep(0)
    sketched = sketch.Channel()
    sketched.connection_made(Sink())
    other = asyncio.create_task(sketch.echo(sketched))
    await asyncio.sleep(0)
    whole, alone, least_whole, least_alone = [
        await in_a_callback(partial(least, fed(protocol, messages)))
        for protocol in (connection, sketched)
        for messages in (64, 1)
    ]
    server.cancel()
    other.cancel()
    return {
        **costs,
        "a server's whole echo": whole - empty,
        "the same, a message in a chunk": alone - empty,
        "the sketch's whole echo": least_whole - empty,
        "the sketch's, a message in a chunk": least_alone - empty,
    }


async def in_a_callback(step: Callable[[], float]) -> float:
    """Have it called by the loop, as a transport calls: outside of every task."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[float] = loop.create_future()
    loop.call_soon(lambda: result.set_result(step()))
    return await result


def start(compiled: bool, messages: int) -> dict[str, float]:
    """Measure in a process of its own.

    Raises:
        RuntimeError: it failed, as its stderr tells.
    """
    process = processes.start(
        "costs", "--child", "--messages", messages, environment=processes.variant(compiled)
    )
    try:
        costs: dict[str, float] = json.loads(processes.next_line(process))
    finally:
        processes.end([process])
    return costs


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=MESSAGES, help="in each run; 64 times N")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        processes.check_variant()
        with asyncio.Runner() as runner:
            print(json.dumps(runner.run(measure(options.messages))), flush=True)
        return
    console = Console()
    plain = start(compiled=False, messages=options.messages)
    table = Table(title=f"CPU time of one message of {len(BODY)} B, 64 in a chunk")
    table.add_column("step")
    table.add_column("plain, ns", justify="right")
    why = processes.why_plain()
    if not why:
        core = start(compiled=True, messages=options.messages)
        table.add_column("compiled, ns", justify="right")
        table.add_column("compiled / plain", justify="right")
        for step, cost in plain.items():
            table.add_row(step, f"{cost:,.0f}", f"{core[step]:,.0f}", f"{core[step] / cost:.2f}")
    else:
        console.print(why)
        for step, cost in plain.items():
            table.add_row(step, f"{cost:,.0f}")
    console.print(table)


if __name__ == "__main__":
    main()
