"""Drain: a service that is told to stop lets running calls end, but does not wait for ever."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import anyio

import tofu_aio as tofu
from tests.network.features.channels import report_end
from tests.network.limits import DRAIN, PATIENCE, SLACK
from tests.network.peer import Peer, body
from tests.network.scene import Scene
from tofu_aio.messaging.limits import BYE_TIMEOUT


async def serve(peer: Peer) -> None:
    """Serve until SIGTERM. There are no heartbeats."""
    service = tofu.Service()

    @service.handler("echo")
    async def echo(payload: bytes) -> bytes:
        return payload

    @service.handler("slow")
    async def slow(payload: bytes) -> bytes:
        peer.report("begun")
        await peer.order()
        return payload

    async with anyio.create_task_group() as tasks:
        seconds = float(await peer.order())
        await tasks.start(partial(service.serve, peer.address, heartbeat=None, drain=seconds))
        peer.report("listening")
    peer.report("ended")


async def ask(peer: Peer) -> None:
    """Call as ordered."""
    draining: asyncio.Task[None]

    def watch(channel: tofu.Channel) -> AbstractContextManager[None]:
        nonlocal draining
        draining = asyncio.create_task(_report_draining(peer, channel))
        return nullcontext()

    async with tofu.Client(peer.address, heartbeat=None, around_channel=watch) as client:
        await client.call("echo", b"", result=bytes)
        peer.report("connected")
        while True:
            name = await peer.order()
            try:
                assert await client.call(name, body(1), result=bytes) == body(1)
                peer.report("done")
            except tofu.TofuError as error:
                report_end(peer, error)


async def _report_draining(peer: Peer, channel: tofu.Channel) -> None:
    await channel.wait_draining()
    if channel.draining:
        peer.report("draining")


def finishes(scene: Scene) -> None:
    """The client learns of the drain, the running call is answered, and the service ends."""
    scene.begin(str(PATIENCE))
    scene.play(lambda: scene.client.tell("echo"), lambda: scene.client.expect("done"))
    scene.client.tell("slow")
    scene.server.expect("begun")
    with scene.partitioned():
        scene.server.terminate()
    scene.client.expect("draining")
    scene.server.tell("finish")
    scene.client.expect("done")
    scene.server.expect("ended")
    scene.server.join()


def ends(scene: Scene) -> None:
    """The service ends after its `drain` seconds, and five more for its Bye, at the latest."""
    scene.begin(str(DRAIN))
    scene.client.tell("slow")
    scene.server.expect("begun")
    scene.strike("a")
    begun = time.monotonic()
    scene.server.terminate()
    scene.server.expect("ended")
    assert time.monotonic() - begun < DRAIN + BYE_TIMEOUT + SLACK
    scene.server.join()
