"""When to believe that a poller has stale registrations."""

from __future__ import annotations

from tofu_aio.reactor.pollers.poller import BOTH, READ
from tofu_aio.reactor.stale_registrations import DOUBTS_PER_DESCRIPTOR, StaleRegistrations


def test_no_number_is_a_suspect_at_first():
    stale = StaleRegistrations()
    assert not stale.suspects
    assert not stale.require_new_poller(0)


def test_an_unexpected_event_makes_a_suspect_and_a_second_one_proves_a_stale_registration():
    stale = StaleRegistrations()
    stale.note_unexpected_event(3)
    stale.note_unexpected_event(4)
    assert stale.suspects == {3, 4}
    assert not stale.require_new_poller(9)
    stale.note_unexpected_event(3)
    assert stale.require_new_poller(9)


def test_an_event_that_the_descriptor_denies_proves_a_stale_registration():
    stale = StaleRegistrations()
    assert stale.confirm(BOTH, BOTH) == BOTH
    assert not stale.require_new_poller(9)
    assert stale.confirm(BOTH, READ) == READ
    assert stale.require_new_poller(9)


def test_doubt_that_lasts_requires_a_new_poller():
    stale = StaleRegistrations()
    for _ in range(1000):
        assert not stale.require_new_poller(9)  # there are no suspects
    stale.note_unexpected_event(3)
    for _ in range(DOUBTS_PER_DESCRIPTOR * 9):
        assert not stale.require_new_poller(9)
    assert stale.require_new_poller(9)
