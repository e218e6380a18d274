"""What programs do with asyncio's loop, done on ours; CPython's own tests go through the rest."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.messaging.certificates import new_authority
from tofu_aio.reactor import Loop

posix = pytest.mark.skipif(sys.platform == "win32", reason="asyncio has it on Unix alone")


@pytest.fixture
def run():
    """Run a coroutine on a loop in debug mode, which checks where calls come from."""
    with asyncio.Runner(loop_factory=Loop, debug=True) as runner:
        yield runner.run


@posix
def test_subprocesses(run):
    async def main():
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "import sys; print(sys.stdin.read()[::-1]); sys.exit(3)",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        output, _ = await child.communicate(b"abc" * 100_000)
        return output.strip(), child.returncode

    assert run(main()) == (b"cba" * 100_000, 3)


@posix
def test_signal_handlers(run):
    async def main():
        loop = asyncio.get_running_loop()
        seen = asyncio.Queue()
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            loop.add_signal_handler(number, seen.put_nowait, number)
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1):
            os.kill(os.getpid(), number)
            assert await seen.get() == number
        assert loop.remove_signal_handler(signal.SIGUSR1)
        assert loop.remove_signal_handler(signal.SIGUSR2)

    run(main())


@posix
def test_a_pipe_s_writer_sees_its_reader_close(run):
    """It registers READ for that, and a hang-up must reach whichever interest is registered."""

    class Writing(asyncio.BaseProtocol):
        def __init__(self):
            self.lost = asyncio.get_running_loop().create_future()

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    async def main():
        reader, writer = os.pipe()
        transport, protocol = await asyncio.get_running_loop().connect_write_pipe(
            Writing, os.fdopen(writer, "wb", 0)
        )
        transport.write(b"x")
        assert os.read(reader, 1) == b"x"
        os.close(reader)
        await protocol.lost

    run(main())


@posix
def test_a_pipe_s_reader_reads_to_the_end(run):
    async def main():
        reader, writer = os.pipe()
        stream = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reader, "rb", 0)
        )
        with ThreadPoolExecutor(1) as pool, os.fdopen(writer, "wb", 0) as file:
            writing = asyncio.get_running_loop().run_in_executor(pool, file.write, b"x" * 50_000)
            assert await stream.readexactly(50_000) == b"x" * 50_000
            await writing
        assert await stream.read() == b""
        transport.close()

    run(main())


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets")
def test_unix_sockets(run, socket_path):
    async def echo(reader, writer):
        writer.write(await reader.read())
        writer.close()
        await writer.wait_closed()

    async def main():
        server = await asyncio.start_unix_server(echo, socket_path)
        async with server:
            reader, writer = await asyncio.open_unix_connection(socket_path)
            writer.write(b"x" * 1_000_000)
            writer.write_eof()
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
        return answer

    assert run(main()) == b"x" * 1_000_000
    # Python 3.13 removes it itself.
    Path(socket_path).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def contexts():
    """The two ends of TLS: a server's context and that of a client who trusts it."""
    authority = new_authority()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


def test_tls(run, contexts):
    server_context, client_context = contexts

    async def echo(reader, writer):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context)
        async with server:
            reader, writer = await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=client_context, server_hostname="localhost"
            )
            sent = os.urandom(1_000_000)
            writer.write(sent)
            assert await reader.readexactly(len(sent)) == sent
            writer.close()
            await writer.wait_closed()

    run(main())


def test_tls_is_refused_to_who_does_not_trust(run, contexts):
    server_context, _ = contexts

    async def main():
        # Its side of the handshake fails as well, which is no business of the program's.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        server = await asyncio.start_server(print, "127.0.0.1", 0, ssl=server_context)
        async with server:
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection(
                    *server.sockets[0].getsockname(),
                    ssl=ssl.create_default_context(),
                    server_hostname="localhost",
                )

    run(main())


@pytest.mark.parametrize("secure", [False, True])
def test_sendfile(run, contexts, tmp_path, secure):
    server_context, client_context = contexts if secure else (None, None)
    content = os.urandom(1_000_000)
    path = tmp_path / "file"
    path.write_bytes(content)

    async def send(_, writer):
        with path.open("rb") as file:
            await asyncio.get_running_loop().sendfile(writer.transport, file)
        writer.close()

    async def main():
        server = await asyncio.start_server(send, "127.0.0.1", 0, ssl=server_context)
        async with server:
            reader, writer = await asyncio.open_connection(
                *server.sockets[0].getsockname(),
                ssl=client_context,
                server_hostname="localhost" if secure else None,
            )
            assert await reader.read() == content
            writer.close()
            await writer.wait_closed()

    run(main())


def test_executors_and_threads(run):
    async def main():
        here = threading.get_ident()
        loop = asyncio.get_running_loop()
        there = await asyncio.gather(*(asyncio.to_thread(threading.get_ident) for _ in range(20)))
        assert here not in there
        back = loop.create_future()
        await asyncio.to_thread(loop.call_soon_threadsafe, back.set_result, "back")
        return await back

    assert run(main()) == "back"


def test_datagrams(run):
    class Receiving(asyncio.DatagramProtocol):
        def __init__(self):
            self.received = asyncio.Queue()

        def datagram_received(self, data, address):
            self.received.put_nowait(data)

    async def main():
        loop = asyncio.get_running_loop()
        server, protocol = await loop.create_datagram_endpoint(
            Receiving, local_addr=("127.0.0.1", 0)
        )
        client, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=server.get_extra_info("sockname")
        )
        for number in range(10):
            client.sendto(bytes([number]))
            assert await protocol.received.get() == bytes([number])
        client.close()
        server.close()
        await asyncio.sleep(0)

    run(main())


def test_debug_mode_catches_a_call_from_the_wrong_thread(run):
    async def main():
        loop = asyncio.get_running_loop()
        with pytest.raises(RuntimeError, match="Non-thread-safe"):
            await asyncio.to_thread(loop.call_soon, print)

    run(main())
