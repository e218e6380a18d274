"""What is kept of the peer's requests that come in parts, and when it is released."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

import tofu_aio as tofu
from tests.messaging.peers import RawPeer, frame
from tests.messaging.worlds import World, modern_peer, world_of
from tofu_aio import OpCode, Status
from tofu_aio.messaging.delivery import incoming_requests as incoming_module
from tofu_aio.protocol.op_code import MORE_BIT

FIRST = OpCode.REQUEST | MORE_BIT

PART = bytes(65_535)


@asynccontextmanager
async def heard_by_hand(
    world: World, **limits: float
) -> AsyncIterator[tuple[tofu.Channel, RawPeer]]:
    """A channel, and its peer that knows this library's extensions."""
    listener = await world.listen(await world.group(**limits))
    accepting = asyncio.create_task(listener.accept())
    with await modern_peer(listener.address) as peer:
        channel = await accepting
        yield channel, peer
        channel.abort()


def opened(message_id: int) -> bytes:
    """The first of the parts of a request."""
    return frame(FIRST, PART, b"~whole:196605\r\n", message_id=message_id)


def withdrawn(message_id: int) -> bytes:
    """The peer cancels it."""
    return frame(FIRST, status=Status.PROCESSING_FAILED, message_id=message_id)


def given_up(message_id: int) -> bytes:
    """It ends as one that could not be sent to its end."""
    return frame(OpCode.REQUEST, status=Status.PROCESSING_FAILED, message_id=message_id)


def finished(message_id: int) -> bytes:
    """All of it is here."""
    return frame(OpCode.REQUEST, b"end", message_id=message_id)


@pytest.mark.parametrize("end", [withdrawn, given_up, finished])
async def test_the_share_of_the_room_comes_back_with_each_request(
    end: Callable[[int], bytes],
) -> None:
    """However many there were: one that could not come back would be refused in the end."""
    async with (
        world_of("tcp", 8) as world,
        heard_by_hand(world, joining_bytes=400_000, channel_share=0.5) as (channel, peer),
    ):
        for message_id in range(1, 21):
            await peer.send(opened(message_id) + end(message_id))
            if end is finished:
                with await channel.receive() as request:
                    assert request.body == PART + b"end"
                del request
        await peer.send(frame(OpCode.SIGNAL, b"next"))
        with await channel.receive() as signal:
            assert signal.body == b"next"
        assert world.engines[0].statistics().joining_bytes == 0
        # What its share allows for, and no more if any of those were still counted.
        await peer.send(opened(50) + opened(51) + finished(50) + finished(51))
        for _ in range(2):
            with await channel.receive() as request:
                assert request.body == PART + b"end"
            del request


def parts_of(message_id: int, *bodies: bytes) -> bytes:
    """A request in a number of parts."""
    protos = [FIRST] * (len(bodies) - 1) + [OpCode.REQUEST]
    return b"".join(
        frame(proto, body, message_id=message_id)
        for proto, body in zip(protos, bodies, strict=True)
    )


async def test_an_exchange_whose_id_is_used_again_leaves_the_newer_one_alone() -> None:
    """Its caller has it no more: neither its end nor anything else of it is for the newer one."""
    async with world_of("tcp", 8) as world, heard_by_hand(world) as (channel, peer):
        await peer.send(parts_of(9, b"a1", b"a2"))
        earlier = channel.stream(await channel.receive())
        assert [part.body async for part in earlier] == [b"a1", b"a2"]
        await peer.send(frame(FIRST, b"b1", message_id=9))
        newer = channel.stream(await channel.receive())
        with pytest.raises(tofu.ExchangeFailed, match="has used its message id again"):
            await earlier.send(b"for nobody")
        await earlier.aclose()
        await peer.send(frame(OpCode.REQUEST, b"b2", message_id=9))
        assert [part.body async for part in newer] == [b"b1", b"b2"]
        await newer.finish(b"all")
        answer = await peer.message()
        assert (answer.message_id, answer.status, answer.body) == (9, Status.SUCCESS, b"all")


async def test_while_its_parts_come_an_id_is_not_used_again() -> None:
    async with world_of("tcp", 8) as world, heard_by_hand(world) as (channel, peer):
        await peer.send(frame(FIRST, b"a1", message_id=9) + frame(FIRST, b"a2", message_id=9))
        first, second = await channel.receive(), await channel.receive()
        async with channel.stream(first):
            with pytest.raises(tofu.InvalidMessageId, match="is in progress already"):
                channel.stream(second)
        second.release()


async def test_of_streams_that_are_left_early_only_the_latest_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the others the rest may never come: what is known of them would grow without end."""
    monkeypatch.setattr(incoming_module, "OPEN_REQUESTS", 3)
    async with world_of("tcp", 8) as world, heard_by_hand(world) as (channel, peer):
        for message_id in range(1, 6):
            await peer.send(frame(FIRST, b"first", message_id=message_id))
            async with channel.stream(await channel.receive()):
                pass
        assert list(channel._dispatcher.incoming_requests().parts) == [3, 4, 5]
        await peer.send(
            frame(OpCode.REQUEST, b"late", message_id=3) + frame(OpCode.SIGNAL, b"next")
        )
        with await channel.receive() as signal:
            assert signal.body == b"next"
        assert list(channel._dispatcher.incoming_requests().parts) == [4, 5]
        assert channel.statistics().late_responses == 1
