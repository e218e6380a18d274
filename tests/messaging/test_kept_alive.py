"""A kept error keeps nothing else alive, though its traceback could refer to a lot."""

from __future__ import annotations

import asyncio
import logging
import weakref

import pytest

import tofu_aio as tofu
from tests.messaging.peers import RawPeer, hello, until
from tests.systems import needs_resets


@needs_resets
async def test_what_a_lost_channel_has_failed_with_knows_no_frames(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    """Its frames would know the messages of that moment, and so hold their permits."""
    with await RawPeer.connect(listener.address) as peer:
        await peer.send(hello(listener.address))
        channel = await listener.accept()
        await peer.message()
        await peer.reset()
    await until(lambda: channel.end is not None)
    assert isinstance(channel.end, tofu.PeerDisconnected)
    cause = channel.end.__cause__
    assert isinstance(cause, ConnectionError)
    assert cause.__traceback__ is None
    await channel.aclose()


async def test_a_log_that_keeps_its_records_keeps_no_iterator(
    group: tofu.ChannelGroup, caplog: pytest.LogCaptureFixture
) -> None:
    async with await group.listen("tcp://127.0.0.1:0") as first:
        address = first.address
    listening: list[asyncio.Task[tofu.Listener]] = []

    def listen(_: tofu.TofuError) -> None:
        if not listening:
            listening.append(asyncio.create_task(group.listen(address)))

    channels = group.reconnecting(address, backoff=tofu.Backoff(0.01, 0.01), on_failure=listen)
    alive = weakref.ref(channels)
    with caplog.at_level(logging.WARNING, "tofu_aio"):

        async def accept() -> tofu.Channel:
            await until(lambda: listening)
            return await (await listening[0]).accept()

        accepting = asyncio.create_task(accept())
        async for _channel in channels:
            break
    assert caplog.records
    del channels
    assert alive() is None
    server = await accepting
    async for _message in server:  # the Bye of the turn that was left
        pass
    await server.aclose()
