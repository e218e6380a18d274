"""What the kernel is told, counted at the poller, beside asyncio's own loop: never more."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import select
import selectors

import pytest

from tofu_aio.reactor import Loop, ReactorSelector

if not hasattr(select, "epoll"):
    pytest.skip("counts epoll_ctl", allow_module_level=True)

from tofu_aio.reactor.pollers.epoll import EpollPoller

TIMES = 1000


class CountingEpoll:
    """`select.epoll` that counts its system calls by name."""

    def __init__(self):
        self.epoll = select.epoll()
        self.calls = collections.Counter()

    def __getattr__(self, name):
        method = getattr(self.epoll, name)

        def call(*args):
            self.calls[name] += 1
            return method(*args)

        return call


def stock():
    selector = selectors.EpollSelector()
    selector._selector.close()
    selector._selector = CountingEpoll()
    return asyncio.SelectorEventLoop(selector), selector._selector


def reactor():
    counting = CountingEpoll()

    def make():
        poller = EpollPoller()
        poller._epoll.close()
        poller._epoll = counting
        poller.wait = counting.poll
        return poller

    return Loop(ReactorSelector(make)), counting


def changes(make_loop, program, make_pair):
    """Return how many epoll_ctl a program makes between its first step and its last."""
    loop, epoll = make_loop()

    def total():
        return sum(epoll.calls[name] for name in ("register", "modify", "unregister"))

    async def main():
        steps = program(make_pair)
        await anext(steps)
        before = total()
        await anext(steps)
        counted = total() - before
        with contextlib.suppress(StopAsyncIteration):
            await anext(steps)
        return counted

    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


async def turn():
    await asyncio.sleep(0)


async def transport_of(make_pair):
    ours, peer = make_pair()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    await turn()
    await turn()
    return transport, peer


async def ping_pong(make_pair):
    loop = asyncio.get_running_loop()
    left, right = make_pair()

    async def echo():
        for _ in range(TIMES):
            await loop.sock_sendall(right, await loop.sock_recv(right, 1))

    task = asyncio.ensure_future(echo())
    yield
    for _ in range(TIMES):
        await loop.sock_sendall(left, b"x")
        await loop.sock_recv(left, 1)
    yield
    await task


async def writer_that_blocks(make_pair):
    loop = asyncio.get_running_loop()
    transport, peer = await transport_of(make_pair)
    yield
    for _ in range(TIMES // 10):
        transport.write(b"x" * 1_000_000)
        assert transport.get_write_buffer_size()
        received = 0
        while received < 1_000_000:
            received += len(await loop.sock_recv(peer, 1_000_000))
    yield
    transport.abort()
    await turn()
    await turn()


async def writer_within_a_turn(make_pair):
    loop = asyncio.get_running_loop()
    left, _ = make_pair()
    loop.add_reader(left, print)
    await turn()
    yield
    for _ in range(TIMES):
        loop.add_writer(left, print)
        loop.remove_writer(left)
        await turn()
    yield
    loop.remove_reader(left)


async def lone_writer_within_a_turn(make_pair):
    loop = asyncio.get_running_loop()
    left, _ = make_pair()
    yield
    for _ in range(TIMES):
        loop.add_writer(left, print)
        loop.remove_writer(left)
        await turn()
    yield


async def pause_within_a_turn(make_pair):
    transport, _ = await transport_of(make_pair)
    yield
    for _ in range(TIMES):
        transport.pause_reading()
        transport.resume_reading()
        await turn()
    yield
    transport.abort()
    await turn()
    await turn()


async def pause_across_turns(make_pair):
    transport, _ = await transport_of(make_pair)
    yield
    for _ in range(TIMES):
        transport.pause_reading()
        await turn()
        transport.resume_reading()
        await turn()
    yield
    transport.abort()
    await turn()
    await turn()


async def resume_within_a_turn(make_pair):
    transport, _ = await transport_of(make_pair)
    transport.pause_reading()
    await turn()
    await turn()
    yield
    for _ in range(TIMES):
        transport.resume_reading()
        transport.pause_reading()
        await turn()
    yield
    transport.abort()
    await turn()
    await turn()


# What each may issue, the reactor and then the stock loop; None where it varies by a few.
EXPECTED = {
    ping_pong: (None, None),
    writer_that_blocks: (None, None),
    writer_within_a_turn: (0, 2 * TIMES),
    lone_writer_within_a_turn: (2 * TIMES, 2 * TIMES),
    pause_within_a_turn: (0, 2 * TIMES),
    pause_across_turns: (2 * TIMES, 2 * TIMES),
    resume_within_a_turn: (0, 2 * TIMES),
}


@pytest.mark.parametrize("program", EXPECTED, ids=lambda program: program.__name__)
def test_the_kernel_is_told_no_more_than_by_the_stock_loop(program, make_pair):
    ours = changes(reactor, program, make_pair)
    theirs = changes(stock, program, make_pair)
    print(f"{program.__name__}: {ours} epoll_ctl, stock loop {theirs}")
    assert ours <= theirs
    most, stocks = EXPECTED[program]
    if most is not None:
        assert (ours, theirs) == (most, stocks)
