"""Servers that cannot accept: they say so, wait, and go on; closed, they say nothing."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from pathlib import Path

import pytest

from tests.shortage import Shortage, needs_a_limit
from tofu_aio.reactor import Loop, accepting

NEVER = 3600.0
SOON = 0.01


@pytest.fixture
def retry(monkeypatch):
    """Have failed servers try again after so many seconds."""

    def set_to(seconds):
        monkeypatch.setattr(accepting, "RETRY", seconds)

    return set_to


class Reports(list):
    """What the loop's exception handler was told."""

    def __init__(self):
        super().__init__()
        self._more = asyncio.Event()

    def add(self, context):
        self.append(context)
        self._more.set()

    async def are(self, count):
        while len(self) < count:
            self._more.clear()
            await self._more.wait()


@pytest.fixture
def reports():
    return Reports()


@pytest.fixture
def run(reports):
    """Run a coroutine on a loop whose reports are kept."""
    with asyncio.Runner(loop_factory=Loop, debug=True) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: reports.add(context))
        yield runner.run


class Failing(socket.socket):
    """A listening socket that fails to accept as often as it is told to."""

    failures = ()

    def accept(self):
        if self.failures:
            number, *self.failures = self.failures
            raise OSError(number, os.strerror(number))
        return super().accept()


def failing(*numbers):
    sock = Failing()
    sock.bind(("127.0.0.1", 0))
    sock.failures = numbers
    return sock


async def greet(reader, writer):
    writer.write(b"welcome")
    writer.close()
    await writer.wait_closed()


def client_of(server):
    """Connected as far as the kernel is concerned: in the backlog."""
    sock = socket.create_connection(server.sockets[0].getsockname())
    sock.setblocking(False)
    return sock


async def greeting(client):
    with client:
        return await asyncio.get_running_loop().sock_recv(client, 100)


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def after_a_retry():
    """Timers come due in order, so whoever was to try again has."""
    await asyncio.sleep(2 * SOON)


@needs_a_limit
@pytest.mark.parametrize("backlog", [1, 100])
def test_a_shortage_of_descriptors_is_reported_once_a_try(run, reports, retry, backlog):
    async def main():
        retry(NEVER)
        async with await asyncio.start_server(greet, "127.0.0.1", backlog=backlog) as server:
            client = client_of(server)
            with Shortage():
                await turns(20)
            client.close()

    run(main())
    (report,) = reports
    assert report["exception"].errno == errno.EMFILE
    assert "tries again in 3600 s" in report["message"]
    assert report["socket"].fileno() == -1, "it is the server's"


@needs_a_limit
def test_who_waited_through_a_shortage_is_served(run, reports, retry):
    async def main():
        retry(SOON)
        async with await asyncio.start_server(greet, "127.0.0.1") as server:
            clients = [client_of(server) for _ in range(3)]
            with Shortage():
                await reports.are(3)
            return await asyncio.gather(*map(greeting, clients))

    assert run(main()) == [b"welcome"] * 3
    assert {report["exception"].errno for report in reports} == {errno.EMFILE}


@needs_a_limit
def test_a_server_that_is_closed_in_a_shortage_is_heard_of_no_more(run, reports, retry):
    async def main():
        retry(SOON)
        server = await asyncio.start_server(greet, "127.0.0.1")
        client = client_of(server)
        with Shortage():
            await reports.are(1)
            server.close()
            before = len(reports)
            await after_a_retry()
            client.close()
        await after_a_retry()
        return len(reports) - before

    assert run(main()) == 0


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets")
@needs_a_limit
def test_a_unix_server_serves_who_waited_through_a_shortage(run, reports, retry, socket_path):
    async def main():
        retry(SOON)
        server = await asyncio.start_unix_server(greet, socket_path)
        async with server:
            client = socket.socket(socket.AF_UNIX)
            client.connect(socket_path)
            client.setblocking(False)
            with Shortage():
                await reports.are(1)
            return await greeting(client)

    assert run(main()) == b"welcome"
    Path(socket_path).unlink(missing_ok=True)  # Python 3.13 removes it itself


@pytest.mark.parametrize("name", ["ENFILE", "ENOBUFS", "ENOMEM", "EINVAL", "EPERM"])
def test_whatever_fails_once_is_reported_once_and_tried_again(run, reports, retry, name):
    number = getattr(errno, name)

    async def main():
        retry(SOON)
        async with await asyncio.start_server(greet, sock=failing(number)) as server:
            return await greeting(client_of(server))

    assert run(main()) == b"welcome"
    assert [report["exception"].errno for report in reports] == [number]


@pytest.mark.parametrize("name", ["ECONNABORTED", "EPROTO", "ENETDOWN", "EHOSTUNREACH"])
def test_a_connection_that_failed_before_it_was_accepted_costs_nobody_else(
    run, reports, retry, name
):
    number = getattr(errno, name)

    async def main():
        retry(NEVER)
        async with await asyncio.start_server(greet, sock=failing(number, number)) as server:
            return await greeting(client_of(server))

    assert run(main()) == b"welcome"
    assert not reports


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it cannot be shut down, or accepts")
def test_a_listening_socket_that_was_shut_down_is_reported_once_a_try(run, reports, retry):
    async def main():
        retry(NEVER)
        with socket.create_server(("127.0.0.1", 0)) as sock:
            async with await asyncio.start_server(greet, sock=sock):
                sock.shutdown(socket.SHUT_RDWR)
                await turns(20)

    run(main())
    assert [report["exception"].errno for report in reports] == [errno.EINVAL]


def test_a_server_that_cannot_be_watched_again_is_tried_again(run, reports, retry):
    async def main():
        retry(SOON)
        loop = asyncio.get_running_loop()
        register = loop._reactor.register
        refusals = [errno.ENOSPC, errno.ENOMEM]

        def refuse_at_first(fd, events, data=None):
            if refusals and fd == server.sockets[0].fileno():
                raise OSError(refusals.pop(0), "no room")
            return register(fd, events, data)

        async with await asyncio.start_server(greet, sock=failing(errno.EMFILE)) as server:
            loop._reactor.register = refuse_at_first
            return await greeting(client_of(server))

    assert run(main()) == b"welcome"
    told = [report["exception"].errno for report in reports]
    assert told == [errno.EMFILE, errno.ENOSPC, errno.ENOMEM]


@needs_a_limit
def test_asyncio_s_own_loop_reports_as_often_as_the_backlog_is_long(reports):
    """So that a Python that mends it shows here."""

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, told: reports.add(told))
        async with await asyncio.start_server(greet, "127.0.0.1", backlog=50) as server:
            client = client_of(server)
            with Shortage():
                await turns(3)
            client.close()

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())
    assert len(reports) >= 50
