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

from tests.breaking import Mutation, broken_copy


class Breach(NamedTuple):
    """An invariant of design.md's list, what breaks it, and who notices."""

    number: int
    mutation: Mutation
    test: str
    """As pytest takes it, relative to ``tests``; of all its parameters, or those of one loop."""


INVARIANTS = {
    1: "Permits out and permits free are the pool's size; after all is closed, none is out.",
    2: "The engine's memory is bounded.",
    3: "A channel reads exactly if it is open and not waiting for a permit.",
    4: "Who waits for a permit is served first come, first served.",
    5: "A suspended channel costs nothing.",
    6: "Control never waits for a permit.",
    7: "pool_empty is told once for each exhaustion.",
    8: "What TCP acknowledged is delivered, in order.",
    9: "Who sits on every permit is named.",
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
            "rest = (None,) * (self.worth - 1)",
            "rest = ()",
        ),
        "protocol/test_pool.py::test_several_permits_are_taken_together_or_not_at_all",
    ),
    Breach(
        1,
        Mutation(
            "what other messages of a channel hold is not taken off its account",
            "            self.held -= count\n",
            "",
        ),
        "messaging/test_pool_limits.py::test_a_suspended_channel_says_for_how_long",
    ),
    Breach(
        2,
        Mutation(
            "a long message takes one permit",
            "return price if price < self.size else self.size",
            "return 1",
        ),
        "messaging/test_pool_limits.py::test_as_many_bytes_are_alive_as_the_pool_may_have",
    ),
    Breach(
        2,
        Mutation(
            "a channel that waits goes on reading",
            "            transport.pause_reading()\n\n    def _receive",
            "            pass\n\n    def _receive",
        ),
        "messaging/test_engine.py::test_a_flood_is_held_to_two_chunks_and_the_pool",
    ),
    Breach(
        2,
        Mutation(
            "a full transport does not stop who sends",
            "        self.write_paused = True\n\n    def resume_writing",
            "        pass\n\n    def resume_writing",
        ),
        "messaging/test_pool_limits.py::test_sending_waits_at_the_high_water_mark",
    ),
    Breach(
        2,
        Mutation(
            "long bodies are collected whatever the transport holds",
            "self.queued_bytes >= 2 * self._high_water",
            "len(self._out) >= 2 * self._high_water",
        ),
        "messaging/test_connection.py::"
        "test_what_the_transport_holds_counts_when_long_bodies_are_collected",
    ),
    Breach(
        2,
        Mutation(
            "long bodies fill the transport without end",
            "            transport.set_write_buffer_limits(*self._gate.limits.water)\n",
            "            pass\n",
        ),
        "messaging/test_connection.py::"
        "test_beyond_the_high_water_mark_frames_stay_here_until_there_is_room",
    ),
    Breach(
        3,
        Mutation(
            "a channel that got its permit is not read again",
            "transport.resume_reading()\n        else:",
            "pass\n        else:",
        ),
        "messaging/test_channel.py::test_a_channel_reads_exactly_while_it_is_open_and_has_permits",
    ),
    Breach(
        4,
        Mutation(
            "who waits shortest is served first",
            "reader = pool.waiters.popleft()",
            "reader = pool.waiters.popitem()[0]",
        ),
        "messaging/test_flow.py::test_who_waits_longest_is_first",
    ),
    Breach(
        4,
        Mutation(
            "new data takes permits past those who wait",
            "        if pool.waiters:\n            return 0\n        if",
            "        if",
        ),
        "protocol/test_pool.py::test_nobody_takes_past_those_who_wait",
    ),
    Breach(
        4,
        Mutation(
            "a channel may hold more than its share",
            "share = int((len(pool.free) + held) * pool.share) - held",
            "share = len(pool.free)",
        ),
        "messaging/test_pool_limits.py::test_who_asks_and_never_reads_leaves_something_for_others",
    ),
    Breach(
        4,
        Mutation(
            "who gives up is still in others' way",
            "            self._schedule()  # it may have been in the way of one that needs less\n",
            "",
        ),
        "messaging/test_flow.py::test_who_gives_up_makes_way_for_one_that_needs_less",
    ),
    Breach(
        5,
        Mutation(
            "the gate looks again in every turn while somebody waits",
            "        if not pool.waiters:\n            self._told = False\n        elif",
            "        if pool.waiters:\n            self._schedule()\n        elif",
        ),
        "messaging/test_engine.py::test_waiting_for_a_permit_costs_no_turn_of_the_loop",
    ),
    Breach(
        5,
        Mutation(
            "sockets are told there and then",
            "        self._changed[reader] = None\n",
            "        reader.reconcile_reading()\n",
        ),
        "messaging/test_engine.py::test_a_turns_suspension_never_touches_the_socket",
    ),
    Breach(
        6,
        Mutation(
            "what comes while closing needs permits",
            "        self.decoder.stop_counting()\n",
            "",
        ),
        "messaging/test_connection.py::test_what_comes_while_closing_is_dropped_without_permits",
    ),
    Breach(
        6,
        Mutation(
            "Hello and Bye need a permit",
            "            if verdict is state and message_id:\n",
            "            if not isinstance(verdict, Status) and message_id:\n",
        ),
        "protocol/test_decoder.py::test_control_needs_no_permit",
    ),
    Breach(
        7,
        Mutation(
            "pool_empty is told for each channel that waits",
            "        if not self._told and reader.needs",
            "        if reader.needs",
        ),
        "messaging/test_flow.py::test_exhaustion_is_told_once_for_all_channels_and_turns",
    ),
    Breach(
        8,
        Mutation(
            "what comes while a channel waits is dropped",
            "self.waiting = self.waiting[self._at :] + bytes(data)",
            "self.waiting = self.waiting[self._at :]",
        ),
        "messaging/test_connection.py"
        "::test_more_data_for_a_starved_channel_stops_reading_there_and_then",
    ),
    Breach(
        8,
        Mutation(
            "what a lost connection's socket still holds is not read",
            "self._remains = Remains.of(self._transport)",
            "self._remains = None",
        ),
        "messaging/test_remains.py",
    ),
    Breach(
        9,
        Mutation(
            "nobody looks whether permits come back",
            "        self._watch.begin()\n",
            "",
        ),
        "messaging/test_pool_limits.py::test_the_log_names_who_holds_what_others_wait_for",
    ),
    Breach(
        9,
        Mutation(
            "it is said again and again",
            "        if since != self._told_of:\n",
            "        if True:\n",
        ),
        "messaging/test_flow.py::test_that_nobody_gives_permits_back_is_told_once_for_each_time",
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
