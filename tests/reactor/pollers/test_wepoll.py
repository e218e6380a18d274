"""What only wepoll does, and what the poller makes of it."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time

import pytest

from tests.reactor.pollers.polling import look
from tofu_aio.reactor import Loop, ReactorSelector
from tofu_aio.reactor.pollers import default_poller
from tofu_aio.reactor.pollers.poller import LONGEST_WAIT, READ

if sys.platform != "win32":
    pytest.skip("wepoll is for Windows", allow_module_level=True)
pytest.importorskip("wepoll")

from tofu_aio.reactor.pollers import wepoll
from tofu_aio.reactor.pollers.wepoll import WepollPoller


@pytest.fixture
def poller():
    poller = WepollPoller()
    yield poller
    poller.close()


class Recording:
    """The binding, and how it was asked to wait."""

    def __init__(self, epoll):
        self.epoll = epoll
        self.polls = []

    def poll(self, timeout, limit):
        self.polls.append((timeout, limit))
        return self.epoll.poll(timeout, limit)

    def __getattr__(self, name):
        return getattr(self.epoll, name)


@pytest.fixture
def recording(poller):
    poller._epoll = Recording(poller._epoll)
    return poller._epoll


def test_it_is_what_windows_gets():
    assert default_poller is WepollPoller


# What is asked of the binding.


def test_for_ever_is_a_minus_one(poller, recording, make_pair):
    left, right = make_pair()
    right.send(b"x")
    poller.add(left.fileno(), READ, 1)
    assert look(poller, None, 1) == [(left.fileno(), READ)]
    assert [timeout for timeout, _ in recording.polls] == [-1]


@pytest.mark.parametrize("timeout", [1e-12, 0.001, 1.0, LONGEST_WAIT])
def test_a_wait_never_ends_with_a_tick_of_the_clock(poller, recording, make_pair, timeout):
    left, right = make_pair()
    right.send(b"x")
    poller.add(left.fileno(), READ, 1)
    look(poller, timeout, 1)
    [(asked, _)] = recording.polls
    assert 0 < asked - timeout < 1e-5


def test_what_does_not_fit_comes_before_anything_comes_again(poller, make_pair):
    pairs = [make_pair() for _ in range(10)]
    for left, right in pairs:
        poller.add(left.fileno(), READ, 1)
        right.send(b"x")
    # The limit is for what is registered; there is room besides for what is the poller's own.
    limit = 4 - wepoll._OWN
    served = [fd for _ in range(5) for fd, _ in look(poller, None, limit)]
    assert served == [left.fileno() for left, _ in pairs] * 2


# Looking.


def fastest_of(*calls):
    """Return the least time that a hundred of each take, in turn so that all suffer alike."""
    fastest = [float("inf")] * len(calls)
    for _ in range(5):
        for number, call in enumerate(calls):
            start = time.perf_counter()
            for _ in range(100):
                call()
            fastest[number] = min(fastest[number], time.perf_counter() - start)
    return fastest


needs_a_coarse_clock = pytest.mark.skipif(
    not wepoll._COARSE_CLOCK, reason="this Python's clock is fine enough"
)


class Bare(WepollPoller):
    """Looks as the binding does alone: until the clock ticks, at the processor's cost."""

    def wait(self, timeout, limit, /):
        return self._without_own(self._epoll.poll(-1 if timeout is None else timeout, limit + 2))


@needs_a_coarse_clock
def test_a_look_does_not_last_until_the_clock_ticks(poller):
    bare = Bare()
    took, bare_took = fastest_of(lambda: poller.wait(0, 1), lambda: bare.wait(0, 1))
    bare.close()
    assert took < bare_took / 2


@needs_a_coarse_clock
def test_sleep_0_does_not_last_until_the_clock_ticks():
    def runner_on(make_poller):
        return asyncio.Runner(loop_factory=lambda: Loop(ReactorSelector(make_poller)))

    with runner_on(WepollPoller) as runner, runner_on(Bare) as bare:
        took, bare_took = fastest_of(
            lambda: runner.run(asyncio.sleep(0)), lambda: bare.run(asyncio.sleep(0))
        )
    assert took < bare_took / 2


def test_a_look_finds_what_is_ready_and_nothing_of_its_own(poller, make_pair):
    left, right = make_pair()
    poller.add(left.fileno(), READ, 1)
    for _ in range(3):
        assert poller.wait(0, 1) == []
    right.send(b"x")
    for _ in range(3):
        assert look(poller, 0, 1) == look(poller, None, 1) == [(left.fileno(), READ)]


# Handles that come and go.


def test_a_closed_handle_is_forgotten_by_the_next_wait(poller, make_pair):
    left, _ = make_pair()
    fd = left.fileno()
    poller.add(fd, READ, 1)
    assert look(poller, 0, 1) == []
    left.close()
    assert look(poller, 0.001, 1) == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        poller.remove(fd, READ)


# The end.


def test_a_poller_that_another_thread_has_used_can_be_closed():
    """In a process of its own: what it guards against is a corrupted heap."""
    code = """
import socket, threading
from tofu_aio.reactor.pollers.wepoll import WepollPoller
for _ in range(10):
    pairs = [socket.socketpair() for _ in range(20)]
    poller = WepollPoller()
    for left, _ in pairs:
        poller.add(left.fileno(), 1, 1)
    done = threading.Event()
    def use():
        poller.wait(0.001, 20)
        done.set()
        closed.wait()
        [bytes(size) for size in range(16, 4096, 16)]
    closed = threading.Event()
    thread = threading.Thread(target=use)
    thread.start()
    done.wait()
    poller.close()
    closed.set()
    thread.join()
    for left, right in pairs:
        left.close()
        right.close()
print("whole")
"""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["whole"]), done.stderr


def test_a_poller_that_cannot_be_made_leaves_no_sockets(monkeypatch):
    made = []
    socketpair = socket.socketpair

    def remember():
        made.extend(socketpair())
        return made

    def fail():
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socketpair", remember)
    monkeypatch.setattr(wepoll.wepoll, "epoll", fail)
    with pytest.raises(OSError, match="Too many open files"):
        WepollPoller()
    assert [sock.fileno() for sock in made] == [-1, -1]
