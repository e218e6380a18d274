"""Protocols see the same callbacks over simulated sockets as over real ones."""

from __future__ import annotations

import asyncio
import select
import selectors
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

import tofu_aio as tofu
from tofu_aio import testing
from tofu_aio.testing.ends import End
from tofu_aio.testing.sockets import SimulatedSocket

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="it compares with the sockets of Linux"
)

PATIENCE: Final = 20.0
MUCH: Final = bytes(16 << 20)
"""More than the kernel's buffers at both ends can hold."""

RESET: Final = struct.pack("ii", 1, 0)


class Recorder(asyncio.Protocol):
    """Records each callback; consecutive pieces of data count as one."""

    def __init__(self, *, keeps_open: bool = False) -> None:
        self.seen: list[object] = []
        self.received = 0
        self.keeps_open = keeps_open
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.seen.append("made")

    def data_received(self, data: bytes) -> None:
        assert data
        self.received += len(data)
        if self.seen[-1] != "data":
            self.seen.append("data")

    def eof_received(self) -> bool:
        self.seen.append("eof")
        return self.keeps_open

    def pause_writing(self) -> None:
        self.seen.append("pause")

    def resume_writing(self) -> None:
        self.seen.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.seen.append(("lost", type(exc).__name__))

    @property
    def lost(self) -> bool:
        return isinstance(self.seen[-1], tuple)

    def note(self, *words: object) -> None:
        self.seen.append(words)

    def reset(self) -> None:
        """Close with an RST."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()


async def until(predicate: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE
    while not predicate():
        assert loop.time() < end, "it did not happen in time"
        await asyncio.sleep(0.001)


def readable(recorder: Recorder) -> bool:
    """Whether unread data has arrived."""
    sock = recorder.transport.get_extra_info("socket")._sock
    if isinstance(sock, SimulatedSocket):
        return bool(sock.readiness() & selectors.EVENT_READ)
    return bool(select.select([sock], [], [], 0)[0])


def is_lost(recorder: Recorder) -> bool:
    """Whether a reset has arrived that the loop has not noticed."""
    sock = recorder.transport.get_extra_info("socket")._sock
    if isinstance(sock, SimulatedSocket):
        return isinstance(sock._target, End) and sock._target.lost
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))


async def sends_and_closes(client: Recorder, server: Recorder) -> None:
    client.transport.write(b"hello")
    client.transport.close()
    client.note(client.transport.is_closing())
    await until(lambda: client.lost and server.lost)


async def half_closes(client: Recorder, server: Recorder) -> None:
    client.transport.write(b"question")
    client.transport.write_eof()
    await until(lambda: "eof" in server.seen)
    server.note(server.transport.is_closing(), server.transport.is_reading())
    server.transport.write(b"answer")
    server.transport.close()
    await until(lambda: client.lost and server.lost)


async def closing_flushes(client: Recorder, server: Recorder) -> None:
    client.transport.write(MUCH)
    client.note(client.transport.get_write_buffer_size() > 0)
    client.transport.close()
    await until(lambda: client.lost and server.lost)
    server.note(server.received)


async def writing_pauses_and_resumes(client: Recorder, server: Recorder) -> None:
    server.transport.pause_reading()
    client.transport.set_write_buffer_limits(high=1000)
    client.note(client.transport.get_write_buffer_limits())
    client.transport.write(MUCH)
    client.note(client.transport.get_write_buffer_size() > 1000)
    server.transport.resume_reading()
    await until(lambda: server.received == len(MUCH))
    await until(lambda: "resume" in client.seen)
    client.transport.close()
    await until(lambda: client.lost and server.lost)


async def reading_pauses(client: Recorder, server: Recorder) -> None:
    server.transport.pause_reading()
    server.note(server.transport.is_reading())
    client.transport.write(b"later")
    client.transport.write_eof()
    await until(lambda: readable(server))
    server.note(server.received)
    server.transport.resume_reading()
    await until(lambda: client.lost and server.lost)


async def is_reset(client: Recorder, server: Recorder) -> None:
    client.transport.write(b"last words")
    await until(lambda: server.received)
    client.reset()
    await until(lambda: client.lost and server.lost)


async def is_reset_with_data_unread(client: Recorder, server: Recorder) -> None:
    server.transport.pause_reading()
    client.transport.write(b"last words")
    await until(lambda: readable(server))
    client.reset()
    await until(lambda: is_lost(server))
    server.note(server.transport.is_closing(), server.received)
    server.transport.resume_reading()
    await until(lambda: server.lost)
    server.note(server.received)


async def closes_with_data_unread(client: Recorder, server: Recorder) -> None:
    server.transport.pause_reading()
    client.transport.write(b"never read")
    await until(lambda: readable(server))
    server.transport.close()
    await until(lambda: client.lost and server.lost)


async def writes_to_a_peer_that_has_reset(client: Recorder, server: Recorder) -> None:
    server.transport.pause_reading()
    client.reset()
    await until(lambda: is_lost(server))
    server.note(server.transport.is_closing())
    server.transport.write(b"anyone there?")
    await until(lambda: server.lost)


async def writes_to_a_peer_that_has_closed(client: Recorder, server: Recorder) -> None:
    client.transport.close()
    await until(lambda: "eof" in server.seen)
    server.transport.write(b"one")  # is answered with a reset
    await until(lambda: is_lost(server))
    server.transport.write(b"two")
    await until(lambda: server.lost)


async def aborts_with_much_unsent(client: Recorder, server: Recorder) -> None:
    server.transport.pause_reading()
    client.transport.write(MUCH)
    await until(lambda: readable(server))
    client.transport.abort()
    client.note(client.transport.is_closing())
    await until(lambda: client.lost)
    server.transport.resume_reading()
    await until(lambda: server.lost)
    server.note(server.received < len(MUCH))


async def both_close_at_once(client: Recorder, server: Recorder) -> None:
    client.transport.close()
    server.transport.close()
    await until(lambda: client.lost and server.lost)


SCRIPTS: Final = [
    sends_and_closes,
    half_closes,
    closing_flushes,
    writing_pauses_and_resumes,
    reading_pauses,
    is_reset,
    is_reset_with_data_unread,
    closes_with_data_unread,
    writes_to_a_peer_that_has_reset,
    writes_to_a_peer_that_has_closed,
    aborts_with_much_unsent,
    both_close_at_once,
]
Script = Callable[[Recorder, Recorder], Awaitable[None]]


async def both_sides(script: Script) -> tuple[list[object], list[object]]:
    """Run the script, and return what client and server have seen."""
    loop = asyncio.get_running_loop()
    made: asyncio.Queue[Recorder] = asyncio.Queue()
    keeps_open = script in (half_closes, writes_to_a_peer_that_has_closed)

    def create_server_protocol() -> Recorder:
        server = Recorder(keeps_open=keeps_open)
        made.put_nowait(server)
        return server

    listening = await loop.create_server(create_server_protocol, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    _, client = await loop.create_connection(Recorder, "127.0.0.1", port)
    server = await made.get()
    await until(lambda: server.seen)
    await script(client, server)
    listening.close()
    await listening.wait_closed()
    await asyncio.sleep(0)
    return client.seen, server.seen


@pytest.mark.parametrize("real", ["asyncio", "reactor"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_a_protocol_sees_the_same_on_a_real_loop(script: Script, real: str) -> None:
    with asyncio.Runner(loop_factory=tofu.loop_factory(real)) as runner:
        expected = runner.run(both_sides(script))
    for seed in range(5):
        world = testing.World(seed, testing.Network(segments=(4096, 65_536)))
        assert world.run(both_sides(script)) == expected, world.trace.last()
        assert not world.open_sockets


def test_a_script_that_differs_is_found() -> None:
    one = testing.run(both_sides(is_reset))
    assert one != testing.run(both_sides(sends_and_closes))


async def raises(work: Awaitable[Any]) -> tuple[str, object]:
    try:
        await work
    except OSError as error:
        return type(error).__name__, error.errno
    raise AssertionError("it worked")


async def nobody_listens() -> tuple[str, object]:
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(Recorder, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    listening.close()
    await listening.wait_closed()
    await asyncio.sleep(0)
    return await raises(loop.create_connection(Recorder, "127.0.0.1", port))


async def the_port_is_taken() -> tuple[str, object]:
    loop = asyncio.get_running_loop()
    async with await loop.create_server(Recorder, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        return await raises(loop.create_server(Recorder, "127.0.0.1", port))


@pytest.mark.parametrize("failing", [nobody_listens, the_port_is_taken])
def test_errors_are_the_same_as_on_a_real_loop(
    failing: Callable[[], Awaitable[tuple[str, object]]],
) -> None:
    assert testing.run(failing()) == asyncio.run(failing())  # type: ignore[arg-type]


async def echo_by_streams() -> bytes:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(echo, "localhost", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("localhost", port)
        writer.write(bytes(range(256)) * 1000)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    return answer


def test_asyncio_s_own_streams_run_in_it() -> None:
    for seed in range(20):
        assert testing.run(echo_by_streams(), seed=seed) == bytes(range(256)) * 1000
