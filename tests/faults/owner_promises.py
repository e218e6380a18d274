"""What each coroutine of engines, groups, listeners and the shortcuts promises when cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio

import tofu_aio as tofu
from tests.conftest import HAS_UDS
from tests.faults.promises import Case, Promise, World, all_of, bodies_of, echo, finished, item
from tests.messaging.peers import RawServer, until
from tofu_aio import OpCode, State


@contextlib.contextmanager
def place(kind: str) -> Any:
    """An address to listen on; a socket's folder must be empty in the end."""
    if kind != "uds":
        yield f"tcp://{kind}:0"
        return
    with tempfile.TemporaryDirectory(prefix="tofu", dir="/tmp") as folder:
        yield f"uds://{folder}/s"
        assert not list(Path(folder).iterdir()), "a socket file was left behind"


# --- groups ------------------------------------------------------------------------------------


async def listening(world: World, kind: str) -> Promise:
    """Cancelled, no socket, no file, no channel number; and the address is free."""
    with place(kind) as address:
        outcome = yield world.group.listen(address)
        if outcome.completed:
            await outcome.result.aclose()
        await until(lambda: world.engine.statistics().channels == 0)
        await (await world.group.listen(address)).aclose()


async def connecting(world: World, kind: str) -> Promise:
    """Cancelled, no channel and no descriptor on this side; and the server's side ends."""
    with place(kind) as address:
        listener = await world.peers.listen(address)
        serving = asyncio.create_task(listener.serve(all_of))
        outcome = yield world.group.connect(listener.address)
        if outcome.completed:
            assert outcome.result.state is State.OPEN
            await outcome.result.aclose()
        await until(lambda: world.engine.statistics().channels == 0)
        await until(lambda: world.there.statistics().channels == 1)
        await listener.aclose()
        await finished(serving)


async def connecting_in_vain(world: World) -> Promise:
    """Likewise where nobody accepts."""
    listener = await world.peers.listen("tcp://127.0.0.1:0")
    outcome = yield world.group.connect(listener.address, timeout=0.05)
    assert outcome.cancelled or isinstance(outcome.error, tofu.ConnectFailed)
    await until(lambda: world.engine.statistics().channels == 0)
    await listener.aclose()


async def receiving(world: World) -> Promise:
    """No message of the group's mailbox is lost."""
    ends = await world.posted_pair()
    for body in (b"1", b"2"):
        message = item(body)
        message.channel_number = ends.s
        ends.server.post(message)
    outcome = yield ends.client.receive()
    got = bodies_of(outcome)
    while len(got) < 2:
        got.append((await ends.client.receive()).body)
    assert got == [b"1", b"2"]


Closing = Callable[[World], Coroutine[Any, Any, Any]]


async def closing(world: World, how: Closing) -> Promise:
    """All it has is closed, or reset: channels, listeners, what is opening, what waits."""
    mine, theirs = await world.pair()
    ends = await world.posted_pair()
    mine.post(item(b"before"))
    listener = await world.group.listen("tcp://127.0.0.1:0")
    receiving = asyncio.create_task(all_of(theirs))
    accepting = asyncio.create_task(listener.accept())
    with RawServer() as silent:
        hello = tofu.Message(
            OpCode.HELLO_REQUEST, headers={"~connect_to": silent.address.to_header()}
        )
        ends.client.post(hello)
        opening = asyncio.create_task(world.group.connect(silent.address))
        bye = item(op_code=OpCode.BYE_RESPONSE)

        async def answer() -> None:
            while True:
                with await ends.server.receive() as message:
                    if message.op_code is OpCode.BYE_REQUEST:
                        bye.channel_number = message.channel_number
                        with contextlib.suppress(tofu.PeerDisconnected, tofu.InvalidChannelNumber):
                            ends.server.post(bye)
                    if message.status is tofu.Status.CHANNEL_CLOSED:
                        return

        answering = asyncio.create_task(answer())
        outcome = yield how(world)
        if outcome.completed:
            assert world.engine.statistics().channels == 0
        await until(lambda: mine.state is State.CLOSED)
        await world.group.aclose()
        results = await asyncio.gather(accepting, opening, return_exceptions=True)
        assert [type(result) for result in results] == [tofu.ChannelClosed] * 2, results
        await finished(receiving, answering)
        await until(lambda: world.engine.statistics().channels == 0)
        await asyncio.gather(theirs.aclose(), world.peers.aclose())


# --- engines -----------------------------------------------------------------------------------


async def entering(world: World) -> Promise:
    """It never waits."""
    engine = tofu.Engine()
    yield engine.__aenter__()
    await engine.aclose()


async def entering_a_group(world: World) -> Promise:
    """It never waits."""
    group = world.engine.create_group()
    yield group.__aenter__()
    await group.aclose()


async def entering_a_listener(world: World) -> Promise:
    """It never waits."""
    listener = await world.group.listen("tcp://127.0.0.1:0")
    yield listener.__aenter__()
    await listener.aclose()


# --- listeners ---------------------------------------------------------------------------------


async def accepting(world: World, how: str) -> Promise:
    """No channel is lost."""
    listener = await world.group.listen("tcp://127.0.0.1:0")
    clients = [
        asyncio.create_task(world.peers.connect(listener.address, body=b"%d" % number))
        for number in range(2)
    ]
    outcome = yield getattr(listener, how)()
    accepted = [outcome.result] if outcome.completed else []
    while len(accepted) < 2:
        accepted.append(await listener.accept())
    assert sorted(channel.hello.body for channel in accepted) == [b"0", b"1"]
    connected = await finished(*clients)
    await asyncio.gather(*(channel.aclose() for channel in (*accepted, *connected)))
    await listener.aclose()


async def serving(world: World, own_group: bool) -> Promise:
    """Cancelled, its handlers have ended and their channels are closed."""
    listener = await world.group.listen("tcp://127.0.0.1:0")
    running = set()

    async def handle(channel: tofu.Channel) -> None:
        running.add(channel)
        try:
            await echo(channel)
        finally:
            running.remove(channel)

    async def talk() -> None:
        with contextlib.suppress(tofu.ConnectFailed, tofu.PeerDisconnected, tofu.ChannelClosed):
            async with await world.peers.connect(listener.address) as channel:
                (await channel.request(b"?")).release()
        await listener.aclose()

    async def serve() -> None:
        if own_group:
            await listener.serve(handle)
        else:
            async with anyio.create_task_group() as tasks:
                await listener.serve(handle, tasks)

    talking = asyncio.create_task(talk())
    outcome = yield serve()
    assert not running
    if outcome.cancelled:
        await listener.aclose()
    await finished(talking)
    await until(lambda: world.engine.statistics().channels == 0)


async def closing_a_listener(world: World, kind: str, how: str = "aclose") -> Promise:
    """It is closed, its address is free, and who had not been accepted is sent away."""
    with place(kind) as address:
        listener = await world.group.listen(address)
        stranger = asyncio.create_task(world.peers.connect(listener.address))
        await until(lambda: len(listener._ready.items))
        yield listener.__aexit__(None, None, None) if how == "__aexit__" else listener.aclose()
        result = (await asyncio.gather(stranger, return_exceptions=True))[0]
        assert isinstance(result, tofu.ConnectFailed)
        await until(lambda: world.engine.statistics().channels == 0)
        await (await world.group.listen(address)).aclose()


async def draining(world: World) -> Promise:
    """Cancelled, it is closed for newcomers, its channel goes on, and closing ends all."""
    listener = await world.group.listen("tcp://127.0.0.1:0")
    serving = asyncio.create_task(listener.serve(echo))
    channel = await world.peers.connect(listener.address)
    outcome = yield listener.drain(0.05)
    if outcome.cancelled:
        await listener.drain(0)
    await finished(serving)
    await channel.aclose()
    await until(lambda: world.engine.statistics().channels == 0)


# --- shortcuts ---------------------------------------------------------------------------------


async def a_short_session(world: World) -> Promise:
    """The engine of its own is closed, wherever it was."""
    listener = await world.peers.listen("tcp://127.0.0.1:0")
    serving = asyncio.create_task(listener.serve(echo))

    async def session() -> None:
        async with tofu.connect(listener.address) as channel:
            (await channel.request(b"?")).release()

    outcome = yield session()
    assert outcome.cancelled or outcome.completed
    await until(lambda: world.there.statistics().channels == 1)
    await listener.aclose()
    await finished(serving)


async def a_short_service(world: World, kind: str) -> Promise:
    """Its channels, its file and its engine are gone when it has ended."""
    with place(kind) as address:
        stop = anyio.CancelScope()
        talking: list[asyncio.Task[None]] = []

        class Started:
            def started(self, where: tofu.Address) -> None:
                talking.append(asyncio.create_task(talk(where)))

        async def talk(where: tofu.Address) -> None:
            lost = tofu.ConnectFailed, tofu.PeerDisconnected, tofu.UdsPathNotFound
            with contextlib.suppress(*lost):
                async with await world.peers.connect(where) as channel:
                    (await channel.request(b"?")).release()
            stop.cancel()

        async def service() -> None:
            with stop:
                await tofu.serve(echo, address, task_status=Started())

        outcome = yield service()
        assert outcome.cancelled or outcome.completed
        await finished(*talking)


KINDS: Final = ["127.0.0.1", "localhost", *(["uds"] if HAS_UDS else [])]

CASES: Final[dict[str, Case]] = {
    "Engine.__aenter__": entering,
    "Engine.aclose": partial(closing, how=lambda world: world.engine.aclose()),
    "Engine.__aexit__": partial(
        closing, how=lambda world: world.engine.__aexit__(None, None, None)
    ),
    "ChannelGroup.__aenter__": entering_a_group,
    "ChannelGroup.aclose": partial(closing, how=lambda world: world.group.aclose()),
    "ChannelGroup.__aexit__": partial(
        closing, how=lambda world: world.group.__aexit__(None, None, None)
    ),
    "ChannelGroup.receive": receiving,
    **{f"ChannelGroup.listen, {kind}": partial(listening, kind=kind) for kind in KINDS},
    **{f"ChannelGroup.connect, {kind}": partial(connecting, kind=kind) for kind in KINDS},
    "ChannelGroup.connect, in vain": connecting_in_vain,
    "Listener.__aenter__": entering_a_listener,
    "Listener.__aexit__": partial(closing_a_listener, kind="127.0.0.1", how="__aexit__"),
    "Listener.accept": partial(accepting, how="accept"),
    "Listener.__anext__": partial(accepting, how="__anext__"),
    "Listener.serve": partial(serving, own_group=True),
    "Listener.serve, in a task group": partial(serving, own_group=False),
    "Listener.drain": draining,
    **{f"Listener.aclose, {kind}": partial(closing_a_listener, kind=kind) for kind in KINDS},
    "connect": a_short_session,
    **{f"serve, {kind}": partial(a_short_service, kind=kind) for kind in KINDS},
}
