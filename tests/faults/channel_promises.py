"""What each coroutine of a channel promises when it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

import tofu_aio as tofu
from tests.faults.promises import Case, Promise, World, all_of, bodies_of, echo, finished, item
from tests.messaging.peers import (
    PATIENCE,
    Pair,
    connection_of,
    held_up,
    remembered,
    settled,
    turns,
    until,
)
from tofu_aio import OpCode, State


async def receiving(world: World, how: str) -> Promise:
    """No message is lost, none comes twice."""
    mine, theirs = await world.pair()
    for body in (b"1", b"2"):
        theirs.post(item(body))
    outcome = yield getattr(mine, how)()
    got = bodies_of(outcome)
    while len(got) < 2:
        got.append((await mine.receive()).body)
    assert got == [b"1", b"2"]


async def receiving_the_end(world: World) -> Promise:
    """The end is still told to whoever asks next."""
    mine, theirs = await world.pair()
    closing = asyncio.create_task(theirs.aclose())
    outcome = yield mine.receive()
    assert outcome.cancelled or isinstance(outcome.error, tofu.ChannelEnded)
    try:
        await mine.receive()
    except tofu.ChannelEnded:
        await finished(closing)
    else:
        raise AssertionError("something came after the end")


async def receiving_without_a_permit(world: World) -> Promise:
    """Likewise where messages wait for the pool."""
    mine, theirs = await world.pair()
    for number in range(7):
        theirs.post(item(b"%d" % number))
    held = [await mine.receive() for _ in range(4)]
    await until(lambda: held_up(world.engine))
    asyncio.get_running_loop().call_soon(held[0].release)
    outcome = yield mine.receive()
    for message in held:
        message.release()
    got = bodies_of(outcome)
    while len(got) < 3:
        with await mine.receive() as message:
            got.append(message.body)
    assert got == [b"4", b"5", b"6"]


Sending = Callable[[Pair, tofu.Message], Coroutine[Any, Any, Any]]


async def sending(world: World, send: Sending, *, room: bool) -> Promise:
    """The peer gets the message whole or not at all, and nothing else is harmed."""
    mine, theirs = await world.pair()
    theirs.post(tofu.Message(OpCode.REQUEST, b"asked"))
    asked = await mine.receive()
    if not room:
        while not connection_of(mine).queue.paused:
            mine.post(item(bytes(60_000)))
            await turns(1)
        await settled(mine, theirs)
    receiving = asyncio.create_task(all_of(theirs))
    outcome = yield send(Pair(mine, theirs), asked)
    assert outcome.cancelled or outcome.completed
    await mine.send(item(b"afterwards"))
    await mine.aclose()
    (bodies,) = await finished(receiving)
    assert [body for body in bodies if len(body) < 60_000] == (
        [b"item", b"afterwards"] if outcome.completed else [b"afterwards"]
    )


async def two_senders(world: World) -> Promise:
    """Who waits behind a sender that is cancelled gets its turn."""
    mine, theirs = await world.pair()
    while not connection_of(mine).queue.paused:
        mine.post(item(bytes(60_000)))
        await turns(1)
    await settled(mine, theirs)
    first = asyncio.create_task(mine.send(item(b"first")))
    await turns(1)
    receiving = asyncio.create_task(all_of(theirs))
    last: list[asyncio.Task[None]] = []
    asyncio.get_running_loop().call_soon(
        lambda: last.append(asyncio.create_task(mine.send(item(b"last"))))
    )
    outcome = yield mine.send(item(b"item"))
    await until(lambda: last)
    await finished(first, *last)
    await mine.aclose()
    (bodies,) = await finished(receiving)
    expected = [b"first", b"item", b"last"] if outcome.completed else [b"first", b"last"]
    assert [body for body in bodies if len(body) < 60_000] == expected


async def requesting(world: World, **options: Any) -> Promise:
    """No trace: the next request works, a late response is dropped, and nobody receives it."""
    mine, theirs = await world.pair()
    serving = asyncio.create_task(echo(theirs))
    outcome = yield mine.request(b"1", **options)
    assert remembered(mine) == 0
    if outcome.completed:
        assert outcome.result.body == b"1"
        outcome.result.release()
    with await mine.request(b"2") as response:
        assert response.body == b"2"
    # Taken back in time it is never answered; what is answered, somebody got, or it came too late.
    answered = theirs.statistics().sent - 1  # but for the Hello
    assert outcome.cancelled or answered == 2
    assert mine.statistics().late_responses == answered - (1 if outcome.cancelled else 2)
    assert remembered(mine) == 0
    assert not mine._mailbox.items
    now = world.engine.statistics()
    assert (now.pool_free, now.reserves) == (4, 0)
    await mine.aclose()
    await finished(serving)


async def requesting_in_vain(world: World) -> Promise:
    """Likewise where its own deadline passes, or is the one that cancels."""
    mine, theirs = await world.pair()
    outcome = yield mine.request(b"1", timeout=0.02)
    assert outcome.cancelled or isinstance(outcome.error, TimeoutError)
    assert remembered(mine) == 0
    theirs.abort()


async def closing(world: World, how: Callable[[tofu.Channel], Coroutine[Any, Any, Any]]) -> Promise:
    """It is closed, whatever happens: with a Bye, or reset."""
    mine, theirs = await world.pair()
    mine.post(item(b"before"))
    receiving = asyncio.create_task(all_of(theirs))
    outcome = yield how(mine)
    assert mine.state is State.CLOSED
    await until(connection_of(mine).closing.done.done)
    (bodies,) = await finished(receiving)
    assert bodies == [b"before"] or (outcome.cancelled and bodies == [])
    assert isinstance(theirs.end, tofu.ChannelEnded) or outcome.cancelled
    await theirs.aclose()
    await until(lambda: world.engine.statistics().channels == 0)


async def closing_while_starved(world: World) -> Promise:
    """Likewise where what it would read has no permit."""
    mine, theirs = await world.pair()
    for _ in range(9):
        theirs.post(item(b"unread"))
    await until(lambda: held_up(world.engine))
    receiving = asyncio.create_task(all_of(theirs))
    yield mine.aclose()
    await until(connection_of(mine).closing.done.done)
    assert held_up(world.engine) == 0
    await finished(receiving)
    await theirs.aclose()


async def entering(world: World) -> Promise:
    """It never waits."""
    mine, theirs = await world.pair()
    yield mine.__aenter__()
    await asyncio.gather(mine.aclose(), theirs.aclose())


async def half_closing(world: World) -> Promise:
    """It never waits, so there is no moment in which to cancel it."""
    mine, theirs = await world.pair()
    outcome = yield mine.send_eof()
    if outcome.completed:
        await finished(asyncio.create_task(all_of(theirs)))
    await asyncio.gather(mine.aclose(), theirs.aclose())


async def hearing_of_a_drain(world: World) -> Promise:
    """Cancelled, the notice is not lost: the channel is draining, and says so again."""
    mine, theirs = await world.pair()
    theirs.drain()
    yield mine.wait_draining()
    async with asyncio.timeout(PATIENCE):
        await mine.wait_draining()
    assert mine.draining
    await asyncio.gather(mine.aclose(), theirs.aclose())


SENDING: Final[dict[str, Sending]] = {
    "send": lambda pair, _: pair.client.send(item(b"item")),
    "signal": lambda pair, _: pair.client.signal(b"item"),
    "reply": lambda pair, asked: pair.client.reply(asked, b"item"),
}

CASES: Final[dict[str, Case]] = {
    "Channel.receive": partial(receiving, how="receive"),
    "Channel.__anext__": partial(receiving, how="__anext__"),
    "Channel.receive, the end": receiving_the_end,
    "Channel.receive, no permit": receiving_without_a_permit,
    **{f"Channel.{name}": partial(sending, send=f, room=True) for name, f in SENDING.items()},
    **{
        f"Channel.{name}, no room": partial(sending, send=f, room=False)
        for name, f in SENDING.items()
    },
    "Channel.send, one of three": two_senders,
    "Channel.request": requesting,
    "Channel.request, timeout": partial(requesting, timeout=60),
    "Channel.request, in vain": requesting_in_vain,
    "Channel.__aenter__": entering,
    "Channel.wait_draining": hearing_of_a_drain,
    "Channel.aclose": partial(closing, how=lambda channel: channel.aclose()),
    "Channel.__aexit__": partial(closing, how=lambda channel: channel.__aexit__(None, None, None)),
    "Channel.aclose, no permit": closing_while_starved,
    "Channel.send_eof": half_closing,
}
