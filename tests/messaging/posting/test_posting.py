"""The message-level API as a whole: whatever happens, each channel's notifications are in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

import tofu_aio as tofu
from tests.conftest import HAS_UDS
from tests.messaging.peers import RawPeer, RawServer, frame, hello, turns, until
from tests.messaging.posting.test_posted import (
    Ends,
    ends,
    get,
    get_plain,
    greeting,
    listening,
    message,
    nothing_more,
    opened,
    told,
    welcome,
)
from tofu_aio import OpCode, Origin, Status
from tofu_aio.messaging.connection import closing as closing_module

__all__ = ["ends"]

REGULAR = (OpCode.REQUEST, OpCode.RESPONSE, OpCode.SIGNAL)


# --- all ten op codes --------------------------------------------------------------------------


@pytest.mark.parametrize("op_code", REGULAR, ids=lambda op_code: op_code.name)
@pytest.mark.parametrize("more", [False, True])
async def test_regular_messages_travel_as_they_are(ends: Ends, op_code: OpCode, more: bool) -> None:
    for group, other, number, there in (
        (ends.client, ends.server, ends.c, ends.s),
        (ends.server, ends.client, ends.s, ends.c),
    ):
        sent = message(op_code, number, b"body", {"a": "b"}, 77, more, Status.PROCESSING_FAILED)
        header = group.post(sent)
        assert (header.op_code, header.more, header.message_id) == (op_code, more, 77)
        with await get(other) as m:
            assert (m.op_code, m.more, m.message_id, m.origin) == (
                op_code,
                more,
                77,
                Origin.APPLICATION,
            )
            assert (m.body, m.headers, m.channel_number) == (b"body", {"a": "b"}, there)
            assert m.status is Status.PROCESSING_FAILED


async def test_every_op_code_has_an_answer_on_every_kind_of_channel(ends: Ends) -> None:
    """What an open channel and a listener send, carry out and refuse."""
    client, server, c, _, listener, _ = ends
    refused_on_a_channel = {
        OpCode.HELLO_REQUEST: tofu.InvalidChannelNumber,
        OpCode.HELLO_RESPONSE: tofu.NotAllowed,
        OpCode.BYE_RESPONSE: tofu.NotAllowed,
        OpCode.WELCOME_REQUEST: tofu.InvalidChannelNumber,
        OpCode.WELCOME_RESPONSE: tofu.NotAllowed,
    }
    acts = {OpCode.BYE_REQUEST, OpCode.BYE_SIGNAL}
    assert {*refused_on_a_channel, *acts, *REGULAR} == set(OpCode)
    for op_code, error in refused_on_a_channel.items():
        with pytest.raises(error):
            client.post(message(op_code, c, message_id=1))
    for op_code in set(OpCode) - acts:
        with pytest.raises((tofu.NotAllowed, tofu.InvalidChannelNumber)):
            server.post(message(op_code, listener, message_id=1))


async def test_what_is_no_message_or_has_no_channel_is_refused(group: tofu.ChannelGroup) -> None:
    with pytest.raises(tofu.NullMessage, match="None is not a message"):
        group.post(None)  # type: ignore[arg-type]
    with pytest.raises(tofu.InvalidChannelNumber, match="set its channel_number"):
        group.post(message(OpCode.SIGNAL))
    for channel in (1, 65534, 65535, 65536, -1):
        with pytest.raises(tofu.InvalidChannelNumber, match=f"no channel {channel}"):
            group.post(message(OpCode.SIGNAL, channel))


async def test_a_listener_that_is_not_open_yet_says_so(group: tofu.ChannelGroup) -> None:
    number = group.post(welcome("tcp://127.0.0.1:0")).channel_number
    with pytest.raises(tofu.NotAllowed, match=f"channel {number} is not open yet"):
        group.post(message(OpCode.BYE_REQUEST, number))
    assert (await get(group)).status is Status.SUCCESS
    group.post(message(OpCode.BYE_REQUEST, number))
    assert await get_plain(group, 1) == [told(Status.CHANNEL_CLOSED, number)]


async def test_a_hello_can_be_given_up_in_the_turn_it_was_posted(
    group: tofu.ChannelGroup, raw_server: RawServer
) -> None:
    number = group.post(greeting(raw_server.address)).channel_number
    group.post(message(OpCode.BYE_SIGNAL, number))
    with pytest.raises(tofu.InvalidChannelNumber):
        group.post(message(OpCode.BYE_SIGNAL, number))
    assert await get_plain(group, 2) == [
        ("engine", OpCode.HELLO_REQUEST, number, Status.CONNECT_FAILED, b"hi"),
        told(Status.CHANNEL_CLOSED, number),
    ]
    await until(lambda: not group._posting.openings.tasks)
    await nothing_more(group)


# --- many listeners, many groups, many engines -------------------------------------------------


async def test_a_group_listens_on_tcp_and_unix_sockets_at_once(
    engine: tofu.Engine, socket_path: str
) -> None:
    server, client = engine.create_group(), engine.create_group()
    addresses = ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"]
    addresses += [f"uds://{socket_path}"] if HAS_UDS else []
    listeners = dict([await listening(server, address) for address in addresses])
    pairs = [await opened(client, server, where) for where in listeners.values()]
    assert len({number for pair in pairs for number in pair} | set(listeners)) == 3 * len(pairs)
    # Closing listeners does not close their channels.
    for listener in listeners:
        server.post(message(OpCode.BYE_REQUEST, listener))
        assert await get_plain(server, 1) == [told(Status.CHANNEL_CLOSED, listener)]
    for c, s in pairs:
        client.post(message(OpCode.SIGNAL, c, b"%d" % c))
        assert await get_plain(server, 1) == [("peer", OpCode.SIGNAL, s, Status.SUCCESS, b"%d" % c)]
    for where in listeners.values():
        number = client.post(greeting(where)).channel_number
        (back,) = await get_plain(client, 1)
        assert back[:3] == ("engine", OpCode.HELLO_REQUEST, number)
        assert back[3] in {Status.CONNECT_FAILED, Status.UDS_PATH_NOT_FOUND}
        assert await get_plain(client, 1) == [told(Status.CHANNEL_CLOSED, number)]
    await asyncio.gather(client.aclose(), server.aclose())


async def test_groups_of_one_engine_and_engines_of_one_process_do_not_mix() -> None:
    async with tofu.Engine() as one, tofu.Engine() as two:
        groups = [engine.create_group() for engine in (one, two) for _ in range(3)]
        where = [(await listening(group, "tcp://127.0.0.1:0"))[1] for group in groups]
        pairs = {}
        for number, client in enumerate(groups):
            server = groups[(number + 1) % len(groups)]
            pairs[number] = await opened(client, server, where[(number + 1) % len(groups)])
        for number, client in enumerate(groups):
            client.post(message(OpCode.SIGNAL, pairs[number][0], b"%d" % number))
        for number in range(len(groups)):
            server = groups[(number + 1) % len(groups)]
            assert await get_plain(server, 1) == [
                ("peer", OpCode.SIGNAL, pairs[number][1], Status.SUCCESS, b"%d" % number)
            ]
        other_group = groups[0]
        with pytest.raises(tofu.InvalidChannelGroup):
            other_group.post(message(OpCode.SIGNAL, pairs[1][0]))  # another group of this engine
        await asyncio.gather(*(group.aclose() for group in groups))
        assert (one.statistics().channels, two.statistics().channels) == (0, 0)


# --- the last word -----------------------------------------------------------------------------


async def bye(peer: RawPeer) -> None:
    await peer.send(frame(OpCode.BYE_REQUEST, message_id=9))
    peer.half_close()


async def nonsense(peer: RawPeer) -> None:
    await peer.send(frame(13))


async def cut(peer: RawPeer) -> None:
    await peer.send(frame(body=b"x" * 10)[:-1])
    peer.close()


async def close(peer: RawPeer) -> None:
    peer.close()


async def half_close(peer: RawPeer) -> None:
    peer.half_close()


async def reset(peer: RawPeer) -> None:
    await peer.reset()


PEER_ENDS = [bye, nonsense, cut, close, half_close, reset]
OWN_ENDS = [None, OpCode.BYE_REQUEST, OpCode.BYE_SIGNAL]


@pytest.mark.parametrize("own", OWN_ENDS, ids=lambda own: own.name if own else "nothing")
@pytest.mark.parametrize("ends_it", PEER_ENDS, ids=lambda ends_it: ends_it.__name__)
async def test_channel_closed_is_told_once_and_last(
    group: tofu.ChannelGroup,
    ends_it: Callable[[RawPeer], Awaitable[None]],
    own: OpCode | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However a channel ends, and whatever was posted and received before."""
    monkeypatch.setattr(closing_module, "BYE_TIMEOUT", 0.05)
    listener, where = await listening(group, "tcp://127.0.0.1:0")
    with await RawPeer.connect(where) as peer:
        await peer.send(hello(where))
        number = (await get(group)).channel_number
        group.post(message(OpCode.HELLO_RESPONSE, number))
        await peer.message()
        await peer.send(frame(OpCode.SIGNAL, b"one") + frame(OpCode.SIGNAL, b"two"))
        await until(lambda: len(group._posting.mailbox.items) == 2)
        group.post(message(OpCode.SIGNAL, number, b"three"))
        await ends_it(peer)
        if own is not None:
            group.post(message(own, number))
        heard: list[tofu.Message] = []
        while not heard or heard[-1].status is not Status.CHANNEL_CLOSED:
            heard.append(await get(group))
            if heard[-1].op_code is OpCode.BYE_REQUEST:
                # Its sender may have disconnected, this side may have reset it, or this side waits
                # for an answer that does not come.
                with contextlib.suppress(tofu.TofuError):
                    group.post(message(OpCode.BYE_RESPONSE, number))
                with contextlib.suppress(tofu.TofuError):
                    group.post(message(OpCode.BYE_SIGNAL, number))
    assert [m.body for m in heard[:2]] == [b"one", b"two"]
    assert {m.channel_number for m in heard} == {number}
    closed = [m for m in heard if m.status is Status.CHANNEL_CLOSED]
    assert closed == [heard[-1]]
    assert closed[0].origin is Origin.ENGINE
    with pytest.raises(tofu.InvalidChannelNumber):
        group.post(message(OpCode.SIGNAL, number))
    await turns(20)
    await nothing_more(group)
    group.post(message(OpCode.BYE_SIGNAL, listener))
    assert await get_plain(group, 1) == [told(Status.CHANNEL_CLOSED, listener)]


# --- closing what owns them --------------------------------------------------------------------


@pytest.mark.parametrize("what", ["group", "engine"])
async def test_closing_sends_what_was_posted_then_byes_and_lets_nobody_in(what: str) -> None:
    async with tofu.Engine() as other, tofu.Engine() as engine:
        client, server = other.create_group(), engine.create_group()
        _, where = await listening(server, "tcp://127.0.0.1:0")
        pairs = [await opened(client, server, where) for _ in range(3)]
        for _, s in pairs:
            server.post(message(OpCode.SIGNAL, s, b"last words"))
        closing = asyncio.create_task((server if what == "group" else engine).aclose())
        heard: dict[int, list[object]] = {}
        while sum(map(len, heard.values())) < 3 * len(pairs):
            m = await get(client)
            heard.setdefault(m.channel_number, []).append((m.op_code, m.status, m.body))
            if m.op_code is OpCode.BYE_REQUEST:
                client.post(message(OpCode.BYE_RESPONSE, m.channel_number))
        await closing
        story = [
            (OpCode.SIGNAL, Status.SUCCESS, b"last words"),
            (OpCode.BYE_REQUEST, Status.SUCCESS, b""),
            (OpCode.SIGNAL, Status.CHANNEL_CLOSED, b""),
        ]
        assert heard == {c: story for c, _ in pairs}
        assert engine.statistics().channels == 0
        number = client.post(greeting(where)).channel_number
        assert await get_plain(client, 1) == [
            ("engine", OpCode.HELLO_REQUEST, number, Status.CONNECT_FAILED, b"hi")
        ]
        assert await get_plain(client, 1) == [told(Status.CHANNEL_CLOSED, number)]
        with pytest.raises(tofu.ChannelClosed):
            await server.receive()


async def test_listeners_close_before_channels_say_bye(
    engine: tofu.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any order of creation: otherwise new channels would be accepted and closed at once."""
    from tofu_aio.messaging.connection.closing import Closing
    from tofu_aio.transport.socket_acceptor import SocketAcceptor

    order: list[str] = []
    close, aclose = SocketAcceptor.close, Closing.aclose

    def closed(self: SocketAcceptor) -> None:
        order.append("listener")
        close(self)

    async def left(self: Closing) -> None:
        order.append("channel")
        await aclose(self)

    monkeypatch.setattr(SocketAcceptor, "close", closed)
    monkeypatch.setattr(Closing, "aclose", left)
    group = engine.create_group()
    _, where = await listening(group, "tcp://127.0.0.1:0")
    await opened(group, group, where)
    await listening(group, "tcp://127.0.0.1:0")
    await group.listen("tcp://127.0.0.1:0")
    await group.aclose()
    assert order == ["listener"] * 3 + ["channel"] * 2
