"""Statistics of an engine and a channel."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

import tofu_aio as tofu
from tests.messaging.peers import Pair
from tofu_aio import OpCode


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
