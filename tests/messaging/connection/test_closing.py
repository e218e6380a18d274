"""Which side closes first: the one that sent the Bye, or was refused. The other side lingers.

A reader of the Zig library checks whether the connection is closed before it reads, and drops
unread data. So the hand-written peers here check their sockets before they read and before they
close them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

import tofu_aio as tofu
from tests.messaging.certificates import client_context, server_context
from tests.messaging.conftest import Connect
from tests.messaging.connection.test_connection import Bench, bye
from tests.messaging.peers import (
    PATIENCE,
    RawPeer,
    admission_of,
    connection_of,
    frame,
    hello,
    met,
    takes_some,
    turns,
    until,
)
from tests.systems import skip_where_writes_are_whole
from tofu_aio import Message, OpCode, State, Status
from tofu_aio.messaging.connection import closing as closing_module
from tofu_aio.messaging.limits import LINGER

NEVER = 1000.0
"""Seconds: what ends by this deadline does not end in a test's time."""

PEERS_BYE = 70
BYE = frame(OpCode.BYE_REQUEST, message_id=PEERS_BYE)


@pytest.fixture
def without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the peer ends the lingering."""
    monkeypatch.setattr(closing_module, "LINGER", NEVER)
    monkeypatch.setattr(closing_module, "BYE_TIMEOUT", NEVER)


def hung_up(peer: RawPeer) -> bool:
    """Whether the connection has ended, as far as a peer that has read everything can see."""
    try:
        return not peer.sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


async def stays(peer: RawPeer) -> None:
    """The connection is not closed before the peer closes."""
    await turns(50)
    assert not hung_up(peer)


async def gone(engine: tofu.Engine) -> None:
    await until(lambda: not engine.statistics().channels, "for the socket to go")


async def answered(peer: RawPeer) -> None:
    answer = await peer.message()
    assert (answer.op_code, answer.message_id) == (OpCode.BYE_RESPONSE, PEERS_BYE)


# --- after the peer's Bye ----------------------------------------------------------------------


@pytest.mark.usefixtures("without_end")
@pytest.mark.parametrize("who_answers", ["the engine", "receive", "aclose", "post"])
async def test_who_said_bye_hangs_up_first(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str, who_answers: str
) -> None:
    async with met(group, transport_address) as (peer, channel):
        last_words = frame(body=b"last words") if who_answers == "receive" else b""
        eof = b"~eof:1\r\n" if who_answers in {"aclose", "post"} else b""
        await peer.send(last_words)
        await peer.send(frame(OpCode.BYE_REQUEST, headers=eof, message_id=PEERS_BYE))
        if who_answers == "receive":
            assert [message.body async for message in channel] == [b"last words"]
        await until(lambda: channel.state is not State.OPEN)
        closing = None
        if who_answers == "aclose":
            closing = asyncio.create_task(channel.aclose())
        elif who_answers == "post":
            channel.post(Message(OpCode.BYE_RESPONSE))
        await stays_until_answered(peer)
        assert channel.state is State.CLOSED
        assert isinstance(channel.end, tofu.ChannelEnded)
        assert engine.statistics().channels == 1, "its number stays its own"
        peer.close()
        await gone(engine)
        if closing is not None:
            await closing


async def stays_until_answered(peer: RawPeer) -> None:
    await answered(peer)
    await stays(peer)


@pytest.mark.usefixtures("without_end")
async def test_the_end_of_the_peer_s_stream_is_enough(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str
) -> None:
    async with met(group, transport_address) as (peer, _):
        await peer.send(BYE)
        await stays_until_answered(peer)
        peer.half_close()
        assert not await peer.resets(), "it ends in order"
        await gone(engine)


@pytest.mark.usefixtures("without_end")
async def test_to_the_application_it_is_closed_at_once(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str
) -> None:
    async with met(group, transport_address) as (peer, channel):
        await peer.send(BYE)
        await stays_until_answered(peer)
        with pytest.raises(tofu.ChannelEnded):
            await channel.receive()
        with pytest.raises(tofu.PeerDisconnected, match="said Bye"):
            await channel.send(Message(OpCode.SIGNAL))
        assert not channel.triggers
        peer.close()
        await gone(engine)


@pytest.mark.usefixtures("without_end")
async def test_what_still_comes_is_dropped_and_holds_nothing(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str
) -> None:
    """And it is read: a socket closed with something unread in it would be reset."""
    async with met(group, transport_address) as (peer, channel):
        await peer.send(BYE)
        await answered(peer)
        for _ in range(20):
            await peer.send(frame(body=bytes(60_000)))
        await peer.send(b"nonsense")
        statistics = engine.statistics()
        assert (statistics.pool_free, statistics.held_bytes) == (statistics.pool_size, 0)
        assert channel.statistics().received == 2, "the Hello and the Bye"
        await stays(peer)
        peer.half_close()
        assert not await peer.resets()
        await gone(engine)


@pytest.mark.usefixtures("without_end")
async def test_what_comes_in_one_breath_with_the_bye_changes_nothing(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str
) -> None:
    """Nothing may follow a Bye, and by then this one has been answered."""
    async with met(group, transport_address) as (peer, channel):
        await peer.send(BYE + frame(body=b"more"))
        await stays_until_answered(peer)
        assert isinstance(channel.end, tofu.ChannelEnded)
        peer.close()
        await gone(engine)


async def test_a_peer_that_stays_is_left_in_time_and_in_order(
    group: tofu.ChannelGroup,
    engine: tofu.Engine,
    transport_address: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(closing_module, "LINGER", 0.02)
    async with met(group, transport_address) as (peer, channel):
        await peer.send(frame(body=b"1") + BYE)
        with await channel.receive() as message:
            await channel.reply(message, b"last words")
        with pytest.raises(tofu.ChannelEnded):
            await channel.receive()
        await gone(engine)
        assert (await peer.message()).body == b"last words"
        await answered(peer)
        assert not await peer.resets()


def test_for_how_long() -> None:
    assert LINGER == 1.0


@pytest.mark.usefixtures("without_end")
@pytest.mark.parametrize("how", ["timeout", "cancelled"])
async def test_who_waits_no_longer_for_the_peer_takes_nothing_from_it(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str, how: str
) -> None:
    """All frames have left, so no data can be lost."""
    async with met(group, transport_address) as (peer, channel):
        await peer.send(BYE)
        await until(lambda: channel.state is State.CLOSED)
        closing = asyncio.create_task(channel.aclose(0.02 if how == "timeout" else NEVER))
        await turns(3)
        if how == "cancelled":
            closing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await closing
        else:
            await closing
        await answered(peer)
        assert not await peer.resets()
        await gone(engine)


@pytest.mark.usefixtures("without_end")
async def test_abort_ends_it_by_a_reset(group: tofu.ChannelGroup, engine: tofu.Engine) -> None:
    async with met(group, "tcp://127.0.0.1:0") as (peer, channel):
        await peer.send(BYE)
        await answered(peer)
        channel.abort()
        await peer.until_reset()
        await gone(engine)


@pytest.mark.usefixtures("without_end")
async def test_it_does_not_outlive_its_engine(
    transport_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing_module, "BYE_TIMEOUT", 0.05)
    async with (
        tofu.Engine() as engine,
        engine.create_group() as group,
        met(group, transport_address) as (peer, channel),
    ):
        await peer.send(BYE)
        await stays_until_answered(peer)
        await engine.aclose()
        assert connection_of(channel).closing.done.done()
        assert engine.statistics().channels == 0
        assert not await peer.resets()


@pytest.mark.usefixtures("without_end")
async def test_it_gives_its_place_at_a_full_listener_to_the_next(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str
) -> None:
    """A lingering socket costs a descriptor, but a waiting connection need not wait for it."""
    async with await group.listen(transport_address, max_channels=1) as listener:
        serving = asyncio.create_task(listener.serve(drop_all))
        first = await RawPeer.introduced(listener.address)
        with first, await RawPeer.connect(listener.address) as second:
            await second.send(hello())
            await first.send(BYE)
            await stays_until_answered(first)
            assert (await second.message()).op_code is OpCode.HELLO_RESPONSE
            await stays(first)
        await until(lambda: engine.statistics().channels == 1)
        await listener.aclose()
        await serving


@pytest.mark.usefixtures("without_end")
async def test_it_gives_its_place_as_soon_as_its_last_word_has_left(
    group: tofu.ChannelGroup, transport_address: str
) -> None:
    """That was long in coming, behind much else."""

    async def say_much(channel: tofu.Channel) -> None:
        for _ in range(300):
            channel.post(Message(OpCode.SIGNAL, bytes(60_000)))
        await drop_all(channel)

    async with await group.listen(transport_address, max_channels=1) as listener:
        serving = asyncio.create_task(listener.serve(say_much))
        first = await RawPeer.introduced(listener.address)
        with first, await RawPeer.connect(listener.address) as second:
            await second.send(hello())
            admission = admission_of(listener)
            await until(lambda: admission._waiting)
            await first.send(BYE)
            (connection,) = admission._open
            await until(lambda: connection.closing.lingering)
            assert not connection.closing.lingers
            assert admission._waiting
            await until_answered(first)
            assert (await second.message()).op_code is OpCode.HELLO_RESPONSE
            await stays(first)
        await listener.aclose()
        await serving


@pytest.mark.usefixtures("without_end")
async def test_whom_it_concerns_is_told_once_the_last_word_has_left() -> None:
    bench = Bench()
    bench.transport.stuck = True
    bench.connection.queue.enqueue(OpCode.SIGNAL, body=bytes(65535))
    bench.feed(bye())
    bench.connection.queue.enqueue_judged(OpCode.BYE_RESPONSE)
    await turns(3)
    assert bench.sink.errors
    assert not bench.sink.says
    bench.transport.take()
    await turns(3)
    assert bench.sink.says == 1
    bench.connection.closing.linger_no_more()
    await bench.end()


async def until_answered(peer: RawPeer) -> None:
    while (await peer.message()).op_code is not OpCode.BYE_RESPONSE:
        pass


async def drop_all(channel: tofu.Channel) -> None:
    with contextlib.suppress(tofu.PeerDisconnected):
        async for message in channel:
            message.release()


@pytest.mark.usefixtures("without_end")
async def test_messages_too_linger_and_hear_the_last_word_when_the_socket_is_gone(
    group: tofu.ChannelGroup, transport_address: str
) -> None:
    header = {tofu.LISTEN_ON: tofu.parse_address(transport_address).to_header()}
    group.post(Message(OpCode.WELCOME_REQUEST, headers=header))
    listening = await group.receive()
    where = tofu.parse_address(listening.headers[tofu.LISTEN_ON])
    with await RawPeer.connect(where) as peer:
        await peer.send(hello())
        number = (await group.receive()).channel_number
        post(group, number, OpCode.HELLO_RESPONSE)
        assert (await peer.message()).op_code is OpCode.HELLO_RESPONSE
        await peer.send(BYE)
        assert (await group.receive()).op_code is OpCode.BYE_REQUEST
        post(group, number, OpCode.BYE_RESPONSE)
        await stays_until_answered(peer)
        assert not group._posting.mailbox.items
        with pytest.raises(tofu.PeerDisconnected):
            post(group, number, OpCode.SIGNAL)
        peer.close()
        last = await group.receive()
        assert (last.status, last.channel_number) == (Status.CHANNEL_CLOSED, number)
    post(group, listening.channel_number, OpCode.BYE_REQUEST)
    assert (await group.receive()).status is Status.CHANNEL_CLOSED


def post(group: tofu.ChannelGroup, number: int, op_code: OpCode, status: int = 0) -> None:
    message = Message(op_code)
    message.channel_number = number
    message.status = Status(status)
    group.post(message)


# --- the last frames after much data -----------------------------------------------------------


async def test_the_time_begins_when_the_last_word_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing_module, "LINGER", 0.005)
    monkeypatch.setattr(closing_module, "BYE_TIMEOUT", NEVER)
    bench = Bench()
    bench.transport.stuck = True
    bench.connection.queue.enqueue(OpCode.SIGNAL, body=bytes(65535))
    bench.feed(bye())
    bench.connection.queue.enqueue_judged(OpCode.BYE_RESPONSE)
    await asyncio.sleep(0.03)  # several times as long
    assert not bench.transport.closing, "the peer has not got it"
    bench.transport.take()
    await until(lambda: bench.transport.lost)
    assert not bench.transport.aborted
    await bench.end()


async def test_a_peer_that_takes_nothing_of_them_is_reset_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(closing_module, "LINGER", 0.005)
    monkeypatch.setattr(closing_module, "BYE_TIMEOUT", 0.02)
    bench = Bench()
    bench.transport.stuck = True
    bench.connection.queue.enqueue(OpCode.SIGNAL, body=bytes(65535))
    bench.feed(bye())
    bench.connection.queue.enqueue_judged(OpCode.BYE_RESPONSE)
    await until(lambda: bench.transport.lost)
    assert bench.transport.aborted
    await bench.end()


@pytest.mark.usefixtures("without_end")
async def test_reading_goes_on_where_it_was_suspended() -> None:
    """Else the peer's leaving would not be noticed."""
    bench = Bench(size=0)
    bench.feed(frame(body=b"1"), frame(body=b"2"))
    bench.feed(bye())
    assert not bench.transport.reading
    bench.connection.closing.discard()
    assert bench.connection.end is not None
    assert bench.transport.reading
    assert not bench.transport.closing
    bench.connection.eof_received()
    await bench.end()


@pytest.mark.usefixtures("without_end")
async def test_a_slow_peer_reads_all_before_anybody_hangs_up(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str
) -> None:
    size, count = 60_000, 250  # more than the kernel takes
    async with met(group, transport_address) as (peer, channel):
        for number in range(count):
            channel.post(Message(OpCode.SIGNAL, bytes(size), message_id=number + 1))
        await peer.send(BYE)
        await until(lambda: channel.state is State.CLOSED)
        assert channel.statistics().queued_bytes
        for _ in range(count):
            assert len((await peer.message()).body) == size
        await stays_until_answered(peer)
        peer.close()
        await gone(engine)


# --- between two channels of this library ------------------------------------------------------


@pytest.mark.usefixtures("without_end")
@pytest.mark.parametrize("first", [0, 1], ids=["client", "server"])
async def test_our_own_peers_hang_up_as_soon_as_they_have_the_answer(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str, first: int
) -> None:
    async with await group.listen(transport_address) as listener:
        pair = await asyncio.gather(group.connect(listener.address), listener.accept())
        await pair[first].aclose()
        await until(lambda: engine.statistics().channels == 1)


@pytest.mark.usefixtures("without_end")
@pytest.mark.parametrize("how", ["bye", "together", "half-closes", "refusal"])
async def test_tls_lingers_too(group: tofu.ChannelGroup, engine: tofu.Engine, how: str) -> None:
    async with await group.listen("tcp://127.0.0.1:0", ssl=server_context()) as listener:
        connecting = asyncio.create_task(group.connect(listener.address, ssl=client_context()))
        server = await listener.receive_hello()
        if how == "refusal":
            await server.reject("no")
            with pytest.raises(tofu.ConnectFailed, match="no"):
                await connecting
        else:
            server.accept()
            client = await connecting
            if how == "bye":
                await client.aclose()
            elif how == "together":
                await asyncio.gather(client.aclose(), server.aclose())
            else:
                await asyncio.gather(client.send_eof(), server.send_eof())
            assert isinstance((client if how == "bye" else server).end, tofu.ChannelEnded | None)
        await until(lambda: engine.statistics().channels == 1)


@pytest.mark.usefixtures("without_end")
async def test_byes_in_one_breath_leave_nobody_waiting(
    both_ends: Connect, engine: tofu.Engine
) -> None:
    """In whatever order the two Byes and the two answers arrive, one has the last word."""
    async with engine.create_group() as here, engine.create_group() as there:
        for patience in range(8):
            async with both_ends(here, there) as (client, server):
                await client.send_eof()
                await turns(patience)
                await server.send_eof()
                await gone(engine)


# --- after a refusal ---------------------------------------------------------------------------


@pytest.mark.usefixtures("without_end")
@pytest.mark.parametrize("how", ["reject", "decide", "post"])
async def test_who_is_refused_hangs_up_first(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str, how: str
) -> None:
    async def decide(channel: tofu.Channel) -> None:
        raise tofu.Rejected("no")

    async with await group.listen(transport_address) as listener:
        with await RawPeer.connect(listener.address) as peer:
            await peer.send(hello())
            if how == "decide":
                refusing = asyncio.create_task(listener.serve(drop_all, decide=decide))
            else:
                server = await listener.receive_hello()
                refusing = asyncio.create_task(refuse(server, how))
            answer = await peer.message()
            assert (answer.op_code, answer.status) == (
                OpCode.HELLO_RESPONSE,
                Status.NOT_ALLOWED,
            )
            await stays(peer)
            admission = admission_of(listener)
            assert (len(admission._undecided), len(admission._lingering)) == (0, 1)
            peer.close()
            await until(lambda: not admission._lingering)
        await listener.aclose()
        await refusing


async def refuse(channel: tofu.Channel, how: str) -> None:
    if how == "reject":
        await channel.reject("no")
        return
    message = Message(OpCode.HELLO_RESPONSE, b"no")
    message.status = Status.NOT_ALLOWED
    channel.post(message)
    assert channel.state is State.CLOSED


@pytest.mark.usefixtures("without_end")
async def test_our_own_clients_hang_up_when_they_are_refused(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str
) -> None:
    async with await group.listen(transport_address) as listener:
        header = {tofu.CONNECT_TO: listener.address.to_header()}
        number = group.post(Message(OpCode.HELLO_REQUEST, headers=header)).channel_number
        async with asyncio.timeout(PATIENCE):
            await (await listener.receive_hello()).reject("no")
        told = [await group.receive() for _ in range(3)]
        assert {message.channel_number for message in told} == {number}
        assert [message.status for message in told] == [
            Status.NOT_ALLOWED,
            Status.PEER_DISCONNECTED,
            Status.CHANNEL_CLOSED,
        ]
        connecting = asyncio.create_task(group.connect(listener.address))
        await (await listener.receive_hello()).reject("no")
        with pytest.raises(tofu.ConnectFailed, match="no"):
            await connecting
        await until(lambda: engine.statistics().channels == 1)


# --- when both have sent a Bye -----------------------------------------------------------------

LEAVING = ["close", "half close", "close unread"]
"""How a peer leaves that sends nothing after its own Bye. What it has not read makes a reset."""


async def leave(peer: RawPeer, how: str) -> None:
    if how != "close unread":
        assert (await peer.message()).op_code is OpCode.BYE_RESPONSE
    if how == "half close":
        peer.half_close()
    else:
        peer.close()


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("closing", ["aclose", "send_eof"])
async def test_crossing_byes_of_which_only_one_is_answered_are_a_finished_bye(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str, closing: str, how: str
) -> None:
    async with met(group, transport_address) as (peer, channel):
        leaving = asyncio.create_task(getattr(channel, closing)())
        assert (await peer.message()).op_code is OpCode.BYE_REQUEST
        await peer.send(frame(body=b"last") + BYE)
        if closing == "send_eof":
            assert [message.body async for message in channel] == [b"last"]
        else:
            await until(lambda: channel.statistics().received == 3)
        await leave(peer, how)
        await leaving
        await gone(engine)
        assert isinstance(channel.end, tofu.ChannelEnded)
        with pytest.raises(tofu.ChannelClosed if closing == "aclose" else tofu.ChannelEnded):
            await channel.receive()


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("answers", [True, False], ids=["answered", "not answered"])
async def test_to_messages_they_are_a_finished_bye_as_well(
    group: tofu.ChannelGroup, transport_address: str, answers: bool, how: str
) -> None:
    header = {tofu.LISTEN_ON: tofu.parse_address(transport_address).to_header()}
    group.post(Message(OpCode.WELCOME_REQUEST, headers=header))
    listening = await group.receive()
    with await RawPeer.connect(tofu.parse_address(listening.headers[tofu.LISTEN_ON])) as peer:
        await peer.send(hello())
        number = (await group.receive()).channel_number
        post(group, number, OpCode.HELLO_RESPONSE)
        post(group, number, OpCode.BYE_REQUEST)
        for op_code in (OpCode.HELLO_RESPONSE, OpCode.BYE_REQUEST):
            assert (await peer.message()).op_code is op_code
        await peer.send(BYE)
        assert (await group.receive()).op_code is OpCode.BYE_REQUEST
        if answers:
            post(group, number, OpCode.BYE_RESPONSE)
            await leave(peer, how)
        elif how == "half close":
            peer.half_close()
        else:
            peer.close()
        assert (await group.receive()).status is Status.CHANNEL_CLOSED, "and nothing before it"
    post(group, listening.channel_number, OpCode.BYE_REQUEST)
    assert (await group.receive()).status is Status.CHANNEL_CLOSED


@pytest.mark.parametrize("last_word", ["eof", "lost", "reset"])
async def test_a_crossing_bye_that_waited_for_a_permit_is_a_finished_one(last_word: str) -> None:
    """It was in the buffer of a starved channel when the peer closed."""
    bench = Bench(size=0)
    bench.connection.queue.enqueue_judged(OpCode.BYE_REQUEST)
    bench.feed(frame(body=b"1"), frame(body=b"2"), bye())
    if last_word == "eof":
        bench.connection.eof_received()
    else:
        bench.transport.fail(ConnectionResetError("reset") if last_word == "reset" else None)
    await turns(3)
    assert not bench.sink.errors
    bench.sink.messages[0].release()
    await turns(3)
    assert bench.sink.bodies == [b"1", b"2", b""]
    assert isinstance(bench.sink.errors[0], tofu.ChannelEnded)
    await bench.end()


@pytest.mark.parametrize("said", ["nothing", "ours", "theirs"])
async def test_one_bye_alone_is_none_that_is_finished(said: str) -> None:
    bench = Bench()
    if said == "ours":
        bench.connection.queue.enqueue_judged(OpCode.BYE_REQUEST)
    elif said == "theirs":
        bench.feed(bye())
    bench.connection.eof_received()
    assert isinstance(bench.sink.errors[0], tofu.PeerDisconnected)
    await bench.end()


async def test_who_goes_on_taking_what_was_queued_may_take_its_time(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checked by hand, long after the Bye: only a peer that took nothing meanwhile is reset."""
    skip_where_writes_are_whole()
    monkeypatch.setattr(closing_module, "LINGER", NEVER)
    async with met(group, "tcp://127.0.0.1:0") as (peer, channel):
        connection = connection_of(channel)
        for _ in range(1000):
            channel.post(Message(OpCode.SIGNAL, bytes(60_000)))
        connection.closing.dismiss(tofu.ChannelClosed("away"))
        long_ago = asyncio.get_running_loop().time() - NEVER
        for _ in range(3):
            before = connection.queue.nbytes
            await takes_some(peer, channel)
            connection.closing._linger_on(long_ago, before)
            assert not connection.gone
            assert not connection.queue.transport.is_closing()  # type: ignore[union-attr]
        connection.closing._linger_on(long_ago, connection.queue.nbytes)
        await connection.closing.done
        await peer.until_reset()
