"""``send`` and ``receive``: every message once and in order, or the beginning and an error."""

from __future__ import annotations

import itertools

import tofu_aio as tofu
from tests.network.features.channels import report_end
from tests.network.limits import HEARTBEAT
from tests.network.peer import Peer, body, number_of
from tests.network.scene import Scene

_MESSAGES = 25
"""Of a round, in each direction."""


async def serve(peer: Peer) -> None:
    """Check numbered signals, and send as many back at each request."""
    received = sent = 0
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen(peer.address, heartbeat=HEARTBEAT)
        peer.report("listening")
        channel = await listener.accept()
        try:
            async for message in channel:
                with message:
                    if message.op_code is tofu.OpCode.REQUEST:
                        while sent < received:
                            sent += 1
                            await channel.signal(body(sent))
                        await channel.reply(message)
                        continue
                    received += 1
                    assert number_of(message.body) == received
                    if received == _MESSAGES:
                        peer.report("enough")
        except tofu.TofuError as error:
            peer.report("received", count=received)
            report_end(peer, error)
        await peer.order()


async def ask(peer: Peer) -> None:
    """Send numbered signals: some, whose echo is checked, or without end."""
    async with tofu.Engine() as engine, engine.create_group() as group:
        channel = await group.connect(peer.address, heartbeat=HEARTBEAT)
        peer.report("connected")
        numbers, received = itertools.count(1), 0
        try:
            while True:
                endless = await peer.order_on(channel) == "flood"
                for number in numbers if endless else itertools.islice(numbers, _MESSAGES):
                    await channel.signal(body(number))
                (await channel.request()).release()
                for _ in range(_MESSAGES):
                    received += 1
                    with await channel.receive() as message:
                        assert number_of(message.body) == received
                peer.report("done")
        except tofu.TofuError as error:
            peer.report("sent", count=next(numbers) - 1)
            report_end(peer, error)
        await peer.order()


def all(scene: Scene) -> None:  # noqa: A001 - its name in the table
    """Every message arrives, once and in order, in both directions."""
    scene.begin()
    scene.play(lambda: scene.client.tell("some"), lambda: scene.client.expect("done"))


def first_part(scene: Scene) -> None:
    """What has arrived is the beginning of what was sent, without a gap.

    Then each side that is still there gets `PeerDisconnected`.
    """
    scene.begin()
    scene.client.tell("flood")
    scene.server.expect("enough")
    scene.strike()
    sent = scene.client.expect("sent")["count"]
    assert scene.client.expect("lost")["error"] == "PeerDisconnected"
    if scene.server in scene.survivors():
        received = scene.server.expect("received")["count"]
        assert _MESSAGES <= received <= sent
        assert scene.server.expect("lost")["error"] == "PeerDisconnected"
