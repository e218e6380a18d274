"""Drain notices: what they tell the peer, and that nobody else sees any of them."""

from __future__ import annotations

import asyncio

import pytest

import tofu_aio as tofu
from tests.messaging.conftest import Connect
from tests.messaging.peers import (
    Pair,
    RawPeer,
    RawServer,
    connection_of,
    frame,
    hello,
    settled,
    turns,
    until,
)
from tests.messaging.worlds import modern_server
from tofu_aio import Message, OpCode, State, Status

NOTICE = frame(OpCode.SIGNAL, message_id=0, status=Status.SHUTDOWN_STARTED)


@pytest.fixture(params=[False, True], ids=["from the client", "from the server"])
def ends(request: pytest.FixtureRequest, pair: Pair) -> tuple[tofu.Channel, tofu.Channel]:
    """The end that announces, and the other one."""
    return (pair.server, pair.client) if request.param else (pair.client, pair.server)


async def test_the_peer_is_told_behind_what_was_sent_before(
    ends: tuple[tofu.Channel, tofu.Channel],
) -> None:
    here, there = ends
    assert [end.draining for end in ends] == [False, False]
    for number in range(3):
        await here.signal(b"%d" % number)
    here.drain()
    await here.signal(b"after")
    await there.wait_draining()
    assert there._mailbox.items[2].body == b"2"
    assert here.draining
    assert there.draining
    bodies = [(await there.receive()).body for _ in range(4)]
    assert bodies == [b"0", b"1", b"2", b"after"]


async def test_it_is_no_message(ends: tuple[tofu.Channel, tofu.Channel]) -> None:
    here, there = ends
    before = here.statistics(), there.statistics()
    for _ in range(3):
        here.drain()
    await there.wait_draining()
    await settled(here, there)
    assert (here.statistics(), there.statistics()) == before
    assert not there._mailbox.items
    receiving = asyncio.create_task(there.receive())
    await turns(5)
    assert not receiving.done()
    await here.signal(b"the first")
    assert (await receiving).body == b"the first"


async def test_both_go_on_until_one_says_bye(ends: tuple[tofu.Channel, tofu.Channel]) -> None:
    here, there = ends
    here.drain()
    there.drain()
    await asyncio.gather(here.wait_draining(), there.wait_draining())
    for asking, answering in (ends, ends[::-1]):
        response = asyncio.create_task(asking.request(b"?"))
        request = await answering.receive()
        await answering.reply(request, b"!")
        assert (await response).body == b"!"
    assert (here.state, there.state) == (State.OPEN, State.OPEN)


async def test_a_request_that_is_unanswered_can_be_answered(pair: Pair) -> None:
    response = asyncio.create_task(pair.client.request(b"?"))
    request = await pair.server.receive()
    pair.client.drain()
    await pair.server.wait_draining()
    await pair.server.reply(request, b"!")
    assert (await response).body == b"!"


async def test_any_number_of_tasks_may_wait_and_be_cancelled(pair: Pair) -> None:
    waiting = [asyncio.create_task(pair.client.wait_draining()) for _ in range(5)]
    await turns(3)
    waiting[2].cancel()
    await turns(3)
    assert [task.done() for task in waiting] == [False, False, True, False, False]
    pair.server.drain()
    await asyncio.wait(waiting)
    assert [task.cancelled() for task in waiting] == [False, False, True, False, False]
    await pair.client.wait_draining()


async def test_waiting_ends_when_this_side_announces_it(pair: Pair) -> None:
    waiting = asyncio.create_task(pair.client.wait_draining())
    await turns(3)
    pair.client.drain()
    await waiting


@pytest.mark.parametrize("how", ["Bye", "own Bye", "reset", "own reset"])
async def test_waiting_ends_with_the_channel(pair: Pair, how: str) -> None:
    client, server = pair
    waiting = asyncio.create_task(client.wait_draining())
    await turns(3)
    side = client if how.startswith("own") else server
    if how.endswith("reset"):
        side.abort()
    else:
        await side.aclose()
    await waiting
    assert not client.draining
    await client.wait_draining()
    client.drain()


async def test_asking_takes_no_memory_of_an_idle_channel(pair: Pair) -> None:
    assert [end.draining for end in pair] == [False, False]
    assert [connection_of(end)._closing for end in pair] == [None, None]


async def test_a_message_behind_it_needs_no_permit_of_it(
    both_ends: Connect, group: tofu.ChannelGroup, engine: tofu.Engine
) -> None:
    """The whole pool is in use, and so is the channel's reserve."""
    async with both_ends(group) as pair:
        held = [engine.get() for _ in range(engine.statistics().pool_size)]
        await pair.client.signal(b"on the reserve")
        await until(lambda: pair.server._mailbox.items)
        pair.client.drain()
        await pair.server.wait_draining()
        assert not connection_of(pair.server).suspended
        for message in held:
            assert message is not None
            engine.put(message)


# --- peers that speak by hand ----------------------------------------------------------------


async def test_it_is_one_bare_header(listener: tofu.Listener) -> None:
    with await RawPeer.connect(listener.address) as peer:
        headers = b"~connect_to:x\r\n~supports:drain\r\n"
        await peer.send(frame(OpCode.HELLO_REQUEST, headers=headers))
        channel = await listener.accept()
        assert (await peer.message()).op_code is OpCode.HELLO_RESPONSE
        channel.drain()
        channel.drain()
        closing = asyncio.create_task(channel.aclose(0))
        sent = await peer.end()
        await closing
    assert sent[2:16] == NOTICE[2:]
    assert sent[18] == OpCode.BYE_REQUEST, "the second call has sent nothing"


@pytest.mark.parametrize("supports", [b"", b"~supports:cancel,whole\r\n"])
async def test_a_plain_peer_sees_none_of_it(listener: tofu.Listener, supports: bytes) -> None:
    with await RawPeer.connect(listener.address) as peer:
        await peer.send(
            frame(OpCode.HELLO_REQUEST, headers=b"~connect_to:tcp|127.0.0.1|1\r\n" + supports)
        )
        channel = await listener.accept()
        answer = await peer.message()
        assert dict(answer.headers) == {"~heartbeat": "20000", "~supports": "cancel,whole,drain"}
        channel.drain()
        assert channel.draining, "tasks here want to know it all the same"
        await channel.wait_draining()
        await channel.signal(b"a message")
        assert (await peer.message()).body == b"a message"
        channel.abort()


async def test_a_plain_server_sees_none_of_it(
    group: tofu.ChannelGroup, raw_server: RawServer
) -> None:
    connecting = asyncio.create_task(group.connect(raw_server.address))
    with await raw_server.accept() as peer:
        asked = await peer.message()
        assert set(asked.headers) == {"~connect_to", "~heartbeat", "~supports"}
        # A Zig server may accept by sending the Hello back.
        echo = frame(
            OpCode.HELLO_RESPONSE, headers=asked.headers.encode(), message_id=asked.message_id
        )
        await peer.send(echo)
        channel = await connecting
        channel.drain()
        await channel.signal(b"a message")
        assert (await peer.message()).body == b"a message"
        channel.abort()


async def test_the_notice_of_a_peer(group: tofu.ChannelGroup, raw_server: RawServer) -> None:
    channel, peer = await modern_server(group, raw_server)
    with peer:
        await peer.send(frame(body=b"before") + NOTICE + frame(body=b"after", message_id=2))
        await channel.wait_draining()
        assert [(await channel.receive()).body for _ in range(2)] == [b"before", b"after"]
        await peer.send(NOTICE)
        with pytest.raises(tofu.ProtocolViolation, match="message id"):
            await channel.receive()


async def test_one_that_comes_before_the_channel_is_accepted_waits(
    listener: tofu.Listener,
) -> None:
    with await RawPeer.connect(listener.address) as peer:
        await peer.send(hello(listener.address) + NOTICE)
        channel = await listener.receive_hello()
        channel.drain()  # which cannot be sent yet
        assert channel.state is State.HELLO_HEARD
        channel.accept()
        await channel.wait_draining()
        assert (await peer.message()).op_code is OpCode.HELLO_RESPONSE
        await until(lambda: connection_of(channel).decoder.exempt.drain_noted)  # type: ignore[union-attr]
        await peer.send(frame(body=b"still alive"))
        assert (await channel.receive()).body == b"still alive"
        channel.abort()


async def test_a_program_of_messages_sees_none_of_it(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    group.post(Message(OpCode.HELLO_REQUEST, headers={"~connect_to": listener.address.to_header()}))
    channel = await listener.accept()
    answer = await group.receive()
    assert answer.op_code is OpCode.HELLO_RESPONSE
    channel.drain()
    await channel.signal(b"a message")
    assert (await group.receive()).body == b"a message"
    channel.abort()
