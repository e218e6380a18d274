"""What each coroutine of an exchange in parts promises when it is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

import anyio

import tofu_aio as tofu
from tests.faults.promises import Case, Promise, World, bodies_of, finished
from tests.messaging.peers import answers_of, heard_by, until

Step = Callable[[tofu.Exchange], Coroutine[Any, Any, Any]]


async def sending(world: World, step: Step) -> Promise:
    """The peer gets the part whole or not at all; and unless all was sent it learns of it."""
    mine, theirs = await world.pair()

    async def hear() -> tuple[list[bytes], bool]:
        bodies = []
        async with theirs.stream(await theirs.receive()) as heard:
            with contextlib.suppress(tofu.ExchangeFailed):
                async for part in heard:
                    with part:
                        bodies.append(part.body)
                return bodies, True
        return bodies, False

    hearing = asyncio.create_task(hear())
    async with mine.stream() as exchange:
        await exchange.send(b"first")
        # Else the peer may be told that it is taken back before it has begun.
        await until(lambda: heard_by(theirs).exchanges)
        outcome = yield step(exchange)
        assert outcome.cancelled or outcome.completed
        # The peer, who has nothing to say, may have left by now: that takes nothing away.
        whole = exchange._finished and not isinstance(exchange._parts.end, tofu.ChannelClosed)
    ((bodies, ended),) = await finished(hearing)
    assert bodies[0] == b"first"
    assert not ended or whole
    assert not answers_of(mine).exchanges
    await asyncio.gather(mine.aclose(), theirs.aclose())


async def receiving(world: World, how: str) -> Promise:
    """No part is lost, none comes twice."""
    mine, theirs = await world.pair()

    async def answer() -> None:
        async with theirs.stream(await theirs.receive()) as answering:
            await answering.send(b"1")
            await answering.finish(b"2")

    answering = asyncio.create_task(answer())
    async with mine.stream() as exchange:
        await exchange.finish(b"?")
        outcome = yield getattr(exchange, how)()
        got = bodies_of(outcome)
        with contextlib.suppress(anyio.EndOfStream):
            while True:
                with await exchange.receive() as part:
                    got.append(part.body)
    assert got == [b"1", b"2"]
    await finished(answering)
    await asyncio.gather(mine.aclose(), theirs.aclose())


STEPS: Final[dict[str, Step]] = {
    "send": lambda exchange: exchange.send(b"item"),
    "send, in pieces": lambda exchange: exchange.send(bytes(200_000)),
    "finish": lambda exchange: exchange.finish(b"item"),
    "finish, in pieces": lambda exchange: exchange.finish(bytes(200_000)),
    "send_eof": lambda exchange: exchange.send_eof(),
    "aclose": lambda exchange: exchange.aclose(),
    "__aenter__": lambda exchange: exchange.__aenter__(),
    "__aexit__": lambda exchange: exchange.__aexit__(None, None, None),
}

CASES: Final[dict[str, Case]] = {
    **{f"Exchange.{name}": partial(sending, step=step) for name, step in STEPS.items()},
    "Exchange.receive": partial(receiving, how="receive"),
    "Exchange.__anext__": partial(receiving, how="__anext__"),
}
