"""``reconnecting``: it gives a new channel when one is lost, and only then."""

from __future__ import annotations

import tofu_aio as tofu
from tests.network.features.channels import ask_some, echo
from tests.network.limits import ATTEMPT, BACKOFF, HEARTBEAT
from tests.network.peer import Peer
from tests.network.scene import Scene


async def serve(peer: Peer) -> None:
    """Serve any number of channels."""
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen(peer.address, heartbeat=HEARTBEAT)
        peer.report("listening")
        await listener.serve(lambda channel: echo(peer, channel))


async def ask(peer: Peer) -> None:
    """Ask as often as ordered, on one channel after another."""
    async with tofu.Engine() as engine, engine.create_group() as group:
        channels = group.reconnecting(
            peer.address,
            heartbeat=HEARTBEAT,
            timeout=ATTEMPT,
            backoff=BACKOFF,
            on_failure=lambda error: peer.report("failed"),
        )
        async for channel in channels:
            peer.report("connected")
            try:
                while True:
                    await peer.order_on(channel)
                    await ask_some(channel)
                    peer.report("done")
            except tofu.TofuError:
                continue


def same_channel(scene: Scene) -> None:
    """The loop keeps its first channel."""
    scene.begin()
    scene.play(lambda: scene.client.tell("ask"), lambda: scene.client.expect("done"))


def new_channel(scene: Scene) -> None:
    """The channel is lost. Once a connection is possible again, the loop gets a new one."""
    scene.begin()
    scene.client.tell("ask")
    scene.client.expect("done")
    scene.strike()
    for program in scene.survivors():
        if program is scene.server:
            program.expect("lost")
    if not scene.reachable:
        scene.client.expect("failed")
    scene.pass_by()
    scene.client.expect("connected", after_any="failed")
    scene.client.tell("ask")
    scene.client.expect("done")
