"""A handler that was cancelled may clean up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import tofu_aio as tofu
from tests.messaging.peers import until

from .serving import served


class Cleaning:
    """A handler that takes its time to clean up."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.cleaned = False
        self.channel: tofu.Channel | None = None
        self.service = tofu.Service()
        self.service.handler("take")(self.take)
        self.service.handler("wait")(self.wait)

    async def wait(self, channel: tofu.Channel) -> None:
        self.channel = channel
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await self.may_end.wait()
            self.cleaned = True

    async def take(self, parts: AsyncIterator[bytes], channel: tofu.Channel) -> None:
        async for _ in parts:
            await self.wait(channel)

    async def may_clean(self) -> None:
        """Wait until the handler was cancelled and its channel has ended; then it has to clean."""
        channel = self.channel
        assert channel is not None
        await until(lambda: channel.end is not None, "for the end of the channel")
        self.may_end.set()
        await until(lambda: self.cleaned, "for the handler")


async def test_an_upload_that_breaks_off_cancels_once() -> None:
    cleaning = Cleaning()

    async def parts() -> AsyncIterator[bytes]:
        yield b"first"
        await cleaning.begun.wait()
        raise EOFError

    async with served(cleaning.service) as server, server.client() as client:
        with pytest.raises(EOFError):
            await client.upload("take", parts(), result=type(None))
        await cleaning.may_clean()  # the channel of a stream ends right after it


async def test_a_caller_that_gives_up_and_is_lost_cancels_once() -> None:
    cleaning = Cleaning()
    async with served(cleaning.service) as server:
        async with server.client() as client:
            calling = asyncio.create_task(client.call("wait"))
            await cleaning.begun.wait()
            calling.cancel()
            await asyncio.wait([calling])
        await cleaning.may_clean()


async def test_a_service_that_is_stopped_cancels_once() -> None:
    cleaning = Cleaning()
    async with served(cleaning.service) as server, server.client() as client:
        calling = asyncio.create_task(client.call("wait"))
        await cleaning.begun.wait()
        for session in server.service._sessions:
            session.abort()
        with pytest.raises(tofu.PeerDisconnected):
            await calling
        await cleaning.may_clean()
