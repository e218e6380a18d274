"""Requests and responses that are longer than one message."""

from __future__ import annotations

import array
import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import pytest

import tofu_aio as tofu
from tests.messaging.peers import (
    Pair,
    RawPeer,
    RawServer,
    answers_of,
    connection_of,
    frame,
    turns,
    until,
)
from tests.messaging.worlds import (
    WORLDS,
    Handler,
    World,
    echo,
    modern_peer,
    modern_server,
    world_of,
)
from tofu_aio import Message, OpCode, Status
from tofu_aio.messaging.delivery import incoming_requests as incoming_module
from tofu_aio.protocol.op_code import MORE_BIT

MIB = 1024 * 1024
LONG = bytes(range(256)) * 4096
"""One MiB: 16 whole parts, and 16 bytes more."""

PART = bytes(range(255)) * 257
"""As long as one message may be."""

FIRST = OpCode.REQUEST | MORE_BIT
PARTIAL = OpCode.RESPONSE | MORE_BIT


@pytest.fixture(params=WORLDS, ids=lambda world: f"{world[0]}-{world[1] or 'default'}")
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Programs with an engine each, which are as empty in the end as they were."""
    async with world_of(*request.param) as world:
        yield world


@pytest.fixture
async def tcp() -> AsyncIterator[World]:
    """The same where nothing depends on how they talk."""
    async with world_of("tcp", 8) as world:
        yield world


async def both_ends(world: World, **limits: int) -> Pair:
    """A channel between two engines; the limits are the server's."""
    listener = await world.listen(await world.group(**limits))
    accepting = asyncio.create_task(listener.accept())
    client = await world.connect(listener.address)
    return Pair(client, await accepting)


async def answered(pair: Pair, body: bytes = b"?") -> None:
    """The channel has survived: it takes another request."""
    asking = asyncio.create_task(pair.client.request(body))
    with await pair.server.receive() as request:
        assert request.body == body
        await pair.server.reply(request, body)
    assert (await asking).body == body


def incoming_parts(channel: tofu.Channel) -> int:
    """Requests whose parts are still expected."""
    return (
        len(channel._dispatcher.incoming.parts) if channel._dispatcher.incoming is not None else 0
    )


# --- there and back --------------------------------------------------------------------------


async def test_a_body_of_one_mib_goes_there_and_back(world: World) -> None:
    client = await world.connect(await world.serve(echo))
    response = await client.request(LONG, {"A": "1"})
    assert (response.body, response.more) == (LONG, False)
    assert response.status is Status.SUCCESS


async def test_many_do_at_once_and_short_ones_in_between(world: World) -> None:
    client = await world.connect(await world.serve(echo))
    bodies = [bytes([n]) * (200_000 + n) if n % 2 else b"%d" % n for n in range(24)]
    responses = await asyncio.gather(*(client.request(body) for body in bodies))
    assert [response.body for response in responses] == bodies


async def test_many_clients_do_at_once(world: World) -> None:
    address, group = await world.serve(echo), await world.group()
    clients = [await world.connect(address, group) for _ in range(6)]
    bodies = [bytes([n]) * (200_000 + n) for n in range(len(clients))]
    asking = [c.request(body) for c, body in zip(clients, bodies, strict=True)]
    assert [response.body for response in await asyncio.gather(*asking)] == bodies


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 131_070, 131_071])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_bodies_of_any_length_and_kind_arrive_whole(
    tcp: World, size: int, kind: Callable[[bytes], bytes | bytearray | memoryview]
) -> None:
    body = LONG[:size]
    client, server = await both_ends(tcp)
    asking = asyncio.create_task(client.request(kind(body)))
    with await server.receive() as request:
        assert request.body == body
        assert (request.op_code, request.more) == (OpCode.REQUEST, False)
        replying = asyncio.create_task(server.reply(request, kind(body)))
    await replying
    assert (await asking).body == body


async def test_a_view_of_wider_items_is_sent_as_its_bytes(tcp: World) -> None:
    client = await tcp.connect(await tcp.serve(echo))
    view = memoryview(array.array("I", range(50_000)))
    assert (await client.request(view)).body == view.tobytes()


async def test_the_headers_of_the_whole_are_the_application_s_alone(tcp: World) -> None:
    client, server = await both_ends(tcp)
    asking = asyncio.create_task(client.request(LONG, {"A": "1", "B": "2"}))
    with await server.receive() as request:
        assert list(request.headers.pairs) == [("A", "1"), ("B", "2")]
        await server.reply(request, LONG, {"C": "3"}, status=Status.NOT_ALLOWED)
    response = await asking
    # A status is the last part's: it voids what came before.
    assert response.status is Status.NOT_ALLOWED


@pytest.mark.parametrize("messages", [4, 64])
async def test_a_whole_request_beside_another_is_in_the_pool(tcp: World, messages: int) -> None:
    """Whether the pool is a few long messages, or many short ones."""
    body = LONG[:100_000]
    client, server = await both_ends(tcp, pool_messages=messages, pool_bytes=64 * 131_086)
    engine = tcp.engines[0]
    asking = [asyncio.create_task(client.request(body)) for _ in range(2)]
    first = await server.receive()
    on_reserve = engine.statistics().joining_bytes
    second = await server.receive()
    statistics = engine.statistics()
    assert statistics.joining_bytes == on_reserve >= len(body), "the pool is the other one's room"
    assert (statistics.pool_free, statistics.reserves) == (messages - 1, 1)
    for request in (first, second):
        await server.reply(request)
        request.release()
    await asyncio.gather(*asking)
    assert engine.statistics().joining_bytes == 0


@pytest.mark.parametrize("cut", [0, 10, 20, 1000, 65_600])
async def test_requests_that_come_in_one_piece_are_counted_whole(cut: int) -> None:
    """However the pieces are cut, and though the last part of each is short."""
    async with world_of("tcp", None) as tcp:
        listener = await tcp.listen()
        accepting = asyncio.create_task(listener.accept())
        with await modern_peer(listener.address):
            channel = await accepting
            data = b""
            for n in range(1, 4):
                data += frame(FIRST, PART, b"~whole:65536\r\n", message_id=n)
                data += frame(OpCode.REQUEST, b".", message_id=n)
            connection = connection_of(channel)
            for piece in (data[:cut], data[cut:]):
                if piece:
                    connection.data_received(piece)
            requests = [await channel.receive() for _ in range(3)]
            assert [request.body for request in requests] == [PART + b"."] * 3
            statistics = tcp.engines[0].statistics()
            price = -(-65_600 // (64 * 131_086 // 1024))
            assert statistics.pool_size - statistics.pool_free == 2 * price
            assert statistics.reserves == 1
            assert 65_536 < statistics.joining_bytes < 70_000, "of the one on the reserve"
            for request in requests:
                request.release()
            channel.abort()


async def test_a_whole_request_holds_room_until_it_is_released(tcp: World) -> None:
    client, server = await both_ends(tcp)
    engine = tcp.engines[0]
    asking = asyncio.create_task(client.request(LONG))
    request = await server.receive()
    statistics = engine.statistics()
    assert statistics.joining_bytes > len(LONG), "it is on the reserve, which is no room for it"
    assert (statistics.pool_free, statistics.reserves) == (statistics.pool_size, 1)
    assert statistics.application == 1
    request.release()
    statistics = engine.statistics()
    assert (statistics.joining_bytes, statistics.application) == (0, 0)
    await server.reply(request, LONG)
    await asking
    assert tcp.engines[1].statistics().joining_bytes == 0, "a response holds none"


# --- longer than the limit -------------------------------------------------------------------


async def test_a_request_that_is_too_long_is_refused_with_the_reason(
    tcp: World, caplog: pytest.LogCaptureFixture
) -> None:
    listener = await tcp.listen(await tcp.group(max_body=100_000))
    accepting = asyncio.create_task(listener.accept())
    pair = Pair(await tcp.connect(listener.address), await accepting)
    accepting = asyncio.create_task(listener.accept())
    another = Pair(await tcp.connect(listener.address), await accepting)
    for client in (pair.client, pair.client, another.client):
        response = await client.request(LONG)
        assert response.status is Status.INVALID_BODY_LEN
        assert b"the limit is 100000 (max_body)" in response.body
    records = [r for r in caplog.records if r.name == "tofu_aio.pool"]
    warned = [r.message for r in records if r.levelno == logging.WARNING]
    assert len(warned) == 1, "once in a while, however many, and however many channels"
    assert "100000 (max_body)" in warned[0]
    await answered(pair)
    await answered(pair, LONG[:100_000])
    await until(lambda: incoming_parts(pair.server) == 0, "the last of their parts")
    assert tcp.engines[0].statistics().joining_bytes == 0


async def test_so_is_one_that_is_longer_than_it_has_said(tcp: World) -> None:
    listener = await tcp.listen(await tcp.group(max_body=100_000))
    accepting = asyncio.create_task(listener.accept())
    with await modern_peer(listener.address) as peer:
        server = await accepting
        await peer.send(frame(FIRST, PART, b"~whole:10\r\n") + frame(FIRST, PART) * 3)
        refusal = await peer.message()
        assert (refusal.op_code, refusal.message_id) == (OpCode.RESPONSE, 1)
        assert refusal.status is Status.INVALID_BODY_LEN
        await peer.send(frame(OpCode.REQUEST, PART) + frame(OpCode.SIGNAL, b"next"))
        assert (await server.receive()).body == b"next"
        assert incoming_parts(server) == 0
        server.abort()


async def test_a_response_that_is_too_long_fails_at_the_caller(tcp: World) -> None:
    address = await tcp.serve(echo)
    client = await tcp.connect(address, await tcp.group(max_body=100_000))
    for _ in range(3):
        with pytest.raises(tofu.InvalidBodyLen, match=r"the limit is 100000 \(max_body\)"):
            await client.request(LONG)
    assert (await client.request(b"?")).body == b"?"
    assert len((await client.request(LONG[:100_000])).body) == 100_000
    assert tcp.engines[1].statistics().joining_bytes == 0


# --- more of them than the bound -------------------------------------------------------------


async def test_the_newest_request_beyond_the_bound_fails_and_the_others_finish() -> None:
    async with world_of("tcp", 1) as tcp:
        group = await tcp.group(joining_bytes=250_000)
        listener = await tcp.listen(group)
        accepting = asyncio.create_task(listener.accept())
        with await modern_peer(listener.address) as old:
            one = await accepting
            accepting = asyncio.create_task(listener.accept())
            with await modern_peer(listener.address) as new:
                other = await accepting
                await old.send(frame(FIRST, PART, b"~whole:196605\r\n") + frame(FIRST, PART) * 2)
                await until(lambda: tcp.engines[0].statistics().joining_bytes > 3 * 65_535)
                await new.send(frame(FIRST, PART, b"~whole:196605\r\n") + frame(FIRST, PART) * 2)
                refusal = await new.message()
                assert refusal.status is Status.ALLOCATION_FAILED
                assert b"joins 250000 bytes at a time (joining_bytes)" in refusal.body
                await new.send(frame(OpCode.REQUEST, PART) + frame(OpCode.SIGNAL, b"next"))
                assert (await other.receive()).body == b"next"
                await old.send(frame(OpCode.REQUEST))
                with await one.receive() as request:
                    assert request.body == PART * 3
                del request
                await new.send(
                    frame(FIRST, PART, b"~whole:65535\r\n", message_id=2)
                    + frame(OpCode.REQUEST, b"again", message_id=2)
                )
                with await other.receive() as request:
                    assert request.body == PART + b"again"
                one.abort()
                other.abort()


async def test_the_newest_response_beyond_the_bound_fails_and_the_others_arrive(
    raw_server: RawServer,
) -> None:
    async with world_of("tcp", 1) as tcp:
        group = await tcp.group(joining_bytes=150_000)
        channel, peer = await modern_server(group, raw_server)
        with peer:
            asking = [asyncio.create_task(channel.request()) for _ in range(2)]
            old, new = [(await peer.message()).message_id for _ in range(2)]
            await peer.send(frame(PARTIAL, PART, message_id=old) * 2)
            await peer.send(frame(PARTIAL, PART, message_id=new))
            with pytest.raises(tofu.AllocationFailed, match=r"150000 bytes at a time \(joining"):
                await asking[1]
            notice = await peer.message()
            assert (notice.message_id, notice.status) == (new, Status.PROCESSING_FAILED)
            await peer.send(frame(PARTIAL, PART, message_id=new))
            await peer.send(frame(OpCode.RESPONSE, b"end", message_id=old))
            assert (await asking[0]).body == PART * 2 + b"end"
            await until(lambda: channel.statistics().late_responses == 1)
            channel.abort()


@pytest.mark.parametrize("pool", [1, 4, None])
async def test_a_slow_handler_makes_none_of_its_client_s_requests_fail(pool: int | None) -> None:
    """They wait until it has released the one before."""

    async def slow(channel: tofu.Channel) -> None:
        async for request in channel:
            await turns(30)
            await channel.reply(request, b"%d" % len(request.body))

    async with world_of("tcp", pool) as world:
        group = await world.group(max_body=MIB, joining_bytes=(3 if pool else 16) * MIB)
        client = await world.connect(await world.serve(slow, group))
        responses = await asyncio.gather(*(client.request(LONG) for _ in range(16)))
        assert {(r.status, r.body) for r in responses} == {(Status.SUCCESS, b"%d" % len(LONG))}


# --- in the middle of it ---------------------------------------------------------------------


async def test_a_request_that_is_cancelled_in_the_middle_leaves_nothing(tcp: World) -> None:
    pair = await both_ends(tcp)
    for _ in range(3):
        asking = asyncio.create_task(pair.client.request(LONG))
        await turns(6)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await answered(pair)
        assert incoming_parts(pair.server) == 0
        assert tcp.engines[0].statistics().joining_bytes == 0
    assert not pair.server._mailbox.items
    assert pair.client.statistics().awaited == 0


async def test_one_that_waits_for_its_turn_is_not_sent_at_all(tcp: World) -> None:
    pair = await both_ends(tcp)
    first, second = (asyncio.create_task(pair.client.request(LONG)) for _ in range(2))
    await turns(3)
    second.cancel()
    with await pair.server.receive() as request:
        await pair.server.reply(request, b"first")
    assert (await first).body == b"first"
    await asyncio.wait([second])
    sent = pair.client.statistics().sent
    await answered(pair)
    assert pair.client.statistics().sent == sent + 1
    assert not pair.server._mailbox.items


async def test_a_reply_that_is_cancelled_in_the_middle_fails_the_request(tcp: World) -> None:
    pair = await both_ends(tcp)
    asking = asyncio.create_task(pair.client.request())
    request = await pair.server.receive()
    replying = asyncio.create_task(pair.server.reply(request, LONG))
    await turns(6)
    replying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await replying
    assert (await asking).status is Status.PROCESSING_FAILED
    request.release()
    await answered(pair)
    assert tcp.engines[1].statistics().joining_bytes == 0


async def test_a_caller_that_is_cancelled_while_the_response_comes(tcp: World) -> None:
    """What has come is thrown away, and the server need not send the rest."""
    pair = await both_ends(tcp)
    asking = asyncio.create_task(pair.client.request())
    request = await pair.server.receive()
    replying = asyncio.create_task(pair.server.reply(request, LONG * 8))
    await until(lambda: tcp.engines[1].statistics().joining_bytes, "the first part")
    asking.cancel()
    await asyncio.wait([asking])
    assert tcp.engines[1].statistics().joining_bytes == 0
    await replying
    request.release()
    await answered(pair)
    assert answers_of(pair.client)._joins == {}


async def test_a_server_that_leaves_in_the_middle(tcp: World) -> None:
    pair = await both_ends(tcp)
    asking = asyncio.create_task(pair.client.request())
    request = await pair.server.receive()
    replying = asyncio.create_task(pair.server.reply(request, LONG * 8))
    await until(lambda: tcp.engines[1].statistics().joining_bytes, "the first part")
    pair.server.abort()
    with pytest.raises(tofu.PeerDisconnected):
        await asking
    with pytest.raises(tofu.TofuError):
        await replying
    assert tcp.engines[1].statistics().joining_bytes == 0


async def test_a_client_that_leaves_in_the_middle(tcp: World) -> None:
    pair = await both_ends(tcp)
    asking = asyncio.create_task(pair.client.request(LONG * 8))
    await until(lambda: incoming_parts(pair.server), "the first part")
    pair.client.abort()
    with pytest.raises(tofu.TofuError):
        await asking
    with pytest.raises(tofu.PeerDisconnected):
        await pair.server.receive()
    assert tcp.engines[0].statistics().joining_bytes == 0
    assert incoming_parts(pair.server) == 0


# --- by hand ---------------------------------------------------------------------------------


async def test_a_plain_peer_sees_parts_and_nothing_else(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    accepting = asyncio.create_task(listener.accept())
    with await RawPeer.introduced(listener.address) as peer:
        channel = await accepting
        asking = asyncio.create_task(channel.request(LONG[:150_000], {"A": "1"}))
        parts = [await peer.message() for _ in range(3)]
        assert [len(part.body) for part in parts] == [65_535, 65_535, 18_930]
        assert [part.more for part in parts] == [True, True, False]
        assert [dict(part.headers) for part in parts] == [{"A": "1"}, {}, {}]
        asked = parts[0].message_id
        assert {part.message_id for part in parts} == {asked}
        # The response of such a peer is joined whatever its Hello says.
        await peer.send(
            frame(PARTIAL, PART, b"B:2\r\n", message_id=asked)
            + frame(PARTIAL, b"", message_id=asked)
            + frame(OpCode.RESPONSE, b"end", b"C:3\r\n", message_id=asked)
        )
        response = await asking
        assert response.body == PART + b"end"
        assert list(response.headers.pairs) == [("B", "2"), ("C", "3")]
        # And its parts of requests are for the application, even with the header for joining.
        await peer.send(frame(FIRST, b"1", b"~whole:2\r\n") + frame(OpCode.REQUEST, b"2"))
        assert [(await channel.receive()).body for _ in range(2)] == [b"1", b"2"]
        channel.abort()


async def test_on_the_wire_the_first_part_tells_the_length(tcp: World) -> None:
    listener = await tcp.listen()
    accepting = asyncio.create_task(listener.accept())
    with await modern_peer(listener.address) as peer:
        channel = await accepting
        asking = asyncio.create_task(channel.request(LONG[:150_000], {"A": "1"}))
        parts = [await peer.message() for _ in range(3)]
        assert dict(parts[0].headers) == {"~whole": "150000", "A": "1"}
        assert [dict(part.headers) for part in parts[1:]] == [{}, {}]
        asking.cancel()
        await asyncio.wait([asking])
        channel.abort()


async def test_empty_parts_and_headers_of_parts_are_joined(tcp: World) -> None:
    listener = await tcp.listen()
    accepting = asyncio.create_task(listener.accept())
    with await modern_peer(listener.address) as peer:
        channel = await accepting
        await peer.send(
            frame(FIRST, b"", b"~whole:2\r\nA:1\r\n")
            + frame(FIRST) * 100
            + frame(OpCode.SIGNAL, b"between", message_id=2)
            + frame(FIRST, b"x", b"B:2\r\n")
            + frame(FIRST)
            + frame(FIRST, b"y")
            + frame(OpCode.REQUEST, b"", b"C:3\r\n")
        )
        assert (await channel.receive()).body == b"between"
        with await channel.receive() as request:
            assert (request.body, request.more) == (b"xy", False)
            assert list(request.headers.pairs) == [("A", "1"), ("B", "2"), ("C", "3")]
            await channel.reply(request, b"z")
        assert (await peer.message()).body == b"z"
        channel.abort()


async def test_headers_that_are_too_long_together_refuse_the_request(tcp: World) -> None:
    listener = await tcp.listen()
    accepting = asyncio.create_task(listener.accept())
    headers = b"A:" + b"x" * 60_000 + b"\r\n"
    with await modern_peer(listener.address) as peer:
        channel = await accepting
        await peer.send(frame(FIRST, b"", b"~whole:2\r\n" + headers) + frame(FIRST, b"", headers))
        assert (await peer.message()).status is Status.INVALID_HEADERS_LEN
        await peer.send(frame(OpCode.REQUEST) + frame(OpCode.SIGNAL, b"next"))
        assert (await channel.receive()).body == b"next"
        channel.abort()


@pytest.mark.parametrize("length", [b"", b"-1", b"1.5", b"9" * 20, b"\xd9\xa1"])
async def test_a_length_that_is_none_makes_it_a_stream(tcp: World, length: bytes) -> None:
    listener = await tcp.listen()
    accepting = asyncio.create_task(listener.accept())
    with await modern_peer(listener.address) as peer:
        channel = await accepting
        await peer.send(frame(FIRST, b"1", b"~whole:%b\r\n" % length))
        with await channel.receive() as part:
            assert (part.body, part.more) == (b"1", True)
        channel.abort()


async def test_a_peer_that_opens_endless_requests_in_parts_is_lost(tcp: World) -> None:
    listener = await tcp.listen()
    accepting = asyncio.create_task(listener.accept())
    with await modern_peer(listener.address) as peer:
        channel = await accepting
        limit = incoming_module.OPEN_REQUESTS
        whole = b"~whole:70000\r\n"
        await peer.send(b"".join(frame(FIRST, b"", whole, message_id=n + 2) for n in range(limit)))
        await until(lambda: incoming_parts(channel) == limit)
        await peer.send(frame(FIRST, b"", whole, message_id=limit + 2))
        with pytest.raises(tofu.TofuError, match=f"more than {limit} requests in parts at a time"):
            await channel.receive()
        channel.abort()


async def test_those_that_are_thrown_away_are_not_counted(
    tcp: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming_module, "OPEN_REQUESTS", 3)
    pair = await both_ends(tcp)
    for _ in range(5):
        exchange = pair.client.stream()
        await exchange.send(b"subscribe")
        async with pair.server.stream(await pair.server.receive()) as subscribed:
            await subscribed.finish(b"subscribed")
    await answered(pair, LONG)
    pair.client.abort()


async def test_one_that_opens_many_and_finishes_them_is_served(tcp: World) -> None:
    group = await tcp.group(pool_messages=4000, pool_bytes=4000 * 200_000)
    listener = await tcp.listen(group)
    accepting = asyncio.create_task(listener.accept())
    with await modern_peer(listener.address) as peer:
        channel = await accepting
        count = incoming_module.OPEN_REQUESTS
        opening = b"".join(
            frame(FIRST, b"%d" % n, b"~whole:4\r\n", message_id=n + 2) for n in range(count)
        )
        await peer.send(opening)
        await until(lambda: incoming_parts(channel) == count)
        await peer.send(
            b"".join(frame(OpCode.REQUEST, b".", message_id=n + 2) for n in range(count))
        )
        for n in range(count):
            with await channel.receive() as request:
                assert request.body == b"%d." % n
        channel.abort()


async def test_a_response_in_parts_that_ends_with_the_channel(raw_server: RawServer) -> None:
    async with world_of("tcp", 8) as tcp:
        channel, peer = await modern_server(await tcp.group(), raw_server)
        with peer:
            asking = asyncio.create_task(channel.request())
            asked = (await peer.message()).message_id
            await peer.send(frame(PARTIAL, PART, message_id=asked))
            await until(lambda: tcp.engines[0].statistics().joining_bytes)
        with pytest.raises(tofu.PeerDisconnected):
            await asking
        assert tcp.engines[0].statistics().joining_bytes == 0
        channel.abort()


# --- sent on ---------------------------------------------------------------------------------


async def pass_on(source: tofu.Channel, target: tofu.Channel) -> None:
    """Send each message on as it came."""
    async for message in source:
        await target.send(message)


async def relayed(world: World, handler: Handler, **limits: int) -> tofu.Channel:
    """A client whose messages pass through a program that knows nothing of them."""
    behind = await world.serve(handler, await world.group(**limits))

    async def relay(channel: tofu.Channel) -> None:
        backend = await world.connect(behind)
        world.spawn(pass_on(backend, channel))
        await pass_on(channel, backend)

    return await world.connect(await world.serve(relay))


async def test_a_relay_sends_long_messages_on_as_they_came(tcp: World) -> None:
    client = await relayed(tcp, echo)
    for body in (b"short", LONG, b"", LONG[:65_536]):
        assert (await client.request(body)).body == body


async def test_a_refusal_comes_back_through_it(tcp: World) -> None:
    client = await relayed(tcp, echo, max_body=100_000)
    for _ in range(2):
        assert (await client.request(LONG)).status is Status.INVALID_BODY_LEN
    assert (await client.request(b"short")).body == b"short"


async def test_a_long_message_whose_sending_is_cancelled_was_not_sent(tcp: World) -> None:
    front, behind = await both_ends(tcp), await both_ends(tcp)
    asking = asyncio.create_task(front.client.request(LONG * 4))
    sending = asyncio.create_task(behind.client.send(await front.server.receive()))
    await until(lambda: incoming_parts(behind.server), "its first part")
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await behind.client.signal(b"next")
    with await behind.server.receive() as signal:
        assert signal.body == b"next"
    assert not behind.client._dispatcher.pending_requests().posted
    asking.cancel()


async def test_a_signal_that_is_too_long_is_refused_all_the_same(tcp: World) -> None:
    pair = await both_ends(tcp)
    signal = Message(OpCode.SIGNAL)
    signal.body = LONG
    with pytest.raises(tofu.InvalidBodyLen):
        await pair.client.send(signal)


async def test_a_posted_long_message_is_still_refused(tcp: World) -> None:
    """``post`` and ``send`` send messages; ``request`` and ``reply`` send bodies."""
    client, _ = await both_ends(tcp)
    with pytest.raises(tofu.InvalidBodyLen):
        client.post(Message(OpCode.REQUEST, LONG))
    with pytest.raises(tofu.InvalidBodyLen):
        await client.signal(LONG)
    assert connection_of(client).queue.nbytes == 0
