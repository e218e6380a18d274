"""Callers that disappear, at each point of a call, an upload and a stream."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import pytest

import tofu_aio as tofu
from tests.messaging.peers import RawPeer, frame, turns, until
from tests.service.serving import call_frame, failure_of, served
from tofu_aio import OpCode
from tofu_aio.service.streams import StreamExchange, Streams

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")


class Work:
    """A service that notes what its handlers are doing, and how they ended."""

    def __init__(self) -> None:
        self.service = tofu.Service()
        self.started = 0
        self.ended: list[str] = []

        @self.service.handler("hang")
        async def hang(number: int) -> int:
            return await self._hang(number)

        @self.service.handler("store")
        async def store(parts: AsyncIterator[bytes]) -> int:
            self.started += 1
            size = 0
            try:
                async for part in parts:
                    size += len(part)
            except BaseException as error:
                self.ended.append(type(error).__name__)
                raise
            self.ended.append("done")
            return size

        @self.service.handler("endless")
        async def endless(number: int) -> AsyncIterator[bytes]:
            self.started += 1
            try:
                while True:
                    yield bytes(1000)
            except BaseException as error:
                self.ended.append(type(error).__name__)
                raise

        @self.service.handler("silent")
        async def silent(number: int) -> AsyncIterator[bytes]:
            yield b"one"
            await self._hang(number)

        @self.service.handler("stubborn")
        async def stubborn(number: int) -> int:
            try:
                await self._hang(number)
            except asyncio.CancelledError:
                await turns(3)  # work that has to be ended in order
            return number

    async def _hang(self, number: int) -> int:
        self.started += 1
        try:
            await asyncio.get_running_loop().create_future()
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise
        return number


NAMES = ["hang", "endless", "silent", "store", "stubborn"]


def begin(name: str) -> bytes:
    return call_frame(name, b"1", more=name == "store")


async def bye(peer: RawPeer) -> None:
    await peer.send(frame(OpCode.BYE_REQUEST, message_id=9))
    peer.half_close()


async def bye_signal(peer: RawPeer) -> None:
    await peer.send(frame(OpCode.BYE_SIGNAL))
    peer.close()


async def reset(peer: RawPeer) -> None:
    await peer.reset()


async def close(peer: RawPeer) -> None:
    peer.close()


async def break_off(peer: RawPeer) -> None:
    await peer.send(b"\xff" * 16)


LEAVING = [bye, bye_signal, reset, close, break_off]
Leave = Callable[[RawPeer], Awaitable[None]]


@pytest.mark.parametrize("leave", LEAVING, ids=lambda leave: leave.__name__)
@pytest.mark.parametrize("name", NAMES)
async def test_a_peer_that_leaves_cancels_its_handlers(name: str, leave: Leave) -> None:
    work = Work()
    async with served(work.service) as there:
        with await RawPeer.introduced(there.listener.address) as peer:
            await peer.send(begin(name))
            await until(lambda: work.started)
            await leave(peer)
            await until(lambda: work.ended, "for the handler's end")
            await until(lambda: not work.service._sessions)


@pytest.mark.parametrize("leave", LEAVING, ids=lambda leave: leave.__name__)
@pytest.mark.parametrize("name", NAMES)
async def test_a_peer_that_leaves_with_its_calls_leaves_nothing(name: str, leave: Leave) -> None:
    """All may arrive in one turn: the calls, those that wait for a slot, and the end."""
    work = Work()
    limits = {"concurrency": 2, "streams": 2}
    async with served(work.service, limits=limits) as there:
        with await RawPeer.introduced(there.listener.address) as peer:
            calls = b"".join(
                call_frame(name, b"1", message_id=n, more=name == "store") for n in range(2, 8)
            )
            await peer.send(calls)
            await leave(peer)
            await until(lambda: not work.service._sessions)
    assert len(work.ended) == work.started


async def cancelled(task: asyncio.Task[object]) -> None:
    task.cancel()


async def timed_out(task: asyncio.Task[object]) -> None:
    """It has a time-out of its own."""


async def test_a_stream_s_time_is_over_even_if_its_timer_was_early() -> None:
    """uvloop's timers go off up to a millisecond before the time that its clock shows."""
    now = asyncio.get_running_loop().time()
    for deadline, named in ((now + 0.001, True), (now + 60, False), (None, False)):
        exchange = StreamExchange(cast(Streams, None), "silent", "stream", deadline, {})
        error = exchange._named(TimeoutError())
        assert str(error) == ("the time of the call of 'silent' is over" if named else "")


@pytest.mark.parametrize("give_up", [cancelled, timed_out], ids=lambda each: each.__name__)
@pytest.mark.parametrize("name", ["hang", "endless", "silent", "store", "stubborn"])
async def test_a_client_that_gives_up_cancels_its_handler(
    name: str, give_up: Callable[[asyncio.Task[object]], Awaitable[None]]
) -> None:
    work = Work()
    timeout = 0.05 if give_up is timed_out else None

    async def never() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.get_running_loop().create_future()

    async with served(work.service) as there, there.client() as client:

        async def run() -> object:
            if name == "store":
                return await client.upload("store", never(), result=int, timeout=timeout)
            if name in {"endless", "silent"}:
                async for _ in client.stream(name, 1, item=bytes, timeout=timeout):
                    await asyncio.sleep(0)
                return None
            return await client.call(name, 1, timeout=timeout)

        task = asyncio.create_task(run())
        if timeout is None:  # otherwise the time may be over before the service knows of it
            await until(lambda: work.started)
        await give_up(task)
        await asyncio.wait([task])
        if timeout is None:
            assert task.cancelled()
        else:
            error = task.exception()
            assert isinstance(error, TimeoutError), error
            assert str(error), "it says nothing"
        await until(lambda: len(work.ended) == work.started)
        assert await client.call("tofu.health") == {"status": "serving"}


async def test_calls_that_are_cancelled_before_they_begin_leave_their_slots() -> None:
    """The request and its cancellation arrive together."""
    work = Work()
    limits = {"concurrency": 3, "streams": 3}
    async with served(work.service, limits=limits) as there, there.client() as client:
        await client.call("tofu.health")
        for name in ("hang", "silent", "stubborn") * 4:
            for _ in range(4):
                if name == "silent":
                    task = asyncio.create_task(anext(client.stream(name, 1, item=bytes)))
                else:
                    task = asyncio.create_task(client.call(name, 1))
                await turns(2)
                task.cancel()
                await asyncio.wait([task])
        await until(lambda: len(work.ended) == work.started)


async def test_requests_and_cancellations_in_one_piece_leave_their_slots(
    group: tofu.ChannelGroup,
) -> None:
    work = Work()
    limits = {"concurrency": 3, "streams": 3}
    async with (
        served(work.service, limits=limits) as there,
        there.group.connect(there.listener.address) as channel,
    ):
        await channel.request(b"", {"call": "tofu.health"})
        for name in ("hang", "silent", "stubborn", "nix", "store") * 3:
            tasks = [asyncio.create_task(channel.request(b"1", {"call": name})) for _ in range(5)]
            await asyncio.sleep(0)  # sent, and nothing else
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await until(lambda: len(work.ended) == work.started)
        await channel.request(b"", {"call": "tofu.health"})


async def test_leaving_a_stream_cancels_its_handler() -> None:
    work = Work()
    async with served(work.service) as there, there.client() as client:
        stream = client.stream("endless", 1, item=bytes)
        async for _ in stream:
            break
        await stream.aclose()
        await until(lambda: work.ended)


KILLED = """
import asyncio, sys
import tofu_aio as tofu

async def parts():
    while True:
        yield bytes(1000)
        await asyncio.sleep(0)

async def main():
    client = tofu.Client(sys.argv[1])
    async def read():
        async for _ in client.stream("endless", 1, item=bytes):
            pass
    await asyncio.gather(
        client.call("hang", 1), client.upload("store", parts(), result=int), read(),
        client.call("stubborn", 1),
    )

asyncio.run(main())
"""


@posix
async def test_a_killed_process_leaves_nothing(transport_address: str) -> None:
    work = Work()
    async with served(work.service, transport_address) as there:
        process = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", KILLED, there.address]
        )
        try:
            await until(lambda: work.started == 4)
        finally:
            process.kill()
            await asyncio.to_thread(process.wait)
        await until(lambda: len(work.ended) == 4)
        await until(lambda: not work.service._sessions)


async def test_one_that_only_loses_its_connection_reports_it(transport_address: str) -> None:
    work = Work()
    async with served(work.service, transport_address) as there:
        async with tofu.Client(there.address) as client:

            async def read() -> None:
                async for _ in client.stream("silent", 1, item=bytes):
                    pass

            async def parts() -> AsyncIterator[bytes]:
                yield b"one"
                await asyncio.get_running_loop().create_future()

            tasks = [
                asyncio.create_task(coroutine)
                for coroutine in (
                    client.call("hang", 1),
                    client.upload("store", parts(), result=int),
                    read(),
                )
            ]
            await until(lambda: work.started == 3)
            work.service._abort()
            for task in tasks:
                error = await failure_of(task)
                assert isinstance(error, tofu.PeerDisconnected), error
        await until(lambda: len(work.ended) == 3)


@posix
async def test_a_frozen_process_is_told_by_its_timeout(transport_address: str) -> None:
    """SIGSTOP: the system still takes what is sent, and nobody answers."""
    process = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        address = (await asyncio.to_thread(process.stdout.readline)).strip()
        async with tofu.Client(address) as client:
            assert await client.call("echo", b"x") == b"x"
            os.kill(process.pid, signal.SIGSTOP)
            for awaitable in (
                client.call("echo", b"x", timeout=0.05),
                client.call("echo", bytes(10_000_000), timeout=0.05),
                client.upload("echo", [bytes(10_000_000)], result=bytes, timeout=0.05),
                anext(client.stream("echo", bytes(10_000_000), item=bytes, timeout=0.05)),
            ):
                error = await asyncio.wait_for(failure_of(awaitable), 20)
                assert isinstance(error, TimeoutError), error
                assert str(error), "it says nothing"
            os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)
        process.stdout.close()


SERVER = """
import asyncio
import tofu_aio as tofu

service = tofu.Service()

@service.handler("echo")
async def echo(payload: bytes) -> bytes:
    return payload

class Status:
    def started(self, addresses):
        print(addresses[0], flush=True)

asyncio.run(service.serve("tcp://127.0.0.1:0", task_status=Status()))
"""
