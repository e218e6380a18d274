"""Heartbeats: a channel whose machines reach each other stays; any other one is lost."""

from __future__ import annotations

import time

import tofu_aio as tofu
from tests.network.features.channels import ask_some, echo, overhear, report_end
from tests.network.limits import HEARTBEAT, SLACK
from tests.network.peer import Peer
from tests.network.scene import Scene
from tofu_aio.protocol.binary_header import HEADER_SIZE

_BEATS = 4
"""Heartbeats of an idle round: more than may be missing."""

_LONGEST = 4 * HEARTBEAT
"""Seconds until a loss is known: the peer is looked at twice an interval, so it may be one more."""


async def serve(peer: Peer) -> None:
    """Serve one channel."""
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen(peer.address, heartbeat=HEARTBEAT)
        peer.report("listening")
        await echo(peer, await listener.accept())
        await peer.order()


async def ask(peer: Peer) -> None:
    """Be idle as long as some heartbeats take, and then ask, as often as ordered."""
    async with tofu.Engine() as engine, engine.create_group() as group:
        channel = await group.connect(peer.address, heartbeat=HEARTBEAT)
        peer.report("connected")
        try:
            while True:
                match await peer.order_on(channel):
                    case "idle":
                        await overhear(engine, _BEATS * HEADER_SIZE)
                        peer.report("done")
                    case "ask":
                        await ask_some(channel)
                        peer.report("done")
        except tofu.TofuError as error:
            report_end(peer, error)
        await peer.order()


def stays(scene: Scene) -> None:
    """The channel stays, even if it is idle for longer than three intervals."""
    scene.begin()
    rounds = iter(("idle",))

    def start() -> None:
        scene.client.tell(next(rounds, "ask"))

    scene.play(start, lambda: scene.client.expect("done"))


def lost(scene: Scene) -> None:
    """After three intervals of silence, each side that is still there gets `PeerDisconnected`."""
    scene.begin()
    scene.client.tell("ask")
    scene.client.expect("done")
    scene.strike()
    struck = time.monotonic()
    for program in scene.survivors():
        report = program.expect("lost")
        assert time.monotonic() - struck < _LONGEST + SLACK
        assert report["error"] == "PeerDisconnected", report
        assert report["text"].startswith("nothing came from the peer for 3 s"), report
