"""Deadlines of calls: they end at their time on both sides, whatever gets through."""

from __future__ import annotations

import asyncio
from functools import partial

import anyio

import tofu_aio as tofu
from tests.network.limits import DEADLINE, PATIENCE, SLACK
from tests.network.peer import Peer, body
from tests.network.scene import Scene

_CALLS = 8


async def serve(peer: Peer) -> None:
    """Serve calls that are answered, and one that is not. There are no heartbeats."""
    service = tofu.Service()

    @service.handler("echo")
    async def echo(payload: bytes) -> bytes:
        return payload

    @service.handler("never")
    async def never() -> None:
        peer.report("begun")
        try:
            await asyncio.Event().wait()
        finally:
            peer.report("cancelled")

    async with anyio.create_task_group() as tasks:
        await tasks.start(partial(service.serve, peer.address, heartbeat=None))
        peer.report("listening")


async def ask(peer: Peer) -> None:
    """Call as ordered."""
    async with tofu.Client(peer.address, heartbeat=None) as client:
        await client.call("echo", b"", result=bytes, timeout=PATIENCE)
        peer.report("connected")
        while True:
            match await peer.order():
                case "echo":
                    async with asyncio.TaskGroup() as tasks:
                        for number in range(_CALLS):
                            tasks.create_task(_echo(client, number))
                    peer.report("done")
                case "never":
                    await _wait_in_vain(peer, client)


async def _echo(client: tofu.Client, number: int) -> None:
    echoed = await client.call("echo", body(number), result=bytes, timeout=PATIENCE)
    assert echoed == body(number)


async def _wait_in_vain(peer: Peer, client: tofu.Client) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    try:
        await client.call("never", timeout=DEADLINE)
    except TimeoutError:
        peer.report("timed out", after=loop.time() - begun)


def in_time(scene: Scene) -> None:
    """Calls are answered.

    One whose handler does not end raises `TimeoutError` at its deadline, and the handler is
    cancelled.
    """
    scene.begin()
    scene.play(lambda: scene.client.tell("echo"), lambda: scene.client.expect("done"))
    scene.client.tell("never")
    scene.server.expect("begun")
    _check_times_out(scene)
    scene.server.expect("cancelled")


def times_out(scene: Scene) -> None:
    """The call raises `TimeoutError` at its deadline, unless a heartbeat finds the loss before.

    At the deadline its handler is cancelled too, if that is still there.
    """
    scene.begin()
    scene.client.tell("never")
    scene.server.expect("begun")
    scene.strike()
    _check_times_out(scene)
    if scene.server in scene.survivors():
        scene.server.expect("cancelled")


def _check_times_out(scene: Scene) -> None:
    report = scene.client.expect("timed out")
    assert DEADLINE <= report["after"] < DEADLINE + SLACK, report
