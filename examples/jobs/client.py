"""Have the numbers below COUNT squared, each in some seconds: python client.py COUNT SECONDS."""

import asyncio
import sys

from interface import DISPATCHER, Job

import tofu_aio as tofu


async def run(dispatcher: tofu.Client, job: Job) -> None:
    id_ = await dispatcher.call("submit", job, result=int)
    print(await dispatcher.call("wait", id_, result=Job, idempotent=True), flush=True)


async def main(count: str, seconds: str) -> None:
    async with tofu.Client(DISPATCHER, heartbeat=1.0) as dispatcher:
        jobs = (Job(number, float(seconds)) for number in range(int(count)))
        await asyncio.gather(*(run(dispatcher, job) for job in jobs))


tofu.run(main(*sys.argv[1:]))
