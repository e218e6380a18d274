"""Report the progress of a long job while its request is in flight: python progress.py."""

import asyncio

import tofu_aio as tofu

STEPS = 4


async def worker(channel: tofu.Channel) -> None:
    async for job in channel:
        with job:
            for step in range(STEPS):
                # With the job's message id, so that the client knows which job this is about.
                await channel.signal(
                    headers={"Percent": str(100 * step // STEPS)}, message_id=job.message_id
                )
                await asyncio.sleep(0.05)  # the work
            await channel.reply(job, job.body.upper())


async def show(channel: tofu.Channel) -> None:
    async for signal in channel:  # responses go to their requests, all other messages come here
        with signal:
            print(f"job {signal.message_id}: {signal.headers['Percent']} %")


async def main() -> None:
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen("tcp://127.0.0.1:0")
        serving = asyncio.create_task(listener.serve(worker))
        async with tofu.connect(listener.address) as channel:
            watching = asyncio.create_task(show(channel))
            for number, text in ((101, "first"), (102, "second")):
                with await channel.request(text.encode(), message_id=number) as done:
                    print(f"job {number}: {done.body.decode()}")
            watching.cancel()
        await listener.aclose()
        await serving


tofu.run(main())
