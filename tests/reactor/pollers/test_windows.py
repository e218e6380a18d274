"""What both pollers of Windows do, with sockets that come and go and with signals."""

from __future__ import annotations

import asyncio
import signal
import socket
import struct
import sys
import threading

import pytest

from tests.reactor.pollers.polling import look
from tofu_aio.reactor import Loop, ReactorSelector
from tofu_aio.reactor.pollers.poller import BOTH, READ, WRITE

if sys.platform != "win32":
    pytest.skip("these pollers are for Windows", allow_module_level=True)


def reset(sock):
    """Close a socket so that its peer sees a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("HH", 1, 0))
    sock.close()


# Sockets that come and go.


def test_more_than_511_events_fit_in_one_wait(poller, make_pair):
    pairs = [make_pair() for _ in range(600)]
    for left, right in pairs:
        poller.add(left.fileno(), READ, 1)
        right.send(b"x")
    events = look(poller, 0, len(pairs))
    assert events == [(left.fileno(), READ) for left, _ in pairs]


@pytest.mark.parametrize("looks", [0, 1])
def test_a_handle_reused_without_remove_can_be_added(poller, make_pair, make_pair_at, looks):
    left, _ = make_pair()
    fd = left.fileno()
    poller.add(fd, READ, 1)
    for _ in range(looks):
        assert look(poller, 0, 1) == []
    left.close()
    _, peer = make_pair_at(fd)
    poller.add(fd, READ, 2)
    assert look(poller, 0, 1) == []
    peer.send(b"x")
    for _ in range(3):
        assert look(poller, 0, 1) == [(fd, READ)]


@pytest.mark.parametrize("looks", [0, 1])
@pytest.mark.parametrize("interest", [READ, BOTH])
def test_a_change_of_a_reused_handle_means_the_new_socket(
    poller, make_pair, make_pair_at, looks, interest
):
    left, _ = make_pair()
    fd = left.fileno()
    poller.add(fd, READ, 1)
    for _ in range(looks):
        assert look(poller, 0, 1) == []
    left.close()
    _, peer = make_pair_at(fd)
    poller.modify(fd, READ, interest, 2)
    look(poller, 0, 1)
    peer.send(b"x")
    for _ in range(3):
        assert look(poller, 0, 1) == [(fd, interest)]


def test_what_is_no_open_socket_is_refused(poller, make_pair, tmp_path):
    left, _ = make_pair()
    closed = left.fileno()
    left.close()
    with (tmp_path / "file").open("w") as file:
        for fd in (file.fileno(), closed, 0, 123_456):
            with pytest.raises(OSError, match=f"not an open socket: {fd}") as raised:
                poller.add(fd, READ, 1)
            # The errno by which a selector knows that the descriptor is to blame.
            assert raised.value.errno == 9


@pytest.mark.parametrize("interest", [READ, WRITE, BOTH])
def test_a_reset_reaches_whichever_interest_is_registered(poller, make_pair, interest):
    left, right = make_pair()
    poller.add(left.fileno(), interest, 1)
    reset(right)
    [(fd, readiness)] = look(poller, None, 1)
    assert fd == left.fileno()
    assert readiness & interest == interest


def test_a_refused_connection_is_readable_and_writable(poller):
    with socket.socket() as bound, socket.socket() as sock:
        bound.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        sock.connect_ex(bound.getsockname())
        poller.add(sock.fileno(), WRITE, 1)
        assert look(poller, None, 1) == [(sock.fileno(), BOTH)]
        assert poller.probe(sock.fileno(), WRITE) == WRITE
        poller.remove(sock.fileno(), WRITE)


# Signals.


class Interrupted(Exception):
    """Raised by a signal handler."""


def test_a_signal_interrupts_a_wait_for_ever(poller, interrupt):
    def handler(*_):
        raise Interrupted

    interrupt(handler, 0.01)
    with pytest.raises(Interrupted):
        poller.wait(None, 1)
    assert signal.set_wakeup_fd(-1) == -1
    # What the signal wrote is not left for the next wait to read as if there were another.
    assert poller.wait(0, 1) == []


def test_after_a_signal_whose_handler_does_not_raise_the_wait_goes_on(poller, make_pair, interrupt):
    left, right = make_pair()
    poller.add(left.fileno(), READ, 1)
    interrupt(lambda *_: right.send(b"x"), 0.01)
    assert look(poller, None, 1) == [(left.fileno(), READ)]


def test_who_has_set_a_wake_up_descriptor_finds_it_set(poller, make_pair):
    left, _ = make_pair()
    signal.set_wakeup_fd(left.fileno())
    try:
        poller.wait(0.001, 1)
        assert signal.set_wakeup_fd(-1) == left.fileno()
    finally:
        signal.set_wakeup_fd(-1)


def test_a_wait_in_another_thread_leaves_signals_alone(poller):
    thread = threading.Thread(target=poller.wait, args=(0.001, 0))
    thread.start()
    thread.join()
    assert signal.set_wakeup_fd(-1) == -1


def test_control_c_interrupts_a_sleeping_loop_and_cancels_its_task(make_poller):
    """As far as it goes without a console: the signal is raised, not typed."""
    seen = []

    async def main():
        timer = threading.Timer(0.01, signal.raise_signal, [signal.SIGINT])
        timer.start()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with (
        pytest.raises(KeyboardInterrupt),
        asyncio.Runner(loop_factory=lambda: Loop(ReactorSelector(make_poller))) as runner,
    ):
        runner.run(main())
    assert seen == ["cancelled"]


@pytest.mark.parametrize("how", ["shutdown", "close"])
def test_a_poller_whose_own_pair_breaks_is_replaced(make_poller, make_pair, how):
    made = []

    def make():
        made.append(make_poller())
        return made[-1]

    left, right = make_pair()
    with ReactorSelector(make) as selector:
        key = selector.register(left, READ)
        if how == "shutdown":
            made[0]._signal_writer.shutdown(socket.SHUT_WR)
        else:
            reset(made[0]._signal_writer)
        assert selector.select(0.01) == []
        right.send(b"x")
        assert selector.select() == [(key, READ)]
        assert len(made) == 2


# The end.


def test_a_closed_poller_has_let_go_of_its_sockets(poller):
    pair = poller._signal_writer, poller._signal_reader
    poller.close()
    assert [sock.fileno() for sock in pair] == [-1, -1]
