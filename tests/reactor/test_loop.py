"""The loop: its turns, its fairness, and what it leaves to the next turn."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import gc
import random
import selectors
import socket
import weakref

import pytest

from tofu_aio.reactor import Loop, ReactorSelector
from tofu_aio.reactor.pollers import default_poller


@pytest.fixture
def loop():
    loop = Loop()
    yield loop
    loop.close()


def run_one_turn(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_a_loop_is_asyncio_s_own_kind_over_the_reactor_s_selector():
    selector = ReactorSelector()
    loop = Loop(selector)
    assert isinstance(loop, asyncio.SelectorEventLoop)
    assert loop._selector is selector
    loop.close()
    assert selector.get_map() is None


# Turns.


def test_what_a_callback_makes_due_waits_for_the_next_turn(loop):
    order = []
    loop.call_soon(lambda: (order.append(1), loop.call_soon(order.append, 3)))
    loop.call_soon(order.append, 2)
    run_one_turn(loop)
    assert order == [1, 2]
    run_one_turn(loop)
    assert order == [1, 2, 3]


def test_timers_come_due_in_order_and_never_early(loop):
    order = []
    start = loop.time()
    for delay in (0.003, 0.001, 0.002):
        # Not call_later: whoever is interrupted between two of them has other times.
        loop.call_at(start + delay, lambda delay=delay: order.append((delay, loop.time() - start)))
    loop.call_at(start + 0.004, loop.stop)
    loop.run_forever()
    assert [delay for delay, _ in order] == [0.001, 0.002, 0.003]
    assert all(passed >= delay - loop._clock_resolution for delay, passed in order)


def test_a_cancelled_callback_is_not_run(loop):
    order = []
    loop.call_soon(order.append, 1).cancel()
    loop.call_later(0, order.append, 2).cancel()
    loop.call_soon(order.append, 3)
    run_one_turn(loop)
    assert order == [3]


def test_a_cancelled_timer_at_the_head_does_not_wake_the_loop(loop):
    loop.call_later(0.001, print).cancel()
    loop.call_later(0.01, loop.stop)
    before = loop.statistics().turns
    loop.run_forever()
    assert loop.statistics().turns == before + 1
    assert loop._timer_cancelled_count == 0


def test_many_cancelled_timers_are_forgotten_before_their_time(loop):
    keep = [loop.call_later(3600 + number, print) for number in range(60)]
    drop = [loop.call_later(60 + number % 7, print) for number in range(60)]
    # The head stays, so that it does not uncover the others.
    head = loop.call_later(30, print)
    for timer in drop:
        timer.cancel()
    run_one_turn(loop)
    assert len(loop._scheduled) == 121, "fewer than half were cancelled"
    for timer in keep[:10]:
        timer.cancel()
    run_one_turn(loop)
    assert sorted(loop._scheduled) == sorted([head, *keep[10:]])
    assert loop._scheduled[0] is head
    assert loop._timer_cancelled_count == 0
    # What was forgotten is counted no more when it is cancelled again or released.
    assert not any(timer._scheduled for timer in [*drop, *keep[:10]])
    assert all(timer._scheduled for timer in keep[10:])


def test_a_timer_s_loop_sleeps_a_day_at_most(loop, monkeypatch):
    slept = []
    monkeypatch.setattr(loop._reactor, "select", lambda timeout: slept.append(timeout) or [])
    loop.call_later(10**9, print)
    loop._run_once()
    assert slept == [86_400]


@pytest.mark.parametrize("debug", [False, True])
def test_a_turn_holds_on_to_nothing_even_where_an_exception_does(loop, debug):
    """An exception's traceback keeps the frames it passed, and those must not keep the callback."""
    loop.set_debug(debug)
    kept = []

    class Failing:
        async def fail(self):
            raise LookupError

    failing = Failing()
    gone = weakref.ref(failing)

    async def main(failing):
        task = asyncio.ensure_future(failing.fail())
        await asyncio.wait([task])
        kept.append(task.exception().with_traceback(None))

    loop.run_until_complete(main(failing))
    del failing
    gc.disable()
    try:
        assert gone() is None
    finally:
        gc.enable()


def test_a_failed_task_is_reported_as_soon_as_it_is_forgotten(loop):
    """CPython's own test of this runs in `conformance`; this one says why in our words."""
    reported = []
    loop.set_debug(True)
    loop.set_exception_handler(lambda _, context: reported.append(context["message"]))

    async def fail():
        raise LookupError

    async def main():
        asyncio.ensure_future(fail())  # noqa: RUF006
        await asyncio.sleep(0)
        return list(reported)

    assert loop.run_until_complete(main()) == ["Task exception was never retrieved"]


def test_slow_callbacks_are_logged_in_debug_mode(loop, caplog):
    def slow():
        pass

    loop.set_debug(True)
    loop.slow_callback_duration = 0
    loop.call_soon(slow)
    run_one_turn(loop)
    assert any("Executing <Handle" in text and "slow" in text for text in caplog.messages)


# Fairness.


@pytest.mark.skipif(
    default_poller.__name__ in {"PollPoller", "WSAPollPoller"},
    reason="the system looks at descriptors one by one and knows no order",
)
def test_ready_descriptors_are_served_in_the_order_they_became_ready(loop, make_pair):
    pairs = [make_pair() for _ in range(100)]
    served = []
    for number, (ours, _) in enumerate(pairs):
        loop.add_reader(
            ours, lambda number=number, ours=ours: (served.append(number), ours.recv(1))
        )
    order = list(range(100))
    random.Random(7).shuffle(order)
    # kqueue and wepoll hear of them in a turn, and see no order in what was ready before that.
    run_one_turn(loop)
    for number in order:
        pairs[number][1].send(b"x")
    run_one_turn(loop)
    assert served == order


def test_none_is_served_twice_before_each_once(loop, make_pair):
    """The greedy always have more to read; those that become ready meanwhile still get a turn."""
    greedy = [make_pair() for _ in range(50)]
    served = []
    for number, (ours, peer) in enumerate(greedy):
        peer.send(b"x" * 20)
        loop.add_reader(
            ours, lambda number=number, ours=ours: (served.append(number), ours.recv(1))
        )
    late, late_peer = make_pair()
    loop.add_reader(late, lambda: (served.append("late"), late.recv(1)))
    for turn in range(20):
        if turn % 2:
            late_peer.send(b"x")
        served.clear()
        run_one_turn(loop)
        assert sorted(map(str, served)) == sorted(
            [*map(str, range(50)), *(["late"] if turn % 2 else [])]
        )


# Readers and writers.


def test_a_reader_and_a_writer_are_added_and_removed(loop, make_pair):
    left, right = make_pair()
    seen = []
    assert loop.remove_reader(left) is False
    loop.add_reader(left, seen.append, "old")
    loop.add_reader(left, seen.append, "reader")
    loop.add_writer(left, seen.append, "writer")
    right.send(b"x")
    run_one_turn(loop)
    assert seen == ["reader", "writer"]
    assert loop.remove_reader(left) is True
    assert loop.remove_reader(left) is False
    run_one_turn(loop)
    assert seen == ["reader", "writer", "writer"]
    assert loop.remove_writer(left) is True
    run_one_turn(loop)
    assert seen == ["reader", "writer", "writer"]
    assert left not in loop._selector.get_map()


def test_a_reader_removed_by_another_callback_of_its_turn_is_not_called(loop, make_pair):
    (one, one_peer), (other, other_peer) = make_pair(), make_pair()
    seen = []

    def first(name, rival):
        seen.append(name)
        loop.remove_reader(rival)

    loop.add_reader(one, first, "one", other)
    loop.add_reader(other, first, "other", one)
    one_peer.send(b"x")
    other_peer.send(b"x")
    run_one_turn(loop)
    assert seen == ["one"]


@pytest.mark.parametrize("kind", ["reader", "writer"])
def test_a_cancelled_handle_is_removed_when_its_descriptor_is_ready(loop, make_pair, kind):
    left, right = make_pair()
    right.send(b"x")
    getattr(loop, f"_add_{kind}")(left.fileno(), print).cancel()
    run_one_turn(loop)
    assert left not in loop._selector.get_map()


def test_a_refused_descriptor_is_refused_at_once(loop, tmp_path):
    with (tmp_path / "file").open("w") as file:
        try:
            loop.add_writer(file, print)
        except OSError:
            assert file not in loop._selector.get_map()
        else:
            loop.remove_writer(file)  # poll(2) and kqueue take regular files


# Transports at rest.


class Reading(asyncio.Protocol):
    def __init__(self):
        self.data = b""
        self.lost = False

    def data_received(self, data):
        self.data += data

    def connection_lost(self, exc):
        self.lost = True


async def connected(make_pair):
    ours, peer = make_pair()
    transport, protocol = await asyncio.get_running_loop().create_connection(Reading, sock=ours)
    await asyncio.sleep(0)
    return transport, protocol, peer


def test_a_transport_that_pauses_is_deaf_and_one_that_resumes_hears(loop, make_pair):
    async def main():
        transport, protocol, peer = await connected(make_pair)
        for _ in range(3):
            transport.pause_reading()
            assert "read=idle" in repr(transport)
            peer.send(b"x")
            for _ in range(3):
                await asyncio.sleep(0)
            assert protocol.data == b""
            transport.resume_reading()
            transport.pause_reading()
            transport.resume_reading()
            assert "read=polling" in repr(transport)
            for _ in range(2):
                await asyncio.sleep(0)
            assert protocol.data == b"x"
            protocol.data = b""
        transport.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert protocol.lost

    loop.run_until_complete(main())
    assert loop.statistics().selector.rebuilds == 0


def removes(loop):
    return loop.statistics().selector.issued.removes


def test_a_transport_at_rest_is_told_to_the_system_in_the_next_turn(loop, make_pair):
    async def main():
        transport, _, _ = await connected(make_pair)
        before = removes(loop)
        transport.pause_reading()
        assert removes(loop) == before
        await asyncio.sleep(0)
        assert removes(loop) == before + 1
        transport.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    loop.run_until_complete(main())


@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_transport_at_rest_that_closes_is_told_at_once(loop, make_pair, how):
    """Before its number can be reused: DEL comes before the close."""

    async def main():
        transport, _, _ = await connected(make_pair)
        before = removes(loop)
        transport.pause_reading()
        getattr(transport, how)()
        assert removes(loop) == before + 1
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert removes(loop) == before + 1

    loop.run_until_complete(main())
    assert not loop._reactor._stale.suspects


def test_a_transport_that_is_closing_never_rests(loop, make_pair):
    async def main():
        transport, _, peer = await connected(make_pair)
        while not transport.get_write_buffer_size():
            transport.write(b"x" * 1_000_000)
        transport.close()
        await asyncio.sleep(0)
        before = removes(loop)
        transport.abort()
        assert removes(loop) == before + 1
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        peer.close()

    loop.run_until_complete(main())


def test_a_transport_forgotten_at_rest_keeps_its_number_until_the_system_is_told(loop, make_pair):
    async def main():
        transport, _, _ = await connected(make_pair)
        fd = transport.get_extra_info("socket").fileno()
        before = removes(loop)
        transport.pause_reading()
        gone = weakref.ref(transport)
        del transport
        gc.collect()
        assert gone() is not None
        assert gone().get_extra_info("socket").fileno() == fd
        await asyncio.sleep(0)
        with pytest.warns(ResourceWarning, match="unclosed transport"):
            gc.collect()
        gc.collect()  # the warning kept it alive
        assert gone() is None
        assert removes(loop) == before + 1

    loop.run_until_complete(main())
    assert not loop._reactor._stale.suspects


def test_a_number_taken_from_a_transport_at_rest_is_added_anew(loop, make_pair, make_pair_at):
    """Someone closes the socket under a paused transport; its number's next owner must be heard."""

    async def main():
        transport, _, _ = await connected(make_pair)
        fd = transport._sock_fd
        transport.pause_reading()
        transport._sock.close()
        _, peer = make_pair_at(fd)
        del loop._transports[fd]
        heard = asyncio.Event()
        loop.add_reader(fd, heard.set)
        peer.send(b"x")
        await heard.wait()
        loop.remove_reader(fd)
        transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    loop.run_until_complete(main())


def test_a_transport_that_asyncio_does_not_know_never_rests(loop, make_pair):
    """It may close its socket without a word to the loop."""

    class Foreign(asyncio.Transport):
        def read_ready(self):
            pass

        def is_closing(self):
            return False

    left, _ = make_pair()
    foreign = Foreign()
    loop.add_reader(left.fileno(), foreign.read_ready)
    before = removes(loop)
    loop.remove_reader(left.fileno())
    assert removes(loop) == before + 1


def test_a_reader_that_is_no_transport_s_is_removed_at_once(loop, make_pair):
    left, _ = make_pair()
    loop.add_reader(left, print)
    before = removes(loop)
    loop.remove_reader(left)
    assert removes(loop) == before + 1


def test_a_transport_under_sendfile_is_removed_at_once(loop, make_pair, tmp_path):
    """asyncio takes it out of its transports meanwhile, and hands the descriptor to others."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100_000)

    async def main():
        transport, _, peer = await connected(make_pair)
        with path.open("rb") as file:
            sending = asyncio.ensure_future(loop.sendfile(transport, file))
            received = 0
            while received < 100_000:
                received += len(await loop.sock_recv(peer, 65536))
            assert await sending == 100_000
        transport.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    loop.run_until_complete(main())


def test_a_call_runs_in_its_context(loop):
    variable = contextvars.ContextVar("variable", default="outside")
    context = contextvars.copy_context()
    context.run(variable.set, "inside")
    seen = []
    loop.call_soon(lambda: seen.append(variable.get()), context=context)
    loop.call_soon(lambda: seen.append(variable.get()))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == ["inside", "outside"]


def test_debug_mode_knows_where_a_call_was_made(loop, monkeypatch):
    monkeypatch.setattr("asyncio.constants.DEBUG_STACK_DEPTH", 10)
    loop.set_debug(True)
    handle = loop.call_soon(print)
    assert handle._source_traceback[-1].filename == __file__
    handle.cancel()


def test_a_closed_loop_takes_no_calls():
    loop = Loop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon(print)


def test_a_selector_of_another_kind_is_refused():
    with selectors.DefaultSelector() as selector, pytest.raises(TypeError, match="ReactorSelector"):
        Loop(selector)


def test_a_replaced_reader_or_writer_is_cancelled(loop, make_pair):
    left, _ = make_pair()
    for add in (loop._add_reader, loop._add_writer):
        first = add(left.fileno(), print)
        second = add(left.fileno(), print)
        assert first.cancelled()
        assert not second.cancelled()


def test_a_closed_loop_watches_nothing(make_pair):
    loop = Loop()
    loop.close()
    left, _ = make_pair()
    for add in (loop.add_reader, loop.add_writer):
        with pytest.raises(RuntimeError, match="closed"):
            add(left, print)
    assert not loop.remove_reader(left)
    assert not loop.remove_writer(left)


@pytest.mark.parametrize("timers", [False, True])
def test_a_loop_that_was_stopped_before_it_ran_does_not_sleep(loop, timers):
    if timers:
        loop.call_later(1000, print)
    loop.stop()
    loop.run_forever()


def test_a_timer_that_the_clock_cannot_tell_from_due_is_due(loop, monkeypatch):
    monkeypatch.setattr(loop, "time", lambda: 100.0)
    monkeypatch.setattr(loop, "_clock_resolution", 0.01)
    seen = []
    loop.call_at(100.009, seen.append, "due")
    loop.call_at(100.011, seen.append, "not due")
    run_one_turn(loop)
    assert seen == ["due"]


def test_a_timer_of_now_is_due_though_the_clock_s_last_digit_is_more_than_its_resolution(
    loop, monkeypatch
):
    monkeypatch.setattr(loop, "time", lambda: 2.0**60)
    monkeypatch.setattr(loop, "_clock_resolution", 1e-9)
    seen = []
    loop.call_at(2.0**60, seen.append, "due")
    loop.call_at(2.0**60 + 256, seen.append, "not due")
    run_one_turn(loop)
    assert seen == ["due"]


def test_a_file_object_without_a_hash_is_watched(loop, make_pair):
    class Unhashable:
        __hash__ = None

        def __init__(self, sock):
            self.fileno = sock.fileno

    left, right = make_pair()
    right.send(b"x")
    loop.add_reader(Unhashable(left), loop.stop)
    loop.run_forever()
    assert loop.remove_reader(left)


def test_what_a_callback_unregisters_is_free_while_it_runs(loop, make_pair):
    left, right = make_pair()
    right.send(b"x")

    class File:
        def __init__(self, sock):
            self.fileno = sock.fileno

    file = File(left)
    gone = weakref.ref(file)
    seen = []

    def remove():
        loop.remove_reader(left.fileno())
        seen.append(gone())
        loop.stop()

    loop.add_reader(file, remove)
    del file
    loop.run_forever()
    assert seen == [None]


@pytest.mark.parametrize("error", [errno.ENOMEM, errno.ENOSPC])
def test_a_loop_lives_on_where_the_system_has_no_room_for_a_transport(error):
    class Full(default_poller):
        def add(self, fd, interest, generation, /):
            if full:
                raise OSError(error, "no room")
            super().add(fd, interest, generation)

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data)

    full = []

    async def main():
        ours, peer = socket.socketpair()
        peer.setblocking(False)
        full.append(True)
        transport, _ = await asyncio.get_running_loop().create_connection(Echo, sock=ours)
        peer.send(b"x")
        while True:
            await asyncio.sleep(0)
            try:
                assert peer.recv(1) == b"x"
            except BlockingIOError:
                continue
            break
        full.clear()
        await asyncio.sleep(0)
        peer.send(b"y")
        assert await asyncio.get_running_loop().sock_recv(peer, 1) == b"y"
        transport.abort()
        peer.close()
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=lambda: Loop(ReactorSelector(Full))) as runner:
        runner.run(main())


def test_a_transport_reads_although_its_number_was_left_registered_by_another(
    loop, make_pair, make_pair_at
):
    # A library in C that closes its sockets without a word leaves such.
    async def main():
        left, _ = make_pair()
        number = left.fileno()
        loop.add_reader(number, print)
        await asyncio.sleep(0)
        left.close()
        sock, peer = make_pair_at(number)
        reader, writer = await asyncio.open_connection(sock=sock)
        peer.send(b"x")
        assert await reader.read(1) == b"x"
        writer.close()
        await writer.wait_closed()

    loop.run_until_complete(main())


def test_a_writer_that_replaces_another_is_called_although_its_number_was_reused(
    loop, make_pair, make_pair_at
):
    async def main():
        left, _ = make_pair()
        number = left.fileno()
        loop.add_writer(number, int)
        await asyncio.sleep(0)
        left.close()
        make_pair_at(number)
        called = asyncio.Event()
        loop.add_writer(number, called.set)
        await called.wait()
        loop.remove_writer(number)

    loop.run_until_complete(main())
