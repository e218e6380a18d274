"""Attacks with TLS, by a client or a server."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.attacks.attacker import Attacker, Peer, trusting
from tests.messaging.certificates import server_context, telling
from tests.messaging.peers import frame, hello
from tests.messaging.raw_tls import RawTls
from tests.messaging.records import HANDSHAKE, KEY_UPDATE
from tofu_aio import OpCode
from tofu_aio.protocol.binary_header import HEADER

GARBAGE = b"\x17\x03\x03\x00\x20" + b"g" * 32
"""Bytes that look like a TLS record, but were not encrypted with any key."""


async def key_updates(attacker: Attacker) -> None:
    """TLS KeyUpdates, whose answers are not read."""

    async def act(peer: Peer) -> None:
        with tempfile.TemporaryDirectory() as folder:
            keys = Path(folder, "keys")
            tls = RawTls(peer, telling(keys, server_side=False, trusting=True))
            await tls.shake()
            sealer = tls.sealer(keys)
        await peer.send(sealer.seal(hello()))
        while True:
            await peer.send(b"".join(sealer.seal(KEY_UPDATE, HANDSHAKE) for _ in range(500)))

    await attacker.crowd(2, act)


async def garbage_to_a_server(attacker: Attacker) -> None:
    """A valid Hello, and in the same segment a TLS record that no key has encrypted."""

    async def act(peer: Peer) -> None:
        tls = RawTls(peer, trusting())
        await tls.shake()
        await peer.send(tls.sealed(hello()) + GARBAGE)
        await peer.hold()

    await attacker.crowd(8, act)


async def garbage_to_a_client(attacker: Attacker) -> None:
    """The same from a server: a valid answer to a Hello, and a record that no key has encrypted."""

    async def act(peer: Peer) -> None:
        tls = RawTls(peer, server_context(), server_side=True)
        await tls.shake()
        message_id = HEADER.unpack_from(await tls.read())[3]
        answer = frame(OpCode.HELLO_RESPONSE, message_id=message_id)
        await peer.send(tls.sealed(answer) + GARBAGE)
        await peer.hold()

    await attacker.be_connected_to(act, ssl=trusting())
