"""The process of an attack, on raw sockets: ``attacker NAME ADDRESS``.

It says a line when it is under way, attacks until its stdin ends, and then tells what it took.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import tofu_aio as tofu
from tests.benchmarks import processes
from tests.messaging.certificates import client_context
from tests.messaging.peers import RawPeer, frame, hello
from tofu_aio import OpCode

PIECE = 64 * 1024
"""Bytes that are sent at a time, and counted when they have left."""

PAUSE = 0.02
"""Seconds until who was thrown out comes again."""

NOW_AND_THEN = 0.1
"""Seconds between the bytes of a peer that only means to stay: the attack is that it is slow."""


class Peer(RawPeer):
    """A connection of the attacker's, who has patience. Hung up on, it raises ConnectionError."""

    connections = 0
    """All there were."""
    sent = 0
    """Bytes, over all of them."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        Peer.connections += 1

    async def send(self, data: bytes) -> None:
        for begin in range(0, len(data), PIECE):
            piece = data[begin : begin + PIECE]
            await self._loop.sock_sendall(self.sock, piece)
            Peer.sent += len(piece)
            await asyncio.sleep(0)  # while there is room nothing here waits: let others run

    async def _receive(self) -> bytes:
        data = await self._loop.sock_recv(self.sock, PIECE)
        if not data:
            raise ConnectionResetError("the server hung up")
        return data

    def half_close(self) -> None:
        try:
            super().half_close()
        except OSError as error:  # another one where the server was first
            raise ConnectionResetError("the server hung up") from error

    async def introduce(self, headers: bytes = b"") -> None:
        """Say a Hello, with more headers maybe, and hear the answer."""
        if headers:
            await self.send(frame(OpCode.HELLO_REQUEST, headers=headers))
        else:
            await self.send(hello())
        await self.message()

    async def hold(self) -> None:
        """Stay, and read what comes, until the server hangs up."""
        while True:
            await self._receive()


Act = Callable[[Peer], Awaitable[object]]
"""What one connection does. When it returns, or was thrown out, another one takes its place."""


class Attacker:
    """What an attack is made with.

    Attributes:
        address: of the server.
        found: what the attack itself has seen that should not be.
    """

    def __init__(self, address: tofu.TcpAddress) -> None:
        self.address = address
        self.found: list[str] = []

    async def crowd(self, count: int, act: Act, source: str = "127.0.0.1") -> None:
        """So many connections at a time, from some address of this machine, for ever."""
        begun = asyncio.Barrier(count + 1)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(count):
                tasks.create_task(self._come_again(act, source, begun))
            await begun.wait()
            print("under way", flush=True)

    async def _come_again(self, act: Act, source: str, begun: asyncio.Barrier) -> None:
        first = True
        while True:
            with contextlib.suppress(ConnectionError), await self._connect(source) as peer:
                if first:
                    first = False
                    await begun.wait()
                await act(peer)
            await asyncio.sleep(PAUSE)

    async def _connect(self, source: str) -> Peer:
        sock = socket.socket()
        peer = Peer(sock)
        try:
            # What is not read should be the server's affair, and not the kernel's.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.bind((source, 0))
            await peer._loop.sock_connect(sock, (self.address.host, self.address.port))
        except BaseException:
            peer.close()
            raise
        return peer

    async def be_called(self, act: Act, **options: Any) -> None:
        """Have the server call here as a client, again and again, and do that to it each time."""
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        async with tofu.connect(self.address, **options) as channel, asyncio.TaskGroup() as tasks:
            here = f"tcp://127.0.0.1:{sock.getsockname()[1]}"
            (await channel.request(headers={"Call": here})).release()
            print("under way", flush=True)
            while True:
                accepted, _ = await asyncio.get_running_loop().sock_accept(sock)
                tasks.create_task(self._be_a_server(act, Peer(accepted)))

    async def _be_a_server(self, act: Act, peer: Peer) -> None:
        with contextlib.suppress(ConnectionError), peer:
            await act(peer)


def trusting() -> Any:
    """A TLS context for a client that verifies nothing."""
    return client_context(trusting=True)


async def run(name: str, address: str) -> None:
    """Attack until stdin ends."""
    from tests.attacks.catalogue import ATTACKS

    where = tofu.parse_address(address)
    assert isinstance(where, tofu.TcpAddress)
    attacker = Attacker(where)
    attacking = asyncio.ensure_future(ATTACKS[name].by(attacker))
    told = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait([attacking, told], return_when=asyncio.FIRST_COMPLETED)
    if not told.done():
        attacking.result()
        raise RuntimeError(f"the attack {name} ended by itself: it should go on until it is told")
    connections, sent = Peer.connections, Peer.sent
    attacking.cancel()
    await asyncio.wait([attacking])
    print(json.dumps({"connections": connections, "sent": sent, "found": attacker.found}))


if __name__ == "__main__":
    processes.allow_descriptors()
    asyncio.run(run(*sys.argv[1:]))
