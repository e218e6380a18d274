"""A program drawn from a seed: engines with small pools, channels of all kinds, and faults."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from random import Random

import tofu_aio as tofu
from tests.simulated.invariants import Invariants
from tests.simulated.posted import Correspondent
from tests.simulated.programs import Programs
from tests.simulated.talk import CONVERSATION, Conversation, Side, ended
from tofu_aio.messaging.limits import LARGEST_MESSAGE, POOL_BYTES
from tofu_aio.testing import Network, PoolCheck, World

LONGEST_WAIT = 1500.0
"""Seconds of virtual time. A channel waits while another program keeps its messages, and on the
slowest network the longest program takes 300 s: 3 MB in segments of 64 bytes, every hundredth of
which is delayed by a second."""

_ADDRESSES = ["tcp://127.0.0.1:0", "tcp://[::1]:0"]
_ADDRESSES += ["uds://@sim"] if sys.platform == "linux" else []

_FAILURES = (tofu.ConnectFailed, tofu.ChannelClosed, tofu.PeerDisconnected)


def network_of(random: Random) -> Network:
    """Draw a network. Half of them have no faults, so that everything must arrive."""
    return Network.drawn(random, faults=random.random() < 0.5)


async def scenario(world: World) -> None:
    """Run the scenario of a world."""
    await Scenario(world).run()


class Scenario:
    """The engines of one run, and everything that happens between them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.random
        self._conversations: dict[str, Conversation] = {}
        self._engines = [
            tofu.Engine(
                self._random.choice([1, 1, 2, 3, 5, 8, 200]),
                pool_bytes=self._random.choice([LARGEST_MESSAGE, POOL_BYTES]),
                channel_share=self._random.choice([1.0, 1.0, 0.5, 0.25]),
                max_body=self._random.choice([100_000, 1_000_000]),
                joining_bytes=self._random.choice([200_000, 10_000_000]),
            )
            for _ in range(2)
        ]
        if self._random.random() < 0.3:  # one engine that talks to itself
            self._engines[1] = self._engines[0]

    async def run(self) -> None:
        world, engines = self._world, list(dict.fromkeys(self._engines))
        pools = [PoolCheck(world, engine, LONGEST_WAIT) for engine in engines]
        invariants = Invariants(world, engines)
        for check in (*pools, invariants):
            world.watch(check)
        async with contextlib.AsyncExitStack() as stack:
            for engine in engines:
                await stack.enter_async_context(engine)
            await self._talk()
        await asyncio.sleep(0.1)  # readers release messages, and transports close their sockets
        for pool in pools:
            pool.check_end()
        invariants.check_end()
        ends = [talk.ended_well for talk in self._conversations.values()]
        world.note(
            "run", f"orderly ends: {sum(ends)} of {2 * len(ends)}", f"waiting: {pools[0].waiting}"
        )

    async def _talk(self) -> None:
        server, client = self._engines
        async with server.create_group() as host, client.create_group() as guest:
            address = self._random.choice(_ADDRESSES)
            limit = self._random.choice([None, None, None, 2])
            listener = await host.listen(address, heartbeat=self._heartbeat(), max_channels=limit)
            serving = asyncio.create_task(listener.serve(self._serve))
            trouble = asyncio.create_task(self._make_trouble())
            async with asyncio.TaskGroup() as talks:
                for number in range(self._random.randint(1, 8)):
                    talk = self._conversation(f"talk {number}")
                    talks.create_task(self._client(guest, listener.address, talk))
                for number in range(self._random.choice([0, 0, 1])):
                    talks.create_task(self._again(client, listener.address, f"again {number}"))
                if self._random.random() < 0.5:
                    talks.create_task(self._posted(server, client))
                if self._random.random() < 0.1:
                    talks.create_task(self._close_early(guest, self._random))
                if self._random.random() < 0.5:
                    random = Random(f"{self._world.seed} what people write")
                    talks.create_task(Programs(self._world, random, self._engines).run())
            trouble.cancel()
            await ended([trouble])
            await listener.aclose()
            await serving

    def _conversation(self, name: str) -> Conversation:
        self._conversations[name] = Conversation(self._world, name)
        return self._conversations[name]

    def _heartbeat(self) -> float | None:
        return self._random.choice([None, None, 5.0, 20.0])

    # --- streams --------------------------------------------------------------------------

    async def _serve(self, channel: tofu.Channel) -> None:
        name = channel.hello.headers[CONVERSATION]
        talk = self._conversations.get(name)
        if talk is not None:
            self._world.note(name, "accepted as", channel.number)
            await Side(talk, self._engines[0], channel, 1).run()
            return
        async for message in channel:
            with message:
                await channel.reply(message, message.body)

    async def _client(
        self, group: tofu.ChannelGroup, address: tofu.Address, talk: Conversation
    ) -> None:
        await asyncio.sleep(self._random.choice([0.0, 0.0, 0.01, 1.0]))
        headers = {CONVERSATION: talk.name}
        try:
            channel = await group.connect(address, headers=headers, heartbeat=self._heartbeat())
        except _FAILURES as error:
            talk.note("no channel", error)
            return
        talk.note("connected as", channel.number)
        async with channel:
            await Side(talk, self._engines[1], channel, 0).run()

    async def _again(self, engine: tofu.Engine, address: tofu.Address, name: str) -> None:
        """Connect again and again, whatever happens to each channel."""
        turns = 0
        headers = {CONVERSATION: name}
        async with (
            engine.create_group() as group,
            contextlib.aclosing(group.reconnecting(address, headers=headers)) as channels,
        ):
            async for channel in channels:
                turns += 1
                self._world.note(name, "turn", turns)
                with contextlib.suppress(*_FAILURES, TimeoutError):
                    for number in range(self._random.randint(1, 5)):
                        body = f"{turns} {number}".encode()
                        with await channel.request(body, timeout=100) as response:
                            assert response.body == body, "the answer is another's"
                if turns == 3:
                    break

    # --- messages -------------------------------------------------------------------------

    async def _posted(self, server: tofu.Engine, client: tofu.Engine) -> None:
        async with server.create_group() as host, client.create_group() as guest:
            there = Correspondent(self._world, "there", host, self._conversations)
            here = Correspondent(self._world, "here", guest, self._conversations)
            running = [asyncio.create_task(each.run()) for each in (there, here)]
            there.listen("tcp://127.0.0.1:0")
            waiting = asyncio.ensure_future(there.address)
            await asyncio.wait([waiting, *running], return_when=asyncio.FIRST_COMPLETED)
            for number in range(self._random.randint(1, 4)):
                here.connect(there.address.result(), self._conversation(f"post {number}"))
            early = Random(f"{self._world.seed} early")
            closing = [
                asyncio.create_task(self._close_early(group, early))
                for group in (host, guest)
                if early.random() < 0.1
            ]
            for each in (here, there):
                idle = asyncio.create_task(each.idle.wait())
                await asyncio.wait([idle, *running], return_when=asyncio.FIRST_COMPLETED)
                idle.cancel()
        await asyncio.gather(*running, *closing)

    # --- faults ---------------------------------------------------------------------------

    async def _make_trouble(self) -> None:
        """Reset, stall, abort and close, in half of the runs, besides the network's faults."""
        if self._random.random() < 0.5:
            return
        for _ in range(self._random.randint(1, 4)):
            await asyncio.sleep(self._random.choice([0.005, 0.05, 0.5, 2.0]))
            links = self._world.links
            channels = [c for talk in self._conversations.values() for c in talk.channels]
            match self._random.randint(0, 3):
                case 0 if links:
                    link = self._random.choice(links)
                    self._world.note("trouble", "resets", link)
                    for talk in self._conversations.values():
                        talk.disturbed = True
                    link.reset()
                case 1 if links:
                    link = self._random.choice(links)
                    self._world.note("trouble", "stalls", link)
                    link.stall(self._random.choice([0.1, 3.0, 30.0]))
                case 2 if channels:
                    channel = self._random.choice(channels)
                    self._world.note("trouble", "aborts", channel)
                    channel.abort()
                case 3 if channels:
                    self._world.note("trouble", "closes one")
                    await self._random.choice(channels).aclose()

    async def _close_early(self, group: tofu.ChannelGroup, random: Random) -> None:
        await asyncio.sleep(random.choice([0.01, 0.3]))
        self._world.note("trouble", "closes a group")
        await group.aclose()
