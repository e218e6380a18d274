"""Every message in every state of a channel that is a stream, on real connections.

Such a channel answers Byes itself, so fewer states can be stayed in than with plain messages.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import product
from typing import NamedTuple

import pytest

import tofu_aio as tofu
from tests.messaging.peers import RawPeer, connection_of, frame, until
from tests.protocol.test_lifecycle import RECEIVED_MOVES, REGULAR, SENT_MOVES
from tofu_aio import Message, OpCode, State, Status
from tofu_aio.protocol.op_code import MORE_BIT

STATES = [State.OPEN, State.BYE_SENT, State.BYE_HEARD, State.BYE_ANSWERED, State.CLOSED]
RECEIVED = [*product(range(16), [0, MORE_BIT])]
SENT = [*product(OpCode, [False, True])]

HALF_CLOSE = frame(OpCode.BYE_REQUEST, headers=b"~eof:1\r\n", message_id=70)


class Life(NamedTuple):
    """A channel in some state, and its peer."""

    channel: tofu.Channel
    peer: RawPeer
    bye_id: int


@contextlib.asynccontextmanager
async def brought_to(state: State, listener: tofu.Listener) -> AsyncIterator[Life]:
    accepting = asyncio.create_task(listener.accept())
    with await RawPeer.introduced(listener.address) as peer:
        channel = await accepting
        bye_id = 0
        if state not in {State.OPEN, State.BYE_HEARD}:
            await channel.send_eof()
            bye_id = (await peer.message()).message_id
        if state is State.CLOSED:
            await peer.send(frame(OpCode.BYE_RESPONSE, message_id=bye_id))
        elif state not in {State.OPEN, State.BYE_SENT}:
            await peer.send(HALF_CLOSE)
            if state is State.BYE_ANSWERED:
                assert (await peer.message()).op_code is OpCode.BYE_RESPONSE
        await until(lambda: channel.state is state)
        yield Life(channel, peer, bye_id)
        channel.abort()
        await channel.aclose()


def test_how_many_cases_there_are() -> None:
    assert len(STATES) * len(RECEIVED) == 160
    assert len(STATES) * len(SENT) == 100


@pytest.mark.parametrize("state", STATES)
async def test_what_comes_of_every_message_from_the_peer(
    listener: tofu.Listener, state: State
) -> None:
    for value, more in RECEIVED:
        async with brought_to(state, listener) as life:
            answer = OpCode.BYE_RESPONSE
            data = frame(value | more, message_id=life.bye_id if value == answer else 71)
            try:
                await came(life, state, value, bool(more), data)
            except AssertionError as error:
                raise AssertionError(f"{state}, {value}, more={more}: {error}") from error


async def came(life: Life, state: State, value: int, more: bool, data: bytes) -> None:
    channel, peer, _ = life
    with contextlib.suppress(ConnectionError):
        await peer.send(data)
    wrong_more = more and value < len(OpCode) and value not in REGULAR
    after = None if wrong_more else RECEIVED_MOVES.get((state, value))
    if after is state and value == OpCode.RESPONSE:  # nobody has asked for it
        await until(lambda: channel.statistics().late_responses == 1, "for it to be dropped")
        assert channel.state is state
        assert not channel._mailbox.items
        return
    if after is state:
        with await channel.receive() as message:
            assert (message.op_code, message.more) == (value, more)
        return
    # What ends it is told for ever: the peer's Bye, if there was one, else what broke the rules.
    said_bye = after is not None or state not in {State.OPEN, State.BYE_SENT}
    for _ in range(2):
        with pytest.raises(tofu.ChannelEnded if said_bye else tofu.ProtocolViolation) as told:
            await channel.receive()
    if after is None and state is not State.CLOSED:
        status = Status.INVALID_MORE_USAGE if wrong_more else Status.INVALID_OP_CODE
        assert said_bye or told.value.status is status
        await until(lambda: channel.end)
        assert isinstance(channel.end, tofu.ProtocolViolation)
        assert channel.end.status is status
        with pytest.raises(tofu.ProtocolViolation):
            await channel.signal()
    if after is not State.BYE_ANSWERED and after is not State.BYE_CROSSED:
        words = [message.op_code for message in await last_words(peer)]
        assert words == ([OpCode.BYE_RESPONSE] if after is State.BYE_HEARD else [])


async def last_words(peer: RawPeer) -> list[Message]:
    """What comes before the end of the connection."""
    data = await peer.end()
    return tofu.protocol.decoder.Decoder(None, State.OVERHEARD).feed(data)


@pytest.mark.parametrize("state", STATES)
async def test_what_comes_of_every_message_that_is_posted(
    listener: tofu.Listener, state: State
) -> None:
    for op_code, more in SENT:
        if more and op_code not in REGULAR:
            with pytest.raises(tofu.InvalidMoreUsage):
                Message(op_code, more=True)
            continue
        async with brought_to(state, listener) as life:
            try:
                await posted(life, state, op_code, more)
            except AssertionError as error:
                raise AssertionError(f"{state}, {op_code.name}, {more=}: {error}") from error


async def posted(life: Life, state: State, op_code: OpCode, more: bool) -> None:
    channel, peer, _ = life
    message = Message(op_code, message_id=5 if op_code in REGULAR else 0, more=more)
    after = SENT_MOVES.get((state, op_code))
    if op_code is OpCode.BYE_SIGNAL:
        channel.post(message)
        assert channel.state is State.CLOSED
        assert await peer.end() == b""
    elif after is not None:
        channel.post(message)
        sent = await peer.message()
        assert (sent.op_code, sent.more) == (op_code, more)
        assert channel.state is after
    else:
        error: type[tofu.TofuError] = tofu.NotAllowed
        if state is State.CLOSED:
            error = tofu.PeerDisconnected
        elif state in {State.BYE_SENT, State.BYE_ANSWERED}:
            error = tofu.ChannelClosed
        with pytest.raises(error):
            channel.post(message)
        assert channel.state is state
        assert not connection_of(channel).queue.nbytes
        channel.abort()
        assert await peer.end() == b""
