"""Attacks by text and bytes: on readers of the log, and on the parser."""

from __future__ import annotations

import random

from tests.attacks.attacker import Attacker, Peer
from tests.attacks.bodies import FIRST_PART
from tests.messaging.peers import frame, hello
from tofu_aio import OpCode, Status
from tofu_aio.protocol.binary_header import MAX_PART

FORGED = b"no\r\nERROR root: all is lost\x1b[2J\x1b]0;owned\x07\xe2\x80\xae" + b"A" * 60_000
"""A forged log line, terminal commands, and more text than anybody would read."""


async def forged_reasons(attacker: Attacker) -> None:
    """A server rejects with a reason of 60 KB: forged log lines and terminal commands."""

    async def act(peer: Peer) -> None:
        asked = await peer.message()
        answer = OpCode.HELLO_RESPONSE
        refused = frame(answer, FORGED, message_id=asked.message_id, status=Status.NOT_ALLOWED)
        await peer.send(refused)
        await peer.hold()

    await attacker.be_connected_to(act)


async def forged_endings(attacker: Attacker) -> None:
    """A client breaks off its requests with 60 KB of forged log lines."""
    failed = frame(body=FORGED, message_id=2, status=Status.PROCESSING_FAILED)

    async def act(peer: Peer) -> None:
        await peer.introduce()
        await peer.send(frame(FIRST_PART, b"x", message_id=2) + failed)
        await peer.hold()

    await attacker.crowd(8, act)


async def random_bytes(attacker: Attacker) -> None:
    """Random bytes before and after a Hello, alone and within frames, split anywhere."""
    luck = random.Random("attack")

    def nonsense() -> bytes:
        some = luck.randbytes(luck.choice((1, 16, 300, 5000)))
        if luck.random() < 0.5:
            return some
        return frame(
            luck.randrange(64),
            some,
            luck.choice((b"", b"a:b\r\n", luck.randbytes(20))),
            message_id=luck.randrange(4),
            status=luck.choice((0, 0, luck.randrange(256))),
            body_len=luck.choice((len(some), luck.randrange(MAX_PART))),
        )

    async def act(peer: Peer) -> None:
        if luck.random() < 0.7:
            await peer.send(hello())
        for _ in range(luck.randrange(20)):
            await peer.send(nonsense())
        if luck.random() < 0.5:
            peer.half_close()
            await peer.hold()

    await attacker.crowd(32, act)
