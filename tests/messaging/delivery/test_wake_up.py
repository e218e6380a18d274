"""Tasks that continue within the read that brought what they wait for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from importlib.util import find_spec

import pytest

import tofu_aio as tofu
from tests.messaging.peers import Pair, connection_of, frame, turns
from tofu_aio import OpCode
from tofu_aio.messaging.delivery.wake_up import WakeUps, complete, run_wake_ups


async def called(call: Callable[[], object]) -> None:
    """Have it called by the loop, as a transport calls: outside of every task."""
    done = asyncio.get_running_loop().create_future()

    def callback() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    asyncio.get_running_loop().call_soon(callback)
    await done


async def waiting(future: asyncio.Future[str], heard: list[str]) -> None:
    heard.append(await future)


async def start(*futures: asyncio.Future[str]) -> tuple[list[str], list[asyncio.Task[None]]]:
    """A task for each, which waits, and where they note what they get."""
    heard: list[str] = []
    tasks = [asyncio.create_task(waiting(future, heard)) for future in futures]
    await turns(1)
    return heard, tasks


def futures(count: int) -> list[asyncio.Future[str]]:
    return [asyncio.get_running_loop().create_future() for _ in range(count)]


async def test_who_waits_goes_on_at_once_and_in_order() -> None:
    first, second = futures(2)
    heard, tasks = await start(first, second)

    def tell() -> None:
        wake_ups: WakeUps = []
        complete(second, "second", wake_ups)
        complete(first, "first", wake_ups)
        assert heard == []
        run_wake_ups(wake_ups)
        assert heard == ["second", "first"]
        assert wake_ups == []

    await called(tell)
    await asyncio.gather(*tasks)


async def test_within_another_task_it_goes_on_soon() -> None:
    (future,) = futures(1)
    heard, tasks = await start(future)
    wake_ups: WakeUps = []
    complete(future, "soon", wake_ups)
    run_wake_ups(wake_ups)
    assert heard == []
    await asyncio.gather(*tasks)
    assert heard == ["soon"]


async def test_whatever_one_raises_the_others_go_on() -> None:
    class Over(BaseException):
        """As SystemExit, which a task lets through."""

    one, three = futures(2)
    heard, tasks = await start(one, three)

    def fail(_: object) -> None:
        raise Over

    def tell() -> None:
        wake_ups: WakeUps = []
        complete(one, "one", wake_ups)
        wake_ups.append((copy_context(), fail, None))
        complete(three, "three", wake_ups)
        with pytest.raises(Over):
            run_wake_ups(wake_ups)
        assert heard == ["one"]

    await called(tell)
    await asyncio.gather(*tasks)
    assert heard == ["one", "three"]


async def test_a_future_that_shows_no_callbacks_wakes_its_task_itself() -> None:
    class Reserved(asyncio.Future[str]):
        @property
        def _callbacks(self) -> None:  # type: ignore[override]  # a field there, writable
            return None

    future = Reserved()
    heard, tasks = await start(future)

    def tell() -> None:
        wake_ups: WakeUps = []
        complete(future, "later", wake_ups)
        run_wake_ups(wake_ups)
        assert heard == []

    await called(tell)
    await asyncio.gather(*tasks)
    assert heard == ["later"]


async def test_a_task_that_is_cancelled_before_it_goes_on_is_cancelled() -> None:
    (future,) = futures(1)
    heard, (task,) = await start(future)

    def tell() -> None:
        wake_ups: WakeUps = []
        complete(future, "in vain", wake_ups)
        task.cancel()
        run_wake_ups(wake_ups)

    await called(tell)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert heard == []


async def test_it_goes_on_in_its_own_context() -> None:
    name: ContextVar[str] = ContextVar("name")
    (future,) = futures(1)

    async def with_name() -> str:
        name.set("mine")
        await future
        return name.get()

    task = asyncio.create_task(with_name())
    await turns(1)

    def tell() -> None:
        name.set("another's")
        wake_ups: WakeUps = []
        complete(future, "", wake_ups)
        run_wake_ups(wake_ups)

    await called(tell)
    assert await task == "mine"


async def test_a_request_is_answered_within_the_read_that_brought_it(tcp_pair: Pair) -> None:
    client, server = tcp_pair
    answers: list[bytes] = []

    async def echo() -> None:
        async for message in server:
            await server.reply(message, message.body)
            answers.append(message.body)
            message.release()

    task = asyncio.create_task(echo())
    await turns(1)
    sent = connection_of(server).queue.sent

    def read() -> None:
        data = frame(OpCode.REQUEST, b"now", message_id=7)
        connection_of(server).data_received(data * 3)
        assert answers == [b"now"] * 3
        assert connection_of(server).queue.sent == sent + 3
        # They have been written as well.
        assert not connection_of(server).queue.frames

    await called(read)
    task.cancel()
    assert client.state is tofu.State.OPEN


@pytest.mark.parametrize("how", ["abort", "aclose", "cancel"])
async def test_a_receiver_may_leave_in_the_middle_of_a_chunk(how: str, tcp_pair: Pair) -> None:
    client, server = tcp_pair

    async def leave() -> None:
        (await server.receive()).release()
        if how == "abort":
            server.abort()
        elif how == "aclose":
            await server.aclose()
        else:
            task.cancel()
            await asyncio.sleep(0)

    task = asyncio.create_task(leave())
    await turns(1)
    for number in range(100):
        await client.signal(b"%d" % number)
    await asyncio.wait([task])
    assert task.cancelled() == (how == "cancel")
    if how == "cancel":
        assert [(await server.receive()).body for _ in range(3)] == [b"1", b"2", b"3"]
        server.abort()
    await connection_of(server).closing.done
    assert server.state is tofu.State.CLOSED


PROGRAM = """
import asyncio, sys
import tofu_aio as tofu

async def main():
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen("tcp://127.0.0.1:0")
        client, server = await asyncio.gather(group.connect(listener.address), listener.accept())

        async def end():
            async for _ in server:
                raise {error}

        task = asyncio.create_task(end())
        await asyncio.sleep(0)
        await client.signal(b"now")
        await asyncio.Event().wait()

with asyncio.Runner(loop_factory=tofu.loop_factory({loop!r})) as runner:
    runner.run(main())
"""


LOOPS = ["reactor", "asyncio", *filter(find_spec, ["uvloop", "winloop"])]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("error", "says"), [("SystemExit(7)", ""), ("KeyboardInterrupt", "KeyboardInterrupt")]
)
def test_a_task_that_goes_on_can_end_the_program(loop: str, error: str, says: str) -> None:
    program = [sys.executable, "-c", PROGRAM.format(error=error, loop=loop)]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 7 if not says else ended.returncode != 0
    assert says in ended.stderr


async def test_who_receives_at_once_is_never_suspended() -> None:
    count, channels = 3000, 4
    async with tofu.Engine() as engine:
        group = engine.create_group()
        listener = await group.listen("tcp://127.0.0.1:0")

        async def drain(channel: tofu.Channel) -> int:
            return len([message.release() async for message in channel])

        async def flood() -> None:
            async with await group.connect(listener.address) as client:
                for _ in range(count):
                    await client.signal()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(channels):
                tasks.create_task(flood())
            draining = [tasks.create_task(drain(await listener.accept())) for _ in range(channels)]
        assert [task.result() for task in draining] == [count] * channels
        assert engine.statistics().suspensions == 0
