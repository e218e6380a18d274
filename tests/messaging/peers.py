"""Peers that speak the wire by hand, so that they can also get it wrong, and ways to wait."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, NamedTuple, Self

import tofu_aio as tofu
from tests.systems import WINE
from tofu_aio.messaging.accepting.admission import Admission
from tofu_aio.messaging.connection.connection import Connection
from tofu_aio.messaging.delivery.incoming_requests import IncomingRequests
from tofu_aio.messaging.delivery.pending_requests import PendingRequests
from tofu_aio.messaging.limits import EARLY_BYTES
from tofu_aio.protocol.binary_header import HEADER, HEADER_SIZE
from tofu_aio.protocol.decoder import Decoder
from tofu_aio.protocol.lifecycle import State

PATIENCE = 20.0
"""Seconds after which a test says what it waits for in vain. Nothing is timed by it."""

RESET = struct.pack("ii", 1, 0)


class Pair(NamedTuple):
    """Both ends of one channel."""

    client: tofu.Channel
    server: tofu.Channel


async def until(predicate: Callable[[], object], what: str = "") -> None:
    """Let the loop turn until the predicate holds."""
    loop = asyncio.get_running_loop()
    patience_ends = loop.time() + PATIENCE
    turns = 0
    while not predicate():
        assert loop.time() < patience_ends, f"waited in vain {what or 'for the predicate'}"
        turns += 1
        # A few turns suffice for what is local; what the kernel does may take a moment.
        await asyncio.sleep(0 if turns < 50 else 0.001)


async def turns(count: int) -> None:
    """Let the loop turn so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def turns_counted() -> AsyncIterator[Callable[[], int]]:
    """Count how often other tasks have their turn, until the end of the block.

    Gives what tells how often it was by now.
    """
    count = 0

    async def tick() -> None:
        nonlocal count
        while True:
            count += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    try:
        yield lambda: count
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)


async def takes_some(peer: RawPeer, channel: tofu.Channel) -> None:
    """Have a peer read until less is queued for it than now."""
    before = connection_of(channel).queue.nbytes
    while connection_of(channel).queue.nbytes >= before:
        await peer._receive()


async def flooded(peer: RawPeer, channel: tofu.Channel) -> tuple[asyncio.Task[None], ...]:
    """Have a peer send requests without a pause, and read none of the answers that it is sent.

    Returns once nothing moves any more, with the tasks that try.
    """

    async def flood() -> None:
        while True:
            await peer._loop.sock_sendall(peer.sock, frame(body=bytes(60_000)))

    async def answer() -> None:
        async for request in channel:
            with request:
                await channel.reply(request, bytes(request.body))

    tasks = asyncio.create_task(flood()), asyncio.create_task(answer())
    connection = connection_of(channel)
    await until(lambda: connection.suspended and connection.queue.paused)
    await settled(channel)
    return tasks


async def settled(*channels: tofu.Channel) -> None:
    """Wait until nothing moves any more: what was sent has been taken, or is held up for good."""
    before: object = None
    calm = 0
    while calm < 20:
        await asyncio.sleep(0 if calm < 10 else 0.001)
        now = [
            (replace(c.statistics(), suspended_for=0.0), c.state, connection_of(c).decoder.held)
            for c in channels
        ]
        calm = calm + 1 if now == before else 0
        before = now


def connection_of(channel: tofu.Channel) -> Connection:
    """What is beneath a channel, to look at."""
    return channel._connection


def answers_of(channel: tofu.Channel) -> PendingRequests:
    """What it has asked."""
    return channel._dispatcher.pending or PendingRequests(connection_of(channel))


def heard_by(channel: tofu.Channel) -> IncomingRequests:
    """What it knows of its peer's requests."""
    return channel._dispatcher.incoming or IncomingRequests(
        connection_of(channel), channel._mailbox
    )


def remembered(channel: tofu.Channel) -> int:
    """How many requests, exchanges, and bodies in parts it knows, of either side's."""
    asked, heard = answers_of(channel), heard_by(channel)
    known = (asked.requests, asked.posted, asked.exchanges, asked._joins)
    return sum(map(len, (*known, heard.parts, heard.exchanges, heard._scopes)))


def held_up(engine: tofu.Engine) -> int:
    """How many of its channels wait for room, because of others or of their own messages."""
    now = engine.statistics()
    return now.waiting + now.over_share


def check_nothing_is_held(engine: tofu.Engine) -> None:
    """All permits and reserves are back, and nobody waits for any, or for a response."""
    gc.collect()
    left = engine.statistics()
    assert left.pool_free == left.pool_size, f"permits left behind: {left}"
    held = (left.reserves, left.inbox, left.application, left.outgoing, left.joining_bytes)
    assert held == (0, 0, 0, 0, 0), f"left behind: {left}"
    assert (left.awaited, left.waiting, left.over_share) == (0, 0, 0), f"left behind: {left}"


def transport_of(channel: tofu.Channel) -> asyncio.Transport:
    """What is beneath that."""
    transport = connection_of(channel).queue.transport
    assert transport is not None
    return transport


def frame(
    op_code: int = tofu.OpCode.REQUEST,
    body: bytes = b"",
    headers: bytes = b"",
    *,
    message_id: int = 1,
    channel: int = 9,
    status: int = 0,
    headers_len: int | None = None,
    body_len: int | None = None,
) -> bytes:
    """A frame by hand, right unless the arguments make it wrong."""
    return (
        HEADER.pack(
            channel,
            op_code,
            status,
            message_id,
            len(headers) if headers_len is None else headers_len,
            len(body) if body_len is None else body_len,
        )
        + headers
        + body
    )


def hello(address: tofu.Address | None = None, message_id: int = 1) -> bytes:
    """A good first frame."""
    where = address.to_header() if address is not None else "tcp|127.0.0.1|1"
    line = f"~connect_to:{where}\r\n".encode()
    return frame(tofu.OpCode.HELLO_REQUEST, headers=line, message_id=message_id)


LARGE_HELLO = frame(
    tofu.OpCode.HELLO_REQUEST, bytes(2 * EARLY_BYTES), b"~connect_to:tcp|127.0.0.1|1\r\n"
)
ENOUGH = EARLY_BYTES
"""Bytes of it that make a stranger of who says them."""


class RawPeer:
    """One socket, and nobody who keeps its user from sending nonsense."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._loop = asyncio.get_running_loop()
        self._pending = b""

    @classmethod
    async def connect(cls, address: tofu.Address) -> Self:
        """Connect, and say nothing."""
        if isinstance(address, tofu.UdsAddress):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            path = address.path
            name: Any = "\0" + path[1:] if address.abstract else path
        else:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            name = (address.host, address.port)
        peer = cls(sock)
        try:
            await peer._loop.sock_connect(sock, name)
        except BaseException:
            sock.close()
            raise
        return peer

    @classmethod
    async def introduced(cls, address: tofu.Address) -> Self:
        """Connect, say Hello and hear the answer."""
        peer = await cls.connect(address)
        try:
            await peer.send(hello(address))
            answer = await peer.message()
        except BaseException:
            peer.close()
            raise
        assert (answer.op_code, answer.message_id) == (tofu.OpCode.HELLO_RESPONSE, 1)
        return peer

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        async with asyncio.timeout(PATIENCE):
            await self._loop.sock_sendall(self.sock, data)

    async def _receive(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self._loop.sock_recv(self.sock, 65536)

    async def message(self) -> tofu.Message:
        """The next whole frame."""
        while True:
            data = self._pending
            if len(data) >= HEADER_SIZE:
                size = HEADER_SIZE + sum(HEADER.unpack_from(data)[4:])
                if len(data) >= size:
                    self._pending = data[size:]
                    (message,) = Decoder(None, State.OVERHEARD).feed(data[:size])
                    return message
            more = await self._receive()
            assert more, "the connection ended before the frame did"
            self._pending += more

    async def resets(self) -> bool:
        """Wait for the connection's end, and tell whether it was a reset."""
        try:
            while await self._receive():
                pass
        except ConnectionResetError:
            return True
        return False

    async def until_reset(self) -> None:
        """Wait for the connection's end: a reset, though Wine tells of an orderly one instead."""
        assert await self.resets() or WINE

    async def end(self) -> bytes:
        """Wait for the connection's end, orderly or not, and return what came before it."""
        data, self._pending = self._pending, b""
        with contextlib.suppress(ConnectionError):
            while more := await self._receive():
                data += more
        return data

    def half_close(self) -> None:
        """Send no more."""
        self.sock.shutdown(socket.SHUT_WR)

    async def reset(self) -> None:
        """Go away with an RST (TCP), once all that was sent has arrived."""
        if sys.platform == "linux" and self.sock.family == socket.AF_INET:
            import fcntl
            import termios

            def unacknowledged() -> int:
                if self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    return 0  # the peer was faster to reset it: no acknowledgement comes any more
                (count,) = struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)))
                return int(count)

            await until(lambda: not unacknowledged())
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.sock.close()

    def close(self) -> None:
        """Go away."""
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class RawServer:
    """A listening TCP socket, and what it accepts by hand."""

    def __init__(self, backlog: int = 8) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.sock.setblocking(False)
        self.address = tofu.TcpAddress("127.0.0.1", self.sock.getsockname()[1])

    async def accept(self) -> RawPeer:
        """The next connection."""
        async with asyncio.timeout(PATIENCE):
            sock, _ = await asyncio.get_running_loop().sock_accept(self.sock)
        return RawPeer(sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.sock.close()


class Watched:
    """A transport that notes how often its reading was paused and resumed."""

    def __init__(self, channel: tofu.Channel) -> None:
        self.calls: list[str] = []
        self._transport = transport_of(channel)
        connection_of(channel).queue.transport = self  # type: ignore[assignment]

    def pause_reading(self) -> None:
        self.calls.append("pause")
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self.calls.append("resume")
        self._transport.resume_reading()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def admission_of(listener: tofu.Listener) -> Admission:
    """Who waits to become a channel of it."""
    assert listener._admission is not None
    return listener._admission


@contextlib.asynccontextmanager
async def met(
    group: tofu.ChannelGroup, address: str = "tcp://127.0.0.1:0", **options: Any
) -> AsyncIterator[tuple[RawPeer, tofu.Channel]]:
    """A peer by hand, and the channel that it has, of a listener with these options."""
    async with await group.listen(address, **options) as listener:
        accepting = asyncio.create_task(listener.accept())
        peer = await RawPeer.introduced(listener.address)
        channel = await accepting
    with peer:
        yield peer, channel
