"""Streams of services: whole, or an error; never a shorter stream that looks whole."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Coroutine, Iterator
from functools import partial

import anyio
import msgspec

import tofu_aio as tofu
from tests.network.features.channels import report_end
from tests.network.limits import HEARTBEAT
from tests.network.peer import Peer
from tests.network.scene import Scene

_ITEMS = 40
"""Of a stream that ends."""


class Item(msgspec.Struct):
    """An item that takes two packets."""

    number: int
    text: str = "x" * 2000


async def serve(peer: Peer) -> None:
    """Serve a stream down and a stream up."""
    service = tofu.Service()

    @service.handler("down")
    async def down(count: int) -> AsyncIterator[Item]:
        try:
            for number in range(count) if count else itertools.count():
                yield Item(number)
        finally:
            peer.report("left")

    @service.handler("up")
    async def up(items: AsyncIterator[Item]) -> int:
        count = 0
        try:
            async for item in items:
                assert item.number == count
                count += 1
        finally:
            peer.report("left")
        return count

    async with anyio.create_task_group() as tasks:
        await tasks.start(partial(service.serve, peer.address, heartbeat=HEARTBEAT))
        peer.report("listening")


async def ask(peer: Peer) -> None:
    """Take and send streams as ordered."""
    async with tofu.Client(peer.address, heartbeat=HEARTBEAT) as client:
        await client.call("tofu.health")
        peer.report("connected")
        while True:
            match await peer.order():
                case "both":
                    await _take(peer, client, _ITEMS)
                    sent = await client.upload("up", _items(peer, _ITEMS), result=int)
                    assert sent == _ITEMS
                    peer.report("done")
                case "endless":
                    async with asyncio.TaskGroup() as tasks:
                        down = _take(peer, client, 0)
                        up = client.upload("up", _items(peer, 0), result=int)
                        for stream in down, up:
                            tasks.create_task(_report_error(peer, stream))


async def _report_error(peer: Peer, stream: Coroutine[object, object, object]) -> None:
    try:
        await stream
        peer.report("ended")
    except tofu.TofuError as error:
        report_end(peer, error)


async def _take(peer: Peer, client: tofu.Client, count: int) -> None:
    taken = 0
    async for item in client.stream("down", count, item=Item):
        assert item.number == taken
        taken += 1
        if not count and taken == _ITEMS:
            peer.report("flowing")
    assert taken == count


def _items(peer: Peer, count: int) -> Iterator[Item]:
    for number in range(count) if count else itertools.count():
        yield Item(number)
        if not count and number == _ITEMS:
            peer.report("flowing")


def whole(scene: Scene) -> None:
    """Streams arrive whole, in both directions."""
    scene.begin()

    def finish() -> None:
        scene.client.expect("done")
        for _ in "down", "up":
            scene.server.expect("left")

    scene.play(lambda: scene.client.tell("both"), finish)


def error(scene: Scene) -> None:
    """The iteration and the upload raise `PeerDisconnected` at the client; nothing looks complete.

    Handlers that are still there are cancelled.
    """
    scene.begin()
    scene.client.tell("endless")
    for _ in "down", "up":
        scene.client.expect("flowing")
    scene.strike()
    for _ in "down", "up":
        report = scene.client.expect("lost")
        assert report["error"] == "PeerDisconnected", report
    if scene.server in scene.survivors():
        for _ in "down", "up":
            scene.server.expect("left")
