"""Serving each channel in a thread."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import Any

import pytest

import tofu_aio as tofu
from tests.blocking.conftest import PATIENCE, Beside
from tests.blocking.helpers import echo
from tests.messaging.peers import hello
from tofu_aio import State, blocking
from tofu_aio.blocking import serving, waiting
from tofu_aio.messaging.connection import closing
from tofu_aio.protocol.decoder import Decoder
from tofu_aio.reactor import LoopFactory


async def an_async_one(channel: blocking.Channel) -> None:
    """A handler for the async API."""


def test_a_server_handles_each_channel_in_a_thread(
    group: blocking.ChannelGroup, loop_factory: LoopFactory
) -> None:
    def decide(channel: blocking.Channel) -> None:
        if channel.hello.body == b"unknown":
            raise tofu.Rejected("who are you?")

    def handler(channel: blocking.Channel) -> None:
        if channel.hello.body == b"broken":
            raise ZeroDivisionError
        echo(channel)

    with blocking.serve(
        handler, "tcp://127.0.0.1:0", decide=decide, loop_factory=loop_factory
    ) as server:
        serving = Beside(server.serve_forever)
        channels = [group.connect(server.address) for _ in range(5)]
        with pytest.raises(tofu.ConnectFailed, match="who are you"):
            group.connect(server.address, body=b"unknown")
        with (
            group.connect(server.address, body=b"broken") as broken,
            pytest.raises(tofu.PeerDisconnected),
        ):
            broken.receive(PATIENCE)
        for channel in reversed(channels):
            assert channel.request(b"?", timeout=PATIENCE).body == b"?"
        closing = Beside(server.close)
        for channel in channels:
            assert list(channel) == []  # the server's Bye
        closing.result()
        serving.result()
        for channel in channels:
            channel.close()


def test_no_more_threads_than_allowed_handle_channels(
    group: blocking.ChannelGroup, listener: blocking.Listener
) -> None:
    inside = threading.Semaphore(0)
    go_on = threading.Event()
    running: list[int] = []

    def handler(channel: blocking.Channel) -> None:
        running.append(channel.number)
        inside.release()
        assert go_on.wait(PATIENCE)

    serving = Beside(lambda: listener.serve(handler, max_threads=1))
    first = group.connect(listener.address)
    assert inside.acquire(timeout=PATIENCE)
    with pytest.raises(tofu.ConnectFailed):
        group.connect(listener.address, timeout=0.05)
    assert len(running) == 1
    go_on.set()
    first.close()
    with group.connect(listener.address):
        assert inside.acquire(timeout=PATIENCE)
    listener.close()
    serving.result()


@pytest.fixture
def logged() -> Iterator[SimpleQueue[Any]]:
    """What serving logs."""
    records: SimpleQueue[Any] = SimpleQueue()
    handler = QueueHandler(records)
    serving.logger.addHandler(handler)
    yield records
    serving.logger.removeHandler(handler)


def test_one_warning_says_that_channels_wait_for_a_thread(
    group: blocking.ChannelGroup,
    listener: blocking.Listener,
    logged: SimpleQueue[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "SLICE", 0.01)
    let_go = threading.Semaphore(0)

    def handler(channel: blocking.Channel) -> None:
        assert let_go.acquire(timeout=PATIENCE)

    serves = Beside(lambda: listener.serve(handler, max_threads=1))
    with group.connect(listener.address):
        waits = Beside(lambda: group.connect(listener.address))
        said = logged.get(timeout=PATIENCE).getMessage()
        assert "all 1 handler threads are in use, and new channels wait" in said
        let_go.release()
        client = waits.result()
        assert isinstance(client, blocking.Channel)
        client.abort()
        assert logged.empty()
    listener.close()
    let_go.release()
    serves.result()


def silent_client(listener: blocking.Listener) -> socket.socket:
    """Send a Hello, receive the answer, and send nothing more."""
    assert isinstance(listener.address, tofu.TcpAddress)
    sock = socket.create_connection((listener.address.host, listener.address.port))
    sock.settimeout(PATIENCE)
    sock.sendall(hello())
    assert sock.recv(1000)
    return sock


def test_silent_clients_are_closed_for_channels_that_wait(
    group: blocking.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more of them than there are channels waiting; each gets a Bye."""
    monkeypatch.setattr(waiting, "SLICE", 0.01)
    monkeypatch.setattr(closing, "LINGER", 3600.0)  # no thread waits for the peer to close
    with group.listen("tcp://127.0.0.1:0", heartbeat=0.05) as listener:
        serves = Beside(lambda: listener.serve(echo, max_threads=2))
        with (
            silent_client(listener) as first,
            silent_client(listener) as second,
            group.connect(listener.address) as channel,
        ):
            assert channel.request(b"?", timeout=PATIENCE).body == b"?"
            heard, _, _ = select.select([first, second], [], [], PATIENCE)
            (bye,) = Decoder(None, State.OVERHEARD).feed(heard[0].recv(1000))
            assert bye.op_code is tofu.OpCode.BYE_REQUEST
            assert len(heard) == 1
    serves.result()


def test_a_refused_client_that_stays_keeps_no_thread(
    group: blocking.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "LINGER", 3600.0)
    monkeypatch.setattr(closing, "BYE_TIMEOUT", 3600.0)

    def decide(channel: blocking.Channel) -> None:
        if not channel.hello.body:
            raise tofu.Rejected("who are you?")

    with group.listen("tcp://127.0.0.1:0") as listener:
        serves = Beside(lambda: listener.serve(echo, decide=decide, max_threads=1))
        refused = [silent_client(listener) for _ in range(3)]
        with group.connect(listener.address, body=b"Ada") as channel:
            assert channel.request(b"?", timeout=PATIENCE).body == b"?"
        for sock in refused:
            sock.close()
    serves.result()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_threads": 0}, "^max_threads is 0: give 1 or more"),
        ({"max_threads": True}, "^max_threads is True, not an integer: give 1 or more"),
        ({"max_threads": 1.5}, "^max_threads is 1.5, not an integer"),
        ({"max_threads": None}, "^max_threads is None, not an integer"),
        ({"handler": None}, "^handler is None: give a function"),
        ({"handler": b"echo"}, "^handler is b'echo': give a function"),
        ({"decide": True}, "^decide is True: give a function"),
        (
            {"handler": an_async_one},
            "^handler is .*, an async function: give a function without 'async', or",
        ),
        (
            {"decide": an_async_one},
            "^decide is .*, an async function: give a function without 'async', or",
        ),
    ],
)
def test_wrong_options_are_refused_before_it_listens(
    listener: blocking.Listener, options: dict[str, Any], words: str
) -> None:
    options = {"handler": echo, **options}
    with pytest.raises((TypeError, ValueError), match=words):
        listener.serve(**options)
    with pytest.raises((TypeError, ValueError), match=words):
        blocking.serve(address=str(listener.address), **options)


def test_serving_ends_when_the_listener_is_closed_while_clients_stay(
    group: blocking.ChannelGroup, listener: blocking.Listener
) -> None:
    received: list[bytes] = []
    inside, go_on = threading.Semaphore(0), threading.Event()

    def slow(channel: blocking.Channel) -> None:
        for message in channel:
            received.append(message.body)
            inside.release()
            assert go_on.wait(PATIENCE)

    serving = Beside(lambda: listener.serve(slow))
    client = group.connect(listener.address)
    for number in range(3):
        client.signal(b"%d" % number)
    assert inside.acquire(timeout=PATIENCE)
    listener.close()
    go_on.set()
    serving.result()
    assert received == [b"0", b"1", b"2"]
    assert list(client) == [], "the peer's Bye"
    client.close()
