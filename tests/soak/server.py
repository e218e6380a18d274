"""The server of a soak: ``server LOOP SEED SABOTAGE ADDRESS...``; a line of stdin makes it check.

It counts numbered signals, echoes requests, sends many signals or parts on request, is sometimes
slow, and sometimes resets a channel.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections.abc import Coroutine

import tofu_aio as tofu
from tests.soak import sabotage
from tests.soak.bodies import Body, Sequence, ordered
from tests.soak.watching import Watch, report, reporting, watched

POOLS = (1, 2, 4, 16, 64)

SLOW = 0.02
"""The probability that it handles a message slowly."""

RESET = 0.0005
"""The probability, at each message, that it resets the channel."""


class Server:
    """Handles the channels."""

    def __init__(self, luck: random.Random) -> None:
        self._luck = luck

    async def handle(self, channel: tofu.Channel) -> None:
        """Handle a channel until it ends."""
        with reporting(f"serving {channel}"):
            signals = Sequence()
            async for message in channel:
                with message:
                    rest = await self._answer(channel, message, signals)
                # After the request was released: otherwise a slow reader would keep its permit.
                if rest is not None:
                    await rest
                if self._luck.random() < RESET:
                    channel.abort()

    async def _answer(
        self, channel: tofu.Channel, message: tofu.Message, signals: Sequence
    ) -> Coroutine[object, object, None] | None:
        """Handle a message; return a coroutine for the part that takes long."""
        if self._luck.random() < SLOW:
            await asyncio.sleep(self._luck.random() * 0.01)
        if message.op_code is tofu.OpCode.SIGNAL:
            signals.add(message.body)
            return None
        match message.headers["do"]:
            case "echo":
                await channel.reply(message, message.body)
            case "total":
                signals.check(int.from_bytes(message.body))
                await channel.reply(message)
            case "pour":
                return pour(channel, message.message_id, message.body)
            case "parts":
                return send_parts(channel.stream(message))
        return None


async def pour(channel: tofu.Channel, message_id: int, body: Body) -> None:
    """Send the signals that a body asks for, then the response."""
    for each in ordered(body):
        await channel.signal(each)
    await channel.send(tofu.Message(tofu.OpCode.RESPONSE, message_id=message_id))


async def send_parts(exchange: tofu.Exchange) -> None:
    """Send the parts that a body asks for, unless the client leaves the exchange."""
    asked = b""
    with contextlib.suppress(tofu.ExchangeFailed):
        async with exchange:
            async for part in exchange:
                with part:
                    asked += bytes(part.body)
            for each in ordered(asked):
                await exchange.send(each)
            await exchange.finish()


async def serve(seed: str, addresses: list[str]) -> None:
    """Serve until stdin ends."""
    luck = random.Random(seed)
    async with watched(luck.choice(POOLS)) as engine, engine.create_group() as group:
        listeners = [await group.listen(address) for address in addresses]
        server = Server(luck)
        serving = [
            asyncio.create_task(listener.serve(server.handle), name="serve")
            for listener in listeners
        ]
        for _ in range(3):
            await asyncio.sleep(0)
        watch = Watch(engine, len(listeners))
        report(addresses=[str(listener.address) for listener in listeners])
        while await asyncio.to_thread(sys.stdin.readline):
            await watch.calm()
        await watch.aclose()
        for task in serving:
            task.cancel()
        await asyncio.wait(serving)


def main() -> None:
    """Run the server on its loop."""
    loop, seed, broken, *addresses = sys.argv[1:]
    sabotage.commit(broken)
    with asyncio.Runner(loop_factory=tofu.loop_factory(loop)) as runner:
        runner.run(serve(seed, addresses))


if __name__ == "__main__":
    main()
