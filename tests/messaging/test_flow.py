"""Who may read: permits go to who waited longest, and the sockets are told once a turn."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.messaging.peers import turns, until
from tofu_aio.messaging.flow import ReadGate
from tofu_aio.protocol.pool import Reader


class Greedy:
    """A reader that wants so many permits, and takes what it can get as a channel does."""

    def __init__(self, gate: ReadGate, log: list[str], name: str, wants: int) -> None:
        self.gate = gate
        self.log = log
        self.name = name
        self.wants = wants
        self.waits = False

    def feed(self) -> None:
        """Data for so many messages comes in: nobody overtakes those who wait."""
        self._take(0 if self.gate.pool.waiters else self.wants)

    def resume(self) -> None:
        """One permit is its own, and more only while nobody else waits."""
        self._take(1 if self.gate.pool.waiters else self.wants)

    def _take(self, most: int) -> None:
        self.waits = False
        for _ in range(min(most, self.wants, len(self.gate.pool.free))):
            self.gate.pool.free.pop()
            self.wants -= 1
            self.log.append(self.name)
        if self.wants:
            self.waits = True
            self.gate.starve(self)

    def reconcile_reading(self) -> None:
        self.log.append(f"{self.name} {'stops' if self.waits else 'reads'}")

    def took(self) -> int:
        return self.log.count(self.name)


class Bench:
    """A gate, its readers, and what it told."""

    def __init__(self, size: int, told: bool = True) -> None:
        self.exhausted: list[Reader] = []
        self.log: list[str] = []
        self.listening = told
        self.gate = ReadGate(size, self._on_exhausted)
        self.gate.open()

    def _on_exhausted(self, reader: Reader) -> bool:
        self.exhausted.append(reader)
        return self.listening

    def reader(self, name: str, wants: int) -> Greedy:
        return Greedy(self.gate, self.log, name, wants)

    @property
    def takes(self) -> list[str]:
        return [entry for entry in self.log if " " not in entry]


async def test_sockets_are_told_once_a_turn_and_only_at_its_end() -> None:
    bench = Bench(1)
    reader = bench.reader("a", 2)
    reader.feed()
    assert bench.log == ["a"]
    assert list(bench.gate.pool.waiters) == [reader]
    await turns(1)
    assert bench.log == ["a", "a stops"]
    await turns(3)
    assert bench.log == ["a", "a stops"], "waiting costs nothing"
    bench.gate.pool.release()
    assert len(bench.log) == 2
    await turns(1)
    assert bench.log[2:] == ["a", "a reads"]
    assert not bench.gate.pool.waiters


async def test_permits_that_come_back_within_the_turn_are_used_before_sockets_are_told() -> None:
    bench = Bench(1)
    bench.reader("a", 2).feed()
    bench.gate.pool.release()
    await turns(2)
    assert "a stops" not in bench.log
    assert bench.takes == ["a", "a"]


async def test_who_waits_longest_is_first() -> None:
    bench = Bench(1)
    bench.reader("a", 3).feed()
    bench.reader("b", 2).feed()
    bench.reader("c", 1).feed()
    for _ in range(5):
        bench.gate.pool.release()
        await turns(2)
    assert bench.takes == ["a", "a", "b", "c", "a", "b"]


async def test_many_permits_at_once_go_around() -> None:
    bench = Bench(4)
    bench.reader("a", 8).feed()
    for name in "bc":
        bench.reader(name, 4).feed()
    for _ in range(4):
        bench.gate.pool.release()
    await turns(3)
    assert bench.takes[4:] == ["a", "b", "c", "a"]


async def test_exhaustion_is_told_once_for_all_channels_and_turns() -> None:
    bench = Bench(1)
    first, second = bench.reader("a", 4), bench.reader("b", 1)
    first.feed()
    second.feed()
    for _ in range(3):
        bench.gate.pool.release()
        await turns(2)
    assert bench.gate.suspensions == 4
    assert bench.exhausted == [first]


async def test_exhaustion_is_told_again_after_nobody_waited() -> None:
    bench = Bench(1)
    for name in "ab":
        bench.reader(name, 2).feed()
        bench.gate.pool.release()
        await turns(2)
        bench.gate.pool.release()
    assert len(bench.exhausted) == 2


async def test_exhaustion_is_told_again_after_the_last_who_waited_has_closed() -> None:
    bench = Bench(1)
    first, second = bench.reader("a", 2), bench.reader("b", 1)
    first.feed()
    await turns(2)
    bench.gate.forget(first)
    second.feed()
    assert bench.exhausted == [first, second]


async def test_exhaustion_is_told_to_the_first_who_listens() -> None:
    bench = Bench(1, told=False)
    first, second, third = (bench.reader(name, 2) for name in "abc")
    first.feed()
    bench.listening = True
    second.feed()
    third.feed()
    assert bench.exhausted == [first, second]


async def test_a_channel_that_closes_no_longer_waits() -> None:
    bench = Bench(1)
    bench.reader("a", 1).feed()
    leaving, staying = bench.reader("b", 1), bench.reader("c", 1)
    leaving.feed()
    staying.feed()
    bench.gate.forget(leaving)
    bench.gate.forget(leaving)
    bench.gate.pool.release()
    await turns(2)
    assert bench.takes == ["a", "c"]


async def test_any_thread_may_release() -> None:
    bench = Bench(1)
    reader = bench.reader("a", 200)
    reader.feed()

    def release_all() -> None:
        for _ in range(50):
            bench.gate.pool.release()

    threads = [threading.Thread(target=release_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    # Without another event: a lost wake-up leaves the loop asleep for ever.
    while any(thread.is_alive() for thread in threads):
        await asyncio.to_thread(lambda: [thread.join() for thread in threads])
    await until(lambda: reader.took() == 200)
    assert len(bench.gate.pool.free) == 1


async def test_a_release_from_a_thread_wakes_the_loop() -> None:
    bench = Bench(1)
    resumed = asyncio.Event()

    class Waiting(Greedy):
        def resume(self) -> None:
            super().resume()
            if not self.waits:
                resumed.set()

    reader = Waiting(bench.gate, bench.log, "a", 2)
    reader.feed()
    await turns(3)
    thread = threading.Timer(0.01, bench.gate.pool.release)
    thread.start()
    await asyncio.wait_for(resumed.wait(), 20)
    thread.join()


@pytest.mark.parametrize("thread", [False, True])
def test_a_message_that_outlives_the_loop_may_be_released(thread: bool) -> None:
    bench: Bench

    async def use() -> None:
        nonlocal bench
        bench = Bench(1)
        bench.reader("a", 2).feed()

    asyncio.run(use())
    if thread:
        runner = threading.Thread(target=bench.gate.pool.release)
        runner.start()
        runner.join()  # an exception in it would be reported, and fail the test
    else:
        bench.gate.pool.release()
    assert len(bench.gate.pool.free) == 1


def test_the_loop_may_close_while_another_thread_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its look whether the loop is closed and the use of it."""
    bench: Bench

    async def use() -> None:
        nonlocal bench
        bench = Bench(1)
        bench.reader("a", 2).feed()
        await turns(2)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(use())
    loop.close()
    monkeypatch.setattr(loop, "is_closed", lambda: False)
    thread = threading.Thread(target=bench.gate.pool.release)
    thread.start()
    thread.join()  # an exception in it would be reported, and fail the test
    assert len(bench.gate.pool.free) == 1
