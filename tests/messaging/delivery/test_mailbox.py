"""A queue whose receiver may be cancelled at any moment without a loss."""

from __future__ import annotations

import asyncio

import pytest
from anyio import BusyResourceError

import tofu_aio as tofu
from tests.messaging.peers import turns
from tofu_aio.messaging.delivery.mailbox import Mailbox


async def test_what_was_put_is_taken_in_order() -> None:
    mailbox: Mailbox[int] = Mailbox()
    mailbox.deliver([1, 2])
    mailbox.deliver([3])
    assert [await mailbox.receive() for _ in range(3)] == [1, 2, 3]


async def test_a_receiver_waits_for_the_first() -> None:
    mailbox: Mailbox[int] = Mailbox()
    receiver = asyncio.create_task(mailbox.receive())
    await turns(2)
    assert not receiver.done()
    mailbox.deliver([1, 2])
    assert await receiver == 1
    assert await mailbox.receive() == 2


async def test_the_end_comes_after_all_that_is_here_and_again_and_again() -> None:
    mailbox: Mailbox[int] = Mailbox()
    mailbox.deliver([1])
    end = tofu.ChannelEnded("the end")
    mailbox.finish(end)
    assert await mailbox.receive() == 1
    for _ in range(2):
        with pytest.raises(tofu.ChannelEnded, match="the end") as caught:
            await mailbox.receive()
        assert caught.value is not end, "one object raised twice would mix up the tracebacks"


async def test_the_end_wakes_the_receiver() -> None:
    mailbox: Mailbox[int] = Mailbox()
    receiver = asyncio.create_task(mailbox.receive())
    await turns(2)
    mailbox.finish(tofu.ChannelEnded("the end"))
    with pytest.raises(tofu.ChannelEnded):
        await receiver


async def test_closing_hands_back_what_nobody_will_receive() -> None:
    mailbox: Mailbox[int] = Mailbox()
    mailbox.deliver([1, 2])
    assert mailbox.close(tofu.ChannelClosed("closed")) == [1, 2]
    with pytest.raises(tofu.ChannelClosed):
        await mailbox.receive()
    assert mailbox.close(tofu.ChannelClosed("closed")) == []


async def test_what_comes_after_closing_is_not_kept() -> None:
    """A message there would hold its permit, and be received after the end."""
    mailbox: Mailbox[int] = Mailbox()
    mailbox.close(tofu.ChannelClosed("closed"))
    mailbox.deliver([1])
    assert not mailbox.items
    with pytest.raises(tofu.ChannelClosed):
        await mailbox.receive()


@pytest.mark.parametrize("first", ["cancel", "put"])
async def test_a_cancelled_receiver_loses_nothing(first: str) -> None:
    """Also where both happen in one turn, before it has run."""
    mailbox: Mailbox[int] = Mailbox()
    receiver = asyncio.create_task(mailbox.receive())
    await turns(2)
    if first == "cancel":
        receiver.cancel()
    mailbox.deliver([1, 2])
    receiver.cancel()
    await turns(2)
    assert receiver.cancelled()
    assert [await mailbox.receive(), await mailbox.receive()] == [1, 2]


async def test_a_second_receiver_is_told_that_there_is_one() -> None:
    mailbox: Mailbox[int] = Mailbox()
    receiver = asyncio.create_task(mailbox.receive())
    await turns(1)
    with pytest.raises(BusyResourceError):
        await mailbox.receive()
    mailbox.deliver([1])
    assert await receiver == 1


async def test_after_a_cancelled_receiver_another_may_wait() -> None:
    mailbox: Mailbox[int] = Mailbox()
    receiver = asyncio.create_task(mailbox.receive())
    await turns(1)
    receiver.cancel()
    await turns(2)
    other = asyncio.create_task(mailbox.receive())
    await turns(1)
    mailbox.deliver([1])
    assert await other == 1


async def test_who_was_woken_but_came_too_late_waits_on() -> None:
    mailbox: Mailbox[int] = Mailbox()
    late = asyncio.create_task(mailbox.receive())
    await turns(1)
    mailbox.deliver([1])
    assert await mailbox.receive() == 1  # before the other has run
    await turns(2)
    assert not late.done()
    mailbox.deliver([2])
    assert await late == 2


@pytest.mark.skipif(tofu.__compiled__, reason="no signal handler runs between there")
async def test_an_end_that_comes_while_a_receiver_begins_to_wait_wakes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mailbox: Mailbox[int] = Mailbox()
    loop = asyncio.get_running_loop()

    def while_a_signal_handler_ends_it() -> asyncio.AbstractEventLoop:
        mailbox.finish(tofu.ChannelClosed("reset"))
        return loop

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "get_running_loop", while_a_signal_handler_ends_it)
        arrival = mailbox.arrival()
    assert arrival.done()
    with pytest.raises(tofu.ChannelClosed):
        await mailbox.receive()
