"""The selector under every order of events, against a model of the kernel and against the kernel.

One state machine plays a program that opens, registers, changes its mind, closes (now and then
without a word), copies descriptors and reuses numbers, with signal handlers that do the same while
the selector waits. It knows what is true of every file, so it knows what `select` may and must say.
It runs against a model of epoll, where it also makes the kernel lie, and against epoll itself.
The planted mistakes at the end show that it can fail.
"""

from __future__ import annotations

import contextlib
import select

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tofu_aio.reactor import ReactorSelector
from tofu_aio.reactor.pollers.poller import BOTH, READ, WRITE

if not hasattr(select, "epoll"):
    pytest.skip("this system has no epoll", allow_module_level=True)

from tests.reactor.worlds import FIRST_NUMBER, RealWorld, World

# Mostly the same number, so that its lives follow each other closely.
SLOTS = st.sampled_from([0, 0, 0, 1])
EVENTS = st.sampled_from([READ, WRITE, BOTH])


class Program(RuleBasedStateMachine):
    """A program that uses a selector, and the judge of what the selector tells it."""

    world_type: type[World] = World
    selector_type: type[ReactorSelector] = ReactorSelector

    def __init__(self):
        super().__init__()
        self.world = self.world_type()
        self.selector = self.selector_type(self.world.make_poller)
        self.wanted = {}
        # Registered numbers that were closed without a word: nothing is owed for them.
        self.orphans = set()
        # Whether nothing has happened yet that could leave a stale registration or a stray event.
        self.clean = True
        self.serial = 0

    def teardown(self):
        self.selector.close()
        self.world.end()

    # The files.

    @initialize()
    def begin(self):
        for slot in range(2):
            self.open(slot)
            self.register(slot, READ)

    @rule(slot=SLOTS)
    def open(self, slot):
        number = FIRST_NUMBER + slot
        if number not in self.world.files:
            self.world.open(number)

    @rule(slot=SLOTS, reopen=st.booleans())
    def close_properly(self, slot, reopen):
        number = FIRST_NUMBER + slot
        if number in self.wanted:
            self.unregister(slot)
        if number in self.world.files:
            self.selector.settle(number)
            self.world.close(number)
        if reopen:
            self.open(slot)

    @rule(slot=SLOTS, copy=st.booleans(), reopen=st.booleans())
    def close_without_a_word(self, slot, copy, reopen):
        number = FIRST_NUMBER + slot
        if number in self.world.files:
            if number in self.wanted:
                self.orphans.add(number)
                self.clean = False
            if copy and len(self.world.copies) < 3:
                self.world.copy(number)
            # Who lets a number rest has promised this much.
            self.selector.settle(number)
            self.world.close(number)
        if reopen:
            self.open(slot)

    @rule(index=st.integers(0, 2))
    def close_copy(self, index):
        if index < len(self.world.copies):
            self.world.close_copy(index)

    @rule(index=st.integers(0, 2), slot=SLOTS)
    def restore(self, index, slot):
        number = FIRST_NUMBER + slot
        if index < len(self.world.copies) and number not in self.world.files:
            self.world.restore(index, number)

    @rule(slot=SLOTS, what=st.sampled_from(["feed", "drain", "block", "unblock", "hang_up"]))
    def happen(self, slot, what):
        if FIRST_NUMBER + slot in self.world.files:
            getattr(self.world, what)(FIRST_NUMBER + slot)

    # The selector.

    @rule(slot=SLOTS, events=EVENTS)
    def register(self, slot, events):
        number = FIRST_NUMBER + slot
        self.serial += 1
        if number in self.wanted:
            with pytest.raises(KeyError):
                self.selector.register(number, events, self.serial)
        elif number not in self.world.files:
            with pytest.raises(OSError, match=r"EBADF|Bad file"):
                self.selector.register(number, events, self.serial)
        else:
            self.wanted[number] = self.selector.register(number, events, self.serial)

    @rule(slot=SLOTS, events=EVENTS)
    def modify(self, slot, events):
        number = FIRST_NUMBER + slot
        self.serial += 1
        if number in self.wanted:
            self.wanted[number] = self.selector.modify(number, events, self.serial)
        else:
            with pytest.raises(KeyError):
                self.selector.modify(number, events, self.serial)

    @rule(slot=SLOTS, events=EVENTS)
    def take_over(self, slot, events):
        """Who has the number now is owed what is true of it, whatever became of who had it."""
        number = FIRST_NUMBER + slot
        if number in self.wanted and number in self.world.files:
            self.serial += 1
            self.wanted[number] = self.selector.renew(number, events, self.serial)
            self.orphans.discard(number)

    @rule(slot=SLOTS)
    def unregister(self, slot):
        number = FIRST_NUMBER + slot
        if number in self.wanted:
            assert self.selector.unregister(number) == self.wanted.pop(number)
            self.orphans.discard(number)
        else:
            with pytest.raises(KeyError):
                self.selector.unregister(number)

    @rule(slot=SLOTS, events=EVENTS)
    def enlist(self, slot, events):
        number = FIRST_NUMBER + slot
        if number not in self.wanted and number in self.world.files:
            self.serial += 1
            self.wanted[number] = self.selector.enlist(number, events, self.serial)

    @rule(slot=SLOTS)
    def rest(self, slot):
        number = FIRST_NUMBER + slot
        if number in self.wanted and number not in self.orphans:
            assert self.selector.rest(number, self) == self.wanted.pop(number)

    def is_closing(self):
        return False

    @rule(slot=SLOTS, events=EVENTS, reopen=st.booleans())
    def replace_in_a_handler(self, slot, events, reopen):
        def handler():
            self.close_properly(slot, reopen)
            if reopen:
                self.register(slot, events)

        self.clean = False
        self.world.meanwhile = handler

    def look(self, timeout=0):
        self.world.harvest = []
        return self.selector.select(timeout)

    @rule(timeout=st.sampled_from([0, 1e-9]))
    def select(self, timeout):
        self.judge(self.look(timeout))

    @rule()
    def settle(self):
        """Whatever was in the way, a few looks later all is said that is true, and no more."""
        for _ in range(4):
            self.judge(self.look())
        # Two more, because one may be spent on telling of a change that was refused.
        said, heard = set(), set()
        for _ in range(2):
            said |= {key.fd for key, _ in self.look()}
            heard |= {number for number, _ in self.world.harvest}
        assert heard <= said, "an event dropped for ever"
        for number in self.wanted.keys() - self.orphans:
            owed = self.world.files[number].readiness() & self.wanted[number].events
            assert bool(owed) == (number in said), "an event lost, or made up"

    def judge(self, ready, lies=()):
        assert len({key.fd for key, _ in ready}) == len(ready), "a descriptor told twice"
        for key, events in ready:
            assert key is self.wanted.get(key.fd), "an event for what is not registered"
            assert events
            assert not events & ~key.events, "an event that was not asked for"
            if key.fd not in self.orphans and key.fd not in lies:
                truth = self.world.files[key.fd].readiness()
                assert not events & ~truth, "an event of another file"
        if self.clean:
            assert len(self.world.harvest) == len(ready), "the kernel watches what nobody wants"
            assert self.world.pollers == 1, "a rebuild without need"

    @invariant()
    def the_map_is_what_was_asked(self):
        assert dict(self.selector.get_map()) == self.wanted


class ProgramOverLies(Program):
    """The same over a kernel that now and then reports what is not so."""

    @rule(slot=st.integers(0, 2))
    def lie(self, slot):
        number = FIRST_NUMBER + slot
        self.clean = False
        self.world.lies = {number: select.EPOLLIN | select.EPOLLOUT}
        self.judge(self.look(), lies={number})


class ProgramOverEpoll(Program):
    """The same over the kernel itself."""

    world_type = RealWorld


EFFORT = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)

# To the first find, without looking for a shorter one.
THOROUGH = settings(EFFORT, max_examples=5000, phases=[Phase.generate])


@pytest.mark.parametrize("program", [Program, ProgramOverLies, ProgramOverEpoll])
def test_the_selector_is_right_under_every_order_of_events(program):
    run_state_machine_as_test(program, settings=EFFORT)


# The planted mistakes.


class DefersComingAndGoing(ReactorSelector):
    """Takes a diff once a turn: what was removed, closed, reused and added looks unchanged."""

    def __init__(self, make_poller):
        super().__init__(make_poller)
        self.gone = {}

    def unregister(self, fileobj):
        registration = self._view.find(fileobj)
        del self._table[registration.key.fd]
        self.gone[registration.key.fd] = registration
        return registration.key

    def register(self, fileobj, events, data=None):
        gone = self.gone.pop(fileobj, None)
        if gone is None:
            return super().register(fileobj, events, data)
        self._table[fileobj] = gone
        return self.modify(fileobj, events, data)

    def select(self, timeout=None):
        while self.gone:
            self._update_poller(self.gone.popitem()[1], 0)
        return super().select(timeout)


class DeliversOlderGenerations(ReactorSelector):
    """Believes every event, whenever it was harvested."""

    def register(self, fileobj, events, data=None):
        key = super().register(fileobj, events, data)
        self._table[key.fd].generation = 0
        return key


class RegistersForNothing(ReactorSelector):
    """Leaves what nobody wants any more registered, with an empty mask."""

    def _update_poller(self, registration, wanted):
        if wanted:
            super()._update_poller(registration, wanted)
        else:
            with contextlib.suppress(OSError):
                self._poller._epoll.modify(registration.key.fd, 0)


class ForgetsChangesOfMind(ReactorSelector):
    """Tells the kernel the first change of mind and not the last."""

    def modify(self, fileobj, events, data=None):
        changed = self._view.find(fileobj).key.fd in self._changed
        key = super().modify(fileobj, events, data)
        if changed:
            self._changed.discard(key.fd)
        return key


class DoubtsNothing(ReactorSelector):
    """Takes a failed removal for a forgotten descriptor, whoever may hold a copy."""

    def _update_poller(self, registration, wanted):
        super()._update_poller(registration, wanted)
        self._stale.suspects.clear()


class ForgetsTheEnlisted(ReactorSelector):
    """Never tells the system of what was enlisted while something else was at rest."""

    def enlist(self, fileobj, events, data=None):
        key = super().enlist(fileobj, events, data)
        if self.resting:
            self._changed.discard(key.fd)
        return key


class TakesRestForSleep(ReactorSelector):
    """Never tells the system of what was at rest and has not come back."""

    def select(self, timeout=None):
        self.resting.clear()
        return super().select(timeout)


class KeepsStaleRegistrations(ReactorSelector):
    """Drops the events of stale registrations for as long as the kernel repeats them."""

    def _replace_poller(self):
        pass


# The first three over the kernel too, where the usual suites of selectors and loops miss them.
MISTAKES = [
    (DefersComingAndGoing, Program),
    (DefersComingAndGoing, ProgramOverEpoll),
    (DeliversOlderGenerations, Program),
    (DeliversOlderGenerations, ProgramOverEpoll),
    (RegistersForNothing, Program),
    (RegistersForNothing, ProgramOverEpoll),
    (ForgetsChangesOfMind, Program),
    (DoubtsNothing, Program),
    (ForgetsTheEnlisted, Program),
    (TakesRestForSleep, Program),
    (KeepsStaleRegistrations, Program),
]


# Up to thousands of examples, on a machine that may do other things.
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("mistake", "program"), MISTAKES)
def test_a_planted_mistake_is_found(mistake, program):
    class Mistaken(program):
        selector_type = mistake

    with pytest.raises((AssertionError, OSError, pytest.fail.Exception)):
        run_state_machine_as_test(Mistaken, settings=THOROUGH)
