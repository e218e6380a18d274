"""Peers that speak another protocol, or this one wrongly: on either side, at any time."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import pytest

import tofu_aio as tofu
from tests.faults.promises import echo
from tests.messaging.peers import PATIENCE, RawPeer, RawServer, frame, hello, until
from tests.messaging.posting.test_posted import get_plain, listening
from tofu_aio import OpCode, Status

WRONG_OP = Status.INVALID_OP_CODE

FOREIGN = {
    "http": b"GET / HTTP/1.1\r\nHost: example\r\n\r\n",
    "an http answer": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "tls": bytes.fromhex("16030100c8010000c40303") + bytes(194),
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    "smtp": b"220 mail.example ESMTP ready\r\n",
    "zeros": bytes(64),
    "ones": b"\xff" * 64,
    "noise": random.Random(7).randbytes(4096),
}
"""What other protocols say first."""

FIRST = {
    **{f"op code {op_code}": frame(op_code) for op_code in range(16) if op_code != 3},
    **{f"foreign {name}": data for name, data in FOREIGN.items()},
}

AFTER = {
    **{f"op code {n}": (frame(n), WRONG_OP) for n in (3, 4, 6, 7, 8, 9, *range(10, 16))},
    "message id 0": (frame(message_id=0), Status.INVALID_MESSAGE_ID),
    "more on a Bye": (frame(OpCode.BYE_REQUEST | 0x20), Status.INVALID_MORE_USAGE),
    "a header without a name": (frame(headers=b":b\r\n"), Status.INVALID_MESSAGE),
    "a header without an end": (frame(headers=b"A:b"), Status.INVALID_MESSAGE),
}
"""What may not come on an open channel, and the status that names the rule."""


@contextlib.asynccontextmanager
async def serving(
    group: tofu.ChannelGroup, hello_timeout: float = 60
) -> AsyncIterator[tofu.Listener]:
    """A listener that goes on serving."""
    async with await group.listen("tcp://127.0.0.1:0", hello_timeout=hello_timeout) as listener:
        task = asyncio.create_task(listener.serve(echo))
        yield listener
        async with await group.connect(listener.address) as honest:
            (await honest.request(b"?", timeout=PATIENCE)).release()
    await task


@pytest.mark.parametrize("name", FIRST)
async def test_who_begins_with_anything_but_a_hello_is_dropped(
    group: tofu.ChannelGroup, engine: tofu.Engine, name: str
) -> None:
    """At once where a whole header is wrong; a wrong length is waited for, but not for long."""
    async with serving(group, hello_timeout=0.5) as listener:
        with await RawPeer.connect(listener.address) as liar:
            await liar.send(FIRST[name])
            assert await liar.end() == b""
        await until(lambda: engine.statistics().channels == 1)


@pytest.mark.parametrize("name", AFTER)
async def test_a_rule_broken_after_the_hello_is_named_to_a_stream(
    group: tofu.ChannelGroup, name: str
) -> None:
    data, status = AFTER[name]
    async with await group.listen("tcp://127.0.0.1:0") as listener:
        with await RawPeer.connect(listener.address) as liar:
            await liar.send(hello())
            channel = await listener.accept()
            await liar.send(frame(body=b"good") + data + frame(body=b"too late"))
            assert (await channel.receive()).body == b"good"
            with pytest.raises(tofu.ProtocolViolation) as caught:
                await channel.receive()
            assert caught.value.status is status
            await liar.end()


@pytest.mark.parametrize("name", AFTER)
async def test_a_rule_broken_after_the_hello_is_named_to_a_mailbox(
    group: tofu.ChannelGroup, name: str
) -> None:
    data, status = AFTER[name]
    _, where = await listening(group, "tcp://127.0.0.1:0")
    with await RawPeer.connect(where) as liar:
        await liar.send(hello())
        [(who, op_code, number, *_)] = await get_plain(group, 1)
        assert (who, op_code) == ("peer", OpCode.HELLO_REQUEST)
        accept = tofu.Message(OpCode.HELLO_RESPONSE)
        accept.channel_number = number
        group.post(accept)
        await liar.message()
        await liar.send(data)
        assert await get_plain(group, 2) == [
            ("engine", OpCode.SIGNAL, number, status, b""),
            ("engine", OpCode.SIGNAL, number, Status.CHANNEL_CLOSED, b""),
        ]
        await liar.end()


@pytest.mark.parametrize("name", [name for name in FIRST if name != "op code 4"])
async def test_a_server_that_is_none_is_told_apart(
    group: tofu.ChannelGroup, engine: tofu.Engine, raw_server: RawServer, name: str
) -> None:
    connecting = asyncio.create_task(group.connect(raw_server.address, timeout=0.5))
    with await raw_server.accept() as liar:
        await liar.message()
        await liar.send(FIRST[name])
        with pytest.raises(tofu.ConnectFailed, match="is it a tofu peer"):
            await connecting
        await liar.end()
    assert engine.statistics().channels == 0


async def test_a_crowd_that_says_nothing_is_outlived(
    group: tofu.ChannelGroup, engine: tofu.Engine
) -> None:
    """More strangers than are read at once: the honest one comes in when their time is up."""
    async with serving(group, hello_timeout=0.2) as listener, contextlib.AsyncExitStack() as crowd:
        silent = [crowd.enter_context(await RawPeer.connect(listener.address)) for _ in range(300)]
        async with await group.connect(listener.address, timeout=PATIENCE) as honest:
            (await honest.request(b"?", timeout=PATIENCE)).release()
        for peer in silent:
            assert await peer.end() == b""
        await until(lambda: engine.statistics().channels == 1)
