"""What a peer sent before it disconnected is delivered, even if a write notices the loss first."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator

import pytest

import tofu_aio as tofu
from tests.messaging.peers import (
    RESET,
    RawPeer,
    check_nothing_is_held,
    connection_of,
    frame,
    hello,
    settled,
    transport_of,
    until,
)
from tests.systems import keeps_what_came_before_a_reset
from tofu_aio import OpCode
from tofu_aio.messaging.connection.connection import Connection
from tofu_aio.transport import unread as unread_module
from tofu_aio.transport.unread import unread_of


@pytest.fixture
async def lost_channel(
    group: tofu.ChannelGroup, transport_address: str
) -> AsyncIterator[tofu.Channel]:
    """A channel that waits for permits, whose peer sent 20 messages and then reset.

    Five are in the mailbox, for its reserve and half of the pool; some are in the decoder, the rest
    in the kernel; and the loss has been noticed by writing.
    """
    async with await group.listen(transport_address) as listener:
        peer = await RawPeer.connect(listener.address)
        await peer.send(hello())
        channel = await listener.accept()
        await peer.send(b"".join(frame(body=b"%d" % number) for number in range(9)))
        await until(lambda: not transport_of(channel).is_reading())
        for number in range(9, 20):
            await peer.send(frame(body=b"%d" % number))
        await peer.reset()
        while channel.end is None:
            channel.post(tofu.Message(OpCode.SIGNAL, b"is anybody there?"))
            await settled(channel)
        async with channel:
            yield channel


@keeps_what_came_before_a_reset
async def test_what_the_kernel_holds_is_delivered(lost_channel: tofu.Channel) -> None:
    for number in range(20):
        with await lost_channel.receive() as message:
            assert message.body == b"%d" % number
    with pytest.raises(tofu.PeerDisconnected):
        await lost_channel.receive()


@keeps_what_came_before_a_reset
async def test_it_is_read_only_as_far_as_there_are_permits(
    lost_channel: tofu.Channel, engine: tofu.Engine
) -> None:
    assert lost_channel.statistics().received == 6  # with the Hello
    (await lost_channel.receive()).release()
    await settled(lost_channel)
    assert lost_channel.statistics().received == 7
    now = engine.statistics()
    assert (now.pool_free, now.reserves) == (4, 1), "the reserve, and its share of the pool"


@pytest.mark.skipif(sys.platform == "win32", reason="there a reset takes what was not read yet")
async def test_it_is_delivered_although_the_loss_is_noticed_as_writing_resumes(
    group: tofu.ChannelGroup, transport_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resume = Connection.resume_writing

    def resume_with_a_dead_peer(connection: Connection) -> None:
        if peer.sock.fileno() >= 0:
            peer.sock.send(b"".join(frame(OpCode.SIGNAL, b"%d" % number) for number in range(3)))
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            peer.sock.close()
        resume(connection)

    async with await group.listen(transport_address) as listener:
        peer = await RawPeer.connect(listener.address)
        await peer.send(hello())
        async with await listener.accept() as channel:
            while not connection_of(channel).queue.paused:
                await channel.signal(bytes(30_000))
            channel.post(tofu.Message(OpCode.SIGNAL, b"queued"))
            monkeypatch.setattr(Connection, "resume_writing", resume_with_a_dead_peer)
            while peer.sock.fileno() >= 0:
                with contextlib.suppress(BlockingIOError):
                    peer.sock.recv(65536)
                await asyncio.sleep(0)
            for number in range(3):
                with await channel.receive() as message:
                    assert message.body == b"%d" % number
            with pytest.raises(tofu.PeerDisconnected):
                await channel.receive()


@pytest.mark.parametrize("how", ["aclose", "abort"])
async def test_it_is_no_hindrance_to_closing(
    lost_channel: tofu.Channel, engine: tofu.Engine, how: str
) -> None:
    if how == "aclose":
        await lost_channel.aclose()
    else:
        lost_channel.abort()
    assert connection_of(lost_channel).closing.done.done()
    check_nothing_is_held(engine)


async def test_without_descriptors_only_the_unread_data_is_lost(
    group: tofu.ChannelGroup, listener: tofu.Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError(24, "too many open files")

    peer = await RawPeer.connect(listener.address)
    await peer.send(hello())
    channel = await listener.accept()
    await peer.send(frame(body=b"here"))
    await until(lambda: channel.statistics().received == 2)
    monkeypatch.setattr(unread_module.socket, "fromfd", refuse)
    await peer.reset()
    assert (await channel.receive()).body == b"here"
    with pytest.raises(tofu.PeerDisconnected):
        await channel.receive()


async def test_a_transport_without_a_socket_leaves_nothing() -> None:
    left, right = socket.socketpair()
    with left, right:
        assert unread_of(asyncio.Transport({})) is None
        found = unread_of(asyncio.Transport({"socket": left}))
        assert found is not None
        right.send(b"rest")
        right.close()
        assert [found.read(), found.read()] == [b"rest", b""]
