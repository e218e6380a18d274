"""Channels as streams: conversations, ends, and what is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio import BrokenResourceError, BusyResourceError, ClosedResourceError, EndOfStream
from anyio.abc import ObjectStream

import tofu_aio as tofu
from tests.messaging.conftest import Connect
from tests.messaging.peers import (
    PATIENCE,
    RESET,
    Pair,
    RawPeer,
    answers_of,
    connection_of,
    frame,
    held_up,
    hello,
    met,
    remembered,
    settled,
    transport_of,
    turns,
    turns_counted,
    until,
)
from tofu_aio import Message, OpCode, State, Status, Triggers
from tofu_aio.messaging.connection import closing as closing_module
from tofu_aio.protocol.op_code import MORE_BIT
from tofu_aio.transport.limits import WRITE_HIGH_WATER

Closing = Callable[[tofu.Channel], Awaitable[None]]


async def drain(channel: tofu.Channel) -> list[bytes]:
    """The bodies of all that comes until the peer's Bye."""
    bodies = []
    async for message in channel:
        with message:
            bodies.append(message.body)
    return bodies


async def echo(channel: tofu.Channel) -> None:
    async for message in channel:
        with message:
            await channel.reply(message, message.body)


async def block(channel: tofu.Channel) -> asyncio.Task[None]:
    """Send until the peer takes no more, and go on: the task waits for room."""

    async def send_on() -> None:
        while True:
            await channel.signal(bytes(65535))

    sender = asyncio.create_task(send_on())
    await until(lambda: sender.done() or connection_of(channel).queue.senders_waiting)
    await settled(channel)
    assert not sender.done()
    assert connection_of(channel).queue.senders_waiting
    return sender


async def abort(channel: tofu.Channel) -> None:
    channel.abort()


# --- conversations -------------------------------------------------------------------------


async def test_a_request_gets_its_response(pair: Pair) -> None:
    request = asyncio.create_task(pair.client.request(b"ping", {"Job": "7"}))
    received = await pair.server.receive()
    assert (received.op_code, received.body) == (OpCode.REQUEST, b"ping")
    assert received.headers == {"Job": "7"}
    assert received.channel_number == pair.server.number
    await pair.server.reply(received, b"pong")
    response = await request
    assert (response.op_code, response.body) == (OpCode.RESPONSE, b"pong")
    assert response.message_id == received.message_id
    assert response.channel_number == pair.client.number


async def test_after_hello_both_sides_are_equal(pair: Pair) -> None:
    for asking, answering in (pair, reversed(pair)):
        request = asyncio.create_task(asking.request(b"?"))
        await answering.reply(await answering.receive(), b"!")
        assert (await request).body == b"!"
    assert [channel.state for channel in pair] == [State.OPEN, State.OPEN]


async def test_each_side_knows_how_the_other_introduced_itself(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    client, server = await asyncio.gather(
        group.connect(listener.address, headers={"User": "Ada"}, body=b"hi"), listener.accept()
    )
    async with client, server:
        hello = server.hello
        assert (hello.op_code, hello.body) == (OpCode.HELLO_REQUEST, b"hi")
        assert list(hello.headers.pairs) == [
            ("~connect_to", listener.address.to_header()),
            ("~heartbeat", "20000"),
            ("~supports", "cancel,whole,drain"),
            ("User", "Ada"),
        ]
        assert client.hello.op_code is OpCode.HELLO_RESPONSE
        assert client.hello.message_id == hello.message_id
        assert hello.channel_number == server.number


async def test_responses_find_their_requests_in_any_order(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    # As many as one channel may hold of a pool of 8: its half, and its reserve.
    requests = [asyncio.create_task(client.request(b"%d" % number)) for number in range(5)]
    received = [await server.receive() for _ in requests]
    for message in reversed(received):
        with message:
            await server.reply(message, message.body * 2)
    for number, response in enumerate(await asyncio.gather(*requests)):
        with response:
            assert response.body == b"%d" % number * 2


async def test_both_sides_may_ask_many_at_once(tcp_pair: Pair) -> None:
    """Each side's requests and responses share the stream, and a pool smaller than them all."""
    serving = [asyncio.create_task(echo(channel)) for channel in tcp_pair]

    async def ask(channel: tofu.Channel, body: bytes) -> None:
        with await channel.request(body) as response:
            assert response.body == body

    await asyncio.gather(
        *(ask(channel, b"%d" % number) for channel in tcp_pair for number in range(100))
    )
    await asyncio.gather(*(channel.aclose() for channel in tcp_pair))
    for task in serving:
        with contextlib.suppress(tofu.ChannelClosed):
            await task


async def test_a_response_carries_status_headers_and_body(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    request = asyncio.create_task(client.request())
    await server.reply(
        await server.receive(), b"why", {"Code": "9"}, status=Status.PROCESSING_FAILED
    )
    response = await request
    assert (response.status, response.body) == (Status.PROCESSING_FAILED, b"why")
    assert response.headers == {"Code": "9"}


async def test_signals_and_headers_travel_unharmed(pair: Pair) -> None:
    odd = [("Ключ", "значение"), ("a", "b:c"), ("a", "again"), ("bytes", "\udcff")]
    await pair.client.signal(bytes(range(256)), odd, message_id=77)
    received = await pair.server.receive()
    assert (received.op_code, received.body) == (OpCode.SIGNAL, bytes(range(256)))
    assert list(received.headers.pairs) == odd
    assert received.message_id == 77


async def test_the_largest_message_travels(pair: Pair) -> None:
    value = "v" * (65535 - len("name:\r\n"))
    await pair.client.signal(b"b" * 65535, {"name": value})
    with await pair.server.receive() as received:
        assert (received.body, received.headers["name"]) == (b"b" * 65535, value)


async def test_what_is_too_large_is_refused_before_anything_is_sent(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    for call in (
        lambda: client.signal(bytes(65536)),
        lambda: client.send(tofu.Message(OpCode.SIGNAL, bytes(65536))),
    ):
        with pytest.raises(
            tofu.InvalidBodyLen, match="65536 bytes, and a message may have at most 65535"
        ):
            await call()
    for headers in ({"name": "v" * 65536}, {str(number): "v" * 90 for number in range(1000)}):
        with pytest.raises(tofu.InvalidHeadersLen):
            await client.signal(b"", headers)
        with pytest.raises(tofu.InvalidHeadersLen):
            await client.request(b"", headers)
    with pytest.raises(tofu.InvalidMessage):
        await client.signal(b"", {"name": "a\r\nother:b"})
    assert not answers_of(client).requests
    await client.signal(b"good")
    assert (await server.receive()).body == b"good"
    assert client.statistics().sent == 2  # with the Hello


async def test_parts_share_their_id_and_tell_when_more_follow(pair: Pair) -> None:
    client, server = pair
    first = client.post(tofu.Message(OpCode.REQUEST, b"1", more=True))
    await client.send(tofu.Message(OpCode.REQUEST, b"2", message_id=first.message_id, more=True))
    whole = asyncio.create_task(client.request(b"3", message_id=first.message_id))
    parts = [await server.receive() for _ in range(3)]
    assert [(part.body, part.more) for part in parts] == [
        (b"1", True),
        (b"2", True),
        (b"3", False),
    ]
    assert {part.message_id for part in parts} == {first.message_id}
    for part in parts[:2]:
        with pytest.raises(tofu.InvalidMoreUsage, match=f"part of request {first.message_id}"):
            await server.reply(part, b"some")
    await server.reply(parts[2], b"all")
    assert (await whole).body == b"all"
    assert not remembered(client)


async def test_a_response_in_parts_goes_to_whoever_receives(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    header = client.post(tofu.Message(OpCode.REQUEST, b"?"))
    asked = await server.receive()
    for number in range(3):
        await server.reply(asked, b"%d" % number, more=number < 2)
    parts = [await client.receive() for _ in range(3)]
    assert [(part.body, part.more) for part in parts] == [
        (b"0", True),
        (b"1", True),
        (b"2", False),
    ]
    assert {part.message_id for part in parts} == {header.message_id}


async def test_request_joins_a_response_in_parts(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    request = asyncio.create_task(client.request())
    asked = await server.receive()
    for number in range(3):
        await server.reply(asked, b"%d" % number, {"n": str(number)}, more=number < 2)
    await server.signal(b"next")
    response = await request
    assert (response.body, response.more) == (b"012", False)
    assert list(response.headers.pairs) == [("n", "0"), ("n", "1"), ("n", "2")]
    assert (await client.receive()).body == b"next"
    assert client.statistics().late_responses == 0
    assert not remembered(client)


async def test_post_tells_the_header_as_sent(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    message = tofu.Message(OpCode.REQUEST, b"body", {"a": "1"}, more=True)
    message.status = Status.PROCESSING_FAILED
    header = client.post(message)
    assert message.message_id == 0, "the caller's message stays as it was"
    assert (header.channel_number, header.op_code, header.more) == (client.number, 0, True)
    assert (header.text_headers_len, header.body_len, header.status) == (5, 4, 30)
    received = await server.receive()
    assert header.message_id == received.message_id > 0
    assert received.status is Status.PROCESSING_FAILED
    assert received.origin is tofu.Origin.APPLICATION


async def test_a_posted_message_may_change_afterwards(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    message = tofu.Message(OpCode.SIGNAL, b"before")
    client.post(message)
    message.body = b"after"
    client.post(message)
    assert [(await server.receive()).body for _ in range(2)] == [b"before", b"after"]


async def test_message_ids_grow_across_channels(both_ends: Connect, engine: tofu.Engine) -> None:
    async with engine.create_group() as group, both_ends(group) as one, both_ends(group) as other:
        ids = [
            channel.post(tofu.Message(OpCode.SIGNAL)).message_id for channel in (*one, *other, *one)
        ]
    assert ids == sorted(set(ids))


async def test_a_received_message_may_be_sent_on_as_it_is(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    await client.signal(b"there", {"a": "1"}, message_id=5)
    await server.send(await server.receive())
    back = await client.receive()
    assert (back.body, back.headers, back.message_id) == (b"there", {"a": "1"}, 5)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (tofu.Message(OpCode.RESPONSE), tofu.InvalidMessageId),
        (tofu.Message(OpCode.HELLO_REQUEST), tofu.NotAllowed),
        (tofu.Message(OpCode.HELLO_RESPONSE, message_id=1), tofu.NotAllowed),
        (tofu.Message(OpCode.WELCOME_REQUEST), tofu.NotAllowed),
        (tofu.Message(OpCode.WELCOME_RESPONSE, message_id=1), tofu.NotAllowed),
        (tofu.Message(OpCode.BYE_RESPONSE, message_id=1), tofu.NotAllowed),
    ],
    ids=lambda value: value.op_code.name if isinstance(value, tofu.Message) else "",
)
async def test_what_may_not_be_sent_now_is_refused(
    tcp_pair: Pair, message: tofu.Message, error: type[tofu.TofuError]
) -> None:
    with pytest.raises(error):
        tcp_pair.client.post(message)
    with pytest.raises(error):
        await tcp_pair.client.send(message)
    assert tcp_pair.client.state is State.OPEN


@pytest.mark.parametrize("status", [None, -1, 256, "ok", 1.5])
@pytest.mark.parametrize("op_code", [OpCode.SIGNAL, OpCode.BYE_REQUEST])
async def test_what_is_not_a_status_is_refused(
    tcp_pair: Pair, op_code: OpCode, status: Any
) -> None:
    client, _ = tcp_pair
    message = tofu.Message(op_code, b"body")
    message.status = status
    with pytest.raises(TypeError, match=f"must be a Status, .*, not {status!r}"):
        await client.send(message)
    with pytest.raises(TypeError, match="must be a Status"):
        client.post(message)


@pytest.mark.parametrize("status", [None, 300])
async def test_what_is_not_a_status_is_refused_in_any_thread(
    tcp_pair: Pair, group: tofu.ChannelGroup, status: Any
) -> None:
    message = tofu.Message(OpCode.SIGNAL, b"body")
    message.channel_number = tcp_pair.client.number
    message.status = status
    with pytest.raises(TypeError, match=f"must be a Status, .*, not {status!r}"):
        group.post(message)
    with pytest.raises(TypeError, match=f"must be a Status, .*, not {status!r}"):
        await asyncio.to_thread(group.post, message)
    with pytest.raises(TypeError, match="must be a Status"):
        message.encode()


async def test_a_request_in_flight_keeps_its_id_to_itself(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    request = asyncio.create_task(client.request(message_id=7))
    received = await server.receive()
    with pytest.raises(tofu.InvalidMessageId, match="request 7 is in flight"):
        await client.request(message_id=7)
    await server.reply(received)
    await request


async def test_requests_that_wait_for_room_keep_their_ids_to_themselves(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    sender = await block(client)
    requests = [asyncio.create_task(client.request(message_id=7)) for _ in range(2)]
    await turns(3)
    sender.cancel()
    serving = asyncio.create_task(echo_requests(server))
    await requests[0]
    with pytest.raises(tofu.InvalidMessageId):
        await requests[1]
    await asyncio.gather(client.aclose(), serving, sender, return_exceptions=True)


async def echo_requests(channel: tofu.Channel) -> None:
    async for message in channel:
        with message:
            if message.op_code is OpCode.REQUEST:
                await channel.reply(message, message.body)


async def test_a_response_nobody_asked_for_is_dropped_and_counted(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    request = asyncio.create_task(client.request())
    received = await server.receive()
    server.post(tofu.Message(OpCode.RESPONSE, b"wrong", message_id=received.message_id + 1000))
    await until(lambda: client.statistics().late_responses == 1)
    await turns(2)
    assert not request.done()
    await server.reply(received, b"right")
    assert (await request).body == b"right"
    server.post(tofu.Message(OpCode.RESPONSE, b"twice", message_id=received.message_id))
    await server.signal(b"next")
    assert (await client.receive()).body == b"next"
    assert client.statistics().late_responses == 2


async def test_a_channel_names_itself(tcp_pair: Pair) -> None:
    client, _ = tcp_pair
    assert repr(client) == f"<Channel {client.number} open>"
    await client.aclose()
    assert repr(client) == f"<Channel {client.number} closed>"


# --- receiving -----------------------------------------------------------------------------


async def test_iterating_ends_at_the_peers_bye(pair: Pair) -> None:
    for number in range(20):
        pair.client.post(tofu.Message(OpCode.SIGNAL, b"%d" % number))
    closing = asyncio.create_task(pair.client.aclose())
    assert await drain(pair.server) == [b"%d" % number for number in range(20)]
    await closing
    assert [channel.state for channel in pair] == [State.CLOSED, State.CLOSED]


async def test_cancelled_receives_lose_nothing(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    total = 300

    async def send() -> None:
        for number in range(total):
            await client.signal(b"%d" % number)
            if number % 7 == 0:
                await asyncio.sleep(0)

    sending = asyncio.create_task(send())
    got: list[bytes] = []
    patience = 0
    while len(got) < total:
        receiving = asyncio.create_task(server.receive())
        await turns(patience % 4)
        patience += 1
        receiving.cancel()
        with contextlib.suppress(asyncio.CancelledError), await receiving as message:
            got.append(message.body)
    assert got == [b"%d" % number for number in range(total)]
    await sending


async def test_a_receive_that_timed_out_loses_nothing(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    with anyio.move_on_after(0):
        await server.receive()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await server.receive()
    await client.signal(b"here")
    assert (await server.receive()).body == b"here"


async def test_only_one_task_may_receive(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    first = asyncio.create_task(server.receive())
    await turns(1)
    with pytest.raises(BusyResourceError):
        await server.receive()
    with pytest.raises(BusyResourceError):
        await anext(server)
    await client.signal(b"x")
    assert (await first).body == b"x"


async def test_a_receiver_learns_that_its_own_side_closed(tcp_pair: Pair) -> None:
    receiving = asyncio.create_task(tcp_pair.client.receive())
    await turns(1)
    await tcp_pair.client.aclose()
    with pytest.raises(ClosedResourceError):
        await receiving


# --- cancelled requests --------------------------------------------------------------------


async def test_a_timed_out_request_leaves_no_trace(tcp_pair: Pair, engine: tofu.Engine) -> None:
    client, server = tcp_pair
    with pytest.raises(TimeoutError, match=r"no response to request \d+ within 0.01 s"):
        await client.request(timeout=0.01)
    assert not answers_of(client).requests
    asked = await server.receive()
    # Not a reply: nothing would be sent for a request that is known to be cancelled.
    server.post(Message(OpCode.RESPONSE, b"late", message_id=asked.message_id))
    await server.signal(b"next")
    assert (await client.receive()).body == b"next"
    assert client.statistics().late_responses == 1
    assert not remembered(client)
    asked.release()
    gc.collect()
    assert engine.statistics().pool_free == engine.statistics().pool_size


async def test_a_cancelled_request_leaves_no_trace(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    request = asyncio.create_task(client.request())
    asked = await server.receive()
    request.cancel()
    await turns(2)
    assert request.cancelled()
    assert not answers_of(client).requests
    server.post(Message(OpCode.RESPONSE, message_id=asked.message_id))
    await until(lambda: client.statistics().late_responses == 1)
    assert not remembered(client)
    assert not client._mailbox.items


async def test_a_request_cancelled_while_it_waits_for_room_is_never_sent(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    sender = await block(client)
    request = asyncio.create_task(client.request(b"never"))
    timed = asyncio.create_task(client.request(b"never", timeout=0.001))
    await until(timed.done)
    request.cancel()
    sender.cancel()
    await asyncio.gather(request, timed, sender, return_exceptions=True)
    assert isinstance(timed.exception(), TimeoutError)
    assert not remembered(client)
    closing = asyncio.create_task(client.aclose())
    bodies = await drain(server)
    assert b"never" not in bodies
    assert set(bodies) == {bytes(65535)}
    await closing


@pytest.mark.parametrize("after", range(10))
async def test_a_request_may_be_cancelled_at_any_moment(
    tcp_pair: Pair, engine: tofu.Engine, after: int
) -> None:
    client, server = tcp_pair
    serving = asyncio.create_task(echo(server))
    request = asyncio.create_task(client.request(b"cancelled"))
    await turns(after)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    with await client.request(b"next") as response:
        assert response.body == b"next"
    assert not remembered(client)
    assert not client._mailbox.items
    if request.cancelled():
        late = client.statistics().late_responses
        assert late == server.statistics().sent - 2
        # Never sent; answered in that very moment; taken back before the answer, or after it.
        assert (client.statistics().sent, late) in {(2, 0), (3, 1), (4, 0), (4, 1)}
    else:
        assert (client.statistics().sent, client.statistics().late_responses) == (3, 0)
        request.result().release()
    del request
    gc.collect()
    assert engine.statistics().pool_free == engine.statistics().pool_size
    await client.aclose()
    await serving


async def test_no_part_of_a_response_comes_to_who_did_not_ask(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    request = asyncio.create_task(client.request())
    with await server.receive() as asked:
        message_id = asked.message_id
    request.cancel()
    for more in (MORE_BIT, MORE_BIT, 0, MORE_BIT):  # the last one: never asked for
        part = frame(OpCode.RESPONSE | more, b"part", message_id=message_id)
        connection_of(client).data_received(part)
    await turns(3)
    assert request.cancelled()
    assert client.statistics().late_responses == 4
    assert not remembered(client)
    assert not client._mailbox.items
    await client.aclose()


@pytest.mark.parametrize("first", ["response", "cancel"])
async def test_a_response_that_comes_in_the_turn_of_the_cancellation(
    tcp_pair: Pair, engine: tofu.Engine, first: str
) -> None:
    client, server = tcp_pair
    request = asyncio.create_task(client.request())
    with await server.receive() as asked:
        message_id = asked.message_id
    response = frame(OpCode.RESPONSE, b"just now", message_id=message_id)
    if first == "cancel":
        request.cancel()
    connection_of(client).data_received(response)
    request.cancel()
    await turns(3)
    assert request.cancelled()
    assert client.statistics().late_responses == 1
    assert not remembered(client)
    assert not client._mailbox.items
    del response
    gc.collect()
    assert engine.statistics().pool_free == engine.statistics().pool_size


async def test_a_failure_that_comes_in_the_turn_of_the_cancellation(tcp_pair: Pair) -> None:
    """No task is left to get the error, and asyncio must not complain of that."""
    request = asyncio.create_task(tcp_pair.client.request())
    await tcp_pair.server.receive()
    connection_of(tcp_pair.client).closing.abort(tofu.PeerDisconnected("gone"))
    request.cancel()
    await turns(3)
    assert request.cancelled()
    del request
    gc.collect()


async def test_abandoned_requests_are_not_remembered(tcp_pair: Pair) -> None:
    """Their responses are recognized because nothing waits for them, however many there are."""
    client, server = tcp_pair
    for number in range(1500):
        request = asyncio.create_task(client.request(timeout=PATIENCE))
        with await server.receive() as asked:
            message_id = asked.message_id
        request.cancel()
        await asyncio.wait([request])
        more = number % 2 == 1
        server.post(Message(OpCode.RESPONSE, b"late", message_id=message_id, more=more))
    await server.signal(b"next")
    assert (await client.receive()).body == b"next"
    assert client.statistics().late_responses == 1500
    assert not remembered(client)


# --- cancelled sends -----------------------------------------------------------------------


async def test_send_waits_when_the_peer_takes_nothing_and_a_cancelled_one_was_not_sent(
    pair: Pair,
) -> None:
    client, server = pair
    sent = 0

    async def flood() -> None:
        nonlocal sent
        while True:
            await client.send(tofu.Message(OpCode.SIGNAL, b"%d" % sent + bytes(60000)))
            sent += 1

    flooding = asyncio.create_task(flood())
    await until(lambda: flooding.done() or connection_of(client).queue.senders_waiting)
    await until(lambda: flooding.done() or server.statistics().suspensions)
    await settled(client, server)
    assert not flooding.done()
    assert server.statistics().suspensions == 1
    assert client.statistics().queued_bytes < 4 * WRITE_HIGH_WATER
    before = sent
    flooding.cancel()
    await turns(2)
    closing = asyncio.create_task(client.aclose())
    bodies = await drain(server)
    await closing
    assert [body.rstrip(b"\0") for body in bodies] == [b"%d" % number for number in range(before)]


# --- ends ----------------------------------------------------------------------------------


async def test_the_peer_has_everything_sent_before_the_bye(pair: Pair) -> None:
    for number in range(8):
        await pair.client.signal(b"%d" % number)
    await asyncio.gather(pair.client.aclose(), receive_all(pair.server, 8))


async def receive_all(channel: tofu.Channel, count: int) -> None:
    for number in range(count):
        with await channel.receive() as message:
            assert message.body == b"%d" % number
    with pytest.raises(EndOfStream):
        await channel.receive()


@pytest.mark.parametrize("side", [0, 1])
async def test_either_side_may_close(pair: Pair, side: int) -> None:
    closing, other = pair[side], pair[1 - side]
    await closing.aclose()
    assert isinstance(closing.end, tofu.ChannelEnded)
    with pytest.raises(tofu.ChannelEnded):
        await other.receive()
    assert [channel.state for channel in pair] == [State.CLOSED, State.CLOSED]


async def test_both_may_close_at_once(pair: Pair) -> None:
    await asyncio.gather(*(channel.aclose() for channel in pair))
    assert [type(channel.end) for channel in pair] == [tofu.ChannelEnded] * 2
    # Each sent a Bye and answered the other's: the Byes had crossed.
    assert [channel.statistics().sent for channel in pair] == [3, 3]


async def test_closing_may_be_repeated_from_any_task(pair: Pair) -> None:
    await asyncio.gather(*(pair.client.aclose() for _ in range(3)))
    await pair.client.aclose()
    pair.client.abort()
    assert pair.client.statistics().sent == 2, "one Hello, one Bye"
    await pair.server.aclose()
    await pair.server.aclose()


async def test_closing_after_the_peer_was_lost_is_quiet(pair: Pair) -> None:
    pair.client.abort()
    await until(lambda: pair.server.end is not None)
    await pair.server.aclose()


@pytest.mark.parametrize("after", range(5))
async def test_a_cancelled_close_aborts(tcp_pair: Pair, after: int) -> None:
    client, server = tcp_pair
    await server.signal(b"in the inbox")
    await until(lambda: client.statistics().received == 2)
    await client.signal(b"so that the Bye is not answered at once")
    closing = asyncio.create_task(client.aclose())
    await turns(after)
    closing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await closing
    if after == 0:  # it had not begun
        client.abort()
    await until(connection_of(client).closing.done.done)
    assert client.state is State.CLOSED
    await until(lambda: server.end is not None)


async def test_one_of_two_closing_tasks_may_be_cancelled(tcp_pair: Pair) -> None:
    """Cancelling aborts, and so the other's wait ends as well."""
    client = tcp_pair.client
    await client.signal(b"unread")
    tasks = [asyncio.create_task(client.aclose()) for _ in range(2)]
    await turns(3)
    tasks[0].cancel()
    await asyncio.wait(tasks)
    assert tasks[0].cancelled()
    assert tasks[1].exception() is None


@pytest.mark.parametrize("altitude", ["receive", "iterate"])
async def test_a_lost_peer_is_not_an_end_of_stream(pair: Pair, altitude: str) -> None:
    await pair.client.signal(b"last words")
    await until(lambda: pair.server.statistics().received == 2)
    pair.client.abort()
    await until(lambda: pair.server.end is not None)
    assert (await pair.server.receive()).body == b"last words"
    with pytest.raises(tofu.PeerDisconnected) as caught:
        await (pair.server.receive() if altitude == "receive" else anext(pair.server))
    assert isinstance(caught.value, BrokenResourceError)


async def test_abort_drops_what_is_queued(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    await client.signal(b"first")
    assert (await server.receive()).body == b"first"
    client.post(tofu.Message(OpCode.SIGNAL, b"never"))
    client.abort()
    with pytest.raises(tofu.PeerDisconnected):
        await server.receive()
    assert connection_of(client).queue.nbytes == 0


async def test_only_abort_resets(group: tofu.ChannelGroup, listener: tofu.Listener) -> None:
    """A reset discards what the peer has not read yet: it must not follow a Bye."""
    for close in (tofu.Channel.aclose, abort):
        peer, channel = await asyncio.gather(
            RawPeer.introduced(listener.address), listener.accept()
        )
        with peer:
            closing = asyncio.create_task(close(channel))
            if close is tofu.Channel.aclose:
                bye = await peer.message()
                await peer.send(frame(OpCode.BYE_RESPONSE, message_id=bye.message_id))
                assert not await peer.resets()
            else:
                await peer.until_reset()
            await closing


ENDS: dict[str, tuple[int, Closing, type[Exception]]] = {
    "own aclose": (0, tofu.Channel.aclose, tofu.ChannelClosed),
    "own abort": (0, abort, tofu.ChannelClosed),
    "peer's aclose": (1, tofu.Channel.aclose, tofu.PeerDisconnected),
    "peer's abort": (1, abort, tofu.PeerDisconnected),
    "peer's send_eof": (1, tofu.Channel.send_eof, tofu.PeerDisconnected),
}


@pytest.mark.parametrize("how", ENDS)
async def test_pending_requests_learn_of_every_end(tcp_pair: Pair, how: str) -> None:
    side, close, error = ENDS[how]
    requests = [asyncio.create_task(tcp_pair.client.request()) for _ in range(3)]
    for _ in requests:
        (await tcp_pair.server.receive()).release()
    await close(tcp_pair[side])
    for request in requests:
        with pytest.raises(error):
            await request
    assert not answers_of(tcp_pair.client).requests


async def test_no_request_waits_for_an_answer_that_cannot_come(tcp_pair: Pair) -> None:
    """The peer has sent a Bye, and unread messages keep this side from answering it."""
    client, server = tcp_pair
    await server.signal(b"unread")
    request = asyncio.create_task(client.request())
    (await server.receive()).release()
    closing = asyncio.create_task(server.aclose())
    with pytest.raises(tofu.PeerDisconnected, match="no response can come"):
        await request
    assert client.state is State.BYE_HEARD
    with pytest.raises(tofu.PeerDisconnected, match="no response can come"):
        await client.request()
    assert await drain(client) == [b"unread"]
    await closing


async def test_pending_requests_learn_of_a_violation(
    group: tofu.ChannelGroup, raw_server: Any
) -> None:
    connecting = asyncio.create_task(group.connect(raw_server.address))
    with await raw_server.accept() as peer:
        hello = await peer.message()
        await peer.send(frame(OpCode.HELLO_RESPONSE, message_id=hello.message_id))
        channel = await connecting
        request = asyncio.create_task(channel.request())
        await peer.message()
        await peer.send(frame(13))
        with pytest.raises(tofu.ProtocolViolation) as caught:
            await request
        assert caught.value.status is Status.INVALID_OP_CODE
        with pytest.raises(tofu.ProtocolViolation):
            await channel.receive()
        with pytest.raises(tofu.ProtocolViolation):
            await channel.signal()


@pytest.mark.parametrize("how", ENDS)
async def test_after_every_end_all_that_remains_is_its_error(tcp_pair: Pair, how: str) -> None:
    side, close, _ = ENDS[how]
    client = tcp_pair.client
    await close(tcp_pair[side])
    own = how.startswith("own")
    if not own:
        await until(lambda: client.state is not State.OPEN)
    if "send_eof" in how:
        await client.aclose()
        own = True
    sends = [
        lambda: client.send(tofu.Message(OpCode.SIGNAL)),
        client.signal,
        client.request,
    ]
    if own or not isinstance(client.end, tofu.ChannelEnded):
        sends.append(client.send_eof)
    else:
        await client.send_eof()  # both have finished
    for send in sends:
        with pytest.raises(ClosedResourceError if own else BrokenResourceError):
            await send()
    with pytest.raises(ClosedResourceError if own else (EndOfStream, BrokenResourceError)):
        await client.receive()
    await client.aclose()
    with pytest.raises(ClosedResourceError):
        await client.signal()
    with pytest.raises(ClosedResourceError):
        await client.receive()


async def test_channels_are_anyio_streams(tcp_pair: Pair) -> None:
    assert isinstance(tcp_pair.client, ObjectStream)
    async with tcp_pair.client as entered:
        assert entered is tcp_pair.client
    assert tcp_pair.client.state is State.CLOSED


# --- Byes that are not received --------------------------------------------------------------


async def test_a_bye_is_answered_though_nobody_receives(pair: Pair) -> None:
    """All before it has been received: a program that only makes requests never looks."""
    await pair.client.aclose()
    assert isinstance(pair.client.end, tofu.ChannelEnded)
    assert pair.server.state is State.CLOSED


async def test_a_bye_behind_messages_is_answered_when_they_were_received(pair: Pair) -> None:
    client, server = pair
    await client.signal(b"0")
    await client.signal(b"1")
    closing = asyncio.create_task(client.aclose())
    await until(lambda: server.state is State.BYE_HEARD)
    await settled(client, server)
    assert not closing.done()
    await receive_all(server, 2)
    await closing
    assert isinstance(client.end, tofu.ChannelEnded)


async def test_after_the_peers_bye_this_side_may_still_send(tcp_pair: Pair) -> None:
    """A plain Bye: the peer drops what comes, but it is no error to have been slower."""
    client, server = tcp_pair
    await client.signal(b"unread")
    closing = asyncio.create_task(client.aclose())
    await until(lambda: server.state is State.BYE_HEARD)
    await server.signal(b"in vain")
    (await server.receive()).release()
    assert await drain(server) == []
    await closing


# --- half-closing ----------------------------------------------------------------------------


async def test_after_send_eof_the_peer_may_go_on_until_it_closes(pair: Pair) -> None:
    client, server = pair
    await client.signal(b"last")
    await client.send_eof()
    assert await drain(server) == [b"last"]
    for number in range(20):
        await server.signal(b"%d" % number)
        if number == 3:
            assert [(await client.receive()).body for _ in range(4)] == [b"0", b"1", b"2", b"3"]
    closing = asyncio.create_task(server.aclose())
    assert await drain(client) == [b"%d" % number for number in range(4, 20)]
    await closing
    assert [channel.state for channel in pair] == [State.CLOSED, State.CLOSED]


async def test_after_send_eof_nothing_can_be_sent(tcp_pair: Pair) -> None:
    await tcp_pair.client.send_eof()
    await tcp_pair.client.send_eof()  # once more changes nothing
    for again in (tcp_pair.client.signal, tcp_pair.client.request):
        with pytest.raises(tofu.ChannelClosed, match="this side has sent a Bye"):
            await again()


async def test_responses_still_come_after_send_eof(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    request = asyncio.create_task(client.request(b"?"))
    asked = await server.receive()
    await client.send_eof()
    with pytest.raises(EndOfStream):
        await server.receive()
    await server.reply(asked, b"!")
    assert (await request).body == b"!"


async def test_both_may_half_close_one_after_the_other(pair: Pair) -> None:
    client, server = pair
    await client.send_eof()
    assert await drain(server) == []
    await server.signal(b"answer")
    await server.send_eof()
    assert await drain(client) == [b"answer"]
    await until(lambda: [channel.state for channel in pair] == [State.CLOSED, State.CLOSED])


async def test_both_may_half_close_at_once(pair: Pair) -> None:
    """Their Byes cross: neither side can send more, so nothing is left to wait for."""
    for channel in pair:
        channel.post(tofu.Message(OpCode.SIGNAL, b"last"))
        await channel.send_eof()
    assert [await drain(channel) for channel in pair] == [[b"last"], [b"last"]]
    await until(lambda: [channel.state for channel in pair] == [State.CLOSED, State.CLOSED])


async def test_a_close_that_crosses_a_half_close_is_prompt(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the half-closed side is no longer received from."""
    monkeypatch.setattr(closing_module, "BYE_TIMEOUT", 1000)
    client, server = pair
    await client.send_eof()
    await server.aclose()
    assert [type(channel.end) for channel in pair] == [tofu.ChannelEnded] * 2


async def test_closing_after_send_eof_waits_for_the_peer(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    await client.send_eof()
    with pytest.raises(EndOfStream):
        await server.receive()
    closing = asyncio.create_task(client.aclose())
    await server.signal(b"dropped")
    await settled(client, server)
    assert not closing.done()
    await server.aclose()
    await closing
    assert isinstance(client.end, tofu.ChannelEnded)


async def test_a_peer_that_says_bye_and_hangs_up_has_said_bye(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    """As the Zig library might: it does not wait for the answer."""
    peer = await RawPeer.connect(listener.address)
    accepting = asyncio.create_task(listener.accept())
    await peer.send(hello())
    channel = await accepting
    await peer.message()
    await peer.send(frame(body=b"last") + frame(OpCode.BYE_REQUEST, message_id=2))
    peer.close()
    assert await drain(channel) == [b"last"]
    await channel.aclose()


# --- reading and the pool -------------------------------------------------------------------


async def test_a_channel_reads_exactly_while_it_is_open_and_has_permits(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    transport = transport_of(server)
    assert transport.is_reading()
    for _ in range(5):
        await client.signal()
    await until(lambda: server.statistics().received == 6)
    await turns(3)
    assert transport.is_reading(), "it holds its share and its reserve, but waits for nothing"
    await client.signal()
    await until(lambda: not transport.is_reading())
    assert server.triggers == Triggers.POOL
    (await server.receive()).release()
    await until(transport.is_reading)
    assert server.triggers == Triggers.RECV


async def test_a_channel_that_holds_nothing_reads_whatever_others_hold(
    engine: tofu.Engine, group: tofu.ChannelGroup, both_ends: Connect
) -> None:
    """Its reserve is left to it alone: for the first message, not for the second."""
    async with both_ends(group) as (client, server):
        held = [engine.get(tofu.Allocation.POOL_ONLY) for _ in range(8)]
        assert engine.statistics().pool_free == 0
        transport = transport_of(server)
        for number in range(3):
            await client.signal(b"%d" % number)
        for number in range(3):
            last = number == 2
            await until(lambda last=last: server._mailbox.items and transport.is_reading() is last)
            assert (server.statistics().held, server.triggers) == (
                1,
                Triggers.RECV if last else Triggers.POOL,
            )
            with await server.receive() as message:
                assert message.body == b"%d" % number
        assert server.statistics().held == 0
        for mine in held:
            engine.put(mine)


# --- a peer that takes nothing ---------------------------------------------------------------


@pytest.mark.parametrize("altitude", ["stream", "messages"])
async def test_a_lost_peer_whose_answers_are_queued_holds_up_nobody(altitude: str) -> None:
    """Its answers hold the permits that the rest of what it sent waits for."""

    async def post_back(channel: tofu.Channel) -> None:
        with contextlib.suppress(tofu.PeerDisconnected):
            async for message in channel:
                channel.post(message)
                del message

    async def post_all_back(group: tofu.ChannelGroup) -> None:
        while True:
            message = await group.receive()
            if message.op_code in {OpCode.HELLO_REQUEST, OpCode.BYE_REQUEST}:
                hello = message.op_code is OpCode.HELLO_REQUEST
                answer = Message(OpCode.HELLO_RESPONSE if hello else OpCode.BYE_RESPONSE)
                answer.channel_number = message.channel_number
                group.post(answer)
            elif message.origin is tofu.Origin.APPLICATION:
                with contextlib.suppress(tofu.TofuError):
                    group.post(message)
            del message

    async with tofu.Engine(pool_messages=8) as engine, engine.create_group() as group:
        if altitude == "stream":
            listener = await group.listen("tcp://127.0.0.1:0")
            address = str(listener.address)
            serving = asyncio.create_task(listener.serve(post_back))
        else:
            group.post(Message(OpCode.WELCOME_REQUEST, headers={"~listen_on": "tcp|127.0.0.1|0"}))
            welcome = await group.receive()
            address = str(tofu.parse_address(welcome.headers["~listen_on"]))
            serving = asyncio.create_task(post_all_back(group))
        peer = await RawPeer.introduced(tofu.parse_address(address))
        sending = asyncio.create_task(peer.send(frame(body=bytes(60_000)) * 200))
        await until(lambda: held_up(engine))
        sending.cancel()
        await asyncio.wait([sending])
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        peer.close()
        async with tofu.connect(address) as honest:
            await honest.send(Message(OpCode.SIGNAL, b"still there?"))
            async with asyncio.timeout(PATIENCE):
                assert (await honest.receive()).body == b"still there?"
        serving.cancel()
        await asyncio.wait([serving])


@pytest.mark.parametrize("how", ["signal", "mixed", "send", "reply"])
async def test_a_loop_of_sending_lets_others_run_though_the_peer_keeps_up(
    group: tofu.ChannelGroup, how: str
) -> None:
    """Else neither a timeout nor a cancellation would come."""

    def take_all(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            sock.setblocking(True)
            while sock.recv(1 << 20):
                pass

    async with met(group) as (peer, channel):
        await peer.send(frame(body=b"?", message_id=7))
        request = await channel.receive()
        taking = threading.Thread(target=take_all, args=(peer.sock.dup(),))
        taking.start()
        body = bytes(1000)
        async with turns_counted() as seen:
            for number in range(40 * WRITE_HIGH_WATER // 1000):
                if how == "signal":
                    await channel.signal(body)
                elif how == "mixed":
                    await channel.signal(bytes(16 * 1024) if number % 100 == 0 else body)
                elif how == "send":
                    await channel.send(Message(OpCode.SIGNAL, body))
                else:
                    await channel.reply(request, body, more=True)
            assert seen() >= (20 if how == "mixed" else 40)
        request.release()
        channel.abort()
        await asyncio.to_thread(taking.join)


async def test_many_that_send_at_once_are_heard_in_the_order_in_which_they_began(
    tcp_pair: Pair,
) -> None:
    """Also if one of them is cancelled in its turn: sends that begin meanwhile are behind it."""
    count = 4 * WRITE_HIGH_WATER // 500
    sending = [
        asyncio.create_task(tcp_pair.client.signal(b"%d" % number, {"x": "y" * 500}))
        for number in range(count)
    ]
    heard = []
    for _ in range(count):
        with await tcp_pair.server.receive() as message:
            heard.append(int(message.body))
    assert heard == list(range(count))
    await asyncio.gather(*sending)


async def test_only_a_message_can_be_sent(tcp_pair: Pair) -> None:
    with pytest.raises(TypeError, match="a Message can be sent, not str"):
        tcp_pair.client.post("text")  # type: ignore[arg-type]  # it is refused
    with pytest.raises(TypeError, match=r"reply\(\) takes the request Message .* not NoneType"):
        await tcp_pair.client.reply(None)  # type: ignore[arg-type]  # it is refused
    with pytest.raises(TypeError, match="a Message can be sent, not bytes"):
        await tcp_pair.client.send(b"bytes")  # type: ignore[arg-type]  # it is refused
