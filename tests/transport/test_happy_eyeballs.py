"""Connecting to a host with several addresses: the order, the winner, and the errors."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import tofu_aio as tofu
from tests.messaging.peers import RawPeer, hello, turns, until
from tofu_aio.transport import happy_eyeballs, tcp
from tofu_aio.transport.happy_eyeballs import Endpoint, NoneConnected, first_connected, interleaved

SIX, FOUR = socket.AF_INET6, socket.AF_INET
ONE: Endpoint = (SIX, ("::1", 1))
TWO: Endpoint = (FOUR, ("127.0.0.1", 2))
THREE: Endpoint = (FOUR, ("127.0.0.2", 3))
ENDPOINTS = [ONE, TWO, THREE]


class Attempts:
    """Attempts that a test completes."""

    def __init__(self) -> None:
        self.begun: dict[Endpoint, asyncio.Future[None]] = {}
        self.made: list[socket.socket] = []

    async def attempt(self, endpoint: Endpoint) -> socket.socket:
        self.begun[endpoint] = asyncio.get_running_loop().create_future()
        await self.begun[endpoint]
        self.made.append(socket.socket())
        return self.made[-1]

    def refuse(self, endpoint: Endpoint, number: int = errno.ECONNREFUSED) -> None:
        self.begun[endpoint].set_exception(OSError(number, os.strerror(number)))


@pytest.fixture
def course() -> Iterator[Attempts]:
    course = Attempts()
    yield course
    for sock in course.made:
        sock.close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the delay between attempts endless."""
    monkeypatch.setattr(happy_eyeballs, "ATTEMPT_DELAY", 1000)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the delay between attempts almost zero."""
    monkeypatch.setattr(happy_eyeballs, "ATTEMPT_DELAY", 0.001)


def test_families_take_turns() -> None:
    assert interleaved([(SIX, "a"), (SIX, "b"), (SIX, "c"), (FOUR, "d"), (FOUR, "e")]) == [
        (SIX, "a"),
        (FOUR, "d"),
        (SIX, "b"),
        (FOUR, "e"),
        (SIX, "c"),
    ]
    assert interleaved([TWO]) == [TWO]


@pytest.mark.usefixtures("patient")
async def test_the_next_is_tried_when_one_has_failed(course: Attempts) -> None:
    racing = asyncio.create_task(first_connected(ENDPOINTS, course.attempt))
    await until(lambda: ONE in course.begun)
    await turns(5)
    assert list(course.begun) == [ONE]
    course.refuse(ONE)
    await until(lambda: TWO in course.begun)
    course.begun[TWO].set_result(None)
    assert await racing is course.made[0]
    assert list(course.begun) == [ONE, TWO]


@pytest.mark.usefixtures("impatient")
async def test_the_next_is_tried_when_one_hesitates(course: Attempts) -> None:
    racing = asyncio.create_task(first_connected(ENDPOINTS, course.attempt))
    await until(lambda: THREE in course.begun)
    assert list(course.begun) == ENDPOINTS
    course.begun[TWO].set_result(None)
    assert await racing is course.made[0]
    assert course.begun[ONE].cancelled()
    assert course.begun[THREE].cancelled()


@pytest.mark.usefixtures("impatient")
async def test_of_two_winners_one_is_closed(course: Attempts) -> None:
    racing = asyncio.create_task(first_connected(ENDPOINTS, course.attempt))
    await until(lambda: THREE in course.begun)
    for endpoint in ENDPOINTS:
        course.begun[endpoint].set_result(None)
    winner = await racing
    await turns(2)
    assert [sock is winner for sock in course.made if sock.fileno() >= 0] == [True]
    assert len(course.made) == 3


@pytest.mark.usefixtures("impatient")
async def test_all_failures_are_told(course: Attempts) -> None:
    racing = asyncio.create_task(first_connected(ENDPOINTS, course.attempt))
    await until(lambda: THREE in course.begun)
    for endpoint in (TWO, ONE, THREE):
        course.refuse(endpoint)
        await turns(3)
    with pytest.raises(NoneConnected) as caught:
        await racing
    assert [endpoint for endpoint, _ in caught.value.failures] == [TWO, ONE, THREE]


@pytest.mark.usefixtures("impatient")
async def test_a_bug_is_no_failure_of_a_place(course: Attempts) -> None:
    racing = asyncio.create_task(first_connected(ENDPOINTS, course.attempt))
    await until(lambda: THREE in course.begun)
    course.begun[TWO].set_exception(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await racing
    assert course.begun[ONE].cancelled()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("won", [None, 0, 1, 2, 3], ids=lambda won: f"won {won} turns ago")
async def test_cancelled_it_leaves_nothing(course: Attempts, won: int | None) -> None:
    racing = asyncio.create_task(first_connected(ENDPOINTS, course.attempt))
    await until(lambda: THREE in course.begun)
    if won is not None:
        course.begun[TWO].set_result(None)
        await turns(won)
    racing.cancel()
    await asyncio.gather(racing, return_exceptions=True)
    if not racing.cancelled():
        racing.result().close()  # it had returned
        assert won == 3
    assert all(sock.fileno() == -1 for sock in course.made)


# --- for real --------------------------------------------------------------------------------


def stage(monkeypatch: pytest.MonkeyPatch, *endpoints: Endpoint) -> None:
    """Make every host resolve to these addresses."""

    async def resolve(address: tofu.TcpAddress) -> list[Endpoint]:
        return list(endpoints)

    monkeypatch.setattr(tcp, "_resolve", resolve)


async def test_an_address_that_swallows_everything_costs_a_moment(
    group: tofu.ChannelGroup, listener: tofu.Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first address does not answer, as behind a firewall: its backlog is full."""
    assert isinstance(listener.address, tofu.TcpAddress)
    port = listener.address.port
    real = tcp._connected_tcp
    swallowed = []

    async def attempt(endpoint: Endpoint, options: object) -> socket.socket:
        if endpoint[1][0] == "192.0.2.1":
            swallowed.append(endpoint)
            await asyncio.get_running_loop().create_future()
        return await real(endpoint, [])

    monkeypatch.setattr(tcp, "_connected_tcp", attempt)
    stage(monkeypatch, (FOUR, ("192.0.2.1", port)), (FOUR, ("127.0.0.1", port)))
    connecting = asyncio.create_task(group.connect("tcp://many.example:1", timeout=1000))
    server = await listener.accept()
    client = await connecting
    assert swallowed
    await asyncio.gather(client.aclose(), server.aclose())


async def test_what_went_wrong_is_told_of_each_address(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    stage(
        monkeypatch,
        (FOUR, ("127.0.0.1", port)),
        (FOUR, ("127.0.0.2", port)),
        (FOUR, ("255.255.255.255", port)),
    )
    with pytest.raises(tofu.ConnectFailed) as caught:
        await group.connect("tcp://many.example:1")
    assert "tcp://many.example:1: 127.0.0.1, 127.0.0.2: nobody is listening" in str(caught.value)
    assert "; 255.255.255.255: " in str(caught.value)
    cause = caught.value.__cause__
    assert isinstance(cause, ExceptionGroup)
    assert len(cause.exceptions) == 3


async def test_a_socket_connected_to_itself_is_no_connection(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may choose the destination's port as the source port on the same machine."""
    real = tcp._tcp_socket

    def bound(family: socket.AddressFamily) -> socket.socket:
        sock = real(family)
        sock.bind(("127.0.0.1", port))
        return sock

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(tcp, "_tcp_socket", bound)
    with pytest.raises(tofu.ConnectFailed, match="nobody is listening"):
        await group.connect(f"tcp://127.0.0.1:{port}")


@pytest.mark.parametrize("number", [errno.EADDRNOTAVAIL, errno.ECONNABORTED])
async def test_what_churn_makes_fail_is_tried_again(
    group: tofu.ChannelGroup,
    listener: tofu.Listener,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    real = tcp._connected_tcp
    attempts = []

    async def attempt(endpoint: Endpoint, options: list[tuple[int, int, int]]) -> socket.socket:
        attempts.append(endpoint)
        if len(attempts) < 3:
            raise OSError(number, os.strerror(number))
        return await real(endpoint, options)

    monkeypatch.setattr(tcp, "_connected_tcp", attempt)
    client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
    assert len(attempts) == 3
    await asyncio.gather(client.aclose(), server.aclose())


async def test_what_churn_makes_fail_is_not_tried_for_ever(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def attempt(endpoint: Endpoint, options: object) -> socket.socket:
        raise OSError(errno.EADDRNOTAVAIL, "")

    monkeypatch.setattr(tcp, "_connected_tcp", attempt)
    with pytest.raises(tofu.ConnectFailed, match="no free port, to connect from"):
        await group.connect("tcp://127.0.0.1:1")


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
async def test_ipv6(group: tofu.ChannelGroup) -> None:
    async with await group.listen("tcp://[::1]:0") as listener:
        assert isinstance(listener.address, tofu.TcpAddress)
        assert str(listener.address) == f"tcp://[::1]:{listener.address.port}"
        client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
        assert client.peer.address == listener.address
        assert isinstance(server.peer.address, tofu.TcpAddress)
        assert server.peer.address.host == "::1"
        assert server.hello.headers["~connect_to"] == f"tcp|::1|{listener.address.port}"
        await asyncio.gather(client.aclose(), server.aclose())


def _link_local() -> str:
    """A link-local IPv6 address of this machine with its scope; "" if there is none."""
    try:
        lines = Path("/proc/net/if_inet6").read_text(encoding="ascii").splitlines()
    except OSError:
        return ""
    for line in lines:
        digits, _, _, _, _, name = line.split()
        if digits.startswith("fe80"):
            groups = [digits[at : at + 4] for at in range(0, 32, 4)]
            return f"{socket.inet_ntop(SIX, bytes.fromhex(''.join(groups)))}%{name}"
    return ""


@pytest.mark.skipif(not _link_local(), reason="no address of this machine has a scope")
async def test_ipv6_with_a_scope(group: tofu.ChannelGroup) -> None:
    async with await group.listen(tofu.TcpAddress(_link_local(), 0)) as listener:
        client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
        peer = server.peer.address
        assert isinstance(peer, tofu.TcpAddress)
        assert "%" in peer.host, "without its scope nobody could connect there"
        await asyncio.gather(client.aclose(), server.aclose())


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
async def test_an_ipv4_peer_of_a_listener_for_both_is_one(group: tofu.ChannelGroup) -> None:
    async with await group.listen("tcp://*:0") as listener:
        assert isinstance(listener.address, tofu.TcpAddress)
        with await RawPeer.connect(tofu.TcpAddress("127.0.0.1", listener.address.port)) as peer:
            await peer.send(hello())
            server = await listener.accept()
            assert isinstance(server.peer.address, tofu.TcpAddress)
            assert server.peer.address.host == "127.0.0.1"
            server.abort()
