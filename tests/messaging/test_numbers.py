"""Channel numbers are random, and using a stale one is an error for a long time."""

from __future__ import annotations

import pytest

import tofu_aio as tofu
from tofu_aio.messaging import numbers
from tofu_aio.messaging.numbers import RESERVED, NumberedTable


def test_a_number_leads_to_its_entry_until_it_is_removed() -> None:
    table: NumberedTable[str] = NumberedTable()
    first, second = table.add("a"), table.add("b")
    assert first != second
    assert (table.get(first), table.get(second)) == ("a", "b")
    assert len(table) == 2
    table.remove(first)
    assert table.get(first) is None
    assert len(table) == 1
    with pytest.raises(KeyError):
        table.remove(first)


def test_numbers_are_within_1_and_65534() -> None:
    table: NumberedTable[None] = NumberedTable()
    assert all(1 <= table.add(None) <= 65534 for _ in range(5000))


def test_a_number_rests_until_1024_others_were_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "MAX_CHANNEL", RESERVED + 2)
    table: NumberedTable[None] = NumberedTable()
    closed = [table.add(None)]
    table.remove(closed[0])
    for _ in range(3 * RESERVED):
        number = table.add(None)
        assert number not in closed[-RESERVED:]
        table.remove(number)
        closed.append(number)


def test_running_out_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "MAX_CHANNEL", 20)
    table: NumberedTable[int] = NumberedTable()
    taken = [table.add(0) for _ in range(20)]
    with pytest.raises(tofu.AllocationFailed, match=r"20 channels are open .* close some"):
        table.add(0)
    assert sorted(taken) == list(range(1, 21))


def test_all_numbers_are_given_out_in_a_bounded_number_of_tries() -> None:
    table: NumberedTable[None] = NumberedTable()
    given = {table.add(None) for _ in range(65534)}
    assert given == set(range(1, 65535))


def test_what_is_given_up_is_free_at_once_and_what_is_settled_stays() -> None:
    table: NumberedTable[str] = NumberedTable()
    unknown, known = numbers.Claim(), numbers.Claim()
    table.give_up(unknown)
    number = table.claim("a", unknown)
    table.give_up(unknown)
    table.settle(unknown)
    assert table.get(number) is None
    number = table.claim("b", known)
    table.settle(known)
    assert table.get(number) == "b"
    assert len(table) == 1


def test_nobody_gets_a_number_that_another_has_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "MAX_CHANNEL", 2)
    table: NumberedTable[str] = NumberedTable()
    first, second = numbers.Claim(), numbers.Claim()
    number = table.claim("a", first)
    table.give_up(first)
    assert table.claim("b", second) != number
    table.settle(first)
    assert table.add("c") == number
