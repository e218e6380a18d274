"""A listener that cannot accept logs that, loses no connection, and can be closed."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator

import pytest

import tofu_aio as tofu
from tests.messaging.peers import PATIENCE, RawPeer, hello, turns, until
from tests.shortage import Shortage, needs_a_limit
from tofu_aio import rare_warnings
from tofu_aio.transport import socket_acceptor
from tofu_aio.transport.socket_acceptor import SocketAcceptor

NEVER = 3600.0
SOON = 0.01


def retry_after(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set the time between attempts to accept, and have a warning for each of them."""
    monkeypatch.setattr(socket_acceptor, "ACCEPT_RETRY", seconds)
    monkeypatch.setattr(rare_warnings, "WARNINGS_QUIET", 0.0)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings about accepting."""
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    return [line for line in lines if "cannot accept" in line]


def acceptor_of(listener: tofu.Listener) -> SocketAcceptor:
    """The acceptor of a listener."""
    assert isinstance(listener._acceptor, SocketAcceptor)
    return listener._acceptor


def waiting(address: tofu.Address) -> RawPeer:
    """A peer in the backlog: its connection is complete, but cannot have been accepted yet."""
    if isinstance(address, tofu.UdsAddress):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(address.path)
    else:
        sock = socket.create_connection((address.host, address.port))
    return RawPeer(sock)


async def after_a_retry() -> None:
    """Wait for a retry. Timers expire in order, so it has happened after this."""
    await asyncio.sleep(3 * SOON)


async def greeting(listener: tofu.Listener, peer: RawPeer) -> bytes:
    """Send a Hello from a connected peer, and return the body of the first message it receives."""
    await peer.send(hello(listener.address))
    async with asyncio.timeout(PATIENCE):
        channel = await listener.accept()
        async with channel:
            await channel.signal(b"welcome")
            answer, signal = await peer.message(), await peer.message()
            peer.close()
    assert answer.op_code is tofu.OpCode.HELLO_RESPONSE
    return signal.body


# --- a shortage of descriptors -----------------------------------------------------------------


@needs_a_limit
async def test_a_shortage_is_told_once_a_try(
    group: tofu.ChannelGroup,
    transport_address: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    retry_after(monkeypatch, NEVER)
    async with await group.listen(transport_address) as listener:
        with waiting(listener.address):
            with Shortage():
                await turns(50)
            (line,) = told(caplog)
    assert "no file descriptor left: close some, or raise `ulimit -n`" in line
    assert str(listener.address) in line


@needs_a_limit
async def test_a_connection_that_waits_through_a_shortage_is_served(
    group: tofu.ChannelGroup,
    transport_address: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    retry_after(monkeypatch, SOON)
    async with await group.listen(transport_address) as listener:
        peers = [waiting(listener.address) for _ in range(3)]
        with Shortage():
            await until(lambda: len(told(caplog)) == 3, "for the shortage to last")
        assert [await greeting(listener, peer) for peer in peers] == [b"welcome"] * 3


@needs_a_limit
async def test_a_shortage_that_lasts_is_told_at_a_limited_rate(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "tofu_aio")
    retry_after(monkeypatch, SOON)
    monkeypatch.setattr(rare_warnings, "WARNINGS_QUIET", NEVER)
    async with await group.listen("tcp://127.0.0.1:0") as listener:
        with waiting(listener.address):
            with Shortage():
                await until(lambda: caplog.text.count("cannot accept") == 4)
                assert len(told(caplog)) == 1
                monkeypatch.setattr(rare_warnings, "WARNINGS_QUIET", 0.0)
                await until(lambda: len(told(caplog)) > 1)
            assert "(3 more like this since the last warning)" in told(caplog)[1]


@needs_a_limit
async def test_channels_go_on_through_a_shortage(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    retry_after(monkeypatch, SOON)
    async with await group.listen("tcp://127.0.0.1:0") as listener:
        client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
        with waiting(listener.address), Shortage():
            await until(lambda: told(caplog), "for the shortage to show")
            await client.signal(b"still here")
            with await server.receive() as message:
                assert message.body == b"still here"
        await asyncio.gather(client.aclose(), server.aclose())


@needs_a_limit
async def test_a_listener_that_is_closed_in_a_shortage_logs_nothing_more(
    group: tofu.ChannelGroup,
    transport_address: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    retry_after(monkeypatch, SOON)
    listener = await group.listen(transport_address)
    with waiting(listener.address), Shortage():
        await until(lambda: told(caplog))
        await listener.aclose()
        before = len(told(caplog))
        await after_a_retry()
    await after_a_retry()
    assert len(told(caplog)) == before
    retry = acceptor_of(listener)._retry
    assert retry is not None
    assert retry.cancelled()


@needs_a_limit
async def test_a_posted_listener_serves_a_connection_that_waits_through_a_shortage(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    retry_after(monkeypatch, SOON)
    where = {"~listen_on": "tcp|127.0.0.1|0"}
    group.post(tofu.Message(tofu.OpCode.WELCOME_REQUEST, headers=where))
    welcome = await group.receive()
    address = tofu.parse_address(welcome.headers["~listen_on"])
    with waiting(address) as peer:
        with Shortage():
            await until(lambda: told(caplog))
        await peer.send(hello(address))
        with await group.receive() as message:
            assert message.op_code is tofu.OpCode.HELLO_REQUEST


# --- other failures ----------------------------------------------------------------------------


class Failing(socket.socket):
    """A listening socket whose accept fails with the given errors."""

    failures: tuple[int, ...] = ()

    def accept(self) -> tuple[socket.socket, object]:
        if self.failures:
            number, *rest = self.failures
            self.failures = tuple(rest)
            raise OSError(number, os.strerror(number))
        return super().accept()


@pytest.fixture
async def failing(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Coroutine[object, object, tofu.Listener]]:
    """Make a listener whose socket fails at first."""
    if "Proactor" in type(asyncio.get_running_loop()).__name__:
        pytest.skip("Windows' proactor loop does not call accept")

    async def listen(*numbers: int) -> tofu.Listener:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", Failing)
            patch.setattr(Failing, "failures", numbers)
            listener = await group.listen("tcp://127.0.0.1:0")
            sock = acceptor_of(listener)._sock
            assert isinstance(sock, Failing)
            sock.failures = numbers
        return listener

    return listen


@pytest.mark.parametrize("name", ["ENFILE", "ENOBUFS", "ENOMEM", "EINVAL", "EPERM"])
async def test_whatever_fails_once_is_told_once_and_tried_again(
    failing: Callable[..., Coroutine[object, object, tofu.Listener]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    retry_after(monkeypatch, SOON)
    async with await failing(getattr(errno, name)) as listener:
        peer = await RawPeer.connect(listener.address)
        assert await greeting(listener, peer) == b"welcome"
    assert len(told(caplog)) == 1


@pytest.mark.parametrize("name", ["ECONNABORTED", "EPROTO", "ENETDOWN", "EHOSTUNREACH"])
async def test_a_connection_that_failed_before_it_was_accepted_costs_nobody_else(
    failing: Callable[..., Coroutine[object, object, tofu.Listener]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    retry_after(monkeypatch, NEVER)
    number = getattr(errno, name)
    async with await failing(number, number) as listener:
        peer = await RawPeer.connect(listener.address)
        assert await greeting(listener, peer) == b"welcome"
    assert not told(caplog)


async def test_a_socket_that_cannot_be_watched_is_closed(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(SocketAcceptor, "_watch", refuse)
        with pytest.raises(tofu.ListenFailed, match="No space left") as caught:
            await group.listen("tcp://127.0.0.1:0")
    assert caught.value.errno == errno.ENOSPC


async def test_what_is_cancelled_as_it_is_accepted_is_closed(
    group: tofu.ChannelGroup, transport_address: str
) -> None:
    """``asyncio.run`` cancels all tasks at its end."""
    async with await group.listen(transport_address) as listener:
        arriving = acceptor_of(listener)._arriving
        with await RawPeer.connect(listener.address) as peer:
            await until(lambda: arriving)
            for task in arriving:
                task.cancel()
            assert await peer.end() == b""
        assert not arriving


async def test_a_connection_that_arrives_as_the_listener_closes_is_dropped(
    group: tofu.ChannelGroup, transport_address: str
) -> None:
    async with await group.listen(transport_address) as listener:
        arriving = acceptor_of(listener)._arriving
        with await RawPeer.connect(listener.address) as peer:
            await until(lambda: arriving)
            await listener.aclose()
            assert await peer.end() == b""
        await until(lambda: not arriving)


# --- a loop that watches no sockets ------------------------------------------------------------


class Proactor(asyncio.SelectorEventLoop):
    """Like Windows' proactor loop in one respect: it has sock_accept, but no add_reader."""

    def add_reader(self, *_: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    def _sock_accept(self, fut: asyncio.Future[object], sock: socket.socket) -> None:
        if not fut.done():  # where it was cancelled meanwhile, other loops accept all the same
            super()._sock_accept(fut, sock)  # type: ignore[misc]


Run = Callable[[Callable[[tofu.ChannelGroup], Coroutine[object, object, None]]], None]


@pytest.fixture
def run_there() -> Iterator[Run]:
    """Run a function with a group on such a loop."""
    if sys.platform == "win32":
        pytest.skip("there the loop asyncio is the real one, and all tests run on it")

    async def with_group(
        function: Callable[[tofu.ChannelGroup], Coroutine[object, object, None]],
    ) -> None:
        async with tofu.Engine() as engine, engine.create_group() as group:
            await function(group)

    heard: list[object] = []
    with asyncio.Runner(loop_factory=Proactor, debug=True) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: heard.append(context))
        yield lambda function: runner.run(with_group(function))
    assert not heard


def test_there_too_it_accepts_one_after_another(run_there: Run) -> None:
    async def main(group: tofu.ChannelGroup) -> None:
        async with await group.listen("tcp://127.0.0.1:0") as listener:
            peers = [await RawPeer.connect(listener.address) for _ in range(3)]
            assert [await greeting(listener, peer) for peer in peers] == [b"welcome"] * 3

    run_there(main)


@needs_a_limit
def test_there_too_a_connection_that_waits_through_a_shortage_is_served(
    run_there: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    retry_after(monkeypatch, SOON)

    async def main(group: tofu.ChannelGroup) -> None:
        async with await group.listen("tcp://127.0.0.1:0") as listener:
            peer = waiting(listener.address)
            with Shortage():
                await until(lambda: len(told(caplog)) == 3)
            assert await greeting(listener, peer) == b"welcome"

    run_there(main)


@needs_a_limit
def test_there_too_a_closed_listener_logs_nothing_more(
    run_there: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    retry_after(monkeypatch, SOON)

    async def main(group: tofu.ChannelGroup) -> None:
        listener = await group.listen("tcp://127.0.0.1:0")
        with waiting(listener.address), Shortage():
            await until(lambda: told(caplog))
            await listener.aclose()
            before = len(told(caplog))
            await after_a_retry()
        assert len(told(caplog)) == before

    run_there(main)


def test_there_too_closing_a_listener_ends_its_waiting(run_there: Run) -> None:
    async def main(group: tofu.ChannelGroup) -> None:
        listener = await group.listen("tcp://127.0.0.1:0")
        await turns(3)
        await listener.aclose()
        await turns(3)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        async with await group.listen(listener.address):
            pass

    run_there(main)


@pytest.mark.parametrize("after", range(8))
def test_there_too_nobody_is_left_that_comes_as_the_listener_closes(
    run_there: Run, after: int
) -> None:
    async def main(group: tofu.ChannelGroup) -> None:
        listener = await group.listen("tcp://127.0.0.1:0")
        await turns(3)
        with waiting(listener.address) as peer:
            await turns(after)
            await listener.aclose()
            assert await peer.end() == b""

    run_there(main)
