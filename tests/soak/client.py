"""A client of a soak: ``client LOOP SEED SABOTAGE ADDRESS...``.

Each ``round SEED`` on stdin starts a number of tasks, which connect again and again and play scenes
with the server; ``fork`` one that forks processes beside them; ``calm`` lets them finish, and
checks what is left.
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
from tests.soak.watching import LOSSES, PATIENCE, Watch, judged, say, watched

POOLS = (1, 2, 8, 64)
TASKS = 6
SIZES = (8, 8, 64, 1000, 20_000, 65_535)
BACKOFF = tofu.Backoff(0.01, 0.2)

Scene = Callable[[tofu.Channel, random.Random], Awaitable[None]]


async def ask_in_turn(channel: tofu.Channel, luck: random.Random) -> None:
    """One request after another."""
    for _ in range(luck.randint(1, 20)):
        await ask(channel, luck.getrandbits(60), luck.choice(SIZES))


async def ask(channel: tofu.Channel, number: int, size: int, timeout: float | None = None) -> None:
    """A request whose response must be its own."""
    body = numbered(number, size)
    with await channel.request(body, {"do": "echo"}, timeout=timeout) as response:
        if number_of(response.body) != number:
            raise Broken("order", "a request got the response of another")


async def ask_at_once(channel: tofu.Channel, luck: random.Random) -> None:
    """Many requests, some of which are cancelled or have too little time."""
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
    """As many signals as fit, then whether all have come. Once a channel: the server counts on."""
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
    """Be poured over, take one's time, and see that it was all; or leave in the middle."""
    size = luck.choice(SIZES)
    count = luck.randint(1, 200 if size < 1000 else 60)
    await channel.send(tofu.Message(tofu.OpCode.REQUEST, order(count, size), {"do": "pour"}))
    signals, slow = Sequence(), luck.random() < 0.5
    async for message in channel:
        with message:
            if message.op_code is tofu.OpCode.RESPONSE:
                return signals.check(count)
            signals.take(message.body)
            if slow and luck.random() < 0.1:
                await asyncio.sleep(0.01)
            if luck.random() < 0.001:
                channel.abort()
    raise tofu.ChannelEnded("the server said Bye")


async def take_parts(channel: tofu.Channel, luck: random.Random) -> None:
    """A request in two parts and its answer in many; sometimes broken off."""
    size, count = luck.choice(SIZES), luck.randint(0, 40)
    enough = luck.randint(0, 40) if luck.random() < 0.3 else count + 1
    parts = Sequence()
    async with channel.stream(headers={"do": "parts"}) as exchange:
        await exchange.send(order(count, size))
        await exchange.finish()
        async for part in exchange:
            with part:
                if part.body:
                    parts.take(part.body)
            if parts.count == enough:
                return
    parts.check(count)


async def give_up_receiving(channel: tofu.Channel, luck: random.Random) -> None:
    """Cancel what receives, again and again, while one's own requests are answered."""
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
                signals.take(message.body)
        signals.check(count)


SCENES: tuple[Scene, ...] = (
    ask_in_turn,
    ask_at_once,
    read_slowly,
    take_parts,
    give_up_receiving,
)


class Client:
    """The tasks of a round."""

    def __init__(self, group: tofu.ChannelGroup, watch: Watch) -> None:
        self._group = group
        self._watch = watch
        self._calm = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, seed: str, addresses: list[str]) -> None:
        """Start them all."""
        self._calm.clear()
        for number in range(TASKS):
            luck = random.Random(f"{seed}/{number}")
            address = luck.choice(addresses)
            self._tasks.append(asyncio.create_task(self._live(address, luck), name="live"))

    def fork(self) -> None:
        """Fork processes meanwhile."""
        self._tasks.append(asyncio.create_task(self._compute(), name="compute"))

    async def end(self) -> None:
        """Let them finish what they are at."""
        self._calm.set()
        await asyncio.gather(*self._tasks)
        self._tasks.clear()

    async def _compute(self) -> None:
        """Fork one process after another, each of which has copies of all there is."""
        loop = asyncio.get_running_loop()
        with judged("a process pool"):
            while not self._calm.is_set():
                pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
                async with asyncio.timeout(PATIENCE):
                    if await loop.run_in_executor(pool, abs, -1) != 1:
                        raise Broken("processes", "a process has computed something else")
                await asyncio.to_thread(pool.shutdown)

    async def _live(self, address: str, luck: random.Random) -> None:
        channels = self._group.reconnecting(address, backoff=BACKOFF)
        with judged(f"connecting to {address}"):
            async with contextlib.aclosing(channels):
                async for channel in channels:
                    await self._converse(channel, luck)
                    if self._calm.is_set():
                        return

    async def _converse(self, channel: tofu.Channel, luck: random.Random) -> None:
        """Some scenes, then one way or another to end."""
        scenes: list[Scene] = luck.choices(SCENES, k=luck.randint(0, 4))
        scenes.insert(luck.randint(0, len(scenes)), flood)
        for scene in scenes:
            with judged(f"{scene.__name__} on {channel}"):
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
    """What the conductor says. A thread that reads it would keep its lock in forked children."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        yield reader
    finally:
        transport.close()


async def play(seed: str, addresses: list[str]) -> None:
    """Until stdin ends."""
    pool = random.Random(seed).choice(POOLS)
    async with watched(pool) as engine, engine.create_group() as group:
        watch = Watch(engine, 0)
        client = Client(group, watch)
        say(ready=True)
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
    """Run on the loop."""
    loop, seed, broken, *addresses = sys.argv[1:]
    sabotage.commit(broken)
    with asyncio.Runner(loop_factory=tofu.loop_factory(loop)) as runner:
        runner.run(play(seed, addresses))


if __name__ == "__main__":
    main()
