"""Which files a receiver accepts, and from whom."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

import tofu_aio as tofu
from tests.cli.files import OFFER, ended, precious
from tests.cli.processes import Start
from tofu_aio.protocol.message import Message
from tofu_aio.protocol.op_code import OpCode
from tofu_aio.protocol.status import Status


async def test_peers_that_offer_nothing_do_not_block_others(start: Start, tmp_path: Path) -> None:
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


async def test_one_file_is_accepted_and_the_second_sender_is_told(
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


def test_a_sender_with_the_secret_is_accepted(start: Start, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("71c480df93d6ae2f\n")
    (tmp_path / "same").write_text("71c480df93d6ae2f")
    precious(tmp_path / "file")
    receive = start("receive", "tcp://127.0.0.1:0", "-o", "copy", "--secret-file", "secret")
    sent = start("send", "file", receive.listening(), "--secret-file", "same").finish()
    assert (sent.code, sent.err) == (0, "")
    assert receive.finish().code == 0
    assert (tmp_path / "copy").read_text() == "precious"


def test_a_sender_without_the_secret_is_rejected_and_the_receiver_goes_on(
    start: Start, tmp_path: Path
) -> None:
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
    ("limit", "size", "taken"), [("1k", 1024, True), ("1K", 1025, False), ("7", 8, False)]
)
def test_a_file_that_is_too_large_is_rejected(
    start: Start, tmp_path: Path, limit: str, size: int, taken: bool
) -> None:
    (tmp_path / "file").write_bytes(bytes(size))
    receive = start("receive", "tcp://127.0.0.1:0", "-o", "copy", "--max-size", limit)
    sent = start("send", "file", receive.listening()).finish()
    assert sent.code == (0 if taken else 1)
    assert ("the receiver accepts at most" in sent.err) != taken
    if taken:
        assert receive.finish().code == 0


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
