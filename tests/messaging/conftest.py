"""What the messaging tests share: channels seen from both sides, and an ear for the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import pytest

import tofu_aio as tofu
from tests.messaging.peers import Pair, RawServer
from tests.systems import heard_by_loop


@pytest.fixture(autouse=True)
async def nothing_goes_unheard(nothing_left_behind: None) -> AsyncIterator[list[dict[str, Any]]]:
    """What the loop hears of fails the test."""
    heard = heard_by_loop()
    yield heard
    for _ in range(3):
        await asyncio.sleep(0)
    assert not heard, f"the loop heard of {heard}"


class Connect(Protocol):
    """Makes a channel and shows both of its ends, each perhaps of another group."""

    def __call__(
        self, client: tofu.ChannelGroup, server: tofu.ChannelGroup | None = None, /
    ) -> AbstractAsyncContextManager[Pair]: ...


@asynccontextmanager
async def closing_both(client: tofu.Channel, server: tofu.Channel) -> AsyncIterator[Pair]:
    """Close both at once: one alone waits for the other to receive what it was sent."""
    try:
        yield Pair(client, server)
    finally:
        await asyncio.gather(client.aclose(), server.aclose())


@pytest.fixture
def both_ends() -> Connect:
    """Channels over TCP, as many as a test wants."""

    @asynccontextmanager
    async def make(
        client_group: tofu.ChannelGroup, server_group: tofu.ChannelGroup | None = None
    ) -> AsyncIterator[Pair]:
        async with await (server_group or client_group).listen("tcp://127.0.0.1:0") as listener:
            client, server = await asyncio.gather(
                client_group.connect(listener.address), listener.accept()
            )
        async with closing_both(client, server) as pair:
            yield pair

    return make


@pytest.fixture
async def pair(group: tofu.ChannelGroup, transport_address: str) -> AsyncIterator[Pair]:
    """A channel over each kind of transport, seen from both sides."""
    async with await group.listen(transport_address) as listener:
        client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
        async with closing_both(client, server) as pair:
            yield pair


@pytest.fixture
async def tcp_pair(group: tofu.ChannelGroup, both_ends: Connect) -> AsyncIterator[Pair]:
    """A channel over TCP, seen from both sides, where the kind of address does not matter."""
    async with both_ends(group) as pair:
        yield pair


@pytest.fixture
async def listener(group: tofu.ChannelGroup) -> AsyncIterator[tofu.Listener]:
    """A listener over TCP."""
    async with await group.listen("tcp://127.0.0.1:0") as listener:
        yield listener


@pytest.fixture
def raw_server() -> Iterator[RawServer]:
    """A server that is no tofu peer, or not a good one."""
    with RawServer() as server:
        yield server
