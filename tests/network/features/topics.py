"""Topics: subscribers get every message, over one channel after another."""

from __future__ import annotations

from functools import partial

import anyio

import tofu_aio as tofu
from tests.network.limits import ATTEMPT, BACKOFF, HEARTBEAT
from tests.network.peer import Peer, body, number_of
from tests.network.scene import Scene

_MESSAGES = 25
"""Of a round."""


async def serve(peer: Peer) -> None:
    """Publish numbered messages as ordered."""
    service, topic = tofu.Service(), tofu.Topic()
    service.topic("news", topic)

    @service.use
    async def watched(call: tofu.Call, next: tofu.Next) -> object:  # noqa: A002 - as documented
        try:
            return await next(call)
        finally:
            peer.report("left")

    async with anyio.create_task_group() as tasks:
        await tasks.start(partial(service.serve, peer.address, heartbeat=HEARTBEAT))
        peer.report("listening")
        while True:
            await peer.order()
            for _ in range(_MESSAGES):
                await topic.send(body(topic.statistics().published + 1))


async def ask(peer: Peer) -> None:
    """Report each so many messages, and whether any were missed before them."""
    client = tofu.Client(peer.address, heartbeat=HEARTBEAT, timeout=ATTEMPT, backoff=BACKOFF)
    async with client:
        await client.call("tofu.health")
        peer.report("connected")
        count, missed = 0, list[int | None]()
        async for event in client.subscribe("news", item=bytes, after=0):
            assert number_of(event.value) == event.number
            count += 1
            if event.missed != 0:
                missed.append(event.missed)
            if count % _MESSAGES == 0:
                peer.report("seen", number=event.number, missed=missed)


def all(scene: Scene) -> None:  # noqa: A001 - its name in the table
    """The subscriber gets every message, once and in order."""
    scene.begin()
    rounds = 0

    def finish() -> None:
        nonlocal rounds
        rounds += 1
        _check_seen(scene, rounds * _MESSAGES)

    scene.play(lambda: scene.server.tell("publish"), finish)


def goes_on(scene: Scene) -> None:
    """The subscriber subscribes again by itself, and gets what was published meanwhile."""
    _lose(scene)
    scene.server.tell("publish")
    scene.server.expect("left")
    scene.pass_by()
    _check_seen(scene, 2 * _MESSAGES)
    scene.server.tell("publish")
    _check_seen(scene, 3 * _MESSAGES)


def begins_again(scene: Scene) -> None:
    """The subscriber subscribes again by itself, and gets the messages of the new publisher.

    The old one's are lost with its memory, so the first event has `missed=None`.
    """
    _lose(scene)
    scene.pass_by()
    scene.server.tell("publish")
    _check_seen(scene, _MESSAGES, [None])


def _lose(scene: Scene) -> None:
    scene.begin()
    scene.server.tell("publish")
    _check_seen(scene, _MESSAGES)
    scene.strike()


def _check_seen(scene: Scene, number: int, missed: list[int | None] | None = None) -> None:
    report = scene.client.expect("seen")
    assert report["number"] == number, report
    assert report["missed"] == (missed or []), report
