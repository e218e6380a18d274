"""At the level of messages, a peer that closes before its Hello was received leaves no trace."""

from __future__ import annotations

import pytest

import tofu_aio as tofu
from tests.messaging.peers import RawPeer, frame, turns, until
from tofu_aio import Message, OpCode, Status
from tofu_aio.messaging.accepting import admission as admission_module
from tofu_aio.messaging.posting.posted import PostedListener

LARGE = frame(OpCode.HELLO_REQUEST, bytes(65_535), b"a:" + bytes(60_000) + b"\r\n")


async def listening(group: tofu.ChannelGroup) -> tuple[int, tofu.Address]:
    group.post(Message(OpCode.WELCOME_REQUEST, headers={tofu.LISTEN_ON: "tcp|127.0.0.1|0"}))
    answer = await group.receive()
    return answer.channel_number, tofu.parse_address(answer.headers[tofu.LISTEN_ON])


async def close(group: tofu.ChannelGroup, listener: int) -> None:
    bye = Message(OpCode.BYE_SIGNAL)
    bye.channel_number = listener
    group.post(bye)
    last = await group.receive()
    assert (last.status, last.channel_number) == (Status.CHANNEL_CLOSED, listener)


@pytest.mark.parametrize("ending", ["close", "half close", "reset"])
async def test_of_those_that_come_and_go_nothing_stays(
    group: tofu.ChannelGroup, engine: tofu.Engine, ending: str
) -> None:
    """Whatever else waits in the mailbox is where it was."""
    listener, where = await listening(group)
    own = Message(OpCode.SIGNAL, b"before")
    group.update_receiver(own)
    with await RawPeer.connect(where) as patient:
        await patient.send(frame(OpCode.HELLO_REQUEST, b"patient"))
        await until(lambda: len(group._posting.mailbox.items) == 2)
        for _ in range(20):
            with await RawPeer.connect(where) as peer:
                await peer.send(LARGE)
                await until(lambda: len(group._posting.mailbox.items) == 3)
                if ending == "reset":
                    await peer.reset()
                elif ending == "half close":
                    peer.half_close()
                    await peer.end()
            await until(lambda: len(group._posting.mailbox.items) == 2)
            await until(lambda: engine.statistics().channels == 2)
        assert (await group.receive()).body == b"before"
        hello = await group.receive()
        assert hello.body == b"patient"
        answer = Message(OpCode.HELLO_RESPONSE)
        answer.channel_number = hello.channel_number
        group.post(answer)
        assert (await patient.message()).op_code is OpCode.HELLO_RESPONSE
    assert (await group.receive()).status is Status.PEER_DISCONNECTED
    assert (await group.receive()).status is Status.CHANNEL_CLOSED
    await close(group, listener)


async def test_of_whom_the_application_has_heard_it_hears_the_end(
    group: tofu.ChannelGroup,
) -> None:
    """It may be about to decide."""
    listener, where = await listening(group)
    with await RawPeer.connect(where) as peer:
        await peer.send(LARGE)
        hello = await group.receive()
    ends = [await group.receive() for _ in range(2)]
    assert [(end.status, end.channel_number) for end in ends] == [
        (Status.PEER_DISCONNECTED, hello.channel_number),
        (Status.CHANNEL_CLOSED, hello.channel_number),
    ]
    await close(group, listener)


async def test_so_many_wait_undecided_and_no_more(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission_module, "PENDING_CHANNELS", 3)
    listener, where = await listening(group)
    member = group._members[listener]
    assert isinstance(member, PostedListener)
    admission = member._acceptor._arrivals
    crowd = [await RawPeer.connect(where) for _ in range(8)]
    for peer in crowd:
        await peer.send(LARGE)
    await until(lambda: len(group._posting.mailbox.items) == 3 and len(admission._waiting) == 5)
    await turns(20)
    assert len(group._posting.mailbox.items) == 3
    for peer in crowd:
        peer.close()
    await until(lambda: not group._posting.mailbox.items and not admission._undecided)
    await close(group, listener)
