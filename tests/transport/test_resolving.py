"""Resolving hosts: numeric addresses at once, names in threads reserved for this."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest

import tofu_aio as tofu
from tests.blocking.interrupting import Interrupted, Interruption
from tests.messaging.peers import PATIENCE, until
from tests.shortage import Shortage, needs_a_limit
from tofu_aio.transport import resolving
from tofu_aio.transport.resolving import resolve
from tofu_aio.worker_threads import Threads, _Call


@pytest.fixture
def numbers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if a name is looked up."""

    def refuse(*_: object) -> None:
        raise AssertionError("a name was looked up")

    monkeypatch.setattr(resolving, "_look_up", refuse)


# --- numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ("127.0.0.1", (socket.AF_INET, ("127.0.0.1", 80))),
        ("::1", (socket.AF_INET6, ("::1", 80, 0, 0))),
        ("fe80::1%1", (socket.AF_INET6, ("fe80::1", 80, 0, 1))),
    ],
)
async def test_a_number_needs_no_resolver(
    numbers_only: None, host: str, place: tuple[object, object]
) -> None:
    assert await resolve(host, 80) == [place]


async def test_a_number_is_resolved_within_the_turn() -> None:
    resolving_it = resolve("127.0.0.1", 80)
    with pytest.raises(StopIteration):
        resolving_it.send(None)


async def test_what_only_begins_as_a_number_is_a_name() -> None:
    with pytest.raises(socket.gaierror):
        await resolve("127.0.0.1.invalid", 80)


# --- the application's thread pool -------------------------------------------------------------


@contextlib.contextmanager
def busy_executor() -> Iterator[None]:
    """Keep all threads of the loop's executor busy."""
    free = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(executor)
        for _ in range(3):
            loop.run_in_executor(None, free.wait)
        try:
            yield
        finally:
            free.set()


async def meet(group: tofu.ChannelGroup, host: str) -> None:
    """Listen on a host, and connect to it."""
    async with await group.listen(f"tcp://{host}:0") as listener:
        assert isinstance(listener.address, tofu.TcpAddress)
        where = f"tcp://{host}:{listener.address.port}"
        client, server = await asyncio.gather(group.connect(where), listener.accept())
        await asyncio.gather(client.aclose(), server.aclose())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_busy_executor_holds_nobody_up(group: tofu.ChannelGroup, host: str) -> None:
    with busy_executor():
        await meet(group, host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_executor_that_was_shut_down_is_not_needed(
    group: tofu.ChannelGroup, host: str
) -> None:
    await asyncio.get_running_loop().shutdown_default_executor()
    await meet(group, host)


# --- what goes wrong ---------------------------------------------------------------------------


@needs_a_limit
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "no.such.host.invalid"])
async def test_a_shortage_of_descriptors_is_called_by_its_name(
    group: tofu.ChannelGroup, host: str
) -> None:
    where = tofu.TcpAddress(host, 7000)
    with Shortage():
        with pytest.raises(tofu.ConnectFailed, match="no file descriptor left") as connecting:
            await group.connect(where)
        with pytest.raises(tofu.ListenFailed, match="no file descriptor left") as listening:
            await group.listen(where)
    for error in (connecting.value, listening.value):
        assert error.errno == errno.EMFILE
        assert "raise `ulimit -n`" in str(error)
        assert "check the name" not in str(error)


@needs_a_limit
async def test_a_resolver_that_calls_a_shortage_an_unknown_name_is_not_believed(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the resolver of macOS does."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with Shortage(), pytest.raises(tofu.ConnectFailed, match="no file descriptor") as caught:
        await group.connect("tcp://localhost:7000")
    assert caught.value.errno == errno.EMFILE
    with pytest.raises(tofu.ConnectFailed, match="check the name") as caught:
        await group.connect("tcp://localhost:7000")
    assert caught.value.errno is None


async def test_a_failure_has_the_system_s_number(group: tofu.ChannelGroup) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(tofu.ListenFailed) as in_use:
            await group.listen(f"tcp://127.0.0.1:{port}")
    with pytest.raises(tofu.ConnectFailed) as refused:
        await group.connect(f"tcp://127.0.0.1:{port}")
    assert in_use.value.errno == errno.EADDRINUSE
    assert refused.value.errno == errno.ECONNREFUSED


async def test_where_no_thread_can_be_started_a_name_has_no_address(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(tofu.ConnectFailed, match="can't start new thread"):
            await group.connect("tcp://localhost:7000")
        with pytest.raises(tofu.ListenFailed, match="can't start new thread"):
            await group.listen("tcp://localhost:0")
    await meet(group, "localhost")
    await until(lambda: not resolving._lookups._taken, "for all slots to be free again")


# --- threads of our own ------------------------------------------------------------------------


class Jobs:
    """Functions that block until they are released, and the number of those that run."""

    def __init__(self) -> None:
        self.running: list[int] = []
        self.begun: list[int] = []
        self._go = threading.Event()

    def job(self, number: int) -> int:
        self.begun.append(number)
        self.running.append(number)
        assert self._go.wait(PATIENCE)
        self.running.remove(number)
        return number

    def let_go(self) -> None:
        self._go.set()


async def test_no_more_threads_run_than_may() -> None:
    threads, jobs = Threads("test", 2), Jobs()
    calls = [asyncio.create_task(threads.run(lambda n=n: jobs.job(n))) for n in range(6)]
    await until(lambda: len(jobs.running) == 2)
    assert sum(thread.name == "test" for thread in threading.enumerate()) == 2
    jobs.let_go()
    assert await asyncio.gather(*calls) == list(range(6))
    await until(lambda: not threads._taken, "for the threads to end")


async def test_a_cancelled_call_does_not_wait_for_the_function() -> None:
    threads, jobs = Threads("test", 1), Jobs()
    first, second, third = (
        asyncio.create_task(threads.run(lambda n=n: jobs.job(n))) for n in range(3)
    )
    await until(lambda: jobs.running == [0])
    first.cancel()
    second.cancel()
    await asyncio.wait([first, second])
    assert jobs.running == [0], "it goes on all the same"
    jobs.let_go()
    assert await third == 2
    assert jobs.begun == [0, 2], "what has not begun never does"
    await until(lambda: not threads._taken)


async def test_what_a_function_raises_is_raised_to_the_waiting_coroutine() -> None:
    threads = Threads("test", 1)

    def fail() -> None:
        raise ValueError("because")

    with pytest.raises(ValueError, match="because"):
        await threads.run(fail)
    assert await threads.run(lambda: "next") == "next"
    with pytest.raises(RuntimeError, match="StopIteration"):
        await threads.run(lambda: next(iter(())))
    await until(lambda: not threads._taken)


async def test_a_function_sees_the_caller_s_context() -> None:
    threads, variable = Threads("test", 1), ContextVar("variable", default="none")
    variable.set("the caller's")
    assert await threads.run(variable.get) == "the caller's"
    await until(lambda: not threads._taken)


def test_a_function_that_outlasts_its_loop_ends_in_silence() -> None:
    """Fail the test if a thread raises an exception that nothing catches."""
    threads, jobs = Threads("test", 1), Jobs()

    async def leave() -> None:
        call = asyncio.create_task(threads.run(lambda: jobs.job(0)))
        await until(lambda: jobs.running)
        assert not call.done()

    asyncio.run(leave())
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "test"]
    jobs.let_go()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert not threads._taken


class LateComers(deque[object]):
    """A queue that gets another item just after it was found empty."""

    def __init__(self, *late: Callable[[], object]) -> None:
        super().__init__()
        self._late = list(late)

    def popleft(self) -> object:
        try:
            return super().popleft()
        except IndexError:
            if self._late:
                self._late.pop()()
            raise


async def test_a_call_beside_the_end_of_a_thread_is_not_forgotten() -> None:
    threads, late = Threads("test", 1), _Call(lambda: "late")

    def come() -> None:
        threads._waiting.append(late)
        threads._start()

    threads._waiting = LateComers(come)  # type: ignore[assignment]
    await threads.run(lambda: "in time")
    async with asyncio.timeout(PATIENCE):
        await late.done
    assert late.result == "late"
    await until(lambda: not threads._taken)


async def test_a_start_that_is_interrupted_keeps_no_place() -> None:
    at = 0
    while True:
        at += 1
        threads = Threads("test", 1)
        threads._waiting.append(_Call(lambda: None))
        try:
            Interruption(at).during(threads._start)
        except Interrupted:
            await until(lambda: not threads._taken)  # noqa: B023 - awaited here
            async with asyncio.timeout(PATIENCE):
                assert await threads.run(lambda: at) == at  # noqa: B023
            await until(lambda: not threads._taken)  # noqa: B023
        else:
            break
    assert at > 5


FORKING = """
import asyncio, os, threading, warnings
from tofu_aio.worker_threads import Threads

warnings.simplefilter("ignore")  # of forks beside threads
threads, go, running = Threads("test", 1), threading.Event(), threading.Event()

def job():
    running.set()
    go.wait()

async def begin():
    calls = [asyncio.create_task(threads.run(function)) for function in (job, os.getpid)]
    while not running.is_set():
        await asyncio.sleep(0)
    return calls

async def end(calls):
    return await asyncio.gather(*calls)

async def one():
    return await asyncio.wait_for(threads.run(os.getpid), 20)

runner = asyncio.Runner()
calls = runner.run(begin())
child = os.fork()
if child == 0:
    assert asyncio.new_event_loop().run_until_complete(one()) == os.getpid()
    os._exit(0)
go.set()
assert runner.run(end(calls)) == [None, os.getpid()]
runner.close()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no forks")
def test_a_child_does_not_wait_for_its_parent_s_threads() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKING], capture_output=True, text=True, check=False, timeout=50
    )
    assert (done.returncode, done.stderr) == (0, "")
