"""Every message in every state, from both sides and in both directions, on real connections.

A peer that speaks the wire by hand brings a channel into each state of its life. There every op
code there is, and every value that is none, with "more" and without, is sent to it and posted on
it. What is right follows from the tables that ``tests.protocol.test_lifecycle`` has by hand.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import product
from typing import NamedTuple

import pytest

import tofu_aio as tofu
from tests.messaging.peers import RawPeer, RawServer, frame, hello, until
from tests.protocol.test_lifecycle import RECEIVED_MOVES, REGULAR, SENT_MOVES
from tofu_aio import Message, OpCode, Origin, State, Status
from tofu_aio.messaging.accepting import admission as admission_module
from tofu_aio.messaging.connection.connection import Connection
from tofu_aio.messaging.posting.posted import PostedChannel
from tofu_aio.protocol.lifecycle import BYE_SAID, UNDECIDED
from tofu_aio.protocol.op_code import MORE_BIT, ORIGIN_BIT
from tofu_aio.transport import transports

AFTER_HELLO = [
    State.OPEN,
    State.BYE_SENT,
    State.BYE_HEARD,
    State.BYE_CROSSED,
    State.BYE_OWED,
    State.BYE_ANSWERED,
    State.CLOSED,
]
LIVES = [
    *product(["client"], [State.HELLO_SENT, *AFTER_HELLO]),
    *product(["server"], [State.HELLO_AWAITED, State.HELLO_HEARD, *AFTER_HELLO]),
]
"""The states that a peer can bring a channel to. CONNECTING has its own test below."""

RECEIVED = [*product(range(16), [0, MORE_BIT])]
SENT = [*product(OpCode, [False, True])]

PEERS_BYE = 70
"""The message id of the peer's Bye."""


FIRST = hello()[:1]
"""The bytes that a peer must have sent to get a channel in these tests."""


@pytest.fixture(autouse=True)
def first_bytes_wait_for_a_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a channel exists before its first message is complete."""
    monkeypatch.setattr(admission_module, "hello_bytes", lambda _: len(FIRST))


class Life(NamedTuple):
    """A channel in some state, and its peer."""

    group: tofu.ChannelGroup
    number: int
    peer: RawPeer
    hello_id: int
    bye_id: int

    @property
    def state(self) -> State | None:
        """The channel; None once it is forgotten."""
        member = self.group._members.get(self.number)
        if not isinstance(member, PostedChannel):
            return None
        connection = member._connection
        return State.CLOSED if connection.end is not None else connection.decoder.state

    @property
    def connection(self) -> Connection:
        """The connection of the channel."""
        member = self.group._members[self.number]
        assert isinstance(member, PostedChannel)
        return member._connection

    async def end(self) -> None:
        """Reset the channel. The application is notified, if it knows the channel."""
        member = self.group._members[self.number]
        assert isinstance(member, PostedChannel)
        heard_of = member._known
        self.group.post(addressed(OpCode.BYE_SIGNAL, self))
        await (self.told() if heard_of else self.connection_lost_before_its_hello())

    async def connection_lost_before_its_hello(self) -> None:
        """Wait for the end of the connection; the application gets nothing."""
        await until(lambda: self.state is None)
        assert not self.group._posting.mailbox.items

    async def told(self) -> list[Message]:
        """Everything that the application gets, up to the last message of this channel."""
        messages = []
        while not messages or messages[-1].status is not Status.CHANNEL_CLOSED:
            messages.append(await receive(self.group))
        return messages

    def answered(self, op_code: int) -> int:
        """The message id that a frame of the peer must have."""
        ids = {OpCode.HELLO_RESPONSE: self.hello_id, OpCode.BYE_RESPONSE: self.bye_id}
        return ids.get(OpCode(op_code), PEERS_BYE) if op_code < len(OpCode) else PEERS_BYE


async def receive(group: tofu.ChannelGroup) -> Message:
    async with asyncio.timeout(20):
        with await group.receive() as message:
            return message


async def connecting(group: tofu.ChannelGroup, server: RawServer) -> tuple[int, int, RawPeer]:
    headers = {"~connect_to": server.address.to_header()}
    header = group.post(Message(OpCode.HELLO_REQUEST, headers=headers))
    peer = await server.accept()
    assert (await peer.message()).op_code is OpCode.HELLO_REQUEST
    return header.channel_number, header.message_id, peer


@contextlib.asynccontextmanager
async def brought_to(
    state: State, side: str, group: tofu.ChannelGroup, server: RawServer, listener: tofu.TcpAddress
) -> AsyncIterator[Life]:
    """A channel in this state. The messages that led to it were received already."""
    if side == "client":
        number, hello_id, peer = await connecting(group, server)
    else:
        known = set(group._members)
        peer = await RawPeer.connect(listener)
        await peer.send(FIRST)
        await until(lambda: set(group._members) - known)
        (number,) = set(group._members) - known
        hello_id = 1
    with peer:
        bye_id = await further(state, side, group, number, hello_id, peer)
        life = Life(group, number, peer, hello_id, bye_id)
        assert life.state is (state if state is not State.CLOSED else None)
        yield life
        if life.state is not None:
            await life.end()


async def further(
    state: State, side: str, group: tofu.ChannelGroup, number: int, hello_id: int, peer: RawPeer
) -> int:
    """Go on from the connection to the state. Returns the message id of this side's Bye, if any."""
    if state in {State.HELLO_SENT, State.HELLO_AWAITED}:
        return 0
    if side == "client":
        await peer.send(frame(OpCode.HELLO_RESPONSE, message_id=hello_id))
        assert (await receive(group)).op_code is OpCode.HELLO_RESPONSE
    else:
        await peer.send(hello(message_id=hello_id).removeprefix(FIRST))
        assert (await receive(group)).op_code is OpCode.HELLO_REQUEST
        if state is State.HELLO_HEARD:
            return 0
        post(group, number, OpCode.HELLO_RESPONSE)
        assert (await peer.message()).op_code is OpCode.HELLO_RESPONSE
    bye_id = 0
    if state is not State.OPEN and state is not State.BYE_HEARD:
        bye_id = post(group, number, OpCode.BYE_REQUEST)
        assert (await peer.message()).message_id == bye_id
    if state not in {State.OPEN, State.BYE_SENT, State.CLOSED}:
        await peer.send(frame(OpCode.BYE_REQUEST, message_id=PEERS_BYE))
        assert (await receive(group)).op_code is OpCode.BYE_REQUEST
    if state in {State.BYE_OWED, State.CLOSED}:
        await peer.send(frame(OpCode.BYE_RESPONSE, message_id=bye_id))
        assert (await receive(group)).op_code is OpCode.BYE_RESPONSE
    if state is State.BYE_ANSWERED:
        post(group, number, OpCode.BYE_RESPONSE)
        assert (await peer.message()).op_code is OpCode.BYE_RESPONSE
    if state is State.CLOSED:
        assert (await receive(group)).status is Status.CHANNEL_CLOSED
    return bye_id


def post(group: tofu.ChannelGroup, number: int, op_code: OpCode) -> int:
    message = Message(op_code)
    message.channel_number = number
    return group.post(message).message_id


def addressed(op_code: OpCode, life: Life, *, more: bool = False) -> Message:
    message = Message(op_code, message_id=5 if op_code in REGULAR else 0, more=more)
    message.channel_number = life.number
    return message


@pytest.fixture
async def where(group: tofu.ChannelGroup) -> tofu.TcpAddress:
    """The address of a listener whose channels belong to the group."""
    group.post(Message(OpCode.WELCOME_REQUEST, headers={"~listen_on": "tcp|127.0.0.1|0"}))
    answer = await receive(group)
    assert answer.status is Status.SUCCESS
    address = tofu.parse_address(answer.headers["~listen_on"])
    assert isinstance(address, tofu.TcpAddress)
    return address


def test_how_many_cases_there_are() -> None:
    assert len(LIVES) == 17
    assert len(LIVES) * len(RECEIVED) == 544
    assert len(LIVES) * len(SENT) == 340
    seen = {state for _, state in LIVES}
    assert set(State) - seen == {State.CONNECTING, State.OVERHEARD}


@pytest.mark.parametrize(("side", "state"), LIVES)
async def test_what_comes_of_every_message_from_the_peer(
    group: tofu.ChannelGroup,
    raw_server: RawServer,
    where: tofu.TcpAddress,
    side: str,
    state: State,
) -> None:
    for value, more in RECEIVED:
        async with brought_to(state, side, group, raw_server, where) as life:
            data = frame(value | more | ORIGIN_BIT, message_id=life.answered(value))
            try:
                await came(life, state, value, bool(more), data)
            except AssertionError as error:
                raise AssertionError(f"{state}, {value}, more={more}: {error}") from error


async def came(life: Life, state: State, value: int, more: bool, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        await life.peer.send(data.removeprefix(FIRST) if state is State.HELLO_AWAITED else data)
    if state is State.CLOSED:
        assert await life.peer.end() == b""  # and the fixtures see that nobody was told
        return
    if state in UNDECIDED:
        await until(lambda: life.connection.decoder.early)
        assert life.state is state
        return
    wrong_more = more and value < len(OpCode) and value not in REGULAR
    after = None if wrong_more else RECEIVED_MOVES.get((state, value))
    if after is not None:
        message = await receive(life.group)
        assert (message.op_code, message.more, message.origin, message.channel_number) == (
            value,
            more,
            Origin.APPLICATION,
            life.number,
        )
        if after is not State.CLOSED:
            assert life.state is after
            return
        reasons: list[tuple[OpCode, Status]] = []
    elif state is State.HELLO_AWAITED:
        assert await life.peer.end() == b""
        await life.connection_lost_before_its_hello()
        return
    else:
        status = Status.INVALID_MORE_USAGE if wrong_more else Status.INVALID_OP_CODE
        reasons = [(OpCode.SIGNAL, status)]
        if state is State.HELLO_SENT:
            reasons.insert(0, (OpCode.HELLO_REQUEST, Status.CONNECT_FAILED))
    told = await life.told()
    assert [(message.op_code, message.status) for message in told] == [
        *reasons,
        (OpCode.SIGNAL, Status.CHANNEL_CLOSED),
    ]
    assert {message.origin for message in told} == {Origin.ENGINE}
    assert {message.channel_number for message in told} == {life.number}
    assert await life.peer.end() == b""
    assert life.state is None


@pytest.mark.parametrize(("side", "state"), LIVES)
async def test_what_comes_of_every_message_that_is_posted(
    group: tofu.ChannelGroup,
    raw_server: RawServer,
    where: tofu.TcpAddress,
    side: str,
    state: State,
) -> None:
    for op_code, more in SENT:
        async with brought_to(state, side, group, raw_server, where) as life:
            try:
                await posted(life, state, op_code, more)
            except AssertionError as error:
                raise AssertionError(f"{state}, {op_code.name}, {more=}: {error}") from error


async def posted(life: Life, state: State, op_code: OpCode, more: bool) -> None:
    if more and op_code not in REGULAR:
        with pytest.raises(tofu.InvalidMoreUsage):
            Message(op_code, more=True)
        return
    message = addressed(op_code, life, more=more)
    after = SENT_MOVES.get((state, op_code))
    if op_code is OpCode.BYE_SIGNAL and state is State.HELLO_AWAITED:
        await life.end()
        assert await life.peer.end() == b""
    elif op_code is OpCode.BYE_SIGNAL and state is not State.CLOSED:
        life.group.post(message)
        assert [notice.status for notice in await life.told()] == [
            *([Status.CONNECT_FAILED] if state is State.HELLO_SENT else []),
            Status.CHANNEL_CLOSED,
        ]
        assert await life.peer.end() == b""
    elif after is not None:
        life.group.post(message)
        sent = await life.peer.message()
        assert (sent.op_code, sent.more) == (op_code, more)
        if after is State.CLOSED:
            life.peer.half_close()  # which sent a Bye, and closes first
            assert [notice.status for notice in await life.told()] == [Status.CHANNEL_CLOSED]
            assert await life.peer.end() == b""
        else:
            assert life.state is after
    else:
        opens = op_code in {OpCode.HELLO_REQUEST, OpCode.WELCOME_REQUEST}
        error: type[tofu.TofuError] = tofu.NotAllowed
        if state is State.CLOSED or opens:
            error = tofu.InvalidChannelNumber
        elif state in BYE_SAID:
            error = tofu.ChannelClosed
        with pytest.raises(error):
            life.group.post(message)
        assert life.state is (None if state is State.CLOSED else state)
        await nothing_was_sent(life)


async def nothing_was_sent(life: Life) -> None:
    if life.state is not None:
        await life.end()
    assert await life.peer.end() == b""


@pytest.mark.parametrize("begun", [False, True], ids=["not begun", "connecting"])
async def test_what_comes_of_every_message_that_is_posted_while_connecting(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    async def forever(*_: object) -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(transports, "connect", forever)
    for op_code, more in SENT:
        headers = {"~connect_to": "tcp|127.0.0.1|1"}
        header = group.post(Message(OpCode.HELLO_REQUEST, headers=headers))
        number = header.channel_number
        if begun:
            await until(lambda number=number: number in group._members)  # type: ignore[misc]
        if more and op_code not in REGULAR:
            continue  # cannot be made: see above
        message = Message(op_code, message_id=5 if op_code in REGULAR else 0, more=more)
        message.channel_number = number
        error: type[tofu.TofuError] = tofu.NotAllowed
        if op_code in {OpCode.HELLO_REQUEST, OpCode.WELCOME_REQUEST}:
            error = tofu.InvalidChannelNumber
        if op_code is OpCode.BYE_SIGNAL:
            group.post(message)
            notices = [await receive(group), await receive(group)]
            assert [notice.status for notice in notices] == [
                Status.CONNECT_FAILED,
                Status.CHANNEL_CLOSED,
            ]
            continue
        with pytest.raises(error):
            group.post(message)


@pytest.mark.parametrize("state", ["opening", "listening", "failed", "closed"])
async def test_what_comes_of_every_message_that_is_posted_to_a_listener(
    group: tofu.ChannelGroup, raw_server: RawServer, state: str
) -> None:
    for op_code in OpCode:
        address = raw_server.address.to_header() if state == "failed" else "tcp|127.0.0.1|0"
        request = Message(OpCode.WELCOME_REQUEST, headers={"~listen_on": address})
        number = group.post(request).channel_number
        if state == "failed":
            assert (await receive(group)).status is Status.LISTEN_FAILED
        elif state != "opening":
            assert (await receive(group)).status is Status.SUCCESS
        if state == "closed":
            post(group, number, OpCode.BYE_REQUEST)
            assert (await receive(group)).status is Status.CHANNEL_CLOSED
        message = Message(op_code, message_id=5 if op_code in REGULAR else 0)
        message.channel_number = number
        if state == "listening" and op_code in {OpCode.BYE_REQUEST, OpCode.BYE_SIGNAL}:
            group.post(message)
            closed = await receive(group)
            assert (closed.status, closed.channel_number) == (Status.CHANNEL_CLOSED, number)
            continue
        opens = op_code in {OpCode.HELLO_REQUEST, OpCode.WELCOME_REQUEST}
        error = (
            tofu.InvalidChannelNumber if opens or state in {"failed", "closed"} else tofu.NotAllowed
        )
        with pytest.raises(error):
            group.post(message)
        if state == "opening":
            assert (await receive(group)).status is Status.SUCCESS
