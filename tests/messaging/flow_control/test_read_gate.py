"""Which channels are read: permits go to the longest wait, reserves to their own channel."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.messaging.peers import turns, until
from tofu_aio.messaging import limits as limits_module
from tofu_aio.messaging.flow_control.read_gate import ReadGate
from tofu_aio.messaging.flow_control.stall_watch import StallWatch
from tofu_aio.messaging.limits import Limits
from tofu_aio.messaging.threads.owner_loop import OwnerLoop
from tofu_aio.protocol.account import Account
from tofu_aio.protocol.pool import Permit, Reader, Waiters


class Greedy:
    """A reader that wants a number of messages, and takes what it can get as a channel does.

    One message of its own is alive from the start, on its reserve, unless it is ``idle``: so it
    waits for permits of the pool.
    """

    def __init__(
        self,
        gate: ReadGate,
        log: list[str],
        name: str,
        wants: int,
        price: int = 1,
        *,
        idle: bool = False,
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
        if not idle:
            assert self.account.acquire(1, 0) is self.account

    @property
    def over_its_share(self) -> bool:
        return self.account.over_share(self.needs)

    def feed(self) -> None:
        """Data for some messages arrives; it does not overtake waiting readers."""
        self._take(self.account.budget())

    def may_go_on(self) -> bool:
        return not self.account.reserved or not self.wants

    def resume(self, granted: int) -> None:
        """It gets what was granted, and takes more only while no other reader waits."""
        self._take(max(self.account.budget(), granted))

    def _take(self, budget: int) -> None:
        self.needs = 0
        while self.wants:
            on_reserve = not self.account.reserved
            permit = self.account.acquire(self.price, budget)
            if permit is None:
                break
            budget -= 0 if on_reserve else self.price
            self.permits.append(permit)
            self.wants -= 1
            self.log.append(self.name)
        if self.wants:
            self.needs = self.price
            self.gate.starve(self)

    def release(self) -> None:
        self.permits.pop(0).release()

    def release_all(self) -> None:
        """Release every message, also the one from the start."""
        while self.permits:
            self.release()
        self.account.release()

    def reconcile_reading(self) -> None:
        self.log.append(f"{self.name} {'stops' if self.needs else 'reads'}")

    def took(self) -> int:
        return self.log.count(self.name)


class Bench:
    """A gate, its readers and its reports. Unless limited, one may hold the whole pool."""

    def __init__(self, size: int, told: bool = True, **limits: Any) -> None:
        limits.setdefault("channel_share", 1.0)
        self.exhausted: list[Reader] = []
        self.log: list[str] = []
        self.listening = told
        self.stalls: list[float] = []
        self.gate = ReadGate(Limits(size, **limits), self._on_exhausted, self.stalls.append)
        self.gate.open()

    def _on_exhausted(self, reader: Reader) -> bool:
        self.exhausted.append(reader)
        return self.listening

    def reader(self, name: str, wants: int, price: int = 1, *, idle: bool = False) -> Greedy:
        return Greedy(self.gate, self.log, name, wants, price, idle=idle)

    def drain(self) -> None:
        """Others take all that is free."""
        while self.gate.pool.acquire():
            pass

    def give_back(self, count: int) -> None:
        """Give a number of permits back."""
        for _ in range(count):
            self.gate.pool.release()

    def use(self, clock: Clock) -> Clock:
        """Use the time of this clock."""
        clock.enter()
        self.gate.owner_loop = self.gate._watch._owner_loop = clock
        return clock

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
        def resume(self, granted: int) -> None:
            super().resume(granted)
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
    assert bench.gate.pool.free, "the pool has something left"
    assert bench.exhausted == [greedy], "it is reported all the same that it waits"


async def test_who_has_its_share_goes_on_when_its_own_are_released() -> None:
    bench = Bench(8, channel_share=0.5)
    greedy = bench.reader("g", 6)
    greedy.feed()
    for _ in range(2):
        greedy.release()
        await turns(3)
    assert bench.takes == ["g"] * 6
    assert not bench.gate.pool.parked


async def test_who_waits_for_the_pool_is_parked_when_its_turn_comes_and_it_has_its_share() -> None:
    bench = Bench(4, channel_share=0.5)
    first, second, third = (bench.reader(name, 9) for name in "abc")
    first.feed()  # two, and then it has its share
    second.feed()  # one: half of what is left
    third.feed()  # the last one, for a channel that holds none
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


class Interrupted(Greedy):
    """Another thread releases what it holds, at a certain point of the gate's work, once."""

    point = ""

    @property
    def over_its_share(self) -> bool:
        over = super().over_its_share
        if over:
            self.interrupt("it was looked at")
        return over

    def interrupt(self, point: str) -> None:
        if point == self.point:
            self.point = ""
            while self.permits:
                self.release()


class Interruptible(Waiters):
    """A queue that a reader leaves while another thread releases its messages."""

    def discard(self, reader: Reader) -> None:
        super().discard(reader)
        if isinstance(reader, Interrupted):
            reader.interrupt("it left the queue")


@pytest.mark.parametrize("point", ["it was looked at", "it left the queue"])
async def test_what_another_thread_releases_while_one_is_parked_is_seen(point: str) -> None:
    """Just when it moves from the queue to the readers that wait for their own messages."""
    bench = Bench(8, channel_share=0.5)
    bench.gate.pool.waiters = Interruptible()
    greedy = Interrupted(bench.gate, bench.log, "g", 1)
    greedy.feed()
    bench.drain()
    bench.reader("x", 1).feed()
    bench.give_back(3)
    greedy.wants = 1
    greedy.feed()
    assert greedy in bench.gate.pool.waiters, "there would be enough for it"
    greedy.point = point
    await turns(5)
    assert not greedy.point, "it had its share, once the other was served"
    assert bench.takes == ["g", "x", "g"]
    assert not bench.gate.pool.parked


async def test_who_has_its_share_when_its_turn_comes_is_in_nobody_s_way() -> None:
    bench = Bench(12, channel_share=0.5)
    bench.drain()
    first = bench.reader("w", 1)
    first.feed()
    bench.give_back(12)
    for name, price in (("a", 5), ("b", 3), ("l", 5), ("s", 1)):
        bench.reader(name, 1, price).feed()
    assert len(bench.gate.pool.waiters) == 5, "each is within its share, with so much free"
    await turns(5)
    assert bench.takes == ["w", "a", "b", "s"], "the long one would take all that is left"
    assert [reader.needs for reader in bench.gate.pool.parked] == [5]


async def test_who_would_be_over_its_share_by_the_time_of_its_turn_is_in_nobody_s_way() -> None:
    """Those before it took so much that it now waits for its own messages, not for theirs."""
    bench = Bench(20, channel_share=0.5)
    greedy = bench.reader("g", 2)
    greedy.feed()
    bench.drain()
    bench.reader("w", 1).feed()
    bench.give_back(18)
    for name, price in (("a", 8), ("b", 5)):
        bench.reader(name, 1, price).feed()
    greedy.wants, greedy.price = 1, 5
    greedy.feed()
    bench.reader("s", 1).feed()
    assert greedy in bench.gate.pool.waiters, "there would be enough for it"
    await turns(5)
    assert bench.takes == ["g", "g", "w", "a", "s"]
    assert greedy in bench.gate.pool.parked


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
    clock = bench.use(Clock())
    reader.feed()
    assert reader.suspended_at is not None
    clock.move(5)
    reader.release()
    await turns(3)
    assert reader.suspended_at is None
    assert bench.gate.longest_wait == reader.suspended_for == 5
    assert (reader.suspensions, bench.gate.suspensions) == (1, 1)


async def test_who_waits_for_its_own_messages_is_measured_too() -> None:
    bench = Bench(8, channel_share=0.5)
    clock = bench.use(Clock())
    reader = bench.reader("g", 5)
    reader.feed()
    clock.move(3)
    assert bench.gate.longest_wait_by_now() == 3
    reader.release()
    await turns(3)
    assert (reader.suspended_for, bench.gate.longest_wait) == (3, 3)
    clock.move(5)
    assert bench.gate.longest_wait_by_now() == 3


async def test_who_leaves_has_waited_until_then() -> None:
    bench = Bench(1)
    clock = bench.use(Clock())
    reader = bench.reader("a", 2)
    reader.feed()
    clock.move(4)
    bench.gate.forget(reader)
    clock.move(5)
    assert reader.suspended_for == bench.gate.longest_wait_by_now() == 4


class Clock(OwnerLoop):
    """An owner loop whose time is set by the test, and whose timers are then due."""

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


async def test_while_permits_come_back_no_stall_is_reported() -> None:
    """However long the queue is: it counts since when none was served."""
    clock, reported = Clock(), list[float]()
    since: list[float] = []
    watch = StallWatch(clock, lambda: since, reported.append)
    for _ in range(100):
        watch.begin()
        since = [clock.now]
        clock.move(6)
        assert len(clock.due) <= 1, "one timer, however often a wait begins"
    assert reported == []
    clock.move(6)
    assert reported == [12.0]
    since = []
    clock.move(10)
    assert clock.due == [], "nothing waits: nothing is due"


async def test_that_nobody_gives_permits_back_is_told_once_for_each_time() -> None:
    clock, reported = Clock(), list[float]()
    since = 0.0
    watch = StallWatch(clock, lambda: [since], reported.append)
    watch.begin()
    for episode in range(1, 4):
        for _ in range(10):
            clock.move(6)
        assert len(reported) == episode
        since = clock.now  # one was served, and others wait
    assert min(reported) >= limits_module.HELD_TOO_LONG
    assert len(clock.due) == 1, "while a channel waits"


async def test_a_wait_that_lasts_does_not_hide_the_next_one() -> None:
    """A client that never reads is reported once, and later waits of others too."""
    clock, reported = Clock(), list[float]()
    since = [0.0]
    watch = StallWatch(clock, lambda: since, reported.append)
    watch.begin()
    for _ in range(4):
        clock.move(10)
    assert reported == [10.0]
    since.append(clock.now + 5)
    clock.move(10)
    assert len(reported) == 1
    clock.move(5)
    assert reported == [10.0, 10.0]
    for _ in range(4):
        clock.move(10)
    assert len(reported) == 2


async def test_many_waits_are_told_of_together() -> None:
    clock, reported = Clock(), list[float]()
    since: list[float] = []
    watch = StallWatch(clock, lambda: since, reported.append)
    for _ in range(200):
        since.append(clock.now)
        watch.begin()
        clock.move(0.1)
    assert 1 <= len(reported) <= 2
    for _ in range(100):
        clock.move(1)
    assert len(reported) == 3, "of each once, and no more often than every ten seconds"
    assert len(clock.due) == 1


async def test_the_gate_watches_while_somebody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_module, "HELD_TOO_LONG", 0.01)
    bench = Bench(1)
    bench.reader("a", 2).feed()
    await until(lambda: bench.stalls)
    assert bench.stalls[0] >= 0.01
    bench.gate.close()


async def test_the_gate_watches_while_somebody_waits_for_its_own_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though the pool has something left for all others."""
    monkeypatch.setattr(limits_module, "HELD_TOO_LONG", 0.01)
    bench = Bench(8, channel_share=0.5)
    bench.reader("g", 100).feed()
    assert not bench.gate.pool.waiters
    await until(lambda: bench.stalls)
    bench.gate.close()


async def test_who_waits_in_the_queue_is_told_of_though_another_waits_for_its_own() -> None:
    """And was reported long ago."""
    bench = Bench(8, channel_share=0.5)
    clock = bench.use(Clock())
    bench.reader("g", 100).feed()
    for _ in range(3):
        clock.move(10)
    assert len(bench.stalls) == 1
    bench.drain()
    bench.reader("a", 1).feed()
    clock.move(10)
    clock.move(10)
    assert len(bench.stalls) == 2


# --- reserves --------------------------------------------------------------------------------


async def test_who_is_idle_receives_whatever_others_hold_and_wait_for() -> None:
    bench = Bench(1)
    bench.reader("a", 9).feed()
    bench.reader("b", 9).feed()
    idle = bench.reader("i", 1, idle=True)
    idle.feed()
    assert bench.takes == ["a", "i"]
    assert (idle.needs, idle.account.reserved) == (0, True)


async def test_whose_reserve_comes_back_goes_on_past_the_queue_and_takes_no_permit() -> None:
    bench = Bench(1)
    bench.drain()
    first, last = bench.reader("a", 1), bench.reader("z", 3)
    first.feed()
    last.feed()
    await turns(2)
    last.account.release()
    assert bench.takes == [], "not in the middle of anything"
    await turns(2)
    assert bench.takes == ["z"]
    assert list(bench.gate.pool.waiters) == [first, last], "it wants more, and waits for that"
    assert (bench.gate.pool.out, len(bench.gate.pool.reserves)) == (1, 2)
    bench.gate.pool.release()
    await turns(2)
    assert bench.takes == ["z", "a"], "the permit is for the longest wait"


async def test_whose_reserve_comes_back_leaves_what_came_back_with_it_to_the_queue() -> None:
    bench = Bench(2)
    bench.drain()
    first, last = bench.reader("a", 1), bench.reader("z", 4)
    first.feed()
    last.feed()
    last.account.release()
    bench.gate.pool.release()
    await turns(2)
    assert bench.takes == ["z", "a"]
    assert list(bench.gate.pool.waiters) == [last]


async def test_whose_reserve_comes_back_does_so_as_often_as_it_comes_back() -> None:
    """With every message of others alive for good: this is what makes progress certain."""
    bench = Bench(1)
    bench.drain()
    bench.reader("a", 1).feed()
    reader = bench.reader("b", 50, idle=True)
    reader.feed()
    for count in range(1, 50):
        assert bench.takes == ["b"] * count
        reader.release()
        await turns(2)
    assert bench.takes == ["b"] * 50
    assert bench.log[-1] == "b reads"


async def test_who_has_its_share_goes_on_with_its_reserve_too() -> None:
    """Its long message, beyond any share, needs that, and waits for nothing else."""
    bench = Bench(8, channel_share=0.5)
    reader = bench.reader("l", 3, price=8)
    reader.feed()
    assert list(bench.gate.pool.parked) == [reader]
    reader.account.release()
    for count in range(1, 4):
        await turns(2)
        assert bench.takes == ["l"] * count
        assert (bench.gate.pool.out, len(bench.gate.pool.reserves)) == (0, 1)
        reader.release()
    assert not bench.gate.pool.parked


async def test_a_permit_of_its_own_that_comes_back_first_lets_it_go_on_too() -> None:
    """The reserve comes back last, so a channel that keeps a message waits for the pool."""
    bench = Bench(2)
    reader = bench.reader("a", 5)
    reader.feed()
    assert bench.takes == ["a"] * 2
    reader.account.release()
    assert reader.account.reserved
    await turns(2)
    assert bench.takes == ["a"] * 3


@pytest.mark.parametrize("others", [False, True])
async def test_a_reserve_that_came_back_before_its_channel_waits_is_seen(others: bool) -> None:
    """Another thread gave it back after the decoder's check, when nothing was waiting yet."""
    bench = Bench(1)
    if others:
        bench.reader("o", 9).feed()
    bench.drain()
    reader = bench.reader("a", 1)
    reader.needs = 1
    reader.account.release()
    bench.gate.starve(reader)
    assert reader.suspended_at is not None
    await turns(2)
    assert bench.takes[-1:] == ["a"]
    assert (reader.suspended_at, reader.account.reserved) == (None, True)
    assert bench.log[-1] == "a reads"


async def test_a_reserve_that_a_thread_gives_back_wakes_the_loop() -> None:
    bench = Bench(1)
    bench.drain()
    resumed = asyncio.Event()

    class Waiting(Greedy):
        def resume(self, granted: int) -> None:
            super().resume(granted)
            resumed.set()

    reader = Waiting(bench.gate, bench.log, "a", 1)
    reader.feed()
    await turns(3)
    thread = threading.Timer(0.01, reader.account.release)
    thread.start()
    await asyncio.wait_for(resumed.wait(), 20)
    thread.join()
    assert bench.takes == ["a"]


async def test_any_thread_may_give_reserves_back_while_others_do() -> None:
    """Each of many channels is served again and again by nothing else."""
    bench = Bench(1)
    bench.drain()
    readers = [bench.reader(name, 50, idle=True) for name in "abcdefgh"]
    for reader in readers:
        reader.feed()

    def release_all(reader: Greedy) -> None:
        while reader.took() < 50 or reader.permits:
            if reader.permits:
                reader.release()

    await asyncio.gather(*(asyncio.to_thread(release_all, reader) for reader in readers))
    assert [reader.took() for reader in readers] == [50] * 8
    assert (bench.gate.pool.out, len(bench.gate.pool.reserves)) == (1, 0)


async def test_whose_reserve_comes_back_while_it_waits_for_nothing_is_left_alone() -> None:
    bench = Bench(1)
    reader = bench.reader("a", 1)
    reader.feed()
    bench.reader("b", 1).feed()  # so that a returned reserve is reported
    reader.release_all()
    await turns(3)
    assert bench.takes == ["a", "b"]
    assert not bench.gate.pool.restored


async def test_who_closes_is_not_let_go_on_by_its_reserve() -> None:
    bench = Bench(1)
    bench.drain()
    leaving = bench.reader("a", 1)
    leaving.feed()
    leaving.account.release()
    bench.gate.forget(leaving)
    await turns(3)
    assert bench.takes == []
    assert (leaving.suspended_at, list(bench.gate.pool.waiters)) == (None, [])


async def test_a_look_again_is_taken_at_the_end_of_the_turn() -> None:
    """A message that waits, such as a part of a long request, may no longer need a permit."""
    bench = Bench(1)
    bench.drain()
    reader = bench.reader("a", 1)
    reader.feed()
    bench.gate.retry(reader)
    reader.wants = 0
    assert reader.suspended_at is not None
    await turns(2)
    assert (reader.suspended_at, list(bench.gate.pool.waiters)) == (None, [])
    assert bench.log == ["a reads"], "it was reported once, and at the end"


async def test_a_look_again_takes_nothing_from_those_who_wait() -> None:
    bench = Bench(1)
    bench.drain()
    first, second = bench.reader("a", 1), bench.reader("b", 1)
    first.feed()
    second.feed()
    bench.gate.retry(second)
    await turns(2)
    assert (bench.takes, list(bench.gate.pool.waiters)) == ([], [first, second])
    bench.gate.pool.release()
    await turns(2)
    assert bench.takes == ["a"]


async def test_a_look_again_for_one_that_does_not_wait_does_nothing() -> None:
    bench = Bench(1)
    bench.gate.retry(bench.reader("a", 1))
    await turns(2)
    assert bench.log == []
