"""Listening on sockets that exist already: given by the application, or inherited."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import tofu_aio as tofu
from tests.conftest import _LOOPS, HAS_ABSTRACT, HAS_UDS
from tests.messaging.certificates import client_context, server_context
from tests.messaging.peers import until

Bound = Callable[[], socket.socket]

needs_descriptors = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows passes no descriptors on"
)


@pytest.fixture(params=["tcp", "tcp6", "uds", "abstract"])
def bound(request: pytest.FixtureRequest) -> Iterator[Bound]:
    """Makes bound sockets, of a kind each."""
    kind = request.param
    if kind in {"uds", "abstract"} and not (HAS_UDS if kind == "uds" else HAS_ABSTRACT):
        pytest.skip("this system has none")
    path = request.getfixturevalue("socket_path") if kind == "uds" else ""
    with ExitStack() as stack:

        def make() -> socket.socket:
            if kind.startswith("tcp"):
                family = socket.AF_INET6 if kind == "tcp6" else socket.AF_INET
                sock = socket.socket(family, socket.SOCK_STREAM)
                sock.bind(("::1" if kind == "tcp6" else "127.0.0.1", 0))
            else:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                sock.bind(path or f"\0tofu-adopted-{os.getpid()}")
                if path:
                    stack.callback(Path(path).unlink)  # nobody else does
            return stack.enter_context(sock)

        yield make


async def echo(channel: tofu.Channel) -> None:
    async for message in channel:
        with message:
            await channel.reply(message, message.body)


async def check_served(group: tofu.ChannelGroup, listener: tofu.Listener) -> None:
    """A client is answered; then the listener is closed."""
    serving = asyncio.create_task(listener.serve(echo))
    async with group.connect(listener.address) as channel:
        assert (await channel.request(b"there?")).body == b"there?"
    await listener.aclose()
    await serving


# --- sock= ------------------------------------------------------------------------------------


@pytest.mark.parametrize("listens", [False, True])
async def test_a_socket_is_listened_on(
    group: tofu.ChannelGroup, bound: Bound, listens: bool
) -> None:
    sock = bound()
    name = sock.getsockname()
    if listens:
        sock.listen(3)
    listener = await group.listen(sock=sock)
    match listener.address:
        case tofu.TcpAddress(host, port):
            assert (host, port) == name[:2]
        case tofu.UdsAddress(path):
            assert path == (name if isinstance(name, str) else "@" + name[1:].decode())
    assert not sock.getblocking()
    await check_served(group, listener)
    assert sock.fileno() == -1


async def test_copies_of_it_go_on_listening(group: tofu.ChannelGroup, bound: Bound) -> None:
    """As that of a service manager does, which starts the service again."""
    sock = bound()
    with sock.dup() as copy:
        await check_served(group, await group.listen(sock=sock))
        again = await group.listen(sock=copy)
        await check_served(group, again)


@pytest.mark.skipif(not HAS_UDS, reason="this Python has no Unix sockets on this system")
async def test_its_file_is_its_maker_s(group: tofu.ChannelGroup, socket_path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(socket_path)
        listener = await group.listen(sock=sock)
        assert listener.address == tofu.UdsAddress(socket_path)
        await listener.aclose()
        await asyncio.to_thread(Path(socket_path).unlink)


async def test_every_channel_of_it_sends_at_once(group: tofu.ChannelGroup) -> None:
    """Also of a socket without a protocol number, where asyncio does not care for that."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        assert sock.proto == 0 or sys.platform != "linux"
        async with await group.listen(sock=sock) as listener:
            client, server = await asyncio.gather(
                group.connect(listener.address), listener.accept()
            )
            accepted = server._connection.queue.extra_info("socket")
            assert isinstance(accepted, socket.socket) or accepted is not None
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)  # type: ignore[attr-defined]
            await asyncio.gather(client.aclose(), server.aclose())


@pytest.mark.skipif(sys.platform == "win32", reason="Wine does not know the option of keepalive")
async def test_options_apply_to_it_as_to_any_other(group: tofu.ChannelGroup) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        options = {"ssl": server_context(), "keepalive": 30, "heartbeat": 7}
        async with await group.listen(sock=sock, **options) as listener:
            client, server = await asyncio.gather(
                group.connect(listener.address, ssl=client_context()), listener.accept()
            )
            assert client.hello.headers["~heartbeat"] == "7000"
            accepted = server._connection.queue.extra_info("socket")
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)  # type: ignore[attr-defined]
            await asyncio.gather(client.aclose(), server.aclose())


async def test_serve_takes_one(bound: Bound) -> None:
    sock = bound()
    name = sock.getsockname()
    serving = asyncio.create_task(tofu.serve(echo, sock=sock))
    await until(lambda: not sock.getblocking())
    address = tofu.TcpAddress(*name[:2]) if isinstance(name, tuple) else None
    if address is not None:
        async with tofu.connect(address) as channel:
            assert (await channel.request(b"there?")).body == b"there?"
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert sock.fileno() == -1


async def test_an_address_or_a_socket(group: tofu.ChannelGroup, bound: Bound) -> None:
    sock = bound()
    with pytest.raises(TypeError, match=r"an address or sock=, .*: give not both"):
        await group.listen("tcp://127.0.0.1:0", sock=sock)
    for options in ({}, {"sock": None}):
        with pytest.raises(TypeError, match=r"an address or sock=, .*: give one of them"):
            await group.listen(**options)
    assert sock.fileno() >= 0


def closed() -> socket.socket:
    sock = socket.socket()
    sock.close()
    return sock


def connected() -> socket.socket:
    kept, other = socket.socketpair()
    other.close()
    return kept


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: 3, TypeError, r"sock is 3: give a plain socket\.socket"),
        (closed, tofu.ListenFailed, "closed socket: give one that is open"),
        pytest.param(
            *(socket.socket, tofu.ListenFailed, r"not bound: call its bind\(\)"),
            marks=pytest.mark.skipif(
                sys.platform == "win32", reason="Windows only says: Invalid argument"
            ),
        ),
        (connected, tofu.ListenFailed, "connected: give one that is only bound"),
        (
            lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            tofu.WrongAddress,
            "not a stream socket: make it with SOCK_STREAM",
        ),
    ],
)
async def test_what_cannot_be_listened_on_is_refused_with_the_cure(
    group: tofu.ChannelGroup, make: Bound, error: type[Exception], words: str
) -> None:
    if sys.platform == "win32" and make is connected:
        pytest.skip("there a pair is of TCP sockets")
    sock = make()
    try:
        with pytest.raises(error, match=words):
            await group.listen(sock=sock)
        if make is not closed and isinstance(sock, socket.socket):
            assert sock.fileno() >= 0, "it is the caller's"
    finally:
        if isinstance(sock, socket.socket):
            sock.close()


@pytest.mark.skipif(not hasattr(socket, "AF_NETLINK"), reason="Linux has it")
async def test_a_family_that_is_unknown_is_refused(group: tofu.ChannelGroup) -> None:
    with (
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as sock,
        pytest.raises(tofu.WrongAddress, match="family is unknown here: use AF_INET"),
    ):
        await group.listen(sock=sock)


@pytest.mark.parametrize("options", [{"mode": 0o600}, {"reuse_port": True}])
async def test_what_comes_too_late_is_refused(
    group: tofu.ChannelGroup, bound: Bound, options: dict[str, object]
) -> None:
    sock = bound()
    with pytest.raises(tofu.WrongAddress, match="too late for a socket that is bound already"):
        await group.listen(sock=sock, **options)
    await check_served(group, await group.listen(sock=sock))


async def test_a_socket_stays_open_if_an_option_is_wrong(
    group: tofu.ChannelGroup, bound: Bound
) -> None:
    sock = bound()
    with pytest.raises(ValueError, match="hello_timeout"):
        await group.listen(sock=sock, hello_timeout=-1)
    await check_served(group, await group.listen(sock=sock))


# --- fd:// ------------------------------------------------------------------------------------


@needs_descriptors
async def test_a_descriptor_is_listened_on(group: tofu.ChannelGroup, bound: Bound) -> None:
    sock = bound()
    number = os.dup(sock.fileno())
    os.set_inheritable(number, True)
    listener = await group.listen(f"fd://{number}")
    assert not os.get_inheritable(number)
    assert "fd" not in str(listener.address)
    await check_served(group, listener)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


@needs_descriptors
async def test_a_descriptor_stays_open_if_something_is_wrong(
    group: tofu.ChannelGroup, bound: Bound
) -> None:
    number = bound().detach()
    for options in ({"hello_timeout": -1}, {"mode": 0o600}):
        with pytest.raises(ValueError, match=r"hello_timeout|too late"):
            await group.listen(tofu.FdAddress(number), **options)
    await check_served(group, await group.listen(tofu.FdAddress(number)))


@needs_descriptors
async def test_a_descriptor_that_is_no_bound_socket_is_refused(group: tofu.ChannelGroup) -> None:
    reading, writing = os.pipe()
    with socket.socket() as unbound:
        for number, words in (
            (reading, "not a socket: check the number"),
            (unbound.fileno(), "not bound"),
        ):
            with pytest.raises(tofu.ListenFailed, match=words):
                await group.listen(f"fd://{number}")
            os.fstat(number)
    os.close(reading)
    os.close(writing)
    with pytest.raises(tofu.ListenFailed, match="no file is open there: check that the service"):
        await group.listen(f"fd://{reading}")


async def test_nothing_connects_to_a_descriptor(group: tofu.ChannelGroup) -> None:
    with pytest.raises(tofu.WrongAddress, match="fd://3 is for listening only"):
        await group.connect("fd://3")
    with pytest.raises(tofu.WrongAddress, match="for listening only"):
        await anext(group.reconnecting("fd://3"))


async def test_the_message_api_takes_no_descriptor(group: tofu.ChannelGroup) -> None:
    group.post(tofu.Message(tofu.OpCode.WELCOME_REQUEST, headers={tofu.LISTEN_ON: "fd|3"}))
    answer = await group.receive()
    assert (answer.op_code, answer.status) == (
        tofu.OpCode.WELCOME_RESPONSE,
        tofu.Status.WRONG_ADDRESS,
    )


async def test_windows_says_what_to_do(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tofu_aio.transport.adopted._PASSES_DESCRIPTORS", False)
    with pytest.raises(tofu.WrongAddress, match="passes no sockets on: use sock="):
        await group.listen("fd://3")


SERVICE = """
import os, sys

os.dup2(int(sys.argv[1]), 3)  # what a service manager does between fork(2) and exec(3)
os.execv(sys.executable, [sys.executable, "-X", "dev", "-W", "error", "-c", *sys.argv[2:]])
"""

CHILD = """
import asyncio, sys
import tofu_aio as tofu

async def echo(channel):
    async for request in channel:
        with request:
            await channel.reply(request, request.body)

async def main():
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen("fd://3")
        print(listener.address, flush=True)
        async with listener:
            channel = await listener.accept()
            await echo(channel)
            await channel.aclose()

with asyncio.Runner(loop_factory=tofu.loop_factory(sys.argv[1])) as runner:
    runner.run(main())
"""


@needs_descriptors
@pytest.mark.parametrize("loop", _LOOPS)
def test_a_process_serves_the_socket_that_it_was_started_with(bound: Bound, loop: str) -> None:
    """One after another, as a service manager starts them: the socket is the manager's."""
    sock = bound()
    sock.listen()

    async def ask(address: str) -> None:
        async with tofu.connect(address) as channel:
            assert (await channel.request(b"there?")).body == b"there?"

    for _ in range(2):
        command = [sys.executable, "-c", SERVICE, str(sock.fileno()), CHILD, loop]
        with subprocess.Popen(
            command, pass_fds=[sock.fileno()], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            address = child.stdout.readline().strip()
            asyncio.run(ask(address))
            assert child.wait(20) == 0
