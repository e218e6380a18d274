"""A task that waits for a group's next message is lent room, at no cost to other groups."""

from __future__ import annotations

import asyncio

import pytest

import tofu_aio as tofu
from tests.messaging.peers import RawPeer, frame, turns, until
from tests.messaging.test_leaving_undecided import close, listening
from tofu_aio import Message, OpCode, Status


async def introduced(group: tofu.ChannelGroup) -> tuple[RawPeer, int]:
    """A peer that has a channel of messages; and its listener."""
    listener, where = await listening(group)
    peer = await RawPeer.connect(where)
    await peer.send(frame(OpCode.HELLO_REQUEST))
    answer = Message(OpCode.HELLO_RESPONSE)
    answer.channel_number = (await group.receive()).channel_number
    group.post(answer)
    return peer, listener


async def flooded(group: tofu.ChannelGroup) -> tuple[RawPeer, int]:
    """The same, and the channel waits for permits."""
    peer, listener = await introduced(group)
    await peer.send(frame(body=b"x") * 20)
    await until(lambda: group._posting._held_up)
    return peer, listener


async def ended(group: tofu.ChannelGroup, listener: int) -> None:
    """Receive what is left."""
    while (message := await group.receive()).status is not Status.CHANNEL_CLOSED:
        message.release()
    assert not group._posting._held_up
    await close(group, listener)


async def test_who_keeps_what_it_has_received_is_lent_room_for_the_next(
    group: tofu.ChannelGroup,
) -> None:
    peer, listener = await flooded(group)
    kept = []
    while len(kept) < 8:  # a share of 4 of the pool's 8, the reserve, and some that are lent
        message = await group.receive()
        if message.status is not Status.POOL_EMPTY:
            kept.append(message)
    del message
    kept.clear()
    peer.close()
    await ended(group, listener)


async def test_so_is_who_begins_to_wait_in_the_turn_in_which_its_channel_does(
    group: tofu.ChannelGroup,
) -> None:
    """It goes on within the read event that brought more than there is room for."""
    kept: list[Message] = []

    async def keep() -> None:
        while len(kept) < 8:
            message = await group.receive()
            if message.status is not Status.POOL_EMPTY:
                kept.append(message)

    peer, listener = await introduced(group)
    keeping = asyncio.create_task(keep())
    await until(lambda: group._posting.mailbox.waits)
    await peer.send(frame(body=b"x") * 20)
    await until(keeping.done)
    kept.clear()
    peer.close()
    await ended(group, listener)


class Unseen(dict[object, object]):
    """The waiting channels of an engine, as a collection that must not be searched."""

    def values(self):  # type: ignore[no-untyped-def]
        pytest.fail("somebody looked through the channels of all groups")


async def test_who_waits_looks_at_the_channels_of_its_own_group_only(
    group: tofu.ChannelGroup, engine: tofu.Engine
) -> None:
    peer, listener = await flooded(group)
    pool = engine._gate.pool
    async with engine.create_group() as other:
        pool.suspended = Unseen(pool.suspended)  # type: ignore[assignment,arg-type]
        waiting = asyncio.create_task(other.receive())
        await turns(3)
        assert not waiting.done()
        pool.suspended = dict(pool.suspended)
        other.update_receiver()
        assert (await waiting).status is Status.RECEIVER_UPDATE
    peer.close()
    await ended(group, listener)
