"""Options and arguments that are not allowed: the error says which, and what is allowed."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest

import tofu_aio as tofu
from tests.messaging.conftest import Connect, both_ends, listener, tcp_pair
from tests.messaging.peers import Pair, RawPeer, hello, until
from tofu_aio import Message, OpCode, Triggers

__all__ = ["both_ends", "listener", "tcp_pair"]

NOWHERE = "tcp://127.0.0.1:9"
HERE = "tcp://127.0.0.1:0"

NO_NUMBERS: list[Any] = ["5", True, b"5", [5]]


@pytest.mark.parametrize("wrong", NO_NUMBERS)
@pytest.mark.parametrize("option", ["timeout", "keepalive", "heartbeat"])
async def test_connecting_takes_numbers_of_seconds_only(
    group: tofu.ChannelGroup, engine: tofu.Engine, option: str, wrong: Any
) -> None:
    with pytest.raises(TypeError, match=rf"^{option} is .*, not a number: give .* seconds"):
        await group.connect(NOWHERE, **{option: wrong})
    assert engine.statistics().channels == 0


@pytest.mark.parametrize("wrong", NO_NUMBERS)
@pytest.mark.parametrize("option", ["hello_timeout", "keepalive", "heartbeat"])
async def test_listening_takes_numbers_of_seconds_only(
    group: tofu.ChannelGroup, engine: tofu.Engine, option: str, wrong: Any
) -> None:
    with pytest.raises(TypeError, match=rf"^{option} is .*, not a number: give .* seconds"):
        await group.listen(HERE, **{option: wrong})
    assert engine.statistics().channels == 0


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        ("timeout", math.nan),
        ("timeout", -1),
        ("keepalive", math.inf),
        ("keepalive", math.nan),
        ("keepalive", 32_768),
        ("heartbeat", math.nan),
        ("heartbeat", 86_401),
    ],
)
async def test_seconds_that_cannot_be_are_refused_for_good(
    group: tofu.ChannelGroup, option: str, wrong: float
) -> None:
    with pytest.raises(ValueError, match=rf"^{option} is .*: give .* seconds"):
        await group.connect(NOWHERE, **{option: wrong})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"^{option} is "):
        await anext(group.reconnecting(NOWHERE, **{option: wrong}))  # type: ignore[misc]


@pytest.mark.parametrize("wrong", [True, 1.5, "1"])
async def test_counts_are_whole_numbers(group: tofu.ChannelGroup, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^max_channels is .*, not an integer: give 1 or more"):
        await group.listen(HERE, max_channels=wrong)
    with pytest.raises(TypeError, match=r"^pool_messages is .*, not an integer: give 1 to "):
        tofu.Engine(wrong)


@pytest.mark.parametrize("wrong", [*NO_NUMBERS, None, math.nan, -1, -math.inf])
async def test_serving_takes_numbers_of_seconds_only(listener: tofu.Listener, wrong: Any) -> None:
    async with anyio.create_task_group() as own:
        for tasks in (None, own):
            with pytest.raises((TypeError, ValueError), match=r"^decide_timeout is .*: give 0 or"):
                await listener.serve(nothing, tasks, decide_timeout=wrong)


async def nothing(channel: tofu.Channel) -> None:
    """A handler."""


@pytest.mark.parametrize("name", ["handler", "decide"])
async def test_serving_takes_functions_only(listener: tofu.Listener, name: str) -> None:
    functions: dict[str, Any] = {"handler": nothing, name: 5}
    with pytest.raises(TypeError, match=f"^{name} is 5: give a function"):
        await listener.serve(**functions)
    with pytest.raises(TypeError, match=f"^{name} is 5: give a function"):
        await tofu.serve(address=HERE, **functions)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"backoff": 5}, r"^backoff is 5: give a Backoff, such as Backoff\("),
        ({"backoff": 0}, r"^backoff is 0: give a Backoff, such as Backoff\("),
        ({"on_failure": "log"}, "^on_failure is 'log': give a function"),
    ],
)
async def test_reconnecting_takes_what_it_is_for(
    group: tofu.ChannelGroup, option: dict[str, Any], words: str
) -> None:
    with pytest.raises(TypeError, match=words):
        group.reconnecting(NOWHERE, **option)
    with pytest.raises(TypeError, match=words):
        tofu.reconnecting(NOWHERE, **option)


async def test_a_request_checks_its_timeout_before_it_is_sent(tcp_pair: Pair) -> None:
    sent = tcp_pair.client.statistics().sent
    for wrong in (math.nan, -1):
        with pytest.raises(ValueError, match=r"^timeout is .* give 0 or more seconds"):
            await tcp_pair.client.request(timeout=wrong)
    with pytest.raises(TypeError, match=r"^timeout is '5', not a number"):
        await tcp_pair.client.request(timeout="5")  # type: ignore[arg-type]
    assert tcp_pair.client.statistics().sent == sent


async def test_what_is_no_message_goes_nowhere(group: tofu.ChannelGroup) -> None:
    for give in (group.post, group.update_receiver):
        with pytest.raises(TypeError, match=r"'hello' is not a message"):
            give("hello")  # type: ignore[operator]
    group.update_receiver()
    assert (await group.receive()).status is tofu.Status.RECEIVER_UPDATE


async def test_a_group_that_is_closed_leaves_a_message_its_permit(engine: tofu.Engine) -> None:
    message = engine.get(tofu.Allocation.POOL_ONLY)
    assert message is not None
    free = engine.statistics().pool_free
    group = engine.create_group()
    await group.aclose()
    with pytest.raises(tofu.ChannelClosed):
        group.update_receiver(message)
    assert engine.statistics().pool_free == free
    message.release()
    assert engine.statistics().pool_free == free + 1


async def test_triggers_tell_a_decision_that_is_due(listener: tofu.Listener) -> None:
    with await RawPeer.connect(listener.address) as peer:
        await peer.send(hello(listener.address))
        channel = await listener.receive_hello()
        assert channel.triggers == Triggers.ACCEPT
        channel.accept()
        assert Triggers.RECV in channel.triggers
        channel.abort()


async def test_triggers_tell_a_peer_that_was_lost(tcp_pair: Pair) -> None:
    tcp_pair.client.abort()
    await until(lambda: tcp_pair.server.end)
    assert tcp_pair.server.triggers == Triggers.ERROR


async def test_engines_and_groups_say_what_they_have(
    engine: tofu.Engine, group: tofu.ChannelGroup, both_ends: Connect
) -> None:
    async with both_ends(group):
        group.update_receiver(Message(OpCode.SIGNAL))
        assert repr(engine) == "<Engine open channels=2 free=8/8>"
        assert repr(group) == "<ChannelGroup open channels=2 waiting=1>"
    await group.aclose()
    assert repr(group) == "<ChannelGroup closed channels=0 waiting=0>"
    assert repr(tofu.Engine(3)) == "<Engine closed channels=0 free=3/3>"
