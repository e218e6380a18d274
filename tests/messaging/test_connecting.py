"""What ``connect`` returns: awaited or entered, once, and by whatever takes a coroutine."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest

import tofu_aio as tofu
from tests.messaging.peers import RawServer, connection_of, frame, until
from tofu_aio import OpCode, State
from tofu_aio.messaging import shortcuts

Connect = Callable[..., tofu.Connecting]


@pytest.fixture(params=["own engine", "group"])
def connect(request: pytest.FixtureRequest, group: tofu.ChannelGroup) -> Connect:
    """Both functions of this name."""
    return tofu.connect if request.param == "own engine" else group.connect


async def echo(channel: tofu.Channel) -> None:
    async for message in channel:
        with message:
            await channel.reply(message, message.body)


@asynccontextmanager
async def serving(
    group: tofu.ChannelGroup, ends: list[tofu.TofuError | None] | None = None
) -> AsyncIterator[tofu.Address]:
    """An echo server, which notes how its channels ended."""

    async def handler(channel: tofu.Channel) -> None:
        await echo(channel)
        if ends is not None:
            ends.append(channel.end)

    async with await group.listen("tcp://127.0.0.1:0") as listener, anyio.create_task_group() as t:
        t.start_soon(listener.serve, handler)
        yield listener.address
        t.cancel_scope.cancel()


# --- both ways -------------------------------------------------------------------------------


async def test_it_is_awaited(connect: Connect, group: tofu.ChannelGroup) -> None:
    async with serving(group) as where:
        channel = await connect(where, headers={"User": "Ada"})
        assert (await channel.request(b"?")).body == b"?"
        await channel.aclose()
        async with await connect(where) as channel:
            assert (await channel.request(b"!")).body == b"!"
        assert channel.state is State.CLOSED


async def test_it_is_entered(connect: Connect, group: tofu.ChannelGroup) -> None:
    ends: list[tofu.TofuError | None] = []
    async with serving(group, ends) as where:
        async with connect(where) as channel:
            assert (await channel.request(b"?")).body == b"?"
        assert channel.state is State.CLOSED
        async with AsyncExitStack() as stack:
            channel = await stack.enter_async_context(connect(where))
            assert channel.state is State.OPEN
        await until(lambda: len(ends) == 2)
    assert all(isinstance(end, tofu.ChannelEnded | None) for end in ends), "each with a Bye"


@pytest.mark.parametrize("how", ["raised", "cancelled"])
async def test_however_it_is_left_the_channel_says_bye(
    connect: Connect, group: tofu.ChannelGroup, how: str
) -> None:
    ends: list[tofu.TofuError | None] = []
    channels: list[tofu.Channel] = []

    async def inside(where: tofu.Address) -> None:
        async with connect(where) as channel:
            channels.append(channel)
            if how == "raised":
                raise ZeroDivisionError
            await asyncio.get_running_loop().create_future()

    async with serving(group, ends) as where:
        task = asyncio.create_task(inside(where))
        await until(lambda: channels)
        if how == "cancelled":
            task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() if how == "cancelled" else task.exception()
        assert channels[0].state is State.CLOSED
        await until(lambda: ends)
    assert isinstance(ends[0], tofu.ChannelEnded | None)


async def test_nothing_is_checked_or_done_before(connect: Connect, raw_server: RawServer) -> None:
    with pytest.raises(tofu.InvalidAddress):
        await connect("nonsense")
    with pytest.raises(ValueError, match="timeout"):
        async with connect(raw_server.address, timeout=-1):
            pass
    with pytest.raises(TypeError, match=r"connect\(\) got an unexpected keyword argument 'nonse"):
        await connect(raw_server.address, nonsense=1)


async def test_who_forgets_to_await_it_is_told_to(connect: Connect) -> None:
    connecting: Any = connect("tcp://127.0.0.1:1")
    with pytest.raises(AttributeError, match=r"'request': .* await this object, or enter it with "):
        connecting.request(b"?")
    connecting.close()


# --- once ------------------------------------------------------------------------------------


async def enter(connecting: tofu.Connecting) -> None:
    async with connecting:
        pass


async def run(connecting: tofu.Connecting) -> None:
    await asyncio.create_task(connecting)


async def just_await(connecting: tofu.Connecting) -> None:
    await connecting


@pytest.mark.parametrize("again", [just_await, enter, run])
async def test_it_makes_one_channel(
    connect: Connect, group: tofu.ChannelGroup, again: Callable[[tofu.Connecting], Awaitable[None]]
) -> None:
    async with serving(group) as where:
        awaited, entered = connect(where), connect(where)
        async with await awaited, entered:
            pass
        for connecting in (awaited, entered):
            with pytest.raises(RuntimeError, match=r"makes one channel only: call connect\(\) aga"):
                await again(connecting)


@pytest.mark.parametrize("again", [just_await, enter])
async def test_it_is_not_awaited_while_it_is(
    connect: Connect,
    raw_server: RawServer,
    again: Callable[[tofu.Connecting], Awaitable[None]],
) -> None:
    connecting = connect(raw_server.address)
    task = asyncio.create_task(connecting)
    with await raw_server.accept() as peer:
        await peer.message()
        with pytest.raises(RuntimeError, match=r"makes one channel only: call connect\(\) again"):
            await again(connecting)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


@pytest.mark.parametrize("kind", ["own engine", "group"])
def test_dropped_without_being_awaited_python_warns(kind: str) -> None:
    async def forget() -> str:
        async with tofu.Engine() as engine, engine.create_group() as group:
            connect = tofu.connect if kind == "own engine" else group.connect
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                connect("tcp://127.0.0.1:1")
                gc.collect()
            return "".join(str(warning.message) for warning in caught)

    name = "connect" if kind == "own engine" else "ChannelGroup.connect"
    assert asyncio.run(forget()).startswith(f"coroutine '{name}' was never awaited")


async def test_closed_it_is_not_missed(connect: Connect) -> None:
    connect("tcp://127.0.0.1:1").close()
    gc.collect()


# --- by whatever takes a coroutine -----------------------------------------------------------


async def test_tasks_and_what_makes_them(connect: Connect, group: tofu.ChannelGroup) -> None:
    async with serving(group) as where, AsyncExitStack() as stack:
        one = await asyncio.create_task(connect(where))
        two, three = await asyncio.gather(connect(where), connect(where))
        four = await asyncio.wait_for(connect(where), 20)
        async with asyncio.TaskGroup() as tasks:
            five = tasks.create_task(connect(where))
        async with asyncio.timeout(20):
            six = await connect(where)
        channels = [one, two, three, four, five.result(), six]
        for channel in channels:
            await stack.enter_async_context(channel)
        assert len(set(map(id, channels))) == 6
        for channel in channels:
            assert (await channel.request(b"?")).body == b"?"


async def test_a_task_shows_where_it_is(raw_server: RawServer, group: tofu.ChannelGroup) -> None:
    task = asyncio.create_task(group.connect(raw_server.address))
    with await raw_server.accept() as peer:
        await peer.message()
        assert "coro=<ChannelGroup.connect() running at " in repr(task)
        (inmost,) = task.get_stack()
        assert inmost.f_code.co_name == "connect"
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.parametrize("how", ["await", "enter", "task", "wait_for", "anyio", "before"])
async def test_cancelled_in_the_midst_it_leaves_nothing(
    connect: Connect, raw_server: RawServer, how: str
) -> None:
    """The conftest looks for tasks, descriptors and channels."""

    async def enclosed() -> None:
        connecting = connect(raw_server.address)
        if how == "enter":
            async with connecting:
                raise AssertionError("it is there")
        elif how == "wait_for":
            await asyncio.wait_for(connecting, 1000)
        elif how == "anyio":
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: connecting)
        else:
            await connecting

    task = asyncio.create_task(
        connect(raw_server.address) if how in {"task", "before"} else enclosed()
    )
    if how == "before":  # it began
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        return
    with await raw_server.accept() as peer:
        await peer.message()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await peer.until_reset()


@pytest.mark.parametrize("how", ["wait_for", "timeout", "move_on_after"])
async def test_a_deadline_of_the_callers_leaves_nothing(
    connect: Connect, raw_server: RawServer, how: str
) -> None:
    """Whatever it had come to: the conftest looks."""
    if how == "wait_for":
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connect(raw_server.address), 0.05)
    elif how == "timeout":
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), connect(raw_server.address):
                pass
    else:
        with anyio.move_on_after(0.05) as scope:
            await connect(raw_server.address)
        assert scope.cancelled_caught


@pytest.mark.parametrize(
    ("make", "args"),
    [
        (lambda: (KeyError("x"),), ("x",)),
        (lambda: (KeyError, KeyError("x")), ("x",)),
        (lambda: (KeyError, "x"), ("x",)),
        (lambda: (KeyError,), ()),
    ],
)
def test_thrown_into_by_hand(make: Callable[[], Any], args: tuple[str, ...]) -> None:
    """As tasks of older Pythons, and other libraries, do it."""
    with pytest.raises(KeyError) as thrown:
        tofu.connect("tcp://127.0.0.1:1").throw(*make())
    assert thrown.value.args == args


def test_it_has_nothing_else_of_a_coroutine() -> None:
    connecting = tofu.connect("tcp://127.0.0.1:1")
    connecting.close()
    with pytest.raises(AttributeError, match="'Connecting' object has no attribute 'nonsense'"):
        connecting.nonsense  # noqa: B018


# --- the engine of a channel that has it to itself -------------------------------------------


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[tofu.Engine]:
    """Those that ``tofu.connect`` makes."""
    made: list[tofu.Engine] = []

    class Noted(tofu.Engine):
        def __init__(self, *arguments: int, **limits: int) -> None:
            super().__init__(*arguments, **limits)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(shortcuts, "Engine", Noted)
    return made


@pytest.mark.parametrize("how", ["closed", "aborted", "ended by the peer", "lost", "entered"])
async def test_the_engine_ends_with_the_channel(
    engines: list[tofu.Engine], raw_server: RawServer, how: str
) -> None:
    connecting = tofu.connect(raw_server.address)
    task = asyncio.create_task(connecting.__aenter__() if how == "entered" else connecting)
    with await raw_server.accept() as peer:
        hello = await peer.message()
        await peer.send(frame(OpCode.HELLO_RESPONSE, message_id=hello.message_id))
        channel = await task
        assert "open channels=1" in repr(engines[0])
        if how == "aborted":
            channel.abort()
        elif how == "lost":
            peer.close()
        else:
            ends: dict[str, Callable[[], Coroutine[object, object, object]]] = {
                "closed": channel.aclose,
                "entered": lambda: connecting.__aexit__(None, None, None),
                "ended by the peer": channel.receive,
            }
            if how == "ended by the peer":
                await peer.send(frame(OpCode.BYE_REQUEST, message_id=1))
            waiting = asyncio.create_task(ends[how]())
            bye = await peer.message()
            if bye.op_code is OpCode.BYE_REQUEST:
                await peer.send(frame(OpCode.BYE_RESPONSE, message_id=bye.message_id))
            peer.close()
            await asyncio.wait([waiting])
            if how == "ended by the peer":
                assert isinstance(waiting.exception(), tofu.ChannelEnded)
        await connection_of(channel).closing.done
        await until(lambda: "closed channels=0" in repr(engines[0]))


async def test_one_that_could_not_connect_leaves_no_engine(engines: list[tofu.Engine]) -> None:
    with pytest.raises(tofu.ConnectFailed):
        await tofu.connect("tcp://127.0.0.1:1")
    assert "closed channels=0" in repr(engines[0])
