"""Two real peers, each with an engine of its own, and a relay between them that cuts."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import tofu_aio as tofu
from tests.faults.conftest import BEAT
from tests.faults.cutting import Cut, Relay, Street, street
from tests.faults.flows import UNSEEN, Answers, Flow, Posted, Say, Script, Story, word_for
from tests.messaging.peers import PATIENCE, turns, until
from tests.messaging.posting.test_posted import listening
from tofu_aio import OpCode, Status

DEADLINE: Final = 2.0
"""Seconds for opening where nothing passes any more, and for noticing that nothing does."""
RARELY: Final = 3600.0
"""Seconds between heartbeats of which there is to be no more than the first."""


class Peers(NamedTuple):
    """Who takes part."""

    client: tofu.ChannelGroup
    server: tofu.ChannelGroup
    street: Street


@asynccontextmanager
async def peers(kind: str) -> AsyncIterator[Peers]:
    """Both engines; when they have closed neither has anything left."""
    engines = tofu.Engine(pool_messages=4), tofu.Engine(pool_messages=4)
    async with asyncio.timeout(PATIENCE):
        with street(kind) as where:
            async with engines[0], engines[1]:
                yield Peers(*(engine.create_group() for engine in engines), where)
    for engine in engines:
        left = engine.statistics()
        if (left.pool_free, left.reserves) != (left.pool_size, 0):
            gc.collect()
            left = engine.statistics()
        assert (left.pool_free, left.reserves, left.joining_bytes) == (left.pool_size, 0, 0), left
        assert (left.waiting, left.over_share, left.channels) == (0, 0, 0), left


async def follow(relay: Relay, flow: Flow | Posted, cut: Cut | None) -> None:
    """Carry what may pass, then cut; without a cut, carry and record all there is."""
    if cut is None:
        await relay.record(len(flow.server_ends) - 1, len(flow.client_ends) - 1)
        await relay.cut("fin")
    else:
        await relay.carry(cut.there, cut.back)
        await relay.cut(cut.how)


# --- streams -----------------------------------------------------------------------------------


async def _side(
    opening: Awaitable[tofu.Channel],
    script: Script,
    both: asyncio.Barrier,
    patience: float,
) -> str:
    story: Story = []
    channel: tofu.Channel | None = None
    try:
        channel = await opening
        story.append("hello")
        async with asyncio.timeout(patience):
            await script(channel, story, both)
    except tofu.ConnectFailed as error:
        story.append(reason_of(error))
    except tofu.TofuError as error:
        story.append(type(error).__name__)
    except TimeoutError:
        pass  # nobody says anything any more: closing must do
    if channel is None:
        return " ".join(story)
    await channel.aclose()
    return f"{' '.join(story)}/{type(channel.end).__name__}"


def reason_of(error: tofu.ConnectFailed) -> str:
    """Why there is no channel, in a word; and in the server's words, if it has said some."""
    cause = error.__cause__
    if cause is None:
        return "ConnectFailed"
    words = f": {cause}" if isinstance(cause, tofu.NotAllowed) else ""
    return f"ConnectFailed<{type(cause).__name__}{words}"


async def stream(flow: Flow, kind: str, cut: Cut | None = None) -> tuple[str, str, Relay]:
    """Run a flow, cut it, and tell both stories. Without a cut: once all was said."""
    silence = cut is not None and cut.how == "silence"
    patience = DEADLINE if silence else PATIENCE
    beat = (BEAT if silence else RARELY) if flow.heartbeats else None
    async with peers(kind) as (here, there, street):
        listener = await there.listen(
            street.where, hello_timeout=patience, heartbeat=None, ssl=street.server_ssl
        )
        both = asyncio.Barrier(2)
        with Relay(listener.address, street) as relay:
            connecting = here.connect(
                relay.address, timeout=patience, heartbeat=beat, ssl=street.client_ssl
            )
            client = asyncio.create_task(_side(connecting, flow.client, both, patience))
            server = asyncio.create_task(_side(flow.opening(listener), flow.server, both, patience))
            await follow(relay, flow, cut)
            first = await client
            # The server may never have seen a channel, and then waits for the next one.
            await until(lambda: server.done() or len(there._members.numbers) <= 1)
            await listener.aclose()
            second = await server
        return first, second.removeprefix("ChannelClosed"), relay


async def crowded(flow: Flow, kind: str, cut: Cut | None = None) -> tuple[str, str, Relay]:
    """As ``stream``, with a listener for one channel, which another client has.

    That one leaves after the cut. Whatever became of the cut client, the next one has its place.
    """
    async with peers(kind) as (here, there, street):
        listener = await there.listen(street.where, max_channels=1)
        first = await asyncio.gather(here.connect(listener.address), listener.accept())
        both = asyncio.Barrier(2)
        with Relay(listener.address, street) as relay:
            connecting = here.connect(relay.address)
            client = asyncio.create_task(_side(connecting, flow.client, both, PATIENCE))
            following = asyncio.create_task(follow(relay, flow, cut))
            await client
            await asyncio.gather(*(channel.aclose() for channel in first))
            coming = asyncio.create_task(here.connect(listener.address, body=b"next"))
            server = ""
            while not (channel := await listener.accept()).hello.body:
                server = await _side(_now(channel), flow.server, both, PATIENCE)
            await following
            await asyncio.gather(channel.aclose(), (await coming).aclose())
        await listener.aclose()
        return await client, server, relay


async def _now(channel: tofu.Channel) -> tofu.Channel:
    return channel


# --- messages ----------------------------------------------------------------------------------


def _post_all(group: tofu.ChannelGroup, asked: tofu.Message, says: list[Say]) -> None:
    number = asked.message_id if asked.op_code is OpCode.REQUEST else 0
    for say in says:
        message = tofu.Message(say.op_code, say.text.encode(), say.headers, number, say.more)
        message.channel_number = asked.channel_number
        try:
            sent = group.post(message).message_id
        except (tofu.PeerDisconnected, tofu.InvalidChannelNumber):
            return  # the loss has been noticed: it is in the mailbox
        number = sent if say.more else 0


async def _posting(group: tofu.ChannelGroup, answers: Answers) -> str:
    """Answer what comes, until the channel is closed."""
    story: Story = []
    while True:
        with await group.receive() as message:
            story.append(word_for(message))
            if story[-1].endswith("=peer_disconnected"):
                story.pop()  # our own, which the loss kept from being sent
                continue
            if message.status is Status.CHANNEL_CLOSED:
                return " ".join(story)
            _post_all(group, message, answers.get(story[-1], []))


async def messages(flow: Posted, kind: str, cut: Cut | None = None) -> tuple[str, str, Relay]:
    """As ``stream``, at the altitude of messages."""
    async with peers(kind) as (here, there, street):
        number, address = await listening(there, street.where)
        with Relay(address, street) as relay:
            client = asyncio.create_task(_posting(here, flow.client))
            server = asyncio.create_task(_posting(there, flow.server))
            hello = {"~connect_to": relay.address.to_header()}
            here.post(tofu.Message(OpCode.HELLO_REQUEST, headers=hello))
            await follow(relay, flow, cut)
            first = await client
            # The server may never have seen a channel, and then hears of its listener's end only.
            await until(lambda: server.done() or len(there._members.numbers) <= 1)
            bye = tofu.Message(OpCode.BYE_SIGNAL)
            bye.channel_number = number
            there.post(bye)
            second = await server
        if second != UNSEEN:
            assert word_for(await there.receive()) == "channel_closed"
        await turns(1)
        return first, second, relay
