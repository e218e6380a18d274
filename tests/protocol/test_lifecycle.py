"""The tables of a channel's life, against a second one written by hand."""

from __future__ import annotations

from collections import deque
from itertools import product

import pytest

from tofu_aio.protocol.lifecycle import (
    BYE_SAID,
    HUNG_UP,
    POST,
    RECEIVE,
    SEND,
    UNDECIDED,
    VERDICTS,
    WELCOMED,
    ListenerState,
    State,
)
from tofu_aio.protocol.op_code import MORE_BIT, ORIGIN_BIT, OpCode
from tofu_aio.protocol.status import Status

# Every move that exists, as: state: message > state after it. There is no other.
SENT = """
    CONNECTING:    HELLO_REQUEST > HELLO_SENT
    HELLO_HEARD:   HELLO_RESPONSE > OPEN
    OPEN:          REQUEST > OPEN
    OPEN:          RESPONSE > OPEN
    OPEN:          SIGNAL > OPEN
    OPEN:          BYE_REQUEST > BYE_SENT
    BYE_HEARD:     REQUEST > BYE_HEARD
    BYE_HEARD:     RESPONSE > BYE_HEARD
    BYE_HEARD:     SIGNAL > BYE_HEARD
    BYE_HEARD:     BYE_RESPONSE > CLOSED
    BYE_CROSSED:   BYE_RESPONSE > BYE_ANSWERED
    BYE_OWED:      BYE_RESPONSE > CLOSED
"""
RECEIVED = """
    HELLO_SENT:    HELLO_RESPONSE > OPEN
    HELLO_AWAITED: HELLO_REQUEST > HELLO_HEARD
    OPEN:          REQUEST > OPEN
    OPEN:          RESPONSE > OPEN
    OPEN:          SIGNAL > OPEN
    OPEN:          BYE_REQUEST > BYE_HEARD
    BYE_SENT:      REQUEST > BYE_SENT
    BYE_SENT:      RESPONSE > BYE_SENT
    BYE_SENT:      SIGNAL > BYE_SENT
    BYE_SENT:      BYE_REQUEST > BYE_CROSSED
    BYE_SENT:      BYE_RESPONSE > CLOSED
    BYE_CROSSED:   BYE_RESPONSE > BYE_OWED
    BYE_ANSWERED:  BYE_RESPONSE > CLOSED
    OVERHEARD:     REQUEST > OVERHEARD
    OVERHEARD:     RESPONSE > OVERHEARD
    OVERHEARD:     SIGNAL > OVERHEARD
    OVERHEARD:     HELLO_REQUEST > OVERHEARD
    OVERHEARD:     HELLO_RESPONSE > OVERHEARD
    OVERHEARD:     BYE_REQUEST > OVERHEARD
    OVERHEARD:     BYE_RESPONSE > OVERHEARD
"""


def moves(table: str) -> dict[tuple[State, int], State]:
    found = {}
    for line in table.strip().splitlines():
        state, _, move = line.partition(":")
        message, _, after = move.partition(">")
        found[State[state.strip()], int(OpCode[message.strip()])] = State[after.strip()]
    return found


HUNG_UP_MOVES = {
    State.BYE_CROSSED: State.CLOSED,
    State.BYE_OWED: State.CLOSED,
    State.BYE_ANSWERED: State.CLOSED,
}
"""Where the end of the peer's stream is no loss."""

SENT_MOVES, RECEIVED_MOVES = moves(SENT), moves(RECEIVED)
LIFE = [state for state in State if state is not State.OVERHEARD]
REGULAR = (OpCode.REQUEST, OpCode.RESPONSE, OpCode.SIGNAL)


@pytest.mark.parametrize(("state", "op_code"), [*product(LIFE, OpCode)])
def test_what_may_be_sent(state: State, op_code: OpCode) -> None:
    assert SEND[state].get(op_code) == SENT_MOVES.get((state, op_code))


@pytest.mark.parametrize(("state", "op_code"), [*product(State, OpCode)])
def test_what_may_be_received(state: State, op_code: OpCode) -> None:
    assert RECEIVE[state].get(op_code) == RECEIVED_MOVES.get((state, op_code))


@pytest.mark.parametrize("state", State)
def test_the_verdict_on_every_proto(state: State) -> None:
    assert len(VERDICTS[state]) == 64
    for value, more, origin in product(range(16), (0, MORE_BIT), (0, ORIGIN_BIT)):
        expected: State | Status
        if value > OpCode.WELCOME_RESPONSE:
            expected = Status.INVALID_OP_CODE
        elif more and value not in REGULAR:
            expected = Status.INVALID_MORE_USAGE
        else:
            expected = RECEIVED_MOVES.get((state, value), Status.INVALID_OP_CODE)
        assert VERDICTS[state][value | more | origin] is expected, (value, more, origin)


@pytest.mark.parametrize("state", LIFE)
def test_only_regular_messages_leave_the_state_as_it_is(state: State) -> None:
    # The decoder's loop relies on it: what needs a permit is what changes nothing.
    for op_code, after in RECEIVE[state].items():
        assert (after is state) == (op_code in REGULAR)


@pytest.mark.parametrize("table", [SEND, RECEIVE])
def test_welcome_and_a_bye_signal_never_travel(table: dict[State, dict[OpCode, State]]) -> None:
    travelling = {op_code for allowed in table.values() for op_code in allowed}
    assert not travelling & {OpCode.WELCOME_REQUEST, OpCode.WELCOME_RESPONSE, OpCode.BYE_SIGNAL}


@pytest.mark.parametrize("state", LIFE)
def test_closed_can_be_reached_from_everywhere_and_left_for_nowhere(state: State) -> None:
    reached, todo = {state}, [state]
    while todo:
        now = todo.pop()
        for after in (*SEND[now].values(), *RECEIVE[now].values()):
            if after not in reached:
                reached.add(after)
                todo.append(after)
    assert State.CLOSED in reached
    assert state is not State.CLOSED or reached == {State.CLOSED}


def test_what_follows_our_own_bye() -> None:
    reached, todo = set(), [SEND[State.OPEN][OpCode.BYE_REQUEST]]
    while todo:
        now = todo.pop()
        reached.add(now)
        todo += {*SEND[now].values(), *RECEIVE[now].values()} - reached
    assert reached - {State.CLOSED} == BYE_SAID


def test_a_bye_is_finished_by_hanging_up_exactly_where_both_sides_have_said_it() -> None:
    assert HUNG_UP == HUNG_UP_MOVES
    reached, todo = set(), [RECEIVE[State.BYE_SENT][OpCode.BYE_REQUEST]]
    while todo:
        now = todo.pop()
        reached.add(now)
        todo += {*SEND[now].values(), *RECEIVE[now].values()} - reached
    assert reached - {State.CLOSED} == set(HUNG_UP)


def test_only_who_has_heard_a_hello_and_not_answered_lets_what_comes_wait() -> None:
    waiting = {state for state, moves in SEND.items() if OpCode.HELLO_RESPONSE in moves}
    assert waiting == UNDECIDED
    assert not any(RECEIVE[state] for state in UNDECIDED)


def test_a_listener_s_life() -> None:
    closing = {OpCode.BYE_REQUEST: ListenerState.CLOSED, OpCode.BYE_SIGNAL: ListenerState.CLOSED}
    assert {state: moves for state, moves in POST.items() if moves} == {
        ListenerState.LISTENING: closing
    }
    assert set(POST) == set(ListenerState)
    assert WELCOMED == {True: ListenerState.LISTENING, False: ListenerState.CLOSED}


Ends = tuple[State, State]
Wires = tuple[tuple[OpCode, ...], tuple[OpCode, ...]]


def after_one_step(ends: Ends, wires: Wires) -> list[tuple[Ends, Wires]]:
    """Every way on: either end sends what it may, or takes what is on its way to it."""
    ways = []
    for me, peer in ((0, 1), (1, 0)):
        steps = []
        if len(wires[me]) < 3:
            steps += [
                (after, (*wires[me], op_code), wires[peer])
                for op_code, after in SEND[ends[me]].items()
            ]
        if wires[peer]:
            first, *rest = wires[peer]
            assert first in RECEIVE[ends[me]], f"{first.name} reaches {ends[me]} from {ends[peer]}"
            steps.append((RECEIVE[ends[me]][first], wires[me], tuple(rest)))
        for state, mine, theirs in steps:
            both = (state, ends[peer]), (mine, theirs)
            ways.append(both if me == 0 else (both[0][::-1], both[1][::-1]))
    return ways


def test_whatever_one_end_may_send_the_other_may_receive_in_every_interleaving() -> None:
    start: tuple[Ends, Wires] = (State.CONNECTING, State.HELLO_AWAITED), ((), ())
    seen, todo = {start}, deque([start])
    ended = set()
    while todo:
        ways = after_one_step(*todo[0])
        if not ways:
            ended.add(todo[0])
        todo.popleft()
        new = [way for way in ways if way not in seen]
        seen.update(new)
        todo.extend(new)
    assert ended == {((State.CLOSED, State.CLOSED), ((), ()))}
    assert {state for ends, _ in seen for state in ends} == set(LIFE)
