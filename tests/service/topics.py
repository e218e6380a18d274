"""Services with topics, and subscribers that do not read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import tofu_aio as tofu
from tests.messaging.peers import RawPeer, frame, hello
from tofu_aio import Message, OpCode


class Served:
    """A service that is served, and the channels that it has had."""

    def __init__(self, listener: tofu.Listener) -> None:
        self.address = listener.address
        self.channels: list[tofu.Channel] = []

    async def handle(self, channel: tofu.Channel, service: tofu.Service) -> None:
        self.channels.append(channel)
        await service.handle(channel)


@contextlib.asynccontextmanager
async def serving(
    group: tofu.ChannelGroup, service: tofu.Service, address: str = "tcp://127.0.0.1:0"
) -> AsyncIterator[Served]:
    """Serve until the end of the block."""
    listener = await group.listen(address)
    served = Served(listener)
    task = asyncio.create_task(listener.serve(lambda channel: served.handle(channel, service)))
    try:
        yield served
    finally:
        await listener.aclose()
        await task


def with_topics(**topics: tofu.Topic) -> tofu.Service:
    """A service with topics of these names."""
    service = tofu.Service()
    for name, topic in topics.items():
        service.topic(name, topic)
    return service


async def raw_subscriber(address: tofu.Address, name: str, payload: bytes = b"") -> RawPeer:
    """A subscriber that has read the beginning of its subscription, and nothing else yet."""
    peer = await RawPeer.connect(address)
    try:
        await peer.send(hello(address))
        await peer.message()
        headers = f"call:{name}\r\n" + ("content-type:application/json\r\n" if payload else "")
        await peer.send(frame(OpCode.REQUEST, payload, headers.encode(), message_id=7))
        first = await peer.message()
    except BaseException:
        peer.close()
        raise
    assert (first.body, first.headers.get("stream")) == (b"", "1"), first
    return peer


async def parts(peer: RawPeer) -> AsyncIterator[Message]:
    """All parts that a subscriber is sent, to the last one."""
    while True:
        part = await peer.message()
        if part.message_id:  # no heartbeat
            yield part
            if not part.more:
                return
