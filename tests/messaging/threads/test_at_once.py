"""Threads beside a loop, and loops beside each other; without the GIL they run at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from queue import SimpleQueue
from typing import Any

import pytest

import tofu_aio as tofu
from tofu_aio.messaging.flow_control.stall_report import held_by_application

THREADS = 4
MESSAGES = 2000
LONG = bytes(100_000)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run it in a loop of this thread, without the debug mode, which has other inboxes."""
    with asyncio.Runner(debug=False, loop_factory=tofu.new_event_loop) as runner:
        runner.run(asyncio.wait_for(main, 40))


def at_once(*functions: Callable[[], object]) -> None:
    """Call each function in a thread of its own; what one raises is raised here."""
    failed: list[BaseException] = []

    def call(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=call, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def held(engine: tofu.Engine) -> tuple[int, int]:
    """How many permits of a pool are out, and how many reserves are in use."""
    now = engine.statistics()
    return now.pool_size - now.pool_free, now.reserves


@pytest.mark.parametrize("pool_messages", [4, 100])
def test_threads_release_what_a_loop_receives(pool_messages: int) -> None:
    """Each message is released by two threads. A channel that waits for that goes on."""
    choose = random.Random(pool_messages)
    queues: list[SimpleQueue[tofu.Message | None]] = [SimpleQueue() for _ in range(THREADS)]

    def release(own: SimpleQueue[tofu.Message | None]) -> None:
        while (message := own.get()) is not None:
            message.release()

    async def receive() -> None:
        async with tofu.Engine(pool_messages) as engine, engine.create_group() as group:
            listener = await group.listen("tcp://127.0.0.1:0")
            client, server = await asyncio.gather(
                group.connect(listener.address), listener.accept()
            )
            async with client, server:
                sending = asyncio.create_task(send(client))
                for number in range(MESSAGES):
                    message = await server.receive()
                    assert message.body == b"%d" % number
                    for own in choose.sample(queues, 2):
                        own.put(message)
                    del message
                await sending
            for own in queues:
                own.put(None)
            for thread in threads:
                thread.join()
            assert held(engine) == (0, 0)

    async def send(client: tofu.Channel) -> None:
        for number in range(MESSAGES):
            await client.signal(b"%d" % number)

    threads = [threading.Thread(target=release, args=(own,)) for own in queues]
    for thread in threads:
        thread.start()
    try:
        run(receive())
    finally:
        for own in queues:
            own.put(None)


def test_engines_in_several_threads_echo_at_once() -> None:
    """Each releases what others have received, and another thread asks all for statistics."""
    requests: deque[tofu.Message] = deque()  # of all engines
    engines: list[tofu.Engine] = []
    ended = threading.Barrier(THREADS + 1, timeout=40)

    async def echo(channel: tofu.Channel) -> None:
        async for request in channel:
            await channel.reply(request, request.body)
            requests.append(request)
            requests.popleft().release()

    async def ask(channel: tofu.Channel, bodies: list[bytes]) -> None:
        for body in bodies:
            with await channel.request(body) as response:
                assert response.body == body

    async def main() -> None:
        async with tofu.Engine(16) as engine, engine.create_group() as group:
            engines.append(engine)
            listener = await group.listen("tcp://127.0.0.1:0")
            serving = asyncio.create_task(listener.serve(echo))
            async with await group.connect(listener.address) as channel:
                short = [[b"%d" % number] * (MESSAGES // 40) for number in range(20)]
                await asyncio.gather(*(ask(channel, bodies) for bodies in [*short, [LONG] * 20]))
                held_by_application(engine._gate.pool, ())
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving
            await asyncio.to_thread(ended.wait)  # nobody receives any more
            with contextlib.suppress(IndexError):
                while True:
                    requests.popleft().release()
            await asyncio.to_thread(ended.wait)  # nor releases
            assert held(engine) == (0, 0)

    def ask_for_statistics() -> None:
        while ended.n_waiting < THREADS and not ended.broken:
            for engine in engines:
                with contextlib.suppress(RuntimeError):  # a dictionary has changed meanwhile
                    assert 0 <= engine.statistics().pool_free <= 16
        ended.wait()
        ended.wait()

    at_once(ask_for_statistics, *[lambda: run(main())] * THREADS)
