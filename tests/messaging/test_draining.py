"""Draining a listener: nobody new, time for those who are there, and then an end for all."""

from __future__ import annotations

import asyncio

import pytest

import tofu_aio as tofu
from tests.messaging.peers import (
    ENOUGH,
    LARGE_HELLO,
    RawPeer,
    connection_of,
    hello,
    turns,
    until,
)
from tofu_aio import OpCode, State, Status
from tofu_aio.messaging.connection import closing as closing_module

SHUTTING_DOWN = r"refused the channel: the listener is shutting down.*shutdown_started"


async def echo(channel: tofu.Channel) -> None:
    """Answer, and leave when the peer does."""
    async for message in channel:
        with message:
            await channel.reply(message, message.body)


async def until_drained(channel: tofu.Channel) -> None:
    """What a good client does: it leaves once it is told."""
    await channel.wait_draining()
    await channel.aclose()


async def test_it_ends_when_the_last_client_has_left(
    group: tofu.ChannelGroup, address: str
) -> None:
    listener = await group.listen(address)
    serving = asyncio.create_task(listener.serve(echo))
    clients = [await group.connect(listener.address) for _ in range(5)]
    leaving = [asyncio.create_task(until_drained(client)) for client in clients[1:]]
    draining = asyncio.create_task(listener.drain(1000))
    await asyncio.wait(leaving)
    assert (await clients[0].request(b"still here")).body == b"still here"
    assert clients[0].draining
    await turns(10)
    assert not draining.done()
    assert not serving.done()
    await clients[0].aclose()
    await asyncio.gather(draining, serving)
    with pytest.raises(tofu.ChannelClosed):
        await listener.accept()


async def test_its_address_is_free_at_once(group: tofu.ChannelGroup, address: str) -> None:
    listener = await group.listen(address)
    client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
    draining = asyncio.create_task(listener.drain(1000))
    await client.wait_draining()
    async with await group.listen(listener.address) as another:
        first, second = await asyncio.gather(group.connect(another.address), another.accept())
        assert not first.draining, "this is not the drained listener's"
        await asyncio.gather(first.aclose(), second.aclose(), client.aclose(), server.aclose())
        await draining


async def test_only_its_own_channels_are_told(group: tofu.ChannelGroup, address: str) -> None:
    async with await group.listen("tcp://127.0.0.1:0") as another:
        others = await asyncio.gather(group.connect(another.address), another.accept())
        listener = await group.listen(address)
        own = await asyncio.gather(group.connect(listener.address), listener.accept())
        draining = asyncio.create_task(listener.drain(1000))
        await own[0].wait_draining()
        assert [end.draining for end in (*own, *others)] == [True, True, False, False]
        await asyncio.gather(*(end.aclose() for end in own))
        await draining
        assert [end.state for end in others] == [State.OPEN, State.OPEN]
        await asyncio.gather(*(end.aclose() for end in others))


async def test_those_who_stay_get_a_bye_after_the_timeout(
    group: tofu.ChannelGroup, address: str
) -> None:
    listener = await group.listen(address)
    serving = asyncio.create_task(listener.serve(echo))
    client = await group.connect(listener.address)
    await listener.drain(0)
    await serving
    assert [message async for message in client] == []
    assert isinstance(client.end, tofu.ChannelEnded)
    await client.aclose()


async def test_a_handler_that_never_receives_is_closed_too(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    waiting = asyncio.Event()

    async def deaf(channel: tofu.Channel) -> None:
        await channel.wait_draining()
        waiting.set()
        await connection_of(channel).closing.done

    serving = asyncio.create_task(listener.serve(deaf))
    client = await group.connect(listener.address)
    await listener.drain(0.05)
    assert waiting.is_set()
    await serving
    await client.aclose()


async def test_a_frozen_peer_holds_nothing_up_for_ever(
    listener: tofu.Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing_module, "BYE_TIMEOUT", 0.05)
    serving = asyncio.create_task(listener.serve(echo))
    with await RawPeer.introduced(listener.address) as peer:
        await listener.drain(0.01)
        await serving
        assert (await peer.message()).op_code is OpCode.BYE_REQUEST, "it knows no notice"


async def test_a_channel_whose_bye_crosses_the_notice_ends_well(
    group: tofu.ChannelGroup, address: str
) -> None:
    for late in range(6):
        listener = await group.listen(address)
        serving = asyncio.create_task(listener.serve(echo))
        client = await group.connect(listener.address)
        leaving = asyncio.create_task(client.aclose())
        await turns(late)
        await listener.drain(1000)
        await asyncio.gather(leaving, serving)


async def test_a_request_is_answered_meanwhile(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(channel: tofu.Channel) -> None:
        async for message in channel:
            asked.set()
            await go_on.wait()
            await channel.reply(message, b"at last")

    serving = asyncio.create_task(listener.serve(slow))
    client = await group.connect(listener.address)
    asking = asyncio.create_task(client.request(b"?"))
    await asked.wait()
    draining = asyncio.create_task(listener.drain(1000))
    await client.wait_draining()
    go_on.set()
    assert (await asking).body == b"at last"
    await client.aclose()
    await asyncio.gather(draining, serving)


# --- who is not accepted ----------------------------------------------------------------------


async def test_those_who_wait_to_be_accepted_are_refused(
    group: tofu.ChannelGroup, address: str
) -> None:
    listener = await group.listen(address)
    connecting = [asyncio.create_task(group.connect(listener.address)) for _ in range(2)]
    taken = await listener.receive_hello()  # the application has this one, the other one waits
    await until(lambda: listener._waiting == 1)
    await listener.drain(1000)
    for attempt in connecting:
        with pytest.raises(tofu.ConnectFailed, match=SHUTTING_DOWN) as caught:
            await attempt
        assert isinstance(caught.value.__cause__, tofu.ShutdownStarted)
    assert taken.state is State.CLOSED
    with pytest.raises(tofu.TofuError, match="refused on this side"):
        taken.accept()


async def test_a_decision_in_progress_is_refused(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    deciding, go_on = asyncio.Event(), asyncio.Event()

    async def decide(_: tofu.Channel) -> None:
        deciding.set()
        await go_on.wait()

    serving = asyncio.create_task(listener.serve(echo, decide=decide, decide_timeout=1000))
    connecting = asyncio.create_task(group.connect(listener.address))
    await deciding.wait()
    await listener.drain(1000)
    with pytest.raises(tofu.ConnectFailed, match=SHUTTING_DOWN):
        await connecting
    go_on.set()
    await serving


@pytest.mark.parametrize("sent", [0, 1, ENOUGH])
async def test_a_hello_under_way_is_refused_while_others_are_open(
    group: tofu.ChannelGroup, address: str, sent: int
) -> None:
    """The connection is there, and as much of its Hello as this."""
    listener = await group.listen(address)
    client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
    with await RawPeer.connect(listener.address) as late:
        admission = listener._admission
        assert admission is not None
        await late.send(LARGE_HELLO[:sent])
        await until(lambda: admission._silent or admission._handshaking)
        if sent == ENOUGH:
            await until(lambda: admission._handshaking)
        draining = asyncio.create_task(listener.drain(1000))
        await client.wait_draining()
        await late.send(LARGE_HELLO[sent:])
        answer = await late.message()
        assert (answer.op_code, answer.status) == (OpCode.HELLO_RESPONSE, Status.SHUTDOWN_STARTED)
        assert b"shutting down" in answer.body
    await asyncio.gather(client.aclose(), server.aclose(), draining)


async def test_a_hello_that_has_arrived_is_refused_though_nobody_else_is_there(
    address: str, group: tofu.ChannelGroup
) -> None:
    listener = await group.listen(address)
    with await RawPeer.connect(listener.address) as peer:
        admission = listener._admission
        assert admission is not None
        await until(lambda: admission._silent)
        peer.sock.send(hello())  # without a turn of the loop
        await listener.drain(1000)
        assert (await peer.message()).status is Status.SHUTDOWN_STARTED


async def test_a_silent_connection_holds_nothing_up(listener: tofu.Listener) -> None:
    with await RawPeer.connect(listener.address) as peer:
        admission = listener._admission
        assert admission is not None
        await until(lambda: admission._silent)
        await listener.drain(1000)
        assert await peer.end() == b""


# --- again, at once, and not to the end -------------------------------------------------------


async def test_draining_and_closing_in_any_order_and_at_once(
    group: tofu.ChannelGroup, address: str
) -> None:
    for calls in (
        ["drain", "drain", "aclose", "aclose"],
        ["aclose", "drain", "drain"],
        ["drain", "aclose", "drain"],
    ):
        listener = await group.listen(address)
        serving = asyncio.create_task(listener.serve(echo))
        client = await group.connect(listener.address)
        leaving = asyncio.create_task(until_drained(client))
        await asyncio.gather(*(getattr(listener, call)() for call in calls))
        await asyncio.gather(serving, leaving)
        for call in calls:
            await getattr(listener, call)()


async def test_closing_ends_a_drain(group: tofu.ChannelGroup, listener: tofu.Listener) -> None:
    """Its handlers receive no more, so that they leave."""
    serving = asyncio.create_task(listener.serve(echo))
    client = await group.connect(listener.address)
    draining = asyncio.create_task(listener.drain(1000))
    await client.wait_draining()
    await listener.aclose()
    await asyncio.gather(draining, serving)
    await client.aclose()


async def test_a_cancelled_drain_leaves_the_listener_closed_and_its_channels_open(
    group: tofu.ChannelGroup, address: str
) -> None:
    listener = await group.listen(address)
    client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
    with await RawPeer.connect(listener.address) as silent:
        await until(lambda: listener._admission and listener._admission._silent)
        draining = asyncio.create_task(listener.drain(1000))
        await client.wait_draining()
        draining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await draining
        assert await silent.end() == b""
    with pytest.raises(tofu.TofuError):
        await group.connect(listener.address)
    await client.signal(b"still here")
    assert (await server.receive()).body == b"still here"
    await asyncio.gather(listener.drain(1000), client.aclose(), server.aclose())


async def test_a_group_that_closes_ends_a_drain(engine: tofu.Engine, address: str) -> None:
    async with engine.create_group() as group, engine.create_group() as clients:
        listener = await group.listen(address)
        serving = asyncio.create_task(listener.serve(echo))
        client = await clients.connect(listener.address)
        draining = asyncio.create_task(listener.drain(1000))
        await client.wait_draining()
        closing = asyncio.create_task(group.aclose())
        assert [message async for message in client] == []
        await asyncio.gather(closing, draining, serving)


@pytest.mark.parametrize("timeout", [-1, "1", None, True, float("nan")])
async def test_a_bad_timeout_leaves_the_listener_open(
    group: tofu.ChannelGroup, listener: tofu.Listener, timeout: float
) -> None:
    with pytest.raises((TypeError, ValueError), match="timeout is"):
        await listener.drain(timeout)
    ends = await asyncio.gather(group.connect(listener.address), listener.accept())
    await asyncio.gather(*(end.aclose() for end in ends))
