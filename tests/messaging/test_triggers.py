"""The triggers of a channel."""

from __future__ import annotations

import tofu_aio as tofu
from tests.messaging.peers import Pair, until
from tofu_aio import OpCode, Triggers


async def test_triggers_tell_what_a_channel_waits_for(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    assert client.triggers == Triggers.RECV
    client.post(tofu.Message(OpCode.SIGNAL))
    client.post(tofu.Message(OpCode.SIGNAL))
    assert client.triggers == Triggers.RECV | Triggers.SEND
    for _ in range(8):
        client.post(tofu.Message(OpCode.SIGNAL))
    await until(lambda: server.triggers == Triggers.POOL)
    client.abort()
    assert client.triggers == Triggers(0)
