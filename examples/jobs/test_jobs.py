"""The job queue without processes: python -m pytest."""

import asyncio

import dispatcher
import pytest
import worker
from interface import Job

import tofu_aio as tofu
from tofu_aio import testing


@pytest.fixture(autouse=True)
def new_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins without jobs."""
    for kept in ("jobs", "tasks", "results"):
        monkeypatch.setattr(dispatcher, kept, {})


async def test_a_worker_reports_its_progress(tofu_client: testing.ClientFixture) -> None:
    client = await tofu_client(worker.service)
    updates = [job async for job in client.stream("run", Job(7), item=Job)]
    assert [job.percent for job in updates] == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert updates[-1].result == 49


async def test_a_worker_refuses_a_negative_number(tofu_client: testing.ClientFixture) -> None:
    client = await tofu_client(worker.service)
    with pytest.raises(tofu.ServiceError, match="-1 is not a natural number"):
        await anext(client.stream("run", Job(-1), item=Job))


async def test_the_dispatcher_has_a_job_done(
    tofu_client: testing.ClientFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "workers", await tofu_client(worker.service))
    client = await tofu_client(dispatcher.service)
    id_ = await client.call("submit", Job(7), result=int)
    assert (await client.call("wait", id_, result=Job)).result == 49
    assert await client.call("status", result=list[Job]) == []


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_job_outlives_two_workers(
    tofu_world: testing.WorldFixture, monkeypatch: pytest.MonkeyPatch, lost: int, seed: int
) -> None:
    """In the simulated network, where a minute of work takes no time."""
    world = tofu_world(seed)

    async def main() -> Job:
        async with testing.client_of(worker.service) as workers:
            monkeypatch.setattr(dispatcher, "workers", workers)
            id_ = await dispatcher.submit(Job(7, seconds=60))
            for _ in range(lost):
                await asyncio.sleep(30)  # half of the work
                for link in world.links:
                    link.reset()
            return await dispatcher.wait(id_)

    job = world.run(main())
    assert job.lost == lost
    if lost < dispatcher.ATTEMPTS:
        assert job.result == 49
    else:
        assert job.error == "3 workers were lost"
