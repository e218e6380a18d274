"""What a receiver checks before, while and after it receives."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

import tofu_aio as tofu
from tests.cli.processes import Ended, Run, Running, Start, signals, unix
from tofu_aio.protocol.message import Message
from tofu_aio.protocol.op_code import OpCode
from tofu_aio.protocol.status import Status

OFFER = {"File-Name": "file", "File-Size": "2"}


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


def precious(file: Path) -> None:
    file.write_text("precious")


def left_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def ended(receive: Running) -> Ended:
    """Its end, while channels in this process live on."""
    return await asyncio.to_thread(receive.finish)


async def test_a_file_that_came_meanwhile_is_left_alone(start: Start, tmp_path: Path) -> None:
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


async def test_a_peer_without_a_file_does_not_end_it(start: Start, tmp_path: Path) -> None:
    receive = start("receive", "tcp://127.0.0.1:0", "-o", "copy")
    address = receive.listening()
    async with tofu.connect(address):
        pass  # it leaves again
    async with tofu.connect(address) as channel:
        with await channel.request(b"hello?") as response:
            assert response.status is Status.PROCESSING_FAILED
            assert response.body == b"this receiver accepts only files: use 'tofu send'"
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as client:
        client.sendall(os.urandom(1000))
    precious(tmp_path / "file")
    assert (await ended(start("send", "file", address))).code == 0
    left = await ended(receive)
    assert (left.code, left.err) == (0, "")
    assert (tmp_path / "copy").read_text() == "precious"


async def test_the_confirmation_comes_after_the_file(start: Start, tmp_path: Path) -> None:
    receive = start("receive", "tcp://127.0.0.1:0", "-o", "copy")
    digest = "6b51d431df5d7f141cbececcf79edf3dd861c3b4069f0b11661a3eefacbba918"
    async with tofu.connect(receive.listening()) as channel:
        with await channel.request(b"12", {**OFFER, "File-SHA256": digest}) as response:
            assert response.status is Status.SUCCESS
            assert response.headers == {"File-Received": "2", "File-SHA256": digest}
            assert (tmp_path / "copy").read_bytes() == b"12"
    assert (await ended(receive)).code == 0


# --- who may send ----------------------------------------------------------------------------


async def test_peers_that_offer_nothing_hold_up_nobody(start: Start, tmp_path: Path) -> None:
    receive = start("receive", "tcp://127.0.0.1:0", "-o", "copy")
    address = receive.listening()
    precious(tmp_path / "file")
    async with tofu.Engine() as engine, engine.create_group() as group:
        silent = [await group.connect(address) for _ in range(70)]
        with pytest.raises(tofu.PeerDisconnected):
            await silent[0].receive()  # the first gave way to the last
        assert (await ended(start("send", "file", address))).code == 0
        for channel in silent:
            channel.abort()
    assert (await ended(receive)).code == 0
    assert (tmp_path / "copy").read_text() == "precious"


async def test_one_file_is_taken_and_whoever_comes_second_hears_that(
    start: Start, tmp_path: Path
) -> None:
    receive = start("receive", "tcp://127.0.0.1:0", "-o", "copy")
    address = receive.listening()
    async with tofu.Engine() as engine, engine.create_group() as group:
        first, second = [await group.connect(address) for _ in range(2)]
        header = first.post(Message(OpCode.REQUEST, b"1", OFFER, more=True))
        assert await asyncio.to_thread(receive.line) == "receiving file: 2 bytes"
        with await second.request(b"12", OFFER) as response:
            assert response.body == b"another sender was first"
        last = {"File-SHA256": "6b51d431df5d7f141cbececcf79edf3dd861c3b4069f0b11661a3eefacbba918"}
        with await first.request(b"2", last, message_id=header.message_id) as response:
            assert response.status is Status.SUCCESS
    assert (await ended(receive)).code == 0


def test_who_has_the_secret_may_send(start: Start, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("71c480df93d6ae2f\n")
    (tmp_path / "same").write_text("71c480df93d6ae2f")
    precious(tmp_path / "file")
    receive = start("receive", "tcp://127.0.0.1:0", "-o", "copy", "--secret-file", "secret")
    sent = start("send", "file", receive.listening(), "--secret-file", "same").finish()
    assert (sent.code, sent.err) == (0, "")
    assert receive.finish().code == 0
    assert (tmp_path / "copy").read_text() == "precious"


def test_who_has_it_not_is_sent_away_and_the_receiver_goes_on(start: Start, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("71c480df93d6ae2f")
    (tmp_path / "another").write_text("something else")
    precious(tmp_path / "file")
    receive = start("receive", "tcp://127.0.0.1:0", "-o", "copy", "--secret-file", "secret")
    address = receive.listening()
    without = start("send", "file", address).finish()
    assert without.code == 1
    assert (
        without.complaint
        == "the receiver requires a secret: give the file with it to --secret-file"
    )
    wrong = start("send", "file", address, "--secret-file", "another").finish()
    assert wrong.code == 1
    assert wrong.complaint.endswith("use --secret-file with the receiver's secret")
    assert start("send", "file", address, "--secret-file", "secret").finish().code == 0
    assert receive.finish().code == 0


def test_a_secret_is_not_shown_to_a_receiver_that_does_not_ask(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("71c480df93d6ae2f")
    precious(tmp_path / "file")
    receive = start("receive", "tcp://127.0.0.1:0", "-o", "copy")
    sent = start("send", "file", receive.listening(), "--secret-file", "secret").finish()
    assert sent.code == 1
    assert "does not ask for a secret, so it may be the wrong one" in sent.complaint
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is empty: write a secret"),
        ("\n", "is empty"),
        ("x" * 5000, "is this the file with the secret?"),
    ],
)
def test_a_file_without_a_secret(tofu_run: Run, tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "secret").write_text(content)
    ended = tofu_run("receive", "tcp://127.0.0.1:0", "-o", "copy", "--secret-file", "secret")
    assert (ended.code, ended.out) == (1, "")
    assert reason in ended.complaint


@pytest.mark.parametrize(
    ("limit", "size", "taken"), [("1k", 1024, True), ("1K", 1025, False), ("7", 8, False)]
)
def test_a_file_that_is_too_large_is_not_taken(
    start: Start, tmp_path: Path, limit: str, size: int, taken: bool
) -> None:
    (tmp_path / "file").write_bytes(bytes(size))
    receive = start("receive", "tcp://127.0.0.1:0", "-o", "copy", "--max-size", limit)
    sent = start("send", "file", receive.listening()).finish()
    assert sent.code == (0 if taken else 1)
    assert ("the receiver accepts at most" in sent.err) != taken
    if taken:
        assert receive.finish().code == 0


def test_a_limit_that_is_no_size(tofu_run: Run) -> None:
    ended = tofu_run("receive", "tcp://127.0.0.1:0", "-o", "copy", "--max-size", "much")
    assert ended.code == 2
    assert "'much' is not a size: give a number of bytes, or for example 200M or 4G" in ended.err
