"""What only WSAPoll does, and what the poller makes of it."""

from __future__ import annotations

import ctypes
import socket
import subprocess
import sys

import pytest

from tests.reactor.pollers.polling import look
from tofu_aio.reactor.pollers.poller import BOTH, READ, WRITE

if sys.platform != "win32":
    pytest.skip("WSAPoll is of Windows", allow_module_level=True)

from tofu_aio.reactor.pollers import wsapoll
from tofu_aio.reactor.pollers.wsapoll import WSAPollPoller


@pytest.fixture
def poller():
    poller = WSAPollPoller()
    yield poller
    poller.close()


@pytest.fixture
def intercept(monkeypatch):
    """Let a function of the test's see, and change, each answer of WSAPoll."""

    def intercept(seen):
        def ask(array, count, milliseconds):
            wsapoll_(array, count, milliseconds)
            entries = [seen(*entry) for entry in wsapoll._POLLFD.iter_unpack(array)]
            array[:] = b"".join(wsapoll._POLLFD.pack(*entry) for entry in entries)
            return sum(1 for _, _, said in entries if said)

        monkeypatch.setattr(wsapoll, "_wsapoll", ask)

    wsapoll_ = wsapoll._wsapoll
    return intercept


def test_windows_gets_it_where_wepoll_cannot_be_imported():
    code = """
import sys
sys.modules["wepoll"] = None
import asyncio, tofu_aio
from tofu_aio.reactor.pollers import default_poller

async def echo(reader, writer):
    writer.write(await reader.read())
    writer.close()

async def main():
    async with await asyncio.start_server(echo, "127.0.0.1") as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x" * 1_000_000)
        writer.write_eof()
        print(default_poller.__name__, len(await reader.read()))
        writer.close()

tofu_aio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["WSAPollPoller", "1000000"], done.stderr


def test_an_entry_is_as_large_as_the_system_s():
    class PollFd(ctypes.Structure):
        _fields_ = (("fd", ctypes.c_size_t), ("events", ctypes.c_short), ("said", ctypes.c_short))

    assert wsapoll._POLLFD.size == ctypes.sizeof(PollFd)


def test_a_handle_closed_without_removal_is_ready_until_it_is_removed(poller, make_pair):
    left, _ = make_pair()
    fd = left.fileno()
    poller.add(fd, READ, 1)
    left.close()
    assert look(poller, 0, 1) == look(poller, 0, 1) == [(fd, BOTH)]
    poller.remove(fd, READ)
    assert look(poller, 0, 1) == []


def test_who_waits_to_write_to_a_peer_that_has_stopped_writing_does_not_spin(
    poller, make_pair, intercept
):
    said = []
    left, right = make_pair()
    with_nothing_to_say, _ = make_pair()
    poller.add(with_nothing_to_say.fileno(), READ, 1)
    while True:
        try:
            left.send(b"x" * 65536)
        except BlockingIOError:
            break
    poller.add(left.fileno(), WRITE, 1)
    right.shutdown(socket.SHUT_WR)
    intercept(lambda *entry: said.append(entry) or entry)
    assert look(poller, 0.05, 2) == []
    hang_ups = [entry for entry in said if entry[2] == wsapoll._HUP]
    assert 1 <= len(hang_ups) <= 4 * 0.05 / wsapoll._PAUSE


def test_a_wait_of_less_than_a_millisecond_does_not_spin(poller, monkeypatch):
    asked = []
    ask = wsapoll._wsapoll
    monkeypatch.setattr(wsapoll, "_wsapoll", lambda *call: asked.append(call[2]) or ask(*call))
    assert look(poller, 0.0009, 1) == []
    assert asked
    assert 0 not in asked


def test_a_failed_connect_that_windows_hides_is_found(poller, intercept):
    intercept(lambda fd, asked, said: (fd, asked, 0 if said & wsapoll._ERR else said))
    poller._reports_failed_connects = False
    with socket.socket() as bound, socket.socket() as sock:
        bound.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        sock.connect_ex(bound.getsockname())
        poller.add(sock.fileno(), WRITE, 1)
        assert look(poller, 5, 1) == [(sock.fileno(), WRITE)]


def test_an_error_of_the_system_is_raised(poller, monkeypatch):
    def fail(*_):
        ctypes.set_last_error(10055)
        return -1

    monkeypatch.setattr(wsapoll, "_wsapoll", fail)
    with pytest.raises(OSError, match="10055"):  # WSAENOBUFS
        poller.wait(0, 1)
