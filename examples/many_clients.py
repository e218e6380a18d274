"""Serve a hundred clients with a pool of eight messages: python many_clients.py."""

import asyncio

import tofu_aio as tofu

CLIENTS = 100
REQUESTS = 20


async def count_letters(channel: tofu.Channel) -> None:
    async for request in channel:
        with request:
            await channel.reply(request, str(len(request.body)).encode())


async def client(group: tofu.ChannelGroup, address: tofu.Address, number: int) -> int:
    async with group.connect(address) as channel:
        total = 0
        for _ in range(REQUESTS):
            with await channel.request(b"x" * number, timeout=30) as response:
                total += int(response.body)
        return total


async def main() -> None:
    # The server and the clients have a pool each, as if they were two programs.
    async with (
        tofu.Engine(pool_messages=8) as server,
        tofu.Engine(pool_messages=8) as clients,
        server.create_group() as serving_group,
        clients.create_group() as group,
    ):
        listener = await serving_group.listen("tcp://127.0.0.1:0")
        serving = asyncio.create_task(listener.serve(count_letters))
        totals = await asyncio.gather(
            *(client(group, listener.address, number) for number in range(CLIENTS))
        )
        print(f"{CLIENTS} clients, {CLIENTS * REQUESTS} requests, {sum(totals)} letters")
        statistics = server.statistics()
        print(f"the server never had more than {statistics.pool_size} messages at once")
        await listener.aclose()
        await serving


tofu.run(main())
