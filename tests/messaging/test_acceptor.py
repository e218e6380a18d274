"""Strangers: how many are read at once, and who comes next."""

from __future__ import annotations

import asyncio

import pytest

import tofu_aio as tofu
from tests.messaging.peers import until
from tofu_aio.messaging import acceptor


async def test_more_strangers_than_can_be_hosted_wait_unread(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "PENDING_CHANNELS", 2)
    async with await group.listen("tcp://127.0.0.1:0") as listener:
        connects = [asyncio.create_task(group.connect(listener.address)) for _ in range(5)]
        channels = [await listener.accept() for _ in range(2)]
        # Two were taken, so two more may be read; the fifth waits for one of those.
        await until(lambda: len(listener._acceptor._waiting) == 1)
        waiting = next(iter(listener._acceptor._waiting))
        await until(lambda: not waiting.transport.is_reading())
        channels += [await listener.accept() for _ in range(3)]
        clients = await asyncio.gather(*connects)
        for channel in (*channels, *clients):
            await channel.aclose()


async def test_a_stranger_that_leaves_makes_room(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "PENDING_CHANNELS", 1)
    async with await group.listen("tcp://127.0.0.1:0") as listener:
        assert isinstance(listener.address, tofu.TcpAddress)
        _, silent = await asyncio.open_connection("127.0.0.1", listener.address.port)
        await until(lambda: len(listener._acceptor._introducing) == 1)
        connect = asyncio.create_task(group.connect(listener.address))
        await until(lambda: len(listener._acceptor._waiting) == 1)
        silent.close()
        channel = await listener.accept()
        client = await connect
        await channel.aclose()
        await client.aclose()
        await silent.wait_closed()


async def test_closing_the_listener_drops_those_who_wait(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "PENDING_CHANNELS", 1)
    listener = await group.listen("tcp://127.0.0.1:0")
    connects = [asyncio.create_task(group.connect(listener.address)) for _ in range(3)]
    await until(lambda: len(listener._acceptor._waiting) == 2)
    await listener.aclose()
    for connect in connects:
        with pytest.raises(tofu.ConnectFailed):
            await connect
