"""The message-level API: messages are posted, and one mailbox receives everything."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import tofu_aio as tofu
from tests.conftest import HAS_UDS
from tests.messaging.peers import RawPeer, RawServer, frame, held_up, hello, turns, until
from tofu_aio import OpCode, Origin, Status
from tofu_aio.messaging import group as group_module
from tofu_aio.messaging.accepting import admission as admission_module
from tofu_aio.messaging.connection import closing as closing_module
from tofu_aio.messaging.posting.posted import PostedChannel
from tofu_aio.protocol.op_code import pack_proto
from tofu_aio.transport import transports

PATIENCE = 20


def message(
    op_code: OpCode,
    channel: int = 0,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    message_id: int = 0,
    more: bool = False,
    status: Status = Status.SUCCESS,
) -> tofu.Message:
    made = tofu.Message(op_code, body, headers, message_id, more)
    made.channel_number = channel
    made.status = status
    return made


def welcome(address: str | tofu.Address) -> tofu.Message:
    where = tofu.parse_address(address).to_header()
    return message(OpCode.WELCOME_REQUEST, headers={"~listen_on": where})


def greeting(address: str | tofu.Address, **more: str) -> tofu.Message:
    where = tofu.parse_address(address).to_header()
    return message(OpCode.HELLO_REQUEST, 0, b"hi", {"~connect_to": where, **more})


async def get(group: tofu.ChannelGroup) -> tofu.Message:
    async with asyncio.timeout(PATIENCE):
        return await group.receive()


async def get_plain(group: tofu.ChannelGroup, count: int) -> list[tuple[object, ...]]:
    """The relevant parts of the next messages: origin, op code, channel, status, body."""
    plain = []
    for _ in range(count):
        with await get(group) as m:
            who = "engine" if m.origin is Origin.ENGINE else "peer"
            plain.append((who, m.op_code, m.channel_number, m.status, m.body))
    return plain


async def nothing_more(group: tofu.ChannelGroup) -> None:
    await turns(20)
    assert not group._posting.mailbox.items


class Ends(NamedTuple):
    """An open channel between two groups, made by messages."""

    client: tofu.ChannelGroup
    server: tofu.ChannelGroup
    c: int
    s: int
    listener: int
    address: tofu.Address


async def listening(group: tofu.ChannelGroup, address: str) -> tuple[int, tofu.Address]:
    header = group.post(welcome(address))
    answer = await get(group)
    assert (answer.op_code, answer.origin) == (OpCode.WELCOME_RESPONSE, Origin.ENGINE)
    assert (answer.status, answer.body) == (Status.SUCCESS, b"")
    assert (answer.message_id, answer.channel_number) == (header.message_id, header.channel_number)
    return header.channel_number, tofu.parse_address(answer.headers["~listen_on"])


async def opened(
    client: tofu.ChannelGroup, server: tofu.ChannelGroup, address: tofu.Address
) -> tuple[int, int]:
    header = client.post(greeting(address))
    asked = await get(server)
    assert (asked.op_code, asked.origin) == (OpCode.HELLO_REQUEST, Origin.APPLICATION)
    server.post(message(OpCode.HELLO_RESPONSE, asked.channel_number, b"welcome"))
    answer = await get(client)
    assert (answer.op_code, answer.channel_number) == (OpCode.HELLO_RESPONSE, header.channel_number)
    assert (answer.message_id, answer.body) == (header.message_id, b"welcome")
    return header.channel_number, asked.channel_number


@pytest.fixture
async def ends(engine: tofu.Engine, transport_address: str) -> AsyncIterator[Ends]:
    """A channel over each kind of transport. In the end both mailboxes must be empty."""
    client, server = engine.create_group(), engine.create_group()
    listener, where = await listening(server, transport_address)
    c, s = await opened(client, server, where)
    yield Ends(client, server, c, s, listener, where)
    await nothing_more(client)
    await nothing_more(server)
    await asyncio.gather(
        client.aclose(), server.aclose()
    )  # one alone would wait for the other's Bye


def told(status: Status, channel: int) -> tuple[object, ...]:
    """A notification of the engine."""
    return ("engine", OpCode.SIGNAL, channel, status, b"")


@pytest.fixture
def regular_file(socket_path: str) -> Iterator[str]:
    """A file that is not a socket, at the path of one."""
    Path(socket_path).write_bytes(b"content")
    yield socket_path
    assert Path(socket_path).read_bytes() == b"content"
    Path(socket_path).unlink()


# --- whole flows -------------------------------------------------------------------------------


async def test_a_whole_conversation(ends: Ends) -> None:
    client, server, c, s, _, _ = ends
    header = client.post(
        message(OpCode.REQUEST, c, b"part 1", {"Job": "7"}, more=True, status=Status.NOT_ALLOWED)
    )
    assert (header.channel_number, header.body_len, header.text_headers_len) == (c, 6, 7)
    asked = await get(server)
    assert (asked.op_code, asked.channel_number, asked.more) == (OpCode.REQUEST, s, True)
    assert (asked.message_id, asked.headers, asked.body) == (
        header.message_id,
        {"Job": "7"},
        b"part 1",
    )
    assert (asked.status, asked.origin) == (Status.NOT_ALLOWED, Origin.APPLICATION)
    client.post(message(OpCode.REQUEST, c, b"part 2", message_id=header.message_id))
    last = await get(server)
    assert (last.message_id, last.more, last.body) == (header.message_id, False, b"part 2")
    server.post(message(OpCode.SIGNAL, s, b"progress", message_id=header.message_id))
    server.post(message(OpCode.RESPONSE, s, b"done", message_id=header.message_id))
    assert await get_plain(client, 2) == [
        ("peer", OpCode.SIGNAL, c, Status.SUCCESS, b"progress"),
        ("peer", OpCode.RESPONSE, c, Status.SUCCESS, b"done"),
    ]
    bye = client.post(message(OpCode.BYE_REQUEST, c))
    heard = await get(server)
    assert (heard.op_code, heard.message_id) == (OpCode.BYE_REQUEST, bye.message_id)
    server.post(message(OpCode.SIGNAL, s, b"one more"))
    server.post(message(OpCode.BYE_RESPONSE, s))
    assert await get_plain(server, 1) == [told(Status.CHANNEL_CLOSED, s)]
    assert await get_plain(client, 3) == [
        ("peer", OpCode.SIGNAL, c, Status.SUCCESS, b"one more"),
        ("peer", OpCode.BYE_RESPONSE, c, Status.SUCCESS, b""),
        told(Status.CHANNEL_CLOSED, c),
    ]
    for group, number in ((client, c), (server, s)):
        with pytest.raises(tofu.InvalidChannelNumber, match=r"any more"):
            group.post(message(OpCode.SIGNAL, number))


async def test_the_server_may_close_too(ends: Ends) -> None:
    client, server, c, s, _, _ = ends
    server.post(message(OpCode.BYE_REQUEST, s, b"so long"))
    assert await get_plain(client, 1) == [
        ("peer", OpCode.BYE_REQUEST, c, Status.SUCCESS, b"so long")
    ]
    client.post(message(OpCode.BYE_RESPONSE, c, b"bye"))
    assert await get_plain(client, 1) == [told(Status.CHANNEL_CLOSED, c)]
    assert await get_plain(server, 2) == [
        ("peer", OpCode.BYE_RESPONSE, s, Status.SUCCESS, b"bye"),
        told(Status.CHANNEL_CLOSED, s),
    ]


async def test_crossing_byes_need_both_answers(ends: Ends) -> None:
    client, server, c, s, _, _ = ends
    for group, number in ((client, c), (server, s)):
        group.post(message(OpCode.BYE_REQUEST, number))
    for group, number in ((client, c), (server, s)):
        assert await get_plain(group, 1) == [
            ("peer", OpCode.BYE_REQUEST, number, Status.SUCCESS, b"")
        ]
        with pytest.raises(tofu.ChannelClosed):
            group.post(message(OpCode.SIGNAL, number))
        group.post(message(OpCode.BYE_RESPONSE, number))
    for group, number in ((client, c), (server, s)):
        assert await get_plain(group, 2) == [
            ("peer", OpCode.BYE_RESPONSE, number, Status.SUCCESS, b""),
            told(Status.CHANNEL_CLOSED, number),
        ]


async def test_a_bye_signal_ends_it_here_and_now(ends: Ends) -> None:
    client, server, c, s, _, _ = ends
    client.post(message(OpCode.SIGNAL, c, b"dropped or not"))
    client.post(message(OpCode.SIGNAL, c, b"dropped"))
    header = client.post(message(OpCode.BYE_SIGNAL, c))
    assert header.channel_number == c
    assert await get_plain(client, 1) == [told(Status.CHANNEL_CLOSED, c)]
    heard = await get_plain(server, 2)
    if heard[0][4] == b"dropped or not":
        heard = heard[1:] + await get_plain(server, 1)
    assert heard == [told(Status.PEER_DISCONNECTED, s), told(Status.CHANNEL_CLOSED, s)]


async def test_many_channels_share_a_mailbox(engine: tofu.Engine, group: tofu.ChannelGroup) -> None:
    """Even of clients and servers: each message has its channel number."""
    _, where = await listening(group, "tcp://127.0.0.1:0")
    _, other = await listening(group, "tcp://127.0.0.1:0")
    pairs = dict([await opened(group, group, (where, other)[n % 2]) for n in range(6)])
    for number in range(20):
        for c in pairs:
            group.post(message(OpCode.REQUEST, c, b"%d" % number))
    seen: dict[int, list[bytes]] = {}
    while sum(map(len, seen.values())) < 2 * 20 * len(pairs):
        with await get(group) as m:
            if m.status is Status.POOL_EMPTY:
                continue
            seen.setdefault(m.channel_number, []).append(m.body)
            if m.op_code is OpCode.REQUEST:
                answer = message(OpCode.RESPONSE, m.channel_number, m.body, message_id=m.message_id)
                group.post(answer)
    numbers = [b"%d" % number for number in range(20)]
    assert seen == dict.fromkeys([*pairs, *pairs.values()], numbers)


async def test_both_apis_talk_to_each_other(
    engine: tofu.Engine, group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    async with engine.create_group() as messages:
        header = messages.post(greeting(listener.address, User="Ada"))
        channel = await listener.accept()
        assert channel.hello.headers["User"] == "Ada"
        assert (await get(messages)).op_code is OpCode.HELLO_RESPONSE
        request = asyncio.create_task(channel.request(b"?"))
        with await get(messages) as asked:
            messages.post(
                message(OpCode.RESPONSE, asked.channel_number, b"!", message_id=asked.message_id)
            )
        assert (await request).body == b"!"
        closing = asyncio.create_task(channel.aclose())
        assert (await get(messages)).op_code is OpCode.BYE_REQUEST
        messages.post(message(OpCode.BYE_RESPONSE, header.channel_number))
        await closing
        assert (await get(messages)).status is Status.CHANNEL_CLOSED


async def test_ten_thousand_messages_posted_without_a_pause(
    engine: tofu.Engine, group: tofu.ChannelGroup
) -> None:
    server = engine.create_group()
    _, where = await listening(server, "tcp://127.0.0.1:0")
    c, s = await opened(group, server, where)
    for number in range(10_000):
        group.post(message(OpCode.SIGNAL, c, b"%d" % number))
    number = exhausted = 0
    while number < 10_000:
        with await get(server) as m:
            if m.status is Status.POOL_EMPTY:
                exhausted += 1
                continue
            assert (m.channel_number, m.body) == (s, b"%d" % number)
            number += 1
    assert exhausted >= 1
    await asyncio.gather(group.aclose(), server.aclose())


# --- what is refused at once -------------------------------------------------------------------


async def test_post_checks_before_it_accepts(ends: Ends) -> None:
    client, _, c, _, _, where = ends
    refused: list[tuple[type[tofu.TofuError], tofu.Message]] = [
        (tofu.InvalidChannelNumber, message(OpCode.SIGNAL, 0)),
        (tofu.InvalidChannelNumber, message(OpCode.SIGNAL, 65535)),
        (tofu.InvalidMessageId, message(OpCode.RESPONSE, c)),
        (tofu.NotAllowed, message(OpCode.HELLO_RESPONSE, c, message_id=1)),
        (tofu.NotAllowed, message(OpCode.WELCOME_RESPONSE, c, message_id=1)),
        (tofu.NotAllowed, message(OpCode.BYE_RESPONSE, c, message_id=1)),
        (tofu.InvalidAddress, message(OpCode.HELLO_REQUEST)),
        (tofu.InvalidAddress, message(OpCode.WELCOME_REQUEST)),
        (tofu.InvalidAddress, message(OpCode.HELLO_REQUEST, headers={"~connect_to": "there"})),
        (tofu.InvalidAddress, message(OpCode.WELCOME_REQUEST, headers={"~listen_on": "tcp|a|b"})),
        (tofu.InvalidAddress, message(OpCode.WELCOME_REQUEST, headers={"~connect_to": "tcp|a|1"})),
    ]
    taken = greeting(where)
    taken.channel_number = c
    refused.append((tofu.InvalidChannelNumber, taken))
    long = message(OpCode.SIGNAL, c)
    long.body = bytes(65536)
    refused.append((tofu.InvalidBodyLen, long))
    for error, bad in refused:
        with pytest.raises(error):
            client.post(bad)
    await nothing_more(client)


async def test_before_the_hello_is_answered_only_its_answer_may_be_sent(
    engine: tofu.Engine,
) -> None:
    client, server = engine.create_group(), engine.create_group()
    _, where = await listening(server, "tcp://127.0.0.1:0")
    c = client.post(greeting(where)).channel_number
    with pytest.raises(tofu.NotAllowed):
        client.post(message(OpCode.SIGNAL, c))  # not even connected
    asked = await get(server)
    for group, number in ((client, c), (server, asked.channel_number)):
        for op_code in (OpCode.SIGNAL, OpCode.REQUEST, OpCode.BYE_REQUEST):
            with pytest.raises(tofu.NotAllowed):
                group.post(message(op_code, number))
    wrong = message(OpCode.HELLO_RESPONSE, asked.channel_number, message_id=2**60)
    with pytest.raises(tofu.InvalidMessageId, match="must carry its request's message id"):
        server.post(wrong)
    server.post(message(OpCode.HELLO_RESPONSE, asked.channel_number))
    assert (await get(client)).op_code is OpCode.HELLO_RESPONSE
    with pytest.raises(tofu.NotAllowed):
        server.post(message(OpCode.HELLO_RESPONSE, asked.channel_number))
    await asyncio.gather(client.aclose(), server.aclose())


async def test_a_listener_takes_nothing_but_a_bye(ends: Ends) -> None:
    client, server, c, s, number, where = ends
    with pytest.raises(tofu.NotAllowed, match="is a listener"):
        server.post(message(OpCode.SIGNAL, number))
    server.post(message(OpCode.BYE_SIGNAL, number))
    assert await get_plain(server, 1) == [told(Status.CHANNEL_CLOSED, number)]
    with pytest.raises(tofu.InvalidChannelNumber):
        server.post(message(OpCode.BYE_REQUEST, number))
    client.post(message(OpCode.SIGNAL, c, b"its channels live on"))
    assert await get_plain(server, 1) == [
        ("peer", OpCode.SIGNAL, s, Status.SUCCESS, b"its channels live on")
    ]
    again, _ = await listening(server, str(where))
    server.post(message(OpCode.BYE_REQUEST, again))
    assert await get_plain(server, 1) == [told(Status.CHANNEL_CLOSED, again)]


# --- openings that fail ------------------------------------------------------------------------


async def test_welcome_fails_with_a_status_and_the_reason(
    group: tofu.ChannelGroup, engine: tofu.Engine, regular_file: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        cases = [
            (f"tcp|127.0.0.1|{server.getsockname()[1]}", Status.LISTEN_FAILED, b"in use"),
            ("tcp|no.such.host.invalid|1", Status.LISTEN_FAILED, b"has no address"),
            ("tcp|203.0.113.1|0", Status.LISTEN_FAILED, b"not an address of this machine"),
        ]
        if HAS_UDS:
            cases += [
                (f"uds|{regular_file}", Status.LISTEN_FAILED, b"not a socket"),
                ("uds|/" + "x" * 200, Status.INVALID_ADDRESS, b"choose a shorter one"),
                ("uds|/no/such/folder/s", Status.LISTEN_FAILED, b"folder of the socket"),
            ]
        for where, status, reason in cases:
            header = group.post(message(OpCode.WELCOME_REQUEST, headers={"~listen_on": where}))
            answer = await get(group)
            assert (answer.op_code, answer.status) == (OpCode.WELCOME_RESPONSE, status)
            assert answer.origin is Origin.ENGINE
            assert answer.message_id == header.message_id
            assert answer.channel_number == header.channel_number
            assert reason in answer.body
            await until(lambda: engine.statistics().channels == 0)
            with pytest.raises(tofu.InvalidChannelNumber):
                group.post(message(OpCode.BYE_SIGNAL, header.channel_number))
    await nothing_more(group)


async def test_hello_fails_by_coming_back(
    group: tofu.ChannelGroup, engine: tofu.Engine, socket_path: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    cases = [
        (f"tcp|127.0.0.1|{free}", Status.CONNECT_FAILED),
        ("tcp|127.0.0.1|0", Status.WRONG_ADDRESS),
        ("tcp|no.such.host.invalid|1", Status.CONNECT_FAILED),
    ]
    if HAS_UDS:
        cases += [
            (f"uds|{socket_path}", Status.UDS_PATH_NOT_FOUND),
            ("uds|/" + "x" * 200, Status.INVALID_ADDRESS),
        ]
    for where, status in cases:
        mine = message(OpCode.HELLO_REQUEST, 0, b"hi", {"~connect_to": where, "User": "Ada"})
        header = group.post(mine)
        back = await get(group)
        assert back is not mine
        assert (back.op_code, back.origin, back.status) == (
            OpCode.HELLO_REQUEST,
            Origin.ENGINE,
            status,
        )
        assert (back.message_id, back.channel_number) == (header.message_id, header.channel_number)
        assert (back.headers, back.body) == ({"~connect_to": where, "User": "Ada"}, b"hi")
        last = await get(group)
        assert (last.op_code, last.origin, last.status) == (
            OpCode.SIGNAL,
            Origin.ENGINE,
            Status.CHANNEL_CLOSED,
        )
        assert (last.message_id, last.channel_number) == (header.message_id, header.channel_number)
        assert engine.statistics().channels == 0
        with pytest.raises(tofu.InvalidChannelNumber):
            group.post(message(OpCode.BYE_SIGNAL, header.channel_number))
    await nothing_more(group)


async def test_channel_closed_has_the_id_of_what_made_the_channel(
    group: tofu.ChannelGroup, engine: tofu.Engine
) -> None:
    """The id of the own Hello or Welcome, however the channel ends; else 0."""
    server = engine.create_group()
    welcomed = server.post(welcome("tcp://127.0.0.1:0"))
    where = (await get(server)).headers["~listen_on"]
    greeted = group.post(message(OpCode.HELLO_REQUEST, headers={"~connect_to": where}))
    s = (await get(server)).channel_number
    server.post(message(OpCode.HELLO_RESPONSE, s))
    assert (await get(group)).op_code is OpCode.HELLO_RESPONSE
    group.post(message(OpCode.BYE_REQUEST, greeted.channel_number))
    await get(server)
    server.post(message(OpCode.BYE_RESPONSE, s))
    server.post(message(OpCode.BYE_REQUEST, welcomed.channel_number))
    assert (await get(group)).op_code is OpCode.BYE_RESPONSE
    last = await get(group)
    assert (last.status, last.message_id) == (Status.CHANNEL_CLOSED, greeted.message_id)
    ids = {}
    for _ in range(2):
        last = await get(server)
        assert last.status is Status.CHANNEL_CLOSED
        ids[last.channel_number] = last.message_id
    assert ids == {s: 0, welcomed.channel_number: welcomed.message_id}


async def test_a_hello_that_takes_too_long_comes_back(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connect(*_: object) -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(transports, "connect", connect)
    monkeypatch.setattr(group_module, "CONNECT_TIMEOUT", 0.01)
    number = group.post(greeting("tcp://127.0.0.1:1")).channel_number
    assert await get_plain(group, 1) == [
        ("engine", OpCode.HELLO_REQUEST, number, Status.CONNECT_FAILED, b"hi")
    ]
    assert await get_plain(group, 1) == [told(Status.CHANNEL_CLOSED, number)]
    await nothing_more(group)


@pytest.mark.parametrize("patience", range(4))
@pytest.mark.parametrize("how", ["close", "reset", "half close"])
async def test_a_server_that_leaves_sends_the_hello_back_once(
    group: tofu.ChannelGroup, raw_server: RawServer, how: str, patience: int
) -> None:
    number = group.post(greeting(raw_server.address)).channel_number
    with await raw_server.accept() as peer:
        await turns(patience)
        if how == "close":
            peer.close()
        elif how == "reset":
            await peer.reset()
        else:
            peer.half_close()
        assert await get_plain(group, 3) == [
            ("engine", OpCode.HELLO_REQUEST, number, Status.CONNECT_FAILED, b"hi"),
            told(Status.PEER_DISCONNECTED, number),
            told(Status.CHANNEL_CLOSED, number),
        ]
    await nothing_more(group)


async def test_a_server_that_is_no_tofu_peer(
    group: tofu.ChannelGroup, raw_server: RawServer
) -> None:
    number = group.post(greeting(raw_server.address)).channel_number
    with await raw_server.accept() as peer:
        await peer.message()
        await peer.send(b"HTTP/1.0 400 Bad request\r\n\r\n")
        assert await get_plain(group, 3) == [
            ("engine", OpCode.HELLO_REQUEST, number, Status.CONNECT_FAILED, b"hi"),
            told(Status.INVALID_MESSAGE_ID, number),
            told(Status.CHANNEL_CLOSED, number),
        ]
    await nothing_more(group)


async def test_a_refusal_is_an_answer(ends: Ends) -> None:
    client, server, _, _, _, where = ends
    c = client.post(greeting(where)).channel_number
    s = (await get(server)).channel_number
    server.post(message(OpCode.HELLO_RESPONSE, s, b"no", status=Status.NOT_ALLOWED))
    server.post(message(OpCode.BYE_SIGNAL, s))
    assert await get_plain(server, 1) == [told(Status.CHANNEL_CLOSED, s)]
    first = await get_plain(client, 1)
    if first == [("peer", OpCode.HELLO_RESPONSE, c, Status.NOT_ALLOWED, b"no")]:
        first = await get_plain(client, 1)
    else:  # the reset arrived first
        assert first == [("engine", OpCode.HELLO_REQUEST, c, Status.CONNECT_FAILED, b"hi")]
        first = await get_plain(client, 1)
    assert first == [told(Status.PEER_DISCONNECTED, c)]
    assert await get_plain(client, 1) == [told(Status.CHANNEL_CLOSED, c)]


async def test_an_opening_can_be_given_up(group: tofu.ChannelGroup, raw_server: RawServer) -> None:
    number = group.post(greeting(raw_server.address)).channel_number
    with await raw_server.accept() as peer:
        await peer.message()
        group.post(message(OpCode.BYE_SIGNAL, number))
        assert await get_plain(group, 2) == [
            ("engine", OpCode.HELLO_REQUEST, number, Status.CONNECT_FAILED, b"hi"),
            told(Status.CHANNEL_CLOSED, number),
        ]
        await peer.end()
    await nothing_more(group)


async def test_an_opening_can_be_given_up_before_it_is_connected(
    group: tofu.ChannelGroup, engine: tofu.Engine, raw_server: RawServer
) -> None:
    number = group.post(greeting(raw_server.address)).channel_number
    await turns(1)
    group.post(message(OpCode.BYE_SIGNAL, number))
    assert await get_plain(group, 2) == [
        ("engine", OpCode.HELLO_REQUEST, number, Status.CONNECT_FAILED, b"hi"),
        told(Status.CHANNEL_CLOSED, number),
    ]
    with await raw_server.accept() as peer:
        assert await peer.end() == b""
    await until(lambda: not group._posting.openings.tasks)
    await nothing_more(group)


@pytest.mark.parametrize("outcome", ["fails", "is cancelled", "breaks"])
async def test_an_opening_that_was_given_up_and_fails_then_is_told_once(
    group: tofu.ChannelGroup,
    monkeypatch: pytest.MonkeyPatch,
    nothing_goes_unheard: list[dict[str, object]],
    outcome: str,
) -> None:
    connected: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()

    async def connect(*_: object) -> socket.socket:
        return await connected

    monkeypatch.setattr(transports, "connect", connect)
    number = group.post(greeting("tcp://127.0.0.1:1")).channel_number
    await turns(3)
    group.post(message(OpCode.BYE_SIGNAL, number))
    if outcome == "fails":
        connected.set_exception(tofu.ConnectFailed("nobody is there"))
    elif outcome == "is cancelled":
        connected.cancel()
    else:
        connected.set_exception(RuntimeError("a bug"))
    assert await get_plain(group, 2) == [
        ("engine", OpCode.HELLO_REQUEST, number, Status.CONNECT_FAILED, b"hi"),
        told(Status.CHANNEL_CLOSED, number),
    ]
    await until(lambda: not group._posting.openings.tasks)
    await nothing_more(group)
    if outcome == "breaks":
        gc.collect()
        assert "a bug" in str(nothing_goes_unheard.pop())


async def test_an_opening_that_breaks_is_told_as_well(
    group: tofu.ChannelGroup,
    monkeypatch: pytest.MonkeyPatch,
    nothing_goes_unheard: list[dict[str, object]],
) -> None:
    """A bug in the library is reported to the loop, but the application waits for its Hello."""

    async def connect(*_: object) -> socket.socket:
        raise RuntimeError("a bug")

    monkeypatch.setattr(transports, "connect", connect)
    number = group.post(greeting("tcp://127.0.0.1:1")).channel_number
    assert await get_plain(group, 2) == [
        ("engine", OpCode.HELLO_REQUEST, number, Status.CONNECT_FAILED, b"hi"),
        told(Status.CHANNEL_CLOSED, number),
    ]
    await until(lambda: not group._posting.openings.tasks)
    gc.collect()
    assert "a bug" in str(nothing_goes_unheard.pop())


async def test_an_opening_whose_number_is_anothers_by_now_ends_quietly(
    group: tofu.ChannelGroup, engine: tofu.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An opening that was reset may go on connecting while a thousand channels open and close."""
    loop = asyncio.get_running_loop()
    connected: asyncio.Future[socket.socket] = loop.create_future()
    listening: asyncio.Future[socket.socket] = loop.create_future()

    async def connect(*_: object) -> socket.socket:
        return await connected

    async def listen(*_: object) -> socket.socket:
        return await listening

    monkeypatch.setattr(transports, "connect", connect)
    monkeypatch.setattr(transports, "listen", listen)
    number = group.post(greeting("tcp://127.0.0.1:1")).channel_number
    await turns(1)
    group.post(message(OpCode.BYE_SIGNAL, number))
    await get_plain(group, 2)
    group._members.numbers._reserved.clear()
    monkeypatch.setattr(random, "randint", lambda *_: number)
    assert group.post(welcome("tcp://127.0.0.1:1")).channel_number == number
    connected.set_exception(tofu.ConnectFailed("nobody is there"))
    await turns(5)
    assert list(group._posting.openings.tasks) == [number]
    assert engine.statistics().channels == 1
    listening.set_exception(tofu.ListenFailed("somebody is there"))
    assert (await get(group)).status is Status.LISTEN_FAILED
    await until(lambda: engine.statistics().channels == 0)
    await nothing_more(group)


# --- peers that fail ---------------------------------------------------------------------------


async def test_a_lost_peer_is_told_and_then_its_end(ends: Ends) -> None:
    _, server, _, _, _, where = ends
    peer = await RawPeer.connect(where)
    await peer.send(hello())
    s = (await get(server)).channel_number
    server.post(message(OpCode.HELLO_RESPONSE, s))
    await peer.message()
    await peer.send(frame(body=b"last words") + frame(body=b"cut off")[:-1])
    peer.close()
    assert await get_plain(server, 3) == [
        ("peer", OpCode.REQUEST, s, Status.SUCCESS, b"last words"),
        told(Status.PEER_DISCONNECTED, s),
        told(Status.CHANNEL_CLOSED, s),
    ]


async def test_a_violation_is_told_by_the_rule(ends: Ends) -> None:
    _, server, _, _, _, where = ends
    for data, status in (
        (frame(13), Status.INVALID_OP_CODE),
        (frame(message_id=0), Status.INVALID_MESSAGE_ID),
        (frame(OpCode.BYE_REQUEST | 0x20), Status.INVALID_MORE_USAGE),
    ):
        peer = await RawPeer.connect(where)
        await peer.send(hello())
        s = (await get(server)).channel_number
        server.post(message(OpCode.HELLO_RESPONSE, s))
        await peer.message()
        await peer.send(frame(body=b"good") + data)
        assert await get_plain(server, 3) == [
            ("peer", OpCode.REQUEST, s, Status.SUCCESS, b"good"),
            told(status, s),
            told(Status.CHANNEL_CLOSED, s),
        ]
        await peer.end()
        peer.close()


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", hello()[:7], b""])
async def test_a_connection_without_a_hello_is_closed_and_never_notified(
    group: tofu.ChannelGroup,
    engine: tofu.Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    said: bytes,
) -> None:
    """Permits limit the mailbox. A connection without a Hello has none, and cannot fill it."""
    caplog.set_level(logging.INFO, "tofu_aio")
    number, where = await listening(group, "tcp://127.0.0.1:0")
    listener: Any = group._members[number]
    monkeypatch.setattr(listener._acceptor._arrivals, "_hello_timeout", 0.02)
    with await RawPeer.connect(where) as peer:
        await peer.send(said)
        assert await peer.end() == b""
    await until(lambda: engine.statistics().channels == 1)
    assert not group._posting.mailbox.items
    assert "tofu peer?" in caplog.text or "connection was refused" in caplog.text


@pytest.mark.parametrize("ending", ["accepts", "refuses", "resets", "leaves"])
async def test_an_unanswered_hello_takes_a_slot(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """Until its Hello is answered, or its connection closed, the next one waits."""
    monkeypatch.setattr(admission_module, "PENDING_CHANNELS", 1)
    _, where = await listening(group, "tcp://127.0.0.1:0")
    with await RawPeer.connect(where) as one, await RawPeer.connect(where) as other:
        await one.send(hello(message_id=1))
        first = await get(group)
        await other.send(hello(message_id=2))
        await turns(30)
        assert not group._posting.mailbox.items
        if ending == "accepts":
            group.post(message(OpCode.HELLO_RESPONSE, first.channel_number))
        elif ending == "refuses":
            answer = message(OpCode.HELLO_RESPONSE, first.channel_number)
            answer.status = Status.NOT_ALLOWED
            group.post(answer)
            assert (await one.message()).status is Status.NOT_ALLOWED
            assert await one.end() == b""
            one.close()
        elif ending == "resets":
            group.post(message(OpCode.BYE_SIGNAL, first.channel_number))
        else:
            one.close()
        while (second := await get(group)).op_code is not OpCode.HELLO_REQUEST:
            assert second.channel_number == first.channel_number
        assert second.message_id == 2


async def test_a_refused_peer_that_stays_is_closed_in_time(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing_module, "LINGER", 0.05)
    _, where = await listening(group, "tcp://127.0.0.1:0")
    with await RawPeer.connect(where) as peer:
        await peer.send(hello())
        answer = message(OpCode.HELLO_RESPONSE, (await get(group)).channel_number, b"no")
        answer.status = Status.NOT_ALLOWED
        group.post(answer)
        with pytest.raises(tofu.ChannelClosed):
            group.post(message(OpCode.SIGNAL, answer.channel_number))
        (last,) = await get_plain(group, 1)
        assert last == told(Status.CHANNEL_CLOSED, answer.channel_number)


async def test_nobody_can_speak_in_the_engines_name(ends: Ends) -> None:
    """A peer sends a frame with the engine's origin, a status and a channel number."""
    _, server, _, s, _, where = ends
    peer = await RawPeer.connect(where)
    await peer.send(hello())
    other = (await get(server)).channel_number
    server.post(message(OpCode.HELLO_RESPONSE, other))
    await peer.message()
    await peer.send(frame(OpCode.SIGNAL | 0x10, status=Status.CHANNEL_CLOSED, channel=s))
    heard = await get(server)
    assert (heard.origin, heard.channel_number) == (Origin.APPLICATION, other)
    peer.close()
    assert await get_plain(server, 2) == [
        told(Status.PEER_DISCONNECTED, other),
        told(Status.CHANNEL_CLOSED, other),
    ]


async def test_messages_never_sent_come_back_in_order(
    group: tofu.ChannelGroup, raw_server: RawServer
) -> None:
    number = group.post(greeting(raw_server.address)).channel_number
    with await raw_server.accept() as peer:
        asked = await peer.message()
        await peer.send(frame(OpCode.HELLO_RESPONSE, message_id=asked.message_id))
        (await get(group)).release()
        posted = []
        # A proactor's transport pauses, resumes, and then gets everything that waits, but nothing
        # that comes later.
        for counts in (range(200), range(200, 220)):
            posted += [
                group.post(
                    message(OpCode.REQUEST, number, bytes([count]) * 65535, {"n": str(count)})
                )
                for count in counts
            ]
            await turns(20)
        await peer.reset()
    back = []
    while True:
        m = await get(group)
        if m.op_code is OpCode.SIGNAL:
            break
        assert (m.origin, m.status, m.channel_number) == (
            Origin.ENGINE,
            Status.PEER_DISCONNECTED,
            number,
        )
        back.append((m.message_id, m.headers["n"], m.body[:1]))
    assert m.status is Status.PEER_DISCONNECTED
    assert await get_plain(group, 1) == [told(Status.CHANNEL_CLOSED, number)]
    assert 0 < len(back) < 220
    first = 220 - len(back)
    assert back == [
        (posted[count].message_id, str(count), bytes([count])) for count in range(first, 220)
    ]


def cut(group: tofu.ChannelGroup, number: int) -> None:
    """Break a connection like a failed write: what is posted in this turn cannot be sent."""
    channel = group._members[number]
    assert isinstance(channel, PostedChannel)
    transport = channel._connection.queue.transport
    assert transport is not None
    transport.abort()


async def test_what_is_posted_in_the_turn_of_the_loss_comes_back_before_the_end(
    ends: Ends,
) -> None:
    _, server, _, _, _, where = ends
    peer, s = await said_hello(where, server)
    server.post(message(OpCode.HELLO_RESPONSE, s))
    await peer.message()
    cut(server, s)
    for body in (b"1", b"2"):
        server.post(message(OpCode.REQUEST, s, body))
    assert await get_plain(server, 4) == [
        ("engine", OpCode.REQUEST, s, Status.PEER_DISCONNECTED, b"1"),
        ("engine", OpCode.REQUEST, s, Status.PEER_DISCONNECTED, b"2"),
        told(Status.PEER_DISCONNECTED, s),
        told(Status.CHANNEL_CLOSED, s),
    ]
    peer.close()


async def test_a_byes_answer_that_cannot_leave_comes_back_before_the_end(ends: Ends) -> None:
    """Both sides have sent a Bye, so the channel has ended, and there is only one notification."""
    _, server, _, _, _, where = ends
    peer, s = await said_hello(where, server)
    server.post(message(OpCode.HELLO_RESPONSE, s))
    await peer.message()
    await peer.send(frame(OpCode.BYE_REQUEST))
    await get(server)
    cut(server, s)
    server.post(message(OpCode.SIGNAL, s, b"last words"))
    server.post(message(OpCode.BYE_RESPONSE, s, b"bye"))
    assert await get_plain(server, 3) == [
        ("engine", OpCode.SIGNAL, s, Status.SEND_FAILED, b"last words"),
        ("engine", OpCode.BYE_RESPONSE, s, Status.SEND_FAILED, b"bye"),
        told(Status.CHANNEL_CLOSED, s),
    ]
    peer.close()


async def test_a_rejection_that_cannot_leave_comes_back_before_the_end(ends: Ends) -> None:
    _, server, _, _, _, where = ends
    peer, s = await said_hello(where, server)
    cut(server, s)
    server.post(message(OpCode.HELLO_RESPONSE, s, b"no", status=Status.NOT_ALLOWED))
    assert await get_plain(server, 2) == [
        ("engine", OpCode.HELLO_RESPONSE, s, Status.SEND_FAILED, b"no"),
        told(Status.CHANNEL_CLOSED, s),
    ]
    peer.close()


# --- rejections, as the Zig library reads them -------------------------------------------------


async def said_hello(
    where: tofu.Address, server: tofu.ChannelGroup, message_id: int = 1
) -> tuple[RawPeer, int]:
    """A raw peer that waits for the answer to its Hello, and its channel number."""
    peer = await RawPeer.connect(where)
    await peer.send(hello(where, message_id))
    return peer, (await get(server)).channel_number


@pytest.mark.parametrize("status", [Status.SUCCESS, Status.NOT_ALLOWED, Status.SHUTDOWN_STARTED])
async def test_a_rejection_travels_with_the_engines_origin(ends: Ends, status: Status) -> None:
    """The Zig library expects failures from the engine, and an acceptance from the application."""
    _, server, _, _, _, where = ends
    peer, s = await said_hello(where, server)
    header = server.post(message(OpCode.HELLO_RESPONSE, s, b"words", status=status))
    origin = Origin.ENGINE if status else Origin.APPLICATION
    assert (header.op_code, header.status, header.origin) == (
        OpCode.HELLO_RESPONSE,
        status,
        origin,
    )
    answer = await peer.message()
    assert (answer.op_code, answer.status, answer.origin) == (
        OpCode.HELLO_RESPONSE,
        status,
        origin,
    )
    assert (answer.message_id, answer.body) == (1, b"words")
    peer.close()
    if not status:
        assert await get_plain(server, 1) == [told(Status.PEER_DISCONNECTED, s)]
    assert await get_plain(server, 1) == [told(Status.CHANNEL_CLOSED, s)]


@pytest.mark.parametrize("op_code", [OpCode.REQUEST, OpCode.RESPONSE, OpCode.SIGNAL])
async def test_nothing_else_that_has_a_status_does(ends: Ends, op_code: OpCode) -> None:
    _, server, _, _, _, where = ends
    peer, s = await said_hello(where, server)
    server.post(message(OpCode.HELLO_RESPONSE, s))
    await peer.message()
    server.post(message(op_code, s, message_id=7, more=True, status=Status.PROCESSING_FAILED))
    sent = await peer.message()
    assert (sent.op_code, sent.more, sent.origin) == (op_code, True, Origin.APPLICATION)
    peer.close()
    await get_plain(server, 2)


@pytest.mark.parametrize("origin", Origin)
async def test_a_rejection_is_the_peers_whatever_its_origin(
    group: tofu.ChannelGroup, raw_server: RawServer, origin: Origin
) -> None:
    """It is the answer of another program, which cannot speak for the local engine."""
    number = group.post(greeting(raw_server.address)).channel_number
    with await raw_server.accept() as peer:
        asked = await peer.message()
        proto = pack_proto(OpCode.HELLO_RESPONSE, origin=origin)
        status = Status.CHANNEL_CLOSED
        await peer.send(frame(proto, b"no", message_id=asked.message_id, status=status))
    assert await get_plain(group, 3) == [
        ("peer", OpCode.HELLO_RESPONSE, number, Status.CHANNEL_CLOSED, b"no"),
        told(Status.PEER_DISCONNECTED, number),
        told(Status.CHANNEL_CLOSED, number),
    ]


# --- the pool ----------------------------------------------------------------------------------


async def test_an_exhausted_pool_is_told_once(ends: Ends, engine: tofu.Engine) -> None:
    client, server, c, s, _, where = ends
    other_c, other_s = await opened(client, server, where)
    for number in (c, other_c):
        for count in range(10):
            client.post(message(OpCode.SIGNAL, number, b"%d" % count))
    await until(lambda: held_up(engine) == 2)
    await turns(10)
    told_empty = told(Status.POOL_EMPTY, 0)
    heard = await get_plain(server, 21)
    assert heard.count(told_empty) == 1
    for number in (s, other_s):
        bodies = [entry[4] for entry in heard if entry[2] == number]
        assert bodies == [b"%d" % count for count in range(10)]
    # And again once it has recovered.
    for _ in range(9):
        client.post(message(OpCode.SIGNAL, c))
    await until(lambda: held_up(engine) == 1)
    assert (await get_plain(server, 10)).count(told_empty) == 1


async def test_closing_goes_through_with_the_pool_empty(ends: Ends, engine: tofu.Engine) -> None:
    client, server, c, s, _, _ = ends
    client.post(message(OpCode.SIGNAL, c))
    held = [await get(server), *(engine.get(tofu.Allocation.POOL_ONLY) for _ in range(8))]
    assert all(held)
    now = engine.statistics()
    assert (now.pool_free, now.reserves) == (0, 1), "nothing is left that its channel might use"
    client.post(message(OpCode.BYE_REQUEST, c))
    assert await get_plain(server, 1) == [("peer", OpCode.BYE_REQUEST, s, Status.SUCCESS, b"")]
    server.post(message(OpCode.BYE_RESPONSE, s))
    assert await get_plain(server, 1) == [told(Status.CHANNEL_CLOSED, s)]
    assert await get_plain(client, 2) == [
        ("peer", OpCode.BYE_RESPONSE, c, Status.SUCCESS, b""),
        told(Status.CHANNEL_CLOSED, c),
    ]


async def test_received_messages_can_be_sent_on_by_number(ends: Ends, engine: tofu.Engine) -> None:
    """A relay: messages of one channel are sent on another, with their permits."""
    client, server, c, _, _, where = ends
    other_c, other_s = await opened(client, server, where)
    for count in range(30):
        client.post(message(OpCode.SIGNAL, c, b"%d" % count))

    async def thirty(group: tofu.ChannelGroup) -> AsyncIterator[tofu.Message]:
        count = 0
        while count < 30:
            m = await get(group)
            if m.status is not Status.POOL_EMPTY:
                count += 1
                yield m

    async def relay() -> None:
        async for m in thirty(server):
            m.channel_number = other_s
            server.post(m)

    async def collect() -> list[bytes]:
        bodies = []
        async for m in thirty(client):
            assert m.channel_number == other_c
            bodies.append(m.body)
            m.release()
        return bodies

    _, bodies = await asyncio.gather(relay(), collect())
    assert bodies == [b"%d" % count for count in range(30)]
    await until(lambda: engine.statistics().pool_free == engine.statistics().pool_size)


async def test_a_process_may_have_many_engines() -> None:
    async with tofu.Engine(pool_messages=2) as one, tofu.Engine(pool_messages=2) as other:
        client, server = one.create_group(), other.create_group()
        _, where = await listening(server, "tcp://127.0.0.1:0")
        c, s = await opened(client, server, where)
        for _ in range(3):
            client.post(message(OpCode.SIGNAL, c))
        await until(lambda: held_up(other) == 1)
        assert one.statistics().pool_free == 2
        server.post(message(OpCode.SIGNAL, s, b"unhindered"))
        assert (await get(client)).body == b"unhindered"
        await asyncio.gather(client.aclose(), server.aclose())
    assert one.statistics().pool_free == other.statistics().pool_free == 2
