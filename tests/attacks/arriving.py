"""Attacks on resources that are limited in number: connections, channels, threads."""

from __future__ import annotations

import asyncio

from tests.attacks.attacker import NOW_AND_THEN, Attacker, Peer
from tests.attacks.server import WRONG
from tests.messaging.peers import frame
from tofu_aio import OpCode
from tofu_aio.messaging.limits import (
    CLIENT_HEARTBEAT_MIN,
    LEAVING_CHANNELS,
    PENDING_CHANNELS,
    WAITING_CONNECTIONS,
)
from tofu_aio.protocol.binary_header import MAX_PART

CROWD = 24
"""Three connections for each channel or thread that the attacked server may have."""


async def silent_connections(attacker: Attacker) -> None:
    """More silent connections than may wait."""
    await attacker.crowd(WAITING_CONNECTIONS + 76, Peer.hold)


async def partial_hellos(attacker: Attacker) -> None:
    """One byte of a Hello, on many connections from an address that may have only a few."""

    async def act(peer: Peer) -> None:
        await peer.send(b"\0")
        await peer.hold()

    await attacker.crowd(300, act, source="127.0.0.2")


async def rejected_peers(attacker: Attacker) -> None:
    """Peers that do not close their connections after they were rejected."""

    async def act(peer: Peer) -> None:
        await peer.send(frame(OpCode.HELLO_REQUEST, headers=b"Token:%s\r\n" % WRONG.encode()))
        await peer.message()
        while True:
            await peer.send(b"x")
            await asyncio.sleep(NOW_AND_THEN)

    await attacker.crowd(PENDING_CHANNELS + 2 * LEAVING_CHANNELS, act)


async def idle_clients(attacker: Attacker) -> None:
    """A Hello and nothing more, by more clients than there may be channels."""

    async def act(peer: Peer) -> None:
        await peer.introduce()
        await peer.hold()

    await attacker.crowd(CROWD, act)


async def idle_threads(attacker: Attacker) -> None:
    """A Hello and nothing more, where each client occupies one of eight threads."""
    await idle_clients(attacker)


async def large_hellos(attacker: Attacker) -> None:
    """The largest Hellos, whose senders have closed before the application looks at them."""
    large = frame(OpCode.HELLO_REQUEST, bytes(MAX_PART), b"a:" + bytes(MAX_PART - 4) + b"\r\n")

    async def act(peer: Peer) -> None:
        await peer.send(large)
        peer.half_close()
        await peer.hold()

    await attacker.crowd(PENDING_CHANNELS + 32, act)


async def half_closed_byes(attacker: Attacker) -> None:
    """A Bye, after which every second peer half-closes, and the others do nothing."""
    bye = frame(OpCode.BYE_REQUEST, message_id=2)

    async def act(peer: Peer) -> None:
        await peer.introduce()
        await peer.send(bye)
        if Peer.connections % 2:
            peer.half_close()
        await peer.hold()

    await attacker.crowd(CROWD, act)


async def frequent_heartbeats(attacker: Attacker) -> None:
    """Clients that ask for heartbeats every 10 ms, and count those that arrive."""
    beat = frame(OpCode.SIGNAL, message_id=0)
    loop = asyncio.get_running_loop()

    async def act(peer: Peer) -> None:
        await peer.introduce(b"~heartbeat:10\r\n")
        begun, received = loop.time(), 0
        while not attacker.found:
            await peer.send(beat)
            received += (await peer.message()).message_id == 0
            most = 2 + 2 * (loop.time() - begun) / CLIENT_HEARTBEAT_MIN
            if received > most:
                attacker.found.append(f"{received} heartbeats, where {most:.0f} are due")
        await peer.hold()

    await attacker.crowd(50, act)
