"""Share one channel among tasks, and connect again if it is lost: python reconnecting_tasks.py."""

import asyncio
import contextlib

import tofu_aio as tofu

TASKS = 10
QUICK = tofu.Backoff(initial=0.01, maximum=0.1)


class Link:
    """The current channel: one task connects, and any number of tasks make requests."""

    def __init__(self) -> None:
        self.channels = 0
        self._current: asyncio.Future[tofu.Channel] = asyncio.Future()

    async def keep(self, address: tofu.Address) -> None:
        """Connect again whenever the channel ends, until cancelled."""
        async for channel in tofu.reconnecting(address, backoff=QUICK):
            self.channels += 1
            self._current.set_result(channel)
            with contextlib.suppress(tofu.TofuError):
                async for message in channel:  # until it ends
                    message.release()
            self._current = asyncio.Future()

    async def request(self, body: bytes) -> tofu.Message:
        """Repeat a request until there is a response. The server may handle it twice."""
        while True:
            channel = await asyncio.shield(self._current)
            try:
                return await channel.request(body)
            except (tofu.ChannelEnded, tofu.ChannelClosed, tofu.PeerDisconnected):
                await asyncio.sleep(0.01)  # until keep has noticed it, too


async def worker(link: Link, number: int) -> int:
    total = 0
    for count in range(3):
        with await link.request(b"%d" % (10 * number + count)) as response:
            total += int(response.body)
    return total


async def answer(channel: tofu.Channel, answers: int) -> None:
    """Answer ``answers`` requests, or all until the peer's Bye."""
    async for request in channel:
        with request:
            await channel.reply(request, request.body)
        answers -= 1
        if not answers:
            break


async def main() -> None:
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen("tcp://127.0.0.1:0")
        link = Link()
        keeping = asyncio.create_task(link.keep(listener.address))
        workers = asyncio.gather(*(worker(link, number) for number in range(TASKS)))
        channel = await listener.accept()
        await answer(channel, answers=10)
        channel.abort()  # as if the server had crashed
        serving = asyncio.create_task(answer(await listener.accept(), answers=-1))
        totals = await workers
        keeping.cancel()
        await serving
        print(f"{TASKS} tasks, sum {sum(totals)}, over {link.channels} channels")


tofu.run(main())
