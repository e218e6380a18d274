"""Topics: exact delivery, each kind of slow subscriber, and the bound of what is kept for them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

import tofu_aio as tofu
from tests.conftest import HAS_UDS
from tests.messaging.peers import RawPeer, until
from tests.service.topics import Served, parts, raw_subscriber, serving, with_topics
from tofu_aio import Status
from tofu_aio.protocol.binary_header import MAX_PART
from tofu_aio.service.feed import Feed
from tofu_aio.service.pump import FEEDS
from tofu_aio.transport.limits import WRITE_HIGH_WATER

LONG = bytes(range(256)) * 1024
"""Five parts."""


class Reading(msgspec.Struct):
    sensor: str
    value: float


@pytest.fixture
def place(request: pytest.FixtureRequest) -> str:
    """Where the kernel takes little for a peer that does not read."""
    return f"uds://{request.getfixturevalue('socket_path')}" if HAS_UDS else "tcp://127.0.0.1:0"


async def subscribed(topic: tofu.Topic, count: int = 1) -> None:
    await until(lambda: topic.statistics().subscribers == count)


async def take(events: AsyncIterator[tofu.Event[Any]], count: int) -> list[tofu.Event[Any]]:
    return [await anext(events) for _ in range(count)]


def numbered(events: list[tofu.Event[Any]]) -> list[tuple[object, int, int | None]]:
    return [(event.value, event.number, event.missed) for event in events]


@contextlib.asynccontextmanager
async def stopped(served: Served, topic: tofu.Topic, name: str = "t") -> AsyncIterator[RawPeer]:
    """A subscriber that does not read, once no more can be sent to it."""
    with await raw_subscriber(served.address, name) as peer:
        yield peer
    await subscribed(topic, 0)


# --- publishing ----------------------------------------------------------------------------


def test_messages_are_numbered_and_the_latest_are_kept_without_a_loop_or_subscribers() -> None:
    topic = tofu.Topic(100)
    assert [topic.publish(number) for number in range(5000)] == list(range(1, 5001))
    now = topic.statistics()
    assert (now.published, now.messages, now.skipped, now.subscribers) == (5000, 100, 0, 0)


def test_the_ring_is_bounded_in_bytes() -> None:
    topic = tofu.Topic(1000, 10 * (1000 + 64))
    for _ in range(20):
        topic.publish(bytes(1000))
    assert (topic.statistics().messages, topic.statistics().bytes) == (10, 10 * 1064)
    topic.publish(bytes(5 * 1064 - 64))
    assert (topic.statistics().messages, topic.statistics().bytes) == (6, 10 * 1064)


def test_a_message_that_the_ring_has_no_room_for_is_refused() -> None:
    topic = tofu.Topic(capacity_bytes=1064)
    topic.publish(bytes(1000))
    with pytest.raises(tofu.InvalidBodyLen, match="has 1001 bytes, and the ring has room for 1000"):
        topic.publish(bytes(1001))
    assert topic.statistics().messages == 1


def test_what_cannot_be_encoded_is_not_published() -> None:
    topic = tofu.Topic()
    with pytest.raises(TypeError):
        topic.publish(object())
    assert topic.statistics().published == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"slow": "drop"}, "slow is 'drop'"),
        ({"capacity": 0}, "capacity"),
        ({"capacity_bytes": 64}, "capacity_bytes"),
        ({"max_subscribers": 0}, "max_subscribers"),
    ],
)
def test_an_argument_without_a_meaning_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        tofu.Topic(**options)


async def test_publishing_in_another_thread_is_an_error_once_there_are_subscribers() -> None:
    topic = tofu.Topic()
    events = topic.subscribe(item=int)
    waiting = asyncio.create_task(anext(events))
    await subscribed(topic)
    with pytest.raises(RuntimeError, match="no running event loop"):
        await asyncio.to_thread(topic.publish, 1)
    assert topic.publish(2) == 1
    assert (await waiting).value == 2
    await events.aclose()


# --- subscribing ---------------------------------------------------------------------------


async def test_all_subscribers_get_each_message_which_is_encoded_once(
    group: tofu.ChannelGroup,
) -> None:
    class Counting:
        content_type = "application/json"
        encoded = 0

        def encode(self, value: object) -> bytes:
            self.encoded += 1
            return msgspec.json.encode(value)

        decode = staticmethod(tofu.JSON.decode)

    codec = Counting()
    topic = tofu.Topic(codec=codec)
    async with (
        serving(group, with_topics(t=topic)) as served,
        tofu.Client(served.address) as client,
    ):
        each = [client.subscribe("t", item=Reading) for _ in range(3)]
        waiting = [asyncio.create_task(take(events, 20)) for events in each]
        await subscribed(topic, 3)
        sent = [Reading("a", number) for number in range(20)]
        for reading in sent:
            topic.publish(reading)
        for got in await asyncio.gather(*waiting):
            assert numbered(got) == [(reading, n, 0) for n, reading in enumerate(sent, 1)]
        for events in each:
            await events.aclose()
        assert codec.encoded == 20
        await subscribed(topic, 0)


async def test_more_subscribers_than_are_served_in_a_turn_get_everything(
    group: tofu.ChannelGroup,
) -> None:
    topic = tofu.Topic()
    async with (
        serving(group, with_topics(t=topic)) as served,
        group.connect(served.address) as channel,
        tofu.Client(channel, streams=FEEDS + 20) as client,
    ):
        each = [client.subscribe("t", item=int) for _ in range(FEEDS + 20)]
        waiting = [asyncio.create_task(take(events, 3)) for events in each]
        await subscribed(topic, FEEDS + 20)
        topic.publish(1)
        await asyncio.sleep(0)
        topic.publish(2)  # in the middle of the round
        topic.publish(3)
        for got in await asyncio.gather(*waiting):
            assert numbered(got) == [(1, 1, 0), (2, 2, 0), (3, 3, 0)]
        for events in each:
            await events.aclose()
        await subscribed(topic, 0)


async def test_a_feed_that_fails_takes_no_turn_from_those_behind_it(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch, errors: list[logging.LogRecord]
) -> None:
    topic = tofu.Topic()
    async with (
        serving(group, with_topics(t=topic)) as served,
        tofu.Client(served.address) as client,
    ):
        each = [client.subscribe("t", item=int) for _ in range(3)]
        waiting = [asyncio.create_task(take(events, 2)) for events in each]
        await subscribed(topic, 3)
        last = list(topic.pump.feeds)[-1]  # it is pushed first
        assert isinstance(last, Feed)
        assert last._exchange is not None
        monkeypatch.setattr(last._exchange, "send_nowait", None)
        topic.publish(1)
        topic.publish(2)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        failed = [error for error in results if isinstance(error, tofu.ServiceError)]
        assert [error.code for error in failed] == ["internal"]
        for got in results:
            if isinstance(got, list):
                assert numbered(got) == [(1, 1, 0), (2, 2, 0)]
        for events in each:
            await events.aclose()
        await subscribed(topic, 0)
    assert len(errors) == 1
    errors.clear()


@pytest.mark.parametrize(
    ("after", "first", "missed"),
    [(95, 96, 0), (90, 91, 0), (89, 91, 1), (50, 91, 40), (0, 91, 90)],
)
async def test_a_subscriber_resumes_after_a_number_as_far_as_the_ring_has_it(
    group: tofu.ChannelGroup, after: int, first: int, missed: int
) -> None:
    topic = tofu.Topic(10)
    for number in range(1, 101):
        topic.publish(number)
    async with (
        serving(group, with_topics(t=topic)) as served,
        tofu.Client(served.address) as client,
    ):
        for events in (
            client.subscribe("t", item=int, after=after, epoch=topic.epoch),
            topic.subscribe(item=int, after=after, epoch=topic.epoch),
        ):
            got = await take(events, 101 - first)
            rest = [(number, number, 0) for number in range(first + 1, 101)]
            assert numbered(got) == [(first, first, missed), *rest]
            await events.aclose()


@pytest.mark.parametrize(("after", "epoch"), [(3, "another"), (3000, "")])
async def test_a_subscriber_of_an_earlier_run_gets_all_that_there_is_and_hears_of_the_restart(
    group: tofu.ChannelGroup, after: int, epoch: str
) -> None:
    topic = tofu.Topic(10)
    for number in range(1, 21):
        topic.publish(number)
    async with (
        serving(group, with_topics(t=topic)) as served,
        tofu.Client(served.address) as client,
    ):
        for events in (
            client.subscribe("t", item=int, after=after, epoch=epoch),
            topic.subscribe(item=int, after=after, epoch=epoch),
        ):
            got = await take(events, 2)
            assert numbered(got) == [(11, 11, None), (12, 12, 0)]
            assert got[0].epoch == topic.epoch
            await events.aclose()


async def test_long_messages_and_bytes_arrive_as_they_are(group: tofu.ChannelGroup) -> None:
    topic = tofu.Topic()
    values: list[object] = [LONG, "x" * 200_000, b"", {"a": 1}, b"short", bytes(MAX_PART), None]
    async with (
        serving(group, with_topics(t=topic)) as served,
        tofu.Client(served.address, codec=tofu.MSGPACK) as client,
    ):
        events = client.subscribe("t", item=object)
        waiting = asyncio.create_task(take(events, len(values)))
        await subscribed(topic)
        for value in values:
            topic.publish(value)
        assert [event.value for event in await waiting] == values
        await events.aclose()
        # A topic is a stream like any other, for who does not know topics.
        stream = client.stream("t", {"after": 0}, item=object)
        assert [await anext(stream) for _ in values] == values
        await stream.aclose()
        await subscribed(topic, 0)


async def test_on_the_wire_a_subscription_is_a_stream_with_numbered_items(
    group: tofu.ChannelGroup,
) -> None:
    topic = tofu.Topic(2)
    for number in (1, 2, 3):
        topic.publish(number)
    async with (
        serving(group, with_topics(t=topic)) as served,
        group.connect(served.address) as channel,
        channel.stream(headers={"call": "t"}) as exchange,
    ):
        await exchange.finish(b'{"after":0}', {"content-type": "application/json"})
        got = [await exchange.receive() for _ in range(3)]
    assert [(dict(part.headers), part.body) for part in got] == [
        (
            {"stream": "1", "content-type": "application/json", "epoch": topic.epoch, "seq": "0"},
            b"",
        ),
        ({"seq": "2", "missed": "1"}, b"2"),
        ({"seq": "3"}, b"3"),
    ]


async def test_two_topics_share_nothing(group: tofu.ChannelGroup) -> None:
    one, two = tofu.Topic(), tofu.Topic()
    async with (
        serving(group, with_topics(one=one, two=two)) as served,
        tofu.Client(served.address) as client,
    ):
        first, second = client.subscribe("one", item=str), client.subscribe("two", item=str)
        waiting = [asyncio.create_task(anext(events)) for events in (first, second)]
        await subscribed(one)
        await subscribed(two)
        assert (two.publish("b"), one.publish("a")) == (1, 1)
        assert [event.value for event in await asyncio.gather(*waiting)] == ["a", "b"]
        await first.aclose()
        await second.aclose()


async def test_subscribers_share_a_channel_with_calls(group: tofu.ChannelGroup) -> None:
    topic = tofu.Topic()
    service = with_topics(t=topic)

    @service.handler("echo")
    async def echo(value: int) -> int:
        return value

    async with (
        serving(group, service) as served,
        group.connect(served.address) as channel,
        tofu.Client(channel) as client,
    ):
        events = client.subscribe("t", item=int, after=0)
        topic.publish(1)
        for number in range(1, 20):
            assert (await anext(events)).value == number
            assert await client.call("echo", number, result=int) == number
            topic.publish(number + 1)
        await events.aclose()


async def test_middleware_decides_who_may_subscribe(group: tofu.ChannelGroup) -> None:
    service = with_topics(t=tofu.Topic())

    @service.use
    async def refuse(call: tofu.Call, next_: Any) -> object:
        raise tofu.ServiceError("permission_denied", call.name)

    async with serving(group, service) as served, tofu.Client(served.address) as client:
        with pytest.raises(tofu.ServiceError, match="permission_denied: t"):
            await anext(client.subscribe("t", item=int))


async def test_one_subscriber_too_many_is_refused(group: tofu.ChannelGroup) -> None:
    topic = tofu.Topic(max_subscribers=1)
    topic.publish(1)
    async with (
        serving(group, with_topics(t=topic)) as served,
        tofu.Client(served.address) as client,
    ):
        events = topic.subscribe(item=int, after=0)
        await anext(events)
        for more in (client.subscribe("t", item=int), topic.subscribe(item=int)):
            with pytest.raises(tofu.ServiceError, match="too many subscribers") as caught:
                await anext(more)
            assert caught.value.code == "resource_exhausted"
        await events.aclose()
        events = client.subscribe("t", item=int, after=0)
        await anext(events)
        await events.aclose()


@pytest.mark.parametrize("payload", [b'{"after":-1}', b'{"after":"x"}', b"[]"])
async def test_a_request_that_makes_no_sense_is_refused(
    group: tofu.ChannelGroup, payload: bytes
) -> None:
    async with (
        serving(group, with_topics(t=tofu.Topic())) as served,
        group.connect(served.address) as channel,
    ):
        headers = {"call": "t", "content-type": "application/json"}
        answer = await channel.request(payload, headers)
        assert answer.headers["code"] == "invalid_argument"


def test_a_topic_has_a_name_of_its_own() -> None:
    service = with_topics(t=tofu.Topic())
    with pytest.raises(ValueError, match="there is a handler 't' already"):
        service.topic("t", tofu.Topic())
    with pytest.raises(TypeError, match=r"give a tofu\.Topic"):
        service.topic("u", object())  # type: ignore[arg-type]


# --- the end -------------------------------------------------------------------------------


async def test_a_topic_that_is_closed_sends_what_is_left_and_ends(
    group: tofu.ChannelGroup,
) -> None:
    topic = tofu.Topic()
    async with (
        serving(group, with_topics(t=topic)) as served,
        tofu.Client(served.address) as client,
    ):
        waiting = [
            asyncio.create_task(take_all(events))
            for events in (client.subscribe("t", item=object), topic.subscribe(item=object))
        ]
        await subscribed(topic, 2)
        for _ in range(3):
            topic.publish(LONG)
        topic.close()
        with pytest.raises(tofu.ChannelClosed, match="the topic was closed"):
            topic.publish(1)
        for got in await asyncio.gather(*waiting):
            assert [event.value for event in got] == [LONG] * 3
        # Who comes later still gets what the ring has.
        late = await take_all(client.subscribe("t", item=object, after=1))
        assert [event.number for event in late] == [2, 3]


async def take_all(events: AsyncIterator[tofu.Event[Any]]) -> list[tofu.Event[Any]]:
    return [event async for event in events]


async def test_a_topic_that_is_closed_while_a_subscriber_does_not_read_waits_for_it(
    group: tofu.ChannelGroup,
    place: str,
) -> None:
    topic = tofu.Topic()
    async with (
        serving(group, with_topics(t=topic), place) as served,
        stopped(served, topic) as peer,
    ):
        for _ in range(1000):
            topic.publish(bytes(10_000))
        await settled(served)
        topic.close()
        numbers = [part.headers.get("seq") async for part in parts(peer)]
        assert numbers == [*map(str, range(1, 1001)), None]
        await subscribed(topic, 0)


async def settled(served: Served) -> None:
    """Wait until the channels take no more."""
    before: object = None
    calm = 0
    while calm < 20:
        await asyncio.sleep(0.001)
        now = [(each.statistics().sent, each.statistics().queued_bytes) for each in served.channels]
        calm = calm + 1 if now == before else 0
        before = now


async def test_a_subscriber_that_is_killed_is_forgotten(
    group: tofu.ChannelGroup, place: str
) -> None:
    topic = tofu.Topic()
    async with serving(group, with_topics(t=topic), place) as served:
        peer = await raw_subscriber(served.address, "t")
        for _ in range(100):
            topic.publish(bytes(50_000))
        await settled(served)
        assert topic.statistics().subscribers == 1
        await peer.reset()
        await subscribed(topic, 0)
        assert topic.statistics().leaving_bytes == 0


# --- slow subscribers ----------------------------------------------------------------------

kernel_bounds = pytest.mark.skipif(
    sys.platform == "win32",
    reason="Windows takes far more than its buffers hold for a peer that does not read",
)


@kernel_bounds
@pytest.mark.parametrize("size", [100, 40_000, 150_000])
async def test_a_subscriber_that_stops_misses_messages_and_hears_how_many(
    group: tofu.ChannelGroup, place: str, size: int
) -> None:
    topic = tofu.Topic(20)
    count = 200 if size > 1000 else 6_000
    async with (
        serving(group, with_topics(t=topic), place) as served,
        tofu.Client(served.address) as client,
        stopped(served, topic) as peer,
    ):
        events = client.subscribe("t", item=bytes, after=0)
        await anext_soon(topic, events)
        for number in range(2, count + 1):
            topic.publish(b"%d" % number + bytes(size))
            if number % 10 == 0:
                got = await take(events, 10 if number > 10 else 9)
                assert [event.missed for event in got] == [0] * len(got)
                assert got[-1].value.startswith(b"%d\0" % number)
        await events.aclose()
        topic.close()
        seen = last = missed = 0
        async for part in parts(peer):
            if "seq" in part.headers:
                seen += 1
                missed += int(part.headers.get("missed", "0"))
                last = int(part.headers["seq"])
                assert last == seen + missed
        assert last == count
        assert missed > 0
        await subscribed(topic, 0)
        assert topic.statistics().skipped == missed


async def anext_soon(topic: tofu.Topic, events: AsyncIterator[tofu.Event[Any]]) -> None:
    """Publish one message, and take it."""
    topic.publish(b"1\0")
    assert (await anext(events)).value == b"1\0"


async def test_a_subscriber_that_stops_is_disconnected_if_the_topic_says_so(
    group: tofu.ChannelGroup,
    place: str,
) -> None:
    topic = tofu.Topic(20, slow="disconnect")
    async with (
        serving(group, with_topics(t=topic), place) as served,
        tofu.Client(served.address) as client,
        stopped(served, topic) as peer,
    ):
        events = client.subscribe("t", item=bytes, after=0)
        await anext_soon(topic, events)
        for _ in range(1000):
            topic.publish(bytes(10_000))
            assert (await anext(events)).missed == 0
            if topic.statistics().disconnected:
                break
        last = [part async for part in parts(peer)][-1]
        assert (last.status, last.headers["code"]) == (
            Status.ALLOCATION_FAILED,
            "resource_exhausted",
        )
        assert b"the subscriber was too slow: it had not taken message" in last.body
        await subscribed(topic, 1)
        assert topic.statistics().disconnected == 1
        await events.aclose()


@kernel_bounds
async def test_a_topic_that_waits_loses_nothing(group: tofu.ChannelGroup, place: str) -> None:
    topic = tofu.Topic(20, slow="wait")
    async with (
        serving(group, with_topics(t=topic), place) as served,
        tofu.Client(served.address) as client,
        stopped(served, topic) as peer,
    ):
        events = client.subscribe("t", item=bytes, after=0)
        await anext_soon(topic, events)
        with pytest.raises(tofu.TopicFull, match="1 of 2 subscribers have not taken message"):
            await publish_on(topic, lambda: anext(events))
        published = topic.statistics().published
        cancelled = asyncio.create_task(topic.send(b"cancelled"))
        sending = [asyncio.create_task(topic.send(bytes(10_000))) for _ in range(30)]
        await settled(served)
        assert topic.statistics().published == published
        cancelled.cancel()
        reading = asyncio.create_task(take(events, 30))
        closing = asyncio.create_task(close_after(topic, sending))
        numbers = [int(part.headers["seq"]) async for part in parts(peer) if part.more]
        assert numbers == list(range(1, published + 31))
        assert [event.number for event in await reading] == numbers[-30:]
        await closing
        await events.aclose()


async def publish_on(topic: tofu.Topic, then: Callable[[], Awaitable[object]]) -> None:
    """Until there is no room."""
    for _ in range(1000):
        topic.publish(bytes(10_000))
        await then()


async def close_after(topic: tofu.Topic, sending: list[asyncio.Task[int]]) -> None:
    numbers = await asyncio.gather(*sending)
    assert numbers == sorted(numbers)
    topic.close()


@kernel_bounds
@pytest.mark.parametrize("how", ["reset", "close"])
async def test_a_publisher_that_waits_goes_on_when_the_slow_subscriber_goes(
    group: tofu.ChannelGroup, place: str, how: str
) -> None:
    topic = tofu.Topic(1, slow="wait")
    async with serving(group, with_topics(t=topic), place) as served:
        peer = await raw_subscriber(served.address, "t")
        with pytest.raises(tofu.TopicFull):
            await publish_on(topic, lambda: settled(served))
        sending = asyncio.create_task(topic.send(1))
        await settled(served)
        assert not sending.done()
        if how == "reset":
            await peer.reset()
            assert await sending == topic.statistics().published
        else:
            topic.close()
            with pytest.raises(tofu.ChannelClosed, match="the topic was closed"):
                await sending
            peer.close()
        await subscribed(topic, 0)


async def test_a_task_of_this_process_may_be_slow_too() -> None:
    skip, wait, disconnect = (tofu.Topic(2, slow=slow) for slow in ("skip", "wait", "disconnect"))
    each = [topic.subscribe(item=int, after=0) for topic in (skip, wait, disconnect)]
    for topic, events in zip((skip, wait, disconnect), each, strict=True):
        topic.publish(1)
        assert (await anext(events)).value == 1
        topic.publish(2)
        topic.publish(3)
    skip.publish(4)
    assert numbered(await take(each[0], 2)) == [(3, 3, 1), (4, 4, 0)]
    with pytest.raises(tofu.TopicFull):
        wait.publish(4)
    sending = asyncio.create_task(wait.send(4))
    assert numbered(await take(each[1], 1)) == [(2, 2, 0)]
    assert await sending == 4
    disconnect.publish(4)
    with pytest.raises(tofu.ServiceError, match="resource_exhausted: the subscriber was too slow"):
        await anext(each[2])
    for events in each:
        await events.aclose()


async def test_send_gives_other_tasks_a_turn() -> None:
    topic = tofu.Topic(100)
    events = topic.subscribe(item=int, after=0)
    reading = asyncio.create_task(take(events, 1000))
    for number in range(1, 1001):
        await topic.send(number)
    assert numbered(await reading) == [(number, number, 0) for number in range(1, 1001)]
    await events.aclose()


# --- the bound -----------------------------------------------------------------------------


@kernel_bounds
@pytest.mark.parametrize("size", [10, 1000, 30_000, 60_000, 200_000])
async def test_what_is_queued_for_subscribers_that_do_not_read_is_bounded(
    group: tofu.ChannelGroup, place: str, size: int
) -> None:
    topic = tofu.Topic(50, 2_000_000)
    async with (
        serving(group, with_topics(t=topic), place) as served,
        contextlib.AsyncExitStack() as stack,
    ):
        peers = [await raw_subscriber(served.address, "t") for _ in range(5)]
        for peer in peers:
            stack.enter_context(peer)
        highest = 0
        for _ in range(max(20, 50_000 // (size + 100))):
            for _ in range(40):
                topic.publish(bytes(size))
            await asyncio.sleep(0)
            now = topic.statistics()
            assert now.bytes <= 2_000_000
            assert now.leaving_bytes <= 2_000_000
            queued = max(each.statistics().queued_bytes for each in served.channels)
            highest = max(highest, queued)
        assert highest > WRITE_HIGH_WATER // 2  # they were stopped indeed
        assert highest <= WRITE_HIGH_WATER + 16 * 1024 + MAX_PART + 200
    await subscribed(topic, 0)
    assert topic.statistics().leaving_bytes == 0


@kernel_bounds
async def test_subscribers_that_stop_in_long_messages_do_not_keep_more_than_a_ring(
    group: tofu.ChannelGroup,
    place: str,
) -> None:
    topic = tofu.Topic(1, 1_000_000)
    async with serving(group, with_topics(t=topic), place) as served:
        async with contextlib.AsyncExitStack() as stack:
            peers = []
            for _ in range(3):
                # Each of them stops in the middle of another message.
                peers.append(stack.enter_context(await raw_subscriber(served.address, "t")))
                for _ in range(5):
                    topic.publish(bytes(600_000))
                    await settled(served)
                assert 0 < topic.statistics().leaving_bytes <= 1_000_000
            topic.close()
            ends = [[part async for part in parts(peer)][-1] for peer in peers]
        await subscribed(topic, 0)
    codes = [end.headers.get("code") for end in ends]
    assert codes == ["unavailable", "unavailable", None]
    assert topic.statistics().leaving_bytes == 0
