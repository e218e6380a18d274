"""Statistics of an engine and a channel."""

from __future__ import annotations

import asyncio
from dataclasses import FrozenInstanceError

import pytest

import tofu_aio as tofu
from tests.messaging.peers import Pair
from tofu_aio import OpCode
from tofu_aio.protocol.binary_header import HEADER_SIZE


async def test_statistics_count_what_happened(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    await client.signal(b"x")
    await server.receive()
    assert (client.statistics().sent, client.statistics().received) == (2, 1)
    assert (server.statistics().sent, server.statistics().received) == (1, 2)
    assert client.statistics().queued_bytes == 0
    client.post(tofu.Message(OpCode.SIGNAL, b"12345"))
    assert client.statistics().queued_bytes == 21


async def test_a_snapshot_cannot_be_changed(engine: tofu.Engine, tcp_pair: Pair) -> None:
    for snapshot in (engine.statistics(), tcp_pair.client.statistics()):
        with pytest.raises(FrozenInstanceError):
            snapshot.suspensions = 1  # type: ignore[misc]


async def test_an_engine_counts_what_its_channels_send_and_receive(address: str) -> None:
    async with tofu.Engine() as ours, tofu.Engine() as theirs:
        group, peers = ours.create_group(), theirs.create_group()
        async with await peers.listen(address) as listener:
            client, server = await asyncio.gather(
                group.connect(listener.address), listener.accept()
            )
            before = ours.statistics()
            assert (before.sent, before.received) == (1, 1)  # the Hello and its answer
            await client.signal(bytes(1000))
            await client.signal(bytes(50_000))
            for _ in range(2):
                (await server.receive()).release()
            after = ours.statistics()
            assert after.sent_bytes - before.sent_bytes == 51_000 + 2 * HEADER_SIZE
            assert after.sent == 3
            there = theirs.statistics()
            assert (there.received, there.sent) == (3, 1)
            assert there.received_bytes == after.sent_bytes
            await client.aclose()
            await server.aclose()
            ended = ours.statistics(), theirs.statistics()
    assert [each.channels for each in ended] == [0, 1]  # the listener is left
    assert [(each.sent, each.received) for each in ended] == [(4, 2), (2, 4)]
    assert ended[0].sent_bytes == ended[1].received_bytes > after.sent_bytes
    assert ended[1].sent_bytes == ended[0].received_bytes
