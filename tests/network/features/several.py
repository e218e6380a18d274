"""Several channels side by side, which differ in how they notice that their peer is gone."""

from __future__ import annotations

import asyncio

import tofu_aio as tofu
from tests.network.features.channels import echo, overhear
from tests.network.limits import HEARTBEAT, KEEPALIVE
from tests.network.peer import Peer, body
from tofu_aio.protocol.binary_header import HEADER_SIZE

_BEATS = 5


async def serve(peer: Peer) -> None:
    """Serve any number of channels, as the client wants them."""
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen(peer.address, heartbeat=None, keepalive=None)
        peer.report("listening")
        await listener.serve(lambda channel: echo(peer, channel))


async def ask(peer: Peer) -> None:
    """Have channels with heartbeats, with probes by the kernel, and with neither; ask on each."""
    async with (
        tofu.Engine() as engine,
        engine.create_group() as group,
        asyncio.TaskGroup() as tasks,
    ):
        channels = {
            "beating": await group.connect(peer.address, heartbeat=HEARTBEAT),
            "probed": await group.connect(peer.address, heartbeat=None, keepalive=KEEPALIVE),
            "busy": await group.connect(peer.address, heartbeat=None, keepalive=KEEPALIVE),
            "plain": await group.connect(peer.address, heartbeat=None),
        }
        peer.report("connected")
        for name, channel in channels.items():
            tasks.create_task(_report_loss(peer, name, channel))
        while True:
            match (await peer.order()).split():
                case ["idle"]:
                    await overhear(engine, _BEATS * HEADER_SIZE)
                    peer.report("done")
                case [name, seconds]:
                    tasks.create_task(_ask(peer, name, channels[name], float(seconds)))


async def _report_loss(peer: Peer, name: str, channel: tofu.Channel) -> None:
    try:
        await channel.receive()
    except tofu.PeerDisconnected:
        peer.report("lost", name=name)


async def _ask(peer: Peer, name: str, channel: tofu.Channel, seconds: float) -> None:
    try:
        (await channel.request(body(0), timeout=seconds)).release()
        peer.report("answered", name=name)
    except TimeoutError:
        peer.report("timed out", name=name)
