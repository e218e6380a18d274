"""Services and clients drawn from a seed: calls, streams and uploads, and all that may end them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from random import Random

import msgspec

import tofu_aio as tofu
from tests.simulated.invariants import Invariants
from tofu_aio.testing import PoolCheck, World

LONGEST_WAIT = 1500.0
"""Seconds of virtual time that a channel may wait for a permit, as in ``scenario``."""

LATENESS = 12.0
"""Seconds that a call may end after its time-out. Its caller's channel is closed without waiting,
but a slow network may keep the loop busy with others."""

_BROKEN = (
    tofu.ConnectFailed,
    tofu.PeerDisconnected,
    tofu.ChannelClosed,
    tofu.ChannelEnded,
    tofu.ExchangeFailed,
)
"""What a call may end with if the network or its service breaks."""

_REFUSALS = {
    "resource_exhausted": "too many streams are open",
    "unavailable": "shutting down",
    "allocation_failed": "no room for a long body",
    "cancelled": "the caller gave up",
    "shutdown_started": "refused by an engine",
    "processing_failed": "broken off",
}


class Order(msgspec.Struct):
    """The payload of all calls.

    Attributes:
        token: of this call alone.
        count: of items.
        size: of each result or item.
        delay: in seconds, of the handler, and between items.
    """

    token: int
    count: int
    size: int
    delay: float


class Item(msgspec.Struct):
    """A result, or an item of a stream."""

    token: int
    number: int
    count: int
    text: str


@dataclass
class Site:
    """One address and what serves it."""

    engine: tofu.Engine
    service: tofu.Service
    free: tuple[int, int]
    listener: tofu.Listener | None = None
    serving: asyncio.Task[None] | None = None


async def calls(world: World) -> None:
    """Run the calls of a world."""
    await Calls(world).run()


class Calls:
    """The services and clients of one run, and what each call must end with."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = Random(f"{world.seed} calls")
        self._begun: Counter[int] = Counter()  # by token, how often a handler was run
        self._tokens = iter(range(1, 1_000_000))
        self._ended: Counter[str] = Counter()
        self._disturbed = self._random.random() < 0.6  # in the others nothing may fail
        self._clients: list[tofu.Client] = []
        self._running: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        random, world = self._random, self._world
        sites = [self._site() for _ in range(random.randint(1, 3))]
        guest = self._engine()
        engines = [guest, *(site.engine for site in sites)]
        pools = [PoolCheck(world, engine, LONGEST_WAIT) for engine in engines]
        invariants = Invariants(world, engines)
        for check in (*pools, invariants):
            world.watch(check)
        async with contextlib.AsyncExitStack() as stack:
            for engine in engines:
                await stack.enter_async_context(engine)
            for site in sites:
                group = await stack.enter_async_context(site.engine.create_group())
                await self._listen(site, group)
            group = await stack.enter_async_context(guest.create_group())
            await self._call_all(group, sites)
            for site in sites:
                await self._stop(site)
        await asyncio.sleep(0.1)
        for site in sites:
            left = site.service
            assert left.counts.running == 0, f"{left.counts.running} calls are running"
            assert (left.slots.free, left.streams.free) == site.free, "slots are left"
        for pool in pools:
            pool.check_end()
        invariants.check_end()
        world.note("calls", "ended with", dict(sorted(self._ended.items())))

    async def _call_all(self, group: tofu.ChannelGroup, sites: list[Site]) -> None:
        random = self._random
        addresses = [site.listener.address for site in sites if site.listener]
        for _ in range(random.randint(1, 3)):
            some = random.sample(addresses, random.randint(1, len(addresses)))
            self._clients.append(
                tofu.Client(
                    *some,
                    group=group,
                    attempts=random.choice([1, 3, 5]),
                    streams=random.choice([1, 2, 64]),
                    codec=random.choice([tofu.JSON, tofu.MSGPACK]),
                    heartbeat=random.choice([None, 5.0]),
                )
            )
        trouble = asyncio.create_task(self._make_trouble(sites))
        for client in self._clients:
            for _ in range(random.randint(1, 4)):
                self._running.append(asyncio.create_task(self._caller(client)))
        await asyncio.wait(self._running)
        for task in self._running:
            if not task.cancelled():
                task.result()
        trouble.cancel()
        await asyncio.wait([trouble])
        if not trouble.cancelled():
            trouble.result()
        for client in self._clients:
            await client.aclose()

    # --- services -------------------------------------------------------------------------

    def _engine(self) -> tofu.Engine:
        return tofu.Engine(
            self._random.choice([1, 2, 3, 8, 200]),
            channel_share=self._random.choice([1.0, 1.0, 0.5]),
            max_body=1_000_000,
        )

    def _site(self) -> Site:
        random = self._random
        service = tofu.Service()
        for name in ("echo", "fail", "bug", "watch", "broken", "store", "double"):
            service.add(name, getattr(self, f"_{name}"))
        concurrency, streams = random.choice([1, 2, 5, 256]), random.choice([1, 3, 1024])
        service._limit(concurrency, random.choice([None, 1]), streams, 1_000_000)
        if random.random() < 0.3:
            service.use(_passing_on)
        return Site(self._engine(), service, (service.slots.free, service.streams.free))

    async def _listen(self, site: Site, group: tofu.ChannelGroup) -> None:
        heartbeat = self._random.choice([None, 5.0])
        site.listener = await group.listen("tcp://127.0.0.1:0", heartbeat=heartbeat)
        site.serving = asyncio.create_task(site.listener.serve(site.service.handle))

    async def _stop(self, site: Site) -> None:
        assert site.listener is not None
        assert site.serving is not None
        await site.listener.aclose()
        await site.serving

    def _begin(self, order: Order) -> None:
        self._begun[order.token] += 1

    async def _echo(self, order: Order) -> Item:
        self._begin(order)
        if order.delay:
            await asyncio.sleep(order.delay)
        return Item(order.token, 0, 1, "x" * order.size)

    async def _fail(self, order: Order) -> Item:
        self._begin(order)
        await asyncio.sleep(order.delay)
        raise tofu.ServiceError("failed", "as it should", [order.token])

    async def _bug(self, order: Order) -> Item:
        self._begin(order)
        raise ZeroDivisionError

    async def _watch(self, order: Order) -> AsyncIterator[Item]:
        self._begin(order)
        for number in range(order.count):
            yield Item(order.token, number, order.count, "x" * order.size)
            await asyncio.sleep(order.delay)

    async def _broken(self, order: Order) -> AsyncIterator[Item]:
        async for item in self._watch(order):
            yield item
        raise tofu.ServiceError("failed", "as it should", [order.token])

    async def _store(self, items: AsyncIterator[Item]) -> list[int]:
        expected, item = 0, None
        async for item in items:
            assert item.number == expected, f"item {item.number} came in place of {expected}"
            expected += 1
        if item is None:
            return [0, 0]
        self._begun[item.token] += 1
        if item.count != expected:
            self._world.note("calls", "an upload was cut short", item.token)
            self._ended["cut short"] += 1
        return [item.token, expected]

    async def _double(self, items: AsyncIterator[Item]) -> AsyncIterator[Item]:
        expected = 0
        async for item in items:
            assert item.number == expected, f"item {item.number} came in place of {expected}"
            expected += 1
            yield Item(item.token, item.number, item.count, item.text * 2)

    # --- callers --------------------------------------------------------------------------

    async def _caller(self, client: tofu.Client) -> None:
        kinds = [self._ask, self._ask, self._ask_to_fail, self._read, self._upload, self._exchange]
        for _ in range(self._random.randint(1, 4)):
            await asyncio.sleep(self._random.choice([0.0, 0.0, 0.01, 0.5]))
            count, size = self._random.choice(
                [(0, 0), (1, 10), (3, 1000), (20, 10), (20, 10), (1, 70_000)]
            )
            delay = self._random.choice([0.0, 0.0, 0.01, 1.0])
            order = Order(next(self._tokens), count, size, delay)
            timeout = self._random.choice([0.0, 0.05, 2.0, 50.0, 500.0, 500.0])
            await self._one(self._random.choice(kinds), client, order, timeout)

    async def _one(
        self,
        kind: Callable[[tofu.Client, Order, float], Awaitable[str]],
        client: tofu.Client,
        order: Order,
        timeout: float,
    ) -> None:
        loop, name = asyncio.get_running_loop(), kind.__name__
        began = loop.time()
        self._world.note("calls", f"{name} {order.token}", f"within {timeout}")
        try:
            if self._random.random() < 0.1:
                how = await self._given_up(kind(client, order, timeout))
            else:
                how = await kind(client, order, timeout)
        except TimeoutError as error:
            how = "timeout"
            assert str(error), "the time-out says nothing"  # noqa: PT017
            assert loop.time() - began >= min(timeout, 0.9 * timeout), "it came too early"
        except tofu.ServiceError as error:
            how = error.code
            assert how in _REFUSALS, f"an unexpected error: {error!r}"  # noqa: PT017
        except _BROKEN as error:
            how = type(error).__name__
            assert self._disturbed or self._faulty, f"it failed in a calm world: {error!r}"  # noqa: PT017
        took = loop.time() - began
        assert took <= timeout + LATENESS, f"{name} took {took} s, and {timeout} were allowed"
        self._world.note("calls", f"{name} {order.token}", how)
        self._ended[how] += 1

    @property
    def _faulty(self) -> bool:
        network = self._world.network
        lossy = network.resets or network.half_closes or network.stalls
        return bool(lossy or network.refusals or network.accept_failures)

    async def _given_up(self, call: Awaitable[str]) -> str:
        task = asyncio.ensure_future(call)
        await asyncio.sleep(self._random.choice([0.0, 0.001, 0.05, 1.0]))
        task.cancel()
        await asyncio.wait([task])
        return "given up" if task.cancelled() else task.result()

    def _check_begun(self, order: Order, *, most: int, least: int = 1) -> None:
        begun = self._begun[order.token]
        assert least <= begun <= most, f"{order.token} was carried out {begun} times"

    async def _ask(self, client: tofu.Client, order: Order, timeout: float) -> str:
        idempotent = self._random.random() < 0.3
        try:
            result = await client.call(
                "echo", order, result=Item, timeout=timeout, idempotent=idempotent
            )
        finally:
            self._check_begun(order, most=5 if idempotent else 1, least=0)
        self._check_begun(order, most=5)
        assert result == Item(order.token, 0, 1, "x" * order.size), "it is another's result"
        return "ok"

    async def _ask_to_fail(self, client: tofu.Client, order: Order, timeout: float) -> str:
        name, code = self._random.choice([("fail", "failed"), ("bug", "internal")])
        try:
            await client.call(name, order, timeout=timeout)
        except tofu.ServiceError as error:
            if error.code != code:
                raise
            details = [order.token] if name == "fail" else None
            assert error.details == details, "it is another's error"  # noqa: PT017
            self._check_begun(order, most=1)
            return code
        finally:
            self._check_begun(order, most=1, least=0)
        raise AssertionError(f"{name!r} returned something")

    async def _read(self, client: tofu.Client, order: Order, timeout: float) -> str:
        name, expected = self._random.choice(["watch", "broken"]), 0
        leave_at = self._random.choice([None, None, 1])
        stream = client.stream(name, order, item=Item, timeout=timeout)
        async with contextlib.aclosing(stream):
            try:
                async for item in stream:
                    right = Item(order.token, expected, order.count, "x" * order.size)
                    assert item == right, f"item {item.number} came in place of {expected}"
                    expected += 1
                    if expected == leave_at:
                        return "left"
            except tofu.ServiceError as error:
                if (name, error.code) != ("broken", "failed"):
                    raise
                assert error.details == [order.token], "it is another's error"  # noqa: PT017
                # What was sent before an error may not have been taken, but nothing is missing.
                return "failed"
            finally:
                self._check_begun(order, most=1, least=0)
        assert name == "watch", "a broken stream seems to be whole"
        assert expected == order.count, f"{expected} items of {order.count} seem to be all"
        return "streamed"

    async def _parts(self, order: Order) -> AsyncIterator[Item]:
        for number in range(order.count):
            await asyncio.sleep(order.delay)
            yield Item(order.token, number, order.count, "x" * order.size)

    async def _upload(self, client: tofu.Client, order: Order, timeout: float) -> str:
        try:
            result = await client.upload(
                "store", self._parts(order), result=list[int], timeout=timeout
            )
        finally:
            self._check_begun(order, most=1, least=0)
        whole = [order.token, order.count] if order.count else [0, 0]
        assert result == whole, f"{result} was stored in place of {whole}"
        return "uploaded"

    async def _exchange(self, client: tofu.Client, order: Order, timeout: float) -> str:
        expected = 0
        stream = client.stream("double", self._parts(order), item=Item, timeout=timeout)
        async with contextlib.aclosing(stream):
            async for item in stream:
                right = Item(order.token, expected, order.count, "x" * (2 * order.size))
                assert item == right, f"item {item.number} came in place of {expected}"
                expected += 1
        assert expected == order.count, f"{expected} items of {order.count} seem to be all"
        return "exchanged"

    # --- trouble --------------------------------------------------------------------------

    async def _make_trouble(self, sites: list[Site]) -> None:
        if not self._disturbed:
            return
        for _ in range(self._random.randint(1, 4)):
            await asyncio.sleep(self._random.choice([0.005, 0.05, 0.5, 2.0]))
            links, site = self._world.links, self._random.choice(sites)
            match self._random.randint(0, 5):
                case 0 | 1 if links:
                    self._world.note("trouble", "resets")
                    self._random.choice(links).reset()
                case 2 if links:
                    self._world.note("trouble", "stalls")
                    self._random.choice(links).stall(self._random.choice([0.1, 3.0, 30.0]))
                case 3:
                    self._world.note("trouble", "drains")
                    seconds = self._random.choice([0.0, 1.0, 20.0])
                    assert site.listener is not None
                    await asyncio.gather(site.listener.drain(seconds), site.service.drain())
                case 4:
                    self._world.note("trouble", "closes a client")
                    await self._random.choice(self._clients).aclose()
                case 5 if self._random.random() < 0.5:
                    self._world.note("trouble", "closes a listener")
                    assert site.listener is not None
                    await site.listener.aclose()


async def _passing_on(
    call: tofu.Call, following: Callable[[tofu.Call], Awaitable[object]]
) -> object:
    await asyncio.sleep(0)
    return await following(call)
