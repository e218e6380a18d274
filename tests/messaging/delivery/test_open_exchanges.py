"""The number of exchanges that a side may have begun: one more waits, or is refused."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest

import tofu_aio as tofu
from tests.messaging.peers import Pair, answers_of, frame, heard_by, met, turns, until
from tofu_aio import OpCode, Status
from tofu_aio.messaging.delivery import incoming_requests as incoming_module
from tofu_aio.messaging.delivery import pending_requests as answers_module
from tofu_aio.messaging.delivery.slots import Slots
from tofu_aio.messaging.exchange import Exchange
from tofu_aio.messaging.limits import EXCHANGES_BEGUN, EXCHANGES_SERVED
from tofu_aio.protocol.op_code import MORE_BIT

MORE = OpCode.REQUEST | MORE_BIT


def first_part(number: int) -> bytes:
    return frame(MORE, message_id=number)


async def upper(exchange: Exchange) -> None:
    with contextlib.suppress(tofu.ExchangeFailed):  # it was cancelled
        await answer(exchange)


async def answer(exchange: Exchange) -> None:
    async with exchange:
        async for part in exchange:
            with part:
                await exchange.send(part.body.upper())
        await exchange.finish()


async def answer_all(channel: tofu.Channel) -> None:
    """As the documentation has it."""
    async with asyncio.TaskGroup() as tasks:
        async for message in channel:
            tasks.create_task(upper(channel.stream(message)))


# --- of a peer that does not wait --------------------------------------------------------------


@pytest.fixture
def three_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming_module, "EXCHANGES_SERVED", 3)


@pytest.mark.usefixtures("three_served")
async def test_one_too_many_is_refused_and_the_channel_goes_on(
    group: tofu.ChannelGroup, caplog: pytest.LogCaptureFixture
) -> None:
    async with met(group) as (peer, channel):
        served = []
        for number in (2, 3, 4):
            await peer.send(first_part(number))
            served.append(channel.stream(await channel.receive()))
        for number in (5, 6):
            await peer.send(first_part(number))
            refusal = await peer.message()
            assert (refusal.op_code, refusal.message_id) == (OpCode.RESPONSE, number)
            assert refusal.status is Status.ALLOCATION_FAILED
            assert b"has begun 3 exchanges that are not over" in refusal.body
        await peer.send(
            frame(MORE, b"a part", message_id=5) + frame(body=b"the last", message_id=5)
        )
        await peer.send(frame(body=b"a plain request", message_id=7))
        with await channel.receive() as message:
            assert message.body == b"a plain request"
            await channel.reply(message, b"as ever")
        assert (await peer.message()).body == b"as ever"
        assert channel.statistics().late_responses == 2, "the parts of what was refused"
        assert caplog.text.count("and may not begin more") == 1
        await served[0].aclose()
        assert (await peer.message()).message_id == 2
        await peer.send(first_part(8))
        served.append(channel.stream(await channel.receive()))
        assert served[-1].message_id == 8
        channel.abort()


@pytest.mark.usefixtures("three_served")
@pytest.mark.parametrize("over", ["finished", "left", "taken back"])
async def test_only_those_that_the_application_has_not_done_with_count(
    tcp_pair: Pair, over: str
) -> None:
    client, server = tcp_pair
    for _ in range(10):
        asking = client.stream()
        await asking.send(b"?")
        answering = server.stream(await server.receive())
        if over == "finished":
            await asking.finish()
            await answering.finish()
            assert [part.body async for part in asking] == [b""]
        elif over == "left":
            await answering.aclose()
        else:
            await asking.aclose()
            (await answering.receive()).release()
            with pytest.raises(tofu.ExchangeFailed):
                await answering.receive()
            await answering.aclose()
        await asking.aclose()
    await until(lambda: not len(heard_by(server)._served))


@pytest.mark.usefixtures("three_served")
async def test_one_whose_id_was_used_again_counts_until_it_is_left(
    group: tofu.ChannelGroup,
) -> None:
    async with met(group) as (peer, channel):
        served = []
        for _ in range(3):
            await peer.send(first_part(2))
            served.append(channel.stream(await channel.receive()))
            await peer.send(frame(message_id=2))
            async for part in served[-1]:
                part.release()
        await peer.send(first_part(2))
        assert (await peer.message()).status is Status.ALLOCATION_FAILED
        for exchange in served:
            await exchange.aclose()
        assert len(heard_by(channel)._served) == 0
        channel.abort()


@pytest.mark.usefixtures("three_served")
async def test_requests_of_one_part_under_one_id_count_when_the_last_of_them_is_over(
    group: tofu.ChannelGroup,
) -> None:
    async with met(group) as (peer, channel):
        served = []
        await peer.send(frame(body=b"?", message_id=2) * 4)
        for _ in range(4):
            with await channel.receive() as request:
                served.append(channel.stream(request))
        await served.pop().finish()
        assert (await peer.message()).status is Status.SUCCESS
        assert not heard_by(channel).exchanges, "no id leads to the three others"
        await peer.send(frame(body=b"one more", message_id=2))
        assert (await peer.message()).status is Status.ALLOCATION_FAILED
        channel.abort()


@pytest.mark.usefixtures("three_served")
async def test_requests_of_one_part_are_among_them_where_they_are_answered_in_parts(
    group: tofu.ChannelGroup,
) -> None:
    async with met(group) as (peer, channel):
        served = []
        for number in range(2, 5):
            await peer.send(frame(body=b"?", message_id=number))
            with await channel.receive() as request:
                served.append(channel.stream(request))
        await peer.send(frame(body=b"one more", message_id=5))
        refusal = await peer.message()
        assert (refusal.op_code, refusal.message_id) == (OpCode.RESPONSE, 5)
        assert refusal.status is Status.ALLOCATION_FAILED
        await served[0].finish()
        assert (await peer.message()).message_id == 2
        await peer.send(frame(body=b"again", message_id=5))
        with await channel.receive() as request:
            assert (request.message_id, request.body) == (5, b"again")
        channel.abort()


@pytest.mark.usefixtures("three_served")
async def test_and_else_they_are_not(group: tofu.ChannelGroup) -> None:
    """A caller with ``request`` knows nothing of exchanges; each of its messages needs room."""
    async with met(group) as (peer, channel):
        served = []
        for number in range(2, 5):
            await peer.send(first_part(number))
            served.append(channel.stream(await channel.receive()))
        for number in range(5, 9):
            await peer.send(frame(body=b"?", message_id=number))
            with await channel.receive() as request:
                assert request.message_id == number
        channel.abort()


# --- of callers that have gone ------------------------------------------------------------------


async def test_one_that_was_given_up_before_it_is_served_says_of_which_channel(
    tcp_pair: Pair,
) -> None:
    client, server = tcp_pair
    asking = asyncio.create_task(client.request(b"?"))
    with await server.receive() as request:
        asking.cancel()
        await until(lambda: server.cancelled(request))
        with pytest.raises(
            tofu.ExchangeFailed, match="the peer has cancelled its request"
        ) as raised:
            await server.stream(request).send(b"!")
    assert raised.value.channel_number == server.number


async def test_one_whose_id_was_used_again_says_of_which_channel(group: tofu.ChannelGroup) -> None:
    async with met(group) as (peer, channel):
        await peer.send(frame(message_id=2) * 2)
        first, _ = [channel.stream(await channel.receive()) for _ in range(2)]
        with pytest.raises(tofu.ExchangeFailed, match="used its message id again") as raised:
            await first.send(b"!")
        assert raised.value.channel_number == channel.number
        channel.abort()


# --- of this side ------------------------------------------------------------------------------


@pytest.fixture
def two_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers_module, "EXCHANGES_BEGUN", 2)


async def waiting_third(
    client: tofu.Channel,
) -> tuple[list[Exchange], Exchange, asyncio.Task[None]]:
    """Two that have begun, and one that waits for one of them to be over."""
    begun = [client.stream() for _ in range(2)]
    for exchange in begun:
        await exchange.send(b"x")
    third = client.stream()
    sending = asyncio.create_task(third.send(b"third"))
    await until(lambda: answers_of(client).slots._waiting)
    await turns(5)
    assert not sending.done()
    return begun, third, sending


@pytest.mark.usefixtures("two_begun")
@pytest.mark.parametrize("over", ["finished", "left", "refused", "failed"])
async def test_one_more_waits_until_one_is_over(
    tcp_pair: Pair, over: str, caplog: pytest.LogCaptureFixture
) -> None:
    client, server = tcp_pair
    begun, third, sending = await waiting_third(client)
    answering = server.stream(await server.receive())
    if over == "finished":
        await begun[0].finish()
        await answering.finish()
    elif over == "left":
        await begun[0].aclose()
    elif over == "refused":
        await answering.aclose()
    else:
        await answering.finish(b"no", status=Status.NOT_ALLOWED)
    await sending
    assert caplog.text.count("has as many exchanges in progress as it may") == 1
    for exchange in (*begun, third):
        await exchange.aclose()
        await exchange.aclose()
    assert answers_of(client).slots._free == 2
    await answering.aclose()


@pytest.mark.usefixtures("two_begun")
@pytest.mark.parametrize("how", ["cancelled", "left", "closed", "peer gone", "bye"])
async def test_who_waits_to_begin_may_give_up_or_be_told(tcp_pair: Pair, how: str) -> None:
    client, server = tcp_pair
    begun, third, sending = await waiting_third(client)
    if how == "cancelled":
        sending.cancel()
        expected: type[BaseException] = asyncio.CancelledError
    elif how == "left":
        await third.aclose()
        expected = tofu.ChannelClosed
    elif how == "closed":
        client.abort()
        expected = tofu.ChannelClosed
    else:
        await (server.send_eof() if how == "bye" else asyncio.sleep(0))
        if how == "peer gone":
            server.abort()
        expected = tofu.PeerDisconnected
    with pytest.raises(expected):
        await sending
    assert not third._begun
    if how in {"cancelled", "left"}:
        for exchange in begun:
            await exchange.aclose()
        assert answers_of(client).slots._free == 2
        async with client.stream() as again:
            await again.send(b"as good as new")


@pytest.mark.usefixtures("two_begun")
async def test_what_could_not_be_begun_takes_none(tcp_pair: Pair) -> None:
    client, _ = tcp_pair
    for _ in range(5):
        with pytest.raises(tofu.InvalidHeadersLen):  # both together are too long
            await client.stream(headers={"a": "b" * 40_000}).send(b"", {"a": "b" * 40_000})
    assert answers_of(client).slots._free == 2


@pytest.fixture
def a_hundredth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers_module, "EXCHANGES_BEGUN", EXCHANGES_BEGUN // 100)
    monkeypatch.setattr(incoming_module, "EXCHANGES_SERVED", EXCHANGES_SERVED // 100)


@pytest.mark.usefixtures("a_hundredth")
async def test_a_crowd_at_once_all_comes_through(
    tcp_pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """More than may be open at a time, and a server as in the documentation: none is refused."""
    client, server = tcp_pair
    serving = asyncio.create_task(answer_all(server))

    async def ask(number: int) -> bytes:
        async with client.stream() as exchange:
            await exchange.send(b"n")
            await turns(5)  # the others begin, as many as may
            await exchange.finish(b"%d" % number)
            return b"".join([part.body async for part in exchange])

    answers = await asyncio.gather(*(ask(number) for number in range(200)))
    assert answers == [b"N%d" % number for number in range(200)]
    assert "refused" not in caplog.text
    await client.aclose()
    await serving


@pytest.mark.usefixtures("a_hundredth")
async def test_many_that_are_given_up_do_not_stop_the_next(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    serving = asyncio.create_task(answer_all(server))
    for _ in range(200):
        async with client.stream() as exchange:
            await exchange.send(b"n")
    async with client.stream() as exchange:
        await exchange.finish(b"now")
        assert b"".join([part.body async for part in exchange]) == b"NOW"
    await client.aclose()
    await serving


# --- the slots ---------------------------------------------------------------------------------


async def test_slots_are_dealt_out_in_order_and_none_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    slots = Slots(1, 7)
    assert slots.acquire()
    assert not slots.acquire()
    waiting = [asyncio.create_task(slots.wait()) for _ in range(4)]
    await turns(2)
    waiting[0].cancel()
    slots.release()  # to the second: the first was cancelled, and has not run since
    await turns(2)
    assert [task.done() for task in waiting] == [True, True, False, False]
    slots.release()
    waiting[2].cancel()  # in the very moment in which its turn came
    await turns(3)
    assert waiting[2].cancelled()
    assert waiting[3].done()
    slots.release()
    assert slots.acquire()
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
