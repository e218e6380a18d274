"""Every blocking call, interrupted at every point: nothing hangs, leaks, is lost or comes twice."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from random import Random
from typing import Final

import pytest

import tofu_aio as tofu
from tests.blocking.conftest import PATIENCE, POOL, Beside
from tests.blocking.interrupted_calls import CASES, Case, a_world, one_engine
from tests.blocking.interrupting import Interrupted, Interruption
from tests.messaging.peers import frame
from tofu_aio import OpCode, blocking
from tofu_aio.blocking import waiting
from tofu_aio.messaging.connection import closing as closing_module
from tofu_aio.protocol.decoder import Decoder
from tofu_aio.protocol.lifecycle import State

EVERY: Final = int(os.environ.get("TOFU_INTERRUPT_EVERY", "40"))
"""Every n-th point is tried, from a random one on. The nox session ``interrupts`` tries all."""


def points_of(attempt: Callable[[Interruption], None]) -> Iterator[Interruption]:
    """Yield interruptions at every ``EVERY``-th point of the attempt."""
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

        def visit() -> None:
            with suppress(tofu.TofuError), blocking.connect(server.address) as channel:
                channel.request(b"?", timeout=PATIENCE)
            server.close()

        visiting = Beside(visit)
        with suppress(Interrupted):
            interruption.during(server.serve_forever)
    visiting.result()


def wait_for_threads() -> None:
    """A thread ends at once if it was about to start when its start was interrupted."""
    for thread in threading.enumerate():
        if thread.name == "tofu_aio":
            thread._started.wait(PATIENCE)  # type: ignore[attr-defined]  # `join` raises before
            thread.join(PATIENCE)


@pytest.mark.parametrize(
    "attempt", [leave_an_engine, leave_a_shortcut, leave_a_server], ids=lambda it: it.__name__
)
def test_starting_and_closing_an_engine_is_interrupted_at_any_point(
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
    """A peer that does not answer a Bye; yields its end of the connection."""
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
"""The first points, which are the beginnings of functions, before any ``try`` statement."""


def close_beside_a_mute_peer(*interruptions: Interruption) -> None:
    """Close, interrupted each time; the thread ends although the peer never answers."""
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
    monkeypatch.setattr(waiting, "SLICE", 0.01)  # each slice of a wait brings new points
    counting = Interruption(0)
    with blocking.Engine(POOL) as engine:
        counting.during(engine.close)
    assert counting.points > 10
    for at in range(NOTHING_DONE_YET + 1, counting.points + 1):
        close_beside_a_mute_peer(Interruption(at))
    for at in range(1, NOTHING_DONE_YET + 1):
        close_beside_a_mute_peer(Interruption(at), Interruption(counting.points))


MADE: Final[list[blocking.Client]] = []

CLIENT_CALLS: Final[dict[str, Callable[[blocking.Client, tofu.Address], object]]] = {
    "create": lambda _, address: MADE.append(blocking.Client(address)),
    "call": lambda client, _: client.call("double", 4),
    "upload": lambda client, _: client.upload("total", [1, 2], result=int),
    "stream": lambda client, _: list(client.stream("count", 2, item=int)),
}


@pytest.mark.parametrize("name", CLIENT_CALLS)
def test_a_call_of_a_service_is_interrupted_at_any_point(name: str) -> None:
    """The client goes on working, and no task of the call stays in its loop."""
    from tests.blocking.services import Service, served  # or skip: all else here needs no service

    with (
        served(Service(), tofu.new_event_loop) as address,
        blocking.Client(address) as client,
    ):

        def attempt(interruption: Interruption) -> None:
            with suppress(Interrupted):
                interruption.during(lambda: CLIENT_CALLS[name](client, address))
            while MADE:
                MADE.pop().close()
            gc.collect()
            assert client.call("double", 4) == 8

        def tasks() -> int:
            return client._thread.call(lambda: len(asyncio.all_tasks()))

        attempt(Interruption(0))
        before, ends = tasks(), time.monotonic() + PATIENCE
        for interruption in points_of(attempt):
            attempt(interruption)
        while tasks() > before:
            assert time.monotonic() < ends
