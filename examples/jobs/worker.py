"""Do jobs: python worker.py ADDRESS, with one of the addresses that the dispatcher knows."""

import asyncio
import sys
from collections.abc import AsyncIterator

from interface import Job

import tofu_aio as tofu

service = tofu.Service()


@service.handler("run")
async def run(job: Job) -> AsyncIterator[Job]:
    if job.number < 0:
        raise tofu.ServiceError("invalid_argument", f"{job.number} is not a natural number")
    job.worker = sys.argv[-1]
    for job.percent in range(0, 100, 10):
        yield job
        await asyncio.sleep(job.seconds / 10)  # the work
    job.percent, job.result = 100, job.number**2
    yield job


if __name__ == "__main__":
    tofu.run(service.serve(sys.argv[-1], heartbeat=1.0))
