"""Ordinary programs, which must end no matter how many messages others keep.

Each runs in the engines of a scenario, whose pools are small and shared with everything else in the
scenario. A broken connection may end a program early. Nothing may make one wait without end: then
the world reports a deadlock, with what each task waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random

import tofu_aio as tofu
from tofu_aio.testing import World

_BROKEN = (
    tofu.ConnectFailed,
    tofu.ChannelClosed,
    tofu.PeerDisconnected,
    tofu.ProtocolViolation,
    tofu.ExchangeFailed,
)
"""Errors that a program may end with on a network that breaks connections."""

_LONGEST_BODY = 300_000
Handler = Callable[[tofu.Channel], Awaitable[object]]


async def echo(channel: tofu.Channel) -> None:
    """The echo of the README: the loop variable keeps each message until the next one arrives."""
    async for request in channel:
        await channel.reply(request, request.body)


class Programs:
    """Chooses one of the programs and runs it.

    Args:
        world: the world that it runs in.
        random: the source of its random decisions.
        engines: the server's and the client's engine.
    """

    def __init__(self, world: World, random: Random, engines: list[tofu.Engine]) -> None:
        self._world = world
        self._random = random
        self._server, self._client = engines
        self._kept: list[tofu.Message] = []

    async def run(self) -> None:
        """Run a program, perhaps beside an application that keeps the messages it receives."""
        program = self._random.choice(
            [
                self._gather,
                self._gateways,
                self._loop_variables,
                self._polls,
                self._long,
                self._quit,
            ]
        )
        self._world.note("program", program.__name__)
        try:
            async with contextlib.AsyncExitStack() as stack:
                host = await stack.enter_async_context(self._server.create_group())
                guest = await stack.enter_async_context(self._client.create_group())
                if self._random.random() < 0.5:
                    await stack.enter_async_context(self._holders(host, guest))
                await program(host, guest)
                self._world.note("program", "done")
        except* _BROKEN as broken:
            self._world.note("program", "broken", broken.exceptions[0])
        finally:
            self._kept.clear()

    # --- the programs ---------------------------------------------------------------------

    async def _gather(self, host: tofu.ChannelGroup, guest: tofu.ChannelGroup) -> None:
        """More simultaneous requests than there are permits."""
        async with self._serving(host, echo) as address, self._channel(guest, address) as channel:
            await self._ask(channel, self._random.randint(2, 40))

    async def _gateways(self, host: tofu.ChannelGroup, guest: tofu.ChannelGroup) -> None:
        """A chain of gateways; each handler keeps its request until the next one has answered."""
        async with contextlib.AsyncExitStack() as stack:
            address = await stack.enter_async_context(self._serving(host, echo))
            for _ in range(self._random.randint(1, 3)):
                upstream = await stack.enter_async_context(self._channel(host, address))
                handler = self._gateway(upstream)
                address = await stack.enter_async_context(self._serving(host, handler))
            channel = await stack.enter_async_context(self._channel(guest, address))
            await self._ask(channel, self._random.randint(2, 25))

    async def _loop_variables(self, host: tofu.ChannelGroup, guest: tofu.ChannelGroup) -> None:
        """More clients than permits; each makes requests and stays connected."""
        async with (
            self._serving(host, echo) as address,
            contextlib.AsyncExitStack() as stack,
        ):
            for _ in range(self._random.randint(2, 12)):
                channel = await stack.enter_async_context(self._channel(guest, address))
                for _ in range(self._random.randint(1, 3)):
                    await self._ask(channel, 1)

    async def _polls(self, host: tofu.ChannelGroup, guest: tofu.ChannelGroup) -> None:
        """Each handler keeps its request until something happens."""
        happened = asyncio.Event()

        async def handler(channel: tofu.Channel) -> None:
            async for request in channel:
                await happened.wait()
                await channel.reply(request, request.body)

        async with (
            self._serving(host, handler) as address,
            contextlib.AsyncExitStack() as stack,
            asyncio.TaskGroup() as tasks,
        ):
            stack.callback(happened.set)
            for _ in range(self._random.randint(2, 12)):
                channel = await stack.enter_async_context(self._channel(guest, address))
                tasks.create_task(self._ask(channel, 1))
            await asyncio.sleep(1)
            happened.set()

    async def _long(self, host: tofu.ChannelGroup, guest: tofu.ChannelGroup) -> None:
        """Bodies that take several messages each; some are too long."""
        async with (
            self._serving(host, echo) as address,
            self._channel(guest, address) as channel,
            asyncio.TaskGroup() as tasks,
        ):
            for _ in range(self._random.randint(1, 5)):
                tasks.create_task(self._ask_at_length(channel))

    async def _quit(self, host: tofu.ChannelGroup, guest: tofu.ChannelGroup) -> None:
        """Requests that time out, whose handlers then stop."""

        async def answer(channel: tofu.Channel, request: tofu.Message) -> None:
            with channel.cancel_scope(request):
                await asyncio.sleep(self._random.choice([0.001, 0.1, 10.0]))
                await channel.reply(request, request.body)

        async def handler(channel: tofu.Channel) -> None:
            async with asyncio.TaskGroup() as tasks:
                async for request in channel:
                    tasks.create_task(answer(channel, request))

        async with (
            self._serving(host, handler) as address,
            self._channel(guest, address) as channel,
            asyncio.TaskGroup() as tasks,
        ):
            for number in range(self._random.randint(1, 20)):
                tasks.create_task(self._ask_for_a_while(channel, b"%d" % number))

    # --- parts of them --------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _serving(
        self, group: tofu.ChannelGroup, handler: Handler
    ) -> AsyncIterator[tofu.Address]:
        listener = await group.listen("tcp://127.0.0.1:0", heartbeat=None)
        serving = asyncio.create_task(listener.serve(handler))
        try:
            yield listener.address
        finally:
            await listener.aclose()
            await asyncio.wait([serving])

    @contextlib.asynccontextmanager
    async def _channel(
        self, group: tofu.ChannelGroup, address: tofu.Address
    ) -> AsyncIterator[tofu.Channel]:
        async with await group.connect(address, heartbeat=None) as channel:
            yield channel

    @contextlib.asynccontextmanager
    async def _holders(
        self, host: tofu.ChannelGroup, guest: tofu.ChannelGroup
    ) -> AsyncIterator[None]:
        """Channels whose messages the application keeps until the end."""

        keeping = True

        async def keep(channel: tofu.Channel) -> None:
            async for message in channel:
                if keeping:
                    self._kept.append(message)

        async with contextlib.AsyncExitStack() as stack:
            address = await stack.enter_async_context(self._serving(host, keep))
            try:
                for _ in range(self._random.randint(1, 6)):
                    channel = await stack.enter_async_context(self._channel(guest, address))
                    for _ in range(self._random.randint(1, 8)):
                        channel.post(tofu.Message(tofu.OpCode.SIGNAL, b"kept"))
                await asyncio.sleep(self._random.choice([0.0, 0.5]))
                yield
            finally:
                keeping = False  # so that their Byes are received
                self._kept.clear()

    def _gateway(self, upstream: tofu.Channel) -> Handler:
        async def pass_on(channel: tofu.Channel, request: tofu.Message) -> None:
            with request, contextlib.suppress(*_BROKEN):
                try:
                    response = await upstream.request(request.body)
                except _BROKEN:
                    await channel.reply(request, status=tofu.Status.COMMUNICATION_FAILED)
                else:
                    await channel.reply(request, response.body, status=response.status)

        async def handler(channel: tofu.Channel) -> None:
            async with asyncio.TaskGroup() as tasks:
                async for request in channel:
                    tasks.create_task(pass_on(channel, request))

        return handler

    async def _ask(self, channel: tofu.Channel, count: int) -> None:
        bodies = [b"%d" % number for number in range(count)]
        responses = await asyncio.gather(*map(channel.request, bodies))
        for body, response in zip(bodies, responses, strict=True):
            failed = response.status is tofu.Status.COMMUNICATION_FAILED
            assert failed or response.body == body, "a response has the body of another one"

    async def _ask_at_length(self, channel: tofu.Channel) -> None:
        body = self._random.randbytes(4) + bytes(self._random.randint(0, _LONGEST_BODY))
        try:
            response = await channel.request(body)
        except (tofu.AllocationFailed, tofu.InvalidBodyLen) as error:
            self._world.note("program", "response refused", type(error).__name__)
            return
        if response.status is tofu.Status.SUCCESS:
            assert response.body == body, "the response has the body of another one"
        else:
            refused = {tofu.Status.ALLOCATION_FAILED, tofu.Status.INVALID_BODY_LEN}
            assert response.status in refused, response
            self._world.note("program", "request refused", response.status.name)

    async def _ask_for_a_while(self, channel: tofu.Channel, body: bytes) -> None:
        with contextlib.suppress(TimeoutError):
            response = await channel.request(body, timeout=self._random.choice([0.0, 0.01, 0.5]))
            assert response.body == body, "the response has the body of another one"
