"""Cancelling a coroutine at its n-th suspension, in every manner in which one may be cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Final, NamedTuple

import anyio

from tests.messaging.peers import PATIENCE, turns

LOCAL_TURNS: Final = 50
"""After so many turns of the loop whatever takes no time has been done."""


class Outcome(NamedTuple):
    """How a coroutine ended.

    Attributes:
        cancelled: by us; then there is no result.
        result: what it returned, if it did.
        error: what it raised, if it did.
        reached: whether there was an n-th moment, or it ended before.
    """

    cancelled: bool = False
    result: Any = None
    error: BaseException | None = None
    reached: bool = False

    @property
    def completed(self) -> bool:
        return not self.cancelled and self.error is None


class Stepped(Awaitable[Any]):
    """A coroutine that tells each time it suspends, and for which future (None: for a turn)."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], suspended: Callable[[int, Any], None]
    ) -> None:
        self.suspensions = 0
        self._coroutine = coroutine
        self._suspended = suspended

    def __await__(self) -> Generator[Any, None, Any]:
        resume: Callable[[], Any] = lambda: self._coroutine.send(None)  # noqa: E731
        while True:
            try:
                waits_for = resume()
            except StopIteration as stop:
                return stop.value
            self.suspensions += 1
            self._suspended(self.suspensions, waits_for)
            try:
                yield waits_for
            except BaseException as error:
                resume = lambda error=error: self._coroutine.throw(error)  # noqa: E731
            else:
                resume = lambda: self._coroutine.send(None)  # noqa: E731


Drive = Callable[[Coroutine[Any, Any, Any], int], Coroutine[Any, Any, Outcome]]


async def ended(task: asyncio.Task[Any]) -> Outcome:
    """The outcome, once there is one."""
    _, pending = await asyncio.wait([task], timeout=PATIENCE)
    if pending:
        task.print_stack()
        raise AssertionError(f"it waits in vain: {task}")
    if task.cancelled():
        return Outcome(cancelled=True)
    error = task.exception()
    return Outcome(error=error) if error else Outcome(result=task.result())


class Nth:
    """Does something at the n-th suspension."""

    def __init__(self, n: int, act: Callable[[Any], object]) -> None:
        self.reached = False
        self._n = n
        self._act = act

    def __call__(self, count: int, waits_for: Any) -> None:
        if count == self._n:
            self.reached = True
            self._act(waits_for)


def cancelling(ask: Callable[[asyncio.Task[Any], Any, list[bool]], None]) -> Drive:
    async def drive(coroutine: Coroutine[Any, Any, Any], n: int) -> Outcome:
        accepted: list[bool] = []
        nth = Nth(n, lambda waits_for: ask(task, waits_for, accepted))

        async def run() -> Any:
            return await Stepped(coroutine, nth)

        task = asyncio.create_task(run())
        outcome = await ended(task)
        # Who was asked to cancel itself may not go on as if it was not.
        assert outcome.cancelled or not any(accepted), "the cancellation was swallowed"
        return outcome._replace(reached=nth.reached)

    return drive


def at_once(task: asyncio.Task[Any], _: Any, accepted: list[bool]) -> None:
    """In the turn in which it begins to wait: what it waits for is cancelled."""
    accepted.append(task.cancel())


def a_turn_later(task: asyncio.Task[Any], _: Any, accepted: list[bool]) -> None:
    """While it waits."""
    asyncio.get_running_loop().call_soon(lambda: accepted.append(task.cancel()))


def as_it_goes_on(task: asyncio.Task[Any], waits_for: Any, accepted: list[bool]) -> None:
    """When what it waited for has come, and before it can run: the moment that loses things."""
    if waits_for is None:
        a_turn_later(task, None, accepted)
    else:
        # Before the task's own callback, which is added when this returns.
        waits_for.add_done_callback(lambda _: accepted.append(task.cancel()))


async def by_timeout(coroutine: Coroutine[Any, Any, Any], n: int) -> Outcome:
    """By the deadline of an ``asyncio.timeout`` around it."""
    nth = Nth(n, lambda _: deadline.reschedule(0))  # long ago

    async def run() -> Any:
        async with deadline:
            return await Stepped(coroutine, nth)

    deadline = asyncio.timeout(None)
    outcome = await ended(asyncio.create_task(run()))
    if deadline.expired():
        assert isinstance(outcome.error, TimeoutError), outcome
        return Outcome(cancelled=True, reached=True)
    return outcome._replace(reached=nth.reached)


async def by_scope(coroutine: Coroutine[Any, Any, Any], n: int) -> Outcome:
    """By an anyio scope around it, which cancels again whatever it awaits from then on."""
    nth = Nth(n, lambda _: scope.cancel())

    async def run() -> Any:
        with scope:
            return await Stepped(coroutine, nth)

    scope = anyio.CancelScope()
    outcome = await ended(asyncio.create_task(run()))
    return outcome._replace(cancelled=scope.cancelled_caught, reached=nth.reached)


async def after_turns(coroutine: Coroutine[Any, Any, Any], n: int) -> Outcome:
    """After n turns of the loop, wherever it and the tasks that it made are then."""
    task = asyncio.create_task(coroutine)
    await turns(min(n, LOCAL_TURNS))
    for _ in range(n - LOCAL_TURNS):
        await asyncio.sleep(0.001)  # now it waits for the kernel, or for a deadline
    asked = task.cancel()
    outcome = await ended(task)
    assert outcome.cancelled or not asked, "the cancellation was swallowed"
    return outcome._replace(reached=asked)


MOMENTS: Final[dict[str, Drive]] = {
    "at once": cancelling(at_once),
    "a turn later": cancelling(a_turn_later),
    "as it goes on": cancelling(as_it_goes_on),
    "by timeout": by_timeout,
    "by scope": by_scope,
    "after turns": after_turns,
}
