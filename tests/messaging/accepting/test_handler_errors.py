"""Exceptions of handlers and decisions: reports of an end, and faults."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import tofu_aio as tofu
from tests.handlers import FAULTS, THE_PEERS, Raised, told
from tests.messaging.peers import RawPeer, turns, until
from tofu_aio import Status


@pytest.fixture(autouse=True)
def listening(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


async def stopped(serving: asyncio.Task[None], listener: tofu.Listener) -> None:
    await listener.aclose()
    await serving


@pytest.mark.parametrize("raised", THE_PEERS)
async def test_what_the_peer_has_done_ends_the_channel_in_order_and_is_no_error(
    group: tofu.ChannelGroup,
    listener: tofu.Listener,
    caplog: pytest.LogCaptureFixture,
    raised: Raised,
) -> None:
    async def handler(channel: tofu.Channel) -> None:
        raise raised(channel.number)

    serving = asyncio.create_task(listener.serve(handler))
    async with await group.connect(listener.address) as client:
        with pytest.raises(tofu.ChannelEnded):
            await client.receive()
    await stopped(serving, listener)
    (record,) = told(caplog)
    assert (record.levelno, record.exc_info) == (logging.INFO, None)


async def iterates(channel: tofu.Channel) -> None:
    async for message in channel:
        message.release()


async def receives(channel: tofu.Channel) -> None:
    await channel.receive()


async def asks(channel: tofu.Channel) -> None:
    await channel.request(b"are you there?")


async def receives_in_a_group(channel: tofu.Channel) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(receives(channel))


async def heard(client: tofu.Channel) -> tofu.TofuError | None:
    """Receive messages without answering them, and return the end."""
    async with client:
        await iterates(client)
    return client.end


@pytest.mark.parametrize("handler", [iterates, receives, asks, receives_in_a_group])
async def test_to_close_the_engine_ends_its_channels_in_order_and_is_nobody_s_fault(
    group: tofu.ChannelGroup,
    caplog: pytest.LogCaptureFixture,
    handler: Callable[[tofu.Channel], Awaitable[None]],
) -> None:
    async with tofu.Engine() as closing:
        listener = await closing.create_group().listen("tcp://127.0.0.1:0")
        serving = asyncio.create_task(listener.serve(handler))
        clients = [await group.connect(listener.address) for _ in range(3)]
        hearing = [asyncio.create_task(heard(client)) for client in clients]
        await until(lambda: closing.statistics().channels == 4)
        await turns(3)
        await closing.aclose()
        await serving
    for end in await asyncio.gather(*hearing):
        assert isinstance(end, tofu.ChannelEnded)
    assert [(record.levelno, record.exc_info) for record in told(caplog)] == [
        (logging.INFO, None)
    ] * 3


@pytest.mark.parametrize("raised", FAULTS)
async def test_a_fault_resets_the_channel_and_is_an_error(
    group: tofu.ChannelGroup,
    listener: tofu.Listener,
    caplog: pytest.LogCaptureFixture,
    raised: Raised,
) -> None:
    error: list[Exception] = []

    async def handler(channel: tofu.Channel) -> None:
        error.append(raised(channel.number))
        raise error[0]

    serving = asyncio.create_task(listener.serve(handler))
    async with await group.connect(listener.address) as client:
        with pytest.raises(tofu.PeerDisconnected):
            await client.receive()
    await stopped(serving, listener)
    (record,) = told(caplog)
    assert record.levelno == logging.ERROR
    assert record.exc_info
    assert record.exc_info[1] is error[0], "whole, whatever of it the peer did"
    assert record.getMessage().startswith("the handler of <Channel ")


@pytest.mark.parametrize("in_a_group", [False, True])
async def test_a_handler_whose_peer_was_lost_has_made_no_error(
    group: tofu.ChannelGroup,
    listener: tofu.Listener,
    caplog: pytest.LogCaptureFixture,
    in_a_group: bool,
) -> None:
    handled = asyncio.Event()

    async def handler(channel: tofu.Channel) -> None:
        try:
            await channel.receive()
        except tofu.PeerDisconnected as error:
            if in_a_group:
                raise ExceptionGroup("tasks", [error]) from None
            raise
        finally:
            handled.set()

    serving = asyncio.create_task(listener.serve(handler))
    peer = await RawPeer.introduced(listener.address)
    await peer.reset()
    await handled.wait()
    await stopped(serving, listener)
    (record,) = told(caplog)
    assert (record.levelno, record.exc_info) == (logging.INFO, None)


async def test_the_log_names_what_the_tasks_of_a_handler_raised_each_once(
    group: tofu.ChannelGroup, listener: tofu.Listener, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(text: str) -> None:
        raise tofu.PeerDisconnected(text)

    async def handler(channel: tofu.Channel) -> None:
        with pytest.raises(tofu.PeerDisconnected):
            await channel.receive()
        async with asyncio.TaskGroup() as tasks:
            for text in ("gone", "gone", "lost", "over", "out", "away"):
                tasks.create_task(answer(text))

    serving = asyncio.create_task(listener.serve(handler))
    peer = await RawPeer.introduced(listener.address)
    await peer.reset()
    await until(lambda: told(caplog))
    await stopped(serving, listener)
    (record,) = told(caplog)
    assert record.getMessage().endswith(" closed>: gone; lost; over; 2 more")


async def test_a_bug_after_the_peer_was_lost_is_still_one(
    group: tofu.ChannelGroup, listener: tofu.Listener, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(channel: tofu.Channel) -> None:
        try:
            await channel.receive()
        except tofu.PeerDisconnected:
            raise ZeroDivisionError("tidying up") from None

    serving = asyncio.create_task(listener.serve(handler))
    peer = await RawPeer.introduced(listener.address)
    await peer.reset()
    await until(lambda: told(caplog))
    await stopped(serving, listener)
    (record,) = told(caplog)
    assert record.levelno == logging.ERROR


async def test_a_decision_s_refusal_is_told_and_its_bug_is_logged(
    group: tofu.ChannelGroup, listener: tofu.Listener, caplog: pytest.LogCaptureFixture
) -> None:
    async def decide(channel: tofu.Channel) -> None:
        if channel.hello.body == b"bug":
            raise ZeroDivisionError("a secret")
        raise tofu.Rejected("other port", Status.WRONG_ADDRESS)

    async def handler(channel: tofu.Channel) -> None:
        raise AssertionError("it was not accepted")

    serving = asyncio.create_task(listener.serve(handler, decide=decide))
    with pytest.raises(tofu.ConnectFailed, match=r"other port \(wrong_address\)$"):
        await group.connect(listener.address)
    assert told(caplog) == []
    with pytest.raises(tofu.ConnectFailed, match=r"the decision failed \(processing_failed\)$"):
        await group.connect(listener.address, body=b"bug")
    await stopped(serving, listener)
    (record,) = told(caplog)
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("the decision on <Channel ")


async def test_functions_that_are_not_async_are_told_to_be(
    group: tofu.ChannelGroup, listener: tofu.Listener, caplog: pytest.LogCaptureFixture
) -> None:
    def plain(channel: tofu.Channel) -> Any:
        return b"done"

    def decide(channel: tofu.Channel) -> Any:
        return asyncio.sleep(0) if channel.hello.body == b"handle" else plain(channel)

    serving = asyncio.create_task(listener.serve(plain, decide=decide))
    with pytest.raises(tofu.ConnectFailed, match="the decision failed"):
        await group.connect(listener.address)
    async with await group.connect(listener.address, body=b"handle") as client:
        with pytest.raises(tofu.PeerDisconnected):
            await client.receive()
    await stopped(serving, listener)
    assert [str(record.exc_info[1]) for record in told(caplog) if record.exc_info] == [
        f"{name} returned b'done': make it an async function" for name in ("decide", "handler")
    ]
