"""A client of a soak: ``client LOOP SEED SABOTAGE ADDRESS...``.

Each line ``round SEED`` on stdin starts some tasks, which connect again and again and run scenes
with the server. ``fork`` starts a task that forks processes meanwhile. ``calm`` lets the tasks
finish, and checks that nothing is left.
"""

from __future__ import annotations

import tests.soak.beginning_slowly  # noqa: F401 - before tofu_aio  # isort: skip

import asyncio
import contextlib
import multiprocessing
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor

import tofu_aio as tofu
from tests.soak import sabotage
from tests.soak.bodies import Broken, Sequence, number_of, numbered, order
from tests.soak.watching import LOSSES, PATIENCE, Watch, report, reporting, watched

POOLS = (1, 2, 8, 64)
TASKS = 6
SIZES = (8, 8, 64, 1000, 20_000, 65_535)
BACKOFF = tofu.Backoff(0.01, 0.2)

Scene = Callable[[tofu.Channel, random.Random], Awaitable[None]]


async def ask_in_turn(channel: tofu.Channel, luck: random.Random) -> None:
    """Make one request after another."""
    for _ in range(luck.randint(1, 20)):
        await ask(channel, luck.getrandbits(60), luck.choice(SIZES))


async def ask(channel: tofu.Channel, number: int, size: int, timeout: float | None = None) -> None:
    """Make a request, and check that the response belongs to it."""
    body = numbered(number, size)
    with await channel.request(body, {"do": "echo"}, timeout=timeout) as response:
        if number_of(response.body) != number:
            raise Broken("order", "a request got the response to another one")


async def ask_at_once(channel: tofu.Channel, luck: random.Random) -> None:
    """Make many requests, some of which are cancelled or time out."""
    asking = [
        asyncio.create_task(
            ask(
                channel,
                luck.getrandbits(60),
                luck.choice(SIZES),
                luck.random() / 100 if luck.random() < 0.2 else None,
            ),
            name="ask",
        )
        for _ in range(luck.randint(2, 30))
    ]
    try:
        for task in asking:
            if luck.random() < 0.2:
                await asyncio.sleep(luck.choice((0, 0, 0.001)))
                task.cancel()
    finally:
        answers = await asyncio.gather(*asking, return_exceptions=True)
    for answer in answers:
        if answer is not None and not isinstance(answer, asyncio.CancelledError | TimeoutError):
            raise answer


async def flood(channel: tofu.Channel, luck: random.Random) -> None:
    """Send many signals, and let the server check them. Once per channel, as it counts them all."""
    size = luck.choice(SIZES)
    count = luck.randint(1, 400 if size < 1000 else 60)
    posted = luck.random() < 0.3
    for number in range(1, count + 1):
        message = tofu.Message(tofu.OpCode.SIGNAL, numbered(number, size))
        if posted:
            channel.post(message)
        else:
            await channel.send(message)
    (await channel.request(count.to_bytes(8), {"do": "total"})).release()


async def read_slowly(channel: tofu.Channel, luck: random.Random) -> None:
    """Receive many signals, sometimes slowly, and check them; or abort in the middle."""
    size = luck.choice(SIZES)
    count = luck.randint(1, 200 if size < 1000 else 60)
    await channel.send(tofu.Message(tofu.OpCode.REQUEST, order(count, size), {"do": "pour"}))
    signals, slow = Sequence(), luck.random() < 0.5
    async for message in channel:
        with message:
            if message.op_code is tofu.OpCode.RESPONSE:
                return signals.check(count)
            signals.add(message.body)
            if slow and luck.random() < 0.1:
                await asyncio.sleep(0.01)
            if luck.random() < 0.001:
                channel.abort()
    raise tofu.ChannelEnded("the server said Bye")


async def take_parts(channel: tofu.Channel, luck: random.Random) -> None:
    """Make a request in two parts, whose response has many; sometimes leave early."""
    size, count = luck.choice(SIZES), luck.randint(0, 40)
    enough = luck.randint(0, 40) if luck.random() < 0.3 else count + 1
    parts = Sequence()
    async with channel.stream(headers={"do": "parts"}) as exchange:
        await exchange.send(order(count, size))
        await exchange.finish()
        async for part in exchange:
            with part:
                if part.body:
                    parts.add(part.body)
            if parts.count == enough:
                return
    parts.check(count)


async def give_up_receiving(channel: tofu.Channel, luck: random.Random) -> None:
    """Cancel receiving again and again, and check that no signal is lost."""
    for _ in range(luck.randint(1, 5)):
        count = luck.randint(1, 20)
        pour = tofu.Message(tofu.OpCode.REQUEST, order(count, 8), {"do": "pour"})
        await channel.send(pour)
        signals = Sequence()
        while True:
            try:
                async with asyncio.timeout(luck.choice((0, 0, 0.001, 1))):
                    message = await channel.receive()
            except TimeoutError:
                continue
            with message:
                if message.op_code is tofu.OpCode.RESPONSE:
                    break
                signals.add(message.body)
        signals.check(count)


SCENES: tuple[Scene, ...] = (
    ask_in_turn,
    ask_at_once,
    read_slowly,
    take_parts,
    give_up_receiving,
)


class Client:
    """Runs the tasks of a round."""

    def __init__(self, group: tofu.ChannelGroup, watch: Watch) -> None:
        self._group = group
        self._watch = watch
        self._calm = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, seed: str, addresses: list[str]) -> None:
        """Start the tasks."""
        self._calm.clear()
        for number in range(TASKS):
            luck = random.Random(f"{seed}/{number}")
            address = luck.choice(addresses)
            self._tasks.append(asyncio.create_task(self._live(address, luck), name="live"))

    def fork(self) -> None:
        """Start a task that forks processes."""
        self._tasks.append(asyncio.create_task(self._compute(), name="compute"))

    async def end(self) -> None:
        """Let the tasks finish their scenes, and wait for them."""
        self._calm.set()
        await asyncio.gather(*self._tasks)
        self._tasks.clear()

    async def _compute(self) -> None:
        """Fork one process after another; each has copies of all objects."""
        loop = asyncio.get_running_loop()
        with reporting("a process pool"):
            while not self._calm.is_set():
                pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
                async with asyncio.timeout(PATIENCE):
                    if await loop.run_in_executor(pool, abs, -1) != 1:
                        raise Broken("processes", "a process returned a wrong result")
                await asyncio.to_thread(pool.shutdown)

    async def _live(self, address: str, luck: random.Random) -> None:
        channels = self._group.reconnecting(address, backoff=BACKOFF)
        with reporting(f"connecting to {address}"):
            async with contextlib.aclosing(channels):
                async for channel in channels:
                    await self._converse(channel, luck)
                    if self._calm.is_set():
                        return

    async def _converse(self, channel: tofu.Channel, luck: random.Random) -> None:
        """Run some scenes, then end the channel in one of several ways."""
        scenes: list[Scene] = luck.choices(SCENES, k=luck.randint(0, 4))
        scenes.insert(luck.randint(0, len(scenes)), flood)
        for scene in scenes:
            with reporting(f"{scene.__name__} on {channel}"):
                try:
                    async with asyncio.timeout(PATIENCE):
                        await scene(channel, luck)
                except LOSSES:
                    self._watch.cut += 1
                    return
                self._watch.done += 1
            if self._calm.is_set():
                break
        match luck.choice(("close", "close", "abort", "leave", "vanish")):
            case "close":
                await channel.aclose()
            case "abort":
                channel.abort()
            case "leave":
                with contextlib.suppress(*LOSSES):
                    channel.post(tofu.Message(tofu.OpCode.BYE_REQUEST))
            case "vanish":
                pass


@contextlib.asynccontextmanager
async def orders() -> AsyncIterator[asyncio.StreamReader]:
    """The lines on stdin. Not read in a thread, whose lock forked children would keep."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        yield reader
    finally:
        transport.close()


async def play(seed: str, addresses: list[str]) -> None:
    """Run the rounds until stdin ends."""
    pool = random.Random(seed).choice(POOLS)
    async with watched(pool) as engine, engine.create_group() as group:
        watch = Watch(engine, 0)
        client = Client(group, watch)
        report(ready=True)
        async with orders() as lines:
            while line := await lines.readline():
                match line.decode().split():
                    case ["round", round_seed]:
                        client.begin(round_seed, addresses)
                    case ["fork"]:
                        client.fork()
                    case ["calm"]:
                        await client.end()
                        await watch.calm()
        await watch.aclose()


def main() -> None:
    """Run the client on its loop."""
    loop, seed, broken, *addresses = sys.argv[1:]
    sabotage.commit(broken)
    with asyncio.Runner(loop_factory=tofu.loop_factory(loop)) as runner:
        runner.run(play(seed, addresses))


if __name__ == "__main__":
    main()
