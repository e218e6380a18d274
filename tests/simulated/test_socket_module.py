"""Creating simulated sockets, and looking up names."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

import tofu_aio as tofu
from tests.simulated.services import asked, echo
from tofu_aio import testing
from tofu_aio.testing import Network


def test_names_are_those_of_the_network() -> None:
    network = Network(hosts={"server": ["10.0.0.2"]})

    async def main() -> bytes:
        async with tofu.Engine() as engine, engine.create_group() as group:
            listener = await group.listen("tcp://10.0.0.2:7000")
            serving = asyncio.create_task(listener.serve(echo))
            async with await group.connect("tcp://server:7000") as channel:
                body = (await channel.request(b"named")).body
            await listener.aclose()
            await serving
        return body

    assert testing.run(main(), network=network) == b"named"
    with pytest.raises(tofu.ConnectFailed, match="no host 'server' in the simulated network"):
        testing.run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract socket names")
def test_unix_sockets_have_names_and_no_files() -> None:
    assert testing.run(asked("uds://@simulated")) == b"ping"
    with pytest.raises(tofu.ListenFailed, match="read-only"):
        testing.run(asked("uds:///tmp/no-such-socket"))


@pytest.mark.parametrize("address", ["tcp://[::1]:0", "tcp://localhost:0"])
def test_other_addresses_of_this_machine(address: str) -> None:
    assert testing.run(asked(address)) == b"ping"


def test_no_real_socket_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a real socket was made")

    for name in ("socket", "socketpair", "create_server", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refused)
    assert testing.run(asked()) == b"ping"
