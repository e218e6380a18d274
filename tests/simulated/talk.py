"""Conversations at the stream level, with checks of order and completeness in both directions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable
from random import Random
from typing import TypeVar

import tofu_aio as tofu
from tofu_aio.messaging.limits import BYE_TIMEOUT
from tofu_aio.testing import Delivery, Link, World

T = TypeVar("T")

CONVERSATION = "Conversation"
"""The header of a Hello with the name of its conversation."""

_HERE = tofu.ChannelClosed
"""The end of a channel that this side has closed, and whose further messages it dropped."""

_GONE = (tofu.PeerDisconnected, tofu.ChannelClosed, tofu.ProtocolViolation, tofu.NotAllowed)

CLOSING_PERIODS = 10
"""Periods of closing in which a peer can receive some of what was queued, until it has all."""


def body_of(number: int, random: Random, largest: int) -> bytes:
    """A body that begins with its number; mostly short, sometimes as long as allowed."""
    size = random.choice([0, 10, 100, 100, 1000, random.randint(0, largest)])
    return number.to_bytes(4, "big") + bytes(min(size, largest))


async def ended(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Wait for the tasks, and raise the first exception, except cancellation."""
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


class Conversation:
    """What both sides of one channel share.

    Attributes:
        name: the name of the conversation in the Hello and in the trace.
        deliveries: the checks of what the client sends, and of what the server sends.
        channels: the ends of the channel that exist so far.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.random = Random(f"{world.seed} {name}")
        self.deliveries = tuple(Delivery[int](f"{name} from the {s}") for s in ("client", "server"))
        self.channels: list[tofu.Channel] = []
        self.ended_well = 0
        self.disturbed = False  # by a fault that the scenario caused
        # Whether everything that a side has sent, and will send, has arrived at its peer.
        self.arrived = [False, False]

    @property
    def unbroken(self) -> bool:
        """Whether the connection was certainly not broken, so that everything sent arrives."""
        network = self.world.network
        return not (network.resets or network.half_closes or self.disturbed)

    def note(self, what: str, detail: object = "") -> None:
        self.world.note(self.name, what, detail)


class Side:
    """One side of a conversation: a script that sends, and a reader that always reads."""

    def __init__(
        self, conversation: Conversation, engine: tofu.Engine, channel: tofu.Channel, who: int
    ) -> None:
        self._engine = engine
        self._talk = conversation
        self._channel = channel
        self._who = who
        self._random = Random(f"{conversation.world.seed} {conversation.name} {who}")
        self._mine = conversation.deliveries[who]
        self._theirs = conversation.deliveries[1 - who]
        self._hold = self._random.choice([0.0, 0.0, 0.001, 0.05])  # seconds a message is kept
        self._largest = self._random.choice([100, 5_000, 60_000])
        self._tasks: list[asyncio.Task[None]] = []
        self._number = 0
        self._leaving = False
        conversation.channels.append(channel)

    async def run(self) -> None:
        """Read until the end, and run the script meanwhile."""
        script = asyncio.create_task(self._follow(self._script))
        self._tasks.append(script)
        try:
            await self._read()
        finally:
            # A script that closes runs to its end; the other tasks are cancelled.
            for task in self._tasks[self._leaving :]:
                task.cancel()
            await ended(self._tasks)
            # A task that was cancelled before it began keeps its message alive.
            self._tasks.clear()

    # --- reading --------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            async for message in self._channel:
                self._handle(message)
                del message
        except tofu.ChannelClosed:
            self._talk.note(f"{self._who} closed")
        except tofu.PeerDisconnected as error:
            self._talk.note(f"{self._who} lost", error)
            if self._talk.arrived[1 - self._who] and not isinstance(self._channel.end, _HERE):
                self._theirs.check_complete()
        else:
            self._talk.note(f"{self._who} received the end after", self._theirs.count)
            if not isinstance(self._channel.end, _HERE):
                self._theirs.check_complete()
                self._talk.ended_well += 1

    def _handle(self, message: tofu.Message) -> None:
        number = int.from_bytes(message.body[:4], "big")
        self._theirs.received(number)
        if message.op_code is tofu.OpCode.REQUEST:
            if message.more:
                self._begin(self._collect, self._channel.stream(message))
                return
            self._begin(self._answer, message)
        elif self._hold:
            # Released by a timer, so that many are kept at the same time.
            asyncio.get_running_loop().call_later(self._hold, message.release)
        else:
            message.release()

    async def _answer(self, message: tofu.Message) -> None:
        with message:
            if self._hold:
                await asyncio.sleep(self._hold)
        with contextlib.suppress(*_GONE):
            await self._channel.reply(message, message.body)

    async def _collect(self, exchange: tofu.Exchange) -> None:
        size = 0
        with contextlib.suppress(*_GONE, tofu.ExchangeFailed):
            async with exchange:
                async for part in exchange:
                    with part:
                        size += len(part.body)
                await exchange.finish(str(size).encode())

    def _begin(self, work: Callable[[T], Coroutine[object, object, None]], item: T) -> None:
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(asyncio.create_task(self._follow(work, item)))

    async def _follow(
        self, work: Callable[..., Coroutine[object, object, None]], *items: object
    ) -> None:
        """Run a task of this side, which may end because its channel was lost or closed."""
        with contextlib.suppress(*_GONE):
            try:
                await work(*items)
            except AssertionError:
                self._channel.abort()  # so that the peer does not wait after a failed check
                raise

    # --- sending --------------------------------------------------------------------------

    async def _script(self) -> None:
        random = self._random
        steps: list[Callable[[], Coroutine[object, object, None]]] = [
            self._signal,
            self._signal,
            self._burst,
            self._counted_burst,
            self._request,
            self._impatient_request,
            self._cancelled_send,
            self._upload,
            self._pause,
        ]
        for _ in range(random.randint(0, 12)):
            await random.choice(steps)()
        await self._leave()

    async def _pause(self) -> None:
        await asyncio.sleep(self._random.choice([0.0, 0.001, 0.1, 1.0]))

    def _next(self) -> tuple[int, bytes]:
        self._number += 1
        return self._number, body_of(self._number, self._random, self._largest)

    async def _signal(self) -> None:
        number, body = self._next()
        with self._mine.sending(number):
            await self._channel.signal(body)

    async def _burst(self) -> None:
        for _ in range(self._random.randint(2, 20)):
            number, body = self._next()
            with self._mine.sending(number):
                self._channel.post(tofu.Message(tofu.OpCode.SIGNAL, body[:1004]))

    async def _counted_burst(self) -> None:
        """Post messages that hold permits of the pool until they are sent."""
        for _ in range(self._random.randint(1, 5)):
            message = self._engine.get(tofu.Allocation.POOL_ONLY, tofu.OpCode.SIGNAL)
            if message is None:
                return
            number, body = self._next()
            with message, self._mine.sending(number):
                message.body = body[:1004]
                self._channel.post(message)

    async def _request(self) -> None:
        number, body = self._next()
        with self._mine.sending(number):
            response = await self._channel.request(body)
        with response:
            assert response.body == body, (
                f"{self._talk.name}: the response to {number} has the body of another one"
            )

    async def _impatient_request(self) -> None:
        number, body = self._next()
        with contextlib.suppress(TimeoutError), self._mine.sending(number):
            timeout = self._random.choice([0.0, 0.001, 0.02])
            (await self._channel.request(body, timeout=timeout)).release()

    async def _cancelled_send(self) -> None:
        number, body = self._next()
        with contextlib.suppress(TimeoutError), self._mine.sending(number):
            async with asyncio.timeout(self._random.choice([0.0, 0.001])):
                await self._channel.signal(body)

    async def _upload(self) -> None:
        number, body = self._next()
        parts = self._random.randint(1, 10)
        with contextlib.suppress(tofu.ExchangeFailed), self._mine.sending(number):
            async with self._channel.stream() as exchange:
                for _ in range(parts):
                    await exchange.send(body)
                await exchange.finish()
                answer = [part.body async for part in exchange]
            assert answer == [str(parts * len(body)).encode()]

    async def _leave(self) -> None:
        """End the script by closing the channel, in one of several ways."""
        channel = self._channel
        self._leaving = True
        match self._random.randint(0, 8):
            case 0:
                self._talk.note(f"{self._who} aborts")
                channel.abort()
            case 1 | 2:
                self._talk.note(f"{self._who} half-closes")
                await channel.send_eof()
            case 3 if await self._all_has_arrived():
                # What has arrived at the peer's system is delivered, even if that is slow.
                self._talk.note(f"{self._who} aborts after everything arrived")
                self._talk.arrived[self._who] = True
                channel.abort()
            case 4:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await channel.aclose()
            case _:
                link = self._link()
                if link is not None and self._random.random() < 0.05:
                    link.stall(20.0)  # so that the answer comes too late
                self._talk.note(f"{self._who} says Bye")
                began, queued = self._talk.world.time, channel.statistics().queued_bytes
                await channel.aclose()
                spent = self._talk.world.time - began
                # Longer while the peer receives what was sent before, and then this at most.
                most = BYE_TIMEOUT * (CLOSING_PERIODS if queued else 1) + 0.1
                assert spent <= most, f"closing took {spent:g} s"

    def _link(self) -> Link | None:
        """The connection of the channel; None if it is gone, or has no unique name."""
        queue = self._channel._connection.queue
        names = {queue.extra_info(name) for name in ("sockname", "peername")}
        links = self._talk.world.links
        return next((link for link in links if names == {link.client, link.server}), None)

    async def _all_has_arrived(self) -> bool:
        """Wait until nothing is in flight; return False if that cannot be known."""
        link = self._link()
        for task in self._tasks[1:]:
            task.cancel()  # responses that it would send later
        for attempt in range(20):
            await asyncio.sleep(
                0.0005 * 2**attempt
            )  # short at first: what the peer has not read counts
            if link is None or self._channel.state is not tofu.State.OPEN:
                return False
            if not link.under_way and not self._channel.statistics().queued_bytes:
                return self._talk.unbroken
        return False
