"""The transports of the reactor's loop, where asyncio's have faults."""

from __future__ import annotations

import array
import asyncio
import collections
import contextlib
import os
import socket
import struct
import sys
import tempfile
import tracemalloc

import pytest

from tests.blocking.interrupting import Interruption
from tests.messaging.certificates import client_context, server_context
from tests.systems import needs_resets
from tofu_aio.reactor import Loop
from tofu_aio.reactor.transports import SocketTransport, sent_one_by_one

MEGABYTE = bytes(range(256)) * 4096

unix_only = pytest.mark.skipif(
    sys.platform == "win32", reason="there the loop has neither pipes nor Unix sockets"
)


class Told(asyncio.Protocol):
    """What a transport tells its protocol, and what the protocol does as writing resumes."""

    def __init__(self):
        self.lost = []
        self.eofs = 0
        self.eof = asyncio.Event()
        self.paused = False
        self.resumed = asyncio.Event()
        self.ended = asyncio.Event()
        self.as_writing_resumes = lambda: None

    def eof_received(self):
        self.eofs += 1
        self.eof.set()
        return True

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        self.resumed.set()
        self.as_writing_resumes()

    def error_received(self, error):
        raise error

    def connection_lost(self, error):
        self.lost.append(error)
        self.ended.set()


def run(main):
    """Run on the reactor's loop, and fail if a callback does."""
    failures = []

    async def watched():
        asyncio.get_running_loop().set_exception_handler(lambda _, what: failures.append(what))
        async with asyncio.timeout(30):
            result = await main()
            await asyncio.sleep(0)  # what was scheduled meanwhile may fail as well
            await asyncio.sleep(0)
        return result

    with asyncio.Runner(loop_factory=Loop) as runner:
        result = runner.run(watched())
    assert not failures
    return result


async def connected():
    ours, peer = socket.socketpair()
    peer.setblocking(False)
    protocol = Told()
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
    return transport, protocol, peer


async def connected_over_tcp():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
    peer.setblocking(False)
    protocol = Told()
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
    return transport, protocol, peer


def fill(transport, protocol):
    """Write until the protocol is to pause, and return what was written."""
    written = b""
    while not protocol.paused:
        transport.write(MEGABYTE)
        written += MEGABYTE
    return written


async def read_all(peer):
    """Read until the end of the stream, and close."""
    loop = asyncio.get_running_loop()
    pieces = []
    with peer:
        while piece := await loop.sock_recv(peer, 1 << 20):
            pieces.append(piece)
    return b"".join(pieces)


async def read_until(peer, event):
    """Read what there is until something has happened, or the peer is closed."""
    while not event.is_set() and peer.fileno() >= 0:
        with contextlib.suppress(BlockingIOError):
            peer.recv(1 << 20)
        await asyncio.sleep(0)


def reset(peer):
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


async def end(transport, protocol, peer):
    transport.abort()
    await protocol.ended.wait()
    peer.close()


# Signal handlers, and finalizers.


async def written_by_a_handler(at, more, reads, closing):
    """Write at the n-th point of the transport's sending; return what was taken, and what came."""
    transport, protocol, peer = await connected()
    taken, came = bytearray(), bytearray()

    def write(data):
        if transport._may_write:
            taken.extend(data)
        transport.write(data)

    def make_room():
        with contextlib.suppress(BlockingIOError):
            while piece := peer.recv(1 << 20):
                came.extend(piece)

    def handler():
        make_room()
        write(MEGABYTE)  # more than the system takes

    interruption = Interruption(at, handler)
    send_kept, sent = transport._send_kept, asyncio.Event()

    def interrupted():
        first = not sent.is_set()
        sent.set()
        return interruption.during(send_kept) if first else send_kept()

    transport._send_kept = interrupted
    if not reads:
        transport.pause_reading()
    while not transport.get_write_buffer_size():
        write(b"of the program" * 100)
    if more:
        write(MEGABYTE)
    if closing:
        transport.close()
    make_room()
    await sent.wait()
    transport.close()
    came += await read_all(peer)
    await protocol.ended.wait()
    assert protocol.lost == [None]
    return interruption.points, taken, came


@pytest.mark.parametrize("closing", [False, True], ids=["open", "closing"])
@pytest.mark.parametrize("reads", [False, True], ids=["not read", "read"])
@pytest.mark.parametrize("more", [False, True], ids=["the last bytes leave", "some leave"])
def test_what_a_signal_handler_writes_follows_what_waits(more, reads, closing):
    def attempt(at):
        points, taken, came = run(lambda: written_by_a_handler(at, more, reads, closing))
        assert came == taken, at
        return points

    points = attempt(0)  # counts them
    assert points > 5
    for at in range(1, points + 1):
        attempt(at)


# Chunks.


@pytest.mark.parametrize("chunks", [[b"hello", b""], [b"", b"hello"], [b"hello", b"", b""]])
def test_an_empty_chunk_does_not_keep_a_transport_open(chunks):
    async def main():
        transport, protocol, peer = await connected()
        transport.writelines(chunks)
        transport.close()
        assert await read_all(peer) == b"hello"
        await protocol.ended.wait()
        assert protocol.lost == [None]

    run(main)


def test_nothing_but_empty_chunks_is_nothing():
    async def main():
        transport, protocol, peer = await connected()
        transport.writelines([b"", b""])
        transport.write(b"")
        transport.close()
        assert await read_all(peer) == b""
        await protocol.ended.wait()

    run(main)


@pytest.mark.parametrize("wait", [False, True], ids=["about to be told", "told"])
def test_chunks_for_a_lost_connection_are_dropped(wait):
    async def main():
        transport, protocol, peer = await connected()
        transport.abort()
        if wait:
            await protocol.ended.wait()
        transport.writelines([b"late", b"r"])
        assert transport.get_write_buffer_size() == 0
        assert await read_all(peer) == b""

    run(main)


def test_what_no_transport_takes_is_refused_and_nothing_of_it_sent():
    async def main():
        transport, protocol, peer = await connected()
        with pytest.raises(TypeError):
            transport.write("text")
        with pytest.raises(TypeError):
            transport.writelines([b"bytes", "text"])
        transport.write_eof()
        with pytest.raises(RuntimeError):
            transport.write(b"late")
        with pytest.raises(RuntimeError):
            transport.writelines([b"late"])
        assert await read_all(peer) == b""
        transport.close()
        await protocol.ended.wait()

    run(main)


@pytest.mark.parametrize("send", [None, sent_one_by_one], ids=["this system", "without sendmsg"])
def test_chunks_arrive_whole_and_in_order(send, monkeypatch):
    if send is not None:
        monkeypatch.setattr(SocketTransport, "_sent_of", staticmethod(send))

    async def main():
        transport, protocol, peer = await connected()
        chunks = [MEGABYTE[: 7 * number] for number in range(3000)]
        transport.writelines(chunks[:2000])
        assert protocol.paused  # by `writelines`, with nothing else written
        transport.write(MEGABYTE)
        transport.writelines(chunk for chunk in chunks[2000:])
        transport.close()
        assert await read_all(peer) == b"".join((*chunks[:2000], MEGABYTE, *chunks[2000:]))
        await protocol.ended.wait()
        assert protocol.lost == [None]
        assert transport.get_write_buffer_size() == 0

    run(main)


@pytest.mark.parametrize("shape", [[2_000_000], [1000, 2000]])
@pytest.mark.parametrize("together", [False, True])
def test_of_longer_items_than_bytes_nothing_is_lost_or_repeated(shape, together):
    data = memoryview(array.array("I", range(2_000_000))).cast("B").cast("I", shape)

    async def main():
        transport, protocol, peer = await connected()
        if together:
            transport.writelines([data, b"end"])
        else:
            transport.write(data)
            transport.write(b"end")
        transport.close()
        assert await read_all(peer) == data.tobytes() + b"end"
        await protocol.ended.wait()

    run(main)


@pytest.mark.parametrize("view", [False, True], ids=["bytearray", "view of one"])
@pytest.mark.parametrize("waits", [False, True], ids=["none waits", "more waits"])
@pytest.mark.parametrize("together", [False, True], ids=["write", "writelines"])
def test_what_was_written_may_be_reused(together, waits, view):
    async def main():
        transport, protocol, peer = await connected()
        before = fill(transport, protocol) if waits else b""
        reused = bytearray(8 * MEGABYTE)  # twice that is more than a socket of TCP takes
        written = memoryview(reused) if view else reused
        if together:
            transport.writelines([b"first", written, written])
        else:
            transport.write(b"first")
            transport.write(written)
            transport.write(written)
        del written
        assert transport.get_write_buffer_size()
        reused[:] = bytes(len(reused))
        reused.clear()
        transport.close()
        assert await read_all(peer) == before + b"first" + 16 * MEGABYTE
        await protocol.ended.wait()

    run(main)


def test_to_write_does_not_look_at_all_that_waits():
    class Watched(collections.deque):
        looks = 0

        def __iter__(self):
            Watched.looks += 1
            return super().__iter__()

    async def main():
        transport, protocol, peer = await connected()
        transport._buffer = Watched()
        fill(transport, protocol)
        for _ in range(10):
            transport.write(b"more")
        assert transport.get_write_buffer_size() > 40
        assert Watched.looks == 0
        await end(transport, protocol, peer)

    run(main)


def test_a_long_chunk_is_not_copied_while_it_is_sent():
    long = bytes(64 * 1024 * 1024)

    async def main():
        transport, protocol, peer = await connected()
        fill(transport, protocol)
        transport.write(long)
        transport.close()
        loop = asyncio.get_running_loop()
        tracemalloc.start()
        try:
            room = bytearray(1 << 20)
            while await loop.sock_recv_into(peer, room):
                pass
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        peer.close()
        await protocol.ended.wait()
        assert peak < len(long) / 4

    run(main)


# As writing resumes.


@pytest.mark.parametrize("leave", ["close", "abort"])
def test_who_leaves_as_writing_resumes_is_told_of_the_end_once(leave):
    async def main():
        transport, protocol, peer = await connected()
        protocol.as_writing_resumes = getattr(transport, leave)
        fill(transport, protocol)
        await read_all(peer)
        await protocol.ended.wait()
        await asyncio.sleep(0)
        assert protocol.lost == [None]

    run(main)


def test_a_loss_that_is_noticed_as_writing_resumes_is_told_once_with_its_error():
    async def main():
        transport, protocol, peer = await connected_over_tcp()

        def lose():
            reset(peer)
            transport.write(b"into the void")

        protocol.as_writing_resumes = lose
        transport.pause_reading()  # or that could notice first
        fill(transport, protocol)
        await read_until(peer, protocol.ended)
        await protocol.ended.wait()
        assert [type(error) for error in protocol.lost] == [ConnectionResetError]

    run(main)


def test_what_is_written_as_writing_resumes_is_sent_although_the_transport_is_closing():
    async def main():
        transport, protocol, peer = await connected()
        last = [MEGABYTE, MEGABYTE, b"the last"]

        def more():
            while last and not protocol.paused:
                transport.write(last.pop(0))

        protocol.as_writing_resumes = more
        written = fill(transport, protocol)
        transport.close()
        assert await read_all(peer) == written + MEGABYTE + MEGABYTE + b"the last"
        await protocol.ended.wait()
        assert protocol.lost == [None]

    run(main)


def test_an_aborted_transport_holds_nothing_and_sends_nothing_more():
    async def main():
        transport, protocol, peer = await connected()
        written = fill(transport, protocol)
        transport.abort()
        assert transport.get_write_buffer_size() == 0
        await protocol.ended.wait()
        assert len(await read_all(peer)) < len(written)

    run(main)


# The end of a stream.


def test_the_end_is_told_once_however_often_reading_pauses():
    async def main():
        transport, protocol, peer = await connected()
        peer.shutdown(socket.SHUT_WR)
        await protocol.eof.wait()
        transport.pause_reading()
        transport.resume_reading()
        await asyncio.sleep(0.01)
        assert protocol.eofs == 1
        transport.write(b"the other way is open")
        transport.close()
        assert await read_all(peer) == b"the other way is open"
        await protocol.ended.wait()

    run(main)


@pytest.mark.parametrize(
    "waits",
    [pytest.param(False, marks=needs_resets), True],
    ids=["nothing waits", "something waits"],
)
def test_to_end_a_stream_whose_peer_has_gone_is_no_error(waits):
    async def main():
        transport, protocol, peer = await connected_over_tcp()
        transport.pause_reading()
        if waits:
            fill(transport, protocol)
            transport.write_eof()
            reset(peer)
        else:
            reset(peer)
            transport.write_eof()
        transport.resume_reading()
        await protocol.ended.wait()
        assert len(protocol.lost) == 1

    run(main)


def test_an_end_that_waits_for_the_rest_follows_it():
    async def main():
        transport, protocol, peer = await connected()
        written = fill(transport, protocol)
        transport.write_eof()
        assert await read_all(peer) == written
        transport.close()
        await protocol.ended.wait()

    run(main)


# Files.


@pytest.fixture
def long_file():
    with tempfile.TemporaryFile() as file:
        file.write(MEGABYTE * 16)
        file.seek(0)
        yield file


async def begun(sending):
    """Let a task run until it can only wait."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert not sending.done()


def test_a_file_follows_what_was_written_before(long_file):
    async def main():
        transport, protocol, peer = await connected()
        written = fill(transport, protocol)
        loop = asyncio.get_running_loop()
        reading = asyncio.create_task(read_all(peer))
        assert await loop.sendfile(transport, long_file) == len(MEGABYTE) * 16
        transport.write(b"after")
        transport.close()
        assert await reading == written + MEGABYTE * 16 + b"after"
        await protocol.ended.wait()

    run(main)


@pytest.mark.parametrize("filled", [True, False], ids=["waiting for its turn", "half sent"])
def test_a_transport_goes_on_when_the_sending_of_a_file_is_cancelled(long_file, filled):
    async def main():
        transport, protocol, peer = await connected()
        loop = asyncio.get_running_loop()
        written = fill(transport, protocol) if filled else b""
        sending = asyncio.create_task(loop.sendfile(transport, long_file))
        await begun(sending)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert transport.is_reading()
        with pytest.raises(RuntimeError, match="used by transport"):
            loop.add_reader(transport.get_extra_info("socket").fileno(), print)
        transport.write(b"after")
        transport.close()
        read = await read_all(peer)
        assert read.startswith(written)
        assert read.endswith(b"after")
        await protocol.ended.wait()

    run(main)


@pytest.mark.parametrize("leave", ["close", "abort"])
@pytest.mark.parametrize("filled", [True, False], ids=["waiting for its turn", "half sent"])
def test_the_sending_of_a_file_ends_with_the_connection(long_file, filled, leave):
    async def main():
        transport, protocol, peer = await connected()
        loop = asyncio.get_running_loop()
        if filled:
            fill(transport, protocol)
        by_system = hasattr(os, "sendfile")
        sending = asyncio.create_task(loop.sendfile(transport, long_file, fallback=not by_system))
        await begun(sending)
        number = transport.get_extra_info("socket").fileno()
        getattr(transport, leave)()
        reading = asyncio.create_task(read_all(peer))
        with pytest.raises(ConnectionError):
            await sending
        await reading
        await protocol.ended.wait()
        assert protocol.lost == [None]
        assert number not in loop._selector.get_map()
        if by_system:  # else asyncio's, which stays there, closed, while somebody has it
            assert number not in loop._transports

    run(main)


# Who makes them.


def test_servers_and_tls_have_them_as_well():
    lower = []

    class Noted(SocketTransport):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            lower.append(type(self.get_protocol()).__name__)

    async def main():
        async def serve(reader, writer):
            writer.writelines([await reader.readline(), b""])
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context())
        async with server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=client_context(), server_hostname="localhost"
            )
            writer.write(b"hello\n")
            assert await reader.read() == b"hello\n"
            writer.close()
            await writer.wait_closed()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tofu_aio.reactor.transports.SocketTransport", Noted)
        run(main)
    assert lower == ["SSLProtocol", "SSLProtocol"]


# Datagrams and pipes.


async def datagrams(folder):
    ours, peer = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    peer.bind(str(folder / "peer"))
    peer.setblocking(False)
    ours.connect(str(folder / "peer"))
    ours.setblocking(False)
    protocol = Told()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: protocol, sock=ours)
    transport.set_write_buffer_limits(high=1000)
    while not protocol.paused:
        transport.sendto(bytes(100))
    return transport, protocol, peer


@unix_only
def test_datagrams_that_were_sent_are_no_longer_counted(tmp_path):
    async def main():
        transport, protocol, peer = await datagrams(tmp_path)
        await read_until(peer, protocol.resumed)
        transport.close()
        await read_until(peer, protocol.ended)
        assert transport.get_write_buffer_size() == 0
        peer.close()

    run(main)


@unix_only
def test_an_aborted_datagram_transport_holds_nothing(tmp_path):
    async def main():
        transport, protocol, peer = await datagrams(tmp_path)
        transport.abort()
        assert transport.get_write_buffer_size() == 0
        await protocol.ended.wait()
        peer.close()

    run(main)


@unix_only
@pytest.mark.parametrize("leave", ["close", "abort"])
def test_who_leaves_as_sending_resumes_is_told_of_the_end_once(leave, tmp_path):
    async def main():
        transport, protocol, peer = await datagrams(tmp_path)
        transport.set_write_buffer_limits(high=1000, low=0)
        protocol.as_writing_resumes = getattr(transport, leave)
        await read_until(peer, protocol.ended)
        await asyncio.sleep(0)
        assert protocol.lost == [None]
        peer.close()

    run(main)


async def pipe():
    reading, writing = os.pipe()
    protocol = Told()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_write_pipe(lambda: protocol, os.fdopen(writing, "wb", 0))
    return transport, protocol, os.fdopen(reading, "rb", 0)


async def read_pipe(reading):
    with reading:
        return await asyncio.to_thread(reading.readall)


@unix_only
def test_a_pipe_that_is_closed_and_then_aborted_is_told_of_the_end_once():
    async def main():
        transport, protocol, reading = await pipe()
        transport.close()
        transport.abort()
        await protocol.ended.wait()
        await asyncio.sleep(0)
        assert protocol.lost == [None]
        reading.close()

    run(main)


@unix_only
@pytest.mark.parametrize("leave", ["close", "abort"])
def test_who_leaves_a_pipe_as_writing_resumes_is_told_of_the_end_once(leave):
    async def main():
        transport, protocol, reading = await pipe()
        protocol.as_writing_resumes = getattr(transport, leave)
        written = fill(transport, protocol)
        assert await read_pipe(reading) == written
        await protocol.ended.wait()
        await asyncio.sleep(0)
        assert protocol.lost == [None]

    run(main)


@unix_only
def test_a_pipe_loses_nothing_of_longer_items_than_bytes():
    data = memoryview(array.array("I", range(2_000_000)))

    async def main():
        transport, protocol, reading = await pipe()
        transport.write(data)
        transport.close()
        assert await read_pipe(reading) == data.tobytes()
        await protocol.ended.wait()

    run(main)
