"""Facts of kqueue(2) that the poller stands on: of the system where it has one, else of the fake.

So a system that has one tells whether the fake is true to it.
"""

from __future__ import annotations

import errno
import os
import threading

import pytest

from tests.reactor.every_poller import POLLERS

if "kqueue" not in POLLERS:
    pytest.skip("this system has no kqueue, and no fake", allow_module_level=True)

from tofu_aio.reactor.pollers.kqueue import select as system

READ, WRITE = system.KQ_FILTER_READ, system.KQ_FILTER_WRITE
ADD, DELETE = system.KQ_EV_ADD, system.KQ_EV_DELETE
ERROR, EOF = system.KQ_EV_ERROR, system.KQ_EV_EOF


@pytest.fixture
def queue():
    queue = system.kqueue()
    yield queue
    queue.close()


def change(sock, filter_, flags, udata=0):
    return system.kevent(sock.fileno(), filter_, flags, 0, 0, udata)


def ready(queue, room=8, timeout=0):
    return [
        (event.ident, event.filter, event.udata) for event in queue.control(None, room, timeout)
    ]


def test_reading_and_writing_are_two_notes(queue, make_pair):
    left, right = make_pair()
    right.send(b"x")
    queue.control([change(left, READ, ADD, 1), change(left, WRITE, ADD, 2)], 0, 0)
    fd = left.fileno()
    assert sorted(ready(queue)) == sorted([(fd, READ, 1), (fd, WRITE, 2)])
    queue.control([change(left, WRITE, DELETE)], 0, 0)
    assert ready(queue) == ready(queue) == [(fd, READ, 1)]


def test_adding_again_only_gives_new_user_data(queue, make_pair):
    left, right = make_pair()
    right.send(b"x")
    queue.control([change(left, READ, ADD, 1)], 0, 0)
    queue.control([change(left, READ, ADD, 2)], 0, 0)
    assert ready(queue) == [(left.fileno(), READ, 2)]


def test_a_note_can_be_disabled_and_enabled(queue, make_pair):
    left, _ = make_pair()
    queue.control([change(left, WRITE, ADD | system.KQ_EV_DISABLE)], 0, 0)
    assert ready(queue) == []
    queue.control([change(left, WRITE, system.KQ_EV_ENABLE)], 0, 0)
    assert len(ready(queue)) == 1
    queue.control([change(left, WRITE, system.KQ_EV_DISABLE)], 0, 0)
    assert ready(queue) == []
    queue.control([change(left, WRITE, ADD)], 0, 0)
    assert len(ready(queue)) == 1


@pytest.mark.parametrize("flag", ["KQ_EV_DELETE", "KQ_EV_ENABLE", "KQ_EV_DISABLE"])
def test_what_was_not_added_is_unknown(queue, make_pair, flag):
    left, _ = make_pair()
    with pytest.raises(FileNotFoundError):
        queue.control([change(left, READ, getattr(system, flag))], 0, 0)


def test_a_closed_number_is_bad(queue, make_pair):
    left, _ = make_pair()
    made = change(left, READ, ADD), change(left, READ, DELETE)
    left.close()
    for each in made:
        with pytest.raises(OSError, match="Bad file") as raised:
            queue.control([each], 0, 0)
        assert raised.value.errno == errno.EBADF


def test_without_room_an_error_ends_the_call(queue, make_pair):
    left, _ = make_pair()
    with pytest.raises(FileNotFoundError):
        queue.control(
            [change(left, READ, DELETE), change(left, WRITE, ADD), change(left, READ, ADD)], 0, 0
        )
    assert ready(queue) == []


def test_with_room_errors_come_back_alone_and_at_once(queue, make_pair):
    left, right = make_pair()
    right.send(b"x")
    fd = left.fileno()
    changes = [
        change(left, READ, DELETE, 7),
        change(left, READ, ADD, 1),
        change(left, WRITE, DELETE, 8),
    ]
    errors = queue.control(changes, 8, None)
    assert [(e.ident, e.filter, e.data, e.udata) for e in errors] == [
        (fd, READ, errno.ENOENT, 7),
        (fd, WRITE, errno.ENOENT, 8),
    ]
    assert all(error.flags & ERROR for error in errors)
    assert ready(queue) == [(fd, READ, 1)]


def test_errors_beyond_the_room_are_raised(queue, make_pair):
    left, _ = make_pair()
    with pytest.raises(FileNotFoundError):
        queue.control([change(left, READ, DELETE), change(left, WRITE, DELETE)], 1, 0)


def test_a_receipt_is_an_error_of_0(queue, make_pair):
    left, right = make_pair()
    right.send(b"x")
    receipt = getattr(system, "KQ_EV_RECEIPT", 0x40)
    [event] = queue.control([change(left, READ, ADD | receipt)], 8, None)
    assert (event.flags & ERROR, event.data) == (ERROR, 0)


def test_without_room_the_call_never_waits(queue):
    assert queue.control(None, 0, None) == []


def test_a_close_drops_the_notes_even_where_a_copy_lives(queue, make_pair):
    left, right = make_pair()
    right.send(b"x")
    queue.control([change(left, READ, ADD)], 0, 0)
    with left.dup():
        left.close()
        assert ready(queue) == []


def test_a_reused_number_has_no_notes(queue, make_pair):
    left, right = make_pair()
    other, peer = make_pair()
    queue.control([change(left, READ, ADD)], 0, 0)
    os.dup2(other.fileno(), left.fileno())
    right.close()
    peer.send(b"x")
    assert ready(queue) == []
    with pytest.raises(FileNotFoundError):
        queue.control([change(left, READ, DELETE)], 0, 0)


def test_what_did_not_fit_comes_first(queue, make_pair):
    pairs = [make_pair() for _ in range(5)]
    for left, right in pairs:
        queue.control([change(left, READ, ADD)], 0, 0)
        right.send(b"x")
    served = [event[0] for _ in range(5) for event in ready(queue, 2)]
    assert served == [left.fileno() for left, _ in pairs] * 2


def test_what_is_no_longer_true_is_not_reported(queue, make_pair):
    left, right = make_pair()
    queue.control([change(left, READ, ADD)], 0, 0)
    right.send(b"x")
    assert len(ready(queue)) == 1
    left.recv(1)
    assert ready(queue) == []


def flags_of(queue):
    return {event.filter: event.flags & EOF for event in queue.control(None, 8, 0)}


def test_a_hang_up_ends_both_directions(queue, make_pair):
    left, right = make_pair()
    queue.control([change(left, READ, ADD), change(left, WRITE, ADD)], 0, 0)
    right.close()
    assert flags_of(queue) == {READ: EOF, WRITE: EOF}


def test_a_peer_s_last_word_ends_reading_alone(queue, make_pair):
    left, right = make_pair()
    queue.control([change(left, READ, ADD), change(left, WRITE, ADD)], 0, 0)
    right.send(b"x")
    assert flags_of(queue) == {READ: 0, WRITE: 0}
    right.shutdown(1)
    assert flags_of(queue) == {READ: EOF, WRITE: 0}


@pytest.mark.parametrize("filter_", [READ, WRITE])
def test_a_pipe_s_writer_hears_of_its_reader_s_end(queue, filter_):
    reader, writer = os.pipe()
    try:
        queue.control([system.kevent(writer, filter_, ADD)], 0, 0)
        os.close(reader)
        assert flags_of(queue) == {filter_: EOF}
    finally:
        os.close(writer)


def test_a_timer_fires_once_and_ends_a_wait(queue):
    queue.control(
        [system.kevent(0, system.KQ_FILTER_TIMER, ADD | system.KQ_EV_ONESHOT, 0, 1)], 0, 0
    )
    [event] = queue.control(None, 8, None)
    assert (event.ident, event.filter) == (0, system.KQ_FILTER_TIMER)
    assert queue.control(None, 8, 0.01) == []


def test_a_change_by_another_thread_ends_a_wait(queue, make_pair):
    left, _ = make_pair()
    thread = threading.Timer(0.02, queue.control, ([change(left, WRITE, ADD)], 0, 0))
    thread.start()
    assert ready(queue, timeout=None) == [(left.fileno(), WRITE, 0)]
    thread.join()


@pytest.mark.forks
def test_a_forked_child_has_no_queue(queue, make_pair):
    left, _ = make_pair()
    queue.control([change(left, WRITE, ADD)], 0, 0)
    child = os.fork()
    if child == 0:
        try:
            queue.control(None, 8, 0)
        except (OSError, ValueError):  # ValueError where Python knows that it is closed (3.12.1)
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(ready(queue)) == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((None, -1), ValueError),
        ((None, 1, -1), ValueError),
        ((None, 1, float("nan")), ValueError),
        ((None, 1, float("inf")), OverflowError),
        ((None, 1, "1"), TypeError),
        (([1], 1), TypeError),
    ],
)
def test_nonsense_is_refused(queue, arguments, error):
    with pytest.raises(error):
        queue.control(*arguments)


def test_a_closed_queue_refuses(queue):
    queue.close()
    queue.close()
    assert queue.closed
    with pytest.raises(ValueError, match="closed kqueue"):
        queue.control(None, 1, 0)
