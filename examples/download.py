"""Receive a long response in parts, and leave another one early: python download.py."""

import asyncio

import tofu_aio as tofu


async def numbers(channel: tofu.Channel) -> None:
    async for request in channel:
        try:
            async with channel.stream(request, headers={"Unit": "metre"}) as exchange:
                number = 0
                while number < int(request.headers["Count"]):
                    await exchange.send(b"%d" % number)
                    number += 1
                await exchange.finish()
        except tofu.ExchangeFailed:
            print("the client left early")


async def main() -> None:
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen("tcp://127.0.0.1:0")
        serving = asyncio.create_task(listener.serve(numbers))
        async with tofu.connect(listener.address) as channel:
            async with channel.stream(headers={"Count": "1000"}) as exchange:
                await exchange.finish()
                total = 0
                async for part in exchange:
                    with part:
                        total += int(part.body or 0)
                print(f"the sum is {total}")

            # Leaving before the response is complete tells the server, which can stop. Another
            # implementation of the protocol learns it only if the request was not finished either.
            async with channel.stream(headers={"Count": "1000000000"}) as exchange:
                await exchange.send(b"")
                async for part in exchange:
                    with part:
                        if part.body == b"10":
                            break
        await listener.aclose()
        await serving


tofu.run(main())
