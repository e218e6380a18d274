"""What deciding on a Hello, connecting again and TLS promise when cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import Final

import tofu_aio as tofu
from tests.faults.promises import Case, Promise, World, all_of, echo, finished
from tests.messaging.certificates import client_context, server_context
from tests.messaging.peers import connection_of, until
from tofu_aio import State

HERE: Final = "tcp://127.0.0.1:0"


async def rejecting(world: World) -> Promise:
    """It is closed, whatever happens, and nobody was accepted."""
    listener = await world.group.listen(HERE)
    client = asyncio.create_task(world.peers.connect(listener.address))
    channel = await listener.receive_hello()
    yield channel.reject("no")
    assert channel.state is State.CLOSED
    (result,) = await asyncio.gather(client, return_exceptions=True)
    assert isinstance(result, tofu.ConnectFailed)
    await until(connection_of(channel).closing.done.done)
    await listener.aclose()


async def hearing_hello(world: World) -> Promise:
    """No stranger is lost."""
    listener = await world.group.listen(HERE)
    clients = [asyncio.create_task(world.peers.connect(listener.address)) for _ in range(2)]
    outcome = yield listener.receive_hello()
    heard = [outcome.result] if outcome.completed else []
    while len(heard) < 2:
        heard.append(await listener.receive_hello())
    for channel in heard:
        channel.accept()
    connected = await finished(*clients)
    await asyncio.gather(*(channel.aclose() for channel in (*heard, *connected)))
    await listener.aclose()


async def serving_with_a_decision(world: World) -> Promise:
    """Cancelled, no decision is under way, and who was being decided on is sent away."""
    listener = await world.group.listen(HERE)
    deciding = set()

    async def decide(channel: tofu.Channel) -> None:
        deciding.add(channel)
        try:
            await asyncio.sleep(0)
        finally:
            deciding.remove(channel)

    async def talk() -> None:
        with contextlib.suppress(tofu.ConnectFailed, tofu.PeerDisconnected, tofu.ChannelClosed):
            async with await world.peers.connect(listener.address) as channel:
                (await channel.request(b"?")).release()
        await listener.aclose()

    talking = asyncio.create_task(talk())
    outcome = yield listener.serve(echo, decide=decide)
    assert not deciding
    if outcome.cancelled:
        await listener.aclose()
    await finished(talking)
    await until(lambda: world.engine.statistics().channels == 0)


async def reconnecting(world: World, phase: str) -> Promise:
    """No channel is left of an attempt, and the next turn brings one."""
    listener = await world.peers.listen(HERE)
    serving = asyncio.create_task(listener.serve(all_of))
    backoff = tofu.Backoff(0.01, 0.01)
    turns = world.group.reconnecting(listener.address, backoff=backoff)
    if phase == "closing the last":
        await anext(turns)
    elif phase == "waiting":
        turns._attempts = 1  # one has failed
    outcome = yield turns.__anext__()
    assert outcome.cancelled or outcome.completed
    if outcome.cancelled:
        await until(lambda: world.engine.statistics().channels == 0)
    channel = await anext(turns)
    assert channel.state is State.OPEN
    assert world.engine.statistics().channels == 1
    await turns.aclose()
    await listener.aclose()
    await finished(serving)


async def ending_a_turn(world: World) -> Promise:
    """The turn's channel is closed, whatever happens."""
    listener = await world.peers.listen(HERE)
    serving = asyncio.create_task(listener.serve(all_of))
    turns = world.group.reconnecting(listener.address)
    channel = await anext(turns)
    yield turns.aclose()
    assert channel.state is State.CLOSED
    await until(lambda: world.engine.statistics().channels == 0)
    await listener.aclose()
    await finished(serving)


async def connecting_over_tls(world: World) -> Promise:
    """Cancelled, no channel on this side; and the server's side ends."""
    listener = await world.peers.listen(HERE, ssl=server_context())
    serving = asyncio.create_task(listener.serve(all_of))
    outcome = yield world.group.connect(listener.address, ssl=client_context())
    if outcome.completed:
        await outcome.result.aclose()
    await until(lambda: world.engine.statistics().channels == 0)
    await until(lambda: world.there.statistics().channels == 1)
    await listener.aclose()
    await finished(serving)


async def accepting_over_tls(world: World) -> Promise:
    """No channel is lost."""
    listener = await world.group.listen(HERE, ssl=server_context())
    client = asyncio.create_task(world.peers.connect(listener.address, ssl=client_context()))
    outcome = yield listener.accept()
    channel = outcome.result if outcome.completed else await listener.accept()
    (connected,) = await finished(client)
    await asyncio.gather(channel.aclose(), connected.aclose())
    await listener.aclose()


PHASES: Final = ["attempt", "waiting", "closing the last"]

CASES: Final[dict[str, Case]] = {
    "Channel.reject": rejecting,
    "Listener.receive_hello": hearing_hello,
    "Listener.serve, deciding": serving_with_a_decision,
    **{f"Reconnecting.__anext__, {phase}": partial(reconnecting, phase=phase) for phase in PHASES},
    "Reconnecting.aclose": ending_a_turn,
    "ChannelGroup.connect, TLS": connecting_over_tls,
    "Listener.accept, TLS": accepting_over_tls,
}
