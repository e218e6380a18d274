"""What only kqueue does: changes ride in the waiting call, and every event names its generation.

Over the fake where the system has none; then too the selector and a whole loop run over it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
import threading

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.reactor.every_poller import POLLERS
from tests.reactor.pollers.polling import look
from tofu_aio.reactor import Loop, ReactorSelector
from tofu_aio.reactor.pollers.poller import BOTH, LONGEST_WAIT, READ, REFUSED, WRITE

if "kqueue" not in POLLERS:
    pytest.skip("this system has no kqueue, and no fake", allow_module_level=True)

from tofu_aio.reactor.pollers import kqueue as module
from tofu_aio.reactor.pollers.kqueue import KqueuePoller
from tofu_aio.reactor.pollers.kqueue import select as system

ADD, DELETE = system.KQ_EV_ADD, system.KQ_EV_DELETE
FILTERS = {system.KQ_FILTER_READ: READ, system.KQ_FILTER_WRITE: WRITE}


class Recording:
    """A kqueue that writes down how it is called, and refuses what the test says."""

    def __init__(self):
        self.queue = system.kqueue()
        self.calls = []
        self.refusals = {}
        # What happens between the kernel's answer and ours.
        self.meanwhile = None

    @property
    def closed(self):
        return self.queue.closed

    def close(self):
        self.queue.close()

    def control(self, changes, room, timeout):
        told = [
            (change.ident, FILTERS.get(change.filter), change.flags, change.udata)
            for change in changes or ()
        ]
        self.calls.append((told, room, timeout))
        refused = [c for c in changes or () if (c.ident, FILTERS.get(c.filter)) in self.refusals]
        if refused:
            return self._refuse(changes, refused, room)
        answer = self.queue.control(changes, room, timeout)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return answer

    def _refuse(self, changes, refused, room):
        """Make the other changes, and answer as kqueue(2) does to those that fail."""
        errors = []
        for change in changes:
            error = self.refusals.get((change.ident, FILTERS.get(change.filter)))
            if change not in refused or change.flags & DELETE:
                self.queue.control([change], 0, 0)
            elif room:
                errors.append(
                    system.kevent(
                        change.ident, change.filter, system.KQ_EV_ERROR, 0, error, change.udata
                    )
                )
            else:
                raise OSError(error, os.strerror(error))
        return errors

    def take(self):
        taken, self.calls = self.calls, []
        return taken


@pytest.fixture
def poller():
    poller = KqueuePoller()
    yield poller
    poller.close()


@pytest.fixture
def recording(poller):
    poller._kqueue.close()
    poller._kqueue = Recording()
    return poller._kqueue


# What the kernel is told, and when.


def test_coming_is_one_call_and_going_one_for_each_filter(poller, recording, make_pair):
    left, _ = make_pair()
    fd = left.fileno()
    poller.add(fd, READ, 1)
    assert recording.take() == [([(fd, READ, ADD, 1)], 0, 0)]
    poller.remove(fd, READ)
    assert recording.take() == [([(fd, READ, DELETE, 0)], 0, 0)]
    poller.add(fd, BOTH, 2)
    assert recording.take() == [([(fd, READ, ADD, 2), (fd, WRITE, ADD, 2)], 0, 0)]
    poller.remove(fd, BOTH)
    assert recording.take() == [([(fd, READ, DELETE, 0)], 0, 0), ([(fd, WRITE, DELETE, 0)], 0, 0)]


def test_changes_of_mind_cost_no_call_of_their_own(poller, recording, make_pair):
    pairs = [make_pair() for _ in range(3)]
    one, two, three = (left.fileno() for left, _ in pairs)
    for fd, armed in ((one, READ), (two, BOTH), (three, WRITE)):
        poller.add(fd, armed, 7)
    recording.take()
    poller.modify(one, READ, BOTH, 7)
    poller.modify(two, BOTH, READ, 7)
    poller.modify(three, WRITE, READ, 7)
    assert recording.take() == []
    assert look(poller, 1, 3) == [(one, WRITE)]
    [(changes, room, timeout)] = recording.take()
    assert changes == [
        (one, READ, ADD, 7),
        (one, WRITE, ADD, 7),
        (two, READ, ADD, 7),
        (two, WRITE, DELETE, 7),
        (three, READ, ADD, 7),
        (three, WRITE, DELETE, 7),
    ]
    assert room >= len(changes)
    assert timeout == 1
    assert look(poller, 0, 3) == [(one, WRITE)]
    assert recording.take() == [([], 6, 0)]


@pytest.mark.parametrize("interest", [READ, WRITE, BOTH])
@pytest.mark.parametrize("armed", [READ, WRITE, BOTH])
def test_a_removal_takes_the_change_of_mind_with_it(poller, recording, make_pair, armed, interest):
    left, right = make_pair()
    fd = left.fileno()
    right.send(b"x")
    poller.add(fd, armed, 1)
    poller.modify(fd, armed, interest, 1)
    poller.remove(fd, interest)
    assert recording.queue.control(None, 8, 0) == []
    recording.take()
    assert look(poller, 0, 1) == []
    assert recording.take() == [([], 2, 0)]


def test_a_change_of_mind_takes_the_one_before_with_it(poller, recording, make_pair):
    left, right = make_pair()
    fd = left.fileno()
    right.send(b"x")
    poller.add(fd, READ, 1)
    poller.modify(fd, READ, WRITE, 1)
    poller.modify(fd, WRITE, WRITE, 1)
    recording.take()
    assert look(poller, 0, 1) == [(fd, WRITE)]
    assert recording.take() == [([(fd, WRITE, ADD, 1), (fd, READ, DELETE, 1)], 2, 0)]


@pytest.mark.parametrize("limit", [1, 5])
def test_there_is_room_for_both_filters_of_each_descriptor(poller, recording, limit):
    poller.wait(0, limit)
    assert recording.take() == [([], 2 * limit, 0)]


@pytest.mark.parametrize("timeout", [LONGEST_WAIT, 5, 0, None])
def test_a_wait_is_as_long_as_was_asked(poller, recording, make_pair, timeout):
    left, _ = make_pair()
    poller.add(left.fileno(), WRITE, 1)
    recording.take()
    assert len(poller.wait(timeout, 1)) == 1
    assert recording.take() == [([], 2, timeout)]


def test_a_selector_pays_for_changes_with_nothing_but_the_wait(make_pair):
    poller = KqueuePoller()
    poller._kqueue.close()
    recording = poller._kqueue = Recording()
    left, _ = make_pair()
    with ReactorSelector(lambda: poller) as selector:
        selector.register(left, WRITE)
        recording.take()
        for events in (BOTH, WRITE) * 50:
            selector.modify(left, events)
            selector.select(0)
        assert len(recording.take()) == 100


# Refusals.


def test_what_is_refused_is_reported_with_what_is_ready(poller, make_pair):
    closed, ready, changed = (make_pair()[0] for _ in range(3))
    fd = closed.fileno()
    poller.add(fd, READ, 1)
    poller.add(ready.fileno(), WRITE, 2)
    poller.add(changed.fileno(), READ, 3)
    poller.modify(fd, READ, BOTH, 1)
    poller.modify(changed.fileno(), READ, WRITE, 3)
    closed.close()
    assert dict(look(poller, None, 3)) == {
        fd: REFUSED,
        ready.fileno(): WRITE,
        changed.fileno(): WRITE,
    }
    assert dict(look(poller, 0, 3)) == {ready.fileno(): WRITE, changed.fileno(): WRITE}


def test_what_is_refused_ends_the_wait(poller, make_pair):
    left, _ = make_pair()
    poller.add(left.fileno(), READ, 1)
    poller.modify(left.fileno(), READ, BOTH, 1)
    fd = left.fileno()
    left.close()
    assert look(poller, None, 1) == [(fd, REFUSED)]
    assert look(poller, 0, 1) == []


@pytest.mark.parametrize(("armed", "interest"), [(READ, BOTH), (WRITE, READ), (BOTH, READ)])
def test_what_is_refused_is_watched_no_more(poller, recording, make_pair, armed, interest):
    left, right = make_pair()
    fd = left.fileno()
    right.send(b"x")
    poller.add(fd, armed, 1)
    poller.modify(fd, armed, interest, 1)
    recording.refusals[fd, WRITE if interest == BOTH else READ] = errno.ENOMEM
    assert look(poller, None, 1) == [(fd, REFUSED)]
    recording.refusals.clear()
    assert look(poller, 0, 1) == []
    recording.take()
    poller.add(fd, READ, 1)
    assert look(poller, 0, 1) == [(fd, READ)]
    assert recording.take() == [([(fd, READ, ADD, 1)], 0, 0), ([], 2, 0)]


def test_a_selector_tells_again_what_was_refused(make_pair):
    poller = KqueuePoller()
    poller._kqueue.close()
    recording = poller._kqueue = Recording()
    left, right = make_pair()
    fd = left.fileno()
    with ReactorSelector(lambda: poller) as selector:
        selector.register(left, WRITE)
        key = selector.modify(left, READ)
        recording.refusals[fd, READ] = errno.ENOMEM
        assert selector.select() == [(key, READ)]
        assert selector.select() == [(key, READ)]
        recording.refusals.clear()
        assert selector.select(0) == []
        right.send(b"x")
        assert selector.select() == [(key, READ)]
        selector.unregister(left)
        assert selector.select(0) == []
        assert selector.statistics().rebuilds == 0


def test_a_refused_registration_leaves_nothing(poller, recording, make_pair):
    left, right = make_pair()
    right.send(b"x")
    fd = left.fileno()
    recording.refusals[fd, WRITE] = errno.EINVAL
    with pytest.raises(OSError, match="Invalid argument"):
        poller.add(fd, BOTH, 1)
    recording.refusals.clear()
    assert recording.queue.control(None, 8, 0) == []
    assert look(poller, 0, 1) == []


def test_a_closed_descriptor_is_refused(poller, make_pair):
    left, _ = make_pair()
    fd = left.fileno()
    left.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        poller.add(fd, BOTH, 1)


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="others watch files")
def test_a_regular_file_is_never_writable(poller, tmp_path):
    with (tmp_path / "file").open("w+b") as file:
        with pytest.raises(OSError, match="Invalid argument"):
            poller.add(file.fileno(), BOTH, 1)
        file.write(b"x")
        file.seek(0)
        assert look(poller, 0, 1) == []
        poller.add(file.fileno(), READ, 2)
        assert look(poller, 0, 1) == [(file.fileno(), READ)]


# Numbers that close and come back.


def test_a_close_leaves_nothing_to_remove_and_no_stale_registration(poller, make_pair):
    left, right = make_pair()
    fd = left.fileno()
    right.send(b"x")
    poller.add(fd, BOTH, 1)
    with left.dup():
        left.close()
        assert look(poller, 0, 1) == []
        poller.remove(fd, BOTH)
        assert look(poller, 0, 1) == []


def test_a_removal_spares_who_has_the_number_now(poller, make_pair):
    left, _ = make_pair()
    other, peer = make_pair()
    fd = left.fileno()
    poller.add(fd, BOTH, 1)
    os.dup2(other.fileno(), fd)
    poller.remove(fd, BOTH)
    poller.add(fd, READ, 2)
    peer.send(b"x")
    assert look(poller, 0, 1) == [(fd, READ)]


@pytest.mark.parametrize("armed", [READ, WRITE, BOTH])
@pytest.mark.parametrize("interest", [READ, WRITE, BOTH])
def test_a_change_of_mind_about_a_reused_number_is_all_told(poller, make_pair, armed, interest):
    left, _ = make_pair()
    other, peer = make_pair()
    poller.add(left.fileno(), armed, 1)
    os.dup2(other.fileno(), left.fileno())
    poller.modify(left.fileno(), armed, interest, 1)
    peer.send(b"x")
    assert look(poller, 0, 1) == [(left.fileno(), interest)]


def test_a_wait_that_is_taken_up_again_is_for_the_rest(poller, recording, make_pair):
    left, _ = make_pair()
    other, peer = make_pair()
    poller.add(left.fileno(), WRITE, 1)
    os.dup2(other.fileno(), left.fileno())
    poller.modify(left.fileno(), WRITE, READ, 1)
    peer.send(b"x")
    recording.take()
    assert look(poller, 1000, 1) == [(left.fileno(), READ)]
    first, second = (timeout for _, _, timeout in recording.take())
    assert first == 1000
    assert 0 < second < 1000


# Generations.


def plant(poller, sock, filter_, generation):
    """Put a note of another generation where the kernel keeps them."""
    poller._kqueue.control([system.kevent(sock.fileno(), filter_, ADD, 0, 0, generation)], 0, 0)


def test_an_older_generation_s_event_is_dropped_and_never_comes_again(poller, make_pair):
    left, right = make_pair()
    right.send(b"x")
    plant(poller, left, system.KQ_FILTER_READ, 3)
    assert look(poller, 0, 1) == []
    poller.add(left.fileno(), READ, 4)
    poller.modify(left.fileno(), READ, WRITE, 4)
    assert look(poller, 0, 1) == [(left.fileno(), WRITE)]
    plant(poller, left, system.KQ_FILTER_READ, 3)
    assert look(poller, 0, 1) == [(left.fileno(), WRITE)]
    assert look(poller, 0, 1) == [(left.fileno(), WRITE)]
    assert len(poller._kqueue.control(None, 8, 0)) == 1


def test_what_is_wanted_is_heard_of_under_its_own_generation(poller, make_pair):
    left, right = make_pair()
    right.send(b"x")
    poller.add(left.fileno(), READ, 4)
    plant(poller, left, system.KQ_FILTER_READ, 3)
    assert look(poller, None, 1) == [(left.fileno(), READ)]


def test_what_was_harvested_before_it_was_added_anew_is_not_believed(poller, recording, make_pair):
    left, right = make_pair()
    right.send(b"x")
    fd = left.fileno()

    def handler():
        poller.remove(fd, READ)
        left.recv(1)
        poller.add(fd, READ, 2)

    poller.add(fd, READ, 1)
    recording.meanwhile = handler
    assert look(poller, 0, 1) == []
    right.send(b"x")
    assert look(poller, 0, 1) == [(fd, READ)]


def test_what_was_harvested_before_it_was_removed_is_not_reported(poller, recording, make_pair):
    left, right = make_pair()
    right.send(b"x")
    poller.add(left.fileno(), READ, 1)
    recording.meanwhile = lambda: poller.remove(left.fileno(), READ)
    assert look(poller, 0, 1) == []


def test_what_was_refused_before_it_was_added_anew_is_not_reported(poller, recording, make_pair):
    left, _ = make_pair()
    other, _ = make_pair()
    fd = left.detach()
    poller.add(fd, WRITE, 1)
    poller.modify(fd, WRITE, READ, 1)
    os.close(fd)

    def handler():
        poller.remove(fd, READ)
        os.dup2(other.fileno(), fd)
        poller.add(fd, WRITE, 2)

    recording.meanwhile = handler
    assert look(poller, None, 1) == [(fd, WRITE)]
    os.close(fd)


# Changes during the wait.


def test_a_change_on_its_way_does_not_overtake_a_later_one(poller, recording, make_pair):
    # Told between the moment when the changes were taken and the call.
    left, right = make_pair()
    fd = left.fileno()
    right.send(b"x")
    poller.add(fd, READ, 1)
    poller.modify(fd, READ, BOTH, 1)
    control = recording.queue.control

    def overtaken(*arguments):
        recording.queue.control = control
        poller.remove(fd, BOTH)
        poller.add(fd, READ, 2)
        return control(*arguments)

    recording.queue.control = overtaken
    assert look(poller, None, 1) == [(fd, READ)]
    assert look(poller, 0, 1) == [(fd, READ)]
    assert {event.udata for event in recording.queue.control(None, 8, 0)} == {2}


def test_a_nudge_is_no_event(poller, recording, make_pair):
    left, _ = make_pair()
    standard_input = os.dup(0)
    try:
        # The timer's number is a descriptor's too.
        os.dup2(left.fileno(), 0)
        poller.add(0, WRITE, 1)
        poller._waiting = True
        poller.modify(0, WRITE, READ, 1)
        recording.take()
        assert look(poller, 0.02, 1) == []
        assert all(room for _, room, _ in recording.take())
    finally:
        os.dup2(standard_input, 0)
        os.close(standard_input)


def test_many_threads_change_their_minds_and_each_is_heard(make_pair):
    poller = KqueuePoller()
    pairs = [make_pair() for _ in range(4)]

    def change(sock):
        for _ in range(50):
            poller.modify(sock.fileno(), WRITE, READ, 1)
            poller.modify(sock.fileno(), READ, BOTH, 1)
            poller.modify(sock.fileno(), BOTH, WRITE, 1)

    for left, _ in pairs:
        poller.add(left.fileno(), READ, 1)
    threads = [threading.Thread(target=change, args=(left,)) for left, _ in pairs]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        look(poller, 0.001, 4)
    for thread in threads:
        thread.join()
    expected = {left.fileno(): WRITE for left, _ in pairs}
    assert dict(look(poller, None, 4)) == dict(look(poller, 0, 4)) == expected
    poller.close()


# Forks.


@pytest.mark.forks
def test_a_forked_child_closes_what_it_did_not_inherit(poller):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            poller.close()
            poller.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert look(poller, 0, 1) == []


# The loop.


@pytest.fixture
def runner():
    made = []

    def make():
        made.append(Loop(ReactorSelector(KqueuePoller)))
        return made[-1]

    with asyncio.Runner(loop_factory=make, debug=False) as runner:
        yield runner
    statistics = made[0].statistics().selector
    assert statistics.rebuilds == 0
    assert statistics.descriptors == 0


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


def test_a_loop_echoes(runner):
    size = 3_000_000

    async def talk(address, number):
        reader, writer = await asyncio.open_connection(*address)
        data = bytes([number]) * size
        writer.write(data)
        assert await reader.readexactly(size) == data
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    async def main():
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            await asyncio.gather(*(talk(address, number) for number in range(10)))

    runner.run(main())


def test_a_loop_runs_a_child_and_hears_signals_and_threads(runner):
    async def main():
        loop = asyncio.get_running_loop()
        called = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, called.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        await called.wait()
        loop.remove_signal_handler(signal.SIGUSR1)
        assert await asyncio.to_thread(lambda: 1) == 1
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-Sc",
            "print(input())",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await child.communicate(b"hello\n")
        return out, child.returncode

    assert runner.run(main()) == (b"hello\n", 0)


def test_a_loop_s_pipe_writer_hears_of_its_reader_s_end(runner):
    async def main():
        loop = asyncio.get_running_loop()
        lost = loop.create_future()

        class Writer(asyncio.BaseProtocol):
            def connection_lost(self, error):
                lost.set_result(error)

        reader, writer = os.pipe()
        transport, _ = await loop.connect_write_pipe(Writer, os.fdopen(writer, "wb", 0))
        os.close(reader)
        await lost
        transport.close()

    runner.run(main())


# The selector under every order of events.


@pytest.mark.skipif(sys.platform != "linux", reason="its world is made of epoll's")
def test_the_selector_is_right_under_every_order_of_events():
    from tests.reactor.test_selector_properties import EFFORT, Program
    from tests.reactor.worlds import RealWorld

    class World(RealWorld):
        """Sockets, with the fake kqueue over them."""

        def __init__(self):
            super().__init__()
            self.watching = []

        def make_poller(self):
            self.pollers += 1
            self.watching.append(WatchedPoller(self))
            return self.watching[-1]

        def close(self, number):
            super().close(number)
            for poller in self.watching:
                poller._kqueue.closes(number)

    class WatchedPoller(KqueuePoller):
        """The poller, with what happens between its answer and the selector's."""

        def __init__(self, world):
            super().__init__()
            self._world = world

        def wait(self, timeout, limit, /):
            self._world.harvest = super().wait(timeout, limit)
            meanwhile, self._world.meanwhile = self._world.meanwhile, None
            if meanwhile is not None:
                meanwhile()
            return self._world.harvest

        def close(self):
            super().close()
            self._world.watching.remove(self)

    class ProgramOverKqueue(Program):
        world_type = World

    run_state_machine_as_test(ProgramOverKqueue, settings=EFFORT)


def test_the_fake_stands_in_only_where_there_is_no_kqueue():
    assert hasattr(sys.modules["select"], "kqueue") == (module.select is sys.modules["select"])
