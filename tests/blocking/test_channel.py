"""The blocking channel: messages, requests, timeouts."""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from anyio import BusyResourceError

import tofu_aio as tofu
from tests.blocking.conftest import PATIENCE, Beside
from tests.blocking.helpers import Pair, echo_all, waits_in
from tofu_aio import OpCode, State, Status, blocking


def test_a_conversation(group: blocking.ChannelGroup, socket_path: str) -> None:
    for address in ("tcp://127.0.0.1:0", f"uds://{socket_path}"):
        with group.listen(address) as listener:
            serving = Beside(lambda listener=listener: echo_all(listener))
            with group.connect(listener.address, headers={"User": "Ada"}) as channel:
                assert channel.state is State.OPEN
                assert channel.hello.op_code is OpCode.HELLO_RESPONSE
                with channel.request(b"one", {"a": "b"}, timeout=PATIENCE) as response:
                    assert response.body == b"one"
                assert channel.request(b"two").body == b"two"
                assert repr(channel) == f"<Channel {channel.number} open>"
                statistics = channel.statistics()
                assert (statistics.sent, statistics.received) == (3, 3)
                assert tofu.Triggers.RECV in channel.triggers
                assert channel.end is None
            assert channel.state is State.CLOSED
            assert isinstance(channel.end, tofu.TofuError)
            assert str(listener.channel_number) in repr(listener)
        serving.result()


def test_messages_arrive_in_order_until_the_bye(pair: Pair) -> None:
    client, server = pair
    client.signal(b"one", {"a": "b"}, message_id=7)
    client.send(tofu.Message(OpCode.REQUEST, b"two"))
    header = client.post(tofu.Message(OpCode.SIGNAL, b"three"))
    client.send_eof()
    one, two, three = list(server)
    assert (one.body, one.headers, one.message_id) == (b"one", {"a": "b"}, 7)
    assert two.op_code is OpCode.REQUEST
    assert three.message_id == header.message_id
    server.reply(two, b"answer", {"c": "d"}, status=Status.NOT_ALLOWED, more=True)
    answer = client.receive(PATIENCE)
    assert (answer.body, answer.headers, answer.more) == (b"answer", {"c": "d"}, True)
    assert (answer.status, answer.message_id) == (Status.NOT_ALLOWED, two.message_id)
    with pytest.raises(tofu.ChannelEnded):
        server.receive()


def test_a_channel_s_errors_are_raised_in_the_calling_thread(pair: Pair) -> None:
    client, server = pair
    with pytest.raises(tofu.NotAllowed):
        client.post(tofu.Message(OpCode.HELLO_REQUEST))
    with pytest.raises(tofu.InvalidBodyLen):
        client.signal(bytes(65536))
    server.abort()
    with pytest.raises(tofu.PeerDisconnected):
        client.request()
    server.abort()
    with pytest.raises(tofu.ChannelClosed):
        server.receive()


def test_wrong_arguments_are_raised_in_the_calling_thread(
    group: blocking.ChannelGroup, pair: Pair
) -> None:
    client, _ = pair
    with pytest.raises(TypeError, match="colour"):
        group.connect("tcp://127.0.0.1:1", colour="red")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"reply\(\) takes the request Message .* not NoneType"):
        client.reply(None)  # type: ignore[arg-type]


def test_one_thread_at_a_time_receives(engine: blocking.Engine, pair: Pair) -> None:
    client, server = pair
    receiving = Beside(server.receive)
    waits_in(engine)
    with pytest.raises(BusyResourceError):
        server.receive()
    client.signal(b"for the first")
    message = receiving.result()
    assert isinstance(message, tofu.Message)
    assert message.body == b"for the first"


def test_every_call_that_waits_can_time_out(
    engine: blocking.Engine, group: blocking.ChannelGroup, listener: blocking.Listener, pair: Pair
) -> None:
    client, _ = pair
    for call in (group.receive, listener.accept, client.receive):
        for timeout in (0, 0.01):
            with pytest.raises(TimeoutError, match=f"^timed out after {timeout:g} s$"):
                call(timeout)
    with pytest.raises(TimeoutError, match=r"no response to request \d+ within 0.01 s"):
        client.request(timeout=0.01)
    # Nobody receives on the other side, so the kernel's buffers fill up.
    until_it_times_out(lambda: client.signal(bytes(65535), timeout=0.01))
    until_it_times_out(lambda: client.send(tofu.Message(OpCode.SIGNAL, bytes(65535)), timeout=0))
    client.abort()


def until_it_times_out(call: Callable[[], object]) -> None:
    with contextlib.suppress(TimeoutError):
        while True:
            call()


def test_a_timeout_of_0_returns_what_has_arrived(pair: Pair) -> None:
    client, server = pair
    client.signal(b"one")
    client.signal(b"two")
    first = server.receive(PATIENCE)
    while True:
        try:
            second = server.receive(0)
        except TimeoutError:
            continue
        break
    assert (first.body, second.body) == (b"one", b"two")


def test_a_receive_that_timed_out_loses_no_message(pair: Pair) -> None:
    """Messages and timeouts arrive in every order."""
    client, server = pair
    count = 300
    own = random.Random(1)

    def send() -> None:
        pause = random.Random(2)
        for number in range(count):
            client.signal(b"%d" % number)
            time.sleep(pause.choice((0, 0, 0.0005, 0.001)))

    sending = Beside(send)
    received: list[int] = []
    timed_out = 0
    while len(received) < count:
        try:
            with server.receive(own.choice((0, 0.0002, 0.0005, 0.001))) as message:
                received.append(int(message.body))
        except TimeoutError:
            timed_out += 1
    sending.result()
    assert received == list(range(count))
    assert timed_out


@pytest.mark.parametrize("wrong", ["5", True, -1, math.nan])
def test_a_timeout_is_a_number_of_seconds(pair: Pair, wrong: Any) -> None:
    client, server = pair
    sent = client.statistics().sent
    for wait in (client.receive, client.signal, client.request):
        with pytest.raises((TypeError, ValueError), match=r"^timeout is .*: give 0 or more sec"):
            wait(timeout=wrong)
    assert client.statistics().sent == sent
    server.signal(b"not lost")
    assert client.receive(PATIENCE).body == b"not lost"
