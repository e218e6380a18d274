"""Closing while much is still to be sent: it arrives, or the peer is lost, and no stream is cut."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket

import pytest

import tofu_aio as tofu
from tests.messaging.peers import transport_of, until
from tests.transport.nats.brokers import Broker, missing
from tests.transport.nats.slow_line import Line, slow_line
from tofu_aio.transport.nats import probing

client = pytest.importorskip("tofu_aio.transport.nats.client", reason=str(missing()))

NUMBER = 128
BODY = bytes(1000)


async def sent_and_closed(line: Line, *, left: float) -> None:
    """Send more than the line takes in two seconds, and close without waiting for the peer."""
    async with tofu.connect(f"nats://127.0.0.1:{line.port}/slow") as channel:
        sock = transport_of(channel)._carrier._client._streams.socket  # type: ignore[attr-defined]
        with socket.socket(fileno=os.dup(sock.fileno())) as copy:
            copy.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        for _ in range(8):  # so that the peer grants as much as it ever does
            await channel.request(bytes(60_000))
        line.rate, line.left = 50_000, left
        for _ in range(NUMBER):
            await channel.signal(BODY)
            await asyncio.sleep(0)  # a chunk of its own
        with contextlib.suppress(tofu.TofuError):
            await channel.aclose(timeout=0.05)


async def heard(channel: tofu.Channel) -> tuple[int, tofu.TofuError]:
    """How many signals arrive, and how the channel ends."""
    count = 0
    while True:
        try:
            with await channel.receive() as message:
                if message.op_code is tofu.OpCode.SIGNAL:
                    count += 1
                else:
                    await channel.reply(message, b"")
        except tofu.TofuError as error:
            return count, error


async def test_what_was_sent_before_closing_arrives_over_a_slow_line(
    group: tofu.ChannelGroup, broker: Broker
) -> None:
    async with slow_line(broker) as line, await group.listen(broker.url("slow")) as listener:
        sending = asyncio.create_task(sent_and_closed(line, left=math.inf))
        async with await listener.accept() as channel:
            count, end = await heard(channel)
        await sending
        assert (count, type(end)) == (NUMBER, tofu.ChannelEnded)


async def test_a_line_that_breaks_while_closing_is_a_lost_peer_and_no_shorter_stream(
    group: tofu.ChannelGroup, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "PROBE_INTERVAL", 0.02)
    async with slow_line(broker) as line, await group.listen(broker.url("slow")) as listener:
        sending = asyncio.create_task(sent_and_closed(line, left=30_000))
        async with await listener.accept() as channel:
            count, end = await heard(channel)
        await sending
        assert 0 < count < NUMBER
        assert type(end) is tofu.PeerDisconnected


async def test_who_gives_up_closing_does_not_wait_for_a_slow_line(
    group: tofu.ChannelGroup, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CLOSE_LONGEST", "CLOSE_TIMEOUT"):
        monkeypatch.setattr(client, name, 3600)
    async with slow_line(broker) as line, await group.listen(broker.url("slow")) as listener:
        sending = asyncio.create_task(sent_and_closed(line, left=math.inf))
        channel = await listener.accept()
        hearing = asyncio.create_task(heard(channel))
        await until(lambda: any(task.get_name() == "tofu deliver" for task in asyncio.all_tasks()))
        line.rate = 1
        sending.cancel()
        await asyncio.wait([sending])  # or the test times out
        channel.abort()
        await hearing
