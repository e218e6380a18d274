"""What the features of channels share: a service that answers what it gets, until it is lost."""

from __future__ import annotations

import asyncio

import tofu_aio as tofu
from tests.network.peer import Peer, body, number_of, until

_AT_ONCE = 8
"""Requests of a round."""


async def echo(peer: Peer, channel: tofu.Channel) -> None:
    """Answer each request with its body; report how the channel ends."""
    try:
        async for request in channel:
            with request:
                await channel.reply(request, request.body)
    except tofu.TofuError as error:
        report_end(peer, error)


async def ask_some(channel: tofu.Channel) -> None:
    """Make some requests at once, and check the answers."""

    async def ask(number: int) -> None:
        with await channel.request(body(number)) as response:
            assert number_of(response.body) == number

    async with asyncio.TaskGroup() as tasks:
        for number in range(_AT_ONCE):
            tasks.create_task(ask(number))


async def overhear(engine: tofu.Engine, nbytes: int) -> None:
    """Wait until as many more bytes have come to an engine, whatever they are."""
    before = engine.statistics().received_bytes
    await until(lambda: engine.statistics().received_bytes >= before + nbytes)


def report_end(peer: Peer, error: tofu.TofuError) -> None:
    """Report an error by which a channel has ended."""
    peer.report("lost", error=type(error).__name__, text=str(error))
