"""The blocking face: everything that the asynchronous one does, waited for."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import random
import socket
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from anyio import BusyResourceError

import tofu_aio as tofu
from tests.blocking.conftest import PATIENCE, POOL, Beside
from tofu_aio import OpCode, State, Status, blocking
from tofu_aio.reactor import LoopFactory

Pair = tuple[blocking.Channel, blocking.Channel]


def echo(listener: blocking.Listener) -> None:
    """Answer all requests on all channels, one channel after the other."""
    for channel in listener:
        with channel, contextlib.suppress(tofu.PeerDisconnected):
            for message in channel:
                channel.reply(message, message.body)


def waits_in(engine: blocking.Engine, count: int = 1) -> None:
    """Return once so many calls wait in the engine's loop."""
    thread = engine._thread
    ends = time.monotonic() + PATIENCE
    while thread.call(lambda: len(thread._calls.running)) != count + 1:  # the one that asks
        assert time.monotonic() < ends


# --- streams -----------------------------------------------------------------------------------


def test_a_conversation(group: blocking.ChannelGroup, socket_path: str) -> None:
    for address in ("tcp://127.0.0.1:0", f"uds://{socket_path}"):
        with group.listen(address) as listener:
            serving = Beside(lambda listener=listener: echo(listener))
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


def test_what_the_channel_refuses_is_raised_where_it_was_asked(pair: Pair) -> None:
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


def test_the_engine_may_be_used_by_many_threads_at_once(
    group: blocking.ChannelGroup, listener: blocking.Listener
) -> None:
    serving = Beside(lambda: echo(listener))
    with group.connect(listener.address) as channel:

        def ask(thread: int) -> None:
            for number in range(50):
                body = b"%d %d" % (thread, number)
                with channel.request(body) as response:
                    assert response.body == body

        asking = [Beside(lambda thread=thread: ask(thread)) for thread in range(8)]
        for thread in asking:
            thread.result()
    listener.close()
    serving.result()


def test_connecting_fails_with_the_reason(group: blocking.ChannelGroup) -> None:
    with pytest.raises(tofu.ConnectFailed, match="nobody is listening"):
        group.connect("tcp://127.0.0.1:1")
    with pytest.raises(tofu.InvalidAddress):
        group.connect("there")
    with pytest.raises(tofu.InvalidAddress):
        group.listen("there")


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


# --- messages ----------------------------------------------------------------------------------


def test_a_conversation_as_messages(group: blocking.ChannelGroup) -> None:
    where = tofu.parse_address("tcp://127.0.0.1:0").to_header()
    group.post(tofu.Message(OpCode.WELCOME_REQUEST, headers={"~listen_on": where}))
    answer = group.receive(PATIENCE)
    assert (answer.op_code, answer.status) == (OpCode.WELCOME_RESPONSE, Status.SUCCESS)
    headers = {"~connect_to": answer.headers["~listen_on"]}
    c = group.post(tofu.Message(OpCode.HELLO_REQUEST, headers=headers)).channel_number
    asked = group.receive(PATIENCE)
    assert asked.op_code is OpCode.HELLO_REQUEST
    accepted = tofu.Message(OpCode.HELLO_RESPONSE)
    accepted.channel_number = asked.channel_number
    group.post(accepted)
    assert group.receive(PATIENCE).channel_number == c
    group.update_receiver()
    assert group.receive(PATIENCE).status is Status.RECEIVER_UPDATE
    own = tofu.Message(OpCode.SIGNAL)
    group.update_receiver(own)
    assert group.receive(PATIENCE).origin is tofu.Origin.APPLICATION
    with pytest.raises(tofu.InvalidChannelNumber):
        group.post(tofu.Message(OpCode.SIGNAL))
    reset = tofu.Message(OpCode.BYE_SIGNAL)
    reset.channel_number = c
    group.post(reset)
    ended = set()
    while len(ended) < 2:
        message = group.receive(PATIENCE)
        if message.status is Status.CHANNEL_CLOSED:
            ended.add(message.channel_number)
    assert ended == {c, asked.channel_number}


def test_messages_of_the_pool(engine: blocking.Engine) -> None:
    assert engine.get().op_code is OpCode.REQUEST
    held = [engine.get(tofu.Allocation.POOL_ONLY, OpCode.SIGNAL) for _ in range(POOL)]
    assert engine.get(tofu.Allocation.POOL_ONLY) is None
    assert engine.statistics().pool_free == 0
    engine.put(held[0])
    assert engine.statistics().pool_free == 1


# --- timeouts ----------------------------------------------------------------------------------


def test_whatever_waits_can_time_out(
    engine: blocking.Engine, group: blocking.ChannelGroup, listener: blocking.Listener, pair: Pair
) -> None:
    client, _ = pair
    for call in (group.receive, listener.accept, client.receive):
        for timeout in (0, 0.01):
            with pytest.raises(TimeoutError, match=f"^timed out after {timeout:g} s$"):
                call(timeout)
    with pytest.raises(TimeoutError, match=r"no response to request \d+ within 0.01 s"):
        client.request(timeout=0.01)
    # Nobody receives on the other side, and in the end the kernel takes no more.
    until_it_times_out(lambda: client.signal(bytes(65535), timeout=0.01))
    until_it_times_out(lambda: client.send(tofu.Message(OpCode.SIGNAL, bytes(65535)), timeout=0))
    client.abort()


def until_it_times_out(call: Callable[[], object]) -> None:
    with contextlib.suppress(TimeoutError):
        while True:
            call()


def test_a_timeout_of_nothing_gives_what_is_here(pair: Pair) -> None:
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
    """Messages and timeouts fall together in every way there is."""
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


# --- closing -----------------------------------------------------------------------------------


def test_who_waits_learns_that_the_engine_was_closed(loop_factory: LoopFactory) -> None:
    with blocking.Engine(loop_factory=loop_factory) as engine:
        group, other = engine.create_group(), engine.create_group()
        listener = group.listen("tcp://127.0.0.1:0")
        accepting = Beside(listener.accept)
        client = other.connect(listener.address)
        server = accepting.result()
        assert isinstance(server, blocking.Channel)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            nobody = tofu.TcpAddress("127.0.0.1", silent.getsockname()[1])
            waiting = [
                Beside(call)
                for call in (
                    client.receive,
                    client.request,
                    group.receive,
                    listener.accept,
                    lambda: other.connect(nobody),
                )
            ]
            waits_in(engine, len(waiting))
            Beside(engine.close).result()
        for thread in waiting:
            with pytest.raises(tofu.TofuError) as caught:
                thread.result()
            assert isinstance(
                caught.value, tofu.ChannelClosed | tofu.ShutdownStarted | tofu.PeerDisconnected
            )
    for call in (
        engine.create_group,
        group.receive,
        server.receive,
        client.request,
        listener.accept,
        client.statistics,
    ):
        with pytest.raises(tofu.ShutdownStarted, match="the engine was closed"):
            call()
    with pytest.raises(tofu.ShutdownStarted, match="not running: use it inside 'with Engine"):
        blocking.Engine().create_group()
    with pytest.raises(tofu.ChannelClosed):
        group.post(tofu.Message(OpCode.SIGNAL))
    for thing in (server, client, listener, group, engine):
        thing.close()
    client.abort()
    assert list(listener) == []


def test_engines_close_once_however_many_threads_ask(loop_factory: LoopFactory) -> None:
    engine = blocking.Engine(loop_factory=loop_factory)
    engine.close()  # not even entered
    with engine:
        closing = [Beside(engine.close) for _ in range(4)]
        for thread in closing:
            thread.result()
        engine.close()
    with pytest.raises(RuntimeError, match="once"):
        engine.__enter__()


def test_what_waits_for_something_outside_does_not_hold_up_closing(
    loop_factory: LoopFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that does not answer, say."""

    async def never(_: object) -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr("tofu_aio.messaging.sockets._resolve", never)
    with blocking.Engine(loop_factory=loop_factory) as engine:
        group = engine.create_group()
        listening = Beside(lambda: group.listen("tcp://localhost:0"))
        waits_in(engine)
    with pytest.raises((tofu.ShutdownStarted, tofu.ChannelClosed), match="closed"):
        listening.result()


def test_an_engine_is_entered_once(loop_factory: LoopFactory) -> None:
    engine = blocking.Engine(loop_factory=loop_factory)
    with engine, pytest.raises(RuntimeError, match="entered before, and an engine can be entered only once"):
        engine.__enter__()
    with pytest.raises(RuntimeError, match="entered before"):
        engine.__enter__()


def test_an_engine_that_is_not_entered_says_so() -> None:
    with pytest.raises(tofu.ShutdownStarted, match="'with Engine"):
        blocking.Engine().create_group()
    with pytest.raises(ValueError, match="pool_messages is 0"):
        blocking.Engine(0)


def test_a_loop_that_cannot_be_made_is_told() -> None:
    def broken() -> asyncio.AbstractEventLoop:
        raise OSError("no descriptor to spare")

    with (
        pytest.raises(OSError, match="no descriptor to spare"),
        blocking.Engine(loop_factory=broken),
    ):
        pass


def test_a_loop_that_fails_ends_all_that_waits(loop_factory: LoopFactory) -> None:
    def broken() -> None:
        raise SystemExit("the loop's own end")

    engine = blocking.Engine(loop_factory=loop_factory)
    engine.__enter__()
    group = engine.create_group()
    receiving = Beside(group.receive)
    waits_in(engine)
    engine._thread.call_soon(broken)
    with pytest.raises((tofu.ShutdownStarted, tofu.ChannelClosed), match="closed"):
        receiving.result()
    with pytest.raises(SystemExit, match="the loop's own end"):
        engine.close()
    engine.close()


# --- who may not -------------------------------------------------------------------------------


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


def test_an_event_loop_is_not_stopped(engine: blocking.Engine, pair: Pair) -> None:
    client, _ = pair

    async def main() -> None:
        for call in (client.receive, client.close, engine.close, engine.create_group):
            with pytest.raises(RuntimeError, match="use tofu_aio's async API here"):
                call()
        with pytest.raises(RuntimeError, match="use tofu_aio's async API here"):
            blocking.connect("tcp://127.0.0.1:1")

    asyncio.run(main())
    client.signal(b"goes on")


def engines() -> int:
    """How many have a thread."""
    return sum(thread.name == "tofu_aio" for thread in threading.enumerate())


# --- the shortcut ------------------------------------------------------------------------------


def test_connect_brings_its_own_engine(
    listener: blocking.Listener, loop_factory: LoopFactory
) -> None:
    serving = Beside(lambda: echo(listener))
    before = engines()
    for how in ("with", "close", "abort"):
        channel = blocking.connect(listener.address, loop_factory=loop_factory, body=b"hi")
        assert engines() == before + 1
        assert channel.request(b"?").body == b"?"
        if how == "with":
            with channel:
                pass
        else:
            getattr(channel, how)()
        assert engines() == before
    with pytest.raises(tofu.ConnectFailed):
        blocking.connect("tcp://127.0.0.1:1", loop_factory=loop_factory)
    assert engines() == before
    listener.close()
    serving.result()


def test_the_face_has_all_that_the_asynchronous_one_has() -> None:
    """What is new there has to come here as well, or be named here."""
    renamed = {"aclose": "close"}
    not_here = {
        # what the parts of the engine tell each other
        "received", "accepted", "ended", "lost", "said", "closed", "check", "start", "introduced",
        "pool_exhausted",
        "lose", "taken_back", "close", "begun", "waits", "suspended", "receives", "unread",
        "cancel_scope",  # a thread cannot be cancelled: it asks ``cancelled``
        # anyio's
        "extra", "extra_attributes",
    }  # fmt: skip
    for asynchronous, face in (
        (tofu.Engine, blocking.Engine),
        (tofu.ChannelGroup, blocking.ChannelGroup),
        (tofu.Channel, blocking.Channel),
        (tofu.Listener, blocking.Listener),
        (tofu.Exchange, blocking.Exchange),
    ):
        there = {name for name in dir(asynchronous) if not name.startswith("_")} - not_here
        here = {name for name in dir(face) if not name.startswith("_")}
        here -= {"message_id"}  # an attribute of each exchange there, a property here
        assert {renamed.get(name, name) for name in there} == here
        for name in there:
            now = renamed.get(name, name)
            if inspect.isfunction(function := getattr(asynchronous, name)):
                check_options(function, getattr(face, now))
    for name in ("connect", "reconnecting", "serve"):
        check_options(getattr(tofu, name), getattr(blocking, name))


def options(function: Callable[..., object]) -> dict[str, object]:
    """The names of what a function may be given, those of its TypedDict among them."""
    found: dict[str, object] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            kind = parameter.annotation.removeprefix("Unpack[").removesuffix("]")
            found |= dict.fromkeys(inspect.unwrap(function).__globals__[kind].__annotations__)
        else:
            found[name] = parameter.default
    return found


def check_options(asynchronous: Callable[..., object], face: Callable[..., object]) -> None:
    """All of the one are in the other, with the same defaults where both have their own."""
    not_here = {"task_status", "task_group", "decide_timeout"}  # a thread cannot be cancelled
    only_here = {"timeout", "loop_factory", "max_threads"}
    there, here = options(asynchronous), options(face)
    assert there.keys() - not_here == here.keys() - (only_here - there.keys()), face
    for name in there.keys() & here.keys():
        if here[name] is not None and there[name] is not None:
            assert here[name] == there[name], (face, name)


def test_all_names_are_there() -> None:
    assert all(a < b for a, b in pairwise(blocking.__all__))
    for name in blocking.__all__:
        assert hasattr(blocking, name)
