"""The selector over every poller that runs here: the documented rules, then the undocumented."""

from __future__ import annotations

import errno
import multiprocessing
import os
import select
import selectors
import tempfile
import threading
import time
from types import MappingProxyType

import pytest

from tofu_aio.reactor import ReactorSelector
from tofu_aio.reactor.pollers import default_poller
from tofu_aio.reactor.pollers.poller import BOTH, LONGEST_WAIT, READ, REFUSED, WRITE
from tofu_aio.reactor.stale_registrations import DOUBTS_PER_DESCRIPTOR


class Recorder:
    """A poller that writes down what it is told, and reports or refuses what the test says."""

    meaning = MappingProxyType({said: said for said in (READ, WRITE, BOTH, REFUSED)})

    def __init__(self):
        self.calls = []
        self.harvests = []
        self.refusals = {}
        self.closed = False

    def _tell(self, *call):
        self.calls.append(call)
        error = self.refusals.pop(call[:2], None)
        if error is not None:
            raise OSError(error, os.strerror(error))

    def add(self, fd, interest, generation):
        self._tell("add", fd, interest)

    def modify(self, fd, armed, interest, generation):
        self._tell("modify", fd, armed, interest)

    def remove(self, fd, armed):
        self._tell("remove", fd, armed)

    def wait(self, timeout, limit):
        self.calls.append(("wait", timeout))
        harvest = self.harvests.pop(0) if self.harvests else []
        return harvest() if callable(harvest) else harvest

    def probe(self, fd, interest):
        self.calls.append(("probe", fd, interest))
        return 0

    def close(self):
        self.closed = True

    def take(self):
        taken, self.calls = self.calls, []
        return taken


needs_epoll = pytest.mark.skipif(
    not hasattr(select, "epoll"), reason="only epoll knows which file it was told of"
)


@pytest.fixture
def pollers():
    """Every recorder the recording selector has made, the latest last."""
    return []


@pytest.fixture
def recording(pollers):
    def make():
        pollers.append(Recorder())
        return pollers[-1]

    with ReactorSelector(make) as selector:
        yield selector


# What `selectors` documents.


def test_register_returns_the_key_that_get_key_and_the_map_show(selector, make_pair):
    left, _ = make_pair()
    data = object()
    key = selector.register(left, READ, data)
    assert key == selectors.SelectorKey(left, left.fileno(), READ, data)
    assert selector.get_key(left) is selector.get_map()[left.fileno()] is key


@pytest.mark.parametrize("events", [0, 4, -1, BOTH | 4])
def test_invalid_events_are_refused_and_change_nothing(selector, make_pair, events):
    left, right = make_pair()
    with pytest.raises(ValueError, match=f"Invalid events: {events}"):
        selector.register(left, events)
    assert left not in selector.get_map()
    key = selector.register(left, READ)
    with pytest.raises(ValueError, match=f"Invalid events: {events}"):
        selector.modify(left, events)
    assert selector.get_key(left) is key
    right.send(b"x")
    assert selector.select(0) == [(key, READ)]


@pytest.mark.parametrize("bad", ["nonsense", object(), -1])
def test_invalid_file_objects_are_refused(selector, bad):
    for call in (
        lambda: selector.register(bad, READ),
        lambda: selector.modify(bad, READ),
        lambda: selector.unregister(bad),
        lambda: selector.get_key(bad),
    ):
        with pytest.raises(ValueError, match="Invalid file "):
            call()


def test_registering_twice_is_a_key_error_under_any_name(selector, make_pair):
    left, _ = make_pair()
    selector.register(left, READ)
    for name in (left, left.fileno()):
        with pytest.raises(KeyError, match="is already registered"):
            selector.register(name, WRITE)
    assert selector.get_key(left).events == READ


def test_what_is_not_registered_is_a_key_error(selector, make_pair):
    left, _ = make_pair()
    for call in (
        lambda: selector.modify(left, READ),
        lambda: selector.unregister(left),
        lambda: selector.get_key(left),
        lambda: selector.get_map()[left],
    ):
        with pytest.raises(KeyError, match="is not registered"):
            call()


def test_unregister_returns_the_key_and_takes_close_in_its_stride(selector, make_pair):
    left, right = make_pair()
    key = selector.register(left, READ)
    number = selector.register(right.fileno(), READ)
    left.close()
    right.close()
    assert selector.unregister(left) is key
    assert selector.unregister(number.fd) is number
    assert not selector.get_map()
    assert selector.select(0) == []


def test_modify_shows_at_once_and_keeps_the_file_object(selector, make_pair):
    left, _ = make_pair()
    selector.register(left, READ, 1)
    key = selector.modify(left.fileno(), WRITE, 2)
    assert key == selectors.SelectorKey(left, left.fileno(), WRITE, 2)
    assert selector.get_key(left) is key
    assert selector.select(0) == [(key, WRITE)]


def test_select_reports_new_data_for_the_same_events(selector, make_pair):
    left, right = make_pair()
    selector.register(left, READ, "old")
    right.send(b"x")
    selector.modify(left, READ, "new")
    [(key, _)] = selector.select(0)
    assert key.data == "new"


def test_a_closed_selector(selector, make_pair):
    left, _ = make_pair()
    selector.register(left, READ)
    view = selector.get_map()
    selector.close()
    selector.close()
    assert selector.get_map() is None
    assert len(view) == 0
    with pytest.raises(RuntimeError, match="Selector is closed"):
        selector.get_key(left)
    for call in (selector.unregister, lambda name: selector.modify(name, READ)):
        with pytest.raises(KeyError):
            call(left)
    for use in (lambda: selector.register(left, READ), lambda: selector.select(0)):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert len(view) == 0


def test_a_context_manager_closes(make_poller):
    with ReactorSelector(make_poller) as selector:
        pass
    assert selector.get_map() is None


def test_programs_may_set_attributes_and_give_no_argument():
    with ReactorSelector() as selector:
        selector.register = None


# Timeouts and signals.


@pytest.mark.parametrize("timeout", [0, 0.0, -1, -0.001, float("-inf")])
def test_no_timeout_only_looks(recording, pollers, timeout):
    assert recording.select(timeout) == []
    assert pollers[0].take() == [("wait", 0)]


def test_none_waits_for_ever_even_where_the_poller_wakes_for_nothing(recording, pollers):
    key = recording.register(3, READ)
    pollers[0].take()
    pollers[0].harvests = [[], [], [(3, READ)]]
    assert recording.select() == [(key, READ)]
    assert pollers[0].take() == [("wait", None)] * 3


def test_a_wait_that_the_poller_cut_short_goes_on_for_the_rest(recording, pollers):
    def last_until_the_clock_ticks():
        start = time.monotonic()
        while time.monotonic() == start:
            pass
        return []

    key = recording.register(3, READ)
    pollers[0].take()
    pollers[0].harvests = [last_until_the_clock_ticks, [(3, READ)]]
    assert recording.select(1000) == [(key, READ)]
    (_, first), (_, second) = pollers[0].take()
    assert first == 1000
    assert 0 < second < 1000


@pytest.mark.parametrize("timeout", [LONGEST_WAIT * 2, 1e300, float("inf")])
def test_a_wait_longer_than_systems_can_count_goes_on_in_pieces(recording, pollers, timeout):
    key = recording.register(3, READ)
    pollers[0].take()
    pollers[0].harvests = [[], [(3, READ)]]
    assert recording.select(timeout) == [(key, READ)]
    assert pollers[0].take() == [("wait", LONGEST_WAIT)] * 2


@pytest.mark.parametrize("timeout", [2_147_484.0, 1e12, float("inf")])
def test_a_huge_timeout_is_a_long_wait_and_no_error(selector, make_pair, timeout):
    left, right = make_pair()
    key = selector.register(left, READ)
    writer = threading.Timer(0.01, right.send, (b"x",))
    writer.start()
    assert selector.select(timeout) == [(key, READ)]
    writer.join()


def test_a_tiny_timeout_still_waits_and_ends(selector):
    start = time.monotonic()
    assert selector.select(1e-9) == []
    assert time.monotonic() - start >= 1e-9


@pytest.mark.parametrize("timeout", ["1", object()])
def test_a_timeout_of_another_type_is_a_type_error(selector, timeout):
    with pytest.raises(TypeError):
        selector.select(timeout)


def test_interrupted_error_is_an_empty_answer(recording, pollers):
    def interrupt():
        raise InterruptedError

    pollers[0].harvests = [interrupt]
    assert recording.select() == []


def test_any_other_exception_of_a_handler_escapes_and_breaks_nothing(
    selector, make_pair, interrupt
):
    class Escaped(Exception):
        pass

    def handler(*_):
        raise Escaped

    left, right = make_pair()
    key = selector.register(left, READ)
    interrupt(handler, 0.01)
    with pytest.raises(Escaped):
        selector.select()
    right.send(b"x")
    assert selector.select() == [(key, READ)]


# What the poller is told, and when.


def test_coming_and_going_is_told_at_once_and_a_change_of_mind_in_select(recording, pollers):
    recording.register(3, READ)
    assert pollers[0].take() == [("add", 3, READ)]
    recording.modify(3, BOTH)
    assert pollers[0].take() == []
    recording.select(0)
    assert pollers[0].take() == [("modify", 3, READ, BOTH), ("wait", 0)]
    recording.unregister(3)
    assert pollers[0].take() == [("remove", 3, BOTH)]


def test_only_the_last_change_of_mind_counts(recording, pollers):
    recording.register(3, READ)
    recording.register(4, READ)
    pollers[0].take()
    for _ in range(10):
        recording.modify(3, BOTH)
        recording.modify(3, READ)
        recording.modify(4, BOTH)
        recording.modify(4, WRITE)
    recording.select(0)
    assert pollers[0].take() == [("modify", 4, READ, WRITE), ("wait", 0)]


def test_a_change_of_mind_before_going_is_never_told(recording, pollers):
    recording.register(3, READ)
    recording.modify(3, WRITE)
    recording.unregister(3)
    recording.select(0)
    assert pollers[0].take() == [("add", 3, READ), ("remove", 3, READ), ("wait", 0)]


def test_removed_closed_reused_and_added_is_added_to_the_system(selector, make_pair, make_pair_at):
    left, _ = make_pair()
    fd = left.fileno()
    selector.register(fd, READ)
    assert selector.select(0) == []
    selector.unregister(fd)
    left.close()
    _, peer = make_pair_at(fd)
    key = selector.register(fd, READ)
    peer.send(b"x")
    assert selector.select(0) == [(key, READ)]


def test_a_refused_registration_fails_there_and_then_and_leaves_nothing():
    with ReactorSelector() as selector, tempfile.TemporaryFile() as file:
        # On Linux because it is a regular file, on Windows because it is no socket.
        with pytest.raises(OSError, match=r"not permitted|not an open socket"):
            selector.register(file, READ)
        assert file not in selector.get_map()


def test_a_refused_change_is_reported_once_as_ready(recording, pollers):
    recording.register(3, READ)
    key = recording.modify(3, WRITE)
    pollers[0].refusals["modify", 3] = 9  # EBADF
    assert recording.select() == [(key, WRITE)]
    pollers[0].take()
    assert recording.select(0) == []
    recording.unregister(3)
    assert pollers[0].take() == [("wait", 0)]


def test_a_refusal_costs_the_other_changes_nothing(recording, pollers):
    for fd in (3, 4, 5):
        recording.register(fd, READ)
        recording.modify(fd, WRITE)
    pollers[0].refusals["modify", 4] = 9
    pollers[0].take()
    [(key, _)] = recording.select()
    assert key.fd == 4
    told = {call[1] for call in pollers[0].take() if call[0] == "modify"}
    assert told == {3, 4, 5}


@pytest.mark.parametrize("error", [errno.ENOMEM, errno.ENOSPC])
def test_a_change_the_system_has_no_room_for_is_reported_and_tried_again_until_there_is(
    recording, pollers, error
):
    other = recording.register(4, READ)
    recording.register(3, READ)
    key = recording.modify(3, WRITE)
    for told in ("modify", "add"):
        pollers[0].take()
        pollers[0].refusals[told, 3] = error
        # It holds up nobody else.
        pollers[0].harvests = [[(4, READ)]]
        assert recording.select() == [(other, READ), (key, WRITE)]
        assert [call[:2] for call in pollers[0].take()] == [(told, 3), ("wait", 0)]
    assert recording.select(0) == []
    assert pollers[0].take() == [("add", 3, WRITE), ("wait", 0)]


def test_what_is_refused_and_what_there_is_no_room_for_are_both_reported(recording, pollers):
    keys = {recording.enlist(fd, READ) for fd in (3, 4, 5)}
    pollers[0].refusals.update({("add", 3): errno.EBADF, ("add", 4): errno.ENOSPC})
    pollers[0].refusals["add", 5] = errno.EPERM
    assert {key for key, _ in recording.select()} == keys
    assert [key.fd for key, _ in recording.select(0)] == []


def test_what_was_refused_and_is_registered_anew_is_not_reported(recording, pollers):
    recording.enlist(3, READ)
    pollers[0].refusals["add", 3] = errno.EBADF

    def reregister():
        recording.unregister(3)
        recording.register(3, READ)
        return []

    pollers[0].harvests = [reregister]
    assert recording.select(0) == []


@pytest.mark.parametrize("raising", [3, 4])
def test_a_handler_that_raises_in_the_middle_of_the_changes_loses_none(recording, pollers, raising):
    recording.enlist(3, READ)
    recording.enlist(4, READ)

    class Interrupt(BaseException):
        """What a signal handler raises."""

    add = pollers[0].add

    def interrupted(fd, interest, generation):
        if fd == raising:
            raise Interrupt
        add(fd, interest, generation)

    pollers[0].add = interrupted
    with pytest.raises(Interrupt):
        recording.select(0)
    pollers[0].add = add
    recording.select(0)
    told = [call for call in pollers[0].take() if call[0] == "add"]
    assert sorted(told) == [("add", 3, READ), ("add", 4, READ)]


def test_a_handler_that_changes_what_is_being_told_has_the_last_word(recording, pollers):
    recording.enlist(3, READ)
    add = pollers[0].add

    def interrupted(fd, interest, generation):
        pollers[0].add = add
        recording.modify(fd, WRITE)
        add(fd, interest, generation)

    pollers[0].add = interrupted
    recording.select(0)
    assert recording._table[3].armed == WRITE
    assert pollers[0].take()[-2:] == [("modify", 3, READ, WRITE), ("wait", 0)]


def test_a_change_refused_while_waiting_is_told_again_or_reported(recording, pollers):
    recording.register(3, READ)
    key = recording.register(4, READ)
    pollers[0].take()
    pollers[0].refusals["add", 4] = 9
    pollers[0].harvests = [[(3, REFUSED), (4, REFUSED)]]
    assert recording.select() == [(key, READ)]
    assert pollers[0].take() == [("wait", None), ("add", 3, READ), ("add", 4, READ)]


def test_a_change_of_mind_about_a_reused_number_means_its_new_file(
    selector, make_pair, make_pair_at
):
    left, _ = make_pair()
    fd = left.fileno()
    selector.register(fd, WRITE)
    assert len(selector.select(0)) == 1
    left.close()
    _, peer = make_pair_at(fd)
    key = selector.modify(fd, READ)
    peer.send(b"x")
    assert selector.select(0) == [(key, READ)]


def test_another_thread_s_change_of_mind_takes_effect_while_select_waits(make_pair):
    waiting = threading.Event()

    def make():
        poller = default_poller()
        wait = poller.wait

        def announce(*args):
            waiting.set()
            return wait(*args)

        poller.wait = announce
        return poller

    left, _ = make_pair()
    with ReactorSelector(make) as selector:
        selector.register(left, READ)

        def change():
            waiting.wait()
            selector.modify(left, WRITE)

        thread = threading.Thread(target=change, daemon=True)
        thread.start()
        [(key, events)] = selector.select()
        thread.join()
        assert (key.events, events) == (WRITE, WRITE)


# Registrations at rest.


class Keeper:
    def is_closing(self):
        return False


def test_at_rest_is_unregistered_for_the_program_at_once_and_for_the_system_in_select(
    recording, pollers
):
    key = recording.register(3, READ)
    pollers[0].take()
    assert recording.rest(3, Keeper()) is key
    assert not recording.get_map()
    assert pollers[0].take() == []
    recording.select(0)
    assert pollers[0].take() == [("remove", 3, READ), ("wait", 0)]
    assert not recording.resting


@pytest.mark.parametrize(("events", "told"), [(READ, []), (BOTH, [("modify", 3, READ, BOTH)])])
def test_registered_again_before_select_is_a_change_of_mind(recording, pollers, events, told):
    recording.register(3, READ)
    pollers[0].take()
    recording.rest(3, Keeper())
    key = recording.enlist(3, events)
    assert pollers[0].take() == []
    pollers[0].harvests = [[(3, READ)]]
    assert recording.select() == [(key, READ)]
    assert pollers[0].take() == [*told, ("wait", None)]
    recording.unregister(3)
    assert pollers[0].take() == [("remove", 3, events)]


def test_registered_while_it_rests_is_told_at_once(recording, pollers):
    recording.register(3, READ)
    recording.rest(3, Keeper())
    pollers[0].take()
    recording.register(3, WRITE)
    assert pollers[0].take() == [("modify", 3, READ, WRITE)]


def test_enlisted_is_registered_for_the_program_at_once_and_for_the_system_in_select(
    recording, pollers
):
    key = recording.enlist(3, READ, "data")
    assert recording.get_map()[3] is key
    assert pollers[0].take() == []
    recording.select(0)
    assert pollers[0].take() == [("add", 3, READ), ("wait", 0)]


@pytest.mark.parametrize("leave", ["rest", "unregister"])
def test_enlisted_and_taken_back_is_never_told(recording, pollers, leave):
    recording.enlist(3, READ)
    if leave == "rest":
        recording.rest(3, Keeper())
    else:
        recording.unregister(3)
    recording.select(0)
    assert pollers[0].take() == [("wait", 0)]
    assert not recording.resting


def test_enlisted_in_vain_is_reported_as_ready(selector, make_pair):
    left, _ = make_pair()
    fd = left.fileno()
    left.close()
    key = selector.enlist(fd, READ)
    assert selector.select(0) == [(key, READ)]


def test_a_closed_selector_enlists_nothing(selector, make_pair):
    left, _ = make_pair()
    selector.close()
    for start in (selector.register, selector.enlist):
        with pytest.raises(ValueError, match="closed"):
            start(left, READ)


def test_settled_is_told_at_once_and_only_once(recording, pollers):
    recording.register(3, READ)
    recording.rest(3, Keeper())
    pollers[0].take()
    recording.settle(3)
    recording.settle(3)
    recording.settle(4)
    recording.select(0)
    assert pollers[0].take() == [("remove", 3, READ), ("wait", 0)]


def test_what_is_not_registered_cannot_rest(recording):
    with pytest.raises(KeyError, match="is not registered"):
        recording.rest(3, Keeper())


def test_nothing_rests_while_select_waits(recording, pollers):
    recording.register(3, READ)

    def handler():
        recording.rest(3, Keeper())
        return []

    pollers[0].harvests = [handler]
    pollers[0].take()
    recording.select(0)
    assert pollers[0].take() == [("wait", 0), ("remove", 3, READ)]


def test_a_new_poller_need_not_be_told_of_the_old_one_s_rest(recording, pollers):
    recording.register(3, READ)
    recording.register(4, READ)
    recording.rest(3, Keeper())
    # As in a forked child: between two turns.
    recording._replace_poller()
    recording.select(0)
    assert pollers[1].take() == [("add", 4, READ), ("wait", 0)]


# Stale registrations: those that outlive their descriptor.


def test_an_event_of_an_older_generation_is_not_delivered(recording, pollers):
    recording.register(3, READ)

    def reregister():
        # As a signal handler would, between the system's answer and its reading.
        recording.unregister(3)
        recording.register(3, READ)
        return [(3, READ)]

    pollers[0].harvests = [reregister]
    assert recording.select(0) == []
    pollers[0].harvests = [[(3, READ)]]
    assert len(recording.select(0)) == 1


def test_an_unexpected_event_is_dropped_and_a_second_one_replaces_the_poller(recording, pollers):
    key = recording.register(3, READ)
    pollers[0].harvests = [[(9, READ)], [(9, READ)]]
    recording.select(0)
    assert len(pollers) == 1
    recording.select(0)
    old, new = pollers
    assert old.closed
    new.harvests = [[(3, READ)]]
    assert recording.select() == [(key, READ)]
    assert new.take() == [("add", 3, READ), ("wait", None)]


def test_a_new_poller_is_told_only_what_is_wanted_by_then(recording, pollers):
    recording.register(3, READ)
    recording.register(4, READ)
    recording.modify(4, WRITE)
    pollers[0].harvests = [[(9, READ), (9, READ)]]
    recording.select(0)
    recording.unregister(3)
    recording.select(0)
    assert pollers[1].take() == [("add", 4, WRITE), ("wait", 0)]


def test_a_stale_registration_is_kept_if_there_is_no_new_poller(recording, pollers, monkeypatch):
    key = recording.register(3, READ)

    def refuse():
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(recording, "_make_poller", refuse)
    pollers[0].harvests = [[(9, READ), (9, READ), (3, READ)]]
    assert recording.select() == [(key, READ)]
    assert not pollers[0].closed


def leave_stale_registration(selector, make_pair):
    """Leave one that is readable under a free number; return the number and the file's copy."""
    left, right = make_pair()
    fd = left.fileno()
    selector.register(fd, READ)
    copy = left.dup()
    left.close()
    selector.unregister(fd)
    right.send(b"x")
    return fd, copy


def test_a_stale_registration_neither_cuts_a_wait_short_nor_makes_it_spin(make_pair):
    with ReactorSelector() as selector:
        _, copy = leave_stale_registration(selector, make_pair)
        with copy:
            start = time.monotonic()
            assert selector.select(0.05) == []
            assert time.monotonic() - start >= 0.05


def test_an_event_of_a_stale_registration_is_not_its_successor_s(make_pair, make_pair_at):
    with ReactorSelector() as selector:
        fd, copy = leave_stale_registration(selector, make_pair)
        other, peer = make_pair_at(fd)
        key = selector.register(fd, READ)
        with copy:
            assert selector.select(0) == []
            peer.send(b"x")
            assert selector.select() == [(key, READ)]
            other.recv(1)
            assert selector.select(0) == []


@pytest.mark.skipif(not hasattr(selectors, "EpollSelector"), reason="only epoll cannot tell")
def test_a_doubt_does_not_last(make_pair):
    """What it costs to look twice is spent once on a new poller, whether or not it has an event."""
    made = []

    def make():
        made.append(default_poller())
        return made[-1]

    with ReactorSelector(make) as selector:
        for _ in range(9):
            keep, _ = make_pair()
            selector.register(keep, READ)
        left, _ = make_pair()
        fd = left.fileno()
        selector.register(fd, READ)
        left.close()
        selector.unregister(fd)
        other, peer = make_pair()
        assert other.fileno() == fd
        selector.register(fd, READ)
        peer.send(b"x")
        for _ in range(DOUBTS_PER_DESCRIPTOR * 10):
            assert len(selector.select(0)) == 1
        assert len(made) == 1
        assert len(selector.select(0)) == 1
        assert len(made) == 2
        assert len(selector.select(0)) == 1
        assert not selector._stale.suspects


def test_an_event_that_crosses_a_change_is_no_sign_of_a_stale_registration(recording, pollers):
    """However often another thread changes its mind while the poller waits."""
    key = recording.register(3, READ)
    recording.register(4, READ)

    def change(*calls):
        def harvest():
            for call, *arguments in calls:
                call(*arguments)
            return [(3, READ), (4, READ)]

        return harvest

    back_and_forth = [
        change((recording.modify, 3, WRITE), (recording.unregister, 4)),
        change((recording.modify, 3, READ), (recording.register, 4, READ)),
    ]
    for _ in range(10):
        pollers[0].harvests = list(back_and_forth)
        assert recording.select(0) == []
        assert recording.select(0) == [(recording.get_map()[3], READ)]
    assert key is not recording.get_map()[3]
    assert len(pollers) == 1
    assert recording.statistics().dropped == 30


@needs_epoll
def test_a_new_poller_is_not_told_of_a_number_that_was_closed_and_reused(make_pair):
    """Who has the number now did not register it, and would be read from by a stranger."""
    with ReactorSelector() as selector:
        left, _ = make_pair()
        stale = left.fileno()
        selector.register(stale, READ)
        left.close()
        other, peer = make_pair()
        assert stale in {other.fileno(), peer.fileno()}
        kept, far = make_pair()
        key = selector.register(kept, READ)
        for sock in (other, peer, far):
            sock.send(b"x")
        selector._replace_poller()
        assert selector.select(0) == [(key, READ)]
        assert selector.select(0) == [(key, READ)]


# Forks.

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")


def child_unregisters(selector, sock):
    selector.unregister(sock)
    selector.close()


@pytest.mark.forks
@needs_fork
def test_a_forked_child_does_not_reach_its_parent_s_registrations(selector, make_pair):
    left, right = make_pair()
    key = selector.register(left, READ)
    child = multiprocessing.get_context("fork").Process(
        target=child_unregisters, args=(selector, left)
    )
    child.start()
    child.join()
    assert child.exitcode == 0
    right.send(b"x")
    assert selector.select(0) == [(key, READ)]


def child_selects(selector, result):
    result.send([key.data for key, _ in selector.select()])


@pytest.mark.forks
@needs_fork
def test_a_forked_child_goes_on_with_what_was_registered(selector, make_pair):
    left, right = make_pair()
    selector.register(left, READ, "data")
    right.send(b"x")
    here, there = multiprocessing.get_context("fork").Pipe()
    child = multiprocessing.get_context("fork").Process(
        target=child_selects, args=(selector, there)
    )
    child.start()
    assert here.recv() == ["data"]
    child.join()
    here.close()
    there.close()


def test_a_registration_that_changes_hands_is_told_anew_to_who_has_the_number(
    selector, make_pair, make_pair_at
):
    old, _ = make_pair()
    number = old.fileno()
    selector.register(number, READ, "old")
    selector.select(0)
    old.close()
    _, peer = make_pair_at(number)
    selector.renew(number, READ, "new")
    peer.send(b"x")
    assert [(key.data, events) for key, events in selector.select(1)] == [("new", READ)]


def test_a_renewed_registration_can_be_unregistered_from_a_poller_that_was_replaced(
    selector, make_pair
):
    left, _ = make_pair()
    selector.register(left, READ)
    selector.renew(left, READ)
    selector._replace_poller()
    selector.unregister(left)
    assert selector.select(0) == []
