"""A reactor loop and the children of its process: ``python -m tests.forks.loops CASE``."""

from __future__ import annotations

from tests.forks.children import Child, held_back  # isort: skip - before tofu_aio

import asyncio
import contextlib
import inspect
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ProcessPoolExecutor

import tofu_aio as tofu

MUCH = 3_000_000
"""Bytes that no socket's buffer takes at once."""


@contextlib.asynccontextmanager
async def stream() -> AsyncIterator[tuple[asyncio.StreamWriter, asyncio.StreamReader]]:
    """The two ends of a connection."""
    ours, theirs = socket.socketpair()
    _, writer = await asyncio.open_connection(sock=ours)
    reader, answering = await asyncio.open_connection(sock=theirs)
    try:
        yield writer, reader
    finally:
        writer.close()
        answering.close()


def wakes(loop: asyncio.AbstractEventLoop) -> None:
    """A thread can wake the loop, which sleeps, again and again."""

    async def sleep() -> None:
        for _ in range(3):
            woken = asyncio.Event()
            thread = threading.Timer(0.05, loop.call_soon_threadsafe, (woken.set,))  # it sleeps
            thread.start()
            await woken.wait()
            thread.join()

    loop.run_until_complete(sleep())


async def a_transport_that_begins_to_write_while_a_child_begins_to_run() -> None:
    async with stream() as (writer, reader):
        with held_back():
            child = Child(lambda: None)
            writer.write(bytes(MUCH))
            await asyncio.sleep(0)  # the kernel is told
            await asyncio.sleep(0)
        child.wait()
        await reader.readexactly(MUCH)


async def a_response_that_is_written_as_a_process_pool_starts() -> None:
    fork = multiprocessing.get_context("fork")
    loop = asyncio.get_running_loop()
    async with stream() as (writer, reader):
        for number in range(5):
            with ProcessPoolExecutor(1, mp_context=fork) as pool:
                with held_back():
                    working = loop.run_in_executor(pool, abs, -number)
                    writer.write(bytes(MUCH))
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                assert await working == number
                await reader.readexactly(MUCH)


def a_child_that_runs_the_loop() -> None:
    with contextlib.closing(tofu.new_event_loop()) as loop:
        loop.run_until_complete(asyncio.sleep(0))
        assert Child(lambda: wakes(loop)).wait() == 0
        wakes(loop)


def a_child_that_takes_what_its_parent_has_not() -> None:
    """What woke the parent before the fork is still to wake it."""
    with contextlib.closing(tofu.new_event_loop()) as loop:
        loop.call_soon_threadsafe(loop.stop)
        assert Child(loop.run_forever).wait() == 0
        loop.run_forever()
        wakes(loop)


def a_child_that_closes_the_loop() -> None:
    with contextlib.closing(tofu.new_event_loop()) as loop:
        reader, writer = socket.socketpair()
        loop.add_reader(reader, loop.stop)
        assert Child(loop.close).wait() == 0
        writer.send(b"x")
        loop.run_forever()
        loop.remove_reader(reader)
        wakes(loop)
        reader.close()
        writer.close()


def children_that_serve_on_a_loop_made_before() -> None:
    """With threads of their own, whatever threads the parent's loop has had."""

    def serve(loop: asyncio.AbstractEventLoop) -> None:
        assert loop.run_until_complete(asyncio.to_thread(os.getpid)) == os.getpid()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    with contextlib.closing(tofu.new_event_loop()) as loop:
        loop.run_until_complete(asyncio.to_thread(os.getpid))
        children = [Child(lambda: serve(loop)) for _ in range(3)]
        assert [child.wait() for child in children] == [0, 0, 0]
        serve_on = loop.run_until_complete(asyncio.to_thread(os.getpid))
        assert serve_on == os.getpid()
        loop.run_until_complete(loop.shutdown_default_executor())


def a_child_of_another_thread_than_the_loop_s() -> None:
    """It has the loop, but not the thread that runs it: it may run it itself, and close it."""
    loop = tofu.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def in_child() -> None:
        assert not loop.is_running()
        wakes(loop)
        loop.close()

    for _ in range(3):
        assert Child(in_child).wait() == 0
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def a_child_of_a_callback_that_runs_loops_of_its_own() -> None:
    async def nothing() -> int:
        await asyncio.sleep(0)
        return 7

    def in_child() -> None:
        assert tofu.run(nothing()) == 7
        assert asyncio.run(nothing()) == 7

    assert Child(in_child).wait() == 0
    assert await asyncio.to_thread(os.getpid) == os.getpid()


def a_child_that_leaves_the_running_loop_by_an_exception() -> None:
    async def main() -> None:
        async with stream() as (writer, reader):
            pid = os.fork()
            if not pid:
                sys.exit(7)
            ended = await asyncio.to_thread(os.waitpid, pid, 0)
            assert os.waitstatus_to_exitcode(ended[1]) == 7
            writer.write(bytes(MUCH))
            await reader.readexactly(MUCH)

    tofu.run(main())


def a_child_that_a_signal_handler_forks_while_the_loop_sleeps() -> None:
    """It goes on with the loop where its parent was."""
    pids = []
    reader, writer = socket.socketpair()

    def fork(*_: object) -> None:
        pids.append(os.fork())
        if pids[0]:
            writer.send(b"x")

    loop = tofu.new_event_loop()
    loop.add_reader(reader, loop.stop)
    signal.signal(signal.SIGALRM, fork)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    loop.run_forever()
    loop.close()
    reader.close()
    writer.close()
    if not pids[0]:
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == 7


def _handled(number: int) -> tuple[asyncio.AbstractEventLoop, list[str]]:
    loop, handled = tofu.new_event_loop(), []
    loop.add_signal_handler(number, handled.append, "here")
    return loop, handled


def a_signal_to_a_child_that_does_nothing() -> None:
    loop, handled = _handled(signal.SIGTERM)
    with held_back():
        child = Child(lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        os.kill(child.pid, signal.SIGTERM)
    assert child.wait() == 0
    loop.run_until_complete(asyncio.sleep(0))
    assert handled == []
    os.kill(os.getpid(), signal.SIGTERM)
    while not handled:
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def a_signal_to_a_child_that_runs_the_loop() -> None:
    """However early it comes, it is the child's, and none is lost."""
    loop, handled = _handled(signal.SIGTERM)

    def in_child() -> None:
        while not handled:
            loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()

    with held_back():
        child = Child(in_child)
        os.kill(child.pid, signal.SIGTERM)
    assert child.wait() == 0
    loop.run_until_complete(asyncio.sleep(0))
    assert handled == []
    loop.close()


def the_signals_that_were_blocked() -> None:
    loop, _ = _handled(signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])

    def check() -> None:
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGUSR1}

    assert Child(check).wait() == 0
    check()
    loop.close()


def the_wake_up_descriptor_of_somebody_else() -> None:
    """A loop without signal handlers leaves it alone."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    loop = tofu.new_event_loop()

    def check() -> None:
        # From Python 3.12 asyncio itself takes it from a child.
        expected = writer if sys.version_info < (3, 12) else -1
        assert signal.set_wakeup_fd(-1) == expected

    signal.set_wakeup_fd(writer)
    assert Child(check).wait() == 0
    assert signal.set_wakeup_fd(-1) == writer
    os.close(reader)
    os.close(writer)
    loop.close()


def a_socket_that_was_closed_without_a_word_while_a_child_has_it() -> None:
    """The kernel goes on watching it; the loop neither spins nor takes it for its successor."""
    loop = tofu.new_event_loop()
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    loop.add_reader(number, loop.stop)
    end, key = os.pipe()
    child = Child(lambda: (os.close(key), os.read(end, 1)))
    ours.close()
    loop.remove_reader(number)
    successor, peer = socket.socketpair()
    assert successor.fileno() == number
    loop.add_reader(number, loop.stop)
    theirs.send(b"to the one that was closed")
    turns = loop.statistics().turns
    loop.run_until_complete(asyncio.sleep(0.1))  # it is not stopped
    assert loop.statistics().turns < turns + 20
    peer.send(b"x")
    loop.run_forever()
    os.close(key)
    assert child.wait() == 0
    loop.close()


CASES: dict[str, Callable[[], object]] = {
    case.__name__: case
    for case in (
        a_transport_that_begins_to_write_while_a_child_begins_to_run,
        a_response_that_is_written_as_a_process_pool_starts,
        a_child_that_runs_the_loop,
        a_child_that_takes_what_its_parent_has_not,
        a_child_that_closes_the_loop,
        children_that_serve_on_a_loop_made_before,
        a_child_of_another_thread_than_the_loop_s,
        a_child_of_a_callback_that_runs_loops_of_its_own,
        a_child_that_leaves_the_running_loop_by_an_exception,
        a_child_that_a_signal_handler_forks_while_the_loop_sleeps,
        a_signal_to_a_child_that_does_nothing,
        a_signal_to_a_child_that_runs_the_loop,
        the_signals_that_were_blocked,
        the_wake_up_descriptor_of_somebody_else,
        a_socket_that_was_closed_without_a_word_while_a_child_has_it,
    )
}


if __name__ == "__main__":
    case = CASES[sys.argv[1]]
    if inspect.iscoroutinefunction(case):
        tofu.run(case())
    else:
        case()
