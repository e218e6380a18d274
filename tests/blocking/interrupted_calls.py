"""The calls that test_interrupts.py interrupts, each with a check that nothing was lost."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeAlias

import tofu_aio as tofu
from tests.blocking.conftest import PATIENCE, POOL, Beside
from tofu_aio import OpCode, blocking


@contextmanager
def one_engine() -> Iterator[blocking.Engine]:
    """An engine, and a check that all permits came back and no channel is left."""
    with blocking.Engine(POOL) as engine:
        yield engine
    gc.collect()
    left = engine.statistics()
    assert (left.pool_free, left.channels, left.waiting, left.reserves) == (POOL, 0, 0, 0)


class World:
    """A client and an echo server, each with an engine of its own."""

    def __init__(self, engine: blocking.Engine, server: blocking.Engine) -> None:
        self.engine = engine
        self.group = engine.create_group()
        self.listener = server.create_group().listen("tcp://127.0.0.1:0")
        self.address = self.listener.address
        accepting = Beside(self.listener.accept)
        self.channel = self.group.connect(self.address)
        peer = accepting.result()
        assert isinstance(peer, blocking.Channel)
        self.peer = peer
        self._helpers: list[Beside] = []

    def run_beside(self, function: Callable[[], object]) -> None:
        """Run a function in a thread that ends at the latest when the engines close."""
        self._helpers.append(Beside(function))

    def close(self, *engines: blocking.Engine) -> None:
        """Close the engines, and wait for the threads, which may still hold messages."""
        for engine in engines:
            engine.close()
        for helper in self._helpers:
            helper.result()


@contextmanager
def a_world() -> Iterator[World]:
    with one_engine() as engine, one_engine() as server:
        world = World(engine, server)
        yield world
        world.close(engine, server)


Tried: TypeAlias = tuple[Callable[[], object], Callable[[], None]]
"""The call that is interrupted, and a function that checks the state afterwards."""


Case: TypeAlias = Callable[[World], Tried]


def receive(world: World) -> Tried:
    got: list[bytes] = []

    def call() -> None:
        message = world.channel.receive(PATIENCE)
        got.append(message.body)

    def check() -> None:
        while len(got) < 3:
            call()
        assert got == [b"1", b"2", b"3"]

    for body in (b"1", b"2", b"3"):
        world.peer.signal(body)
    return call, check


def iterate(world: World) -> Tried:
    got: list[bytes] = []

    def call() -> None:
        for message in world.channel:
            got.append(message.body)
            if len(got) == 3:
                return

    def check() -> None:
        if len(got) < 3:
            call()
        assert got == [b"1", b"2", b"3"]

    for body in (b"1", b"2", b"3"):
        world.peer.signal(body)
    return call, check


def received_of_a_group(world: World) -> Tried:
    got: list[bytes] = []

    def call() -> None:
        got.append(world.group.receive(PATIENCE).body)

    def check() -> None:
        while len(got) < 2:
            call()
        assert got == [b"1", b"2"]

    for body in (b"1", b"2"):
        world.group.update_receiver(tofu.Message(OpCode.SIGNAL, body))
    return call, check


def at_most_once(world: World, send: Callable[[bytes], object]) -> Tried:
    """The interrupted message is sent once or not at all; the next one is sent after it."""

    def check() -> None:
        send(b"second")
        bodies = [world.peer.receive(PATIENCE).body]
        while bodies[-1] != b"second":
            bodies.append(world.peer.receive(PATIENCE).body)
        assert bodies in ([b"first", b"second"], [b"second"])

    return lambda: send(b"first"), check


def send(world: World) -> Tried:
    return at_most_once(
        world, lambda body: world.channel.send(tofu.Message(OpCode.SIGNAL, body), timeout=PATIENCE)
    )


def post(world: World) -> Tried:
    return at_most_once(world, lambda body: world.channel.post(tofu.Message(OpCode.SIGNAL, body)))


def request(world: World) -> Tried:
    def answer() -> None:
        with suppress(tofu.TofuError):
            for asked in world.peer:
                if asked.op_code is OpCode.REQUEST:
                    world.peer.reply(asked, asked.body)

    world.run_beside(answer)

    def check() -> None:
        assert world.channel.request(b"again", timeout=PATIENCE).body == b"again"

    return lambda: world.channel.request(b"first", timeout=PATIENCE), check


def reply(world: World) -> Tried:
    asking = Beside(lambda: world.channel.request(b"?", timeout=PATIENCE).body)
    asked = world.peer.receive(PATIENCE)

    def check() -> None:
        with asked, suppress(tofu.NotAllowed):  # answered already
            world.peer.reply(asked, b"!")
        assert asking.result() == b"!"

    return lambda: world.peer.reply(asked, b"!"), check


def exchange(world: World) -> Tried:
    def answer() -> None:
        with suppress(tofu.TofuError):
            for asked in world.peer:
                with suppress(tofu.TofuError), world.peer.stream(asked) as stream:
                    stream.finish(b"".join(part.body for part in stream))

    world.run_beside(answer)

    def converse() -> bytes:
        with world.channel.stream() as stream:
            stream.send(b"a", timeout=PATIENCE)
            stream.finish(b"b", timeout=PATIENCE)
            return stream.receive(PATIENCE).body

    def check() -> None:
        assert converse() == b"ab"

    return converse, check


def connect(world: World) -> Tried:
    def serve() -> None:
        with suppress(tofu.TofuError):
            for channel in world.listener:
                world.run_beside(channel.close)

    world.run_beside(serve)
    made: list[blocking.Channel] = []

    def check() -> None:
        world.group.connect(world.address).close()
        for channel in made:
            channel.close()

    return lambda: made.append(world.group.connect(world.address)), check


def accept(world: World) -> Tried:
    connecting = Beside(lambda: world.group.connect(world.address))
    accepted: list[blocking.Channel] = []

    def call() -> None:
        accepted.append(world.listener.accept(PATIENCE))

    def check() -> None:
        if not accepted:
            call()
        connecting.result()
        assert len(accepted) == 1

    return call, check


def listen(world: World) -> Tried:
    def check() -> None:
        world.group.listen("tcp://127.0.0.1:0").close()

    return lambda: world.group.listen("tcp://127.0.0.1:0").close(), check


def post_an_opening(world: World) -> Tried:
    def opening() -> tofu.Message:
        return tofu.Message(OpCode.WELCOME_REQUEST, b"", {tofu.LISTEN_ON: "tcp://127.0.0.1:0"})

    def check() -> None:
        number = world.group.post(opening()).channel_number
        while world.group.receive(PATIENCE).channel_number != number:
            pass

    return lambda: world.group.post(opening()), check


def close(world: World) -> Tried:
    world.run_beside(world.peer.close)
    return world.channel.close, world.channel.close


def create_group(world: World) -> Tried:
    return world.engine.create_group, lambda: world.engine.create_group().close()


CASES: Final[list[Case]] = [
    receive,
    iterate,
    received_of_a_group,
    send,
    post,
    request,
    reply,
    exchange,
    connect,
    accept,
    listen,
    post_an_opening,
    close,
    create_group,
]
