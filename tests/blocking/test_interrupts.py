"""Every blocking call, interrupted at every point: nothing hangs, leaks, is lost or comes twice."""

from __future__ import annotations

import gc
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from random import Random
from typing import Final, TypeAlias

import pytest

import tofu_aio as tofu
from tests.blocking.conftest import PATIENCE, POOL, Beside
from tests.blocking.interrupting import Interrupted, Interruption
from tests.messaging.peers import frame
from tofu_aio import OpCode, blocking
from tofu_aio.blocking import waiting
from tofu_aio.messaging.connection import closing as closing_module
from tofu_aio.protocol.decoder import Decoder
from tofu_aio.protocol.lifecycle import State

EVERY: Final = int(os.environ.get("TOFU_INTERRUPT_EVERY", "40"))
"""One of so many points is tried, from a drawn one on; the nox session ``interrupts`` tries all."""


@contextmanager
def one_engine() -> Iterator[blocking.Engine]:
    """An engine that gives everything back."""
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


@contextmanager
def a_world() -> Iterator[World]:
    with one_engine() as engine, one_engine() as server:
        yield World(engine, server)


Tried: TypeAlias = tuple[Callable[[], object], Callable[[], None]]
"""What is interrupted, and what makes sure afterwards that all is well."""

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
    """What was interrupted is sent once or not at all; the next one is, behind it."""

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

    Beside(answer)

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

    Beside(answer)

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
                Beside(channel.close)

    Beside(serve)
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
    Beside(world.peer.close)
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


def points_of(attempt: Callable[[Interruption], None]) -> Iterator[Interruption]:
    """Interruptions at each point of what is attempted, or at some of them."""
    counting = Interruption(0)
    attempt(counting)
    assert counting.points > 10
    for at in range(Random(os.urandom(8)).randint(1, EVERY), counting.points + 1, EVERY):
        yield Interruption(at)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_call_is_interrupted_at_any_point(
    case: Case, record_property: Callable[[str, object], None]
) -> None:
    def attempt(interruption: Interruption) -> None:
        with a_world() as world:
            call, check = case(world)
            with suppress(Interrupted):
                interruption.during(call)
            check()

    tried = 0
    for interruption in points_of(attempt):
        attempt(interruption)
        tried += 1
    record_property("points", tried)


def leave_an_engine(interruption: Interruption) -> None:
    engine = blocking.Engine(POOL)

    def call() -> None:
        with engine:
            pass

    with suppress(Interrupted):
        interruption.during(call)
    engine.close()
    wait_for_threads()


def leave_a_shortcut(interruption: Interruption) -> None:
    with one_engine() as engine, engine.create_group() as group:
        listener = group.listen("tcp://127.0.0.1:0")
        accepting = Beside(lambda: list(map(close_it, listener)))
        made: list[blocking.Channel] = []
        with suppress(Interrupted):
            interruption.during(lambda: made.append(blocking.connect(listener.address)))
        for channel in made:
            channel.close()
        listener.close()
        accepting.result()


def close_it(channel: blocking.Channel) -> None:
    channel.close()


def leave_a_server(interruption: Interruption) -> None:
    served = threading.Semaphore(0)

    def handle(channel: blocking.Channel) -> None:
        for message in channel:
            channel.reply(message, message.body)
        served.release()

    with blocking.serve(handle, "tcp://127.0.0.1:0") as server:

        def counted() -> None:
            with suppress(tofu.TofuError), blocking.connect(server.address) as channel:
                channel.request(b"?", timeout=PATIENCE)
            server.close()

        visiting = Beside(counted)
        with suppress(Interrupted):
            interruption.during(server.serve_forever)
    visiting.result()


def wait_for_threads() -> None:
    """One that was about to start when its start was taken back ends at once."""
    for thread in threading.enumerate():
        if thread.name == "tofu_aio":
            thread._started.wait(PATIENCE)  # type: ignore[attr-defined]  # `join` raises before
            thread.join(PATIENCE)


@pytest.mark.parametrize(
    "attempt", [leave_an_engine, leave_a_shortcut, leave_a_server], ids=lambda it: it.__name__
)
def test_what_begins_and_ends_an_engine_is_interrupted_at_any_point(
    attempt: Callable[[Interruption], None], record_property: Callable[[str, object], None]
) -> None:
    tried = 0
    for interruption in points_of(attempt):
        attempt(interruption)
        wait_for_threads()
        tried += 1
    record_property("points", tried)


@contextmanager
def a_mute_peer(engine: blocking.Engine) -> Iterator[socket.socket]:
    """Its end of a connected channel, whose Bye it does not answer while this lasts."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> socket.socket:
            peer, _ = server.accept()
            peer.settimeout(PATIENCE)
            (hello,) = Decoder(None, State.OVERHEARD).feed(peer.recv(65536))
            peer.sendall(frame(OpCode.HELLO_RESPONSE, message_id=hello.message_id))
            return peer

        accepting = Beside(accept)
        engine.create_group().connect(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        peer = accepting.result()
        assert isinstance(peer, socket.socket)
        with peer:
            yield peer


NOTHING_DONE_YET: Final = 2
"""So many first points are the beginnings of functions, where no ``try`` can have begun."""


def close_beside_a_mute_peer(*interruptions: Interruption) -> None:
    """Close again and again, interrupted each time; then, with no peer heard, all has ended."""
    with blocking.Engine(POOL) as engine, a_mute_peer(engine):
        for interruption in interruptions:
            with suppress(Interrupted):
                interruption.during(engine.close)
        thread = engine._thread._thread
        thread.join(PATIENCE)
        assert not thread.is_alive(), [each.at for each in interruptions]


def test_an_engine_whose_closing_is_interrupted_at_any_point_waits_for_no_peer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(closing_module, "BYE_TIMEOUT", 3600.0)
    monkeypatch.setattr(waiting, "SLICE", 0.01)  # while it waits each brings new points
    counting = Interruption(0)
    with blocking.Engine(POOL) as engine:
        counting.during(engine.close)
    assert counting.points > 10
    for at in range(NOTHING_DONE_YET + 1, counting.points + 1):
        close_beside_a_mute_peer(Interruption(at))
    for at in range(1, NOTHING_DONE_YET + 1):
        close_beside_a_mute_peer(Interruption(at), Interruption(counting.points))
