"""A relay between two real peers that cuts their connection at an exact byte."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, Self

import tofu_aio as tofu
from tests.messaging.peers import PATIENCE, RawPeer, turns
from tofu_aio.protocol.binary_header import HEADER, HEADER_SIZE

THERE: Final = 0
"""The way of what the client sends."""
BACK: Final = 1
"""The way of what the server sends."""

HOWS: Final = {"tcp": ["rst", "fin", "close", "stall"], "uds": ["fin", "close"]}
"""How a connection may be cut, on each kind of transport.

rst: both ends are reset. fin: both see the end of the stream, and what they still send is taken.
close: the relay is gone, as if its process was killed. stall: nothing passes for a while, then
both ends are reset. A Unix socket knows no reset; there ``close`` looks like one when bytes of
the peer were not read.
"""


class Cut(NamedTuple):
    """Where to cut: when exactly so many bytes have passed each way."""

    how: str
    there: int
    back: int


class Relay:
    """Carries the bytes of one connection, as far as they may pass.

    Args:
        target: where the server listens.
        sock: a listening socket, for the client.
        address: its address.
    """

    def __init__(self, target: tofu.Address, sock: socket.socket, address: tofu.Address) -> None:
        self.address = address
        self.passed = (bytearray(), bytearray())
        self.order: list[tuple[int, int]] = []
        """The way and the length of each chunk that passed."""
        self._target = target
        self._sock = sock
        self._ends: list[RawPeer] = []

    async def carry(self, *limits: int) -> None:
        """Until exactly so many bytes have passed each way."""
        await self._open()

        async def pump(way: int) -> None:
            while room := limits[way] - len(self.passed[way]):
                await self._pass(way, room)

        await asyncio.gather(pump(THERE), pump(BACK))

    async def record(self, *frames: int) -> None:
        """Until so many whole frames have passed each way."""
        await self._open()

        async def pump(way: int) -> None:
            while len(boundaries(self.passed[way])) <= frames[way]:
                await self._pass(way, 65536)

        await asyncio.gather(pump(THERE), pump(BACK))

    async def cut(self, how: str) -> None:
        """End the connection, towards both; in a silence they have to end it themselves."""
        near, far = self._ends
        if how == "silence":
            await asyncio.gather(near.end(), far.end())
        if how == "stall":
            await turns(20)
        if how in {"rst", "stall"}:
            await near.reset()
            await far.reset()
        elif how == "fin":
            near.half_close()
            far.half_close()
            await asyncio.gather(near.end(), far.end())
        elif how == "close":
            near.close()
            far.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for end in self._ends:
            end.close()

    async def _open(self) -> None:
        async with asyncio.timeout(PATIENCE):
            sock, _ = await asyncio.get_running_loop().sock_accept(self._sock)
        self._ends.append(RawPeer(sock))
        self._ends.append(await RawPeer.connect(self._target))

    async def _pass(self, way: int, room: int) -> None:
        async with asyncio.timeout(PATIENCE):
            data = await asyncio.get_running_loop().sock_recv(self._ends[way].sock, room)
        assert data, f"the peer left after {[len(passed) for passed in self.passed]} bytes"
        self.passed[way].extend(data)
        self.order.append((way, len(data)))
        await self._ends[1 - way].send(data)


def boundaries(data: bytes | bytearray) -> list[int]:
    """Where frames begin in these bytes, and where the last whole one ends."""
    at, found = 0, [0]
    while at + HEADER_SIZE <= len(data):
        at += HEADER_SIZE + sum(HEADER.unpack_from(data, at)[4:])
        if at <= len(data):
            found.append(at)
    return found


@contextmanager
def street(kind: str) -> Iterator[tuple[str, socket.socket, tofu.Address]]:
    """Where a server may listen, and the socket and address for a relay before it.

    The addresses have the same length each time, so that the bytes of a flow do.
    """
    if kind == "tcp":
        with socket.create_server(("127.0.0.1", 0)) as sock:
            sock.setblocking(False)
            yield "tcp://127.0.0.1:0", sock, tofu.TcpAddress("127.0.0.1", sock.getsockname()[1])
        return
    with (
        tempfile.TemporaryDirectory(prefix="cut", dir="/tmp") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock,
    ):
        path = str(Path(folder, "r"))
        sock.bind(path)
        sock.listen()
        sock.setblocking(False)
        yield f"uds://{folder}/s", sock, tofu.UdsAddress(path)
        Path(path).unlink()
        assert not list(Path(folder).iterdir()), "a socket file was left behind"
