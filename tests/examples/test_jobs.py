"""The job queue of the examples: nothing is lost, whichever of its processes is killed."""

from __future__ import annotations

import ast
import asyncio
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tofu_aio as tofu
from tests.cli.processes import Running, spawn

from .programs import (
    EXAMPLES,
    Programs,
    ask,
    kill,
    peak_memory,
    posix,
    programs,
    serving,
    terminate,
    until,
)

pytestmark = posix

LIMIT = 10_000
"""Jobs that the dispatcher keeps."""


class Queue:
    """A dispatcher, and workers at two addresses."""

    def __init__(self, started: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
        self.address = started.address("dispatcher")
        self.places = [started.address("one"), started.address("two")]
        monkeypatch.setenv("DISPATCHER", self.address)
        monkeypatch.setenv("WORKERS", " ".join(self.places))
        self._started = started
        self.dispatcher = started.start("jobs/dispatcher.py")
        until(lambda: serving(self.address), "for the dispatcher")

    def worker(self, place: int) -> Running:
        return self._started.start("jobs/worker.py", self.places[place])

    def client(self, count: int, seconds: float) -> Running:
        return self._started.start("jobs/client.py", str(count), str(seconds))

    def python(self, code: str) -> Running:
        return self._started.keep(spawn("-c", code, folder=self._started.folder))

    def submit(self, number: int, seconds: float) -> int:
        return ask(self.address, "submit", {"number": number, "seconds": seconds}, result=int)

    def outcome(self, job: int) -> dict[str, Any]:
        return ask(self.address, "wait", job, result=dict)

    def status(self) -> list[dict[str, Any]]:
        return ask(self.address, "status", result=list)

    def busy(self, *places: int) -> bool:
        """Whether the workers at these places have all begun a job."""
        at_work = {job["worker"] for job in self.status()}
        return at_work >= {self.places[place] for place in places}


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    with programs(tmp_path) as started:
        yield Queue(started, monkeypatch)


def outcomes(printed: str) -> list[dict[str, Any]]:
    """The jobs that a client has printed, in order of their numbers."""
    jobs = [
        {name: ast.literal_eval(value) for name, value in re.findall(r"(\w+)=('.*?'|\w+)", line)}
        for line in printed.splitlines()
    ]
    return sorted(jobs, key=lambda job: job["number"])


def check_all_done(printed: str, count: int) -> list[dict[str, Any]]:
    """Each job was done, and told once."""
    jobs = outcomes(re.sub(r"seconds=[\d.]+, ", "", printed))
    assert [job["number"] for job in jobs] == list(range(count))
    assert [job["result"] for job in jobs] == [number**2 for number in range(count)]
    assert not any(job["error"] for job in jobs)
    return jobs


def test_jobs_outlive_their_workers(queue: Queue) -> None:
    first, second = queue.worker(0), queue.worker(1)
    client = queue.client(24, 0.6)
    until(lambda: queue.busy(0, 1), "for both workers to begin")
    kill(first)
    first = queue.worker(0)
    until(lambda: queue.busy(0), "for the new worker to begin")
    assert terminate(second) == (0, "", "")  # after its jobs
    code, printed, _ = client.finish()
    assert code == 0
    jobs = check_all_done(printed, 24)
    assert {job["lost"] for job in jobs} == {0, 1}  # only the killed worker has lost any
    assert not queue.status()
    assert terminate(first) == (0, "", "")
    code, _, told = terminate(queue.dispatcher)
    assert code == 0
    # One that had not begun has lost "a worker".
    assert told.count("has lost") == sum(job["lost"] for job in jobs)
    assert f"has lost {queue.places[1]}" not in told


def test_a_stopped_worker_is_replaced(queue: Queue) -> None:
    first = queue.worker(0)
    client = queue.client(4, 0.6)
    until(lambda: queue.busy(0), "for the worker to begin")
    first.process.send_signal(signal.SIGSTOP)
    second = queue.worker(1)
    code, printed, _ = client.finish()
    first.process.send_signal(signal.SIGCONT)
    assert code == 0
    assert {job["worker"] for job in check_all_done(printed, 4)} == {queue.places[1]}
    assert terminate(second).code == 0
    job = queue.submit(7, 0)  # for the first worker, which is back
    assert queue.outcome(job)["worker"] == queue.places[0]
    assert terminate(first) == (0, "", "")
    assert terminate(queue.dispatcher).code == 0


def test_the_status_is_one_line_of_blocking_code(queue: Queue) -> None:
    queue.submit(7, 1.5)
    found = re.search(r'python -c "(.*)"', (EXAMPLES / "jobs" / "README.md").read_text())
    assert found is not None
    code = found[1].replace("tcp://127.0.0.1:7100", queue.address)
    told = "[{'number': 7, 'seconds': 1.5, 'worker': '', 'percent': 0, 'lost': 0, 'result': None, "
    assert queue.python(code).finish() == (0, told + "'error': ''}]\n", "")


def test_a_job_that_kills_its_workers_fails(queue: Queue) -> None:
    job = queue.submit(7, 60)
    for place in (0, 1, 0):
        worker = queue.worker(place)
        until(lambda place=place: queue.busy(place), "for the worker to begin")
        kill(worker)
    outcome = queue.outcome(job)
    assert (outcome["lost"], outcome["error"]) == (3, "3 workers were lost")
    assert terminate(queue.dispatcher).code == 0


def test_a_worker_refuses_a_job(queue: Queue) -> None:
    queue.worker(0)
    outcome = queue.outcome(queue.submit(-1, 0))
    assert outcome["error"] == "invalid_argument: -1 is not a natural number"
    with pytest.raises(tofu.ServiceError, match="not_found: there is no job 77"):
        queue.outcome(77)


def test_a_dispatcher_that_is_terminated_finishes(queue: Queue) -> None:
    queue.worker(0)
    client = queue.client(8, 0.5)
    until(lambda: len(queue.status()) == 8, "for the jobs")
    code, _, told = terminate(queue.dispatcher)
    assert (code, told) == (0, "")
    code, printed, _ = client.finish()
    assert code == 0
    check_all_done(printed, 8)
    code, _, told = queue.client(1, 0).finish()
    assert code == 1
    assert "ConnectFailed" in told


def test_clients_of_a_dispatcher_that_is_killed_are_told(queue: Queue) -> None:
    worker = queue.worker(0)
    client = queue.client(2, 60)
    until(lambda: queue.busy(0), "for the worker to begin")
    kill(queue.dispatcher)
    code, printed, told = client.finish()
    assert (code, printed) == (1, "")
    assert "ConnectFailed" in told
    assert terminate(worker) == (0, "", "")  # its jobs were given up: nobody waits for them


def test_a_flood_of_jobs_is_refused(queue: Queue) -> None:
    before = peak_memory(queue.dispatcher)

    async def flood() -> list[int | BaseException]:
        async with tofu.Client(queue.address) as client:
            calls = (client.call("submit", {"number": n}, result=int) for n in range(LIMIT + 100))
            return await asyncio.gather(*calls, return_exceptions=True)

    answers = asyncio.run(flood())
    refusals = [answer for answer in answers if not isinstance(answer, int)]
    assert {str(refusal) for refusal in refusals} == {
        f"resource_exhausted: {LIMIT} jobs have not ended yet"
    }
    assert len(refusals) == 100
    # A task for each job, and what Python keeps of the calls.
    assert peak_memory(queue.dispatcher) - before < LIMIT * 20_000
    code, _, told = terminate(queue.dispatcher)
    assert code == 1
    assert told.startswith(f"{LIMIT} jobs were not finished")
