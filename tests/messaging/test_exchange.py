"""Exchanges in parts: upload, download, both at once, and every way to end one."""

from __future__ import annotations

import array
import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest
from anyio import BrokenResourceError, BusyResourceError, ClosedResourceError, EndOfStream

import tofu_aio as tofu
from tests.messaging.conftest import Connect
from tests.messaging.peers import (
    Pair,
    RawPeer,
    connection_of,
    frame,
    held_up,
    remembered,
    settled,
    transport_of,
    turns,
    turns_counted,
    until,
)
from tofu_aio import Message, OpCode, State, Status
from tofu_aio.messaging.exchange import Exchange
from tofu_aio.protocol.op_code import MORE_BIT

LONG = bytes(range(256)) * 1024
"""Four whole parts and four bytes more."""


async def whole(exchange: Exchange) -> bytes:
    """All that comes, part by part."""
    return b"".join([part.body async for part in exchange])


async def answering(channel: tofu.Channel) -> Exchange:
    """The exchange of the next request."""
    return channel.stream(await channel.receive())


def under_way(*channels: tofu.Channel) -> int:
    """How many exchanges, or traces of them, the channels still have."""
    return sum(remembered(channel) for channel in channels)


@contextlib.asynccontextmanager
async def both(pair: Pair) -> AsyncIterator[tuple[Exchange, Exchange]]:
    """One exchange from both sides, begun by a part "0"."""
    async with pair.client.stream() as asking:
        await asking.send(b"0")
        async with await answering(pair.server) as answer:
            yield asking, answer


async def stuffed(exchange: Exchange, channel: tofu.Channel) -> asyncio.Task[None]:
    """Send until the peer takes no more: the task waits for room."""

    async def send_on() -> None:
        while True:
            await exchange.send(bytes(65535))

    sender = asyncio.create_task(send_on())
    await until(lambda: sender.done() or connection_of(channel).queue.senders_waiting)
    await settled(channel)
    assert not sender.done()
    return sender


# --- conversations -------------------------------------------------------------------------


async def test_upload_in_parts_with_a_single_response(pair: Pair) -> None:
    async def serve() -> None:
        async with await answering(pair.server) as answer:
            content = await whole(answer)
            await answer.finish(b"%d" % len(content), {"Sum": str(sum(content))})

    serving = asyncio.create_task(serve())
    async with pair.client.stream(headers={"Name": "x"}) as exchange:
        for begin in range(0, len(LONG), 50_000):
            await exchange.send(LONG[begin : begin + 50_000])
        await exchange.finish(b"end")
        with await exchange.receive() as response:
            assert (response.op_code, response.body) == (OpCode.RESPONSE, b"%d" % (len(LONG) + 3))
            assert response.headers == {"Sum": str(sum(LONG + b"end"))}
        with pytest.raises(EndOfStream):
            await exchange.receive()
    await serving
    assert under_way(*pair) == 0


async def test_an_upload_may_be_answered_by_a_plain_reply(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    async with client.stream() as exchange:
        await exchange.finish(LONG)
        parts = [await server.receive() for _ in range(5)]
        with pytest.raises(tofu.InvalidMoreUsage):
            await server.reply(parts[0], b"too soon")
        await server.reply(parts[-1], b"thanks")
        assert [part.body async for part in exchange] == [b"thanks"]
    assert b"".join(part.body for part in parts) == LONG
    assert [part.more for part in parts] == [True] * 4 + [False]


async def test_download_in_parts(pair: Pair) -> None:
    async def serve() -> None:
        request = await pair.server.receive()
        async with pair.server.stream(request, headers={"Of": request.body.decode()}) as answer:
            for number in range(100):
                await answer.send(b"%d" % number)
            await answer.finish(headers={"Count": "100"})

    serving = asyncio.create_task(serve())
    async with pair.client.stream() as exchange:
        await exchange.finish(b"numbers")
        parts = []
        async for part in exchange:
            with part:
                parts.append((part.body, dict(part.headers), part.more))
    assert parts[0] == (b"0", {"Of": "numbers"}, True)
    assert parts[1:-1] == [(b"%d" % number, {}, True) for number in range(1, 100)]
    assert parts[-1] == (b"", {"Count": "100"}, False)
    await serving
    assert under_way(*pair) == 0


async def test_a_plain_request_may_be_answered_through_an_exchange(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    request = asyncio.create_task(client.request(b"?"))
    async with await answering(server) as answer:
        assert [part.body async for part in answer] == [b"?"]
        await answer.finish(b"!")
    assert (await request).body == b"!"


async def test_both_ways_at_once_in_far_more_parts_than_the_pool_has_permits(pair: Pair) -> None:
    async def serve() -> None:
        async with await answering(pair.server) as answer:
            async for part in answer:
                with part:
                    await answer.send(part.body.upper())
            await answer.finish(b"end")

    async def feed(exchange: Exchange) -> None:
        for number in range(500):
            await exchange.send(b"part %d," % number)
        await exchange.finish()

    serving = asyncio.create_task(serve())
    async with pair.client.stream() as exchange:
        feeding = asyncio.create_task(feed(exchange))
        got = await whole(exchange)
        await feeding
    assert got == b"".join(b"PART %d," % number for number in range(500)) + b"end"
    await serving
    assert under_way(*pair) == 0


async def test_exchanges_requests_and_signals_share_a_channel_in_any_order(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    signals = []

    async def serve(answer: Exchange) -> None:
        async with answer:
            async for part in answer:
                with part:
                    await answer.send(part.body)
            await answer.finish()

    async def dispatch() -> None:
        async with anyio.create_task_group() as tasks:
            async for message in server:
                if message.op_code is OpCode.SIGNAL:
                    signals.append(message.body)
                elif message.headers.get("Plain"):
                    await server.reply(message, message.body)
                else:
                    tasks.start_soon(serve, server.stream(message))

    async def exchange_parts(name: int) -> None:
        async with client.stream() as exchange:
            for number in range(20):
                await exchange.send(b"%d/%d," % (name, number))
                with await exchange.receive() as part:
                    assert part.body == b"%d/%d," % (name, number)
            await exchange.finish()
            assert await whole(exchange) == b""

    async def ask(name: int) -> None:
        for number in range(20):
            await client.signal(b"s")
            with await client.request(b"%d" % number, {"Plain": str(name)}) as response:
                assert response.body == b"%d" % number

    serving = asyncio.create_task(dispatch())
    async with asyncio.timeout(20), anyio.create_task_group() as tasks:
        for name in range(5):
            tasks.start_soon(exchange_parts, name)
            tasks.start_soon(ask, name)
    await client.aclose()
    await serving
    assert signals == [b"s"] * 100
    assert under_way(*tcp_pair) == 0


async def test_parts_that_came_before_the_exchange_was_opened_are_its_own(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    ids = [client.post(Message(OpCode.REQUEST, b"a0", more=True)).message_id]
    ids.append(client.post(Message(OpCode.REQUEST, b"b0", more=True)).message_id)
    client.post(Message(OpCode.SIGNAL, b"signal", message_id=ids[0]))  # no part
    for message_id, body in zip(ids, (b"a1", b"b1"), strict=True):
        client.post(Message(OpCode.REQUEST, body, message_id=message_id, more=True))
    first = await server.receive()
    await settled(client, server)
    async with server.stream(first) as a:
        assert [(await server.receive()).body, (await server.receive()).body] == [b"b0", b"signal"]
        # The rest of the other one, which was not opened, goes to the mailbox.
        assert (await server.receive()).body == b"b1"
        client.post(Message(OpCode.REQUEST, b"a2", message_id=ids[0]))
        assert [part.body async for part in a] == [b"a0", b"a1", b"a2"]
        await a.finish()


async def test_each_side_counts_for_itself(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    """A peer's request may have the id of one of this side's: its parts go elsewhere."""
    accepting = asyncio.create_task(listener.accept())
    with await RawPeer.introduced(listener.address) as peer:
        channel = await accepting
        async with channel.stream() as ours:
            await ours.finish()
            same = ours.message_id
            more = OpCode.REQUEST | MORE_BIT
            await peer.send(frame(more, b"1", message_id=same))
            theirs = channel.stream(await channel.receive())
            response = OpCode.RESPONSE | MORE_BIT
            await peer.send(frame(response, b"a", message_id=same))
            await peer.send(frame(more, b"2", message_id=same))
            await peer.send(frame(OpCode.SIGNAL, b"signal", message_id=same))
            await peer.send(frame(OpCode.RESPONSE, b"b", message_id=same))
            await peer.send(frame(OpCode.REQUEST, b"3", message_id=same))
            async with theirs:
                assert await whole(theirs) == b"123"
            assert await whole(ours) == b"ab"
            assert (await channel.receive()).body == b"signal"
        channel.abort()


# --- parts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65534, 65535, 65536, 131070, 131071, 200_000])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_a_body_of_any_length_is_cut_into_parts(
    tcp_pair: Pair, size: int, kind: Callable[[bytes], bytes | bytearray | memoryview]
) -> None:
    client, server = tcp_pair
    content = (bytes(range(256)) * 800)[:size]
    parts = max(1, -(-size // 65535))

    async def serve() -> list[Message]:
        received = []
        async with await answering(server) as answer:
            async for part in answer:
                part.release()
                received.append(part)
        return received

    serving = asyncio.create_task(serve())
    async with client.stream(headers={"A": "1"}) as exchange:
        await exchange.send(kind(content), {"B": "2"})
        await exchange.finish(kind(content), {"C": "3"})
        received = await serving
    assert b"".join(part.body for part in received) == content * 2
    assert [len(part.body) for part in received[: parts - 1]] == [65535] * (parts - 1)
    assert [part.more for part in received] == [True] * (2 * parts - 1) + [False]
    expected = [{"A": "1", "B": "2"}, *[{}] * (parts - 1), {"C": "3"}, *[{}] * (parts - 1)]
    assert [dict(part.headers) for part in received] == expected


async def test_a_view_of_wider_items_is_sent_as_its_bytes(tcp_pair: Pair) -> None:
    async with tcp_pair.client.stream() as exchange:
        await exchange.send(memoryview(array.array("I", [1, 2])))
        assert len((await tcp_pair.server.receive()).body) == 8


async def test_what_is_no_body_is_refused_and_nothing_sent(tcp_pair: Pair) -> None:
    client = tcp_pair.client
    sent = client.statistics().sent
    async with client.stream() as exchange:
        with pytest.raises(TypeError, match="encode it first"):
            await exchange.send("text")  # type: ignore[arg-type]
        with pytest.raises(tofu.InvalidMessage):
            await exchange.send(b"", {"": "no name"})
        with pytest.raises(tofu.InvalidHeadersLen):
            await exchange.send(b"", {"a": "x" * 65535})
    with pytest.raises(tofu.InvalidMessage):
        client.stream(headers={"a": "line\r\nbreak"})
    assert client.statistics().sent == sent
    assert under_way(client) == 0


async def test_the_frames_on_the_wire(group: tofu.ChannelGroup, listener: tofu.Listener) -> None:
    accepting = asyncio.create_task(listener.accept())
    with await RawPeer.introduced(listener.address) as peer:
        channel = await accepting
        async with channel.stream() as exchange:
            await exchange.send(b"1")
            await exchange.finish(b"2")
        asked = exchange.message_id
        await peer.send(frame(OpCode.REQUEST | MORE_BIT, b"?", message_id=7))
        async with await answering(channel) as answer:
            await answer.send(b"3")
            await answer.finish(b"4", status=Status.NOT_ALLOWED)
        got = [await peer.message() for _ in range(4)]
        assert [(m.op_code, m.message_id, m.more, m.status, m.body) for m in got] == [
            (OpCode.REQUEST, asked, True, Status.SUCCESS, b"1"),
            (OpCode.REQUEST, asked, False, Status.SUCCESS, b"2"),
            (OpCode.RESPONSE, 7, True, Status.SUCCESS, b"3"),
            (OpCode.RESPONSE, 7, False, Status.NOT_ALLOWED, b"4"),
        ]
        channel.abort()


async def test_a_long_send_gives_others_their_turn(tcp_pair: Pair) -> None:
    """Even where there is room all the time."""
    client = tcp_pair.client
    transport_of(client).set_write_buffer_limits(high=2**30)
    async with client.stream() as exchange, turns_counted() as seen:
        await exchange.send(bytes(65535 * 6))
        assert seen() >= 5
        for _ in range(20_000):
            await exchange.send(b"")
        assert seen() >= 5 + 4


# --- one side fails, or leaves -------------------------------------------------------------


async def test_a_last_part_with_a_status_fails_the_other_side(
    tcp_pair: Pair, engine: tofu.Engine
) -> None:
    async with both(tcp_pair) as (asking, answer):
        (await answer.receive()).release()
        await answer.send(b"some")
        await answer.finish(b"disk full", {"Free": "0"}, status=Status.ALLOCATION_FAILED)
        some = await asking.receive()
        assert some.body == b"some"
        for _ in range(2):
            with pytest.raises(tofu.ExchangeFailed, match="allocation_failed: disk full") as failed:
                await asking.receive()
            assert failed.value.status is Status.ALLOCATION_FAILED
            assert failed.value.part is not None
            assert failed.value.part.headers == {"Free": "0"}
        held = engine.statistics()  # one is here still: the part "some", on its channel's reserve
        assert (held.pool_free, held.reserves) == (8, 1)
        with pytest.raises(BrokenResourceError, match="disk full"):
            await asking.send(b"more")
        with pytest.raises(tofu.ExchangeFailed):
            await asking.finish()


async def test_of_a_long_last_body_only_the_last_part_has_the_status(tcp_pair: Pair) -> None:
    async with both(tcp_pair) as (asking, answer):
        await answer.finish(bytes(65535) + b"why", status=Status.NOT_ALLOWED)
        assert (await asking.receive()).status is Status.SUCCESS
        with pytest.raises(tofu.ExchangeFailed, match="not_allowed: why"):
            await asking.receive()


async def test_a_sender_learns_that_no_more_is_needed(
    group: tofu.ChannelGroup, both_ends: Connect
) -> None:
    """Though it only sends: also where it waits for room, for the peer reads no more."""
    async with (
        tofu.Engine(2) as engine,
        engine.create_group() as other,
        both_ends(group, other) as (client, server),
    ):
        async with client.stream() as asking:
            sender = await stuffed(asking, client)
            async with await answering(server) as answer:
                await answer.finish(b"enough", status=Status.NOT_ALLOWED)
            with pytest.raises(tofu.ExchangeFailed, match="enough"):
                await sender
        client.abort()


async def test_a_successful_answer_does_not_end_the_request(tcp_pair: Pair) -> None:
    async with both(tcp_pair) as (asking, answer):
        await answer.finish(b"early")
        assert await whole(asking) == b"early"
        await asking.send(b"1")
        await asking.finish(b"2")
        assert await whole(answer) == b"012"
    assert under_way(*tcp_pair) == 0


async def test_who_leaves_a_request_tells_the_peer(pair: Pair) -> None:
    with contextlib.suppress(ZeroDivisionError):
        async with pair.client.stream() as asking:
            await asking.send(b"0")
            answer = await answering(pair.server)
            await asking.send(b"1")
            raise ZeroDivisionError
    async with answer:
        assert [(await answer.receive()).body for _ in range(2)] == [b"0", b"1"]
        with pytest.raises(tofu.ExchangeFailed, match="the peer left") as failed:
            await answer.receive()
        assert failed.value.status is Status.PROCESSING_FAILED
        with pytest.raises(tofu.ExchangeFailed):
            await answer.send(b"in vain")
    await settled(*pair)
    assert under_way(*pair) == 0


async def test_who_leaves_an_answer_tells_the_peer_and_drops_the_rest(pair: Pair) -> None:
    client, server = pair
    async with client.stream() as asking:
        await asking.send(b"0")
        async with await answering(server) as answer:
            await answer.send(b"some")
        await asking.send(b"1")
        assert (await asking.receive()).body == b"some"
        with pytest.raises(tofu.ExchangeFailed, match="processing_failed: the peer left"):
            await asking.receive()
    await client.signal(b"next")
    assert (await server.receive()).body == b"next"
    assert server.statistics().late_responses == 2
    assert under_way(*pair) == 0


async def test_who_leaves_a_finished_request_drops_the_answer_and_tells_nobody(pair: Pair) -> None:
    client, server = pair
    async with client.stream() as asking:
        await asking.finish()
        answer = await answering(server)
        await answer.send(b"1")
        (await asking.receive()).release()
    await answer.send(b"2")
    await answer.finish(b"3")
    await server.signal(b"next")
    assert (await client.receive()).body == b"next"
    assert client.statistics().late_responses == 2
    assert under_way(*pair) == 0


async def test_who_leaves_what_was_never_begun_tells_nobody(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    async with client.stream(headers={"never": "sent"}):
        pass
    await client.signal(b"next")
    assert (await server.receive()).body == b"next"
    assert under_way(*tcp_pair) == 0


async def test_a_finished_exchange_may_be_left_and_used_no_more(tcp_pair: Pair) -> None:
    async with both(tcp_pair) as (asking, answer):
        await asking.finish()
        await asking.send_eof()
        with pytest.raises(ClosedResourceError, match="last part was sent"):
            await asking.send(b"")
        with pytest.raises(ClosedResourceError, match="last part was sent"):
            await asking.finish()
        await answer.finish()
        await settled(*tcp_pair)
        sent = [channel.statistics().sent for channel in tcp_pair]
        for exchange in (asking, answer):
            for _ in range(2):
                await exchange.aclose()
            with pytest.raises(ClosedResourceError, match="was left"):
                await exchange.receive()
            with pytest.raises(ClosedResourceError, match="was left"):
                await exchange.send(b"")
            await exchange.send_eof()
        assert [channel.statistics().sent for channel in tcp_pair] == sent


async def test_what_was_received_but_not_looked_at_gives_its_permits_back(
    tcp_pair: Pair, engine: tofu.Engine
) -> None:
    async with both(tcp_pair) as (asking, answer):
        for _ in range(3):
            await asking.send(b"x")
        await settled(*tcp_pair)
        held = engine.statistics()
        assert (held.pool_free, held.reserves) == (5, 1)
        await answer.aclose()
        held = engine.statistics()
        assert (held.pool_free, held.reserves) == (8, 0)


async def test_left_exchanges_are_not_remembered(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    for _ in range(1500):
        async with client.stream() as asking:
            await asking.finish()
            with await server.receive() as asked:
                late = Message(OpCode.RESPONSE, b"late", message_id=asked.message_id)
        server.post(late)  # not a reply: the cancellation was announced
    await server.signal(b"next")
    assert (await client.receive()).body == b"next"
    assert client.statistics().late_responses == 1500
    assert under_way(client) == 0


# --- the channel ends ----------------------------------------------------------------------


async def lose_peer(pair: Pair) -> None:
    pair.server.abort()


async def peer_closes(pair: Pair) -> None:
    closing = asyncio.create_task(pair.server.aclose())
    with pytest.raises(EndOfStream):
        await pair.client.receive()
    await closing


async def close_here(pair: Pair) -> None:
    await asyncio.gather(pair.client.aclose(), pair.server.aclose())


async def abort_here(pair: Pair) -> None:
    pair.client.abort()


END: dict[Callable[[Pair], Awaitable[None]], type[Exception]] = {
    lose_peer: BrokenResourceError,
    peer_closes: BrokenResourceError,
    close_here: ClosedResourceError,
    abort_here: ClosedResourceError,
}


@pytest.mark.parametrize("end", END)
async def test_who_waits_for_a_part_learns_of_the_end_of_the_channel(
    tcp_pair: Pair, end: Callable[[Pair], Awaitable[None]]
) -> None:
    async with tcp_pair.client.stream() as asking:
        await asking.send(b"0")
        receiver = asyncio.create_task(asking.receive())
        await turns(1)
        await end(tcp_pair)
        with pytest.raises(END[end]):
            await receiver
        with pytest.raises(END[end]):
            await asking.send(b"")
    late = tcp_pair.client.stream()
    for attempt in (late.receive, late.send_eof):
        with pytest.raises(END[end]):
            await attempt()
    await late.aclose()
    assert under_way(tcp_pair.client) == 0


@pytest.mark.parametrize("end", END)
async def test_who_waits_for_room_learns_of_the_end_of_the_channel(
    tcp_pair: Pair, end: Callable[[Pair], Awaitable[None]]
) -> None:
    async with tcp_pair.client.stream() as asking:
        sender = await stuffed(asking, tcp_pair.client)
        await end(tcp_pair)
        with pytest.raises(END[end]):
            await sender


@pytest.mark.parametrize("end", END)
async def test_an_answer_that_is_here_is_kept_whatever_becomes_of_the_channel(
    tcp_pair: Pair, end: Callable[[Pair], Awaitable[None]]
) -> None:
    async with both(tcp_pair) as (asking, answer):
        await answer.send(b"1")
        await answer.finish(b"2")
        await settled(*tcp_pair)
        await end(tcp_pair)
        assert await whole(asking) == b"12"


@pytest.mark.parametrize("end", [close_here, abort_here])
async def test_what_is_here_of_an_answer_goes_with_the_channel_that_is_closed_here(
    tcp_pair: Pair, engine: tofu.Engine, end: Callable[[Pair], Awaitable[None]]
) -> None:
    async with both(tcp_pair) as (asking, answer):
        await answer.send(b"1")
        await settled(*tcp_pair)
        await answer.aclose()
        assert engine.statistics().reserves == 1
        await end(tcp_pair)
        with pytest.raises(ClosedResourceError):
            await asking.receive()
        assert engine.statistics().reserves == 0


async def test_an_answer_that_is_cut_off_is_delivered_as_far_as_it_came(tcp_pair: Pair) -> None:
    async with both(tcp_pair) as (asking, answer):
        await answer.send(b"1")
        await settled(*tcp_pair)
        tcp_pair.server.abort()
        await until(lambda: tcp_pair.client.end)
        assert (await asking.receive()).body == b"1"
        with pytest.raises(tofu.PeerDisconnected):
            await asking.receive()


async def test_a_request_that_came_before_the_end_can_be_read_after_it(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    cut = client.post(Message(OpCode.REQUEST, b"cut", more=True)).message_id
    begin = client.post(Message(OpCode.REQUEST, b"be", more=True)).message_id
    client.post(Message(OpCode.REQUEST, b"gin", message_id=begin))
    closing = asyncio.create_task(client.aclose())
    await until(lambda: server.state is State.BYE_HEARD)
    async with await answering(server) as half, await answering(server) as full:
        assert half.message_id == cut
        assert (await half.receive()).body == b"cut"
        with pytest.raises(tofu.PeerDisconnected, match="said Bye"):
            await half.receive()
        assert await whole(full) == b"begin"
        await full.finish(b"to nobody, but no error")
    await server.aclose()
    await closing


async def test_after_a_half_close_the_answer_still_comes(pair: Pair) -> None:
    client, server = pair
    async with both(pair) as (asking, answer):
        await asking.finish(b"1")
        await client.send_eof()
        with pytest.raises(EndOfStream):
            await server.receive()
        assert await whole(answer) == b"01"
        await answer.send(b"2")
        await answer.finish(b"3")
        assert await whole(asking) == b"23"


# --- cancelled, closed from elsewhere, and used twice -----------------------------------------


async def test_cancelled_receives_lose_no_part(tcp_pair: Pair) -> None:
    async with both(tcp_pair) as (asking, answer):
        await asking.finish()
        got = []
        for number in range(20):
            receiver = asyncio.create_task(asking.receive())
            await turns(number % 3)
            await answer.send(b"%d" % number)
            await turns(number % 5)
            receiver.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                got.append((await receiver).body)
        await answer.finish()
        got += [part.body async for part in asking]
    assert got == [b"%d" % number for number in range(20)] + [b""]


@contextlib.asynccontextmanager
async def asynchronous(
    limit: Callable[[float], contextlib.AbstractContextManager[object]],
) -> AsyncIterator[None]:
    with limit(0):
        yield


@pytest.mark.parametrize("limit", ["asyncio", "fail_after", "move_on_after"])
async def test_timing_out_leaves_the_exchange_and_tells_the_peer(
    tcp_pair: Pair, limit: str
) -> None:
    client, server = tcp_pair
    asking = client.stream()
    await asking.send(b"0")
    answer = await answering(server)
    limited = asyncio.timeout(0) if limit == "asyncio" else asynchronous(getattr(anyio, limit))
    with contextlib.suppress(TimeoutError):
        async with limited, asking:
            await asking.receive()
    assert (await answer.receive()).body == b"0"
    with pytest.raises(tofu.ExchangeFailed):
        await answer.receive()
    await answer.aclose()


async def test_a_part_whose_sending_was_cancelled_was_not_sent(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    async with client.stream() as asking:
        sender = await stuffed(asking, client)
        sent = client.statistics().sent
        sender.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sender
        assert client.statistics().sent == sent
        finishing = asyncio.create_task(asking.finish(b"end"))
        async with await answering(server) as answer:
            count = 0
            last = b""
            async for part in answer:
                with part:
                    count += len(part.body) == 65535
                    last = part.body
        await finishing
        assert (count, last) == (sent - 1, b"end")  # without the Hello
    client.abort()


async def test_a_body_whose_sending_was_cancelled_half_way_never_passes_for_whole(
    tcp_pair: Pair,
) -> None:
    client, server = tcp_pair
    async with client.stream() as asking:
        sender = asyncio.create_task(asking.send(bytes(50_000_000)))
        await until(lambda: connection_of(client).queue.senders_waiting)
        await settled(client)
        sender.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sender
        for attempt in (asking.send(b""), asking.finish(), asking.send_eof()):
            with pytest.raises(tofu.SendFailed, match="in the middle of its body"):
                await attempt
    async with await answering(server) as answer:
        with pytest.raises(tofu.ExchangeFailed):
            await whole(answer)
    client.abort()


async def test_two_tasks_receiving(tcp_pair: Pair) -> None:
    async with both(tcp_pair) as (asking, answer):
        receiver = asyncio.create_task(asking.receive())
        await turns(1)
        with pytest.raises(BusyResourceError):
            await asking.receive()
        await answer.finish(b"for the first")
        assert (await receiver).body == b"for the first"


async def test_two_tasks_sending(tcp_pair: Pair) -> None:
    async with tcp_pair.client.stream() as asking:
        sender = await stuffed(asking, tcp_pair.client)
        for attempt in (asking.send(b""), asking.finish(), asking.send_eof()):
            with pytest.raises(BusyResourceError):
                await attempt
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)
    tcp_pair.client.abort()


async def test_leaving_from_another_task_wakes_who_receives(tcp_pair: Pair) -> None:
    async with both(tcp_pair) as (asking, _):
        receiver = asyncio.create_task(asking.receive())
        await turns(1)
        await asking.aclose()
        with pytest.raises(ClosedResourceError):
            await receiver


async def test_leaving_from_another_task_wakes_who_waits_for_room(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    async with client.stream() as asking:
        sender = await stuffed(asking, client)
        other = asyncio.create_task(client.signal(b"behind"))
        await asking.aclose()
        await turns(5)
        assert sender.done()
        with pytest.raises(ClosedResourceError, match="was left"):
            await sender
        assert not other.done()  # there is no more room than before
        async with await answering(server) as answer:
            with pytest.raises(tofu.ExchangeFailed):
                await whole(answer)
        assert (await server.receive()).body == b"behind"
        await other


@pytest.mark.parametrize("first", ["cancelled", "left"])
async def test_a_cancellation_in_the_turn_of_leaving_is_not_swallowed(
    tcp_pair: Pair, first: str
) -> None:
    client = tcp_pair.client
    async with client.stream() as asking:
        sender = await stuffed(asking, client)
        if first == "cancelled":
            sender.cancel()
        await asking.aclose()
        if first == "left":
            sender.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sender
    client.abort()


# --- memory --------------------------------------------------------------------------------


async def test_an_exchange_that_nobody_reads_holds_its_sender_up_but_no_control(
    tcp_pair: Pair, engine: tofu.Engine
) -> None:
    client = tcp_pair.client
    async with both(tcp_pair) as (asking, answer):
        sender = await stuffed(asking, client)
        stuck = engine.statistics()
        assert (stuck.pool_free, stuck.over_share) == (4, 1)  # it has its half, and its reserve
        assert len(answer._parts.items) <= 5
        closing = [asyncio.create_task(channel.aclose()) for channel in tcp_pair]
        with pytest.raises(ClosedResourceError):
            await sender
        await asyncio.gather(*closing)
    left = engine.statistics()
    assert (left.pool_free, left.reserves) == (8, 0)


async def test_leaving_an_exchange_that_nobody_reads_lets_all_others_go_on(
    tcp_pair: Pair, engine: tofu.Engine
) -> None:
    client, server = tcp_pair
    async with client.stream() as asking:
        sender = await stuffed(asking, client)
        answer = await answering(server)
        await answer.aclose()
        with pytest.raises(tofu.ExchangeFailed):
            await sender
    asked = asyncio.create_task(client.request(b"?"))
    with await server.receive() as message:
        assert message.body == b"?"
        await server.reply(message, b"!")
    assert (await asked).body == b"!"
    assert server.statistics().late_responses > 8
    assert under_way(*tcp_pair) == 0


# --- what is no exchange -------------------------------------------------------------------


async def test_what_cannot_be_answered_in_parts_is_refused(
    tcp_pair: Pair, group: tofu.ChannelGroup
) -> None:
    client, server = tcp_pair
    await client.signal()
    with pytest.raises(tofu.InvalidOpCode, match="not SIGNAL"):
        server.stream(await server.receive())
    with pytest.raises(tofu.InvalidChannelNumber):
        server.stream(Message(OpCode.REQUEST, message_id=1))
    async with client.stream() as asking:
        await asking.send(b"0")
        first = await server.receive()
        async with server.stream(first):
            with pytest.raises(tofu.InvalidMessageId, match="is in progress already"):
                server.stream(first)
        with pytest.raises(tofu.InvalidMessageId, match="belongs to an exchange"):
            await client.request(message_id=asking.message_id)


async def test_an_exchange_names_itself(tcp_pair: Pair) -> None:
    async with tcp_pair.client.stream() as exchange:
        number = tcp_pair.client.number
        assert repr(exchange) == f"<Exchange #{exchange.message_id} channel={number}>"


async def test_parts_of_a_lost_peer_that_wait_for_permits_belong_to_their_exchange() -> None:
    async with (
        tofu.Engine(pool_messages=8) as engine,
        engine.create_group() as group,
        await group.listen("tcp://127.0.0.1:0") as listener,
    ):
        accepting = asyncio.create_task(listener.accept())
        peer = await RawPeer.introduced(listener.address)
        channel = await accepting
        parts = [frame(OpCode.REQUEST | MORE_BIT, b"%d" % n) for n in range(20)]
        await peer.send(b"".join(parts))
        await until(lambda: held_up(engine))
        await peer.reset()
        while channel.end is None:  # noticed by sending, while parts still wait for permits
            with contextlib.suppress(tofu.PeerDisconnected):
                channel.post(Message(OpCode.SIGNAL, b"x"))
            await turns(1)
        async with channel.stream(await channel.receive()) as exchange:
            bodies = []
            for _ in parts:
                with await exchange.receive() as part:
                    bodies.append(part.body)
            with pytest.raises(tofu.PeerDisconnected, match="the connection was lost"):
                await exchange.receive()
        assert bodies == [b"%d" % n for n in range(20)]
        with pytest.raises(tofu.PeerDisconnected):
            await channel.receive()
