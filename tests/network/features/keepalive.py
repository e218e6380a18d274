"""Keep-alive probes of the kernel: they find out whether the machine of an idle peer is there."""

from __future__ import annotations

import errno
import time

import tofu_aio as tofu
from tests.network.features.channels import ask_some, echo, report_end
from tests.network.limits import KEEPALIVE, SLACK
from tests.network.peer import Peer
from tests.network.scene import Scene

_PROBES = 6
"""Packets of an idle time: a probe and its answer, from both sides, and half as many more."""

_LONGEST = 2 * KEEPALIVE + 4
"""Seconds until a loss is known, as the documentation says."""


async def serve(peer: Peer) -> None:
    """Serve one channel."""
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen(peer.address, heartbeat=None, keepalive=KEEPALIVE)
        peer.report("listening")
        await echo(peer, await listener.accept())
        await peer.order()


async def ask(peer: Peer) -> None:
    """Ask as often as ordered, and be idle in between."""
    async with tofu.Engine() as engine, engine.create_group() as group:
        channel = await group.connect(peer.address, heartbeat=None, keepalive=KEEPALIVE)
        peer.report("connected")
        try:
            while True:
                await peer.order_on(channel)
                await ask_some(channel)
                peer.report("done")
        except tofu.TofuError as error:
            report_end(peer, error)
        await peer.order()


def stays(scene: Scene) -> None:
    """The kernels probe the idle channel, and it stays."""
    scene.begin()
    _be_idle(scene)

    def finish() -> None:
        scene.client.tell("ask")
        scene.client.expect("done")

    scene.play(lambda: None, finish)


def lost(scene: Scene) -> None:
    """If the channel was idle, each side that is still there gets `PeerDisconnected`."""
    scene.begin()
    # Until everything is acknowledged: before that the kernel repeats, and does not probe.
    _be_idle(scene)
    scene.strike()
    struck = time.monotonic()
    for program in scene.survivors():
        report = program.expect("lost")
        assert time.monotonic() - struck < _LONGEST + SLACK
        assert report["error"] == "PeerDisconnected", report
        assert f"[Errno {errno.ETIMEDOUT}]" in report["text"], report


def _be_idle(scene: Scene) -> None:
    """Wait until both sides have probed each other."""
    scene.network.wait("passed", scene.network.count("passed") + _PROBES)
