"""Where the time of a call goes: the CPU time of both sides, with one part of a call after another.

A server and a client with 64 requests in flight. The first step is ``channel.request`` with bytes,
and the last one ``client.call`` of a service. The steps run in turn, round after round, and each
figure is the least of its rounds, so that other programs on the machine disturb it little; still,
only figures of one run can be compared with each other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import anyio
import msgspec
from rich.console import Console
from rich.table import Table

import tofu_aio as tofu
from tests.benchmarks import processes
from tests.benchmarks.contenders.calls import Text, echo, service
from tofu_aio.service.tasks import new_task

IN_FLIGHT: Final = 64
BODY: Final = bytes(64)
TEXT: Final = Text("x" * len(BODY))
HEADERS: Final = tofu.TextHeaders({"call": "echo", "content-type": "application/json"})
encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Text).decode


async def _same(channel: tofu.Channel) -> None:
    async for request in channel:
        await channel.reply(request, request.body)


async def _json(channel: tofu.Channel) -> None:
    async for request in channel:
        await _answer(channel, request)


async def _in_tasks(channel: tofu.Channel) -> None:
    loop = asyncio.get_running_loop()
    tasks = set[asyncio.Task[None]]()
    async for request in channel:
        task = new_task(_answer(channel, request), loop)
        if not task.done():
            tasks.add(task)
            task.add_done_callback(tasks.discard)


async def _answer(channel: tofu.Channel, request: tofu.Message) -> None:
    await channel.reply(request, encode(await echo(decode(request.body))), HEADERS)


STEPS: Final = {
    "channel.request, bytes each way": _same,
    "with the headers of a call, and a struct in JSON": _json,
    "with a task for each request, as handlers need": _in_tasks,
    "the server is a tofu.Service": service.handle,
    "and the client a tofu.Client": service.handle,
}
"""What the server does in each step. Each adds something to the one before."""

Ask = Callable[[], Awaitable[object]]


@asynccontextmanager
async def asking(step: int, address: str) -> AsyncIterator[Ask]:
    """What asks once in a step."""
    if step == len(STEPS) - 1:
        async with tofu.Client(address) as client:
            yield partial(client.call, "echo", TEXT, result=Text)
        return

    async def ask() -> Text:
        return decode((await channel.request(encode(TEXT), HEADERS)).body)

    async with await tofu.connect(address) as channel:
        yield ask if step else partial(channel.request, BODY)


async def serve() -> None:
    """Say where each step is served, and then, for each line that comes, the CPU time so far."""
    async with (
        tofu.Engine() as engine,
        engine.create_group() as group,
        anyio.create_task_group() as tasks,
    ):
        listeners = [await group.listen("tcp://127.0.0.1:0") for _ in STEPS]
        for listener, handler in zip(listeners, STEPS.values(), strict=True):
            tasks.start_soon(listener.serve, handler)
        print(json.dumps([str(each.address) for each in listeners]), flush=True)
        while await anyio.to_thread.run_sync(input):
            print(time.process_time(), flush=True)
        tasks.cancel_scope.cancel()


async def measure(calls: int, rounds: int) -> list[tuple[float, float]]:
    """Microseconds of a call in the client and in the server, for each step."""
    server = processes.start("call_costs", "--serve")

    def server_time() -> float:
        processes.tell(server, "time")
        return float(processes.next_line(server))

    async def several(ask: Ask) -> None:
        for _ in range(calls // IN_FLIGHT):
            await ask()

    try:
        addresses: list[str] = json.loads(processes.next_line(server))
        least = [(float("inf"), float("inf"))] * len(STEPS)
        for _ in range(rounds):
            for step, address in enumerate(addresses):
                async with asking(step, address) as ask:
                    await ask()
                    theirs, own = server_time(), time.process_time()
                    await asyncio.gather(*(several(ask) for _ in range(IN_FLIGHT)))
                    took = time.process_time() - own, server_time() - theirs
                each = [seconds / calls * 1e6 for seconds in took]
                least[step] = (min(least[step][0], each[0]), min(least[step][1], each[1]))
        return least
    finally:
        processes.end([server])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=12_800, help="of each step and round")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        tofu.run(serve())
        return
    costs = tofu.run(measure(options.calls, options.rounds))
    table = Table(title=f"CPU time of a call, {IN_FLIGHT} in flight, on {processes.machine()}")
    table.add_column("step")
    table.add_column("client, µs", justify="right")
    table.add_column("server, µs", justify="right")
    table.add_column("of the first", justify="right")
    for step, each in zip(STEPS, costs, strict=True):
        ratio = max(costs[0]) / max(each)  # the busier side decides how many calls there are
        table.add_row(step, *(f"{cost:.1f}" for cost in each), f"{ratio:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
