"""The pool's invariants: for each, changes of the code that break it, and the test that goes red.

``python -m tests.invariants`` makes each change in a copy, runs the test there, and prints the
table of ``docs/design/invariants.md``; with words, only the changes that have one of them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.breaking import ENVIRONMENT, Mutation, broken_copy


class Breach(NamedTuple):
    """An invariant of design.md's list, what breaks it, and who notices."""

    number: int
    mutation: Mutation
    test: str
    """As pytest takes it, relative to ``tests``; of all its parameters, or those of one loop."""


INVARIANTS = {
    1: "The permits that are out and those that are free add up to the size of the pool; once "
    "everything is closed, no permit and no reserve is out.",
    2: "The engine's memory is bounded.",
    3: "A channel reads if, and only if, it is open and does not wait for a permit.",
    4: "A channel goes on, whatever other channels hold, if its application has released its "
    "messages or waits only for responses.",
    5: "Channels that wait for permits are served first come, first served.",
    6: "A suspended channel costs nothing.",
    7: "Hello and Bye never wait for a permit.",
    8: "pool_empty is sent once for each time that the pool is exhausted.",
    9: "What TCP has acknowledged is delivered, in order.",
    10: "If something waits because of messages that the application keeps, the log or an error "
    "says so.",
}

BREACHES = [
    Breach(
        1,
        Mutation(
            "a forwarded message gives no permit back",
            "        for permit in carried:\n            permit.release()",
            "        del carried",
        ),
        "messaging/test_engine.py::test_a_forwarded_message_keeps_its_permit_until_it_is_written",
    ),
    Breach(
        1,
        Mutation(
            "a long message gives one of its permits back",
            "        pool.free.extend((None,) * self.worth)\n",
            "        pool.free.append(None)\n",
        ),
        "protocol/test_account.py::test_several_permits_are_taken_together_or_not_at_all",
    ),
    Breach(
        1,
        Mutation(
            "a long message that finds too few permits keeps those that it found",
            "            free.extend((None,) * taken)\n            return None",
            "            return None",
        ),
        "protocol/test_account.py::test_several_permits_are_taken_together_or_not_at_all",
    ),
    Breach(
        1,
        Mutation(
            "the permit that the reserve pays for does not go back",
            "            pool.free.append(None)\n            if pool.suspended:\n"
            "                pool._on_release()\n            if count == 1:",
            "            if count == 1:",
        ),
        "protocol/test_account.py::"
        "test_the_reserve_pays_for_one_of_the_permits_that_were_taken_together",
    ),
    Breach(
        1,
        Mutation(
            "a reserve is never free again",
            "            self.reserved = False\n        elif kind",
            "            pass\n        elif kind",
        ),
        "protocol/test_account.py::"
        "test_the_reserve_is_the_last_to_come_back_whichever_message_is_released_first",
    ),
    Breach(
        1,
        Mutation(
            "the reserve comes back before permits do",
            "        taken.insert(0, _RESERVE)",
            "        taken.append(_RESERVE)",
        ),
        "protocol/test_account.py::"
        "test_a_reserve_that_another_thread_gives_back_in_this_moment_is_not_there_yet",
    ),
    Breach(
        1,
        Mutation(
            "a permit is lent if a thread gives the reserve back meanwhile",
            "taken[taken.index(_RESERVE)] = kind",
            "taken[0] = kind",
        ),
        "protocol/test_account.py::test_the_reserve_may_come_back_by_another_thread_while_it_is_freed",
    ),
    Breach(
        2,
        Mutation(
            "a long message takes one permit",
            "return price if price < self.size else self.size",
            "return 1",
        ),
        "messaging/flow_control/test_pool_limits.py::"
        "test_as_many_bytes_are_alive_as_the_pool_may_have",
    ),
    Breach(
        2,
        Mutation(
            "short messages of a chunk are not charged",
            "        if quota > left and account is not None:\n            if",
            "        if False:\n            if",
        ),
        "messaging/flow_control/test_pool_limits.py::"
        "test_every_permit_is_with_one_of_those_who_can_have_it",
    ),
    Breach(
        2,
        Mutation(
            "the reserve is taken again and again",
            "        self.reserved = True\n        self.pool.reserves.append(None)\n"
            "        # At the start",
            "        self.pool.reserves.append(None)\n        # At the start",
        ),
        "messaging/test_engine.py::test_exhaustion_suspends_reading_until_the_sender_waits",
    ),
    Breach(
        2,
        Mutation(
            "a channel lends as often as its application waits",
            "        if not self.reserved or lent >= most:\n",
            "        if not self.reserved:\n",
        ),
        "protocol/test_account.py::test_what_is_lent_frees_the_reserve_for_one_message_more",
    ),
    Breach(
        2,
        Mutation(
            "responses that nobody awaits enter the mailbox",
            "            elif message_id in self.exchanges:\n"
            "                self.exchanges.pop(message_id)._deliver(message)\n            else:\n"
            "                self._drop(message)",
            "            elif message_id in self.exchanges:\n"
            "                self.exchanges.pop(message_id)._deliver(message)\n            else:\n"
            "                rest.append(message)",
        ),
        "messaging/delivery/test_replies.py::"
        "test_5000_of_them_take_nothing_of_a_pool_of_one_that_nobody_receives_from",
    ),
    Breach(
        2,
        Mutation(
            "what follows a last part under its id is for nothing",
            "                    gratis = 0  # its id",
            "                    pass  # its id",
        ),
        "protocol/test_exemptions.py::"
        "test_after_the_last_part_nothing_is_made_until_that_was_sorted",
    ),
    Breach(
        2,
        Mutation(
            "bodies that are joined are not counted",
            "        if room.take(nbytes, others + self.taken if others else 0):",
            "        if room.take(0):",
        ),
        "messaging/delivery/test_long_bodies.py::"
        "test_the_newest_request_beyond_the_bound_fails_and_the_others_finish",
    ),
    Breach(
        2,
        Mutation(
            "a body that is joined has no bound of its own",
            "        if length > room.max_body:",
            "        if False:",
        ),
        "messaging/delivery/test_long_bodies.py::test_so_is_one_that_is_longer_than_it_has_said",
    ),
    Breach(
        2,
        Mutation(
            "a request that was joined takes a permit for its last part alone",
            "so_far is None else so_far.length + length",
            "so_far is None else length",
        ),
        "protocol/test_exemptions.py::test_the_last_part_takes_permits_for_the_whole",
    ),
    Breach(
        2,
        Mutation(
            "what is lent for requests in parts has no bound",
            "            except IndexError:\n                return\n            kind",
            "            except IndexError:\n                pass\n            kind",
        ),
        "protocol/test_account.py::test_what_is_lent_beyond_a_few_is_bounded_over_all_channels",
    ),
    Breach(
        2,
        Mutation(
            "a channel that waits goes on reading",
            "                transport.pause_reading()\n        if self.suspended",
            "                pass\n        if self.suspended",
        ),
        "messaging/test_engine.py::test_a_flood_is_held_to_two_chunks_and_the_pool",
    ),
    Breach(
        2,
        Mutation(
            "a full transport does not stop senders",
            "        self.queue.pause()\n",
            "        pass\n",
        ),
        "messaging/flow_control/test_pool_limits.py::test_sending_waits_at_the_high_water_mark",
    ),
    Breach(
        2,
        Mutation(
            "long bodies are collected whatever the transport holds",
            "not self._long or self.nbytes >= 2",
            "not self._long or self._nbytes >= 2",
        ),
        "messaging/connection/test_connection.py::"
        "test_what_the_transport_holds_counts_when_long_bodies_are_collected",
    ),
    Breach(
        2,
        Mutation(
            "long bodies fill the transport without end",
            "            self._owner.set_write_limits()\n",
            "            pass\n",
        ),
        "messaging/connection/test_connection.py::"
        "test_beyond_the_high_water_mark_frames_stay_here_until_there_is_room",
    ),
    Breach(
        3,
        Mutation(
            "a channel that got its permit is not read again",
            "transport.resume_reading()\n            else:",
            "pass\n            else:",
        ),
        "messaging/test_channel.py::test_a_channel_reads_exactly_while_it_is_open_and_has_permits",
    ),
    Breach(
        4,
        Mutation(
            "there is no reserve",
            "        if not self.reserved:\n            self._use_reserve()\n"
            "            return self\n",
            "",
        ),
        "messaging/flow_control/test_pool_limits.py::"
        "test_who_lets_go_of_its_messages_receives_whatever_others_keep",
    ),
    Breach(
        4,
        Mutation(
            "a reserve that comes back waits behind the queue",
            "                self._resume(reader, 0, changed)",
            "                self._end_suspension(reader)\n                self.starve(reader)",
        ),
        "messaging/flow_control/test_read_gate.py::"
        "test_whose_reserve_comes_back_goes_on_past_the_queue_and_takes_no_permit",
    ),
    Breach(
        4,
        Mutation(
            "a reserve that comes back is not noticed",
            "            pool.restored.append(self)\n            pool._on_release()",
            "            pool._on_release()",
        ),
        "messaging/flow_control/test_read_gate.py::"
        "test_who_has_its_share_goes_on_with_its_reserve_too",
    ),
    Breach(
        4,
        Mutation(
            "a reserve that came back just before its channel waits goes unseen",
            "            self.pool.restored.append(account)\n        self._schedule()",
            "            pass\n        self._schedule()",
        ),
        "messaging/flow_control/test_read_gate.py::"
        "test_a_reserve_that_came_back_before_its_channel_waits_is_seen",
    ),
    Breach(
        4,
        Mutation(
            "nothing is lent to an application that keeps a message and waits for the next one",
            "        self.account.lend(self._connection.sink.waits)\n",
            "",
        ),
        "messaging/flow_control/test_pool_limits.py::"
        "test_who_keeps_a_message_and_waits_for_the_next_gets_it",
    ),
    Breach(
        4,
        Mutation(
            "nothing is lent to an application that begins to wait after its channel does",
            "            account.lend(self._connection.sink.waits)\n        return",
            "            pass\n        return",
        ),
        "messaging/flow_control/test_pool_limits.py::"
        "test_who_keeps_a_message_and_waits_for_the_next_gets_it",
    ),
    Breach(
        4,
        Mutation(
            "the response that a request waits for takes a permit",
            "            return length if counted else 0",
            "            return length",
        ),
        "messaging/flow_control/test_pool_limits.py::"
        "test_a_response_that_is_awaited_takes_neither_a_permit_nor_the_reserve",
    ),
    Breach(
        4,
        Mutation(
            "the parts of a long request take permits",
            "return 0 if proto & MORE_BIT or so_far is None",
            "return length if proto & MORE_BIT or so_far is None",
        ),
        "protocol/test_exemptions.py::test_it_comes_through_where_nothing_is_free",
    ),
    Breach(
        4,
        Mutation(
            "a long body that finds no room is not refused, and its caller waits",
            "            self._refuse(message_id, error, last=last)\n",
            "",
        ),
        "messaging/delivery/test_long_bodies.py::"
        "test_the_newest_request_beyond_the_bound_fails_and_the_others_finish",
    ),
    Breach(
        5,
        Mutation(
            "the channel that has waited shortest is served first",
            "self._resume(pool.waiters.popleft(), reader.needs, changed)",
            "self._resume(pool.waiters.popitem()[0], reader.needs, changed)",
        ),
        "messaging/flow_control/test_read_gate.py::test_who_waits_longest_is_first",
    ),
    Breach(
        5,
        Mutation(
            "new data takes permits although channels wait",
            "        if pool.waiters:\n            return 0\n        free",
            "        free",
        ),
        "protocol/test_account.py::test_nobody_takes_past_those_who_wait",
    ),
    Breach(
        5,
        Mutation(
            "a channel that goes on with its reserve takes a permit although others wait",
            "                self._resume(reader, 0, changed)",
            "                self._resume(reader, reader.needs, changed)",
        ),
        "messaging/flow_control/test_read_gate.py::"
        "test_whose_reserve_comes_back_leaves_what_came_back_with_it_to_the_queue",
    ),
    Breach(
        5,
        Mutation(
            "a channel may hold more than its share",
            "        return int((free + held) * pool.share) - held\n",
            "        return free\n",
        ),
        "messaging/flow_control/test_pool_limits.py::"
        "test_who_asks_and_never_reads_leaves_something_for_others",
    ),
    Breach(
        5,
        Mutation(
            "a channel that has its share stays in the queue and blocks others",
            "            if reader.over_its_share:\n                pool.waiters",
            "            if False:\n                pool.waiters",
        ),
        "messaging/flow_control/test_read_gate.py::"
        "test_who_would_be_over_its_share_by_the_time_of_its_turn_is_in_nobody_s_way",
    ),
    Breach(
        5,
        Mutation(
            "a channel that had its share is never looked at again",
            "range(min(len(parked), _FEW))",
            "range(0)",
        ),
        "messaging/flow_control/test_read_gate.py::"
        "test_who_has_its_share_goes_on_when_its_own_are_released",
    ),
    Breach(
        5,
        Mutation(
            "a channel that ends still blocks others in the queue",
            "self._schedule()  # it may have blocked a channel that needs fewer permits\n",
            "pass\n",
        ),
        "messaging/flow_control/test_read_gate.py::"
        "test_who_gives_up_makes_way_for_one_that_needs_less",
    ),
    Breach(
        6,
        Mutation(
            "the gate looks again in every turn while somebody waits",
            "        if pool.waiters and pool.waiters.first.needs <= len(pool.free):\n"
            "            self._schedule()",
            "        if pool.waiters:\n            self._schedule()",
        ),
        "messaging/test_engine.py::test_waiting_for_a_permit_costs_no_turn_of_the_loop",
    ),
    Breach(
        6,
        Mutation(
            "reading is resumed at once instead of at the end of the turn",
            "        self._changed[reader] = None\n",
            "        reader.reconcile_reading()\n",
        ),
        "messaging/test_engine.py::test_a_turns_suspension_never_touches_the_socket",
    ),
    Breach(
        7,
        Mutation(
            "what comes while closing needs permits",
            "        connection.decoder.stop_counting()\n",
            "",
        ),
        "messaging/connection/test_connection.py::"
        "test_what_comes_while_closing_is_dropped_without_permits",
    ),
    Breach(
        7,
        Mutation(
            "Hello and Bye need a permit",
            "            if verdict is state and message_id:\n",
            "            if not isinstance(verdict, Status | None) and message_id:\n",
        ),
        "protocol/test_decoder.py::test_control_needs_no_permit",
    ),
    Breach(
        7,
        Mutation(
            "taking a request back needs a permit",
            "        return 0 if taken_back else length",
            "        return length",
        ),
        "protocol/test_exemptions.py::test_a_withdrawal_takes_nothing_where_the_peer_makes_them",
    ),
    Breach(
        8,
        Mutation(
            "pool_empty is sent for each channel that waits",
            "self._exhaustion_reported = self._exhaustion_reported or self._on_exhausted(reader)",
            "self._exhaustion_reported = self._on_exhausted(reader)",
        ),
        "messaging/flow_control/test_read_gate.py::"
        "test_exhaustion_is_told_once_for_all_channels_and_turns",
    ),
    Breach(
        8,
        Mutation(
            "it is sent again for each permit that the last waiting channel gets",
            "        del pool.suspended[reader.account]\n",
            "        del pool.suspended[reader.account]\n"
            "        self._exhaustion_reported &= bool(pool.suspended)\n",
        ),
        "messaging/flow_control/test_read_gate.py::"
        "test_exhaustion_is_told_once_for_all_channels_and_turns",
    ),
    Breach(
        8,
        Mutation(
            "it is never sent again",
            "        self._exhaustion_reported = self._exhaustion_reported and "
            "bool(self.pool.suspended)\n        for reader",
            "        for reader",
        ),
        "messaging/flow_control/test_read_gate.py::"
        "test_exhaustion_is_told_again_after_nobody_waited",
    ),
    Breach(
        9,
        Mutation(
            "what comes while a channel waits is dropped",
            "self.waiting = self.waiting[self._at :] + bytes(data)",
            "self.waiting = self.waiting[self._at :]",
        ),
        "messaging/connection/test_connection.py::"
        "test_more_data_for_a_starved_channel_stops_reading_there_and_then",
    ),
    Breach(
        9,
        Mutation(
            "what a lost connection's socket still holds is not read",
            "closing.unread = unread_of(transport)",
            "closing.unread = None",
        ),
        "transport/test_unread.py",
    ),
    Breach(
        9,
        Mutation(
            "a response to a posted request is taken for one that nobody awaits",
            "            elif message_id in posted:\n                posted.remove(message_id)\n"
            "                rest.append(message)\n",
            "",
        ),
        "messaging/delivery/test_replies.py::"
        "test_the_response_to_a_posted_request_comes_to_the_mailbox",
    ),
    Breach(
        10,
        Mutation(
            "it is not watched whether permits come back",
            "        self._watch.begin()\n",
            "",
        ),
        "messaging/flow_control/test_pool_limits.py::"
        "test_the_log_names_who_holds_what_others_wait_for",
    ),
    Breach(
        10,
        Mutation(
            "channels that wait for their own messages are not watched",
            "if reader.suspended_at is not None]\n        if pool",
            "if False]\n        if pool",
        ),
        "messaging/flow_control/test_pool_limits.py::"
        "test_the_log_names_who_holds_what_its_own_channel_waits_for",
    ),
    Breach(
        10,
        Mutation(
            "it is said again and again",
            "for since in waits if since > self._reported_until), default=now)",
            "for since in waits), default=now)",
        ),
        "messaging/flow_control/test_read_gate.py::"
        "test_that_nobody_gives_permits_back_is_told_once_for_each_time",
    ),
    Breach(
        10,
        Mutation(
            "a wait that lasts hides all later ones",
            "            self._reported_until = now - limits.HELD_TOO_LONG\n",
            "            self._reported_until = math.inf\n",
        ),
        "messaging/flow_control/test_read_gate.py::"
        "test_a_wait_that_lasts_does_not_hide_the_next_one",
    ),
    Breach(
        10,
        Mutation(
            "a request that times out behind unread messages does not say so",
            "s{backlog}",
            "s",
        ),
        "messaging/flow_control/test_progress.py::"
        "test_who_only_asks_is_told_of_the_messages_that_nobody_receives",
    ),
    Breach(
        10,
        Mutation(
            "the log does not warn when responses begin to wait behind unread messages",
            "            self.sink.suspended()\n",
            "            pass\n",
        ),
        "messaging/flow_control/test_progress.py::test_the_warning_comes_without_another_request",
    ),
]


def main() -> int:
    """Try each; the exit code is 1 if a test stayed green."""
    chosen = [b for b in BREACHES if not sys.argv[1:] or any(a in b[1].what for a in sys.argv[1:])]
    all_red = True
    print("| | what is broken | the test | |\n| --- | --- | --- | --- |", flush=True)
    for number, mutation, test in chosen:
        red = goes_red(mutation, test)
        all_red = all_red and red
        name = test.rpartition("::")[2].removeprefix("messaging/")
        print(
            f"| {number} | {mutation.what} | `{name}` | {'red' if red else '**green**'} |",
            flush=True,
        )
    return not all_red


def goes_red(mutation: Mutation, test: str) -> bool:
    """Whether the test fails, or hangs, in a copy that is broken so."""
    with tempfile.TemporaryDirectory() as folder:
        broken_copy(mutation, Path(folder), "tofu_aio", "tests", "pyproject.toml")
        try:
            run = subprocess.run(
                [sys.executable, "-m", "pytest", "-x", "-q", "--timeout=20", f"tests/{test}"],
                cwd=folder,
                env=ENVIRONMENT,
                stdout=subprocess.DEVNULL,
                check=False,
                timeout=60,
            )
        except subprocess.TimeoutExpired:
            return True
    assert run.returncode in {0, 1}, f"{test} could not be run: {run.returncode}"
    return run.returncode == 1


if __name__ == "__main__":
    sys.exit(main())
