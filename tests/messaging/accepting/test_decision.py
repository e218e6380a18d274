"""Deciding on a Hello: the peer's identity, accepting, rejecting, and the answer to the peer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable

import anyio
import pytest

import tofu_aio as tofu
from tests.messaging.peers import (
    RawPeer,
    RawServer,
    admission_of,
    frame,
    hello,
    settled,
    turns,
    until,
)
from tofu_aio import OpCode, Origin, State, Status
from tofu_aio.messaging.accepting import admission as admission_module
from tofu_aio.messaging.connection import closing as closing_module
from tofu_aio.protocol.op_code import pack_proto


async def echo(channel: tofu.Channel) -> None:
    async for message in channel:
        with message:
            await channel.reply(message, message.body)


def undecided(listener: tofu.Listener) -> int:
    return len(admission_of(listener)._undecided)


# --- by hand -------------------------------------------------------------------------------


async def test_a_hello_is_seen_before_it_is_accepted(
    group: tofu.ChannelGroup, address: str
) -> None:
    async with await group.listen(address) as listener:
        connecting = asyncio.create_task(
            group.connect(listener.address, headers={"Name": "Ada"}, body=b"hi")
        )
        server = await listener.receive_hello()
        assert (server.state, server.hello.op_code) == (State.HELLO_HEARD, OpCode.HELLO_REQUEST)
        assert (server.hello.headers["Name"], server.hello.body) == ("Ada", b"hi")
        await turns(20)
        assert not connecting.done()
        server.accept(b"welcome", {"Since": "1815"})
        assert server.state is State.OPEN
        client = await connecting
        assert (client.hello.body, client.hello.headers["Since"]) == (b"welcome", "1815")
        await asyncio.gather(client.aclose(), server.aclose())


async def test_a_rejected_client_knows_why(
    group: tofu.ChannelGroup, engine: tofu.Engine, address: str
) -> None:
    async with await group.listen(address) as listener:
        connecting = asyncio.create_task(group.connect(listener.address))
        server = await listener.receive_hello()
        await server.reject("wer da? \N{OWL}")
        assert server.state is State.CLOSED
        with pytest.raises(tofu.ConnectFailed) as caught:
            await connecting
        assert str(caught.value) == (
            f"{listener.address} refused the channel: wer da? \N{OWL} (not_allowed)"
        )
        assert isinstance(caught.value.__cause__, tofu.NotAllowed)
        await until(lambda: engine.statistics().channels == 1)
        assert not undecided(listener)


async def test_a_rejection_has_the_status_it_is_given(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    connecting = asyncio.create_task(group.connect(listener.address))
    server = await listener.receive_hello()
    with pytest.raises(ValueError, match="not SUCCESS"):
        await server.reject("no", Status.SUCCESS)
    with pytest.raises(tofu.InvalidBodyLen):
        await server.reject("no" * 40_000)
    assert server.state is State.HELLO_HEARD, "nothing is half done"
    await server.reject("", Status.SHUTDOWN_STARTED)
    with pytest.raises(tofu.ConnectFailed, match=r"channel: shutdown_started$") as caught:
        await connecting
    assert isinstance(caught.value.__cause__, tofu.ShutdownStarted)


async def test_a_decision_is_made_once(group: tofu.ChannelGroup, listener: tofu.Listener) -> None:
    connecting = asyncio.create_task(group.connect(listener.address))
    server = await listener.receive_hello()
    server.accept()
    client = await connecting
    for channel in (server, client):
        with pytest.raises(tofu.NotAllowed, match="open cannot be accepted"):
            channel.accept()
        with pytest.raises(tofu.NotAllowed, match="open cannot be rejected"):
            await channel.reject("after all")
    await asyncio.gather(client.aclose(), server.aclose())
    with pytest.raises(tofu.ChannelClosed):
        server.accept()


async def test_nothing_but_the_decision_may_be_sent_before_it(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    connecting = asyncio.create_task(group.connect(listener.address))
    server = await listener.receive_hello()
    with pytest.raises(tofu.NotAllowed, match="hello_heard"):
        await server.signal(b"psst")
    server.accept()
    client = await connecting
    await asyncio.gather(client.aclose(), server.aclose())


@pytest.mark.parametrize("how", ["aclose", "abort"])
async def test_closing_without_a_decision_is_a_refusal_without_words(
    group: tofu.ChannelGroup, listener: tofu.Listener, how: str
) -> None:
    connecting = asyncio.create_task(group.connect(listener.address))
    server = await listener.receive_hello()
    if how == "aclose":
        await server.aclose()
    else:
        server.abort()
    with pytest.raises(tofu.ConnectFailed, match="did not accept the channel"):
        await connecting
    await until(lambda: not undecided(listener))


async def test_an_undecided_peer_that_disconnects_is_forgotten(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    connecting = asyncio.create_task(group.connect(listener.address))
    server = await listener.receive_hello()
    connecting.cancel()
    await until(lambda: server.state is State.CLOSED)
    with pytest.raises(tofu.PeerDisconnected):
        server.accept()
    with pytest.raises(tofu.PeerDisconnected):
        await server.reject("too late")
    await until(lambda: not undecided(listener))


async def test_a_disconnected_peer_is_not_kept_until_it_is_received(
    group: tofu.ChannelGroup, listener: tofu.Listener, engine: tofu.Engine
) -> None:
    """Otherwise any number of Hellos could stay in the queue after their slots are free."""
    with await RawPeer.connect(listener.address) as peer:
        await peer.send(hello())
        await until(lambda: listener._ready.items)
    await until(lambda: not listener._ready.items)
    await until(lambda: not undecided(listener))


async def test_the_undecided_outlives_its_listener(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    connecting = [asyncio.create_task(group.connect(listener.address)) for _ in range(2)]
    first, second = [await listener.receive_hello() for _ in connecting]
    await listener.aclose()
    first.accept()
    await second.reject("we close")
    results = await asyncio.gather(*connecting, return_exceptions=True)
    (client,) = [r for r in results if isinstance(r, tofu.Channel)]
    (refused,) = [r for r in results if isinstance(r, Exception)]
    assert "we close" in str(refused)
    await asyncio.gather(client.aclose(), first.aclose())


async def test_a_group_that_closes_refuses_the_undecided(
    engine: tofu.Engine, group: tofu.ChannelGroup
) -> None:
    async with engine.create_group() as other:
        listener = await other.listen("tcp://127.0.0.1:0")
        connecting = asyncio.create_task(group.connect(listener.address))
        undecided = await listener.receive_hello()
    assert undecided.state is State.CLOSED
    with pytest.raises(tofu.ConnectFailed):
        await connecting


async def test_a_cancelled_receive_hello_loses_no_channel(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    for patience in range(12):
        hearing = asyncio.create_task(listener.receive_hello())
        with await RawPeer.connect(listener.address) as peer:
            await peer.send(hello())
            await turns(patience)
            hearing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await hearing
            heard = await listener.receive_hello() if hearing.cancelled() else hearing.result()
            assert heard.state is State.HELLO_HEARD
            heard.abort()


# --- that it is heard ------------------------------------------------------------------------


@pytest.mark.parametrize("early", [b"", frame(OpCode.BYE_REQUEST), frame(body=bytes(60_000))])
async def test_a_peer_that_goes_on_sending_receives_its_rejection(
    group: tofu.ChannelGroup, transport_address: str, early: bytes
) -> None:
    """Closing a socket with unread data would reset the connection, and discard the answer."""
    async with await group.listen(transport_address) as listener:
        with await RawPeer.connect(listener.address) as peer:
            await peer.send(hello())
            server = await listener.receive_hello()
            rejecting = asyncio.create_task(server.reject("no"))
            await turns(1)
            for _ in range(3):
                await peer.send(early)
                await turns(5)
            answer = await peer.message()
            assert (answer.op_code, answer.status) == (
                OpCode.HELLO_RESPONSE,
                Status.NOT_ALLOWED,
            )
            assert (answer.body, answer.message_id) == (b"no", 1)
            assert not rejecting.done(), "the peer has not left"
            peer.half_close()
            await rejecting
            assert not await peer.resets(), "it ends in order"


async def test_a_rejected_peer_that_stays_is_closed_in_time(
    group: tofu.ChannelGroup, listener: tofu.Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing_module, "LINGER", 0.05)
    with await RawPeer.connect(listener.address) as peer:
        await peer.send(hello())
        server = await listener.receive_hello()
        rejecting = asyncio.create_task(server.reject("no"))
        await turns(10)
        assert not undecided(listener), "it waits in nobody's way"
        assert len(admission_of(listener)._lingering) == 1
        await rejecting
        assert not admission_of(listener)._lingering


@pytest.mark.parametrize("after", range(6))
async def test_rejecting_may_be_cancelled(
    group: tofu.ChannelGroup, listener: tofu.Listener, engine: tofu.Engine, after: int
) -> None:
    with await RawPeer.connect(listener.address) as peer:
        await peer.send(hello())
        server = await listener.receive_hello()
        rejecting = asyncio.create_task(server.reject("no"))
        await turns(after)
        rejecting.cancel()
        await asyncio.gather(rejecting, return_exceptions=True)
        server.abort()  # it may have been cancelled before it began
        await peer.end()
    await until(lambda: engine.statistics().channels == 1)


async def test_a_rejection_travels_with_the_engines_origin(
    group: tofu.ChannelGroup, address: str
) -> None:
    """The Zig library looks there for failures; an acceptance is the application's."""
    async with await group.listen(address) as listener:
        for accepted in (True, False):
            with await RawPeer.connect(listener.address) as peer:
                await peer.send(hello(listener.address))
                server = await listener.receive_hello()
                rejecting = None
                if accepted:
                    server.accept()
                else:
                    rejecting = asyncio.create_task(server.reject("no"))
                answer = await peer.message()
                assert answer.op_code is OpCode.HELLO_RESPONSE
                assert (answer.origin, answer.status) == (
                    (Origin.APPLICATION, Status.SUCCESS)
                    if accepted
                    else (Origin.ENGINE, Status.NOT_ALLOWED)
                )
            if rejecting is not None:
                await rejecting
            server.abort()


@pytest.mark.parametrize("origin", Origin)
async def test_a_rejection_is_understood_whatever_its_origin(
    group: tofu.ChannelGroup, raw_server: RawServer, origin: Origin
) -> None:
    connecting = asyncio.create_task(group.connect(raw_server.address))
    with await raw_server.accept() as peer:
        asked = await peer.message()
        proto = pack_proto(OpCode.HELLO_RESPONSE, origin=origin)
        await peer.send(
            frame(proto, b"full", message_id=asked.message_id, status=Status.NOT_ALLOWED)
        )
        with pytest.raises(tofu.ConnectFailed, match=r"refused the channel: full \(not_allowed\)"):
            await connecting


async def test_a_plain_rejection_is_understood_by_messages(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    header = {"~connect_to": listener.address.to_header()}
    group.post(tofu.Message(OpCode.HELLO_REQUEST, headers=header))
    server = await listener.receive_hello()
    rejecting = asyncio.create_task(server.reject("no", Status.SHUTDOWN_STARTED))
    got = [await group.receive() for _ in range(3)]
    assert [(m.op_code, m.status, m.body) for m in got] == [
        (OpCode.HELLO_RESPONSE, Status.SHUTDOWN_STARTED, b"no"),
        (OpCode.SIGNAL, Status.PEER_DISCONNECTED, b""),
        (OpCode.SIGNAL, Status.CHANNEL_CLOSED, b""),
    ]
    await rejecting


# --- by serve --------------------------------------------------------------------------------


async def test_serve_asks_before_it_accepts(group: tofu.ChannelGroup, address: str) -> None:
    async def decide(channel: tofu.Channel) -> None:
        if channel.hello.headers.get("Name") != "Ada":
            raise tofu.Rejected("who are you?")

    async with await group.listen(address) as listener:
        serving = asyncio.create_task(listener.serve(echo, decide=decide))
        for _ in range(3):
            with pytest.raises(tofu.ConnectFailed, match=r"who are you\? \(not_allowed\)"):
                await group.connect(listener.address, headers={"Name": "Eve"})
            async with await group.connect(listener.address, headers={"Name": "Ada"}) as client:
                with await client.request(b"ping") as response:
                    assert response.body == b"ping"
        await listener.aclose()
        await serving


async def test_a_slow_decision_holds_up_nobody(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    enough = asyncio.Event()

    async def decide(channel: tofu.Channel) -> None:
        if channel.hello.body == b"slow":
            await enough.wait()

    serving = asyncio.create_task(listener.serve(echo, decide=decide))
    slow = asyncio.create_task(group.connect(listener.address, body=b"slow"))
    async with await group.connect(listener.address):
        assert not slow.done()
    enough.set()
    await (await slow).aclose()
    await listener.aclose()
    await serving


async def test_deciding_may_answer_itself(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    handled = 0

    async def decide(channel: tofu.Channel) -> None:
        if channel.hello.body == b"good":
            channel.accept(b"welcome")
        else:
            await channel.reject("no", Status.WRONG_ADDRESS)

    async def handler(channel: tofu.Channel) -> None:
        nonlocal handled
        handled += 1

    serving = asyncio.create_task(listener.serve(handler, decide=decide))
    async with await group.connect(listener.address, body=b"good") as client:
        assert client.hello.body == b"welcome"
    with pytest.raises(tofu.ConnectFailed, match="wrong_address"):
        await group.connect(listener.address)
    await listener.aclose()
    await serving
    assert handled == 1


def _bug(channel: tofu.Channel) -> None:
    raise ZeroDivisionError


def _own_timeout(channel: tofu.Channel) -> None:
    raise TimeoutError("the database")


@pytest.mark.parametrize("fail", [_bug, _own_timeout])
async def test_a_bug_in_deciding_is_logged_and_not_told(
    group: tofu.ChannelGroup,
    listener: tofu.Listener,
    caplog: pytest.LogCaptureFixture,
    fail: Callable[[tofu.Channel], None],
) -> None:
    async def decide(channel: tofu.Channel) -> None:
        fail(channel)

    serving = asyncio.create_task(listener.serve(echo, decide=decide))
    with pytest.raises(tofu.ConnectFailed, match=r"the decision failed \(processing_failed\)"):
        await group.connect(listener.address)
    (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert record.exc_info
    caplog.clear()
    await listener.aclose()
    await serving


async def test_a_decision_that_fails_after_it_accepted_aborts(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    async def decide(channel: tofu.Channel) -> None:
        channel.accept()
        raise tofu.Rejected("no, after all")

    serving = asyncio.create_task(listener.serve(echo, decide=decide))
    connecting = asyncio.create_task(group.connect(listener.address))
    (result,) = await asyncio.gather(connecting, return_exceptions=True)
    if isinstance(result, tofu.Channel):  # else the reset was faster than the answer
        with pytest.raises(tofu.PeerDisconnected):
            await result.receive()
        await result.aclose()
    await listener.aclose()
    await serving


async def test_a_reason_too_long_is_cut(group: tofu.ChannelGroup, listener: tofu.Listener) -> None:
    async def decide(channel: tofu.Channel) -> None:
        raise tofu.Rejected("\N{OWL}" * 70_000)

    serving = asyncio.create_task(listener.serve(echo, decide=decide))
    with pytest.raises(tofu.ConnectFailed, match=r"\(10,000 characters\) ") as caught:
        await group.connect(listener.address)
    assert caught.value.answer is not None
    assert caught.value.answer.body.decode() == "\N{OWL}" * 10_000, "what it was told is whole"
    await listener.aclose()
    await serving


async def test_a_decision_has_a_deadline(group: tofu.ChannelGroup, listener: tofu.Listener) -> None:
    async def decide(channel: tofu.Channel) -> None:
        await asyncio.Event().wait()

    serving = asyncio.create_task(listener.serve(echo, decide=decide, decide_timeout=0.05))
    with pytest.raises(tofu.ConnectFailed, match=r"no decision was made within 0.05 s \(not_all"):
        await group.connect(listener.address)
    await listener.aclose()
    await serving


async def test_a_decision_ends_when_nobody_waits_for_it(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def decide(channel: tofu.Channel) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    serving = asyncio.create_task(listener.serve(echo, decide=decide, decide_timeout=1000))
    connecting = asyncio.create_task(group.connect(listener.address))
    await begun.wait()
    connecting.cancel()
    async with asyncio.timeout(20):
        await cancelled.wait()
    await listener.aclose()
    await serving


@pytest.mark.parametrize("after", range(12))
async def test_serving_may_be_cancelled_while_it_decides(
    group: tofu.ChannelGroup, engine: tofu.Engine, listener: tofu.Listener, after: int
) -> None:
    async def decide(channel: tofu.Channel) -> None:
        await turns(3)

    serving = asyncio.create_task(listener.serve(echo, decide=decide))
    with await RawPeer.connect(listener.address) as peer:
        await peer.send(hello())
        await turns(after)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        for _ in range(len(listener._ready.items)):
            (await listener.receive_hello()).abort()
    await until(lambda: engine.statistics().channels == 1)


async def test_the_shortcut_asks_too() -> None:
    async def decide(channel: tofu.Channel) -> None:
        raise tofu.Rejected("closed today")

    async def serve(*, task_status: anyio.abc.TaskStatus[tofu.Address]) -> None:
        await tofu.serve(echo, "tcp://127.0.0.1:0", decide=decide, task_status=task_status)

    async with anyio.create_task_group() as tasks:
        where = await tasks.start(serve)
        with pytest.raises(tofu.ConnectFailed, match="closed today"):
            async with tofu.connect(where):
                pass
        tasks.cancel_scope.cancel()


# --- undecided -------------------------------------------------------------------------------


async def test_undecided_channels_take_slots(
    group: tofu.ChannelGroup, listener: tofu.Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do until they are accepted or closed: not deciding blocks the listener."""
    monkeypatch.setattr(admission_module, "PENDING_CHANNELS", 2)
    connecting = [asyncio.create_task(group.connect(listener.address)) for _ in range(4)]
    first, second = [await listener.receive_hello() for _ in range(2)]
    third = asyncio.create_task(listener.receive_hello())
    await turns(50)
    assert (undecided(listener), third.done()) == (2, False)
    first.accept()
    fourth = asyncio.create_task(_next(third, listener))
    await second.reject("no")
    (await fourth).accept()
    third.result().accept()
    results = await asyncio.gather(*connecting, return_exceptions=True)
    clients = [result for result in results if isinstance(result, tofu.Channel)]
    assert (len(clients), undecided(listener)) == (3, 0)
    await asyncio.gather(*(c.aclose() for c in (*clients, first, third.result(), fourth.result())))


async def _next(before: asyncio.Task[tofu.Channel], listener: tofu.Listener) -> tofu.Channel:
    await before
    return await listener.receive_hello()


# --- who is there ----------------------------------------------------------------------------


async def test_the_peer_over_tcp(group: tofu.ChannelGroup, listener: tofu.Listener) -> None:
    with await RawPeer.connect(listener.address) as peer:
        await peer.send(hello())
        server = await listener.receive_hello()
        host, port = peer.sock.getsockname()
        assert server.peer == tofu.Peer(tofu.TcpAddress(host, port), None, None, None)
        peer.close()
        await until(lambda: server.state is State.CLOSED)
        assert server.peer.address == tofu.TcpAddress(host, port), "it stays known"


async def test_the_peer_over_a_unix_socket(group: tofu.ChannelGroup, socket_path: str) -> None:
    async with await group.listen(f"uds://{socket_path}") as listener:
        client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
        me = tofu.Credentials(os.getpid(), os.geteuid(), os.getegid())
        assert server.peer == tofu.Peer(None, me, None, None)
        assert client.peer == tofu.Peer(listener.address, me, None, None)
        await asyncio.gather(client.aclose(), server.aclose())


async def test_a_peer_that_left_at_once_may_still_be_known(
    group: tofu.ChannelGroup, transport_address: str
) -> None:
    async with await group.listen(transport_address) as listener:
        client = await RawPeer.connect(listener.address)
        await client.send(hello())
        client.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                server = await listener.receive_hello()
                await settled(server)
                assert repr(server.peer)
                server.abort()


async def test_accepting_by_a_message_frees_the_slot(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    connecting = asyncio.create_task(group.connect(listener.address))
    server = await listener.receive_hello()
    assert undecided(listener) == 1
    server.post(tofu.Message(OpCode.HELLO_RESPONSE))
    assert undecided(listener) == 0
    async with server, await connecting as client:
        assert (client.state, server.state) == (State.OPEN, State.OPEN)
