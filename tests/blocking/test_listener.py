"""The blocking listener."""

from __future__ import annotations

import socket

import pytest

import tofu_aio as tofu
from tests.blocking.conftest import PATIENCE, Beside
from tests.blocking.helpers import echo, waits_in
from tofu_aio import State, Status, blocking
from tofu_aio.reactor import LoopFactory


def test_an_iteration_over_a_listener_ends_when_it_is_closed(
    engine: blocking.Engine, listener: blocking.Listener
) -> None:
    listening = Beside(lambda: list(listener))
    waits_in(engine)
    listener.close()
    assert listening.result() == []
    listener.close()
    with pytest.raises(tofu.ChannelClosed):
        listener.accept()


def test_an_accept_that_timed_out_loses_no_channel(
    group: blocking.ChannelGroup, listener: blocking.Listener
) -> None:
    count = 60

    def connect() -> None:
        for number in range(count):
            with group.connect(listener.address, body=b"%d" % number):
                pass

    connecting = Beside(connect)
    accepted = []
    while len(accepted) < count:
        try:
            channel = listener.accept(0.0005)
        except TimeoutError:
            continue
        accepted.append(int(channel.hello.body))
        channel.close()
    connecting.result()
    assert accepted == list(range(count))


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


def test_a_drained_listener_waits_for_its_channels(
    group: blocking.ChannelGroup, listener: blocking.Listener
) -> None:
    serving = Beside(lambda: listener.serve(echo))
    client = group.connect(listener.address)
    assert client.request(b"?", timeout=PATIENCE).body == b"?"
    assert not client.draining
    draining = Beside(lambda: listener.drain(1000))
    while not client.draining:
        client.request(b"until it is told", timeout=PATIENCE)
    assert client.request(b"still here", timeout=PATIENCE).body == b"still here"
    with pytest.raises(tofu.ConnectFailed):
        group.connect(listener.address)
    client.close()
    draining.result()
    serving.result()
    listener.drain()
    listener.close()


def test_draining_closes_those_who_stay(
    group: blocking.ChannelGroup, listener: blocking.Listener
) -> None:
    serving = Beside(lambda: listener.serve(echo))
    client = group.connect(listener.address)
    listener.drain(0.01)
    serving.result()
    assert list(client) == []
    client.close()


def test_draining_takes_a_number_of_seconds(listener: blocking.Listener) -> None:
    with pytest.raises(TypeError, match="timeout is"):
        listener.drain("soon")  # type: ignore[arg-type]


def test_one_end_announces_that_it_will_close(
    group: blocking.ChannelGroup, listener: blocking.Listener
) -> None:
    connecting = Beside(lambda: group.connect(listener.address))
    with listener.accept(PATIENCE) as server:
        client = connecting.result()
        assert isinstance(client, blocking.Channel)
        with client:
            assert (client.draining, server.draining) == (False, False)
            client.drain()
            client.drain()
            client.signal(b"behind it")
            assert server.receive(PATIENCE).body == b"behind it"
            assert (client.draining, server.draining) == (True, True)
            client.abort()


def test_a_socket_is_listened_on(group: blocking.ChannelGroup, loop_factory: LoopFactory) -> None:
    with group.listen(sock=socket.create_server(("127.0.0.1", 0))) as listener:
        connecting = Beside(lambda: group.connect(listener.address))
        with listener.accept(PATIENCE):
            client = connecting.result()
            assert isinstance(client, blocking.Channel)
            client.abort()
    sock = socket.create_server(("127.0.0.1", 0))
    with (
        blocking.serve(echo, sock=sock, loop_factory=loop_factory) as server,
        blocking.serve(echo, "tcp://127.0.0.1:0", loop_factory=loop_factory) as another,
    ):
        assert str(server.address) == f"tcp://127.0.0.1:{sock.getsockname()[1]}"
        assert server.address != another.address
