"""Channels as streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

import tofu_aio as tofu
from tofu_aio import OpCode


class Pair(NamedTuple):
    """Both ends of one channel."""

    client: tofu.Channel
    server: tofu.Channel


@pytest.fixture
async def pair(group: tofu.ChannelGroup, address: str) -> AsyncIterator[Pair]:
    """A channel over each kind of address, seen from both sides."""
    async with await group.listen(address) as listener:
        client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
        async with client, server:
            yield Pair(client, server)


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
