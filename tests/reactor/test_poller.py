"""What the `Poller` protocol promises, of every poller that runs here."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest

from tests.reactor.looking import look
from tofu_aio.reactor.pollers.poller import BOTH, READ, WRITE


def fill(sock):
    """Write until the kernel takes no more."""
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(b"x" * 65536)


def drain(sock):
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.recv(65536)


def test_nothing_watched_is_nothing_ready(poller):
    assert look(poller, 0, 0) == []


def test_a_readable_descriptor_is_reported_with_the_newest_generation(poller, make_pair):
    left, right = make_pair()
    poller.add(left.fileno(), READ, 7)
    assert look(poller, 0, 1) == []
    right.send(b"x")
    assert look(poller, None, 1) == [(left.fileno(), READ)]


def test_readiness_is_level_triggered(poller, make_pair):
    left, right = make_pair()
    poller.add(left.fileno(), READ, 1)
    right.send(b"xy")
    assert look(poller, 0, 1) == look(poller, 0, 1) == [(left.fileno(), READ)]
    left.recv(1)
    assert look(poller, 0, 1) == [(left.fileno(), READ)]
    left.recv(1)
    assert look(poller, 0, 1) == []


def test_only_what_was_asked_is_reported(poller, make_pair):
    left, right = make_pair()
    right.send(b"x")
    poller.add(left.fileno(), WRITE, 1)
    assert look(poller, 0, 1) == [(left.fileno(), WRITE)]
    poller.modify(left.fileno(), WRITE, READ, 1)
    assert look(poller, 0, 1) == [(left.fileno(), READ)]
    poller.modify(left.fileno(), READ, BOTH, 1)
    assert look(poller, 0, 1) == [(left.fileno(), BOTH)]


def test_a_writer_that_blocks_is_not_ready_until_the_reader_reads(poller, make_pair):
    left, right = make_pair()
    fill(left)
    poller.add(left.fileno(), WRITE, 1)
    assert look(poller, 0, 1) == []
    drain(right)
    assert look(poller, 0, 1) == [(left.fileno(), WRITE)]


def test_what_was_removed_is_not_reported(poller, make_pair):
    left, right = make_pair()
    right.send(b"x")
    poller.add(left.fileno(), READ, 1)
    poller.remove(left.fileno(), READ)
    assert look(poller, 0, 1) == []
    poller.add(left.fileno(), READ, 2)
    assert look(poller, 0, 1) == [(left.fileno(), READ)]


@pytest.mark.parametrize("interest", [READ, WRITE, BOTH])
def test_a_hang_up_reaches_whichever_interest_is_registered(poller, interest):
    reader, writer = os.pipe()
    try:
        poller.add(writer, interest, 1)
        os.close(reader)
        [(fd, readiness)] = look(poller, 0, 1)
        assert fd == writer
        assert readiness & interest == interest
    finally:
        os.close(writer)


def test_all_that_is_ready_is_reported_at_once_where_the_limit_allows(poller, make_pair):
    pairs = [make_pair() for _ in range(50)]
    for left, right in pairs:
        poller.add(left.fileno(), READ, 1)
        right.send(b"x")
    events = look(poller, 0, len(pairs))
    assert events == [(left.fileno(), READ) for left, _ in pairs]


@pytest.mark.parametrize("timeout", [1e-12, 0.0004, 0.001, 0.0101])
def test_a_wait_is_never_cut_short(poller, make_pair, timeout):
    left, _ = make_pair()
    poller.add(left.fileno(), READ, 1)
    start = time.monotonic()
    assert look(poller, timeout, 1) == []
    assert time.monotonic() - start >= timeout


@pytest.mark.parametrize("timeout", [2_147_484.0, 1e12, float("inf")])
def test_a_huge_timeout_is_a_long_wait_and_no_error(poller, make_pair, timeout):
    left, right = make_pair()
    poller.add(left.fileno(), READ, 1)
    right.send(b"x")
    assert look(poller, timeout, 1) == [(left.fileno(), READ)]


def test_a_timeout_that_is_not_a_number_is_refused(poller):
    with pytest.raises(ValueError, match="NaN"):
        poller.wait(float("nan"), 1)


class Interrupted(Exception):
    """Raised by a signal handler."""


def test_a_handler_that_raises_escapes_the_wait(poller, make_pair, alarm):
    def handler(*_):
        raise Interrupted

    left, _ = make_pair()
    poller.add(left.fileno(), READ, 1)
    alarm(handler, 0.01)
    with pytest.raises(Interrupted):
        look(poller, None, 1)


def test_a_handler_that_does_not_raise_leaves_the_rest_of_the_wait(poller, make_pair, alarm):
    seen = []
    left, _ = make_pair()
    poller.add(left.fileno(), READ, 1)
    alarm(lambda *_: seen.append(1), 0.01)
    start = time.monotonic()
    assert look(poller, 0.05, 1) == []
    assert time.monotonic() - start >= 0.05
    assert seen


@pytest.fixture
def alarm():
    """Arm a one-shot SIGALRM with a handler of the test's."""
    old = signal.getsignal(signal.SIGALRM)

    def arm(handler, seconds):
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    yield arm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)


def test_a_probe_sees_the_descriptor_and_no_registration(poller, make_pair):
    left, right = make_pair()
    assert poller.probe(left.fileno(), BOTH) == WRITE
    assert poller.probe(left.fileno(), READ) == 0
    right.send(b"x")
    assert poller.probe(left.fileno(), BOTH) == BOTH
    fill(left)
    assert poller.probe(left.fileno(), BOTH) == READ
    assert look(poller, 0, 1) == []


def test_a_probe_of_a_closed_descriptor_finds_nothing(poller, make_pair):
    left, _ = make_pair()
    fd = left.fileno()
    left.close()
    assert poller.probe(fd, BOTH) == 0


def test_a_closed_poller_refuses_and_closes_again(poller, make_pair):
    left, _ = make_pair()
    poller.add(left.fileno(), READ, 1)
    poller.close()
    poller.close()
    for call in (
        lambda: poller.add(left.fileno(), READ, 1),
        lambda: poller.modify(left.fileno(), READ, WRITE, 1),
        lambda: poller.remove(left.fileno(), READ),
        lambda: poller.wait(0, 1),
    ):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_what_does_not_fit_comes_before_anything_comes_again(make_pair):
    # poll(2) has no queue: it reports all that is ready each time.
    poller = pytest.importorskip("tofu_aio.reactor.pollers.epoll").EpollPoller()
    pairs = [make_pair() for _ in range(10)]
    for left, right in pairs:
        poller.add(left.fileno(), READ, 1)
        right.send(b"x")
    served = [fd for _ in range(5) for fd, _ in look(poller, 0, 4)]
    expected = [left.fileno() for left, _ in pairs] * 2
    poller.close()
    assert served == expected
