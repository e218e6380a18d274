"""What anyio promises of object streams and listeners, and generic code that relies on it.

Each promise that anyio's own memory streams keep is checked on them as well, so that it is really
anyio's promise.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import anyio
import pytest
from anyio import (
    BrokenResourceError,
    BusyResourceError,
    ClosedResourceError,
    EndOfStream,
    TypedAttributeLookupError,
)
from anyio.abc import (
    Listener,
    ObjectStream,
    SocketAttribute,
    TaskGroup,
)
from anyio.streams.stapled import MultiListener, StapledObjectStream
from anyio.streams.tls import TLSAttribute

import tofu_aio as tofu
from tests.conftest import _LOOPS, HAS_UDS
from tests.messaging.conftest import Connect
from tests.messaging.peers import Pair, connection_of, settled, turns, until
from tofu_aio import Message, OpCode

Stream: TypeAlias = ObjectStream[Message]
Ends: TypeAlias = tuple[Stream, Stream]


def item(number: int = 0) -> Message:
    return Message(OpCode.SIGNAL, b"%d" % number)


def number_of(message: Message) -> int:
    with message:
        return int(message.body)


def memory_streams() -> Ends:
    """Both ends of what anyio itself calls an object stream."""
    (to_b, from_a), (to_a, from_b) = (
        anyio.create_memory_object_stream[Message](100) for _ in range(2)
    )
    return StapledObjectStream(to_b, from_b), StapledObjectStream(to_a, from_a)


@pytest.fixture(params=["memory", "tcp", "uds"])
async def ends(request: pytest.FixtureRequest, group: tofu.ChannelGroup) -> AsyncIterator[Ends]:
    where = "tcp://127.0.0.1:0"
    if request.param == "memory":
        a, b = memory_streams()
        yield a, b
        await a.aclose()
        await b.aclose()
        return
    if request.param == "uds":
        where = f"uds://{request.getfixturevalue('socket_path')}"
    async with await group.listen(where) as listener:
        client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
    yield client, server
    await asyncio.gather(client.aclose(), server.aclose())


# --- every object stream -------------------------------------------------------------------


async def test_what_is_sent_is_received_in_order_both_ways_at_once(ends: Ends) -> None:
    async def send(stream: Stream) -> None:
        for number in range(50):
            await stream.send(item(number))

    async def receive(stream: Stream) -> None:
        assert [number_of(await stream.receive()) for _ in range(50)] == list(range(50))

    async with anyio.create_task_group() as tasks:
        for stream in ends:
            tasks.start_soon(send, stream)
            tasks.start_soon(receive, stream)


async def test_iterating_ends_when_the_other_end_closed_after_all_it_sent(ends: Ends) -> None:
    a, b = ends
    for number in range(5):
        await a.send(item(number))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(a.aclose)
        assert [number_of(message) async for message in b] == list(range(5))
    for _ in range(2):
        with pytest.raises(EndOfStream):
            await b.receive()


async def test_after_eof_the_other_direction_goes_on(ends: Ends) -> None:
    a, b = ends
    await a.send(item(1))
    for _ in range(2):
        await a.send_eof()
    assert [number_of(message) async for message in b] == [1]
    await b.send(item(2))
    assert number_of(await a.receive()) == 2
    with pytest.raises(ClosedResourceError):
        await a.send(item())
    await b.send_eof()
    with pytest.raises(EndOfStream):
        await a.receive()
    for stream in ends:
        await stream.send_eof()


async def test_after_closing_this_end_all_raises_closed(ends: Ends) -> None:
    a, b = ends
    await b.send(item())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(a.aclose)
        tasks.start_soon(b.aclose)
    for stream in ends:
        await stream.aclose()
        with pytest.raises(ClosedResourceError):
            await stream.send(item())
        with pytest.raises(ClosedResourceError):
            await stream.receive()


async def test_closing_though_cancelled_closes(ends: Ends) -> None:
    a, b = ends
    with anyio.CancelScope() as scope:
        scope.cancel()
        await a.aclose()
    with pytest.raises(ClosedResourceError):
        await a.send(item())
    with pytest.raises(ClosedResourceError):
        await a.receive()
    with pytest.raises((EndOfStream, BrokenResourceError)):
        await b.receive()


async def test_who_sends_to_an_end_that_closed_learns_that_it_is_broken(ends: Ends) -> None:
    a, b = ends
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(b.aclose)
        with pytest.raises(EndOfStream):
            await a.receive()
    with pytest.raises(BrokenResourceError):
        await a.send(item())


async def test_leaving_the_context_closes(ends: Ends) -> None:
    a, b = ends
    async with anyio.create_task_group() as tasks, a as entered:
        assert entered is a
        tasks.start_soon(b.aclose)
    with pytest.raises(ClosedResourceError):
        await a.receive()


@pytest.mark.parametrize("limit", ["timeout", "fail_after", "move_on_after", "cancel"])
async def test_a_receive_that_was_cut_short_lost_nothing(ends: Ends, limit: str) -> None:
    a, b = ends
    got = []
    for number in range(30):
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            if limit == "timeout":
                async with asyncio.timeout(0):
                    got.append(number_of(await b.receive()))
            elif limit == "fail_after":
                with anyio.fail_after(0):
                    got.append(number_of(await b.receive()))
            elif limit == "move_on_after":
                with anyio.move_on_after(0):
                    got.append(number_of(await b.receive()))
            else:
                receiving = asyncio.create_task(b.receive())
                await turns(number % 4)
                receiving.cancel()
                got.append(number_of(await receiving))
        await a.send(item(number))
        await turns(number % 3)
    while len(got) < 30:
        got.append(number_of(await b.receive()))
    assert got == list(range(30))


async def test_an_attribute_that_it_has_not_is_a_lookup_error(ends: Ends) -> None:
    assert ends[0].extra(TLSAttribute.peer_certificate, None) is None
    with pytest.raises(TypedAttributeLookupError):
        ends[0].extra(TLSAttribute.peer_certificate)


# --- every object stream over sockets ---------------------------------------------------------


async def close(channel: tofu.Channel) -> None:
    await channel.aclose()


async def abort(channel: tofu.Channel) -> None:
    channel.abort()


@pytest.mark.parametrize("end", [close, abort])
async def test_a_task_that_receives_learns_that_another_one_closed(
    tcp_pair: Pair, end: Callable[[tofu.Channel], Any]
) -> None:
    a = tcp_pair.client
    receiving = asyncio.create_task(a.receive())
    await turns(1)
    await end(a)
    with pytest.raises(ClosedResourceError):
        await receiving


@pytest.mark.parametrize("end", [close, abort])
async def test_a_task_that_sends_learns_that_another_one_closed(
    tcp_pair: Pair, end: Callable[[tofu.Channel], Any]
) -> None:
    a, b = tcp_pair
    sending = [asyncio.create_task(send_on(a)) for _ in range(2)]
    await until(lambda: connection_of(a).queue.senders_waiting == 2)
    await settled(a, b)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end, a)
        for task in sending:
            with pytest.raises(ClosedResourceError):
                await task
        tasks.start_soon(b.aclose)


async def send_on(stream: Stream) -> None:
    while True:
        await stream.send(Message(OpCode.SIGNAL, bytes(65535)))


async def test_a_lost_peer_breaks_who_receives_and_who_sends(
    tcp_pair: Pair,
) -> None:
    a, b = tcp_pair
    tasks = [asyncio.create_task(a.receive()), asyncio.create_task(send_on(a))]
    await until(lambda: connection_of(a).queue.senders_waiting)
    b.abort()
    for task in tasks:
        with pytest.raises(BrokenResourceError):
            await task


async def test_one_of_two_tasks_may_receive(tcp_pair: Pair) -> None:
    a, b = tcp_pair
    first = asyncio.create_task(a.receive())
    await turns(1)
    with pytest.raises(BusyResourceError):
        await a.receive()
    with pytest.raises(BusyResourceError):
        async for _ in a:
            pass
    await b.send(item(7))
    assert number_of(await first) == 7


async def test_of_two_tasks_that_send_each_message_is_whole_and_in_order(
    tcp_pair: Pair,
) -> None:
    a, b = tcp_pair

    async def send(name: bytes) -> None:
        for number in range(40):
            await a.send(Message(OpCode.SIGNAL, name * 50_000, {"Number": str(number)}))

    got: dict[bytes, list[int]] = {b"a": [], b"b": [], b"c": []}
    async with anyio.create_task_group() as tasks:
        for name in got:
            tasks.start_soon(send, name)
        for _ in range(120):
            with await b.receive() as message:
                assert message.body == message.body[:1] * 50_000
                got[message.body[:1]].append(int(message.headers["Number"]))
    assert list(got.values()) == [list(range(40))] * 3


async def test_the_addresses_are_typed_attributes(
    tcp_pair: Pair,
) -> None:
    a, b = tcp_pair
    assert a.extra(SocketAttribute.family) == socket.AF_INET
    assert a.extra(SocketAttribute.remote_address) == b.extra(SocketAttribute.local_address)
    assert b.extra(SocketAttribute.remote_address) == a.extra(SocketAttribute.local_address)
    assert a.extra(SocketAttribute.remote_port) == b.extra(SocketAttribute.local_port)
    assert a.extra(SocketAttribute.local_address) == (
        "127.0.0.1",
        a.extra(SocketAttribute.local_port),
    )
    assert a.extra(SocketAttribute.raw_socket, None) is None
    async with a.stream() as exchange:
        assert exchange.extra(SocketAttribute.remote_address) == a.extra(
            SocketAttribute.remote_address
        )
    stapled = StapledObjectStream(a, b)
    assert stapled.extra(SocketAttribute.family) == socket.AF_INET
    await asyncio.gather(a.aclose(), b.aclose())
    for channel in tcp_pair:
        assert channel.extra(SocketAttribute.remote_address, None) is None


async def test_ipv6_addresses_are_pairs_like_others(group: tofu.ChannelGroup) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this system has no IPv6")
    async with await group.listen("tcp://[::1]:0") as listener:
        assert listener.extra(SocketAttribute.family) == socket.AF_INET6
        a, b = await asyncio.gather(group.connect(listener.address), listener.accept())
        assert a.extra(SocketAttribute.remote_address) == listener.extra(
            SocketAttribute.local_address
        )
        await asyncio.gather(a.aclose(), b.aclose())


@pytest.mark.skipif(not HAS_UDS, reason="this Python has no Unix sockets on this system")
async def test_unix_sockets_have_paths_and_no_ports(
    group: tofu.ChannelGroup, socket_path: str
) -> None:
    async with await group.listen(f"uds://{socket_path}") as listener:
        a, b = await asyncio.gather(group.connect(listener.address), listener.accept())
        assert listener.extra(SocketAttribute.family) == socket.AF_UNIX
        assert listener.extra(SocketAttribute.local_address) == socket_path
        assert a.extra(SocketAttribute.remote_address) == socket_path
        assert b.extra(SocketAttribute.local_address) == socket_path
        for provider in (listener, a, b):
            assert provider.extra(SocketAttribute.local_port, None) is None
        await asyncio.gather(a.aclose(), b.aclose())


# --- every listener --------------------------------------------------------------------------


async def echo(stream: Stream) -> None:
    async for message in stream:
        await stream.send(message)


async def ask(group: tofu.ChannelGroup, listener: tofu.Listener) -> None:
    async with await group.connect(listener.address) as channel:
        await channel.send(item(5))
        assert number_of(await channel.receive()) == 5


@pytest.mark.parametrize("own_group", [True, False])
async def test_a_listener_serves_until_it_is_closed(
    group: tofu.ChannelGroup, own_group: bool
) -> None:
    listener = await group.listen("tcp://127.0.0.1:0")
    generic: Listener[Stream] = listener
    async with anyio.create_task_group() as tasks:
        handlers: TaskGroup | None = tasks if own_group else None
        tasks.start_soon(generic.serve, echo, handlers)
        for _ in range(3):
            await ask(group, listener)
        await generic.aclose()
        await generic.aclose()
    with pytest.raises(ClosedResourceError):
        await listener.accept()
    assert listener.extra(SocketAttribute.local_address, None) is None


async def test_one_of_two_tasks_may_accept_and_none_after_closing(
    group: tofu.ChannelGroup,
) -> None:
    listener = await group.listen("tcp://127.0.0.1:0")
    first = asyncio.create_task(listener.accept())
    await turns(1)
    with pytest.raises(BusyResourceError):
        await listener.accept()
    await listener.aclose()
    with pytest.raises(ClosedResourceError):
        await first


async def test_cancelled_accepts_lose_no_channel(group: tofu.ChannelGroup) -> None:
    async with await group.listen("tcp://127.0.0.1:0") as listener:
        accepted = []
        connecting = [asyncio.create_task(group.connect(listener.address)) for _ in range(20)]
        for number in range(200):
            with anyio.move_on_after(0):
                accepted.append(await listener.accept())
            await turns(number % 3)
        while len(accepted) < 20:
            accepted.append(await listener.accept())
        channels = [*accepted, *await asyncio.gather(*connecting)]
        await asyncio.gather(*(channel.aclose() for channel in channels))


async def test_several_listeners_are_one(group: tofu.ChannelGroup, socket_path: str) -> None:
    listeners = [
        await group.listen("tcp://127.0.0.1:0"),
        await group.listen(f"uds://{socket_path}"),
    ]
    both = MultiListener(listeners)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(both.serve, echo)
        for listener in listeners:
            await ask(group, listener)
        await both.aclose()


# --- generic code ----------------------------------------------------------------------------


async def relay(a: Stream, b: Stream) -> None:
    """Send each end's messages to the other until both have finished, then close both."""
    async with a, b, anyio.create_task_group() as tasks:
        tasks.start_soon(one_way, a, b)
        tasks.start_soon(one_way, b, a)


async def one_way(source: Stream, sink: Stream) -> None:
    async for message in source:
        await sink.send(message)
    await sink.send_eof()


async def conversation(client: Stream) -> None:
    """Half-closes, and expects everything back, then the end."""
    async with anyio.create_task_group() as tasks:

        async def send() -> None:
            for number in range(200):
                await client.send(item(number))
            await client.send_eof()

        tasks.start_soon(send)
        assert [number_of(message) async for message in client] == list(range(200))


async def through_a_relay() -> None:
    """A client, a relay between two channels, and an echo behind it."""

    async def behind(stream: Stream) -> None:
        await one_way(stream, stream)

    async with tofu.Engine(8) as engine, engine.create_group() as group:
        back = await group.listen("tcp://127.0.0.1:0")
        front = await group.listen("tcp://127.0.0.1:0")

        async def in_front(stream: Stream) -> None:
            await relay(stream, await group.connect(back.address))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(back.serve, behind)
            tasks.start_soon(front.serve, in_front)
            async with await group.connect(front.address) as client:
                await conversation(client)
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize("loop", _LOOPS)
def test_generic_code_runs_under_anyio_on_each_loop(loop: str) -> None:
    options = {"loop_factory": tofu.loop_factory(loop), "debug": True}
    anyio.run(through_a_relay, backend="asyncio", backend_options=options)


async def test_a_stream_stapled_of_two_channels(
    group: tofu.ChannelGroup, both_ends: Connect
) -> None:
    async with both_ends(group) as there, both_ends(group) as back:
        near = StapledObjectStream(there.client, back.client)
        far = StapledObjectStream(back.server, there.server)
        async with near, far, anyio.create_task_group() as tasks:
            tasks.start_soon(one_way, far, far)
            await conversation(near)


async def test_cancelling_a_task_group_in_the_middle_of_all_leaves_nothing(
    group: tofu.ChannelGroup,
) -> None:
    """The fixtures look for tasks, descriptors and permits."""
    listener = await group.listen("tcp://127.0.0.1:0")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        channel = await group.connect(listener.address)
        tasks.start_soon(send_on, channel)
        await until(lambda: channel.statistics().sent > 10)
        tasks.cancel_scope.cancel()
    channel.abort()
