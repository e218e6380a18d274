"""Waking a sleeping loop: never in vain, never twice where once will do, never lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.shortage import Shortage, needs_a_limit
from tofu_aio.reactor import Loop, wake_up

needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="no signal handlers on Windows")


@pytest.fixture
def loop():
    loop = Loop()
    yield loop
    loop.close()


def nothing():
    pass


class CountingSocket:
    """A self-pipe's writing end that counts what goes through it, and may fail first."""

    def __init__(self, sock, failures=()):
        self.sock = sock
        self.sent = 0
        self.failures = list(failures)

    def send(self, data):
        if self.failures:
            raise self.failures.pop(0)
        self.sent += len(data)
        return self.sock.send(data)

    def __getattr__(self, name):
        return getattr(self.sock, name)


def counting(loop, *failures):
    loop._csock = CountingSocket(loop._csock, failures)
    return loop._csock


def run_one_turn(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_many_calls_before_a_turn_cost_one_wake_up(loop):
    pipe = counting(loop)
    called = []
    for number in range(1000):
        loop.call_soon_threadsafe(called.append, number)
    assert pipe.sent == 1
    run_one_turn(loop)
    assert called == list(range(1000))


def test_each_turn_takes_one_wake_up_again(loop):
    pipe = counting(loop)
    for _ in range(5):
        loop.call_soon_threadsafe(nothing)
        run_one_turn(loop)
        run_one_turn(loop)
    assert pipe.sent == 5


def test_eight_threads_and_a_hundred_thousand_calls(loop):
    """None is lost, each thread's arrive in order, and the loop sleeps in between."""
    threads, calls = 8, 12_500
    received = [[] for _ in range(threads)]
    missing = threads * calls

    def receive(thread, number):
        nonlocal missing
        received[thread].append(number)
        missing -= 1
        if not missing:
            loop.stop()

    def send(thread):
        for number in range(calls):
            loop.call_soon_threadsafe(receive, thread, number)

    senders = [
        threading.Thread(target=send, args=(thread,), daemon=True) for thread in range(threads)
    ]
    for sender in senders:
        sender.start()
    loop.run_forever()
    for sender in senders:
        sender.join()
    assert received == [list(range(calls))] * threads


def test_a_thread_wakes_the_loop_each_time_it_has_fallen_asleep(loop):
    """Ping-pong: no other event ever wakes the loop, so one lost wake-up hangs the test."""
    answered = threading.Semaphore(0)
    rounds = 2000

    def ask():
        for _ in range(rounds):
            loop.call_soon_threadsafe(answered.release)
            answered.acquire()
        loop.call_soon_threadsafe(loop.stop)

    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    loop.run_forever()
    asker.join()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_call_beside_the_reading_of_the_pipe_is_not_slept_through(loop, moment):
    """As if from another thread, right before or after the pipe is emptied."""
    called = []

    class Watched:
        def __init__(self, sock):
            self.sock = sock

        def recv(self, size):
            if moment == "before":
                loop.call_soon_threadsafe(called.append, 1)
            data = self.sock.recv(size)
            if moment == "after":
                loop.call_soon_threadsafe(called.append, 1)
            return data

        def __getattr__(self, name):
            return getattr(self.sock, name)

    ssock = loop._ssock
    loop._ssock = Watched(ssock)
    loop.call_soon_threadsafe(nothing)
    run_one_turn(loop)
    loop._ssock = ssock
    run_one_turn(loop)
    assert called == [1]
    # Whatever byte was swallowed, the next call must have one.
    waker = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,), daemon=True)
    waker.start()
    loop.run_forever()
    waker.join()


def test_a_wake_up_that_cannot_be_written_is_tried_again(loop):
    pipe = counting(loop, OSError(32, "Broken pipe"))
    loop.call_soon_threadsafe(nothing)
    assert pipe.sent == 0
    loop.call_soon_threadsafe(nothing)
    assert pipe.sent == 1


def test_a_handler_that_raises_while_a_wake_up_is_written_takes_it_from_nobody(loop):
    pipe = counting(loop, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        loop.call_soon_threadsafe(nothing)
    # Another thread may have skipped its own byte meanwhile.
    assert pipe.sent == 1
    loop.call_soon_threadsafe(loop.stop)
    loop.run_forever()


def test_a_handler_that_raises_while_the_pipe_is_read_leaves_no_flag(loop):
    class Interrupting:
        def __init__(self, sock):
            self.sock = sock

        def recv(self, size):
            self.sock.recv(size)
            raise KeyboardInterrupt

        def __getattr__(self, name):
            return getattr(self.sock, name)

    ssock = loop._ssock
    loop._ssock = Interrupting(ssock)
    loop.call_soon_threadsafe(nothing)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop._ssock = ssock
    pipe = counting(loop)
    loop.call_soon_threadsafe(loop.stop)
    assert pipe.sent == 1
    loop.run_forever()


def test_a_call_after_the_end_is_refused(loop):
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon_threadsafe(print)
    loop._write_to_self()


# The end of the self-pipe.


def end_by_shutdown(loop):
    import socket

    loop._csock.shutdown(socket.SHUT_WR)


def end_by_close(loop):
    loop._csock.close()


@pytest.mark.parametrize("end", [end_by_shutdown, end_by_close])
def test_the_loop_survives_the_end_of_its_self_pipe(loop, end):
    old = loop._ssock
    end(loop)
    loop.call_later(0.01, loop.stop)
    before = loop.statistics()
    loop.run_forever()
    # One turn to see the end, one for the timer; asyncio's own loop takes thousands.
    assert loop.statistics().turns - before.turns <= 4
    assert loop._ssock is not old
    assert old.fileno() == -1
    assert loop._internal_fds == 1
    assert loop.statistics().selector.descriptors == 1
    waker = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,), daemon=True)
    waker.start()
    loop.run_forever()
    waker.join()


def test_a_broken_self_pipe_is_renewed_too(loop):
    class Broken:
        def __init__(self, sock):
            self.sock = sock

        def recv(self, size):
            raise ConnectionResetError

        def __getattr__(self, name):
            return getattr(self.sock, name)

    broken = loop._ssock = Broken(loop._ssock)
    loop.call_soon_threadsafe(nothing)
    run_one_turn(loop)
    run_one_turn(loop)
    assert loop._ssock is not broken
    waker = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,), daemon=True)
    waker.start()
    loop.run_forever()
    waker.join()


@needs_a_limit
def test_a_self_pipe_that_cannot_be_renewed_is_told_of_once_a_try(loop, caplog, monkeypatch):
    monkeypatch.setattr(wake_up, "_RENEWAL_RETRY", 3600)
    end_by_close(loop)
    with Shortage():
        for _ in range(20):
            run_one_turn(loop)
    (record,) = caplog.records
    assert "self-pipe is broken and cannot be replaced" in record.getMessage()
    assert "trying again in 3600 s" in record.getMessage()


@needs_a_limit
def test_a_self_pipe_that_cannot_be_renewed_is_renewed_later(loop, caplog, monkeypatch):
    monkeypatch.setattr(wake_up, "_RENEWAL_RETRY", 0.01)
    broken = loop._ssock
    end_by_close(loop)
    with Shortage():
        while len(caplog.records) < 3:
            run_one_turn(loop)
        assert loop._ssock is broken
    while loop._ssock is broken:
        run_one_turn(loop)
    waker = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,), daemon=True)
    waker.start()
    loop.run_forever()
    waker.join()


@needs_signals
def test_signals_find_the_new_self_pipe(loop):
    seen = []

    def handle():
        seen.append(1)
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, handle)
    end_by_shutdown(loop)
    run_one_turn(loop)
    run_one_turn(loop)
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    assert seen == [1]


def test_without_signal_handlers_the_new_self_pipe_leaves_signals_alone(loop):
    end_by_close(loop)
    run_one_turn(loop)
    run_one_turn(loop)
    with contextlib.suppress(ValueError):
        assert signal.set_wakeup_fd(-1) == -1


# Signals.


@needs_signals
def test_a_signal_wakes_a_sleeping_loop(loop):
    seen = []

    def handle():
        seen.append(1)
        loop.stop()

    loop.add_signal_handler(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    loop.run_forever()
    assert seen == [1]


@needs_signals
def test_control_c_interrupts_a_sleeping_loop():
    """In a process of its own, which would sleep for an hour."""
    code = """
import asyncio, tofu_aio.reactor as reactor
async def main():
    print("about to sleep", flush=True)
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise
try:
    reactor.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "about to sleep\n"
    # A signal that comes between Python's last look for one and the system call does not end that:
    # asyncio's runner has no wake-up descriptor for signals (see signal.set_wakeup_fd).
    state = Path(f"/proc/{child.pid}/stat")  # of Linux
    while state.exists() and state.read_text().rpartition(") ")[2][0] in "RD":
        time.sleep(0.001)
    child.send_signal(signal.SIGINT)
    output, _ = child.communicate()
    assert output.split() == ["cancelled", "interrupted"]
    assert child.returncode == 0


def test_asyncio_s_own_loop_has_what_this_one_has_not():
    """The spin is asyncio's, so that a Python that mends it shows here."""
    loop = asyncio.SelectorEventLoop()
    turns = 0
    loop._csock.close()
    select = loop._selector.select

    def count(timeout):
        nonlocal turns
        turns += 1
        if turns == 100:
            loop.stop()
        return select(timeout)

    loop._selector.select = count
    loop.call_later(3600, print)
    loop.run_forever()
    loop.close()
    assert turns >= 100


@needs_signals
@pytest.mark.parametrize("call", [1, 2], ids=["as it looks", "as it blocks"])
def test_a_handler_that_raises_as_a_fork_begins_leaves_no_signal_blocked(loop, monkeypatch, call):
    """pthread_sigmask(2) has done its work when Python runs the handlers of what has come."""
    loop.add_signal_handler(signal.SIGTERM, lambda: None)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    calls = []

    def interrupted(how, mask):
        was = pthread_sigmask(how, mask)
        calls.append(how)
        if len(calls) == call:
            raise KeyboardInterrupt
        return was

    pthread_sigmask = signal.pthread_sigmask
    with monkeypatch.context() as patch:
        patch.setattr(signal, "pthread_sigmask", interrupted)
        with pytest.raises(KeyboardInterrupt):
            wake_up._block_handled_signals()
        wake_up._restore_signal_mask()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    assert not wake_up._masks.saved


@needs_signals
def test_a_fork_while_another_thread_makes_loops_protects_its_child(loop, monkeypatch):
    class Changing(list):
        def __iter__(self):
            if len(self) > 1:
                self.pop()
                raise RuntimeError("Set changed size during iteration")
            return super().__iter__()

    loop.add_signal_handler(signal.SIGTERM, lambda: None)
    monkeypatch.setattr(wake_up, "_living", Changing([loop, loop]))
    wake_up._block_handled_signals()
    try:
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        wake_up._restore_signal_mask()
