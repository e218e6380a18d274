"""The blocking listener."""

from __future__ import annotations

import pytest

import tofu_aio as tofu
from tests.blocking.conftest import PATIENCE, Beside
from tests.blocking.helpers import waits_in
from tofu_aio import State, Status, blocking


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
