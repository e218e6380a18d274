"""The selector under every order of events, forks among them: ``python -m tests.forks.selectors``.

The machine of ``tests.reactor.test_selector_properties``, over epoll itself, forks at random
moments a child that begins to run at another one, and uses what it has inherited.
"""

from __future__ import annotations

from tests.forks.children import Child, held_back  # isort: skip - before tofu_aio

import contextlib
import socket
import sys

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from tests.reactor.test_selector_properties import (
    EFFORT,
    EVENTS,
    SLOTS,
    THOROUGH,
    ProgramOverEpoll,
)
from tests.reactor.worlds import FIRST_NUMBER, RealWorld
from tofu_aio.reactor import ReactorSelector

DEEDS = st.sampled_from(["select", "unregister", "register"])


class SharedWorld(RealWorld):
    """A world of sockets of which children have copies."""

    def hang_up(self, number):
        if not self.files[number].hung_up:
            self.peers[self.files[number]].shutdown(socket.SHUT_RDWR)
        super().hang_up(number)


class ForkingProgram(ProgramOverEpoll):
    """The same with one child at a time."""

    world_type = SharedWorld

    def __init__(self):
        super().__init__()
        self.child = None
        self.gate = contextlib.ExitStack()

    def teardown(self):
        if self.child is not None:
            self.begin_to_run()
        super().teardown()

    @precondition(lambda self: self.child is None)
    @rule(slot=SLOTS, events=EVENTS, deed=DEEDS)
    def fork(self, slot, events, deed):
        self.gate.enter_context(held_back())
        self.child = Child(lambda: self.live(FIRST_NUMBER + slot, events, deed))

    @precondition(lambda self: self.child is not None)
    @rule()
    def begin_to_run(self):
        self.gate.close()
        child, self.child = self.child, None
        assert child.wait() == 0

    @precondition(lambda self: self.child is None)
    @rule(slot=SLOTS, events=EVENTS, deed=DEEDS)
    def change_its_mind_before_the_child_begins(self, slot, events, deed):
        self.fork(slot, events, deed)
        self.modify(slot, events)
        self.select(0)
        self.begin_to_run()
        self.settle()

    def live(self, number, events, deed):
        """In the child."""
        self.world.meanwhile = None
        match deed:
            case "select":
                # It has the same files, and what is true of them now.
                for key, told in self.selector.select(0):
                    assert key is self.wanted[key.fd]
                    assert not told & ~key.events
            case "unregister":
                for watched in list(self.wanted):
                    self.selector.unregister(watched)
            case "register":
                if number in self.wanted:
                    self.selector.modify(number, events)
                elif number in self.world.files:
                    self.selector.register(number, events)
                self.selector.select(0)
        self.selector.close()


class TellsTheParent(ReactorSelector):
    """Tells the poller that it has inherited what it remembers."""

    def _leave_parent(self):
        for registration in list(self._table.values()):
            armed, registration.armed = registration.armed, 0
            with contextlib.suppress(OSError):
                if armed:
                    fd = registration.key.fd
                    self._poller.modify(fd, armed, armed, registration.generation)
                    self._changed.add(fd)
        self._poller.close()
        self._poller = self._make_poller()


class KeepsTheParents(ReactorSelector):
    """Goes on with the poller that it has inherited."""

    def _leave_parent(self):
        pass


MISTAKES = {mistake.__name__: mistake for mistake in (TellsTheParent, KeepsTheParents)}


if __name__ == "__main__":
    effort = settings(EFFORT, max_examples=60)
    if sys.argv[1:]:
        ForkingProgram.selector_type = MISTAKES[sys.argv[1]]
        effort = THOROUGH
    run_state_machine_as_test(ForkingProgram, settings=effort)
