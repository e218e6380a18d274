"""Text of a peer is quoted in the log and in errors on one line, printable and short."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial

import pytest

import tofu_aio as tofu
from tests.messaging.peers import until
from tofu_aio import Status

EVIL = "no\nERROR root: all is lost\x1b[2J\x1b]0;owned\x07" + "A" * 60_000
SHOWN = r"no\nERROR root: all is lost\x1b[2J\x1b]0;owned\x07AAA"


def check(text: str) -> None:
    assert SHOWN in text
    assert text.isprintable()
    assert len(text) < 500


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name.startswith("tofu_aio")]


async def refuse(channel: tofu.Channel) -> None:
    await channel.reject(EVIL)


async def nothing(channel: tofu.Channel) -> None:
    raise AssertionError("it was not accepted")


async def test_a_reason_in_an_error(group: tofu.ChannelGroup, listener: tofu.Listener) -> None:
    serving = asyncio.create_task(listener.serve(nothing, decide=refuse))
    with pytest.raises(tofu.ConnectFailed) as caught:
        await group.connect(listener.address)
    check(str(caught.value))
    check(str(caught.value.__cause__))
    assert caught.value.answer is not None
    assert caught.value.answer.body == EVIL.encode(), "as data it is complete"
    await listener.aclose()
    await serving


async def test_a_reason_in_the_log_of_reconnecting(
    group: tofu.ChannelGroup, listener: tofu.Listener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "tofu_aio")
    serving = asyncio.create_task(listener.serve(nothing, decide=refuse))

    async def connect() -> None:
        async for _ in group.reconnecting(listener.address):
            raise AssertionError("it was not accepted")

    connecting = asyncio.create_task(connect())
    await until(lambda: any("no connection" in text for text in logged(caplog)), "a warning")
    connecting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await connecting
    await listener.aclose()
    await serving
    told = [text for text in logged(caplog) if "refused the channel" in text]
    assert len(told) >= 2, "the attempt, and the outage"
    for text in told:
        check(text)


async def test_why_an_exchange_was_broken_off(
    group: tofu.ChannelGroup, listener: tofu.Listener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "tofu_aio")

    async def handle(channel: tofu.Channel) -> None:
        async with channel.stream(await channel.receive()) as exchange:
            async for part in exchange:
                part.release()

    serving = asyncio.create_task(listener.serve(handle))
    async with await group.connect(listener.address) as client, client.stream() as exchange:
        await exchange.send(b"first")
        await exchange.finish(EVIL.encode(), status=Status.PROCESSING_FAILED)
        await until(lambda: any("no\\nERROR" in text for text in logged(caplog)), "the log")
    await listener.aclose()
    await serving
    for text in logged(caplog):
        assert text.isprintable()
    (told,) = [text for text in logged(caplog) if "processing_failed" in text]
    check(told)


@pytest.mark.parametrize(
    "make",
    [
        partial(tofu.UdsPathNotFound, "uds:///run/internal/auth-db.sock: there is no socket"),
        partial(tofu.ConnectFailed, "tcp://10.1.2.3:9 cannot be reached"),
        partial(tofu.NotAllowed, "of another channel"),
    ],
    ids=lambda make: make.func.__name__,
)
async def test_a_failure_behind_a_decision_is_for_the_log_and_not_for_the_peer(
    group: tofu.ChannelGroup,
    listener: tofu.Listener,
    caplog: pytest.LogCaptureFixture,
    make: partial[tofu.TofuError],
) -> None:
    error = make()

    async def decide(channel: tofu.Channel) -> None:
        raise error

    serving = asyncio.create_task(listener.serve(nothing, decide=decide))
    with pytest.raises(tofu.ConnectFailed, match=r"the decision failed \(processing_failed\)$"):
        await group.connect(listener.address)
    await listener.aclose()
    await serving
    (record,) = [r for r in caplog.records if r.name.startswith("tofu_aio")]
    assert record.levelno == logging.ERROR
    assert record.exc_info
    assert record.exc_info[1] is error
