"""What programs that keep many messages take, beside the bound that the documentation computes.

Each program is a few processes on loopback, of which one is looked at: how much resident memory it
had when it was ready, and how much at its peak. The bound is the formula of
docs/howto/backpressure.md for the channels and requests of that process, without the 64 MiB for
long bodies, of which there are none. What the kernel holds for a socket is in neither.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from importlib.util import find_spec

import tofu_aio as tofu
from tests.benchmarks import processes
from tests.benchmarks.processes import MIB
from tests.messaging.peers import RawPeer, frame
from tofu_aio.messaging.limits import Limits
from tofu_aio.protocol.account import LENT
from tofu_aio.protocol.binary_header import HEADER_SIZE, MAX_FRAME

LOOPS = ("reactor", "asyncio", "uvloop")

CHUNK = 256 * 1024
"""Bytes that are read from a socket at a time."""

GATHERED, POLLED, CHAINED, DEAF = 3000, 2000, 40, 16
MEDIUM, LONG = 16 * 1024, 65_535
"""Bytes of bodies."""

SETTLE = 5.0
"""Seconds for clients that never read to fill all that they can."""

Handler = Callable[[tofu.Channel], Awaitable[None]]

DEFAULTS = Limits()
TINY = Limits(pool_messages=4, pool_bytes=4 * (HEADER_SIZE + LONG))


@dataclass(frozen=True)
class Program:
    """Some processes, one of which is looked at.

    Attributes:
        roles: the processes in the order in which they start, each with the address of the one
            before. The last one does the work.
        looked_at: one of them.
        channels: that it has.
        requests: that it has under way at once, with responses of ``body`` bytes.
        limits: of its engine.
    """

    roles: tuple[str, ...]
    looked_at: str
    channels: int
    requests: int = 0
    body: int = 0
    limits: Limits = DEFAULTS

    @property
    def bound(self) -> int:
        """Bytes that it may take, the Python objects around them left out."""
        received = (1 + LENT) * MAX_FRAME + 2 * CHUNK
        sent = 2 * self.limits.write_high_water + MAX_FRAME
        responses = self.requests * (HEADER_SIZE + self.body)
        return self.limits.pool_bytes + self.channels * (received + sent) + responses


PROGRAMS = {
    f"a client gathers {GATHERED:,} requests of {MEDIUM:,} bytes": Program(
        ("echo", "gatherer"), "gatherer", channels=1, requests=GATHERED, body=MEDIUM
    ),
    f"a gateway with a pool of 4 messages passes {CHAINED} requests of {LONG:,} bytes on": Program(
        ("echo", "gateway", "asker"),
        "gateway",
        channels=2,
        requests=CHAINED,
        body=LONG,
        limits=TINY,
    ),
    f"a server keeps {POLLED:,} long polls of {MEDIUM:,} bytes, a channel each": Program(
        ("polled", "pollers"), "polled", channels=POLLED
    ),
    f"a server has {DEAF} clients that ask with {LONG:,} bytes and never read": Program(
        ("echo", "deaf"), "echo", channels=DEAF + 1
    ),
}


# --- the processes ---------------------------------------------------------------------------


def ready(line: object) -> None:
    """Tell whoever started this process."""
    print(line, flush=True)


async def go() -> None:
    """Wait until that is told to go on."""
    await asyncio.to_thread(sys.stdin.readline)


async def serve(handler: Handler, group: tofu.ChannelGroup) -> None:
    """Until killed."""
    listener = await group.listen("tcp://127.0.0.1:0")
    ready(listener.address)
    await listener.serve(handler)


async def echo(_: str) -> None:
    """The server of the documentation's first page."""

    async def handle(channel: tofu.Channel) -> None:
        async for request in channel:
            await channel.reply(request, request.body)

    async with tofu.Engine() as engine, engine.create_group() as group:
        await serve(handle, group)


async def gatherer(address: str) -> None:
    """Asks for everything at once, and keeps all responses."""
    async with tofu.connect(address) as channel:
        ready("open")
        await go()
        asked = (channel.request(bytes(MEDIUM)) for _ in range(GATHERED))
        responses = await asyncio.gather(*asked)
        ready(len(responses))
        await go()


async def gateway(address: str) -> None:
    """Keeps each request until its response has come from behind."""
    limits = {"pool_messages": TINY.pool_messages, "pool_bytes": TINY.pool_bytes}
    async with tofu.Engine(**limits) as engine, engine.create_group() as group:
        behind = await group.connect(address)

        async def pass_on(channel: tofu.Channel, request: tofu.Message) -> None:
            with request:
                response = await behind.request(request.body)
                await channel.reply(request, response.body)

        async def handle(channel: tofu.Channel) -> None:
            async with asyncio.TaskGroup() as tasks:
                async for request in channel:
                    tasks.create_task(pass_on(channel, request))

        await serve(handle, group)


async def asker(address: str) -> None:
    """Asks so many at once, again and again."""
    async with tofu.connect(address) as channel:
        ready("open")
        await go()
        for _ in range(25):
            await asyncio.gather(*(channel.request(bytes(LONG)) for _ in range(CHAINED)))
        ready("done")
        await go()


async def polled(_: str) -> None:
    """Keeps each request until all are here."""
    waiting = 0
    everybody = asyncio.Event()

    async def handle(channel: tofu.Channel) -> None:
        nonlocal waiting
        async for request in channel:
            waiting += 1
            if waiting == POLLED:
                everybody.set()
            await everybody.wait()
            await channel.reply(request, b"it happened")

    async with tofu.Engine() as engine, engine.create_group() as group:
        await serve(handle, group)


async def pollers(address: str) -> None:
    """So many clients, each of which waits for an event."""
    async with tofu.Engine() as engine, engine.create_group() as group:
        ready("here")
        await go()
        channels = [await group.connect(address) for _ in range(POLLED)]
        await asyncio.gather(*(channel.request(bytes(MEDIUM)) for channel in channels))
        ready("done")
        await go()


async def deaf(address: str) -> None:
    """Clients that ask as fast as they can and never read; then one that is served beside them."""
    async with tofu.Engine() as engine, engine.create_group() as group:
        ready("here")
        await go()
        flooding = [asyncio.create_task(ask_and_never_read(address)) for _ in range(DEAF)]
        await asyncio.sleep(SETTLE)
        channel = await group.connect(address)
        for _ in range(100):
            await channel.request(bytes(LONG))
        ready("done")
        await go()
        for task in flooding:
            task.cancel()


async def ask_and_never_read(address: str) -> None:
    """By hand, for our own channels read whatever comes."""
    server = tofu.parse_address(address)
    assert isinstance(server, tofu.TcpAddress)
    peer = await RawPeer.introduced(server)
    for number in itertools.count(2):
        await peer.send(frame(body=bytes(LONG), message_id=number))


ROLES: dict[str, Callable[[str], Coroutine[object, object, None]]] = {
    role.__name__: role for role in (echo, gatherer, gateway, asker, polled, pollers, deaf)
}


# --- the measurement -------------------------------------------------------------------------


def grown(program: Program, loop: str) -> float:
    """MiB that the process took at its peak, beyond what it had when it was ready."""
    running: dict[str, subprocess.Popen[str]] = {}
    try:
        address = ""
        for role in program.roles:
            running[role] = processes.start("bound", role, loop, address)
            address = processes.next_line(running[role])
        watched, last = running[program.looked_at], running[program.roles[-1]]
        before = processes.peak(watched)
        processes.tell(last, "go")
        processes.next_line(last)
        return processes.peak(watched) - before
    finally:
        processes.end(running.values())


def main() -> None:
    """Run each program on each loop, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loops", nargs="+", choices=LOOPS, default=LOOPS, metavar="NAME")
    options = parser.parse_args()
    loops = [loop for loop in options.loops if loop != "uvloop" or find_spec(loop)]
    rows = []
    for name, program in PROGRAMS.items():
        sizes = [program.bound / MIB, *(grown(program, loop) for loop in loops)]
        rows.append([name, *(f"{size:,.1f}" for size in sizes)])
    print(f"MiB; {processes.machine()}\n")
    print(processes.markdown(["", "bound", *loops], rows))


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in ROLES:
        _, role, loop, address = sys.argv
        processes.allow_descriptors()
        with asyncio.Runner(loop_factory=tofu.loop_factory(loop)) as runner:
            runner.run(ROLES[role](address))
    else:
        main()
