"""Echo and calls through one NATS broker, beside nats-py's own requests and direct TCP.

``python -m tests.benchmarks.brokered`` starts a broker and runs the contenders one after another,
round after round, each with a server in a process of its own: first with a window of echoes or
calls under way, then with one at a time. It prints the medians of the rates, of the broker's CPU
time for each echo or call, and of the time of a round trip. What is compared is of the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import nats
from nats.aio.msg import Msg

import tofu_aio as tofu
from tests.benchmarks import tables
from tests.benchmarks.load import Load, Meter, asking, until_one_ends
from tests.benchmarks.results import Figures, Results, Subject
from tests.transport.nats.brokers import Broker, handled, missing, running

SUBJECT = "benchmark"

Ask = Callable[[bytes], Awaitable[object]]

TITLES = {
    "request": "nats-py, request",
    "publish": "nats-py, publish and subscribe",
    "nats": "tofu_aio over nats://, echo of messages",
    "nats-request": "tofu_aio over nats://, channel.request",
    "nats-call": "tofu_aio over nats://, call of a service",
    "tcp": "tofu_aio over TCP, echo of messages",
    "tcp-request": "tofu_aio over TCP, channel.request",
    "tcp-call": "tofu_aio over TCP, call of a service",
}
"""By the names of the contenders. The first is the one that the others are compared with."""


async def serve(contender: str, where: str) -> None:
    """Echo, until stdin ends. Prints the address first."""
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    async with AsyncExitStack() as stack:
        if contender in {"request", "publish"}:
            connection = await stack.enter_async_context(await nats.connect(where))

            async def respond(message: Msg) -> None:
                await connection.publish(message.reply, message.data)

            await connection.subscribe(SUBJECT, cb=respond)
            await handled(connection)
            print(where, flush=True)
            await ended
            return
        engine = await stack.enter_async_context(tofu.Engine(pool_messages=4096))
        group = await stack.enter_async_context(engine.create_group())
        listener = await group.listen(where)
        service = tofu.Service()

        @service.handler("echo")
        async def echo(body: bytes) -> bytes:
            return body

        async def answer(channel: tofu.Channel) -> None:
            async for request in channel:
                await channel.reply(request, request.body)

        handler = service.handle if contender.endswith("call") else answer
        serving = asyncio.create_task(listener.serve(handler))
        print(listener.address, flush=True)
        await ended
        serving.cancel()
        await asyncio.wait([serving])


async def drive(where: str, load: Load, meter: Meter) -> None:
    """Ask one server until the time is up."""
    async with AsyncExitStack() as stack:
        if load.contender == "publish":
            await published(where, load, meter)
        elif load.contender == "request":
            connection = await stack.enter_async_context(await nats.connect(where))
            await asked(lambda body: connection.request(SUBJECT, body, 10), load, meter)
        elif load.contender.endswith("call"):
            client = await stack.enter_async_context(tofu.Client(where))
            await asked(
                lambda body: client.call("echo", body, result=bytes, timeout=10), load, meter
            )
        else:
            channel = await stack.enter_async_context(tofu.connect(where, pool_messages=4096))
            if load.contender.endswith("request"):

                async def request(body: bytes) -> None:
                    (await channel.request(body, timeout=10)).release()

                await asked(request, load, meter)
            else:
                await echoed(channel, load, meter)


async def asked(ask: Ask, load: Load, meter: Meter) -> None:
    """From as many tasks as the window has."""
    await until_one_ends(asking(ask, load, meter))


async def echoed(channel: tofu.Channel, load: Load, meter: Meter) -> None:
    """A message for each that comes back."""
    message = tofu.Message(tofu.OpCode.REQUEST, bytes(load.size))
    left = meter.lap()
    for _ in range(load.window):
        await channel.send(message)
    async for _ in channel:
        left -= 1
        if not left and not (left := meter.lap()):
            break
        await channel.send(message)
    channel.abort()


async def published(where: str, load: Load, meter: Meter) -> None:
    """Echoes with one subscription for all answers, and no future for each."""
    connection = await nats.connect(where)
    inbox, body, over = connection.new_inbox(), bytes(load.size), asyncio.Event()

    async def answered(_: Msg) -> None:
        nonlocal left
        left -= 1
        if over.is_set() or (not left and not (left := meter.lap())):
            over.set()
        else:
            await connection.publish(SUBJECT, body, reply=inbox)

    await connection.subscribe(inbox, cb=answered)
    left = meter.lap()
    for _ in range(load.window):
        await connection.publish(SUBJECT, body, reply=inbox)
    await over.wait()
    await connection.close()


def measured(load: Load, broker: Broker) -> Figures:
    """Start a server, and return the figures of one run against it."""
    contender = load.contender
    where = f"nats://127.0.0.1:{broker.port}" + (
        "/benchmark" if contender.startswith("nats") else ""
    )
    if contender.startswith("tcp"):
        where = "tcp://127.0.0.1:0"
    program = [sys.executable, "-m", "tests.benchmarks.brokered"]
    server = subprocess.Popen(
        [*program, "--serve", contender, where, "--loop", load.loop],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        address = server.stdout.readline().strip()
        meter = Meter(load, lambda: None)
        with asyncio.Runner(loop_factory=tofu.loop_factory(load.loop)) as runner:
            before = cpu_time(broker)
            runner.run(drive(address, load, meter))
            taken = cpu_time(broker) - before
    finally:
        server.stdin.close()
        server.wait(10)
        server.stdout.close()
    figures = meter.figures()
    if not contender.startswith("tcp"):  # it does without the broker
        figures["broker"] = taken / figures["echoes"] * 1e6
    return figures


def cpu_time(broker: Broker) -> float:
    """Seconds of the processor that the broker has taken."""
    import psutil

    times = psutil.Process(broker.pid).cpu_times()
    return float(times.user + times.system)


def main() -> None:
    """Run the contenders, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--window", type=int, default=64, help="echoes under way at a time")
    parser.add_argument("--size", type=int, default=64, help="bytes of a body")
    parser.add_argument("--loop", default="asyncio", help="of servers and clients")
    parser.add_argument("contenders", nargs="*", default=list(TITLES))
    arguments = parser.parse_args()
    if arguments.serve:
        with asyncio.Runner(loop_factory=tofu.loop_factory(arguments.loop)) as runner:
            runner.run(serve(*arguments.serve))
        return
    if (text := missing()) is not None:
        parser.error(text)
    loads = [
        Load(name, arguments.loop, window, arguments.size, arguments.seconds)
        for window in dict.fromkeys((arguments.window, 1))
        for name in arguments.contenders
    ]
    results = Results()
    with running() as broker:
        for number in range(arguments.rounds):
            # There and back, so that nobody always comes after the same one.
            for load in reversed(loads) if number % 2 else loads:
                results.add(subject(load), measured(load, broker))
    print(
        f"{arguments.size} bytes, {arguments.loop}, {arguments.rounds} rounds of "
        f"{arguments.seconds:g} s\n"
    )
    print(of_rates([load for load in loads if load.window == arguments.window], results))
    print()
    print(of_round_trips([load for load in loads if load.window == 1], results))


def subject(load: Load) -> Subject:
    """What the figures of a load are of."""
    return Subject(f"{load.window} under way", load.contender, load.loop)


def of_rates(loads: Sequence[Load], results: Results) -> str:
    """How many echoes or calls a second."""
    base = subject(loads[0])
    rows = [
        [
            TITLES[load.contender],
            tables.whole(results.spread(subject(load), "rate")),
            tables.range_of(results.ratio("rate", subject(load), base)),
            tables.range_of(results.spread(subject(load), "broker")),
        ]
        for load in loads
    ]
    columns = ["", "echoes per second", "to the first", "the broker's CPU, µs each"]
    return tables.table(base.case, columns, rows)


def of_round_trips(loads: Sequence[Load], results: Results) -> str:
    """How long one takes that is alone."""
    base = subject(loads[0])
    rows = [
        [
            TITLES[load.contender],
            *(tables.whole(results.spread(subject(load), name)) for name in ("p50", "p99")),
            *(tables.range_of(results.ratio(name, subject(load), base)) for name in ("p50", "p99")),
        ]
        for load in loads
    ]
    columns = ["", "p50, µs", "p99, µs", "p50 to the first", "p99 to the first"]
    return tables.table("Round trip, one under way", columns, rows)


if __name__ == "__main__":
    main()
