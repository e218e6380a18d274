"""A fleet in virtual time: instances of a service, and programs that call them.

Engines, services, clients and channels are the real ones. The network and the time are simulated,
and so is what each instance can do: its handler occupies the processor of its instance. Every
program has a channel to every instance. What is measured is virtual time, so a run gives the same
figures on every machine.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

import tofu_aio as tofu
from tofu_aio import testing

WORK = 0.02
"""Seconds for which a call occupies the processor of its instance."""

TIMEOUT = 2.0
"""Seconds that a program waits for a result."""

LOOK = 0.05
"""Seconds between two looks at the fleet."""

NEARBY = testing.Network(
    latency=(0.0002, 0.0005),
    bandwidth=(1e9, 1e9),
    reads=(262_144, 262_144),
    writes=(262_144, 262_144),
    segments=(65_536, 65_536),
)
"""The network of a data centre on a good day: what is looked for here are not its faults."""


class Processor:
    """Does one thing at a time, in order of arrival."""

    def __init__(self) -> None:
        self._free_at = 0.0

    async def work(self, seconds: float) -> None:
        """Wait until it is free, and then occupy it."""
        now = asyncio.get_running_loop().time()
        self._free_at = max(now, self._free_at) + seconds
        await asyncio.sleep(self._free_at - now)


class Instance:
    """One instance of the service: an engine that listens, and a processor.

    Attributes:
        address: it is the same after a restart.
    """

    def __init__(self, world: testing.World, number: int) -> None:
        self.address = tofu.TcpAddress(f"10.0.{number // 250}.{number % 250 + 1}", 7000)
        self._world = world
        self._processor = Processor()
        self._stack = AsyncExitStack()
        self._service: tofu.Service
        self._engine: tofu.Engine | None = None
        self._listener: tofu.Listener

    async def start(self) -> None:
        """Serve."""
        self._service = tofu.Service()
        self._service.add("work", self._work)
        async with AsyncExitStack() as stack:
            engine = await stack.enter_async_context(tofu.Engine())
            group = await stack.enter_async_context(engine.create_group())
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            self._listener = await group.listen(self.address)
            tasks.create_task(self._listener.serve(self._service.handle))
            self._engine, self._stack = engine, stack.pop_all()

    async def _work(self, number: int) -> int:
        await self._processor.work(WORK)
        return number

    @property
    def channels(self) -> int:
        """Open channels."""
        return 0 if self._engine is None else self._engine.statistics().channels - 1

    @property
    def running(self) -> int:
        """Calls that have begun and not ended."""
        return self._service.counts.running

    async def restart(self) -> None:
        """What a rolling restart does: let the calls end, leave, and come back."""
        await asyncio.gather(self._listener.drain(30), self._service.drain())
        await self.aclose()
        await self.start()

    async def crash(self, seconds: float) -> None:
        """Lose all channels at once, and come back some time later."""
        for link in self._world.links:
            if link.server == (self.address.host, self.address.port):
                link.reset()
        await self.aclose()
        await asyncio.sleep(seconds)
        await self.start()

    async def aclose(self) -> None:
        """Close what is left."""
        await self._listener.aclose()
        self._engine = None
        await self._stack.aclose()


class Look(NamedTuple):
    """A fleet at one moment.

    Attributes:
        time: in seconds, since the load began.
        channels: that are open.
        connects: channels that were made since the last look.
        failures: calls that have failed since then.
    """

    time: float
    channels: int
    connects: int
    failures: int


@dataclass
class Load:
    """What the calls of all programs have come to.

    Attributes:
        times: seconds that each successful call took.
        failures: the others, by the name of their error.
        most_running: calls that an instance had begun and not ended, at the most.
        looks: the fleet every ``LOOK`` seconds.
    """

    times: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    most_running: int = 0
    looks: list[Look] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """All of them."""
        return len(self.times) + self.failures.total()

    def percentile(self, percent: float) -> float:
        """Milliseconds; infinite if that many have failed."""
        index = math.ceil(self.calls * percent / 100) - 1
        return sorted(self.times)[index] * 1000 if index < len(self.times) else math.inf


class Fleet:
    """Instances, and programs that each have a channel to every one of them.

    Attributes:
        instances: of the service.
        clients: one for each program.
    """

    def __init__(self, world: testing.World, instances: int, programs: int) -> None:
        self.instances = [Instance(world, number) for number in range(instances)]
        self.clients: list[tofu.Client] = []
        self._programs = programs
        self._random: Random = world.random

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Connect everybody with everybody."""
        async with AsyncExitStack() as stack:
            for instance in self.instances:
                await instance.start()
                stack.push_async_callback(instance.aclose)
            addresses = [instance.address for instance in self.instances]
            for _ in range(self._programs):
                # Not before the world runs: each client chooses an order of its own.
                client = tofu.Client(*addresses, call_timeout=TIMEOUT)
                self.clients.append(client)
                await stack.enter_async_context(client)
                # Each of these calls goes to the address with the fewest calls.
                calls = (client.call("work", 0, timeout=60) for _ in self.instances)
                await asyncio.gather(*calls)
            yield

    @property
    def channels(self) -> int:
        """Open channels."""
        return sum(instance.channels for instance in self.instances)

    async def load(self, use: float, seconds: float) -> Load:
        """Make calls at random moments, and wait for their results.

        Args:
            use: how much work there is; 1 would keep all processors busy all the time.
            seconds: for how long calls are made.
        """
        load = Load()
        rate = use * len(self.instances) / WORK
        until = asyncio.get_running_loop().time() + seconds
        looking = asyncio.create_task(self._look(load))
        async with asyncio.TaskGroup() as tasks:
            while asyncio.get_running_loop().time() < until:
                await asyncio.sleep(self._random.expovariate(rate))
                client = self._random.choice(self.clients)
                tasks.create_task(_call(client, load))
        looking.cancel()
        return load

    async def _look(self, load: Load) -> None:
        loop = asyncio.get_running_loop()
        begun, connects, failed = loop.time(), self._connects(), 0
        while True:
            await asyncio.sleep(LOOK)
            load.most_running = max(load.most_running, *(each.running for each in self.instances))
            new, lost = self._connects(), load.failures.total()
            look = Look(loop.time() - begun, self.channels, new - connects, lost - failed)
            load.looks.append(look)
            connects, failed = new, lost

    def _connects(self) -> int:
        return sum(client.counts.connects for client in self.clients)


async def _call(client: tofu.Client, load: Load) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    try:
        assert await client.call("work", 1, result=int) == 1
    except (tofu.TofuError, TimeoutError) as error:
        load.failures[type(error).__name__] += 1
    else:
        load.times.append(loop.time() - begun)
