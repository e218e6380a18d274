"""The process of an attack, on raw sockets: ``attacker NAME ADDRESS``.

It prints a line when the attack has started, attacks until its stdin ends, and then reports.
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
"""Bytes that are sent at a time, and counted once they were sent."""

PAUSE = 0.02
"""Seconds until a new connection replaces a closed one."""

NOW_AND_THEN = 0.1
"""Seconds between the bytes of a slow peer, which sends only to stay connected."""


class Peer(RawPeer):
    """A connection of the attacker. It has no timeout; it raises ConnectionError once closed."""

    connections = 0
    """How many there were in total."""
    sent = 0
    """Bytes sent over all of them."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        Peer.connections += 1

    async def send(self, data: bytes) -> None:
        for begin in range(0, len(data), PIECE):
            piece = data[begin : begin + PIECE]
            await self._loop.sock_sendall(self.sock, piece)
            Peer.sent += len(piece)
            await asyncio.sleep(
                0
            )  # sock_sendall does not wait while there is room: let other tasks run

    async def _receive(self) -> bytes:
        data = await self._loop.sock_recv(self.sock, PIECE)
        if not data:
            raise ConnectionResetError("the server has closed the connection")
        return data

    def half_close(self) -> None:
        try:
            super().half_close()
        except OSError as error:  # the server has closed the connection already
            raise ConnectionResetError("the server has closed the connection") from error

    async def introduce(self, headers: bytes = b"") -> None:
        """Send a Hello, perhaps with headers, and receive the answer."""
        if headers:
            await self.send(frame(OpCode.HELLO_REQUEST, headers=headers))
        else:
            await self.send(hello())
        await self.message()

    async def hold(self) -> None:
        """Stay connected, and read everything, until the server closes the connection."""
        while True:
            await self._receive()


Act = Callable[[Peer], Awaitable[object]]
"""What one connection does. When it returns, or is closed, a new connection replaces it."""


class Attacker:
    """Makes the connections of an attack.

    Attributes:
        address: the server's address.
        found: violations that the attack itself has found.
    """

    def __init__(self, address: tofu.TcpAddress) -> None:
        self.address = address
        self.found: list[str] = []

    async def crowd(self, count: int, act: Act, source: str = "127.0.0.1") -> None:
        """Keep ``count`` connections from an address of this machine open, without end."""
        begun = asyncio.Barrier(count + 1)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(count):
                tasks.create_task(self._reconnect(act, source, begun))
            await begun.wait()
            print("started", flush=True)

    async def _reconnect(self, act: Act, source: str, begun: asyncio.Barrier) -> None:
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
            # A small buffer, so that unread data piles up at the server and not in this kernel.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.bind((source, 0))
            await peer._loop.sock_connect(sock, (self.address.host, self.address.port))
        except BaseException:
            peer.close()
            raise
        return peer

    async def be_connected_to(self, act: Act, **options: Any) -> None:
        """Make the server connect to this attacker again and again, and act on each connection."""
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        async with tofu.connect(self.address, **options) as channel, asyncio.TaskGroup() as tasks:
            here = f"tcp://127.0.0.1:{sock.getsockname()[1]}"
            (await channel.request(headers={"Call": here})).release()
            print("started", flush=True)
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
    stopped = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait([attacking, stopped], return_when=asyncio.FIRST_COMPLETED)
    if not stopped.done():
        attacking.result()
        raise RuntimeError(f"the attack {name} ended by itself: it must run until it is cancelled")
    connections, sent = Peer.connections, Peer.sent
    attacking.cancel()
    await asyncio.wait([attacking])
    print(json.dumps({"connections": connections, "sent": sent, "found": attacker.found}))


if __name__ == "__main__":
    processes.allow_descriptors()
    asyncio.run(run(*sys.argv[1:]))
