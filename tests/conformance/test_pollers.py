"""What the `Poller` protocol promises, of every poller that runs here.

What only one system does is in `tests/reactor`, in a module of its own for each poller.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time

import pytest

from tests.reactor.every_poller import POLLERS
from tests.reactor.pollers.polling import look
from tofu_aio.reactor.pollers.poller import BOTH, LONGEST_WAIT, READ, REFUSED, WRITE

unix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows watches sockets only")


@pytest.fixture(params=sorted(POLLERS))
def poller(request):
    poller = POLLERS[request.param]()
    yield poller
    poller.close()


@pytest.fixture
def attentive_poller(poller):
    """A poller that is told things while it waits. poll(2) takes its list when it begins."""
    if type(poller).__name__ == "PollPoller":
        pytest.skip("poll(2) knows only what it was called with")
    return poller


@pytest.fixture
def made():
    """What closes at the end."""
    with contextlib.ExitStack() as made:
        yield made


@pytest.fixture
def make_pair(made):
    """Make connected, non-blocking stream sockets."""

    def make():
        pair = socket.socketpair()
        for sock in pair:
            sock.setblocking(False)
            made.callback(sock.close)
        return pair

    return make


@pytest.fixture
def reuse(made, make_pair):
    """Close a socket; return a new pair of which the first has its number."""

    def reuse(sock):
        number = sock.fileno()
        if sys.platform == "win32":
            sock.close()
            ours, peer = take(number)
            made.callback(peer.close)
        else:
            spare, peer = make_pair()
            # The number is nobody's at no time, so no other thread can take it.
            os.dup2(spare.fileno(), number, inheritable=False)
            spare.close()
            sock.detach()
            ours = socket.socket(fileno=number)
        made.callback(ours.close)
        ours.setblocking(False)
        peer.setblocking(False)
        return ours, peer

    return reuse


def take(number):
    """Return a new pair of which the first has a number that was closed before."""
    with contextlib.ExitStack() as others:
        # Not by a socketpair, which on Windows uses up some numbers before.
        for _ in range(100):
            ours = socket.socket()
            if ours.fileno() == number:
                break
            others.enter_context(ours)
        else:
            pytest.skip("the system does not hand out the number again")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours.connect(listener.getsockname())
            peer, _ = listener.accept()
    return ours, peer


@pytest.fixture
def alarm():
    """Let a signal come to the main thread, after some seconds, with a handler of the test's."""
    # Not SIGALRM, by which tests that hang are ended.
    number = signal.SIGINT if sys.platform == "win32" else signal.SIGUSR1
    old = signal.getsignal(number)
    timers = []

    def ring():
        if sys.platform == "win32":
            signal.raise_signal(number)
        else:
            signal.pthread_kill(threading.main_thread().ident, number)

    def arm(handler, seconds):
        signal.signal(number, handler)
        timers.append(threading.Timer(seconds, ring))
        timers[-1].start()

    yield arm
    for timer in timers:
        timer.cancel()
        timer.join()
    signal.signal(number, old)


def fill(sock):
    """Write until the kernel takes no more."""
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(b"x" * 65536)


def drain(sock):
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.recv(65536)


# Readiness.


def test_nothing_watched_is_nothing_ready(poller):
    assert look(poller, 0, 1) == []
    assert look(poller, 0.001, 1) == []


def test_what_becomes_ready_is_reported(poller, make_pair):
    left, right = make_pair()
    poller.add(left.fileno(), READ, 7)
    assert look(poller, 0, 1) == []
    right.send(b"x")
    assert look(poller, None, 1) == [(left.fileno(), READ)]


def test_what_becomes_ready_during_the_wait_ends_it(poller, make_pair):
    left, right = make_pair()
    poller.add(left.fileno(), READ, 1)
    writer = threading.Timer(0.01, right.send, (b"x",))
    writer.start()
    assert look(poller, None, 1) == [(left.fileno(), READ)]
    writer.join()


def test_what_was_ready_before_it_was_added_is_reported(poller, make_pair):
    left, right = make_pair()
    right.send(b"x")
    poller.add(left.fileno(), BOTH, 1)
    assert look(poller, None, 1) == [(left.fileno(), BOTH)]


def test_readiness_is_level_triggered(poller, make_pair):
    left, right = make_pair()
    poller.add(left.fileno(), READ, 1)
    right.send(b"xy")
    assert look(poller, None, 1) == look(poller, 0, 1) == [(left.fileno(), READ)]
    left.recv(1)
    assert look(poller, 0, 1) == [(left.fileno(), READ)]
    left.recv(1)
    assert look(poller, 0, 1) == []


def test_a_writer_that_blocks_is_not_ready_until_the_reader_reads(poller, make_pair):
    left, right = make_pair()
    fill(left)
    poller.add(left.fileno(), WRITE, 1)
    assert look(poller, 0, 1) == []
    drain(right)
    assert look(poller, None, 1) == [(left.fileno(), WRITE)]


def test_a_descriptor_that_is_ready_for_both_is_reported_once(poller, make_pair):
    pairs = [make_pair() for _ in range(3)]
    for left, right in pairs:
        right.send(b"x")
        poller.add(left.fileno(), BOTH, 1)
    events = look(poller, 0, len(pairs))
    assert sorted(events) == sorted((left.fileno(), BOTH) for left, _ in pairs)


def test_each_of_both_is_reported_alone(poller, make_pair):
    left, right = make_pair()
    poller.add(left.fileno(), BOTH, 1)
    assert look(poller, None, 1) == [(left.fileno(), WRITE)]
    fill(left)
    assert look(poller, 0, 1) == []
    right.send(b"x")
    assert look(poller, None, 1) == [(left.fileno(), READ)]


@pytest.mark.parametrize("interest", [READ, WRITE, BOTH])
def test_a_hang_up_reaches_whichever_interest_is_registered(poller, make_pair, interest):
    left, right = make_pair()
    poller.add(left.fileno(), interest, 1)
    right.close()
    [(fd, readiness)] = look(poller, None, 1)
    assert fd == left.fileno()
    assert readiness & interest
    assert readiness & READ or interest == WRITE


@unix_only
@pytest.mark.parametrize("interest", [READ, WRITE, BOTH])
def test_a_pipe_s_writer_hears_of_its_reader_s_end(poller, interest):
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * 65536)
        poller.add(writer, interest, 1)
        assert look(poller, 0, 1) == []
        os.close(reader)
        [(fd, readiness)] = look(poller, None, 1)
        assert fd == writer
        assert readiness & interest == interest
    finally:
        os.close(writer)


@unix_only
def test_a_pipe_s_reader_hears_of_its_writer_s_end(poller):
    reader, writer = os.pipe()
    try:
        poller.add(reader, READ, 1)
        assert look(poller, 0, 1) == []
        os.close(writer)
        [(fd, readiness)] = look(poller, None, 1)
        assert fd == reader
        assert readiness & READ
    finally:
        os.close(reader)


def test_a_peer_that_only_stops_writing_lets_nobody_write(poller, make_pair):
    left, right = make_pair()
    fill(left)
    poller.add(left.fileno(), BOTH, 1)
    assert look(poller, 0, 1) == []
    right.shutdown(socket.SHUT_WR)
    assert look(poller, None, 1) == [(left.fileno(), READ)]


def test_a_peer_that_only_stops_writing_does_not_wake_who_waits_to_write(poller, make_pair):
    left, right = make_pair()
    fill(left)
    poller.add(left.fileno(), WRITE, 1)
    right.shutdown(socket.SHUT_WR)
    assert look(poller, 0, 1) == look(poller, 0.02, 1) == []
    drain(right)
    [(fd, readiness)] = look(poller, None, 1)
    assert fd == left.fileno()
    assert readiness & WRITE


# Changes.


def test_only_what_was_asked_last_is_reported(poller, make_pair):
    left, right = make_pair()
    fd = left.fileno()
    right.send(b"x")
    poller.add(fd, WRITE, 1)
    assert look(poller, None, 1) == [(fd, WRITE)]
    for armed, interest in (
        (WRITE, READ),
        (READ, BOTH),
        (BOTH, WRITE),
        (WRITE, BOTH),
        (BOTH, READ),
    ):
        poller.modify(fd, armed, interest, 1)
        assert look(poller, None, 1) == look(poller, 0, 1) == [(fd, interest)]


def test_a_change_of_mind_counts_before_any_wait(poller, make_pair):
    left, right = make_pair()
    right.send(b"x")
    poller.add(left.fileno(), WRITE, 1)
    poller.modify(left.fileno(), WRITE, READ, 1)
    assert look(poller, None, 1) == [(left.fileno(), READ)]


def test_of_many_changes_of_mind_the_last_counts(poller, make_pair):
    left, right = make_pair()
    fd = left.fileno()
    right.send(b"x")
    poller.add(fd, READ, 1)
    poller.modify(fd, READ, WRITE, 1)
    poller.modify(fd, WRITE, BOTH, 1)
    poller.modify(fd, BOTH, WRITE, 1)
    assert look(poller, None, 1) == [(fd, WRITE)]
    poller.modify(fd, WRITE, READ, 1)
    poller.modify(fd, READ, WRITE, 1)
    assert look(poller, None, 1) == [(fd, WRITE)]


def test_changes_of_many_are_all_made(poller, make_pair):
    pairs = [make_pair() for _ in range(20)]
    for left, right in pairs:
        right.send(b"x")
        poller.add(left.fileno(), WRITE, 1)
    for left, _ in pairs:
        poller.modify(left.fileno(), WRITE, READ, 1)
    events = look(poller, None, len(pairs))
    assert sorted(events) == sorted((left.fileno(), READ) for left, _ in pairs)


@pytest.mark.parametrize("interest", [READ, WRITE, BOTH])
def test_what_was_removed_is_not_reported(poller, make_pair, interest):
    left, right = make_pair()
    right.send(b"x")
    poller.add(left.fileno(), interest, 1)
    assert look(poller, None, 1) == [(left.fileno(), interest)]
    poller.remove(left.fileno(), interest)
    assert look(poller, 0, 1) == []
    poller.add(left.fileno(), interest, 2)
    assert look(poller, None, 1) == [(left.fileno(), interest)]


@pytest.mark.parametrize(("armed", "interest"), [(READ, WRITE), (READ, BOTH), (BOTH, WRITE)])
def test_a_change_of_mind_before_a_removal_leaves_nothing(poller, make_pair, armed, interest):
    left, right = make_pair()
    right.send(b"x")
    poller.add(left.fileno(), armed, 1)
    poller.modify(left.fileno(), armed, interest, 1)
    poller.remove(left.fileno(), interest)
    assert look(poller, 0, 1) == []
    poller.add(left.fileno(), READ, 2)
    assert look(poller, None, 1) == [(left.fileno(), READ)]


def test_what_is_watched_already_can_be_added_again(poller, make_pair):
    left, right = make_pair()
    right.send(b"x")
    poller.add(left.fileno(), WRITE, 1)
    poller.add(left.fileno(), WRITE, 2)
    assert look(poller, None, 1) == [(left.fileno(), WRITE)]
    poller.modify(left.fileno(), WRITE, READ, 2)
    assert look(poller, None, 1) == [(left.fileno(), READ)]
    poller.remove(left.fileno(), READ)
    assert look(poller, 0, 1) == []


# Descriptors that close.


def test_a_closed_descriptor_can_be_removed_or_is_unknown(poller, make_pair):
    left, right = make_pair()
    fd = left.fileno()
    poller.add(fd, READ, 1)
    right.send(b"x")
    assert look(poller, None, 1) == [(fd, READ)]
    left.close()
    with contextlib.suppress(OSError):
        poller.remove(fd, READ)
    assert look(poller, 0, 1) == []


@pytest.mark.parametrize("interest", [READ, BOTH])
def test_a_reused_number_means_its_new_file(poller, make_pair, reuse, interest):
    left, right = make_pair()
    fd = left.fileno()
    poller.add(fd, BOTH, 1)
    poller.remove(fd, BOTH)
    new, peer = reuse(left)
    fill(new)
    poller.add(fd, interest, 2)
    right.close()
    assert look(poller, 0, 1) == []
    peer.send(b"x")
    assert look(poller, None, 1) == [(fd, READ)]
    poller.remove(fd, interest)


@pytest.mark.parametrize("armed", [READ, WRITE, BOTH])
def test_a_number_reused_before_its_removal_means_its_new_file(poller, make_pair, reuse, armed):
    left, right = make_pair()
    fd = left.fileno()
    poller.add(fd, armed, 1)
    new, peer = reuse(left)
    fill(new)
    with contextlib.suppress(OSError):
        poller.remove(fd, armed)
    poller.add(fd, READ, 2)
    right.close()
    assert look(poller, 0, 1) == []
    peer.send(b"x")
    assert look(poller, None, 1) == [(fd, READ)]
    poller.remove(fd, READ)


@pytest.mark.parametrize("armed", [READ, WRITE, BOTH])
@pytest.mark.parametrize("interest", [READ, WRITE, BOTH])
def test_a_change_of_mind_about_a_reused_number_is_unknown_or_means_its_new_file(
    poller, make_pair, reuse, armed, interest
):
    left, _ = make_pair()
    fd = left.fileno()
    poller.add(fd, armed, 1)
    _, peer = reuse(left)
    try:
        poller.modify(fd, armed, interest, 1)
    except FileNotFoundError:
        poller.add(fd, interest, 1)
    peer.send(b"x")
    said = look(poller, None, 1)
    if said == [(fd, REFUSED)]:
        poller.add(fd, interest, 1)
        said = look(poller, None, 1)
    assert said == [(fd, interest)]
    poller.remove(fd, interest)


def test_a_refused_change_costs_the_others_nothing(poller, make_pair):
    pairs = [make_pair() for _ in range(5)]
    closed, *others = [left.fileno() for left, _ in pairs]
    for fd in (closed, *others):
        poller.add(fd, READ, 1)
    pairs[0][0].close()
    # Heard of at once, or with the next answer, or (a Windows that lets it pass) not at all.
    with contextlib.suppress(OSError):
        poller.modify(closed, READ, WRITE, 1)
    for fd in others:
        poller.modify(fd, READ, WRITE, 1)
    said = dict(look(poller, None, len(pairs)))
    said.pop(closed, None)
    assert said == dict.fromkeys(others, WRITE)
    with contextlib.suppress(OSError):
        poller.remove(closed, WRITE)
    assert dict(look(poller, 0, len(pairs))) == said


# Limits and order.


def test_all_that_is_ready_is_reported_at_once_where_the_limit_allows(poller, make_pair):
    pairs = [make_pair() for _ in range(50)]
    for left, right in pairs:
        poller.add(left.fileno(), BOTH, 1)
        right.send(b"x")
    events = look(poller, None, len(pairs))
    assert events == [(left.fileno(), BOTH) for left, _ in pairs]


def test_what_does_not_fit_comes_before_anything_comes_again(poller, make_pair):
    pairs = [make_pair() for _ in range(20)]
    for left, right in pairs:
        poller.add(left.fileno(), READ, 1)
        right.send(b"x")
    served = []
    while len(served) < 60:
        served += [fd for fd, _ in look(poller, None, 3)]
    assert served[:60] == [left.fileno() for left, _ in pairs] * 3


def test_changes_need_no_room(poller, make_pair):
    pairs = [make_pair() for _ in range(10)]
    for left, _ in pairs:
        poller.add(left.fileno(), READ, 1)
        poller.modify(left.fileno(), READ, BOTH, 1)
    for left, _ in pairs[:3]:
        left.close()
    seen = set()
    for _ in range(40):
        seen |= {fd for fd, said in look(poller, 0, 1) if said == WRITE}
    assert seen == {left.fileno() for left, _ in pairs[3:]}


# Timeouts.


@pytest.mark.parametrize("timeout", [1e-12, 0.0004, 0.001, 0.0101])
def test_a_wait_is_never_cut_short(poller, make_pair, timeout):
    left, _ = make_pair()
    poller.add(left.fileno(), READ, 1)
    start = time.monotonic()
    assert look(poller, timeout, 1) == []
    assert time.monotonic() - start >= timeout


def test_a_wait_is_not_cut_short_by_changes(poller, make_pair):
    left, _ = make_pair()
    other, _ = make_pair()
    poller.add(left.fileno(), WRITE, 1)
    poller.modify(left.fileno(), WRITE, READ, 1)
    poller.add(other.fileno(), READ, 1)
    poller.remove(other.fileno(), READ)
    start = time.monotonic()
    assert look(poller, 0.02, 1) == []
    assert time.monotonic() - start >= 0.02


def test_the_longest_timeout_is_a_wait_and_no_error(poller, make_pair):
    left, right = make_pair()
    poller.add(left.fileno(), READ, 1)
    writer = threading.Timer(0.01, right.send, (b"x",))
    writer.start()
    assert look(poller, LONGEST_WAIT, 1) == [(left.fileno(), READ)]
    writer.join()


def test_a_timeout_that_is_not_a_number_is_refused_and_costs_no_change(poller, make_pair):
    left, right = make_pair()
    poller.add(left.fileno(), WRITE, 1)
    poller.modify(left.fileno(), WRITE, READ, 1)
    with pytest.raises(ValueError, match="NaN"):
        poller.wait(float("nan"), 1)
    right.send(b"x")
    assert look(poller, None, 1) == [(left.fileno(), READ)]


# Signals and threads.


class Interrupted(Exception):
    """Raised by a signal handler."""


def test_a_handler_that_raises_escapes_the_wait_and_costs_no_change(poller, make_pair, alarm):
    def handler(*_):
        raise Interrupted

    left, right = make_pair()
    fill(left)
    poller.add(left.fileno(), WRITE, 1)
    poller.modify(left.fileno(), WRITE, READ, 1)

    def wait():
        alarm(handler, 0.01)
        look(poller, None, 1)

    with pytest.raises(Interrupted):
        wait()
    right.send(b"x")
    assert look(poller, None, 1) == [(left.fileno(), READ)]


@pytest.mark.parametrize("changed", [False, True])
def test_a_handler_that_does_not_raise_leaves_the_rest_of_the_wait(
    poller, make_pair, alarm, changed
):
    seen = []
    left, _ = make_pair()
    fill(left)
    poller.add(left.fileno(), BOTH, 1)
    if changed:
        poller.modify(left.fileno(), BOTH, READ, 1)
    alarm(lambda *_: seen.append(1), 0.01)
    start = time.monotonic()
    assert look(poller, 0.05, 1) == []
    assert time.monotonic() - start >= 0.05
    assert seen


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("interest", [READ, WRITE, BOTH])
@pytest.mark.parametrize("changed", [READ, WRITE, BOTH])
def test_what_a_handler_changes_prevails_over_what_was_asked_before(
    attentive_poller, make_pair, reuse, alarm, changed, interest, raises
):
    poller = attentive_poller
    left, _ = make_pair()
    fd = left.fileno()
    fill(left)

    def handler(*_):
        poller.remove(fd, changed)
        new, peer = reuse(left)
        fill(new)
        poller.add(fd, interest, 2)
        # Ready for no more than what is watched, so that nothing else wakes the poller.
        if interest & WRITE:
            drain(peer)
        if interest & READ:
            peer.send(b"x")
        if raises:
            raise Interrupted

    armed = WRITE if changed == READ else READ
    poller.add(fd, armed, 1)
    poller.modify(fd, armed, changed, 1)
    said = 0
    with contextlib.suppress(Interrupted):
        alarm(handler, 0.01)
        said = dict(look(poller, None, 1))[fd]
    while said != interest:
        said |= dict(look(poller, None, 1))[fd]
        assert not said & ~interest
    assert look(poller, 0, 1) == [(fd, interest)]
    poller.remove(fd, interest)
    assert look(poller, 0, 1) == []


def test_what_a_handler_removes_stays_removed(attentive_poller, make_pair, alarm):
    poller = attentive_poller
    left, right = make_pair()
    other, peer = make_pair()
    fill(left)

    def handler(*_):
        poller.remove(left.fileno(), READ)
        right.send(b"x")
        peer.send(b"x")

    poller.add(left.fileno(), WRITE, 1)
    poller.add(other.fileno(), READ, 2)
    poller.modify(left.fileno(), WRITE, READ, 1)
    alarm(handler, 0.01)
    assert look(poller, None, 2) == [(other.fileno(), READ)]
    assert look(poller, 0, 2) == [(other.fileno(), READ)]


@pytest.mark.parametrize("change", ["add", "modify", "modify again"])
def test_another_thread_s_change_takes_effect_during_the_wait(attentive_poller, make_pair, change):
    poller = attentive_poller
    left, _ = make_pair()
    fd = left.fileno()

    def tell():
        if change == "add":
            poller.add(fd, WRITE, 2)
        else:
            poller.modify(fd, READ, WRITE, 1)

    if change != "add":
        poller.add(fd, BOTH if change == "modify again" else READ, 1)
    if change == "modify again":
        poller.modify(fd, BOTH, READ, 1)
    # Whether it comes before the wait or during it, the wait ends.
    thread = threading.Timer(0.02, tell)
    thread.start()
    assert look(poller, None, 1) == [(fd, WRITE)]
    thread.join()
    poller.remove(fd, WRITE)


# The rest.


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


def test_every_flag_has_a_meaning(poller, make_pair):
    left, _ = make_pair()
    poller.add(left.fileno(), WRITE, 1)
    [(_, flags)] = poller.wait(None, 1)
    assert poller.meaning[flags] == WRITE
