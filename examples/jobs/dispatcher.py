"""Keep jobs until workers have done them: python dispatcher.py."""

import asyncio
import random
import sys

from interface import DISPATCHER, WORKERS, Job

import tofu_aio as tofu

LIMIT = 10_000  # jobs that have not ended, and results
ATTEMPTS = 3  # it may be the job that kills its workers

service = tofu.Service()
workers = tofu.Client(*WORKERS, heartbeat=1.0, timeout=2.0, backoff=tofu.Backoff(0.1, 1.0))
slots = asyncio.Semaphore(4 * len(WORKERS))
jobs: dict[int, Job] = {}  # that have not ended
tasks: dict[int, asyncio.Task[None]] = {}  # that have them done
results: dict[int, Job] = {}  # the last jobs that have ended


async def perform(id_: int, job: Job) -> None:
    """Have a job done. If its worker is lost, another one begins it anew."""
    while job.lost < ATTEMPTS:
        async with slots:
            try:
                async for update in workers.stream("run", job, item=Job, timeout=600):
                    jobs[id_] = job = update
                break
            except tofu.ConnectFailed:  # no worker is there at the moment
                await asyncio.sleep(0.5)
            except (tofu.ServiceError, TimeoutError) as error:
                job.error = str(error) or "it took too long"
                break
            except tofu.TofuError as error:
                job.lost += 1
                print(f"job {id_} has lost {job.worker or 'a worker'}: {error}", file=sys.stderr)
    else:
        job.error = f"{ATTEMPTS} workers were lost"
    results[id_] = job
    del jobs[id_], tasks[id_]
    if len(results) > LIMIT:
        del results[next(iter(results))]


@service.handler("submit")
async def submit(job: Job) -> int:
    if len(jobs) >= LIMIT:
        raise tofu.ServiceError("resource_exhausted", f"{LIMIT} jobs have not ended yet")
    id_ = random.getrandbits(53)  # not one of a dispatcher before this one
    jobs[id_] = job
    tasks[id_] = asyncio.create_task(perform(id_, job))
    return id_


@service.handler("wait", unbounded=True)
async def wait(id_: int) -> Job:
    if id_ in tasks:
        await asyncio.wait([tasks[id_]])
    if id_ not in results:
        raise tofu.ServiceError("not_found", f"there is no job {id_}")
    return results[id_]


@service.handler("status")
async def status() -> list[Job]:
    return list(jobs.values())


async def main() -> None:
    async with workers:
        await service.serve(DISPATCHER, heartbeat=1.0)
        for task in tasks.values():
            task.cancel()
    if jobs:
        sys.exit(f"{len(jobs)} jobs were not finished: {list(jobs.values())}")


if __name__ == "__main__":
    tofu.run(main())
