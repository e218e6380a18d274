"""``tofu serve``: an echo server that only its user can stop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
from pathlib import Path

import pytest

import tofu_aio as tofu
from tests.cli.processes import Start, signals, unix
from tofu_aio.protocol.message import Message
from tofu_aio.protocol.op_code import OpCode


@signals
@pytest.mark.parametrize(
    ("loop", "name"),
    [("reactor", "SIGINT"), ("reactor", "SIGTERM"), ("asyncio", "SIGHUP"), ("auto", "SIGINT")],
)
def test_it_exits_cleanly_on_a_signal(start: Start, tmp_path: Path, loop: str, name: str) -> None:
    serve = start("serve", "--loop", loop, f"uds://{tmp_path}/s")
    assert serve.listening() == f"uds://{tmp_path}/s"
    assert serve.stop(signal.Signals[name]) == (0, "", "")
    assert not list(tmp_path.iterdir())


async def test_only_requests_are_answered(start: Start) -> None:
    serve = start("serve", "tcp://127.0.0.1:0")
    async with tofu.connect(serve.listening()) as channel:
        await channel.signal(b"no answer")
        channel.post(Message(OpCode.RESPONSE, b"none either", message_id=77))
        with await channel.request(b"body", {"Job": "7"}) as response:
            assert (response.body, response.headers) == (b"body", {"Job": "7"})
        header = channel.post(Message(OpCode.REQUEST, b"1", more=True))
        channel.post(Message(OpCode.REQUEST, b"2", message_id=header.message_id))
        with await channel.receive() as first, await channel.receive() as second:
            assert (first.body, first.more, second.body, second.more) == (b"1", True, b"2", False)


def frame(proto: int, message_id: int = 1, headers: bytes = b"", body_len: int = 0) -> bytes:
    return struct.pack(">HBBQHH", 1, proto, 0, message_id, len(headers), body_len) + headers


@pytest.mark.parametrize(
    "nonsense",
    [
        os.urandom(100_000),
        frame(3)[:7],
        frame(3, body_len=1000),
        frame(13),
        frame(0),
        b"GET / HTTP/1.1\r\nHost: tofu\r\n\r\n",
        b"",
    ],
    ids=["random", "half a header", "a promise", "op code 13", "not Hello", "HTTP", "nothing"],
)
def test_a_client_that_is_not_tofu_does_not_disturb_others(start: Start, nonsense: bytes) -> None:
    serve = start("serve", "tcp://127.0.0.1:0")
    address = serve.listening()
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as client:
        client.sendall(nonsense)
        client.shutdown(socket.SHUT_WR)
        client.settimeout(20)
        with contextlib.suppress(ConnectionResetError):  # the server had not read everything
            assert not client.recv(1)
        assert start("ping", "--count", "1", address).finish().code == 0
    if os.name == "posix":
        assert serve.stop() == (0, "", "")


def test_a_port_in_use(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = start("serve", f"tcp://127.0.0.1:{taken.getsockname()[1]}").finish()
    assert (ended.code, ended.out) == (1, "")
    assert "the address is in use" in ended.complaint


@unix
def test_a_path_in_use_and_one_that_is_stale(start: Start, tmp_path: Path) -> None:
    address = f"uds://{tmp_path}/s"
    first = start("serve", address)
    first.listening()
    second = start("serve", address).finish()
    assert second.code == 1
    assert "the address is in use" in second.complaint
    first.stop(signal.SIGKILL)
    assert (tmp_path / "s").is_socket()
    third = start("serve", address)
    third.listening()
    assert third.stop() == (0, "", "")
    assert not list(tmp_path.iterdir())


@unix
def test_a_path_that_is_a_file(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    ended = start("serve", f"uds://{tmp_path}/file").finish()
    assert ended.code == 1
    assert ended.complaint.count("cannot listen") == 1
    assert "not a socket" in ended.complaint
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("tcp://name.invalid:7000", "'name.invalid' has no address"),
        ("tcp://192.0.2.1:7000", "the host is not an address of this machine"),
        pytest.param("uds:///none/s", "the folder of the socket does not exist", marks=unix),
        pytest.param(f"uds:///{'x' * 200}", "choose a shorter one", marks=unix),
    ],
)
def test_an_address_that_cannot_be_listened_on(start: Start, address: str, reason: str) -> None:
    ended = start("serve", address).finish()
    assert (ended.code, ended.out) == (1, "")
    assert reason in ended.complaint
