"""``tofu receive``: its checks before, during and after a transfer."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

import tofu_aio as tofu
from tests.cli.files import OFFER, ended, left_in, precious
from tests.cli.processes import Run, Start, signals, unix
from tofu_aio.protocol.message import Message
from tofu_aio.protocol.op_code import OpCode
from tofu_aio.protocol.status import Status


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (".", ". is a folder: give the path of a file in it"),
        ("there", "there exists: choose another name, or use --force to replace it"),
        (str(Path("none", "file")), "file does not exist: create it first"),
        pytest.param(
            "there/file", "a part of the path is not a folder: check the path", marks=unix
        ),
        pytest.param("x" * 300, "the file name is too long: choose a shorter one", marks=unix),
    ],
)
def test_a_file_that_cannot_be_written(tofu_run: Run, output: str, reason: str) -> None:
    Path("there").write_text("precious")
    ended = tofu_run("receive", "tcp://127.0.0.1:0", "-o", output)
    assert (ended.code, ended.out) == (1, "")
    assert ended.complaint.endswith(reason)
    assert Path("there").read_text() == "precious"


@unix
def test_a_device_is_not_replaced(tofu_run: Run) -> None:
    ended = tofu_run("receive", "tcp://127.0.0.1:0", "-o", os.devnull, "--force")
    assert ended.code == 1
    assert "exists and is not a regular file: choose another name" in ended.complaint


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("tcp://name.invalid:7000", "'name.invalid' has no address"),
        ("tcp://192.0.2.1:7000", "the host is not an address of this machine"),
        pytest.param("uds:///none/s", "the folder of the socket does not exist", marks=unix),
        pytest.param("uds:///etc/passwd", "is not a socket", marks=unix),
        pytest.param(f"uds:///{'x' * 200}", "choose a shorter one", marks=unix),
    ],
)
def test_an_address_that_cannot_be_listened_on(
    tofu_run: Run, tmp_path: Path, address: str, reason: str
) -> None:
    ended = tofu_run("receive", address, "-o", "copy")
    assert (ended.code, ended.out) == (1, "")
    assert reason in ended.complaint
    assert not list(tmp_path.iterdir())


def test_a_port_in_use(tofu_run: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        ended = tofu_run("receive", address, "-o", "copy")
    assert (ended.code, ended.out) == (1, "")
    assert "the address is in use" in ended.complaint
    assert not list(tmp_path.iterdir())


@signals
def test_ctrl_c_while_it_waits(start: Start, tmp_path: Path) -> None:
    receive = start("receive", f"uds://{tmp_path}/s", "-o", "copy")
    receive.listening()
    ended = receive.stop()
    assert (ended.code, ended.out, ended.complaint) == (130, "", "interrupted")
    assert not list(tmp_path.iterdir())


def test_force_replaces_a_file(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("new")
    (tmp_path / "copy").write_text("old")
    receive = start("receive", "tcp://127.0.0.1:0", "-o", "copy", "--force")
    assert start("send", "file", receive.listening()).finish().code == 0
    assert receive.finish().code == 0
    assert (tmp_path / "copy").read_text() == "new"


async def test_a_file_that_appeared_meanwhile_is_not_replaced(start: Start, tmp_path: Path) -> None:
    receive = start("receive", "tcp://127.0.0.1:0", "-o", "copy")
    async with tofu.connect(receive.listening()) as channel:
        header = channel.post(Message(OpCode.REQUEST, b"1", OFFER, more=True))
        assert await asyncio.to_thread(receive.line) == "receiving file: 2 bytes"
        precious(tmp_path / "copy")
        last = {"File-SHA256": "6b51d431df5d7f141cbececcf79edf3dd861c3b4069f0b11661a3eefacbba918"}
        with await channel.request(b"2", last, message_id=header.message_id) as response:
            assert response.status is Status.PROCESSING_FAILED
            assert b"copy exists" in response.body
    left = await ended(receive)
    assert left.code == 1
    assert "copy exists" in left.complaint
    assert (tmp_path / "copy").read_text() == "precious"
    assert left_in(tmp_path) == ["copy"]


async def test_another_digest_leaves_nothing(start: Start, tmp_path: Path) -> None:
    receive = start("receive", "tcp://127.0.0.1:0", "-o", "copy")
    async with tofu.connect(receive.listening()) as channel:
        with await channel.request(b"12", {**OFFER, "File-SHA256": "0" * 64}) as response:
            assert response.status is Status.PROCESSING_FAILED
    left = await ended(receive)
    assert left.code == 1
    assert "a different SHA-256 than was sent: send it again" in left.complaint
    assert not left_in(tmp_path)


async def test_the_confirmation_comes_after_the_file(start: Start, tmp_path: Path) -> None:
    receive = start("receive", "tcp://127.0.0.1:0", "-o", "copy")
    digest = "6b51d431df5d7f141cbececcf79edf3dd861c3b4069f0b11661a3eefacbba918"
    async with tofu.connect(receive.listening()) as channel:
        with await channel.request(b"12", {**OFFER, "File-SHA256": digest}) as response:
            assert response.status is Status.SUCCESS
            assert response.headers == {"File-Received": "2", "File-SHA256": digest}
            assert (tmp_path / "copy").read_bytes() == b"12"
    assert (await ended(receive)).code == 0
