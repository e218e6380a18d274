"""Ordinary programs with threads, which must finish whatever the pool's size."""

from __future__ import annotations

import contextlib
import gc
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

import tofu_aio as tofu
from tests.blocking.conftest import PATIENCE, Beside
from tofu_aio import blocking
from tofu_aio.reactor import LoopFactory

POOLS = pytest.mark.parametrize("pool", [1, 3, None], ids=lambda pool: f"{pool or 'default'}")

LONG = bytes(range(256)) * 4096


class World:
    """Several programs, each with its own engine."""

    def __init__(self, stack: ExitStack, loop_factory: LoopFactory, pool: int | None) -> None:
        self.engines: list[blocking.Engine] = []
        self._stack = stack
        self._loop_factory = loop_factory
        self._pool = pool

    def group(self) -> blocking.ChannelGroup:
        """The group of a new program."""
        limits = {} if self._pool is None else {"pool_messages": self._pool}
        engine = blocking.Engine(**limits, loop_factory=self._loop_factory)
        self._stack.enter_context(engine)
        self.engines.append(engine)
        return engine.create_group()

    def serve(
        self, handler: Callable[[blocking.Channel], object], group: blocking.ChannelGroup
    ) -> tofu.Address:
        """Serve each channel in a thread until the end."""
        listener = group.listen("tcp://127.0.0.1:0")
        serving = Beside(lambda: listener.serve(handler))
        self._stack.callback(serving.result)
        self._stack.callback(listener.close)
        return listener.address

    def connect(self, address: tofu.Address, group: blocking.ChannelGroup) -> blocking.Channel:
        """Connect; the channel is aborted at the end."""
        channel = group.connect(address)
        self._stack.callback(channel.abort)
        return channel


@contextlib.contextmanager
def world_of(loop_factory: LoopFactory, pool: int | None) -> Iterator[World]:
    """Run programs, which must finish, and check that their engines have nothing left."""
    with ExitStack() as stack:
        world = World(stack, loop_factory, pool)
        engines = world.engines
        yield world
        del world
    gc.collect()
    for engine in engines:
        left = engine.statistics()
        assert (left.pool_free, left.reserves) == (left.pool_size, 0), "permits left behind"
        assert (left.joining_bytes, left.held_bytes, left.awaited) == (0, 0, 0)
        assert (left.channels, left.waiting, left.over_share) == (0, 0, 0)


def echo(channel: blocking.Channel) -> None:
    """Answer each request with its own body."""
    with contextlib.suppress(tofu.TofuError):  # the client has gone
        for request in channel:
            channel.reply(request, request.body)


def ask_all(channel: blocking.Channel, count: int, threads: int = 8) -> None:
    """Make ``count`` requests from several threads."""
    with ThreadPoolExecutor(threads) as executor:
        asked = [b"%d" % n for n in range(count)]
        answers = executor.map(lambda body: channel.request(body, timeout=PATIENCE).body, asked)
        assert list(answers) == asked


@POOLS
def test_threads_ask_at_once(loop_factory: LoopFactory, pool: int | None) -> None:
    with world_of(loop_factory, pool) as world:
        client = world.connect(world.serve(echo, world.group()), world.group())
        ask_all(client, 100)


@POOLS
def test_a_gateway_of_threads(loop_factory: LoopFactory, pool: int | None) -> None:
    with world_of(loop_factory, pool) as world, ThreadPoolExecutor(8) as executor:
        group = world.group()
        upstream = world.connect(world.serve(echo, world.group()), group)

        def pass_on(channel: blocking.Channel, request: tofu.Message) -> None:
            with request:
                channel.reply(request, upstream.request(request.body, timeout=PATIENCE).body)

        def gateway(channel: blocking.Channel) -> None:
            with contextlib.suppress(tofu.TofuError):
                for request in channel:
                    executor.submit(pass_on, channel, request)
                    del request

        client = world.connect(world.serve(gateway, group), world.group())
        ask_all(client, 60)


@POOLS
def test_the_loop_variables_of_more_clients_than_permits(
    loop_factory: LoopFactory, pool: int | None
) -> None:
    with world_of(loop_factory, pool) as world:
        address, group = world.serve(echo, world.group()), world.group()
        channels = [world.connect(address, group) for _ in range((pool or 2) + 6)]
        for _ in range(3):
            for n, channel in enumerate(channels):
                assert channel.request(b"%d" % n, timeout=PATIENCE).body == b"%d" % n


@POOLS
def test_long_bodies_go_there_and_back(loop_factory: LoopFactory, pool: int | None) -> None:
    with world_of(loop_factory, pool) as world:
        client = world.connect(world.serve(echo, world.group()), world.group())
        for body in (LONG, bytearray(LONG), memoryview(LONG)):
            assert client.request(body, timeout=PATIENCE).body == LONG


def test_a_cancelled_request_is_known_to_be(loop_factory: LoopFactory) -> None:
    with world_of(loop_factory, 4) as world:
        listener = world.group().listen("tcp://127.0.0.1:0")
        accepting = Beside(listener.accept)
        client = world.connect(listener.address, world.group())
        server = accepting.result()
        assert isinstance(server, blocking.Channel)
        asking = Beside(lambda: client.request(timeout=0.2))
        with server.receive(PATIENCE) as request:
            with pytest.raises(TimeoutError):
                asking.result()
            ends = time.monotonic() + PATIENCE
            while not server.cancelled(request):
                assert time.monotonic() < ends
            sent = server.statistics().sent
            server.reply(request, LONG)
            assert server.statistics().sent == sent
        listener.close()


def test_who_only_asks_is_told_of_the_messages_that_nobody_receives(
    loop_factory: LoopFactory, caplog: pytest.LogCaptureFixture
) -> None:
    def chatty(channel: blocking.Channel) -> None:
        with contextlib.suppress(tofu.TofuError):
            for request in channel:
                for _ in range(20):
                    channel.signal(b"news")
                channel.reply(request, b"answer")

    with world_of(loop_factory, 3) as world:
        client = world.connect(world.serve(chatty, world.group()), world.group())
        asking = Beside(lambda: client.request(timeout=PATIENCE))
        ends = time.monotonic() + PATIENCE
        while not client.statistics().suspended:
            assert time.monotonic() < ends
        with pytest.raises(TimeoutError) as raised:
            client.request(timeout=0.05)
        remedy = "messages before it were not received. Receive them, with 'async for message"
        assert remedy in str(raised.value)
        records = [r for r in caplog.records if r.name == "tofu_aio"]
        assert [r.levelno for r in records] == [logging.WARNING]
        assert remedy in records[0].message
        for _ in range(20):
            client.receive(PATIENCE).release()
        answer = asking.result()
        assert isinstance(answer, tofu.Message)
        assert answer.body == b"answer"
