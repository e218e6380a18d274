"""``Exchange.send_nowait``: a part is sent at once or not at all."""

from __future__ import annotations

import asyncio

import pytest
from anyio import BusyResourceError, WouldBlock

import tofu_aio as tofu
from tests.messaging.peers import Pair, answers_of, met, until
from tests.messaging.test_exchange import answering, both, stuffed, whole
from tofu_aio.messaging.delivery import pending_requests
from tofu_aio.messaging.exchange import Exchange
from tofu_aio.messaging.limits import WRITE_HIGH_WATER
from tofu_aio.protocol.binary_header import HEADER_SIZE, MAX_PART


async def send_on(exchange: Exchange, body: bytes) -> None:
    """Until there is no room."""
    while True:
        exchange.send_nowait(body)
        await asyncio.sleep(0)


async def test_parts_arrive_in_order_with_their_headers(pair: Pair) -> None:
    async with pair.client.stream(headers={"A": "1"}) as asking:
        asking.send_nowait(b"0", {"B": "2"})
        await asking.send(b"1")
        asking.send_nowait(memoryview(b"2"))
        await asking.finish(b"3")
        async with await answering(pair.server) as answer:
            parts = [(part.body, dict(part.headers)) async for part in answer]
            answer.send_nowait(b"!")
            await answer.finish()
        assert parts == [(b"0", {"A": "1", "B": "2"}), (b"1", {}), (b"2", {}), (b"3", {})]
        assert await whole(asking) == b"!"


async def test_without_room_nothing_is_sent(group: tofu.ChannelGroup) -> None:
    async with met(group) as (peer, channel), channel.stream() as exchange:
        exchange.send_nowait(b"first")
        with pytest.raises(WouldBlock):
            await send_on(exchange, bytes(MAX_PART))
        queued, sent = channel.statistics().queued_bytes, channel.statistics().sent
        with pytest.raises(WouldBlock):
            exchange.send_nowait(b"")
        assert (channel.statistics().queued_bytes, channel.statistics().sent) == (queued, sent)
        assert queued <= WRITE_HIGH_WATER + HEADER_SIZE + MAX_PART
        while channel.statistics().queued_bytes:
            await peer.message()
        exchange.send_nowait(b"again")
        channel.abort()


async def test_tasks_that_wait_for_room_come_first(group: tofu.ChannelGroup) -> None:
    async with met(group) as (_, channel), channel.stream() as one, channel.stream() as other:
        sender = await stuffed(one, channel)
        with pytest.raises(WouldBlock):
            other.send_nowait(b"")
        with pytest.raises(BusyResourceError):
            one.send_nowait(b"")
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)
        channel.abort()


async def test_an_item_that_is_longer_than_a_part_is_refused(tcp_pair: Pair) -> None:
    async with both(tcp_pair) as (asking, answer):
        with pytest.raises(tofu.InvalidBodyLen, match="may have at most 65535"):
            asking.send_nowait(bytes(MAX_PART + 1))
        asking.send_nowait(bytes(MAX_PART))
        await asking.finish()
        assert len(await whole(answer)) == 1 + MAX_PART
        await answer.finish()


async def test_what_has_ended_says_why(tcp_pair: Pair) -> None:
    async with both(tcp_pair) as (asking, answer):
        await asking.finish()
        with pytest.raises(tofu.ChannelClosed, match="the last part was sent already"):
            asking.send_nowait(b"")
        await asking.aclose()
        with pytest.raises(tofu.ExchangeFailed):
            await send_on(answer, b"")
    async with tcp_pair.client.stream() as left:
        pass
    with pytest.raises(tofu.ChannelClosed, match="the exchange was left"):
        left.send_nowait(b"")


async def test_a_request_too_many_does_not_begin(
    tcp_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending_requests, "EXCHANGES_BEGUN", 1)
    client, _ = tcp_pair
    async with client.stream() as one:
        with pytest.raises(tofu.InvalidBodyLen):
            one.send_nowait(bytes(MAX_PART + 1))  # it took no slot
        one.send_nowait(b"1")
        async with client.stream() as other:
            with pytest.raises(WouldBlock):
                other.send_nowait(b"2")
            await one.aclose()
            await until(lambda: answers_of(client).slots._free)
            other.send_nowait(b"2")
