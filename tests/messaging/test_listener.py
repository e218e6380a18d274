"""Listeners as streams of channels: accepting, serving, closing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket

import anyio
import pytest
from anyio import BusyResourceError, ClosedResourceError
from anyio.abc import Listener as AnyioListener

import tofu_aio as tofu
from tests.messaging.peers import (
    ENOUGH,
    LARGE_HELLO,
    RawPeer,
    connection_of,
    frame,
    hello,
    turns,
    until,
)
from tofu_aio import OpCode, State


async def echo(channel: tofu.Channel) -> None:
    async for message in channel:
        with message:
            await channel.reply(message, message.body)


async def ping(group: tofu.ChannelGroup, address: tofu.Address, body: bytes = b"ping") -> None:
    """A complete request and response."""
    async with await group.connect(address) as channel:
        with await channel.request(body) as response:
            assert response.body == body


# --- accepting -----------------------------------------------------------------------------


async def test_accepting_answers_the_hello(group: tofu.ChannelGroup, address: str) -> None:
    async with await group.listen(address) as listener:
        connecting = asyncio.create_task(group.connect(listener.address))
        await turns(20)
        assert not connecting.done(), "nobody has accepted yet"
        server = await listener.accept()
        client = await connecting
        assert (client.state, server.state) == (State.OPEN, State.OPEN)
        assert 1 <= listener.channel_number <= 65534
        assert len({listener.channel_number, client.number, server.number}) == 3
        assert repr(listener) == f"<Listener {listener.channel_number} {listener.address}>"
        await asyncio.gather(client.aclose(), server.aclose())


async def test_channels_come_in_the_order_of_their_hellos(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    peers = [await RawPeer.connect(listener.address) for _ in range(4)]
    for place, number in enumerate((2, 0, 3, 1)):
        await peers[number].send(hello(message_id=number + 1))
        await until(lambda place=place: len(listener._ready.items) > place)
    order = []
    for _ in peers:
        channel = await listener.accept()
        order.append(channel.hello.message_id - 1)
        channel.abort()
    assert order == [2, 0, 3, 1]
    for peer in peers:
        peer.close()


async def test_a_cancelled_accept_loses_no_channel(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    for patience in range(12):
        accepting = asyncio.create_task(listener.accept())
        peer = await RawPeer.connect(listener.address)
        await peer.send(hello())
        await turns(patience)
        accepting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await accepting
        channel = await listener.accept() if accepting.cancelled() else accepting.result()
        answer = await peer.message()
        assert answer.op_code is OpCode.HELLO_RESPONSE
        peer.close()
        await channel.aclose()


async def test_an_accept_cancelled_in_the_turn_of_the_hello_loses_no_channel(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    accepting = asyncio.create_task(listener.accept())
    await turns(1)
    peer = await RawPeer.connect(listener.address)
    await peer.send(hello())
    await until(lambda: listener._ready.items)
    accepting.cancel()
    await turns(2)
    assert accepting.cancelled()
    channel = await listener.accept()
    assert channel.state is State.OPEN
    peer.close()
    await channel.aclose()


async def test_only_one_task_may_accept(listener: tofu.Listener) -> None:
    accepting = asyncio.create_task(listener.accept())
    await turns(1)
    with pytest.raises(BusyResourceError):
        await listener.accept()
    accepting.cancel()
    await turns(2)


async def test_a_channel_that_ended_before_it_was_accepted_is_skipped(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    gone = await RawPeer.connect(listener.address)
    await gone.send(hello(message_id=1))
    await until(lambda: listener._ready.items)
    stays = await RawPeer.connect(listener.address)
    await stays.send(hello(message_id=2))
    await until(lambda: len(listener._ready.items) == 2)
    gone.close()
    await until(lambda: len(listener._ready.items) == 1)
    channel = await listener.accept()
    assert channel.hello.message_id == 2
    channel.abort()
    stays.close()


async def test_several_listeners_in_a_group_do_not_mix(
    group: tofu.ChannelGroup, socket_path: str
) -> None:
    async with (
        await group.listen("tcp://127.0.0.1:0") as first,
        await group.listen("tcp://127.0.0.1:0") as second,
        await group.listen(f"uds://{socket_path}") as third,
    ):
        for listener in (third, first, second, first):
            client, server = await asyncio.gather(
                group.connect(listener.address), listener.accept()
            )
            await asyncio.gather(client.aclose(), server.aclose())
        assert not any(listener._ready.items for listener in (first, second, third))


async def test_listeners_are_anyio_listeners(listener: tofu.Listener) -> None:
    assert isinstance(listener, AnyioListener)


# --- serving -------------------------------------------------------------------------------


async def test_serve_runs_a_handler_for_each_channel_at_once(
    group: tofu.ChannelGroup, address: str
) -> None:
    async with await group.listen(address) as listener:
        serving = asyncio.create_task(listener.serve(echo))
        clients = [await group.connect(listener.address) for _ in range(5)]
        for number, client in enumerate(clients):
            with await client.request(b"%d" % number) as response:
                assert response.body == b"%d" % number
        await asyncio.gather(*(client.aclose() for client in clients))
        await listener.aclose()
        await serving


async def test_serve_ends_when_the_listener_is_closed_while_clients_stay(
    group: tofu.ChannelGroup, address: str
) -> None:
    listener = await group.listen(address)
    serving = asyncio.create_task(listener.serve(echo))
    clients = [await group.connect(listener.address) for _ in range(3)]
    await ping(group, listener.address)
    await listener.aclose()
    await serving
    for client in clients:
        assert [message async for message in client] == [], "the peer's Bye"
        await client.aclose()


async def test_what_had_arrived_when_the_listener_was_closed_is_answered(
    group: tofu.ChannelGroup, address: str
) -> None:
    """Also what the loop has not read from the socket by then."""
    received, go_on = [], asyncio.Event()

    async def slow(channel: tofu.Channel) -> None:
        async for message in channel:
            received.append(message.body)
            await go_on.wait()
            await channel.reply(message, message.body)
        received.append(b"the end")

    listener = await group.listen(address)
    serving = asyncio.create_task(listener.serve(slow))
    with await RawPeer.introduced(listener.address) as peer:
        await peer.send(b"".join(frame(body=b"%d" % n, message_id=n) for n in (1, 2)))
        await until(lambda: received)
        if peer.sock.family == socket.AF_INET:
            peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.sock.send(frame(body=b"3", message_id=3))  # without a turn of the loop
        await listener.aclose()
        await peer.send(frame(body=b"4", message_id=4))
        await turns(20)
        go_on.set()
        answers = [await peer.message() for _ in range(4)]
        assert [(a.op_code, a.body) for a in answers[:3]] == [
            (OpCode.RESPONSE, b"%d" % n) for n in (1, 2, 3)
        ]
        assert answers[3].op_code is OpCode.BYE_REQUEST
        assert received == [b"1", b"2", b"3", b"the end"]
    await serving


async def test_what_waits_for_permits_when_the_listener_is_closed_is_not_lost(
    group: tofu.ChannelGroup, address: str
) -> None:
    """It has arrived, though it was not decoded yet."""
    bodies, go_on = [], asyncio.Event()

    async def slow(channel: tofu.Channel) -> None:
        async for message in channel:
            with message:
                await go_on.wait()
                bodies.append(message.body)

    listener = await group.listen(address)
    serving = asyncio.create_task(listener.serve(slow))
    client = await group.connect(listener.address)
    for number in range(20):
        await client.signal(b"%d" % number)
    (server,) = listener._served
    await until(lambda: connection_of(server).suspended)
    await listener.aclose()
    assert connection_of(server).suspended
    go_on.set()
    await serving
    assert bodies == [b"%d" % number for number in range(20)]
    assert [message async for message in client] == []
    await client.aclose()


async def test_an_exchange_goes_on_when_the_listener_is_closed(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    begun = asyncio.Event()

    async def count(channel: tofu.Channel) -> None:
        async for message in channel:
            async with channel.stream(message) as exchange:
                begun.set()
                parts = [part.body async for part in exchange]
                await exchange.send(b"%d" % len(parts))
                await exchange.finish()

    serving = asyncio.create_task(listener.serve(count))
    client = await group.connect(listener.address)
    async with client.stream() as exchange:
        await exchange.send(b"1")
        await begun.wait()
        await listener.aclose()
        await exchange.send(b"2")
        await exchange.finish(b"3")
        assert b"".join([bytes(part.body) async for part in exchange]) == b"3"
    await serving
    await client.aclose()


async def test_a_request_after_the_listener_was_closed_fails_at_the_bye(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    go_on = asyncio.Event()

    async def busy(channel: tofu.Channel) -> None:
        await go_on.wait()
        async for _ in channel:
            raise AssertionError

    serving = asyncio.create_task(listener.serve(busy))
    client = await group.connect(listener.address)
    await listener.aclose()
    asking = asyncio.create_task(client.request(b"too late"))
    await turns(10)
    go_on.set()
    with pytest.raises(tofu.PeerDisconnected, match="said Bye"):
        await asking
    await serving
    await client.aclose()


async def test_receive_says_that_the_listener_was_closed_here(
    group: tofu.ChannelGroup, listener: tofu.Listener, caplog: pytest.LogCaptureFixture
) -> None:
    """That it was closed is no fault of the handler's: the peer gets a Bye, and no reset."""
    errors = []

    async def handler(channel: tofu.Channel) -> None:
        try:
            await channel.receive()
        except tofu.ChannelEnded as error:
            errors.append(str(error))
            raise

    serving = asyncio.create_task(listener.serve(handler))
    client = await group.connect(listener.address)
    with caplog.at_level(logging.INFO, "tofu_aio"):
        await listener.aclose()
        await serving
    assert errors == ["the listener was closed on this side"]
    assert {record.levelname for record in caplog.records} == {"INFO"}
    assert [message async for message in client] == []
    await client.aclose()


async def test_a_decision_in_progress_ends_in_a_refusal_when_the_listener_is_closed(
    group: tofu.ChannelGroup, address: str
) -> None:
    deciding = asyncio.Event()

    async def decide(_: tofu.Channel) -> None:
        deciding.set()
        await asyncio.sleep(1000)

    listener = await group.listen(address)
    serving = asyncio.create_task(listener.serve(echo, decide=decide, decide_timeout=1000))
    connecting = asyncio.create_task(group.connect(listener.address))
    await deciding.wait()
    await listener.aclose()
    with pytest.raises(tofu.ConnectFailed, match=r"shutting down.*shutdown_started") as caught:
        await connecting
    assert isinstance(caught.value.__cause__, tofu.ShutdownStarted)
    await serving


async def test_channels_that_were_accepted_otherwise_go_on_when_the_listener_is_closed(
    group: tofu.ChannelGroup, address: str
) -> None:
    listener = await group.listen(address)
    client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
    serving = asyncio.create_task(listener.serve(echo))
    await ping(group, listener.address)
    await listener.aclose()
    await serving
    await client.signal(b"still here")
    assert (await server.receive()).body == b"still here"
    await asyncio.gather(client.aclose(), server.aclose())


async def test_a_handler_that_raises_costs_only_its_channel(
    group: tofu.ChannelGroup, listener: tofu.Listener, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(channel: tofu.Channel) -> None:
        async for message in channel:
            if message.body == b"fail":
                raise ZeroDivisionError("handled badly")
            await channel.reply(message, message.body)
            message.release()

    serving = asyncio.create_task(listener.serve(fail))
    good, bad = [await group.connect(listener.address) for _ in range(2)]
    with pytest.raises(tofu.PeerDisconnected):
        await bad.request(b"fail")
    with await good.request(b"ok"):
        pass
    await ping(group, listener.address)
    (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert record.name == "tofu_aio"
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
    caplog.clear()  # the traceback refers to the message
    await asyncio.gather(good.aclose(), bad.aclose(), listener.aclose())
    await serving


async def test_a_peer_that_is_lost_is_no_error_of_the_handler(
    group: tofu.ChannelGroup, listener: tofu.Listener, caplog: pytest.LogCaptureFixture
) -> None:
    serving = asyncio.create_task(listener.serve(echo))
    client = await group.connect(listener.address)
    await client.signal(b"last words")
    client.abort()
    await ping(group, listener.address)
    await listener.aclose()
    await serving
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


async def test_a_failure_of_another_channel_is_an_error_of_the_handler(
    group: tofu.ChannelGroup, listener: tofu.Listener, caplog: pytest.LogCaptureFixture
) -> None:
    """A proxy loses its other side while its own channel is open."""

    async def proxy(channel: tofu.Channel) -> None:
        raise tofu.PeerDisconnected("the other side")

    serving = asyncio.create_task(listener.serve(proxy))
    client = await group.connect(listener.address)
    with pytest.raises(tofu.PeerDisconnected):
        await client.receive()
    await asyncio.gather(client.aclose(), listener.aclose())
    await serving
    assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) == 1


async def test_a_handler_that_returns_closes_its_channel(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    async def greet(channel: tofu.Channel) -> None:
        await channel.signal(b"hi")

    serving = asyncio.create_task(listener.serve(greet))
    async with await group.connect(listener.address) as client:
        assert [message.body async for message in client] == [b"hi"]
    await listener.aclose()
    await serving


async def test_cancelling_serve_ends_its_handlers(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    serving = asyncio.create_task(listener.serve(echo))
    client = await group.connect(listener.address)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    await until(lambda: client.state is State.CLOSED)
    await client.aclose()


async def test_what_stops_serving_comes_as_itself(listener: tofu.Listener) -> None:
    accepting = asyncio.create_task(listener.accept())
    await turns(1)
    with pytest.raises(BusyResourceError):
        await listener.serve(lambda channel: channel.receive())
    await listener.aclose()
    with pytest.raises(tofu.ChannelClosed):
        await accepting


async def test_serve_runs_handlers_in_a_given_task_group(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo, tasks)
        await ping(group, listener.address)
        tasks.cancel_scope.cancel()


# --- closing -------------------------------------------------------------------------------


async def test_accepting_ends_when_the_listener_closes(listener: tofu.Listener) -> None:
    accepting = asyncio.create_task(listener.accept())
    await turns(1)
    await asyncio.gather(listener.aclose(), listener.aclose())
    with pytest.raises(ClosedResourceError):
        await accepting
    with pytest.raises(tofu.ChannelClosed):
        await listener.accept()
    assert [channel async for channel in listener] == []
    await listener.aclose()


async def test_accepted_channels_outlive_their_listener(
    group: tofu.ChannelGroup, address: str
) -> None:
    listener = await group.listen(address)
    client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
    await listener.aclose()
    await client.signal(b"still here")
    assert (await server.receive()).body == b"still here"
    with pytest.raises(tofu.TofuError):
        await group.connect(listener.address)
    await asyncio.gather(client.aclose(), server.aclose())


async def test_channels_not_accepted_end_with_their_listener(
    group: tofu.ChannelGroup, address: str, engine: tofu.Engine
) -> None:
    listener = await group.listen(address)
    connecting = asyncio.create_task(group.connect(listener.address))
    await until(lambda: listener._ready.items)
    slow = await RawPeer.connect(listener.address)
    await slow.send(LARGE_HELLO[:ENOUGH])
    await until(lambda: engine.statistics().channels == 4)
    await listener.aclose()
    with pytest.raises(tofu.ConnectFailed, match="did not accept the channel"):
        await connecting
    await slow.end()
    slow.close()
    await until(lambda: engine.statistics().channels == 0)


@pytest.mark.parametrize("after", range(7))
async def test_a_listener_may_close_at_any_moment_of_an_arrival(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str, after: int
) -> None:
    """Connected, becoming a transport, half a Hello: nothing may be left."""
    listener = await group.listen(transport_address, hello_timeout=1000)
    early = await RawPeer.connect(listener.address)
    await early.send(LARGE_HELLO[:ENOUGH])
    late = await RawPeer.connect(listener.address)
    await late.send(hello())
    await turns(after)
    await listener.aclose()
    for peer in (early, late):
        await peer.end()
        peer.close()
    await until(lambda: engine.statistics().channels == 0)


async def test_a_closed_listener_frees_its_address(group: tofu.ChannelGroup, address: str) -> None:
    for _ in range(3):
        async with await group.listen(address) as listener:
            serving = asyncio.create_task(listener.serve(echo))
            await ping(group, listener.address)
            address = str(listener.address)
        await serving


# --- handlers with tasks ---------------------------------------------------------------------


async def test_a_peer_lost_by_a_handler_s_tasks_is_no_error_of_theirs(
    group: tofu.ChannelGroup, listener: tofu.Listener, caplog: pytest.LogCaptureFixture
) -> None:
    lost = asyncio.Event()

    async def handler(channel: tofu.Channel) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(channel.receive())
        finally:
            lost.set()

    serving = asyncio.create_task(listener.serve(handler))
    peer = await RawPeer.introduced(listener.address)
    await peer.reset()
    await lost.wait()
    serving.cancel()
    await asyncio.wait([serving])
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]


async def test_an_exchange_that_a_client_breaks_off_closes_its_channel_without_a_complaint(
    group: tofu.ChannelGroup, listener: tofu.Listener, caplog: pytest.LogCaptureFixture
) -> None:
    begun = asyncio.Event()

    async def handler(channel: tofu.Channel) -> None:
        async for request in channel:
            async with channel.stream(request) as upload:
                begun.set()
                async for part in upload:
                    part.release()

    serving = asyncio.create_task(listener.serve(handler))
    async with await group.connect(listener.address) as client:
        async with client.stream() as upload:
            await upload.send(b"the first half")
            await begun.wait()  # else it is taken back before anybody has seen it
        with pytest.raises(tofu.ChannelEnded):
            await client.receive()
    serving.cancel()
    await asyncio.wait([serving])
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]
