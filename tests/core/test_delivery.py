"""The compiled inbox and mailbox, beside a deque and the mailbox in Python."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import tofu_aio as tofu
from tests.core.reference import PlainMailbox, in_python
from tests.core.talking import turns
from tofu_aio.core import Inbox, counter
from tofu_aio.messaging.delivery import wake_up
from tofu_aio.messaging.delivery.mailbox import Mailbox

items = st.integers(0, 5)


class InboxAndDeque(RuleBasedStateMachine):
    """An inbox does what a deque does."""

    def __init__(self) -> None:
        super().__init__()
        self.inbox: Any = Inbox()
        self.deque: deque[int] = deque()

    def both(self, act: Callable[[Any], object]) -> None:
        results = []
        for queue in (self.inbox, self.deque):
            try:
                results.append(act(queue))
            except (IndexError, ValueError) as error:
                results.append(type(error))
        assert results[0] == results[1]

    @rule(given=st.lists(items, max_size=70))
    def anew(self, given: list[int]) -> None:
        self.inbox, self.deque = Inbox(given), deque(given)

    @rule(item=items)
    def append(self, item: int) -> None:
        self.both(lambda queue: queue.append(item))

    @rule(given=st.lists(items, max_size=70), kind=st.sampled_from([list, tuple, iter, deque]))
    def extend(self, given: list[int], kind: Any) -> None:
        self.both(lambda queue: queue.extend(kind(given)))

    @rule(count=st.integers(1, 80))
    def popleft(self, count: int) -> None:
        for _ in range(count):
            self.both(lambda queue: queue.popleft())

    @rule(item=items)
    def remove(self, item: int) -> None:
        self.both(lambda queue: queue.remove(item))

    @rule(steps=st.integers(-9, 9))
    def rotate(self, steps: int) -> None:
        self.both(lambda queue: queue.rotate(steps))

    @rule(index=st.integers(-9, 9))
    def at(self, index: int) -> None:
        self.both(lambda queue: queue[index])

    @rule(index=st.integers(-9, 9))
    def without(self, index: int) -> None:
        self.both(lambda queue: queue.__delitem__(index))

    @rule()
    def clear(self) -> None:
        self.both(lambda queue: queue.clear())

    @invariant()
    def same(self) -> None:
        assert len(self.inbox) == len(self.deque)
        assert bool(self.inbox) is bool(self.deque)
        assert list(self.inbox) == list(self.deque)
        assert repr(self.inbox) == f"Inbox({list(self.deque)!r})"


TestInbox = InboxAndDeque.TestCase


def test_what_iterates_over_an_inbox_finds_what_was_there() -> None:
    """Another thread may, for statistics, while the loop's thread takes items out."""
    inbox: Any = Inbox("abcde")
    inbox.popleft()
    present = iter(inbox)
    assert [inbox.popleft() for _ in range(4)] == list(present) == list("bcde")


def test_an_inbox_that_is_never_empty_keeps_its_items_and_no_more() -> None:
    inbox: Any = Inbox(range(10))
    for number in range(10, 10_000, 10):
        inbox.extend(range(number, number + 10))
        assert [inbox.popleft() for _ in range(10)] == list(range(number - 10, number))
    assert len(inbox) == 10


def test_an_inbox_may_be_initialized_again() -> None:
    for kind in (Inbox, deque):
        queue: Any = kind([1, 2, 3])
        queue.popleft()
        queue.__init__([4, 5])
        assert list(queue) == [4, 5]


class CounterAndDeque(RuleBasedStateMachine):
    """A counter does what a deque of nothing does."""

    def __init__(self) -> None:
        super().__init__()
        self.counter: Any = counter(3)
        self.deque: deque[None] = deque((None,) * 3)

    @rule()
    def append(self) -> None:
        self.counter.append(None)
        self.deque.append(None)

    @rule(count=st.integers(0, 9))
    def extend(self, count: int) -> None:
        self.counter.extend((None,) * count)
        self.deque.extend((None,) * count)

    @rule()
    def pop(self) -> None:
        results = []
        for numbers in (self.counter, self.deque):
            try:
                results.append(numbers.pop())
            except IndexError:
                results.append(IndexError)
        assert results[0] == results[1]

    @rule()
    def clear(self) -> None:
        self.counter.clear()
        self.deque.clear()

    @rule(steps=st.integers(-3, 3))
    def rotate(self, steps: int) -> None:
        self.counter.rotate(steps)

    @invariant()
    def same(self) -> None:
        assert len(self.counter) == len(self.deque)
        assert list(self.counter) == list(self.deque)
        assert bool(self.counter) is bool(self.deque)


TestCounter = CounterAndDeque.TestCase

steps = st.one_of(
    st.tuples(st.just("deliver"), st.integers(0, 3), st.booleans()),
    st.tuples(st.just("deliver"), st.integers(0, 3), st.booleans()),
    st.just(("receive",)),
    st.just(("receive",)),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("turn"), st.integers(1, 2)),
    st.tuples(st.just("turn"), st.integers(1, 2)),
    st.just(("remove",)),
    st.just(("finish",)),
    st.just(("close",)),
)


async def _play(kind: Any, make: Any, operations: list[tuple[Any, ...]]) -> list[object]:
    """What a mailbox does."""
    mailbox, tasks, seen = kind(make), [], list[object]()
    complete = wake_up.run_wake_ups if kind is Mailbox else in_python(wake_up.run_wake_ups)
    number = 0
    for name, *arguments in operations:
        if name == "deliver":
            count, at_once = arguments
            wake_ups: Any = [] if at_once else None
            mailbox.deliver([*range(number, number + count)], wake_ups)
            number += count
            if wake_ups:
                asyncio.get_running_loop().call_soon(complete, wake_ups)
        elif name == "receive":
            tasks.append(asyncio.create_task(mailbox.receive()))
        elif name == "cancel" and tasks:
            tasks[arguments[0] % len(tasks)].cancel()
        elif name == "turn":
            await turns(*arguments)
        elif name == "remove":
            seen.append(mailbox.remove(lambda item: item % 2 == 0))
        elif name == "finish":
            mailbox.finish(tofu.ChannelEnded("the end"))
        elif name == "close":
            seen.append(mailbox.close(tofu.ChannelClosed("closed")))
        seen.append((mailbox.waits, list(mailbox.items), str(mailbox.end)))
        seen.append([_said(task) for task in tasks])
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    seen.append([_said(task) for task in tasks])
    return seen


def _said(task: asyncio.Task[int]) -> object:
    if not task.done() or task.cancelled():
        return "cancelled" if task.done() else "waits"
    error = task.exception()
    return (type(error), str(error)) if error is not None else task.result()


@given(operations=st.lists(steps, max_size=20))
def test_both_mailboxes_do_the_same(operations: list[tuple[Any, ...]]) -> None:
    with asyncio.Runner(debug=False) as runner:
        compiled = runner.run(_play(Mailbox, Inbox, operations))
        assert compiled == runner.run(_play(PlainMailbox, deque, operations))
        assert compiled == runner.run(_play(Mailbox, deque, operations))
