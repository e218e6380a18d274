"""Addresses for tests."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

import tofu_aio as tofu
from tests.conftest import HAS_UDS
from tofu_aio.testing.addresses import LONGEST_PATH, tcp_address, unix_address


async def test_a_tcp_address_can_be_listened_on(group: tofu.ChannelGroup) -> None:
    with tcp_address() as address:
        async with await group.listen(address) as listener:
            assert str(listener.address) == address


async def test_nobody_listens_on_a_tcp_address(group: tofu.ChannelGroup) -> None:
    with tcp_address() as address, pytest.raises(tofu.ConnectFailed):
        await group.connect(address)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps the port")
def test_a_tcp_address_is_given_to_nobody_else() -> None:
    with tcp_address() as address, socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", int(address.rpartition(":")[2])))


@pytest.mark.skipif(not HAS_UDS, reason="no Unix sockets")
@pytest.mark.parametrize("length", [10, 200])
async def test_a_unix_address_is_short_enough_and_removed(
    group: tofu.ChannelGroup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    folder = tmp_path / ("x" * length)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with unix_address() as address:
        path = address.removeprefix("uds://")
        assert len(os.fsencode(path)) <= LONGEST_PATH
        async with await group.listen(address) as listener:
            assert str(listener.address) == address
    assert not Path(path).parent.exists()
