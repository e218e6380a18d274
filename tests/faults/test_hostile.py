"""A server under attack, in a process of its own: it takes no more memory than the formula says."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine

import pytest

import tofu_aio as tofu
from tests.attacks.bodies import lines
from tests.attacks.bounds import (
    ANSWERS,
    CHUNK,
    CHUNKS,
    EXCHANGES,
    HELLO,
    LENT,
    PARSED,
    RESERVE,
    SLACK,
    UNSENT,
)
from tests.benchmarks import processes
from tests.benchmarks.processes import MIB
from tests.messaging.peers import RawPeer, frame
from tofu_aio import OpCode
from tofu_aio.messaging.limits import PENDING_CHANNELS, POOL_BYTES
from tofu_aio.protocol.op_code import MORE_BIT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")

PEERS = 4
"""Channels that attack."""

SERVER = """
import asyncio, sys
import tofu_aio as tofu

async def answer(exchange):
    async with exchange:
        async for part in exchange:
            with part:
                dict(part.headers)
                await exchange.send(part.body)
        await exchange.finish()

async def by_streams(group):
    async def handle(channel):
        channel.hello.headers.get("Token")
        async with asyncio.TaskGroup() as tasks:
            async for message in channel:
                tasks.create_task(answer(channel.stream(message)))
    listener = await group.listen("tcp://127.0.0.1:0")
    print(listener.address, flush=True)
    await listener.serve(handle)

async def by_messages(group):
    group.post(tofu.Message(tofu.OpCode.WELCOME_REQUEST, headers={"~listen_on": "tcp|127.0.0.1|0"}))
    where = (await group.receive()).headers["~listen_on"]
    print(tofu.parse_address(where), flush=True)
    await asyncio.Event().wait()

async def main(how):
    async with tofu.Engine() as engine, engine.create_group() as group:
        await {"streams": by_streams, "messages": by_messages}[how](group)

tofu.run(main(sys.argv[1]))
"""


def started(altitude: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", SERVER, altitude]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)


@contextlib.asynccontextmanager
async def server(altitude: str) -> AsyncIterator[tuple[subprocess.Popen[str], tofu.TcpAddress]]:
    """A process that serves, and where."""
    process = started(altitude)
    try:
        address = tofu.parse_address(await asyncio.to_thread(processes.next_line, process))
        assert isinstance(address, tofu.TcpAddress)
        if altitude == "streams":  # and what is loaded with the first channel is loaded
            async with tofu.connect(address) as channel:
                await channel.request(b"?")
        yield process, address
    finally:
        processes.end([process])


async def send(peer: RawPeer, data: bytes) -> None:
    """As fast as the server takes it."""
    await asyncio.get_running_loop().sock_sendall(peer.sock, data)


async def until_said(peer: RawPeer, words: bytes) -> None:
    """Read until the server says that."""
    said = b""
    while words not in said:
        more = await asyncio.get_running_loop().sock_recv(peer.sock, CHUNK)
        assert more, "the server hung up"
        said = said[-len(words) :] + more


async def attack_by(peers: list[RawPeer], messages: bytes) -> None:
    """All of them, until the server has handled all."""
    last = frame(body=b"that was all", message_id=1_000_000)
    heard = [asyncio.create_task(until_said(peer, b"that was all")) for peer in peers]
    await asyncio.gather(*(send(peer, messages + last) for peer in peers))
    await asyncio.gather(*heard)
    for peer in peers:
        peer.close()


async def begins_exchanges(address: tofu.TcpAddress) -> None:
    """Many, of which none goes on."""
    peers = [await RawPeer.introduced(address) for _ in range(PEERS)]
    firsts = (frame(OpCode.REQUEST | MORE_BIT, message_id=number) for number in range(2, 15_000))
    await attack_by(peers, b"".join(firsts))


async def sends_lines(address: tofu.TcpAddress) -> None:
    """Headers that are as many lines as fit, which would be twenty times as much taken apart."""
    peers = [await RawPeer.connect(address) for _ in range(PEERS)]
    for number, peer in enumerate(peers):
        await peer.send(frame(OpCode.HELLO_REQUEST, headers=lines(number)))
        await peer.message()
    await attack_by(peers, b"".join(frame(headers=lines(n), message_id=n) for n in range(2, 62)))


async def comes_and_goes(address: tofu.TcpAddress) -> None:
    """With the largest Hello, again and again, while nobody receives; and at last all at once."""
    large = frame(OpCode.HELLO_REQUEST, bytes(65_535), b"a:" + bytes(60_000) + b"\r\n")
    for crowd in [*[1] * 600, PENDING_CHANNELS + 50]:
        peers = [await RawPeer.connect(address) for _ in range(crowd)]
        await asyncio.gather(*(send(peer, large) for peer in peers))
        for peer in peers:
            peer.half_close()
        for peer in peers:
            await peer.end()
            peer.close()


def bound(channels: int, strangers: int = 0, exchanging: int = 0) -> int:
    """The formula of the documentation, for what these attacks can make grow."""
    each = RESERVE + LENT + CHUNKS + 2 * HELLO + UNSENT + ANSWERS
    early = strangers * (HELLO + CHUNK)
    return POOL_BYTES + channels * each + early + exchanging * EXCHANGES + PARSED


Attack = Callable[[tofu.TcpAddress], Coroutine[object, object, None]]


@pytest.mark.parametrize(
    ("attack", "altitude", "most"),
    [
        (begins_exchanges, "streams", bound(PEERS + 1, exchanging=PEERS)),
        (sends_lines, "streams", bound(PEERS + 1)),
        (comes_and_goes, "messages", bound(1, strangers=PENDING_CHANNELS)),
    ],
    ids=["exchanges", "lines", "hellos"],
)
async def test_the_server_grows_no_more_than_the_formula_says(
    attack: Attack, altitude: str, most: int
) -> None:
    async with server(altitude) as (process, address):
        before = processes.peak(process)
        await attack(address)
        grown = processes.peak(process) - before
    assert grown * MIB < most + SLACK, f"{grown:.1f} MiB of {most / MIB:.1f}"
