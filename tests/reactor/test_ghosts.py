"""When to believe that a poller is haunted."""

from __future__ import annotations

from tofu_aio.reactor.ghosts import PATIENCE, Ghosts
from tofu_aio.reactor.pollers.poller import BOTH, READ


def test_nobody_is_doubted_at_first():
    ghosts = Ghosts()
    assert not ghosts.numbers
    assert not ghosts.worth_a_new_poller(0)


def test_an_event_that_nobody_asked_for_is_doubted_once_and_a_ghost_s_the_second_time():
    ghosts = Ghosts()
    ghosts.meet(3)
    ghosts.meet(4)
    assert ghosts.numbers == {3, 4}
    assert not ghosts.worth_a_new_poller(9)
    ghosts.meet(3)
    assert ghosts.worth_a_new_poller(9)


def test_a_claim_that_the_descriptor_denies_is_a_ghost_s():
    ghosts = Ghosts()
    assert ghosts.confirm(BOTH, BOTH) == BOTH
    assert not ghosts.worth_a_new_poller(9)
    assert ghosts.confirm(BOTH, READ) == READ
    assert ghosts.worth_a_new_poller(9)


def test_doubt_that_lasts_is_worth_a_new_poller():
    ghosts = Ghosts()
    for _ in range(1000):
        assert not ghosts.worth_a_new_poller(9)  # nobody is in doubt
    ghosts.meet(3)
    for _ in range(PATIENCE * 9):
        assert not ghosts.worth_a_new_poller(9)
    assert ghosts.worth_a_new_poller(9)
