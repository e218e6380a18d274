"""The blocking face: deciding, exchanges, reconnecting and serving."""

from __future__ import annotations

import math
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
from tests.blocking.test_faces import Pair
from tests.messaging.peers import hello
from tofu_aio import State, Status, blocking
from tofu_aio.blocking import serving, waiting
from tofu_aio.messaging import connection
from tofu_aio.messaging.limits import Limits
from tofu_aio.protocol.decoder import Decoder
from tofu_aio.reactor import LoopFactory


async def an_async_one(channel: blocking.Channel) -> None:
    """What belongs to the other face."""


def echo(channel: blocking.Channel) -> None:
    for message in channel:
        channel.reply(message, message.body)


def test_a_hello_is_decided_on(group: blocking.ChannelGroup, listener: blocking.Listener) -> None:
    connecting = Beside(lambda: group.connect(listener.address, body=b"Ada"))
    with listener.receive_hello(PATIENCE) as channel:
        assert (channel.state, channel.hello.body) == (State.HELLO_HEARD, b"Ada")
        assert channel.peer.address is not None
        channel.accept(b"welcome", {"a": "b"})
        client = connecting.result()
        assert isinstance(client, blocking.Channel)
        assert (client.hello.body, client.hello.headers["a"]) == (b"welcome", "b")
        client.abort()
    connecting = Beside(lambda: group.connect(listener.address))
    listener.receive_hello(PATIENCE).reject("full", Status.POOL_EMPTY)
    with pytest.raises(tofu.ConnectFailed, match="full"):
        connecting.result()


def test_an_exchange_has_parts_both_ways(pair: Pair) -> None:
    client, server = pair

    def answer() -> None:
        with server.stream(server.receive(), headers={"c": "d"}) as exchange:
            for part in exchange:
                exchange.send(part.body.upper())
            exchange.send_eof()

    answering = Beside(answer)
    with client.stream(headers={"a": "b"}) as exchange:
        assert exchange.asks
        exchange.send(b"one", timeout=PATIENCE)
        exchange.finish(b"two")
        assert [part.body for part in exchange] == [b"ONE", b"TWO", b""]
        with pytest.raises(tofu.ChannelClosed):
            exchange.send(b"three")
        assert str(exchange.message_id) in repr(exchange)
    answering.result()
    with client.stream() as exchange:
        exchange.send(b"cut short")
        with pytest.raises(TimeoutError):
            exchange.receive(0)
        first = server.receive(PATIENCE)  # else it is taken back before anybody has seen it
    with (
        server.stream(first) as cut,
        pytest.raises(tofu.ExchangeFailed),
    ):
        list(cut)


def test_what_does_not_fit_is_told_to_who_asked(group: blocking.ChannelGroup, pair: Pair) -> None:
    client, _ = pair
    with pytest.raises(TypeError, match="colour"):
        group.connect("tcp://127.0.0.1:1", colour="red")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="a request is replied to, not NoneType"):
        client.reply(None)  # type: ignore[arg-type]


def test_reconnecting_brings_one_channel_after_another(
    group: blocking.ChannelGroup, loop_factory: LoopFactory
) -> None:
    with blocking.serve(echo, "tcp://127.0.0.1:0", loop_factory=loop_factory) as server:
        serving = Beside(server.serve_forever)
        backoff = tofu.Backoff(0.001, 0.001)
        for channels in (
            group.reconnecting(server.address, backoff=backoff),
            blocking.reconnecting(server.address, backoff=backoff, loop_factory=loop_factory),
        ):
            seen = []
            for channel in channels:
                assert channel.request(b"?", timeout=PATIENCE).body == b"?"
                seen.append(channel)
                if len(seen) == 3:
                    break
            channels.close()
            assert [channel.state for channel in seen] == [State.CLOSED] * 3
        server.close()
        serving.result()
    with pytest.raises(tofu.InvalidAddress):
        blocking.reconnecting("there")


def test_what_reconnecting_sends_is_made_where_it_may_take_its_time(
    engine: blocking.Engine, group: blocking.ChannelGroup, listener: blocking.Listener
) -> None:
    """In no event loop's thread, unless it is asynchronous."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    made = iter(range(100))

    def headers() -> dict[str, str]:
        engine.create_group().close()  # refused in the engine's own thread
        return {"Number": str(next(made))}

    async def body() -> bytes:
        return threading.current_thread().name.encode()

    accepting = Beside(lambda: listener.accept(PATIENCE))
    channels = group.reconnecting(nobody, listener.address, headers=headers, body=body)
    with next(channels), accepting.result() as accepted:
        assert accepted.hello.headers["Number"] == "1", "0 was for the first address"
        assert accepted.hello.body == b"tofu_aio"
    channels.close()


def test_what_fails_to_be_made_is_raised_here(
    group: blocking.ChannelGroup, listener: blocking.Listener
) -> None:
    def fail() -> bytes:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        next(group.reconnecting(listener.address, body=fail))


def test_each_shortcut_takes_the_limits_of_an_engine(loop_factory: LoopFactory) -> None:
    limits: Any = {"pool_messages": 3, "channel_share": 0.5, "write_high_water": 1000}

    def limits_of(engine: blocking.Engine) -> Limits:
        return engine._engine._gate.limits

    server = blocking.serve(echo, "tcp://127.0.0.1:0", loop_factory=loop_factory, **limits)
    with server:
        serving = Beside(server.serve_forever)
        assert limits_of(server._engine) == Limits(**limits)
        with blocking.connect(server.address, loop_factory=loop_factory, **limits) as channel:
            assert channel._channel._connection._gate.limits == Limits(**limits)
        channels = blocking.reconnecting(server.address, loop_factory=loop_factory, **limits)
        with next(channels) as channel:
            assert channel._channel._connection._gate.limits == Limits(**limits)
        channels.close()
        server.close()
        serving.result()


def test_a_server_handles_each_channel_in_a_thread(
    group: blocking.ChannelGroup, loop_factory: LoopFactory
) -> None:
    def decide(channel: blocking.Channel) -> None:
        if channel.hello.body == b"stranger":
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
            group.connect(server.address, body=b"stranger")
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
    """What serving tells the log."""
    records: SimpleQueue[Any] = SimpleQueue()
    handler = QueueHandler(records)
    serving.logger.addHandler(handler)
    yield records
    serving.logger.removeHandler(handler)


def test_the_log_says_once_that_channels_wait_for_a_thread(
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
    """One that says Hello, hears the answer, and says nothing more."""
    assert isinstance(listener.address, tofu.TcpAddress)
    sock = socket.create_connection((listener.address.host, listener.address.port))
    sock.settimeout(PATIENCE)
    sock.sendall(hello())
    assert sock.recv(1000)
    return sock


def test_silent_clients_give_their_threads_to_who_waits(
    group: blocking.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more of them than wait; and with a Bye."""
    monkeypatch.setattr(waiting, "SLICE", 0.01)
    monkeypatch.setattr(connection, "LINGER", 3600.0)  # no thread waits for a peer to hang up
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
    monkeypatch.setattr(connection, "LINGER", 3600.0)
    monkeypatch.setattr(connection, "BYE_TIMEOUT", 3600.0)

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
        ({"max_threads": True}, "^max_threads is True, no whole number: give 1 or more"),
        ({"max_threads": 1.5}, "^max_threads is 1.5, no whole number"),
        ({"max_threads": None}, "^max_threads is None, no whole number"),
        ({"handler": None}, "^handler is None: give a function"),
        ({"handler": b"echo"}, "^handler is b'echo': give a function"),
        ({"decide": True}, "^decide is True: give a function"),
        ({"handler": an_async_one}, "^handler is .*, an async function: give a function without 'async', or"),
        ({"decide": an_async_one}, "^decide is .*, an async function: give a function without 'async', or"),
    ],
)
def test_what_could_serve_nobody_is_refused_before_it_listens(
    listener: blocking.Listener, options: dict[str, Any], words: str
) -> None:
    options = {"handler": echo, **options}
    with pytest.raises((TypeError, ValueError), match=words):
        listener.serve(**options)
    with pytest.raises((TypeError, ValueError), match=words):
        blocking.serve(address=str(listener.address), **options)


@pytest.mark.parametrize("wrong", ["5", True, -1, math.nan])
def test_what_waits_takes_numbers_of_seconds_only(pair: Pair, wrong: Any) -> None:
    client, server = pair
    sent = client.statistics().sent
    for wait in (client.receive, client.signal, client.request):
        with pytest.raises((TypeError, ValueError), match=r"^timeout is .*: give 0 or more sec"):
            wait(timeout=wrong)
    assert client.statistics().sent == sent
    server.signal(b"not lost")
    assert client.receive(PATIENCE).body == b"not lost"
