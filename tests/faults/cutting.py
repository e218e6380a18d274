"""A relay between two real peers that cuts their connection at an exact byte."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from itertools import accumulate
from pathlib import Path
from ssl import SSLContext
from typing import Final, NamedTuple, Self

import tofu_aio as tofu
from tests.faults.wiretap import Record, Wiretap
from tests.messaging.peers import PATIENCE, RawPeer, turns
from tofu_aio.protocol.binary_header import HEADER, HEADER_SIZE

THERE: Final = 0
"""The way of what the client sends."""
BACK: Final = 1
"""The way of what the server sends."""

HOWS: Final = {
    "tcp": ["rst", "fin", "close", "stall"],
    "uds": ["fin", "close"],
    "tls": ["rst", "fin", "close"],
}
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


class Street(NamedTuple):
    """Where a server may listen, a relay's socket and its address, and over TLS the keys."""

    where: str
    sock: socket.socket
    address: tofu.Address
    wiretap: Wiretap | None = None

    @property
    def client_ssl(self) -> SSLContext | None:
        return self.wiretap and self.wiretap.client

    @property
    def server_ssl(self) -> SSLContext | None:
        return self.wiretap and self.wiretap.server


class Relay:
    """Carries the bytes of one connection, as far as they may pass.

    Args:
        target: where the server listens.
        street: where the client finds the relay.
    """

    def __init__(self, target: tofu.Address, street: Street) -> None:
        self.address = street.address
        self.passed = (bytearray(), bytearray())
        self.order: list[tuple[int, int]] = []
        """The way and the length of each chunk that passed."""
        self._target = target
        self._sock = street.sock
        self._wiretap = street.wiretap
        self._ends: list[RawPeer] = []

    async def carry(self, *limits: int) -> None:
        """Until exactly so many bytes have passed each way."""
        await self._open()

        async def pump(way: int) -> None:
            while room := limits[way] - len(self.passed[way]):
                await self._pass(way, room)

        await asyncio.gather(pump(THERE), pump(BACK))

    async def record(self, *messages: int) -> None:
        """Until so many whole messages have passed each way."""
        await self._open()

        async def pump(way: int) -> None:
            while len(self.ends(way)) <= messages[way]:
                await self._pass(way, 65536)

        await asyncio.gather(pump(THERE), pump(BACK))

    def ends(self, way: int) -> list[int]:
        """Where in what has passed the messages begin, and where the last whole one ends."""
        records = self._records(way)
        sums = list(accumulate(len(record.data) for record in records))
        found = frames(b"".join(record.data for record in records))
        return [0] + [
            records[bisect_left(sums, frame.end)].end for frame in found if not frame.is_heartbeat
        ]

    def edges(self, way: int) -> list[int]:
        """Where in what has passed something is whole: a frame, or over TLS a record."""
        return [0] + [record.end for record in self._records(way)]

    def beats(self, way: int) -> int:
        """How many heartbeats have passed."""
        data = b"".join(record.data for record in self._records(way))
        return sum(frame.is_heartbeat for frame in frames(data))

    def _records(self, way: int) -> list[Record]:
        if self._wiretap is not None:
            return self._wiretap.records(way, self.passed)
        data, begin, found = bytes(self.passed[way]), 0, []
        for end, _ in frames(data):
            found.append(Record(end, data[begin:end]))
            begin = end
        return found

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
            for end in (near, far):
                with suppress(OSError):  # it has reset the connection itself
                    end.half_close()
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
        for end in self._ends:
            if end.sock.family == socket.AF_INET:
                # What has passed is on its way, not still here, where closing would drop it.
                end.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def _pass(self, way: int, room: int) -> None:
        async with asyncio.timeout(PATIENCE):
            data = await asyncio.get_running_loop().sock_recv(self._ends[way].sock, room)
        assert data, f"the peer left after {[len(passed) for passed in self.passed]} bytes"
        self.passed[way].extend(data)
        self.order.append((way, len(data)))
        await self._ends[1 - way].send(data)


class Frame(NamedTuple):
    """A whole frame: where it ends, and whether it is one of those that are no message."""

    end: int
    is_heartbeat: bool


def frames(data: bytes) -> list[Frame]:
    """The whole frames that these bytes begin with."""
    at, found = 0, []
    while at + HEADER_SIZE <= len(data):
        _, _, _, message_id, *lengths = HEADER.unpack_from(data, at)
        at += HEADER_SIZE + sum(lengths)
        if at <= len(data):
            found.append(Frame(at, not message_id))
    return found


@contextmanager
def street(kind: str) -> Iterator[Street]:
    """A street of this kind.

    The addresses have the same length each time, so that the bytes of a flow do.
    """
    if kind == "uds":
        with _unix_street() as found:
            yield found
        return
    with (
        socket.create_server(("127.0.0.1", 0)) as sock,
        Wiretap() if kind == "tls" else nullcontext() as wiretap,
    ):
        sock.setblocking(False)
        address = tofu.TcpAddress("127.0.0.1", sock.getsockname()[1])
        yield Street("tcp://127.0.0.1:0", sock, address, wiretap)


@contextmanager
def _unix_street() -> Iterator[Street]:
    with (
        tempfile.TemporaryDirectory(prefix="cut", dir="/tmp") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock,
    ):
        path = str(Path(folder, "r"))
        sock.bind(path)
        sock.listen()
        sock.setblocking(False)
        yield Street(f"uds://{folder}/s", sock, tofu.UdsAddress(path))
        Path(path).unlink()
        assert not list(Path(folder).iterdir()), "a socket file was left behind"
