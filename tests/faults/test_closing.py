"""An engine closed while everything is in flight: bounded, in order, and nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from random import Random

import pytest

import tofu_aio as tofu
from tests.faults.counting import COUNTS, FULL
from tests.messaging.peers import (
    ENOUGH,
    LARGE_HELLO,
    PATIENCE,
    RawPeer,
    RawServer,
    frame,
    hello,
    turns,
)
from tests.messaging.posting.test_posted import greeting, welcome
from tofu_aio.messaging.connection import closing as closing_module

ROUNDS = 100 if FULL else 4

ENDINGS = (tofu.ChannelClosed, tofu.PeerDisconnected, tofu.Channel, tofu.Message)
"""How a call may end: it learns who closed, or it had succeeded before."""


async def bustle(
    engine: tofu.Engine, raw: RawServer, random: Random, stack: contextlib.AsyncExitStack
) -> list[asyncio.Task[object]]:
    """Streams and messages, floods, requests, receivers, senders, strangers, openings: all busy."""
    here, there, mailbox = (engine.create_group() for _ in range(3))
    listener = await there.listen("tcp://127.0.0.1:0", hello_timeout=60)
    mailbox.post(welcome("tcp://127.0.0.1:0"))
    answer = await mailbox.receive()
    posted_at = tofu.parse_address(answer.headers["~listen_on"])

    async def flood(channel: tofu.Channel) -> None:
        while True:
            await channel.signal(bytes(random.choice((0, 1000, 60_000))))

    async def drain(channel: tofu.Channel) -> None:
        async for message in channel:
            await turns(random.randrange(4))
            message.release()

    async def ask(channel: tofu.Channel) -> None:
        while True:
            (await channel.request(b"?")).release()

    async def answer_all(channel: tofu.Channel) -> None:
        async for message in channel:
            with message:
                await channel.reply(message)

    async def hear_all() -> None:
        closed: set[int] = set()
        while True:
            with await mailbox.receive() as message:
                number = message.channel_number
                assert number not in closed, "something came after channel_closed"
                if message.status is tofu.Status.CHANNEL_CLOSED:
                    closed.add(number)
                elif message.op_code is tofu.OpCode.HELLO_REQUEST and not message.status:
                    accept = tofu.Message(tofu.OpCode.HELLO_RESPONSE)
                    accept.channel_number = number
                    mailbox.post(accept)

    def start(*coroutines: object) -> list[asyncio.Task[object]]:
        return [asyncio.create_task(coroutine) for coroutine in coroutines]  # type: ignore[arg-type]

    tasks = start(hear_all())
    for kind in range(6):
        a, b = await asyncio.gather(here.connect(listener.address), listener.accept())
        match kind:
            case 0:
                tasks += start(flood(a), flood(b))  # nobody receives: starved, and no room
            case 1:
                tasks += start(flood(a), drain(b))
            case 2:
                tasks += start(ask(a), ask(a), answer_all(b))
            case 3:
                tasks += start(a.receive(), a.request(b"never answered"))
            case 4:
                tasks += start(a.aclose())
            case 5:
                a.post(tofu.Message(tofu.OpCode.SIGNAL))
                tasks += start(a.send_eof(), flood(b))
    for data in (
        b"",
        hello()[:20],
        LARGE_HELLO[:ENOUGH],
        hello(),
        hello() + frame(body=b"half", body_len=60_000),
    ):
        peer = stack.enter_context(await RawPeer.connect(listener.address))
        await peer.send(data)
    mailbox.post(greeting(raw.address))  # never answered
    mailbox.post(greeting(posted_at))
    tasks += start(here.connect(raw.address), here.connect(posted_at), listener.accept())
    return tasks


@pytest.mark.timeout(600)
async def test_an_engine_may_close_in_the_middle_of_everything(
    raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing_module, "BYE_TIMEOUT", 0.1)
    for seed in range(ROUNDS):
        random = Random(seed)
        async with contextlib.AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
            engine = tofu.Engine(pool_messages=4)
            async with engine:
                tasks = await bustle(engine, raw_server, random, stack)
                await turns(random.randrange(60))
            left = engine.statistics()
            assert (left.channels, left.waiting, left.over_share) == (0, 0, 0), seed
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                assert result is None or isinstance(result, ENDINGS), (seed, result)
        del tasks, result  # they keep what they were given
        gc.collect()
        now = engine.statistics()
        assert (now.pool_free, now.reserves, now.joining_bytes) == (4, 0, 0), seed
        COUNTS["engines closed in the middle of everything"] += 1
