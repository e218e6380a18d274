"""The protocol of a file transfer: each side against a peer that may break it."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest

import tofu_aio as tofu
from tofu_aio.cli import transfer
from tofu_aio.cli.errors import Failure
from tofu_aio.cli.transfer import Offer, confirm, parse_offer, receive_file, reject_file, send_file
from tofu_aio.protocol.message import Message
from tofu_aio.protocol.op_code import OpCode

CONTENT = bytes(range(256)) * 1000
OFFER = Offer("file", len(CONTENT))
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Pair(NamedTuple):
    """Both ends of one channel."""

    sender: tofu.Channel
    receiver: tofu.Channel


@pytest.fixture
async def pair(group: tofu.ChannelGroup) -> AsyncIterator[Pair]:
    async with await group.listen("tcp://127.0.0.1:0") as listener:
        pair = await asyncio.gather(group.connect(listener.address), listener.accept())
        async with pair[0], pair[1]:
            yield Pair(*pair)


def ignore(_: int) -> None:
    """Ignore progress."""


async def sending(
    pair: Pair, content: bytes = CONTENT, offer: Offer = OFFER, **options: float
) -> str:
    part_size = int(options.pop("part_size", transfer.PART))
    return await send_file(
        pair.sender, io.BytesIO(content), offer, ignore, part_size=part_size, **options
    )


async def receiving(pair: Pair, **options: float) -> tuple[bytes, str]:
    first = await pair.receiver.receive()
    file = io.BytesIO()
    sha256 = await receive_file(pair.receiver, first, file.write, ignore, **options)
    await confirm(pair.receiver, first, sha256)
    return file.getvalue(), sha256


@pytest.mark.parametrize("part_size", [1, 999, 1000, 65535])
@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001])
async def test_what_is_sent_is_received(pair: Pair, size: int, part_size: int) -> None:
    content = CONTENT[:size]
    sent, (received, sha256) = await asyncio.gather(
        sending(pair, content, Offer("file", size), part_size=part_size), receiving(pair)
    )
    assert received == content
    assert sent == sha256 == hashlib.sha256(content).hexdigest()


async def test_both_sides_report_their_progress(pair: Pair) -> None:
    sent: list[int] = []
    received: list[int] = []

    async def receive() -> None:
        first = await pair.receiver.receive()
        assert parse_offer(first) == OFFER
        sha256 = await receive_file(pair.receiver, first, len, received.append)
        await confirm(pair.receiver, first, sha256)

    await asyncio.gather(send_file(pair.sender, io.BytesIO(CONTENT), OFFER, sent.append), receive())
    assert sent == received
    assert sum(sent) == len(CONTENT)


async def test_a_slow_receiver_is_told_from_a_dead_one(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Counter[str]()

    @asynccontextmanager
    async def patient(_: float, peer: str) -> AsyncIterator[Callable[[], None]]:
        yield lambda: steps.update([peer])

    monkeypatch.setattr(transfer, "_progress_timeout", patient)
    monkeypatch.setattr(transfer, "_REPORT_EVERY", 0.0)
    sent, _ = await asyncio.gather(sending(pair, part_size=64_000), receiving(pair, pause=0.001))
    assert sent == SHA256
    # Four parts; the receiver's signals after all but the last of them, and its response.
    assert steps == {"sender": 4, "receiver": 4 + 3 + 1}


async def test_a_receiver_that_is_stuck(pair: Pair) -> None:
    with pytest.raises(Failure, match=r"no progress for 0.05 s: is the receiver stuck\?"):
        await sending(pair, progress_timeout=0.05)


async def test_a_sender_that_is_stuck(pair: Pair) -> None:
    pair.sender.post(part(b"1", more=True))
    with pytest.raises(Failure, match=r"no progress for 0.05 s: is the sender stuck\?"):
        await receiving(pair, progress_timeout=0.05)


async def test_parts_without_a_byte_are_no_progress(pair: Pair) -> None:
    async def empty_parts() -> None:
        first = part(b"", more=True, **{"File-Name": "file", "File-Size": "9"})
        while True:
            await pair.sender.send(first)
            first = part(b"", more=True)
            await asyncio.sleep(0.001)

    sender = asyncio.create_task(empty_parts())
    with pytest.raises(Failure, match=r"no progress for 0\.2 s: is the sender stuck\?"):
        await receiving(pair, progress_timeout=0.2)
    sender.cancel()


async def test_a_receiver_that_rejects_in_the_middle(pair: Pair) -> None:
    async def receive() -> None:
        with await pair.receiver.receive() as first:
            await reject_file(pair.receiver, first, "it does\nnot fit")
        await pair.receiver.aclose()

    size = 100_000_000  # more than the kernel can buffer
    receiver = asyncio.create_task(receive())
    with pytest.raises(Failure, match=r"the receiver rejected file: it does\\nnot fit$"):
        await sending(pair, bytes(size), Offer("file", size))
    pair.sender.abort()
    await receiver


async def test_a_receiver_that_closes(pair: Pair) -> None:
    async def receive() -> None:
        (await pair.receiver.receive()).release()
        await pair.receiver.aclose()

    results = await asyncio.gather(sending(pair), receive(), return_exceptions=True)
    assert str(results[0]) == "lost the receiver (the peer said Bye): send file again"


async def test_a_receiver_that_got_something_else(pair: Pair) -> None:
    async def receive() -> None:
        first = await pair.receiver.receive()
        await receive_file(pair.receiver, first, len, ignore)
        await confirm(pair.receiver, first, "0" * 64)

    results = await asyncio.gather(sending(pair), receive(), return_exceptions=True)
    assert "another SHA-256" in str(results[0])


async def test_a_file_that_becomes_shorter(pair: Pair) -> None:
    with pytest.raises(Failure, match="file became shorter during the transfer"):
        await sending(pair, CONTENT[:-1])


async def test_a_file_that_cannot_be_read(pair: Pair) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise TimeoutError(110, "the disk does not answer")

    with pytest.raises(TimeoutError, match="the disk does not answer"):
        await send_file(pair.sender, Broken(), OFFER, ignore)


def part(body: bytes, *, more: bool, **changes: str) -> Message:
    """The first part of a file of two bytes, valid unless changed."""
    headers = {"File-Name": "file", "File-Size": "2", **changes}
    return Message(OpCode.REQUEST, body, headers, message_id=99, more=more)


def regular(op_code: OpCode, message_id: int) -> Message:
    return Message(op_code, b"2", {"File-SHA256": "0" * 64}, message_id)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (
            [part(b"1", more=True), regular(OpCode.SIGNAL, 99)],
            "sent a SIGNAL with message id 99 in the middle of file",
        ),
        (
            [part(b"1", more=True), regular(OpCode.REQUEST, 98)],
            "sent a REQUEST with message id 98 in the middle of file",
        ),
        ([part(b"123", more=True)], "offered 2 bytes and sent more"),
        ([part(b"1", more=False)], "offered 2 bytes and sent 1"),
        ([part(b"12", more=False)], "different SHA-256 than was sent"),
        ([part(b"1", more=True), regular(OpCode.REQUEST, 99)], "different SHA-256 than was sent"),
    ],
)
async def test_a_sender_that_breaks_the_rules(
    pair: Pair, messages: list[Message], reason: str
) -> None:
    for message in messages:
        pair.sender.post(message)
    with pytest.raises(Failure, match=reason):
        await receiving(pair)


@pytest.mark.parametrize("goodbye", [True, False])
async def test_a_sender_that_closes(pair: Pair, goodbye: bool) -> None:
    pair.sender.post(part(b"1", more=True))
    first = await pair.receiver.receive()
    receive = asyncio.create_task(receive_file(pair.receiver, first, len, ignore))
    if goodbye:
        await pair.sender.aclose()
    else:
        pair.sender.abort()
    with pytest.raises(
        Failure, match=r"lost the sender after 1 byte of 2 bytes \(the .*\): send file again"
    ):
        await receive


@pytest.mark.parametrize(
    "message",
    [
        Message(OpCode.REQUEST),
        Message(OpCode.REQUEST, headers={"File-Name": "file"}),
        Message(OpCode.REQUEST, headers={"File-Name": "file", "File-Size": "-1"}),
        Message(OpCode.REQUEST, headers={"File-Name": "file", "File-Size": "1" * 20}),
        Message(OpCode.REQUEST, headers={"File-Name": "file", "File-Size": "\u0661"}),
        Message(OpCode.SIGNAL, headers={"File-Name": "file", "File-Size": "1"}),
    ],
)
def test_messages_that_are_not_offers(message: Message) -> None:
    assert parse_offer(message) is None


def test_the_name_in_an_offer_cannot_control_the_terminal() -> None:
    offer = parse_offer(part(b"", more=True, **{"File-Name": "a\x1b[31mb"}))
    assert offer == Offer("a\ufffd[31mb", 2)


def test_a_long_name_is_cut() -> None:
    offer = parse_offer(part(b"", more=True, **{"File-Name": "x" * 60_000}))
    assert offer == Offer("x" * 255, 2)
