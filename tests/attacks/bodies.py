"""Attacks on memory, by data that is announced, withheld, kept, or not read."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator

from tests.attacks.attacker import NOW_AND_THEN, Attacker, Peer
from tests.messaging.peers import frame
from tofu_aio import OpCode
from tofu_aio.messaging.limits import MAX_BODY
from tofu_aio.protocol.binary_header import MAX_PART
from tofu_aio.protocol.op_code import MORE_BIT

MANY = 64
"""Connections that each announce the longest message, which together would fill the pool."""

SOME = 16
"""Connections that send as fast as they can."""

FIRST_PART = OpCode.REQUEST | MORE_BIT
PROMISE = frame(headers_len=MAX_PART, body_len=MAX_PART, message_id=2)


def flood(make: Callable[[int], bytes], together: int = 1) -> Iterator[bytes]:
    """Yield frames with increasing message ids, ``together`` at a time."""
    ids = itertools.count(2)
    while True:
        yield b"".join(make(next(ids)) for _ in range(together))


async def promised_bytes(attacker: Attacker) -> None:
    """A header announces the longest message, and nothing follows it."""

    async def act(peer: Peer) -> None:
        await peer.introduce()
        await peer.send(PROMISE)
        await peer.hold()

    await attacker.crowd(MANY, act)


async def slow_bodies(attacker: Attacker) -> None:
    """A header announces the longest message, of which one byte arrives every 0.1 s."""

    async def act(peer: Peer) -> None:
        await peer.introduce()
        await peer.send(PROMISE)
        while True:
            await peer.send(b"x")
            await asyncio.sleep(NOW_AND_THEN)

    await attacker.crowd(MANY, act)


async def unfinished_uploads(attacker: Attacker) -> None:
    """Long requests, which the server assembles, without their last parts."""
    enough = (MAX_BODY - 1) // MAX_PART
    first = frame(FIRST_PART, bytes(MAX_PART), b"~whole:%d\r\n" % MAX_BODY, message_id=2)

    async def act(peer: Peer) -> None:
        await peer.introduce(b"~supports:whole\r\n")
        await peer.send(first)
        for _ in range(enough - 1):
            await peer.send(frame(FIRST_PART, bytes(MAX_PART), message_id=2))
        await peer.hold()

    await attacker.crowd(SOME, act)


def lines(number: int) -> bytes:
    """As many header lines as fit, different for each number."""
    begin = 100_000 * number
    return b"".join(b"%x:\r\n" % n for n in range(begin, begin + 7_000))


async def kept_headers(attacker: Attacker) -> None:
    """Hellos and signals full of short headers, which the server reads and keeps."""

    async def act(peer: Peer) -> None:
        await peer.introduce(lines(0))
        for signals in flood(lambda n: frame(OpCode.SIGNAL, b"", lines(n % 99), message_id=n)):
            await peer.send(signals)

    await attacker.crowd(SOME, act)


async def open_exchanges(attacker: Attacker) -> None:
    """First parts of requests that do not continue, and whose refusals are not read."""

    async def act(peer: Peer) -> None:
        await peer.introduce()
        for firsts in flood(lambda n: frame(FIRST_PART, message_id=n), 1000):
            await peer.send(firsts)

    await attacker.crowd(4, act)


async def unread_refusals(attacker: Attacker) -> None:
    """Announcements of bodies that are too long, whose refusals are not read."""
    headers = b"~whole:%d\r\n" % (MAX_BODY + 1)

    async def act(peer: Peer) -> None:
        await peer.introduce(b"~supports:whole\r\n")
        for firsts in flood(lambda n: frame(FIRST_PART, b"", headers, message_id=n), 1000):
            await peer.send(firsts)

    await attacker.crowd(1, act)


async def unread_responses(attacker: Attacker) -> None:
    """Requests of the largest size, whose responses are not read."""

    async def act(peer: Peer) -> None:
        await peer.introduce()
        for request in flood(lambda n: frame(body=bytes(MAX_PART), message_id=n)):
            await peer.send(request)

    await attacker.crowd(SOME, act)


async def unawaited_responses(attacker: Attacker) -> None:
    """Responses to requests that were never made."""

    async def act(peer: Peer) -> None:
        await peer.introduce()
        for responses in flood(lambda n: frame(OpCode.RESPONSE, bytes(1000), message_id=n), 64):
            await peer.send(responses)

    await attacker.crowd(4, act)
