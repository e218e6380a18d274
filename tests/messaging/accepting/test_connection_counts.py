"""The limit on connections from one address, and the other limits of a listener."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import pytest

import tofu_aio as tofu
from tests.messaging.peers import ENOUGH, LARGE_HELLO, RawPeer, admission_of, hello, until
from tofu_aio.messaging.accepting.connection_counts import ConnectionCounts, host_of
from tofu_aio.messaging.connection import closing as closing_module

NEVER = 3600.0


async def test_one_address_has_so_many_connections_whatever_they_are(
    group: tofu.ChannelGroup, engine: tofu.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Silent, undecided and open ones count; closing one makes room."""
    async with await group.listen("tcp://127.0.0.1:0", max_connections_per_address=3) as listener:
        client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
        silent, half = [await RawPeer.connect(listener.address) for _ in range(2)]
        await half.send(LARGE_HELLO[:ENOUGH])
        await until(lambda: admission_of(listener)._handshaking)
        await until(lambda: admission_of(listener)._silent)
        for refused in range(1, 4):
            with await RawPeer.connect(listener.address) as peer:
                assert await peer.end() == b""
            assert engine.statistics().refused == refused
        assert caplog.text.count("127.0.0.1 has as many connections as") == 1
        for leaver in (silent, half):
            before = admission_of(listener)._counts._counts["127.0.0.1"]
            leaver.close()
            await until(lambda: admission_of(listener)._counts._counts["127.0.0.1"] < before)  # noqa: B023
        with await RawPeer.connect(listener.address) as peer:
            await peer.send(hello())
            again = await listener.accept()
            again.abort()
        await asyncio.gather(client.aclose(), server.aclose())
        await until(lambda: not admission_of(listener)._counts._counts)
        assert not admission_of(listener)._counted


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
async def test_another_address_has_its_own(group: tofu.ChannelGroup) -> None:
    async with await group.listen("tcp://0.0.0.0:0", max_connections_per_address=1) as listener:
        port = listener.address.port  # type: ignore[union-attr]
        where = tofu.TcpAddress("127.0.0.1", port)
        with await RawPeer.connect(where), await RawPeer.connect(where) as second:
            assert await second.end() == b""
            sock = socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.9", 0))
            with RawPeer(sock) as other:
                await other.send(hello())
                (await listener.accept()).abort()


async def test_a_refused_peer_that_stays_counts(
    group: tofu.ChannelGroup, listener: tofu.Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing_module, "LINGER", NEVER)
    async with await group.listen("tcp://127.0.0.1:0", max_connections_per_address=1) as one:
        with await RawPeer.connect(one.address) as peer:
            await peer.send(hello())
            rejecting = asyncio.create_task((await one.receive_hello()).reject("no"))
            await peer.message()
            with await RawPeer.connect(one.address) as next_one:
                assert await next_one.end() == b""
        await rejecting
        await until(lambda: not admission_of(one)._counts._counts)


async def test_a_unix_socket_has_no_addresses_to_count(group: tofu.ChannelGroup) -> None:
    with pytest.raises(tofu.WrongAddress, match="max_connections_per_address is for TCP"):
        await group.listen("uds:///tmp/tofu-none", max_connections_per_address=1)


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::9", "2001:db8:1:3::/64"),
        ("fe80::1%2", "fe80::1%2"),
        ("::1", "::1"),
    ],
)
def test_the_key_that_a_connection_is_counted_under(host: str, key: str) -> None:
    assert host_of(host) == key


def test_a_connection_is_released_once() -> None:
    counts = ConnectionCounts(2)
    first, second = (
        counts.begin(tofu.TcpAddress("192.0.2.1", 1)),
        counts.begin(tofu.TcpAddress("192.0.2.1", 2)),
    )
    assert first is not None
    assert second is not None
    assert counts.begin(tofu.TcpAddress("192.0.2.1", 3)) is None
    first.release()
    first.release()
    assert counts.begin(tofu.TcpAddress("192.0.2.1", 3)) is not None
    assert counts.begin(tofu.TcpAddress("192.0.2.1", 4)) is None


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"max_channels": 0}, "max_channels is 0: give 1 or more"),
        ({"max_connections_per_address": 0}, "max_connections_per_address is 0: give 1 or more"),
        (
            {"max_connections_per_address": True},
            "max_connections_per_address is True, not an integer",
        ),
        ({"idle_timeout": 0}, r"idle_timeout is 0: give 0\.01 or more seconds"),
        ({"idle_timeout": float("nan")}, r"idle_timeout is nan: give 0\.01 or more seconds"),
        ({"idle_timeout": "5"}, "idle_timeout is '5', not a number"),
    ],
)
async def test_bounds_that_make_no_sense_are_refused(
    group: tofu.ChannelGroup, engine: tofu.Engine, option: dict[str, Any], words: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        await group.listen("tcp://127.0.0.1:0", **option)
    assert engine.statistics().channels == 0
