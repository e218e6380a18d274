"""Connecting and listening: every error says what is wrong and what to do."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tofu_aio as tofu
from tests.conftest import HAS_ABSTRACT, HAS_UDS
from tests.messaging.peers import RawPeer, transport_of, turns
from tests.systems import WINE
from tofu_aio.transport import socket_file, tcp, unix

needs_uds = pytest.mark.skipif(not HAS_UDS, reason="this Python has no Unix sockets here")
needs_abstract = pytest.mark.skipif(not HAS_ABSTRACT, reason="only Linux has abstract names")


@pytest.fixture
def folder(socket_path: str) -> Path:
    """A folder for Unix sockets, which must be empty in the end."""
    return Path(socket_path).parent


@contextlib.contextmanager
def bound(path: Path, backlog: int | None = 8) -> Iterator[socket.socket]:
    """A foreign Unix socket at the path; with no backlog, one that does not listen."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        if backlog is not None:
            sock.listen(backlog)
        yield sock
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def filled(path: Path) -> Iterator[None]:
    """Fill the backlog of the listener at the path."""
    with contextlib.ExitStack() as clients:
        while True:
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            try:
                client.connect(str(path))
            except BlockingIOError:
                break
        yield


def no_file(path: Path) -> bool:
    return not os.path.lexists(path)


# --- connecting ----------------------------------------------------------------------------


async def test_nobody_listens(group: tofu.ChannelGroup) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(tofu.ConnectFailed, match="start the listener first") as caught:
        await group.connect(f"tcp://127.0.0.1:{port}")
    assert isinstance(caught.value, ConnectionError)
    assert caught.value.status is tofu.Status.CONNECT_FAILED
    assert f"tcp://127.0.0.1:{port}" in str(caught.value)


@pytest.mark.parametrize("address", ["tcp://*:80", "tcp://127.0.0.1:0"])
async def test_an_address_for_listening_is_no_destination(
    group: tofu.ChannelGroup, address: str
) -> None:
    with pytest.raises(tofu.WrongAddress, match="to connect, give the listener's host and port"):
        await group.connect(address)


async def test_a_host_that_does_not_resolve(group: tofu.ChannelGroup) -> None:
    """It is an error of the network, which may be temporary, and not of the address."""
    where = "tcp://no.such.host.invalid:7000"
    with pytest.raises(tofu.ConnectFailed, match=r"has no address .*check the name") as connecting:
        await group.connect(where)
    with pytest.raises(tofu.ListenFailed, match=r"has no address .*check the name") as listening:
        await group.listen(where)
    for error in (connecting.value, listening.value):
        assert isinstance(error, OSError)
        assert not isinstance(error, ValueError)
        assert isinstance(error.__cause__, socket.gaierror)


@pytest.mark.parametrize("host", ["a" * 64, "a..b"])
async def test_a_host_that_can_have_no_address(group: tofu.ChannelGroup, host: str) -> None:
    for attempt in (group.connect, group.listen):
        with pytest.raises(tofu.InvalidAddress, match=r"is not a host .*check the name"):
            await attempt(f"tcp://{host}:7000")


@pytest.mark.parametrize("text", ["", "nonsense", "tcp://", "tcp://a:b", "http://a:1", "uds:"])
async def test_an_address_that_is_none(group: tofu.ChannelGroup, text: str) -> None:
    for attempt in (group.connect, group.listen):
        with pytest.raises(tofu.InvalidAddress):
            await attempt(text)


async def test_a_peer_that_cannot_be_reached_takes_the_timeout_and_no_longer(
    group: tofu.ChannelGroup,
) -> None:
    """A listener with a full backlog: the kernel drops new connections, like a firewall."""
    with socket.socket() as server, contextlib.ExitStack() as clients:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        name = server.getsockname()
        while True:
            client = clients.enter_context(socket.socket())
            client.settimeout(0.2)
            try:
                client.connect(name)
            except TimeoutError:
                break
        with pytest.raises(tofu.ConnectFailed, match=r"did not accept the channel within 0.05 s"):
            await group.connect(f"tcp://127.0.0.1:{name[1]}", timeout=0.05)


async def test_each_address_of_a_host_is_tried(
    group: tofu.ChannelGroup, listener: tofu.Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first refuses, and this system has no sockets of the second's family."""
    assert isinstance(listener.address, tofu.TcpAddress)
    port = listener.address.port

    async def resolve(address: tofu.TcpAddress) -> list[Any]:
        return [
            (socket.AF_INET, ("127.0.0.2", port)),
            (9999, ("127.0.0.1", port)),
            (socket.AF_INET, ("127.0.0.1", port)),
        ]

    monkeypatch.setattr(tcp, "_resolve", resolve)
    async with asyncio.TaskGroup() as tasks:
        accepting = tasks.create_task(listener.accept())
        channel = await group.connect(tofu.TcpAddress("many.example", 1))
    await asyncio.gather(channel.aclose(), accepting.result().aclose())


async def test_a_process_without_descriptors_is_told_so(
    group: tofu.ChannelGroup, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = "tcp://127.0.0.1:7000" if address.startswith("tcp") else address

    def refuse(*_: object, **__: object) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        # Not the class itself, by which the proactor distinguishes sockets from pipes.
        for kind in (tcp, unix):
            patch.setattr(kind, "socket_module", lambda: SimpleNamespace(socket=refuse))
        with pytest.raises(
            tofu.ConnectFailed, match="no file descriptor left: close some, or raise `ulimit -n`"
        ):
            await group.connect(where)
        with pytest.raises(
            tofu.ListenFailed, match="no file descriptor left: close some, or raise `ulimit -n`"
        ):
            await group.listen(address)


@needs_uds
async def test_no_socket_at_the_path(group: tofu.ChannelGroup, folder: Path) -> None:
    for path in (folder / "s", folder / "no" / "s"):
        with pytest.raises(tofu.UdsPathNotFound, match="start the listener first") as caught:
            await group.connect(f"uds://{path}")
        assert isinstance(caught.value, FileNotFoundError)
        assert caught.value.status is tofu.Status.UDS_PATH_NOT_FOUND


@needs_uds
async def test_what_is_at_the_path_is_no_listener(group: tofu.ChannelGroup, folder: Path) -> None:
    regular = folder / "regular"
    regular.write_bytes(b"content")
    with pytest.raises(tofu.ConnectFailed, match="nobody is listening"):
        await group.connect(f"uds://{regular}")
    with pytest.raises(tofu.ConnectFailed, match="a part of the path is not a folder"):
        await group.connect(f"uds://{regular}/s")
    assert regular.read_bytes() == b"content"
    regular.unlink()
    with bound(folder / "stale", backlog=None), pytest.raises(tofu.ConnectFailed, match="nobody"):
        await group.connect(f"uds://{folder}/stale")


@needs_uds
async def test_a_datagram_socket_is_no_listener(group: tofu.ChannelGroup, folder: Path) -> None:
    path = folder / "d"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        with pytest.raises(tofu.ConnectFailed, match="not a stream socket"):
            await group.connect(f"uds://{path}")
    path.unlink()


@needs_uds
@pytest.mark.parametrize("kind", ["path", "abstract"])
async def test_a_path_too_long_is_refused_with_the_limit(
    group: tofu.ChannelGroup, folder: Path, kind: str
) -> None:
    if kind == "abstract" and not HAS_ABSTRACT:
        pytest.skip("only Linux has abstract names")
    limit = unix.UDS_PATH_LIMIT
    # The NUL after a path, or before an abstract name, counts.
    prefix = f"{folder}/" if kind == "path" else f"@tofu-{os.getpid()}-"
    fits = prefix + "x" * (limit - len(prefix) - (kind == "path"))
    async with await group.listen(f"uds://{fits}") as listener:
        async with asyncio.TaskGroup() as tasks:
            accepting = tasks.create_task(listener.accept())
            channel = await group.connect(listener.address)
        await asyncio.gather(channel.aclose(), accepting.result().aclose())
    for attempt in (group.connect, group.listen):
        with pytest.raises(tofu.InvalidAddress, match=f"at most {limit} here: choose a shorter"):
            await attempt(f"uds://{fits}x")
        with pytest.raises(tofu.InvalidAddress):  # the limit is of bytes
            await attempt(f"uds://{fits[:-1]}é")


@needs_uds
async def test_a_full_unix_backlog_is_waited_for(group: tofu.ChannelGroup, folder: Path) -> None:
    """connect(2) does not wait there: it fails with EAGAIN."""
    with bound(folder / "s", backlog=0) as server, filled(folder / "s"):
        connecting = asyncio.create_task(group.connect(f"uds://{folder}/s"))
        await turns(20)
        assert not connecting.done()
        server.setblocking(False)
        server.accept()[0].close()
        loop = asyncio.get_running_loop()
        sock, _ = await asyncio.wait_for(loop.sock_accept(server), 20)
        with RawPeer(sock) as accepted:
            assert (await accepted.message()).op_code is tofu.OpCode.HELLO_REQUEST
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)


@needs_uds
async def test_a_unix_backlog_that_stays_full_takes_the_timeout(
    group: tofu.ChannelGroup, folder: Path
) -> None:
    with (
        bound(folder / "s", backlog=0),
        filled(folder / "s"),
        pytest.raises(tofu.ConnectFailed, match=r"within 0.05 s"),
    ):
        await group.connect(f"uds://{folder}/s", timeout=0.05)


# --- listening -----------------------------------------------------------------------------


async def test_a_port_in_use(group: tofu.ChannelGroup) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(tofu.ListenFailed, match=r"is in use: .*with port 0 the system chooses"):
            await group.listen(f"tcp://127.0.0.1:{port}")
    async with await group.listen(f"tcp://127.0.0.1:{port}") as listener:
        with pytest.raises(tofu.ListenFailed, match="in use"):
            await group.listen(listener.address)


async def test_a_port_in_time_wait_is_free(group: tofu.ChannelGroup) -> None:
    """The server closes first, so that the connection lingers on its side."""
    async with await group.listen("tcp://127.0.0.1:0") as listener:
        address = listener.address
        peer = await RawPeer.connect(address)
        await turns(3)
        await listener.aclose()
        await peer.end()
        peer.close()
    async with await group.listen(address):
        pass


async def test_a_host_that_is_not_of_this_machine(group: tofu.ChannelGroup) -> None:
    with pytest.raises(tofu.ListenFailed, match="not an address of this machine"):
        await group.listen("tcp://203.0.113.1:0")


@pytest.mark.skipif(sys.platform == "win32", reason="no privileged ports")
async def test_a_port_that_needs_rights(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(sock: socket.socket, *_: object) -> socket.socket:
        sock.close()
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tcp, "start_listening", refuse)
    with pytest.raises(tofu.ListenFailed, match="permission denied: choose a port above 1023"):
        await group.listen("tcp://127.0.0.1:1")


async def test_every_address_of_the_machine(group: tofu.ChannelGroup) -> None:
    async with await group.listen("tcp://*:0") as listener:
        assert isinstance(listener.address, tofu.TcpAddress)
        port = listener.address.port
        assert str(listener.address) == f"tcp://*:{port}"
        assert port > 0
        hosts = ["127.0.0.1"] + ["[::1]"] * socket.has_dualstack_ipv6()
        for host in hosts:
            async with asyncio.TaskGroup() as tasks:
                accepting = tasks.create_task(listener.accept())
                channel = await group.connect(f"tcp://{host}:{port}")
            await asyncio.gather(channel.aclose(), accepting.result().aclose())


async def test_port_0_is_told(group: tofu.ChannelGroup) -> None:
    async with await group.listen("tcp://localhost:0") as listener:
        assert isinstance(listener.address, tofu.TcpAddress)
        assert listener.address.host == "localhost"
        assert listener.address.port


@needs_uds
async def test_the_socket_file_comes_and_goes(group: tofu.ChannelGroup, folder: Path) -> None:
    path = folder / "s"
    for _ in range(2):
        async with await group.listen(f"uds://{path}") as listener:
            assert path.is_socket()
            assert listener.address == tofu.UdsAddress(str(path))
        assert no_file(path)


@needs_uds
async def test_a_stale_file_is_replaced(group: tofu.ChannelGroup, folder: Path) -> None:
    path = folder / "s"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    assert path.is_socket()
    async with await group.listen(f"uds://{path}") as listener:
        async with asyncio.TaskGroup() as tasks:
            accepting = tasks.create_task(listener.accept())
            channel = await group.connect(listener.address)
        await asyncio.gather(channel.aclose(), accepting.result().aclose())
    assert no_file(path)


@needs_uds
@pytest.mark.parametrize("full", [False, True])
async def test_a_live_file_is_left_alone(
    group: tofu.ChannelGroup, folder: Path, full: bool
) -> None:
    path = folder / "s"
    with bound(path, backlog=0) as server, contextlib.ExitStack() as crowd:
        if full:
            crowd.enter_context(filled(path))
        with pytest.raises(tofu.ListenFailed, match="the address is in use"):
            await group.listen(f"uds://{path}")
        assert path.is_socket()
        if not full:
            server.accept()[0].close()  # the probe's
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))


@needs_uds
@pytest.mark.parametrize("kind", ["file", "folder", "link to a file", "link to nothing"])
async def test_what_is_no_socket_is_left_alone(
    group: tofu.ChannelGroup, folder: Path, kind: str
) -> None:
    path, other = folder / "s", folder / "other"
    if kind == "file":
        path.write_bytes(b"content")
    elif kind == "folder":
        path.mkdir()
    else:
        if kind == "link to a file":
            other.write_bytes(b"content")
        path.symlink_to(other)
    with pytest.raises(tofu.ListenFailed, match="not a socket, and is left alone") as caught:
        await group.listen(f"uds://{path}")
    assert caught.value.status is tofu.Status.LISTEN_FAILED
    if kind == "file":
        assert path.read_bytes() == b"content"
    if kind == "folder":
        path.rmdir()
    else:
        path.unlink()
    other.unlink(missing_ok=True)


@needs_uds
async def test_a_folder_that_does_not_exist(group: tofu.ChannelGroup, folder: Path) -> None:
    with pytest.raises(tofu.ListenFailed, match="folder of the socket does not exist: create it"):
        await group.listen(f"uds://{folder}/no/s")
    (folder / "f").write_bytes(b"")
    with pytest.raises(tofu.ListenFailed, match="not a folder"):
        await group.listen(f"uds://{folder}/f/s")
    (folder / "f").unlink()


@needs_uds
async def test_a_listener_whose_path_was_taken_over_leaves_it(
    group: tofu.ChannelGroup, folder: Path
) -> None:
    path = folder / "s"
    first = await group.listen(f"uds://{path}")
    path.unlink()
    async with await group.listen(f"uds://{path}") as second:
        await first.aclose()
        assert path.is_socket()
        async with asyncio.TaskGroup() as tasks:
            accepting = tasks.create_task(second.accept())
            channel = await group.connect(second.address)
        await asyncio.gather(channel.aclose(), accepting.result().aclose())
    assert no_file(path)


@needs_uds
async def test_a_listener_whose_file_has_gone_closes_quietly(
    group: tofu.ChannelGroup, folder: Path
) -> None:
    async with await group.listen(f"uds://{folder}/s"):
        (folder / "s").unlink()
    async with await group.listen(f"uds://{folder}/s"):
        (folder / "s").unlink()
        (folder / "s").write_bytes(b"something else")
    assert (folder / "s").read_bytes() == b"something else"
    (folder / "s").unlink()


@needs_abstract
async def test_an_abstract_name_has_no_file_and_one_listener(group: tofu.ChannelGroup) -> None:
    address = f"uds://@tofu-test-{os.getpid()}"
    async with await group.listen(address):
        assert no_file(Path(address.removeprefix("uds://")))
        with pytest.raises(tofu.ListenFailed, match="in use"):
            await group.listen(address)
    async with await group.listen(address):
        pass


@pytest.mark.skipif(sys.platform == "linux", reason="Linux has them")
async def test_abstract_names_are_linux_only(group: tofu.ChannelGroup) -> None:
    for attempt in (group.connect, group.listen):
        with pytest.raises(tofu.WrongAddress, match="only Linux"):
            await attempt("uds://@name")


async def test_a_python_without_unix_sockets_says_so(
    group: tofu.ChannelGroup, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, "AF_UNIX", raising=False)
    for attempt in (group.connect, group.listen):
        with pytest.raises(tofu.WrongAddress, match="use tcp://host:port"):
            await attempt(f"uds://{folder}/s")


async def test_nothing_stays_open_when_an_option_is_refused(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "SO_KEEPALIVE", 9999)
    with pytest.raises(tofu.ListenFailed):
        await group.listen("tcp://127.0.0.1:0", keepalive=5)


# --- options -------------------------------------------------------------------------------


KEEPALIVE = {
    name: getattr(socket, name)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPALIVE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
    if hasattr(socket, name)
}


def kept_alive(channel: tofu.Channel) -> dict[str, int]:
    """The keep-alive options of the channel's socket."""
    sock = transport_of(channel).get_extra_info("socket")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
        return {}
    return {name: sock.getsockopt(socket.IPPROTO_TCP, number) for name, number in KEEPALIVE.items()}


@pytest.mark.skipif(WINE, reason="Wine has no TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT")
@pytest.mark.parametrize("keepalive", [None, 0.5, 30])
async def test_keepalive_is_for_both_sides_to_choose(
    group: tofu.ChannelGroup, keepalive: float | None
) -> None:
    async with await group.listen("tcp://127.0.0.1:0", keepalive=keepalive) as listener:
        for own in (None, 7):
            client, server = await asyncio.gather(
                group.connect(listener.address, keepalive=own), listener.accept()
            )
            for channel, chosen in ((client, own), (server, keepalive)):
                found = kept_alive(channel)
                assert bool(found) is (chosen is not None)
                if chosen is not None and sys.platform == "linux":
                    idle, interval = {0.5: (1, 1), 30: (30, 10), 7: (7, 3)}[chosen]
                    assert found == {
                        "TCP_KEEPIDLE": idle,
                        "TCP_KEEPINTVL": interval,
                        "TCP_KEEPCNT": 3,
                    }
            await asyncio.gather(client.aclose(), server.aclose())


async def test_keepalive_is_what_the_kernel_takes(group: tofu.ChannelGroup) -> None:
    for wrong in (0, -1, float("nan"), float("inf"), 40_000):
        for attempt in (group.connect, group.listen):
            with pytest.raises(ValueError, match=r"keepalive is .*: give 0.01 to 32767 seconds"):
                await attempt("tcp://127.0.0.1:7000", keepalive=wrong)


@needs_uds
async def test_a_unix_socket_needs_no_keepalive(group: tofu.ChannelGroup, folder: Path) -> None:
    async with await group.listen(f"uds://{folder}/s", keepalive=5) as listener:
        client, server = await asyncio.gather(
            group.connect(listener.address, keepalive=5), listener.accept()
        )
        await asyncio.gather(client.aclose(), server.aclose())


async def test_every_tcp_channel_sends_at_once(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
    for channel in (client, server):
        sock = transport_of(channel).get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    await asyncio.gather(client.aclose(), server.aclose())


async def test_an_address_that_is_free_in_a_moment_is_waited_for(group: tofu.ChannelGroup) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        listening = asyncio.create_task(group.listen(f"tcp://127.0.0.1:{port}"))
        await turns(20)
        assert not listening.done()
    await (await listening).aclose()


async def test_a_shared_port_needs_the_consent_of_all(group: tofu.ChannelGroup) -> None:
    if not hasattr(socket, "SO_REUSEPORT"):
        with pytest.raises(tofu.ListenFailed, match="has no SO_REUSEPORT"):
            await group.listen("tcp://127.0.0.1:0", reuse_port=True)
        return
    async with await group.listen("tcp://127.0.0.1:0", reuse_port=True) as listener:
        async with await group.listen(listener.address, reuse_port=True) as other:
            assert other.address == listener.address
        with pytest.raises(tofu.ListenFailed, match="in use"):
            await group.listen(listener.address)


@needs_uds
async def test_a_path_cannot_be_shared(group: tofu.ChannelGroup, folder: Path) -> None:
    with pytest.raises(tofu.WrongAddress, match="reuse_port is for TCP ports only"):
        await group.listen(f"uds://{folder}/s", reuse_port=True)


SHARE = """
import asyncio, os, sys
import tofu_aio as tofu

async def main():
    async def tell(channel):
        await channel.signal(b"%d" % os.getpid())

    async with tofu.Engine() as engine, engine.create_group() as group:
        async with await group.listen(sys.argv[1], reuse_port=True) as listener:
            print("listening", flush=True)
            serving = asyncio.create_task(listener.serve(tell))
            await asyncio.to_thread(sys.stdin.read)
        await serving

tofu.run(main())
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux is known to deal connections out evenly"
)
async def test_processes_share_a_port(group: tofu.ChannelGroup) -> None:
    """The kernel chooses by the client's port: all thirty on one side have a chance of 2**-29."""
    async with await group.listen("tcp://127.0.0.1:0", reuse_port=True) as placeholder:
        address = str(placeholder.address)
        workers = [
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                SHARE,
                address,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            for _ in range(2)
        ]
        for worker in workers:
            assert worker.stdout is not None
            assert await worker.stdout.readline() == b"listening\n"
    seen = set()
    try:
        for _ in range(30):
            async with await group.connect(address) as channel:
                seen |= {int(message.body) async for message in channel}
    finally:
        for worker in workers:
            await worker.communicate(b"")  # which closes its stdin on Python 3.11 too
    assert seen == {worker.pid for worker in workers}
    assert [worker.returncode for worker in workers] == [0, 0]


@needs_uds
@pytest.mark.parametrize("depth", [1, 20], ids=["short", "too long for a socket"])
async def test_a_relative_path_means_the_same_file_wherever_the_process_goes(
    group: tofu.ChannelGroup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, depth: int
) -> None:
    folder = tmp_path.joinpath(*["folder"] * depth)
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    listener = await group.listen("uds://./s")
    assert listener.address == tofu.parse_address("uds://./s")
    assert [path.name for path in folder.iterdir()] == ["s"]
    accepting = asyncio.create_task(listener.accept())
    of_somebody_else = tmp_path / "s"
    of_somebody_else.touch()
    async with group.connect(listener.address), await accepting:
        monkeypatch.chdir(tmp_path)
        await listener.aclose()
    assert not list(folder.iterdir())
    assert of_somebody_else.exists()


@needs_uds
async def test_a_file_that_may_not_be_removed_does_not_keep_the_listener_open(
    group: tofu.ChannelGroup,
    socket_path: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    listener = await group.listen(f"uds://{socket_path}")
    with monkeypatch.context() as patch:
        patch.setattr(socket_file.SocketFile, "remove", refused)
        await listener.aclose()
    assert "the socket's file could not be removed" in caplog.text
    # Python 3.13 removes the file itself.
    with pytest.raises((tofu.ConnectFailed, tofu.UdsPathNotFound)):
        await group.connect(listener.address)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(socket_path)  # noqa: PTH108 - a test may block
