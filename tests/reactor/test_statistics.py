"""What the snapshots say, and that they are snapshots."""

from __future__ import annotations

import asyncio
import dataclasses
import socket

import pytest

from tofu_aio.reactor import Loop, ReactorSelector
from tofu_aio.reactor.pollers.poller import BOTH, READ, WRITE
from tofu_aio.reactor.statistics import Changes


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
        fd, ghost = left.fileno(), left.dup()
        left.close()
        selector.unregister(fd)
        selector.select(0)
        after = selector.statistics()
        ghost.close()
    if after.dropped:
        # poll(2) has no ghosts.
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
