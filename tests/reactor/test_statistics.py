"""What the snapshots say, and that they are snapshots."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import socket

import pytest

from tofu_aio.reactor import Loop, ReactorSelector
from tofu_aio.reactor.pollers.poller import BOTH, READ, WRITE
from tofu_aio.reactor.statistics import Changes, name_of


@pytest.fixture
def loop():
    loop = Loop()
    yield loop
    loop.close()


def test_a_selector_counts_what_was_asked_and_what_was_issued(make_pair):
    left, right = make_pair()
    with ReactorSelector() as selector:
        selector.register(left, READ)
        selector.register(right, READ)
        for events in (BOTH, WRITE, READ, READ, BOTH):
            selector.modify(left, events, object())
        selector.modify(right, BOTH)
        selector.modify(right, READ)
        selector.select(0)
        selector.unregister(right)
        said = selector.statistics()
    assert said.asked == Changes(adds=2, modifies=6, removes=1)
    assert said.issued == Changes(adds=2, modifies=1, removes=1)
    assert said.descriptors == 1
    assert said.rebuilds == 0


def test_a_selector_counts_what_it_delivers_and_what_it_drops(make_pair):
    left, right = make_pair()
    with ReactorSelector() as selector:
        selector.register(left, WRITE)
        selector.register(right, WRITE)
        selector.select(0)
        selector.select(0)
        said = selector.statistics()
        assert (said.delivered, said.dropped) == (4, 0)
        fd, copy = left.fileno(), left.dup()
        left.close()
        selector.unregister(fd)
        selector.select(0)
        after = selector.statistics()
        copy.close()
    if after.dropped:
        # poll(2) has no stale registrations.
        assert (after.dropped, after.rebuilds) == (1, 1)


def test_a_snapshot_does_not_change(loop):
    before = loop.statistics()
    copy = dataclasses.replace(before)
    loop.run_until_complete(asyncio.sleep(0))
    assert before == copy
    assert loop.statistics() != before
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.turns = 0


def test_a_loop_counts_its_turns(loop):
    loop.run_until_complete(asyncio.sleep(0))
    before = loop.statistics().turns
    for _ in range(5):
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert loop.statistics().turns == before + 5


def test_waiting_and_running_are_told_apart(loop, monkeypatch):
    # A clock that only moves where the test says.
    now = [100.0]
    monkeypatch.setattr("tofu_aio.reactor.loop.monotonic", lambda: now[0])
    select = loop._reactor.select

    def sleepy(timeout):
        now[0] += 5
        return select(0)

    def busy():
        now[0] += 2

    monkeypatch.setattr(loop._reactor, "select", sleepy)
    loop.call_soon(busy)
    loop.call_soon(loop.stop)
    loop.run_forever()
    said = loop.statistics()
    assert (said.waiting, said.running) == (5, 2)
    assert said.slowest_callback == (2, "test_waiting_and_running_are_told_apart.<locals>.busy")
    # The time between two runs is neither.
    now[0] += 1000
    loop.call_soon(loop.stop)
    loop.run_forever()
    said = loop.statistics()
    assert (said.waiting, said.running) == (10, 2)


@pytest.mark.parametrize("debug", [False, True])
def test_the_slowest_callback_of_a_task_is_named_by_its_coroutine(loop, monkeypatch, debug):
    now = [0.0]
    monkeypatch.setattr("tofu_aio.reactor.loop.monotonic", lambda: now[0])

    async def main():
        now[0] += 3

    loop.set_debug(debug)
    loop.run_until_complete(main())
    slowest = loop.statistics().slowest_callback
    assert slowest.seconds == 3
    assert slowest.name.endswith("<locals>.main")


def test_before_anything_has_run_nothing_was_slowest(loop):
    assert loop.statistics().slowest_callback is None


def test_a_closed_loop_still_tells():
    loop = Loop()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    said = loop.statistics()
    assert said.turns > 0
    assert said.selector.descriptors == 0


def test_the_self_pipe_is_a_descriptor_like_any_other(loop):
    assert loop.statistics().selector.descriptors == 1
    sock = socket.socket(type=socket.SOCK_DGRAM)
    loop.add_writer(sock, print)
    assert loop.statistics().selector.descriptors == 2
    loop.remove_writer(sock)
    sock.close()


@pytest.fixture
def clock(monkeypatch):
    """A clock that only moves where the test says."""
    now = [100.0]
    monkeypatch.setattr("tofu_aio.reactor.loop.monotonic", lambda: now[0])
    return now


def test_a_callback_that_removes_itself_has_a_name(loop, make_pair, clock):
    left, right = make_pair()
    right.send(b"x")

    def once():
        clock[0] += 2
        loop.remove_reader(left)
        loop.stop()

    loop.add_reader(left, once)
    loop.run_forever()
    slowest = loop.statistics().slowest_callback
    assert slowest == (2, "test_a_callback_that_removes_itself_has_a_name.<locals>.once")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_turn_that_ends_with_an_interruption_counts(loop, clock, error):
    def interrupted():
        clock[0] += 2
        raise error

    loop.call_soon(interrupted)
    with pytest.raises(error):
        loop.run_forever()
    said = loop.statistics()
    assert (said.turns, said.running) == (1, 2)
    assert said.slowest_callback.seconds == 2


def test_running_it_twice_at_once_is_refused_and_not_counted(loop, clock):
    def again():
        clock[0] += 2
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_forever()
        loop.stop()

    loop.call_soon(again)
    loop.run_forever()
    said = loop.statistics()
    assert (said.waiting, said.running) == (0, 2)


class Secretive:
    """A callable that does not answer for its attributes."""

    def __call__(self):
        pass

    def __getattr__(self, name):
        raise RuntimeError(name)


def test_a_callback_is_named_by_what_it_calls():
    def function():
        pass

    named = "test_a_callback_is_named_by_what_it_calls.<locals>.function"
    assert name_of(function) == named
    assert name_of(functools.partial(functools.partial(function))) == named
    assert name_of([].append) == "list.append"
    assert name_of(Secretive().__call__) == "Secretive.__call__"
    assert name_of(Secretive()) == "Secretive"


def test_a_secretive_callback_is_run_and_counted_like_any_other(loop, make_pair, clock):
    left, right = make_pair()
    right.send(b"x")
    loop.set_debug(False)  # asyncio's own debug mode asks
    loop.add_reader(left, Secretive())
    loop.call_soon(Secretive())
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert loop.statistics().turns == 1
    assert loop.remove_reader(left)


def test_what_was_refused_is_delivered_like_any_other():
    with ReactorSelector() as selector:
        left, right = socket.socketpair()
        fd = left.fileno()
        left.close()
        right.close()
        selector.enlist(fd, READ)
        assert len(selector.select(0)) == 1
        assert selector.statistics().delivered == 1
