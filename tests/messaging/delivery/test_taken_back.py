"""Cancelled requests: the other side is notified, and does no useless work."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from anyio import CancelScope

import tofu_aio as tofu
from tests.messaging.peers import Pair, RawPeer, frame, settled, turns, until
from tests.messaging.worlds import World, modern_peer, world_of
from tofu_aio import Message, OpCode, Status
from tofu_aio.messaging.delivery.incoming_requests import IncomingRequests
from tofu_aio.messaging.exchange import Exchange
from tofu_aio.messaging.limits import TAKEN_BACK
from tofu_aio.protocol.op_code import MORE_BIT

WITHDRAWAL = frame(OpCode.REQUEST | MORE_BIT, status=Status.PROCESSING_FAILED)
"""Takes back request 1."""

LONG = bytes(range(256)) * 4096


@pytest.fixture
async def tcp() -> AsyncIterator[World]:
    """Programs with an engine each, which are as empty in the end as they were."""
    async with world_of("tcp", 8) as world:
        yield world


async def cancelled(channel: tofu.Channel, received: Callable[[], Awaitable[Message]]) -> Message:
    """A task that awaits the response is cancelled."""
    asking = asyncio.create_task(channel.request())
    request = await received()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    return request


async def timed_out(channel: tofu.Channel, received: Callable[[], Awaitable[Message]]) -> Message:
    """The response does not come in time."""
    asking = asyncio.create_task(channel.request(timeout=0.05))
    request = await received()
    with pytest.raises(TimeoutError):
        await asking
    return request


async def left(channel: tofu.Channel, received: Callable[[], Awaitable[Message]]) -> Message:
    """The exchange is left before its answer has come."""
    async with channel.stream() as exchange:
        await exchange.finish()
        return await received()


GIVE_UP = [cancelled, timed_out, left]
GivesUp = Callable[[tofu.Channel, Callable[[], Awaitable[Message]]], Awaitable[Message]]


def heard(channel: tofu.Channel) -> IncomingRequests:
    """What it knows of its peer's requests."""
    return channel._dispatcher.incoming_requests()


async def send_on(answer: Exchange) -> None:
    """Send parts without end."""
    while True:
        await answer.send(b"more")
        await turns(1)


# --- how the other side learns of it ---------------------------------------------------------


@pytest.mark.parametrize("give_up", GIVE_UP)
async def test_a_channel_says_that_a_request_was_taken_back(pair: Pair, give_up: GivesUp) -> None:
    client, server = pair
    early: list[bool] = []

    async def received() -> Message:
        request = await server.receive()
        early.append(server.cancelled(request))
        return request

    request = await give_up(client, received)
    await until(lambda: server.cancelled(request))
    assert early == [False]
    assert client.statistics().awaited == 0


@pytest.mark.parametrize("give_up", GIVE_UP)
async def test_a_scope_is_cancelled(pair: Pair, give_up: GivesUp) -> None:
    client, server = pair
    scopes: list[CancelScope] = []
    entered = asyncio.Event()

    async def handle() -> None:
        with await server.receive() as request, server.cancel_scope(request) as scope:
            scopes.append(scope)
            entered.set()
            await asyncio.get_running_loop().create_future()

    handling = asyncio.create_task(handle())

    async def received() -> Message:
        await entered.wait()
        return Message(OpCode.SIGNAL)

    await give_up(client, received)
    await handling
    assert scopes[0].cancelled_caught
    assert not heard(server)._scopes


async def test_a_scope_that_is_left_before_is_not_cancelled(pair: Pair) -> None:
    client, server = pair

    async def received() -> Message:
        request = await server.receive()
        with server.cancel_scope(request) as scope:
            await turns(1)
        assert not scope.cancel_called
        return request

    request = await cancelled(client, received)
    assert not heard(server)._scopes
    await until(lambda: server.cancelled(request))


async def test_a_scope_that_is_entered_after_the_notice_is_cancelled_at_once(pair: Pair) -> None:
    client, server = pair
    request = await cancelled(client, server.receive)
    await until(lambda: server.cancelled(request))
    with server.cancel_scope(request) as scope:
        await asyncio.get_running_loop().create_future()
    assert scope.cancelled_caught
    assert not heard(server)._scopes


async def test_only_the_scopes_of_this_request_are_cancelled(pair: Pair) -> None:
    client, server = pair
    staying = asyncio.create_task(client.request(b"stays"))
    other = await server.receive()
    with server.cancel_scope(other) as scope:
        request = await cancelled(client, server.receive)
        with server.cancel_scope(request) as one, server.cancel_scope(request) as two:
            await asyncio.get_running_loop().create_future()
        assert one.cancel_called
        assert two.cancel_called
        await turns(1)
        await server.reply(other, b"stayed")
    assert not scope.cancel_called
    assert not server.cancelled(other)
    assert (await staying).body == b"stayed"


@pytest.mark.parametrize("end", ["the peer is lost", "the peer closes", "it is aborted here"])
async def test_a_scope_is_cancelled_with_its_channel(tcp_pair: Pair, end: str) -> None:
    client, server = tcp_pair
    asking = asyncio.create_task(client.request())
    request = await server.receive()
    closing = None
    with server.cancel_scope(request) as scope:
        if end == "the peer is lost":
            client.abort()
        elif end == "it is aborted here":
            server.abort()
        else:
            closing = asyncio.create_task(client.aclose())
        await asyncio.get_running_loop().create_future()
    assert scope.cancelled_caught
    request.release()
    with pytest.raises(tofu.TofuError):
        await asking
    await server.aclose()
    if closing is not None:
        await closing
    assert server.cancelled(request), "no request waits any more"
    with server.cancel_scope(request) as late:
        await asyncio.get_running_loop().create_future()
    assert late.cancelled_caught


@pytest.mark.parametrize("finished", [True, False])
async def test_an_answer_in_parts_fails_when_its_exchange_is_left(
    pair: Pair, *, finished: bool
) -> None:
    client, server = pair
    async with client.stream() as exchange:
        if finished:
            await exchange.finish()
        else:
            await exchange.send(b"?")
        answer = server.stream(await server.receive())
        await answer.send(b"some")
        (await exchange.receive()).release()
    with pytest.raises(tofu.ExchangeFailed) as failed:
        await send_on(answer)
    assert failed.value.status is Status.PROCESSING_FAILED
    await answer.aclose()
    await settled(*pair)
    assert not heard(server).exchanges


@pytest.mark.parametrize("give_up", [cancelled, timed_out])
async def test_so_does_the_answer_in_parts_to_a_plain_request(pair: Pair, give_up: GivesUp) -> None:
    client, server = pair
    answers = []

    async def received() -> Message:
        answers.append(server.stream(await server.receive()))
        return Message(OpCode.SIGNAL)

    await give_up(client, received)
    async with answers[0] as answer:
        with pytest.raises(tofu.ExchangeFailed):
            await send_on(answer)
    await settled(*pair)
    assert not heard(server).exchanges


async def test_an_exchange_that_begins_after_the_notice_fails_at_once(pair: Pair) -> None:
    client, server = pair
    request = await cancelled(client, server.receive)
    await until(lambda: server.cancelled(request))
    async with server.stream(request) as answer:
        with pytest.raises(tofu.ExchangeFailed):
            await answer.send(b"in vain")
    assert client.statistics().late_responses <= 1


async def test_who_streams_the_answer_may_also_ask_whether_it_is_wanted(pair: Pair) -> None:
    client, server = pair
    async with client.stream() as exchange:
        await exchange.finish()
        request = await server.receive()
        answer = server.stream(request)
        assert not server.cancelled(request)
    with server.cancel_scope(request):
        await send_on(answer)
    assert server.cancelled(request)
    with server.cancel_scope(request) as late:
        await asyncio.get_running_loop().create_future()
    assert late.cancelled_caught
    await answer.aclose()
    assert server.cancelled(request)


@pytest.mark.parametrize("unread", [1, 2])
@pytest.mark.parametrize("finished", [True, False])
async def test_who_has_the_first_parts_learns_that_no_others_come(
    pair: Pair, unread: int, *, finished: bool
) -> None:
    """The others were unread, and have disappeared; or only the last one was."""
    client, server = pair
    async with client.stream() as exchange:
        for n in range(unread):
            await exchange.send(b"%d" % n)
        if finished:
            await exchange.finish(b"end")
        else:
            await exchange.send(b"and so on")
        first = await server.receive()
        await until(lambda: len(server._mailbox.items) == unread)
    await until(lambda: server.cancelled(first))
    assert not server._mailbox.items
    async with server.stream(first) as answer:
        assert (await answer.receive()).body == b"0"
        with pytest.raises(tofu.ExchangeFailed):
            await answer.receive()
        with pytest.raises(tofu.ExchangeFailed):
            await answer.send(b"in vain")


async def test_the_answers_are_wanted_of_a_peer_that_has_only_said_all_that_it_asks(
    tcp_pair: Pair,
) -> None:
    client, server = tcp_pair
    asking = asyncio.create_task(whole(client))
    request = await server.receive()
    async with server.stream(request) as answer:
        with server.cancel_scope(request) as scope:
            await until(lambda: server.state is tofu.State.BYE_HEARD)
            await turns(3)
            assert [part.body async for part in answer] == [b"?"]
            await answer.finish(b"!")
    assert not scope.cancel_called
    assert not server.cancelled(request)
    assert await asking == [b"!"]


async def whole(channel: tofu.Channel) -> list[bytes]:
    """Send the request, finish it, and receive the answer."""
    async with channel.stream() as exchange:
        await exchange.finish(b"?")
        await channel.send_eof()
        return [part.body async for part in exchange]


async def test_who_has_all_of_the_answer_takes_nothing_back(pair: Pair) -> None:
    client, server = pair
    async with client.stream() as exchange:
        await exchange.finish()
        request = await server.receive()
        await server.reply(request, b"all")
        assert [part.body async for part in exchange] == [b"all"]
    sent = client.statistics().sent
    await turns(3)
    assert client.statistics().sent == sent
    assert not server.cancelled(request)


# --- work that is no longer needed -----------------------------------------------------------


async def test_a_request_that_nobody_has_received_disappears(pair: Pair) -> None:
    client, server = pair
    asking = [asyncio.create_task(client.request(b"%d" % n)) for n in range(4)]
    await until(lambda: len(server._mailbox.items) == 4)
    for task in asking[:3]:
        task.cancel()
    await until(lambda: len(server._mailbox.items) == 1)
    with await server.receive() as request:
        assert request.body == b"3"
        await server.reply(request)
    await asking[3]
    assert server.statistics().held == 0


async def test_one_that_is_taken_back_in_the_same_piece_is_never_seen(tcp: World) -> None:
    listener = await tcp.listen()
    accepting = asyncio.create_task(listener.accept())
    with await modern_peer(listener.address) as peer:
        channel = await accepting
        await peer.send(
            frame(OpCode.REQUEST, b"never seen")
            + WITHDRAWAL
            + frame(OpCode.SIGNAL, b"next", message_id=2)
        )
        assert (await channel.receive()).body == b"next"
        assert not channel._mailbox.items

        channel.abort()


@pytest.mark.parametrize("give_up", GIVE_UP)
@pytest.mark.parametrize("body", [b"short", LONG])
async def test_a_reply_to_it_sends_nothing_and_raises_nothing(
    pair: Pair, give_up: GivesUp, body: bytes
) -> None:
    client, server = pair
    request = await give_up(client, server.receive)
    await until(lambda: server.cancelled(request))
    sent = server.statistics().sent
    if body == b"short":
        await server.reply(request, b"part", more=True)
    await server.reply(request, body)
    assert server.statistics().sent == sent
    assert client.statistics().late_responses == 0
    with pytest.raises(tofu.NotAllowed):
        await server.reply(request)
    assert not heard(server)._taken_back


async def test_a_long_request_is_taken_back_half_sent(tcp: World) -> None:
    listener = await tcp.listen()
    accepting = asyncio.create_task(listener.accept())
    client = await tcp.connect(listener.address)
    server = await accepting
    asking = asyncio.create_task(client.request(LONG))
    await until(lambda: heard(server).parts, "its first part")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await client.signal(b"next")
    with await server.receive() as signal:
        assert signal.body == b"next"
    assert not heard(server).parts
    assert tcp.engines[0].statistics().joining_bytes == 0


async def test_a_long_reply_stops_when_its_request_is_taken_back(tcp: World) -> None:
    listener = await tcp.listen()
    accepting = asyncio.create_task(listener.accept())
    client = await tcp.connect(listener.address)
    server = await accepting
    asking = asyncio.create_task(client.request())
    request = await server.receive()
    replying = asyncio.create_task(server.reply(request, LONG * 12))
    await until(lambda: tcp.engines[1].statistics().joining_bytes)
    asking.cancel()
    await asyncio.wait([asking])
    await replying
    request.release()
    await settled(client, server)
    assert server.statistics().sent < 12 * 16, "not all of it was sent"


# --- by hand ---------------------------------------------------------------------------------


async def test_a_plain_peer_never_sees_a_withdrawal(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    accepting = asyncio.create_task(listener.accept())
    with await RawPeer.introduced(listener.address) as peer:
        channel = await accepting
        for give_up in GIVE_UP:
            await give_up(channel, peer.message)
        await channel.signal(b"next")
        assert (await peer.message()).body == b"next"
        # And what looks like one is an application's.
        await peer.send(WITHDRAWAL)
        with await channel.receive() as message:
            assert (message.op_code, message.more) == (OpCode.REQUEST, True)
            assert message.status is Status.PROCESSING_FAILED
        channel.abort()


async def test_a_withdrawal_on_the_wire(tcp: World) -> None:
    listener = await tcp.listen()
    accepting = asyncio.create_task(listener.accept())
    with await modern_peer(listener.address) as peer:
        channel = await accepting
        for give_up in GIVE_UP:
            request = await give_up(channel, peer.message)
            notice = await peer.message()
            assert (notice.op_code, notice.more) == (OpCode.REQUEST, True)
            assert (notice.message_id, notice.status) == (
                request.message_id,
                Status.PROCESSING_FAILED,
            )
            assert (notice.body, len(notice.headers.pairs)) == (b"", 0)
        await channel.signal(b"next")
        assert (await peer.message()).body == b"next"
        channel.abort()


async def test_one_of_what_was_never_asked_does_nothing(tcp: World) -> None:
    listener = await tcp.listen()
    accepting = asyncio.create_task(listener.accept())
    with await modern_peer(listener.address) as peer:
        channel = await accepting
        await peer.send(WITHDRAWAL * 3 + frame(OpCode.SIGNAL, b"next", message_id=2))
        assert (await channel.receive()).body == b"next"
        channel.abort()


@pytest.mark.parametrize(
    ("op_code", "status", "body"),
    [
        (OpCode.REQUEST, Status.PROCESSING_FAILED, b""),
        (OpCode.REQUEST, Status.PROCESSING_FAILED, b"why"),
        (OpCode.REQUEST, Status.NOT_ALLOWED, b""),
        (OpCode.REQUEST | MORE_BIT, Status.PROCESSING_FAILED, b"why"),
        (OpCode.REQUEST | MORE_BIT, Status.NOT_ALLOWED, b""),
        (OpCode.SIGNAL, Status.PROCESSING_FAILED, b""),
    ],
)
async def test_a_request_with_a_status_is_delivered_as_any(
    tcp: World, op_code: int, status: Status, body: bytes
) -> None:
    listener = await tcp.listen()
    accepting = asyncio.create_task(listener.accept())
    with await modern_peer(listener.address) as peer:
        channel = await accepting
        await peer.send(frame(op_code, body, status=status))
        with await channel.receive() as message:
            assert (message.status, message.body) == (status, body)
            assert not channel.cancelled(message)
        channel.abort()


async def test_so_is_one_that_an_application_posts(pair: Pair) -> None:
    client, server = pair
    message = Message(OpCode.REQUEST)
    message.status = Status.PROCESSING_FAILED
    message_id = client.post(message).message_id
    with await server.receive() as request:
        assert (request.status, request.message_id) == (Status.PROCESSING_FAILED, message_id)
        await server.reply(request, b"so it is")
    assert (await client.receive()).body == b"so it is"


# --- ids that are used again -----------------------------------------------------------------


@pytest.fixture
async def by_hand(tcp: World) -> AsyncIterator[tuple[tofu.Channel, RawPeer]]:
    """A channel, and its peer that takes requests back by hand."""
    listener = await tcp.listen()
    accepting = asyncio.create_task(listener.accept())
    with await modern_peer(listener.address) as peer:
        channel = await accepting
        yield channel, peer
        channel.abort()


ByHand = tuple[tofu.Channel, RawPeer]

SECOND = frame(OpCode.REQUEST, b"second")


async def is_served(by_hand: ByHand) -> None:
    """The second request under the id is not cancelled."""
    channel, peer = by_hand
    with await channel.receive() as request:
        assert request.body == b"second"
        assert not channel.cancelled(request)
        with channel.cancel_scope(request) as scope:
            await turns(1)
        assert not scope.cancel_called
        await channel.reply(request, b"served")
    answer = await peer.message()
    assert (answer.message_id, answer.body) == (1, b"served")


async def test_what_stands_behind_the_notice_in_one_piece_is_another_request(
    by_hand: ByHand,
) -> None:
    _, peer = by_hand
    await peer.send(frame(OpCode.REQUEST, b"first") + WITHDRAWAL + SECOND)
    await is_served(by_hand)


async def test_so_it_is_if_the_first_one_was_received(by_hand: ByHand) -> None:
    channel, peer = by_hand
    await peer.send(frame(OpCode.REQUEST, b"first"))
    with await channel.receive() as first:
        await peer.send(WITHDRAWAL)
        await until(lambda: channel.cancelled(first))
        await peer.send(SECOND)
        await is_served(by_hand)


async def test_so_it_is_if_the_first_one_was_answered_before_the_notice_came(
    by_hand: ByHand,
) -> None:
    channel, peer = by_hand
    await peer.send(frame(OpCode.REQUEST, b"first"))
    with await channel.receive() as first:
        await channel.reply(first)
    await peer.message()
    await peer.send(WITHDRAWAL + SECOND)
    await is_served(by_hand)


async def test_so_it_is_if_the_first_one_came_in_parts(by_hand: ByHand) -> None:
    _, peer = by_hand
    first = frame(OpCode.REQUEST | MORE_BIT, b"first", b"~whole:70000\r\n")
    await peer.send(first + WITHDRAWAL + SECOND)
    await is_served(by_hand)


async def test_an_exchange_that_was_taken_back_says_nothing_to_the_next_one(
    by_hand: ByHand,
) -> None:
    channel, peer = by_hand
    await peer.send(frame(OpCode.REQUEST, b"first"))
    async with channel.stream(await channel.receive()) as exchange:
        await peer.send(WITHDRAWAL)
        with pytest.raises(tofu.ExchangeFailed):
            await send_on(exchange)
        sent = channel.statistics().sent
    assert channel.statistics().sent == sent


async def test_only_what_came_before_the_last_notice_disappears(by_hand: ByHand) -> None:
    channel, peer = by_hand
    await peer.send((frame(OpCode.REQUEST, b"given up") + WITHDRAWAL) * 3 + SECOND)
    await is_served(by_hand)
    assert not channel._mailbox.items


# --- bounds ----------------------------------------------------------------------------------


async def test_it_comes_through_where_the_pool_is_empty() -> None:
    """It needs no permit: as long as nothing that does is before it."""
    async with world_of("tcp", 1) as tcp:
        listener = await tcp.listen()
        accepting = asyncio.create_task(listener.accept())
        client = await tcp.connect(listener.address)
        server = await accepting
        asking = [asyncio.create_task(client.request(b"%d" % n)) for n in range(2)]
        kept = [await server.receive() for _ in range(2)]
        assert tcp.engines[0].statistics().pool_free == 0
        asking[0].cancel()
        await until(lambda: server.cancelled(kept[0]))
        assert not server.cancelled(kept[1])
        asking[1].cancel()
        await until(lambda: server.cancelled(kept[1]))
        kept.clear()


async def test_5000_cancellations_keep_memory_bounded(tcp: World) -> None:
    listener = await tcp.listen()
    accepting = asyncio.create_task(listener.accept())
    with await modern_peer(listener.address) as peer:
        channel = await accepting
        last = None
        for begin in range(1, 5001, 100):
            ids = range(begin, begin + 100)
            await peer.send(b"".join(frame(OpCode.REQUEST, message_id=n) for n in ids))
            for _ in ids:
                last = await channel.receive()
            await peer.send(
                b"".join(
                    frame(OpCode.REQUEST | MORE_BIT, status=Status.PROCESSING_FAILED, message_id=n)
                    for n in ids
                )
            )
            await until(lambda last=last: channel.cancelled(last))
            assert len(heard(channel)._taken_back) <= TAKEN_BACK
        assert len(heard(channel)._taken_back) == TAKEN_BACK
        assert not heard(channel)._scopes
        del last
        channel.abort()


async def test_cancellations_and_answers_that_cross_leave_nothing(pair: Pair) -> None:
    """Whichever is faster."""
    client, server = pair
    answering = []

    async def answer(request: Message, pause: int) -> None:
        await turns(pause)
        with contextlib.suppress(asyncio.CancelledError), server.cancel_scope(request):
            await server.reply(request, request.body)

    async def serve() -> None:
        pause = 0
        async for request in server:
            answering.append(asyncio.create_task(answer(request, pause)))
            pause = (pause + 1) % 4

    serving = asyncio.create_task(serve())
    for n in range(200):
        asking = asyncio.create_task(client.request(b"%d" % n))
        await turns(n % 7)
        asking.cancel()
        await asyncio.wait([asking])
        if not asking.cancelled():
            assert asking.result().body == b"%d" % n
    assert (await client.request(b"last")).body == b"last"
    await asyncio.wait(answering)
    serving.cancel()
    await asyncio.wait([serving])
    answering.clear()
    del serving
    await settled(client, server)
    assert client.statistics().awaited == 0
    assert not heard(server)._scopes
