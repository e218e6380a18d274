"""Every public coroutine, cancelled at its n-th suspension, for all n, in every manner.

Each keeps its promise, and after each nothing is left: no permit, channel number, task,
descriptor, socket file or timer.
"""

from __future__ import annotations

import asyncio
import inspect

import pytest

import tofu_aio as tofu
from tests.conftest import open_descriptors
from tests.faults import (
    channel_promises,
    exchange_promises,
    opening_promises,
    owner_promises,
)
from tests.faults.counting import COUNTS, FULL
from tests.faults.promises import Case, world
from tests.faults.stepping import MOMENTS, Drive
from tests.messaging.peers import turns

CASES = {
    **channel_promises.CASES,
    **exchange_promises.CASES,
    **opening_promises.CASES,
    **owner_promises.CASES,
}

MANY = 400
"""More moments than any coroutine here has: one that never ends has swallowed something."""


async def cancel_at(case: Case, drive: Drive, n: int) -> bool:
    """Do it once. Whether there was an n-th moment."""
    tasks = asyncio.all_tasks()
    async with world() as where:
        promise = case(where)
        coroutine = await anext(promise)
        outcome = await drive(coroutine, n)
        with pytest.raises(StopAsyncIteration):
            await promise.asend(outcome)
    await turns(3)
    assert asyncio.all_tasks() == tasks, "tasks left behind"
    return outcome.reached


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CASES)
async def test_a_promise_is_kept_wherever_it_is_cancelled(name: str) -> None:
    descriptors = open_descriptors()
    for number, (moment, drive) in enumerate(MOMENTS.items()):
        # Half of them, in the usual run: each suspension in every other manner.
        n, step = (1, 1) if FULL else (1 + number % 2, 2)
        while await cancel_at(CASES[name], drive, n):
            COUNTS["points of cancellation"] += 1
            left = open_descriptors()
            assert len(left) <= len(descriptors), f"{moment}, {n}: {left}"
            n += step
            assert n < MANY, moment


def test_no_public_coroutine_is_without_a_promise() -> None:
    owners = (
        tofu.Engine,
        tofu.ChannelGroup,
        tofu.Listener,
        tofu.Channel,
        tofu.Exchange,
        tofu.Reconnecting,
    )
    public = {
        f"{owner.__name__}.{name}"
        for owner in owners
        for name, method in inspect.getmembers(owner, inspect.iscoroutinefunction)
        if not name.startswith("_") or name.startswith("__a")
    }
    public |= {name for name in tofu.__all__ if inspect.iscoroutinefunction(getattr(tofu, name))}
    assert public - {name.partition(",")[0] for name in CASES} == set()
