"""A client's subscription: what it does when channels, services and publishers come and go."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import aclosing

import pytest

import tofu_aio as tofu
from tests.messaging.peers import RawPeer, RawServer, frame, until
from tests.service.test_topic import numbered, subscribed, take, take_all
from tests.service.topics import serving, with_topics
from tofu_aio import OpCode
from tofu_aio.protocol.op_code import MORE_BIT
from tofu_aio.service.call import Next

SOON = tofu.Backoff(0.001, 0.01)


async def test_it_goes_on_after_the_loss_of_its_channel(group: tofu.ChannelGroup) -> None:
    topic = tofu.Topic()
    async with (
        serving(group, with_topics(t=topic)) as served,
        tofu.Client(served.address, backoff=SOON) as client,
    ):
        events = client.subscribe("t", item=int, after=0)
        for number in range(1, 200):
            topic.publish(number)
            assert numbered(await take(events, 1)) == [(number, number, 0)]
            if number % 20 == 0:
                served.channels[-1].abort()
        assert len(served.channels) == 10
        await events.aclose()
        await subscribed(topic, 0)


async def test_nothing_is_missed_if_the_channel_is_lost_before_the_first_message(
    group: tofu.ChannelGroup,
) -> None:
    topic = tofu.Topic()
    topic.publish(1)
    async with (
        serving(group, with_topics(t=topic)) as served,
        tofu.Client(served.address, backoff=SOON) as client,
    ):
        events = client.subscribe("t", item=int)
        waiting = asyncio.create_task(anext(events))
        await until(lambda: served.channels and served.channels[0].statistics().sent > 1)
        await until(lambda: not served.channels[0].statistics().queued_bytes)
        # The beginning has left before this message, and it says where the subscription stands.
        served.channels[0].abort()
        topic.publish(2)
        event = await waiting
        assert (event.value, event.number) == (2, 2)
        await events.aclose()


@pytest.mark.usefixtures("in_order")
async def test_it_moves_to_another_service_when_one_drains(group: tofu.ChannelGroup) -> None:
    topic = tofu.Topic()
    first, second = with_topics(t=topic), with_topics(t=topic)
    async with (
        serving(group, first) as one,
        serving(group, second) as other,
        tofu.Client(one.address, other.address, backoff=SOON) as client,
    ):
        events = client.subscribe("t", item=int, after=0)
        topic.publish(1)
        await take(events, 1)
        assert (len(one.channels), len(other.channels)) == (1, 0)
        draining = asyncio.create_task(first.drain())
        for number in range(2, 50):
            topic.publish(number)
        got = await take(events, 48)
        assert numbered(got) == [(number, number, 0) for number in range(2, 50)]
        assert len(other.channels) == 1
        await draining
        await events.aclose()


async def test_a_service_that_is_served_ends_subscriptions_when_it_drains(
    group: tofu.ChannelGroup,
) -> None:
    topic = tofu.Topic()
    service = with_topics(t=topic)
    async with serving(group, service) as served, group.connect(served.address) as channel:
        async with channel.stream(headers={"call": "t"}) as exchange:
            await exchange.finish()
            await exchange.receive()
            draining = asyncio.create_task(service.drain())
            with pytest.raises(tofu.ExchangeFailed, match="the service is shutting down") as caught:
                await exchange.receive()
            assert caught.value.part is not None
            assert caught.value.part.headers["code"] == "unavailable"
        answer = await channel.request(headers={"call": "t"})
        assert answer.headers["code"] == "unavailable"
        await draining


@pytest.mark.usefixtures("in_order")
async def test_a_restart_of_the_publisher_shows(group: tofu.ChannelGroup) -> None:
    before, after = tofu.Topic(), tofu.Topic(2)
    for number in range(1, 8):
        before.publish(number)
        after.publish(-number)
    async with (
        serving(group, with_topics(t=before)) as served,
        serving(group, with_topics(t=after)) as again,
        tofu.Client(served.address, again.address, backoff=SOON) as client,
    ):
        events = client.subscribe("t", item=int, after=4)
        got = await take(events, 3)
        assert numbered(got) == [(5, 5, 0), (6, 6, 0), (7, 7, 0)]
        served.channels[0].abort()
        got += await take(events, 2)
        assert numbered(got[3:]) == [(-6, 6, None), (-7, 7, 0)]
        assert [event.epoch for event in got] == [before.epoch] * 3 + [after.epoch] * 2
        await events.aclose()


async def test_it_waits_for_a_service_that_is_not_there_yet(group: tofu.ChannelGroup) -> None:
    async with await group.listen("tcp://127.0.0.1:0") as listener:
        address = listener.address
    topic = tofu.Topic()
    topic.publish(1)
    async with tofu.Client(address, backoff=SOON) as client:
        events = client.subscribe("t", item=int, after=0)
        waiting = asyncio.create_task(anext(events))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        async with serving(group, with_topics(t=topic), str(address)):
            assert (await waiting).value == 1
            await events.aclose()


async def test_leaving_the_loop_unsubscribes(group: tofu.ChannelGroup) -> None:
    topic = tofu.Topic()
    topic.publish(1)
    async with (
        serving(group, with_topics(t=topic)) as served,
        tofu.Client(served.address) as client,
    ):
        async with aclosing(client.subscribe("t", item=int, after=0)) as events:
            async for _ in events:
                break
        await subscribed(topic, 0)
        task = asyncio.create_task(take_all(client.subscribe("t", item=int)))
        await subscribed(topic)
        task.cancel()
        await subscribed(topic, 0)
        # The channel is used again.
        assert len(served.channels) <= 2


async def test_what_another_attempt_would_not_cure_is_raised(group: tofu.ChannelGroup) -> None:
    topic = tofu.Topic()
    service = with_topics(t=topic)

    @service.handler("numbers")
    async def numbers() -> list[int]:
        return [1]

    async with (
        serving(group, service) as served,
        tofu.Client(served.address, backoff=SOON) as client,
    ):
        with pytest.raises(tofu.ServiceError, match="unimplemented: there is no handler 'u'"):
            await anext(client.subscribe("u", item=int))
        with pytest.raises(tofu.ServiceError, match="takes no payload"):
            await anext(client.subscribe("numbers", item=int))
        with pytest.raises(ValueError, match="after is -1"):
            client.subscribe("t", item=int, after=-1)
        topic.publish("text")
        with pytest.raises(
            tofu.InvalidMessage, match="topic 't' cannot be decoded: Expected `int`"
        ):
            await anext(client.subscribe("t", item=int, after=0))
        await subscribed(topic, 0)


async def test_a_message_that_is_too_long_for_the_client_is_an_error(
    group: tofu.ChannelGroup,
) -> None:
    topic = tofu.Topic()
    topic.publish(bytes(70_000))
    async with (
        serving(group, with_topics(t=topic)) as served,
        tofu.Client(served.address, max_body=65_535) as client,
    ):
        with pytest.raises(tofu.InvalidBodyLen, match="raise max_body"):
            await anext(client.subscribe("t", item=bytes, after=0))


async def test_it_ends_with_its_client(group: tofu.ChannelGroup) -> None:
    topic = tofu.Topic()
    async with serving(group, with_topics(t=topic)) as served:
        client = tofu.Client(served.address, backoff=SOON)
        waiting = asyncio.create_task(take_all(client.subscribe("t", item=int)))
        await subscribed(topic)
        await client.aclose()
        with pytest.raises(tofu.ChannelClosed):
            await waiting


async def test_over_a_channel_of_the_program_it_ends_with_that(group: tofu.ChannelGroup) -> None:
    topic = tofu.Topic()
    topic.publish(1)
    async with (
        serving(group, with_topics(t=topic)) as served,
        group.connect(served.address) as channel,
        tofu.Client(channel, backoff=SOON) as client,
    ):
        events = client.subscribe("t", item=int, after=0)
        await take(events, 1)
        served.channels[0].abort()
        with pytest.raises(tofu.ChannelClosed, match="the client has no address to connect"):
            await anext(events)


async def test_a_service_that_breaks_off_without_a_reason_is_asked_again(
    group: tofu.ChannelGroup,
) -> None:
    topic = tofu.Topic()
    service = with_topics(t=topic)
    calls: list[asyncio.Task[object]] = []

    @service.use
    async def note(call: tofu.Call, next_: Next) -> object:
        task = asyncio.current_task()
        assert task is not None
        calls.append(task)
        return await next_(call)

    async with (
        serving(group, service) as served,
        tofu.Client(served.address, backoff=SOON) as client,
    ):
        events = client.subscribe("t", item=int, after=0)
        for number in range(1, 4):
            topic.publish(number)
            assert numbered(await take(events, 1)) == [(number, number, 0)]
            calls[-1].cancel()
        await events.aclose()


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        (b"stream:1\r\n", "'t' is no topic: use client.stream"),
        (b"stream:1\r\nepoch:x\r\n", "the header seq '': it must be a number"),
        (b"stream:1\r\nepoch:x\r\nseq:-1\r\n", "the header seq '-1'"),
        (b"stream:1\r\nepoch:x\r\nseq:" + b"9" * 50 + b"\r\n", "the header seq '9999"),
    ],
)
async def test_a_publisher_that_makes_no_sense_is_an_error(
    raw_server: RawServer, headers: bytes, said: str
) -> None:
    async def publish() -> None:
        peer = await raw_server.accept()
        with peer:
            asked = await peer.message()
            await peer.send(frame(OpCode.HELLO_RESPONSE, message_id=asked.message_id))
            request = await peer.message()
            more = OpCode.RESPONSE | MORE_BIT
            await peer.send(frame(more, headers=headers, message_id=request.message_id))
            await leave(peer)

    serving = asyncio.create_task(publish())
    async with tofu.Client(raw_server.address, backoff=SOON) as client:
        with pytest.raises(tofu.InvalidMessage, match=said):
            await anext(client.subscribe("t", item=int))
    await serving


async def leave(peer: RawPeer) -> None:
    """Answer the Bye."""
    while True:
        with contextlib.suppress(AssertionError):
            message = await peer.message()
            if message.op_code is OpCode.BYE_REQUEST:
                await peer.send(frame(OpCode.BYE_RESPONSE, message_id=message.message_id))
                return
