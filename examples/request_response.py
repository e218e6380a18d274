"""Make requests, and respond to some with an error status: python request_response.py."""

import asyncio

import tofu_aio as tofu


async def calculator(channel: tofu.Channel) -> None:
    async for request in channel:
        with request:
            left, operator, right = request.body.decode().split()
            if operator == "/" and float(right) == 0:
                await channel.reply(
                    request, b"division by zero", status=tofu.Status.PROCESSING_FAILED
                )
                continue
            results = {
                "+": float(left) + float(right),
                "*": float(left) * float(right),
                "/": float(left) / (float(right) or 1),
            }
            await channel.reply(request, f"{results[operator]:g}".encode())


async def ask(channel: tofu.Channel, question: str) -> str:
    with await channel.request(question.encode(), timeout=5) as response:
        if response.status is not tofu.Status.SUCCESS:
            return f"{question} failed: {response.body.decode()}"
        return f"{question} = {response.body.decode()}"


async def main() -> None:
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen("tcp://127.0.0.1:0")
        serving = asyncio.create_task(listener.serve(calculator))
        async with tofu.connect(listener.address) as channel:
            # All three requests are in flight at the same time, on one channel.
            questions = ("6 * 7", "1 + 2.5", "1 / 0")
            for answer in await asyncio.gather(*(ask(channel, text) for text in questions)):
                print(answer)
        await listener.aclose()
        await serving


tofu.run(main())
