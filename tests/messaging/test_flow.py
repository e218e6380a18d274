"""Who may read: permits go to who waited longest, and the sockets are told once a turn."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from tests.messaging.peers import turns, until
from tofu_aio.messaging import limits as limits_module
from tofu_aio.messaging.flow import ReadGate
from tofu_aio.messaging.home import Home
from tofu_aio.messaging.limits import Limits
from tofu_aio.messaging.stalls import StallWatch
from tofu_aio.protocol.pool import Account, Permit, Reader


class Greedy:
    """A reader that wants so many messages, and takes what it can get as a channel does."""

    def __init__(
        self, gate: ReadGate, log: list[str], name: str, wants: int, price: int = 1
    ) -> None:
        self.gate = gate
        self.log = log
        self.name = name
        self.wants = wants
        self.price = price
        self.account = Account(gate.pool)
        self.needs = 0
        self.suspended_at: float | None = None
        self.suspended_for = 0.0
        self.suspensions = 0
        self.permits: list[Permit] = []

    @property
    def over_its_share(self) -> bool:
        return self.account.over_share(self.needs)

    def feed(self) -> None:
        """Data for so many messages comes in: nobody overtakes those who wait."""
        self._take(self.account.budget())

    def resume(self) -> None:
        """One message is its own, and more only while nobody else waits."""
        self._take(self.price)

    def _take(self, budget: int) -> None:
        self.needs = 0
        while self.wants and self.price <= budget:
            permit = self.account.take(self.price)
            if permit is None:
                break
            self.permits.append(permit)
            self.wants -= 1
            self.log.append(self.name)
            budget = self.account.budget()
        if self.wants:
            self.needs = self.price
            self.gate.starve(self)

    def release(self) -> None:
        self.permits.pop(0).release()

    def reconcile_reading(self) -> None:
        self.log.append(f"{self.name} {'stops' if self.needs else 'reads'}")

    def took(self) -> int:
        return self.log.count(self.name)


class Bench:
    """A gate, its readers, and what it told."""

    def __init__(self, size: int, told: bool = True, **limits: Any) -> None:
        self.exhausted: list[Reader] = []
        self.log: list[str] = []
        self.listening = told
        self.stalls: list[float] = []
        self.gate = ReadGate(Limits(size, **limits), self._on_exhausted, self.stalls.append)
        self.gate.open()

    def _on_exhausted(self, reader: Reader) -> bool:
        self.exhausted.append(reader)
        return self.listening

    def reader(self, name: str, wants: int, price: int = 1) -> Greedy:
        return Greedy(self.gate, self.log, name, wants, price)

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
            if not self.needs:
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


# --- shares, and long messages ---------------------------------------------------------------


async def test_who_has_its_share_waits_in_nobody_s_way() -> None:
    bench = Bench(8, channel_share=0.5)
    greedy, modest = bench.reader("g", 100), bench.reader("m", 1)
    greedy.feed()
    assert bench.takes == ["g"] * 4
    await turns(2)
    assert bench.log[-1] == "g stops"
    assert (list(bench.gate.pool.parked), list(bench.gate.pool.waiters)) == ([greedy], [])
    modest.feed()
    assert bench.takes[4:] == ["m"]
    assert bench.exhausted == [], "the pool has something left"


async def test_who_has_its_share_goes_on_when_its_own_are_released() -> None:
    bench = Bench(8, channel_share=0.5)
    greedy = bench.reader("g", 6)
    greedy.feed()
    for _ in range(2):
        greedy.release()
        await turns(3)
    assert bench.takes == ["g"] * 6
    assert not bench.gate.pool.parked
    assert bench.exhausted == [], "the pool was never empty"


async def test_who_waits_for_the_pool_is_parked_when_its_turn_comes_and_it_has_its_share() -> None:
    bench = Bench(4, channel_share=0.5)
    first, second, third = (bench.reader(name, 9) for name in "abc")
    first.feed()  # two, and then it has its share
    second.feed()  # one: half of what is left
    third.feed()  # the last one, which whoever holds none may have
    assert bench.takes == ["a", "a", "b", "c"]
    late = bench.reader("d", 1)
    late.feed()
    await turns(3)
    first.release()
    await turns(3)
    assert bench.takes[4:] == ["d"], "it holds nothing: those with a share are not before it"


async def test_who_has_its_share_is_in_nobody_s_way_though_its_message_is_long() -> None:
    """Fewer permits are free than it would need: it waits for its own all the same."""
    bench = Bench(20, channel_share=0.5)
    greedy, modest = bench.reader("g", 5), bench.reader("m", 3)
    greedy.feed()
    greedy.wants, greedy.price = 1, 16
    greedy.feed()
    await turns(2)
    assert list(bench.gate.pool.parked) == [greedy]
    modest.feed()
    assert bench.takes == ["g"] * 5 + ["m"] * 3


async def test_who_was_parked_stays_so_while_others_take_what_is_free() -> None:
    bench = Bench(8, channel_share=0.5)
    greedy = bench.reader("g", 100)
    greedy.feed()
    others = [bench.reader(name, 1) for name in "abc"]
    for other in others:
        other.feed()
    others[0].release()
    await turns(3)
    assert list(bench.gate.pool.parked) == [greedy]
    assert not bench.gate.pool.waiters


async def test_what_another_thread_releases_while_one_is_parked_is_seen() -> None:
    """In the very moment in which it is neither in the queue nor parked."""
    bench = Bench(8, channel_share=0.5)
    greedy = bench.reader("g", 4)
    greedy.feed()
    holders = [bench.reader(name, 1) for name in "abcd"]
    for holder in holders:
        holder.feed()

    class Queue(deque[Reader]):
        def popleft(self) -> Reader:
            reader = super().popleft()
            while greedy.permits:
                greedy.release()
            return reader

    late = bench.reader("l", 1)
    late.feed()
    bench.gate.pool.waiters = Queue([greedy, *bench.gate.pool.waiters])
    greedy.wants = greedy.needs = 1
    greedy.suspended_at = 0.0
    holders[0].release()
    await turns(5)
    assert bench.takes.count("g") == 5
    assert not bench.gate.pool.parked


def queued(bench: Bench) -> tuple[Greedy, Greedy, Greedy]:
    """One holds three permits of four, one needs four, and behind it one needs one."""
    readers = bench.reader("h", 3), bench.reader("l", 1, price=4), bench.reader("s", 1)
    for reader in readers:
        reader.feed()
    return readers


async def test_a_long_message_waits_until_there_are_permits_enough_and_nobody_passes_it() -> None:
    bench = Bench(4, pool_bytes=4 * 40_000)
    holder, long, _ = queued(bench)
    for _ in range(3):
        assert bench.takes == ["h"] * 3
        holder.release()
        await turns(3)
    assert bench.takes[3:] == ["l"]
    long.release()
    await turns(3)
    assert bench.takes[4:] == ["s"]


async def test_who_gives_up_makes_way_for_one_that_needs_less() -> None:
    bench = Bench(4)
    _, long, _ = queued(bench)
    await turns(3)
    bench.gate.forget(long)
    await turns(3)
    assert bench.takes[3:] == ["s"]


# --- how long --------------------------------------------------------------------------------


async def test_waits_are_measured() -> None:
    bench = Bench(1)
    reader = bench.reader("a", 2)
    clock = bench.gate.home = Clock()
    clock.enter()
    reader.feed()
    assert reader.suspended_at is not None
    clock.move(5)
    reader.release()
    await turns(3)
    assert reader.suspended_at is None
    assert bench.gate.longest_wait == reader.suspended_for == 5
    assert (reader.suspensions, bench.gate.suspensions) == (1, 1)


class Clock(Home):
    """A home whose time moves when it is told to, and whose timers are then due."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        self.due.append((self.now + seconds, callback))
        return asyncio.TimerHandle(0, callback, (), asyncio.get_running_loop())

    def move(self, seconds: float) -> None:
        self.now += seconds
        ready = [callback for when, callback in self.due if when <= self.now]
        self.due = [(when, callback) for when, callback in self.due if when > self.now]
        for callback in ready:
            callback()


async def test_while_permits_come_back_nobody_is_accused() -> None:
    """However long the queue is: it counts since when none was served."""
    clock, accused = Clock(), list[float]()
    since: float | None = 0.0
    watch = StallWatch(clock, lambda: since, accused.append)
    for _ in range(100):
        watch.begin()
        since = clock.now
        clock.move(6)
        assert len(clock.due) <= 1, "one timer, however often somebody begins to wait"
    assert accused == []
    clock.move(6)
    assert accused == [12.0]
    since = None
    clock.move(10)
    assert clock.due == [], "nobody waits: nothing is due"


async def test_that_nobody_gives_permits_back_is_told_once_for_each_time() -> None:
    clock, accused = Clock(), list[float]()
    since = 0.0
    watch = StallWatch(clock, lambda: since, accused.append)
    watch.begin()
    for episode in range(1, 4):
        for _ in range(10):
            clock.move(6)
        assert len(accused) == episode
        since = clock.now  # one was served, and others wait
    assert min(accused) >= limits_module.HELD_TOO_LONG
    assert len(clock.due) == 1, "as long as somebody waits"


async def test_the_gate_watches_while_somebody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_module, "HELD_TOO_LONG", 0.01)
    bench = Bench(1)
    bench.reader("a", 2).feed()
    await until(lambda: bench.stalls)
    assert bench.stalls[0] >= 0.01
    bench.gate.close()
