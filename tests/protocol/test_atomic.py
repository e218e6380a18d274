"""What is one step for eight threads at once; without the GIL they run at the same time."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from queue import SimpleQueue

import pytest

from tofu_aio.protocol.account import Account
from tofu_aio.protocol.message import Message, next_message_id
from tofu_aio.protocol.op_code import OpCode
from tofu_aio.protocol.pool import Permit, Pool

THREADS = 8


def at_once(function: Callable[[], object]) -> None:
    """Call it in eight threads, which begin together; what it raises is raised here."""
    begin = threading.Barrier(THREADS)
    failed: list[BaseException] = []

    def run() -> None:
        begin.wait()
        try:
            function()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def holding(permit: Permit) -> Message:
    message = Message(OpCode.SIGNAL)
    message._permit = permit
    return message


def test_no_message_id_is_given_twice() -> None:
    counted: list[list[int]] = []
    at_once(lambda: counted.append([next_message_id() for _ in range(5000)]))
    numbers = [number for own in counted for number in own]
    assert len(set(numbers)) == len(numbers) == THREADS * 5000
    assert all(own == sorted(own) for own in counted)


def test_a_message_that_all_threads_release_gives_its_permit_back_once() -> None:
    pool = Pool(4000, lambda: None)
    messages = [holding(pool) for _ in range(pool.size)]
    pool.free.clear()
    at_once(lambda: [message.release() for message in messages])
    assert (len(pool.free), pool.out) == (4000, 0)


def test_of_threads_that_release_and_send_a_message_one_has_its_permit() -> None:
    pool = Pool(4000, lambda: None)
    messages = [holding(pool) for _ in range(pool.size)]
    taken: Counter[int] = Counter()
    lock = threading.Lock()

    def take() -> None:
        own = Counter(at for at, each in enumerate(messages) if each._take_permit() is not None)
        with lock:
            taken.update(own)

    at_once(take)
    assert taken == Counter(range(len(messages)))


@pytest.mark.parametrize("seed", range(3))
def test_what_a_channel_holds_comes_back_from_all_threads_while_its_reserve_is_lent(
    seed: int,
) -> None:
    """Each message is released by two threads, and the loop lends all the time."""
    choose = random.Random(seed)
    pool = Pool(16, lambda: None, unit=100)
    accounts = [Account(pool) for _ in range(2)]
    queues: list[SimpleQueue[Message | None]] = [SimpleQueue() for _ in range(THREADS)]

    def release(own: SimpleQueue[Message | None]) -> None:
        while (message := own.get()) is not None:
            message.release()

    threads = [threading.Thread(target=release, args=(own,)) for own in queues]
    for thread in threads:
        thread.start()
    received = 0
    while received < 5000:
        account = choose.choice(accounts)
        account.lend(2)
        permit = account.acquire(choose.choice((1, 1, 1, 3)), account.budget())
        if permit is None:
            continue
        received += 1
        message = holding(permit)
        for own in choose.sample(queues, 2):
            own.put(message)
        del message
    for own in queues:
        own.put(None)
    for thread in threads:
        thread.join()
    assert (pool.out, len(pool.free), len(pool.reserves)) == (0, pool.size, 0)
    assert [(each.taken, each.reserved) for each in accounts] == [([], False)] * 2
