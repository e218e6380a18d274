"""What may be replied to, how often, and where the response goes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

import tofu_aio as tofu
from tests.messaging.conftest import Connect
from tests.messaging.peers import (
    Pair,
    RawPeer,
    RawServer,
    answers_of,
    connection_of,
    frame,
    settled,
    turns,
    until,
)
from tofu_aio import Message, OpCode, Status
from tofu_aio.protocol.op_code import MORE_BIT


async def asked(pair: Pair, body: bytes = b"?") -> tuple[asyncio.Task[Message], Message]:
    """A request in flight, and the server's message for it."""
    asking = asyncio.create_task(pair.client.request(body))
    return asking, await pair.server.receive()


async def stuffed(pair: Pair) -> None:
    """Fill what is on its way from the server to the client, until the server waits for room."""
    connection = connection_of(pair.server)
    while not connection.queue.paused:
        while not connection.queue.paused:
            pair.server.post(Message(OpCode.SIGNAL, bytes(60_000)))
            await turns(1)
        await settled(pair.server)


async def emptied(channel: tofu.Channel) -> None:
    """Receive what stands in the way."""
    while True:
        (await channel.receive()).release()


# --- what is no request, or has its answer --------------------------------------------------


async def test_a_part_is_not_replied_to(pair: Pair) -> None:
    client, server = pair
    sent = server.statistics().sent
    async with client.stream() as exchange:
        await exchange.send(b"part")
        part = await server.receive()
        for _ in range(2):
            with pytest.raises(tofu.InvalidMoreUsage, match=r"and more follow.*channel\.stream\("):
                await server.reply(part)
        assert server.statistics().sent == sent
        async with server.stream(part) as answer:
            await answer.finish(b"so it is")
        assert (await exchange.receive()).body == b"so it is"


@pytest.mark.parametrize("more", [False, True])
async def test_a_signal_is_not_replied_to(pair: Pair, *, more: bool) -> None:
    client, server = pair
    await client.signal(b"news")
    signal = await server.receive()
    with pytest.raises(tofu.InvalidOpCode, match=r"reply\(\) takes a received REQUEST, not SIGNAL"):
        await server.reply(signal, more=more)


async def test_neither_is_a_response(pair: Pair) -> None:
    asking, request = await asked(pair)
    await pair.server.reply(request)
    with pytest.raises(tofu.InvalidOpCode, match="not RESPONSE"):
        await pair.client.reply(await asking)


async def test_what_is_no_message_is_not_replied_to(tcp_pair: Pair) -> None:
    with pytest.raises(TypeError, match=r"reply\(\) takes the request Message .* not bytes"):
        await tcp_pair.server.reply(b"?")  # type: ignore[arg-type]


@pytest.mark.parametrize("more", [False, True])
async def test_a_request_has_one_response(pair: Pair, *, more: bool) -> None:
    client, server = pair
    asking, request = await asked(pair)
    await server.reply(request, b"first")
    sent = server.statistics().sent
    for _ in range(2):
        with pytest.raises(tofu.NotAllowed, match=rf"{request.message_id} was answered already"):
            await server.reply(request, b"second", more=more)
    assert server.statistics().sent == sent
    assert (await asking).body == b"first"
    assert client.statistics().late_responses == 0


async def test_an_answered_request_is_otherwise_as_it_was(pair: Pair) -> None:
    asking, request = await asked(pair, b"body")
    before = (request.op_code, request.more, request.message_id, request.body, repr(request))
    await pair.server.reply(request)
    after = (request.op_code, request.more, request.message_id, request.body, repr(request))
    assert after == before
    assert (await asking).body == b""


async def test_a_reply_that_cannot_be_sent_was_none(pair: Pair) -> None:
    """It may be made again, and right."""
    asking, request = await asked(pair)
    with pytest.raises(tofu.InvalidMessage):
        await pair.server.reply(request, headers={"": "no name"})
    with pytest.raises(TypeError):
        await pair.server.reply(request, "text")  # type: ignore[arg-type]
    with pytest.raises(tofu.InvalidHeadersLen):
        await pair.server.reply(request, headers={"a": "x" * 65_535})
    await pair.server.reply(request, b"right")
    assert (await asking).body == b"right"


# --- while there is no room ------------------------------------------------------------------


async def test_of_two_replies_that_wait_for_room_one_is_sent(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    asking, request = await asked(tcp_pair)
    await stuffed(tcp_pair)
    first = asyncio.create_task(server.reply(request, b"first"))
    await turns(1)
    assert not first.done()
    with pytest.raises(tofu.NotAllowed, match="was answered already"):
        await server.reply(request, b"second")
    receiving = asyncio.create_task(emptied(client))
    await first
    assert (await asking).body == b"first"
    receiving.cancel()
    await asyncio.wait([receiving])


async def test_a_reply_that_was_cancelled_may_be_repeated(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    asking, request = await asked(tcp_pair)
    await stuffed(tcp_pair)
    for _ in range(3):
        replying = asyncio.create_task(server.reply(request, b"cancelled"))
        await turns(1)
        replying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await replying
    receiving = asyncio.create_task(emptied(client))
    await server.reply(request, b"repeated")
    assert (await asking).body == b"repeated"
    receiving.cancel()
    await asyncio.wait([receiving])
    assert client.statistics().late_responses == 0


async def test_a_reply_that_waits_for_room_does_not_keep_its_request(
    tcp_pair: Pair, engine: tofu.Engine
) -> None:
    client, server = tcp_pair
    asking, request = await asked(tcp_pair)
    await stuffed(tcp_pair)
    held = server.statistics().held
    replying = asyncio.create_task(server.reply(request, b"late"))
    await turns(1)
    assert server.statistics().held == held == 1
    del request
    assert server.statistics().held == 0
    receiving = asyncio.create_task(emptied(client))
    await replying
    assert (await asking).body == b"late"
    receiving.cancel()
    await asyncio.wait([receiving])


# --- in parts --------------------------------------------------------------------------------


async def test_parts_and_then_the_last_make_one_response(pair: Pair) -> None:
    """The caller with ``request`` gets the whole, the one with ``stream`` each part."""
    client, server = pair
    asking, request = await asked(pair)
    for body in (b"one, ", b"two, "):
        await server.reply(request, body, {"Of": body.decode()}, more=True)
    await server.reply(request, b"three", {"Last": "yes"}, status=Status.NOT_ALLOWED)
    response = await asking
    assert (response.status, response.body) == (Status.NOT_ALLOWED, b"three"), "the rest is void"
    with pytest.raises(tofu.NotAllowed):
        await server.reply(request, b"four")

    asking, request = await asked(pair)
    for body in (b"one, ", b"two, "):
        await server.reply(request, body, {"Of": body.decode().strip()}, more=True)
    await server.reply(request, b"three", {"Last": "yes"})
    response = await asking
    assert (response.body, response.more) == (b"one, two, three", False)
    assert list(response.headers.pairs) == [("Of", "one,"), ("Of", "two,"), ("Last", "yes")]

    async with client.stream() as exchange:
        await exchange.finish()
        request = await server.receive()
        await server.reply(request, b"one", more=True)
        await server.reply(request, b"two")
        assert [part.body async for part in exchange] == [b"one", b"two"]


# --- where the response goes -----------------------------------------------------------------


async def late(channel: tofu.Channel, peer: RawPeer) -> None:
    """A response to a request that was cancelled."""
    asking = asyncio.create_task(channel.request())
    request = await peer.message()
    asking.cancel()
    await asyncio.wait([asking])
    await peer.send(frame(OpCode.RESPONSE, message_id=request.message_id))


async def duplicate(channel: tofu.Channel, peer: RawPeer) -> None:
    """A second response to a request."""
    asking = asyncio.create_task(channel.request())
    request = await peer.message()
    await peer.send(frame(OpCode.RESPONSE, message_id=request.message_id) * 2)
    await asking


async def to_an_exchange_that_was_left(channel: tofu.Channel, peer: RawPeer) -> None:
    """All of its parts are one too late."""
    async with channel.stream() as exchange:
        await exchange.finish()
        request = await peer.message()
    await peer.send(frame(OpCode.RESPONSE, message_id=request.message_id))


async def never_asked(channel: tofu.Channel, peer: RawPeer) -> None:
    """There was no request for it."""
    await peer.send(frame(OpCode.RESPONSE, message_id=2**64 - 1))


async def a_part(channel: tofu.Channel, peer: RawPeer) -> None:
    """There was no request for it, and it does not end."""
    await peer.send(frame(OpCode.RESPONSE | MORE_BIT, bytes(60_000), message_id=2**64 - 1))


async def to_a_posted_request_twice(channel: tofu.Channel, peer: RawPeer) -> None:
    """The mailbox gets the first one."""
    channel.post(Message(OpCode.REQUEST))
    request = await peer.message()
    await peer.send(frame(OpCode.RESPONSE, b"first", message_id=request.message_id) * 2)
    with await channel.receive() as first:
        assert first.body == b"first"


UNAWAITED = [
    late,
    duplicate,
    to_an_exchange_that_was_left,
    never_asked,
    a_part,
    to_a_posted_request_twice,
]


@pytest.mark.parametrize("send", UNAWAITED)
async def test_a_response_that_nobody_waits_for_is_dropped_and_counted(
    group: tofu.ChannelGroup,
    listener: tofu.Listener,
    send: Callable[[tofu.Channel, RawPeer], Awaitable[None]],
) -> None:
    accepting = asyncio.create_task(listener.accept())
    with await RawPeer.introduced(listener.address) as peer:
        channel = await accepting
        for count in (1, 2):
            await send(channel, peer)
            await until(lambda count=count: channel.statistics().late_responses == count)
        assert channel.statistics().held == 0
        await peer.send(frame(OpCode.SIGNAL, b"next"))
        assert (await channel.receive()).body == b"next"
        assert not answers_of(channel).requests
        assert not answers_of(channel).posted
        channel.abort()


@pytest.mark.parametrize("op_code", [OpCode.RESPONSE, OpCode.RESPONSE | MORE_BIT])
async def test_5000_of_them_take_nothing_of_a_pool_of_one_that_nobody_receives_from(
    op_code: int,
) -> None:
    async with (
        tofu.Engine(1) as engine,
        engine.create_group() as group,
        await group.listen("tcp://127.0.0.1:0") as listener,
    ):
        accepting = asyncio.create_task(listener.accept())
        with await RawPeer.introduced(listener.address) as peer:
            channel = await accepting
            # All that it can hold: after another one it would be read no more.
            await peer.send(frame(OpCode.SIGNAL) * 2 + frame(op_code, bytes(100)) * 5000)
            await until(lambda: channel.statistics().late_responses == 5000)
            statistics = engine.statistics()
            assert (statistics.pool_free, statistics.reserves, statistics.inbox) == (0, 1, 2)
            assert not channel.statistics().suspended
            asking = asyncio.create_task(channel.request())
            request = await peer.message()
            await peer.send(frame(OpCode.RESPONSE, message_id=request.message_id))
            (await asking).release()
            channel.abort()


async def test_the_response_to_a_posted_request_comes_to_the_mailbox(pair: Pair) -> None:
    client, server = pair
    posted = client.post(Message(OpCode.REQUEST, b"posted")).message_id
    await client.send(Message(OpCode.REQUEST, b"sent"))
    for _ in range(2):
        request = await server.receive()
        await server.reply(request, request.body)
    responses = [await client.receive() for _ in range(2)]
    assert [r.body for r in responses] == [b"posted", b"sent"]
    assert (responses[0].op_code, responses[0].message_id) == (OpCode.RESPONSE, posted)
    assert not answers_of(client).posted
    assert client.statistics().late_responses == 0


async def test_so_do_its_parts(pair: Pair) -> None:
    client, server = pair
    client.post(Message(OpCode.REQUEST))
    request = await server.receive()
    for number in range(3):
        await server.reply(request, b"%d" % number, more=number < 2)
    parts = [await client.receive() for _ in range(3)]
    assert [(part.body, part.more) for part in parts] == [
        (b"0", True),
        (b"1", True),
        (b"2", False),
    ]
    assert not answers_of(client).posted


async def test_and_a_long_one_that_is_sent_in_parts(pair: Pair) -> None:
    client, server = pair
    body = bytes(range(256)) * 1000
    client.post(Message(OpCode.REQUEST))
    replying = asyncio.create_task(server.reply(await server.receive(), body))
    got = b""
    while len(got) < len(body):
        with await client.receive() as part:
            got += part.body
            assert part.more == (len(got) < len(body))
    await replying
    assert got == body


async def test_responses_to_posted_and_awaited_requests_find_their_way(pair: Pair) -> None:
    client, server = pair

    async def serve() -> None:
        async for request in server:
            await server.reply(request, request.body)

    serving = asyncio.create_task(serve())
    received = []

    async def receive() -> None:
        while True:
            received.append((await client.receive()).body)

    receiving = asyncio.create_task(receive())
    asking = []
    for n in range(100):
        await client.send(Message(OpCode.REQUEST, b"p%d" % n))
        asking.append(asyncio.create_task(client.request(b"r%d" % n)))
        await turns(n % 3)
    assert [(await task).body for task in asking] == [b"r%d" % n for n in range(100)]
    await until(lambda: len(received) == 100)
    assert received == [b"p%d" % n for n in range(100)]
    for task in (serving, receiving):
        task.cancel()
    await asyncio.wait([serving, receiving])


async def test_a_request_in_parts_gets_its_response(pair: Pair) -> None:
    client, server = pair
    first = Message(OpCode.REQUEST, b"one", more=True)
    message_id = client.post(first).message_id
    await client.send(Message(OpCode.REQUEST, b"two", more=True, message_id=message_id))
    asking = asyncio.create_task(client.request(b"three", message_id=message_id))
    parts = [await server.receive() for _ in range(3)]
    assert [(p.body, p.more) for p in parts] == [(b"one", True), (b"two", True), (b"three", False)]
    await server.reply(parts[-1], b"answer")
    assert (await asking).body == b"answer"
    assert not answers_of(client).posted
    assert client.statistics().late_responses == 0


async def test_a_channel_that_says_bye_forgets_what_was_never_answered(
    group: tofu.ChannelGroup, both_ends: Connect
) -> None:
    async with both_ends(group) as (client, server):
        for _ in range(5):
            client.post(Message(OpCode.REQUEST))
            (await server.receive()).release()
        assert len(answers_of(client).posted) == 5
        closing = asyncio.create_task(server.aclose())
        await until(lambda: not answers_of(client).posted)
        await client.aclose()
        await closing


async def test_a_late_response_is_counted_where_its_peer_is_plain(
    group: tofu.ChannelGroup, raw_server: RawServer
) -> None:
    """The other way round: this side has connected."""
    connecting = asyncio.create_task(_connect(group, raw_server))
    with await raw_server.accept() as peer:
        hello = await peer.message()
        await peer.send(frame(OpCode.HELLO_RESPONSE, message_id=hello.message_id))
        channel = await connecting
        await late(channel, peer)
        await until(lambda: channel.statistics().late_responses == 1)
        channel.abort()


async def _connect(group: tofu.ChannelGroup, server: RawServer) -> tofu.Channel:
    return await group.connect(server.address)
