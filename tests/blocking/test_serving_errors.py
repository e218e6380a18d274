"""Errors of handlers and decisions in threads: they mean the same as in the async API."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

import tofu_aio as tofu
from tests.blocking.conftest import PATIENCE, Beside
from tests.handlers import FAULTS, THE_PEERS, Raised, told
from tofu_aio import State, Status, blocking


@pytest.fixture(autouse=True)
def listening(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@contextmanager
def serving(
    listener: blocking.Listener,
    handler: Callable[[blocking.Channel], object],
    decide: Callable[[blocking.Channel], object] | None = None,
) -> Iterator[None]:
    beside = Beside(lambda: listener.serve(handler, decide=decide))
    try:
        yield
    finally:
        listener.close()
        beside.result()


@pytest.mark.parametrize("raised", THE_PEERS)
def test_what_the_peer_has_done_ends_the_channel_in_order_and_is_no_error(
    group: blocking.ChannelGroup,
    listener: blocking.Listener,
    caplog: pytest.LogCaptureFixture,
    raised: Raised,
) -> None:
    def handler(channel: blocking.Channel) -> None:
        raise raised(channel.number)

    with (
        serving(listener, handler),
        group.connect(listener.address) as client,
        pytest.raises(tofu.ChannelEnded),
    ):
        client.receive(PATIENCE)
    (record,) = told(caplog)
    assert (record.levelno, record.exc_info) == (logging.INFO, None)


def iterates(channel: blocking.Channel) -> None:
    for message in channel:
        message.release()


def receives(channel: blocking.Channel) -> None:
    channel.receive()


def asks(channel: blocking.Channel) -> None:
    channel.request(b"are you there?")


def heard(client: blocking.Channel) -> None:
    """Receive all messages and answer none."""
    with client:
        iterates(client)


@pytest.mark.parametrize("handler", [iterates, receives, asks])
def test_to_close_the_engine_ends_its_channels_in_order_and_is_nobody_s_fault(
    group: blocking.ChannelGroup,
    caplog: pytest.LogCaptureFixture,
    handler: Callable[[blocking.Channel], object],
) -> None:
    begun = threading.Semaphore(0)

    def noted(channel: blocking.Channel) -> None:
        begun.release()
        handler(channel)

    with blocking.Engine() as closing:
        listener = closing.create_group().listen("tcp://127.0.0.1:0")
        beside = Beside(lambda: listener.serve(noted))
        clients = [group.connect(listener.address) for _ in range(2)]
        hearing = [Beside(partial(heard, client)) for client in clients]
        for _ in clients:
            assert begun.acquire(timeout=PATIENCE)
        closing.close()
        beside.result()
    for client, listening in zip(clients, hearing, strict=True):
        listening.result()
        assert isinstance(client.end, tofu.ChannelEnded)
    assert {(record.levelno, record.exc_info) for record in told(caplog)} == {(logging.INFO, None)}


@pytest.mark.parametrize("raised", FAULTS)
def test_a_fault_resets_the_channel_and_is_an_error(
    group: blocking.ChannelGroup,
    listener: blocking.Listener,
    caplog: pytest.LogCaptureFixture,
    raised: Raised,
) -> None:
    error: list[Exception] = []

    def handler(channel: blocking.Channel) -> None:
        error.append(raised(channel.number))
        raise error[0]

    with (
        serving(listener, handler),
        group.connect(listener.address) as client,
        pytest.raises(tofu.PeerDisconnected),
    ):
        client.receive(PATIENCE)
    (record,) = told(caplog)
    assert record.levelno == logging.ERROR
    assert record.exc_info
    assert record.exc_info[1] is error[0], (
        "the whole group, including the errors that the peer caused"
    )
    assert record.getMessage().startswith("the handler of <Channel ")


@pytest.mark.parametrize("in_a_group", [False, True])
def test_a_handler_whose_peer_was_lost_has_made_no_error(
    group: blocking.ChannelGroup,
    listener: blocking.Listener,
    caplog: pytest.LogCaptureFixture,
    in_a_group: bool,
) -> None:
    handled = threading.Event()

    def handler(channel: blocking.Channel) -> None:
        try:
            channel.signal(b"go")
            channel.receive(PATIENCE)
        except tofu.PeerDisconnected as error:
            if in_a_group:
                raise ExceptionGroup("tasks", [error]) from None
            raise
        finally:
            handled.set()

    with serving(listener, handler):
        client = group.connect(listener.address)
        client.receive(PATIENCE)  # otherwise the handler might never start
        client.abort()
        assert handled.wait(PATIENCE)
    (record,) = told(caplog)
    assert (record.levelno, record.exc_info) == (logging.INFO, None)


def test_a_handler_that_asks_as_the_engine_begins_to_close_has_made_no_error(
    group: blocking.ChannelGroup, caplog: pytest.LogCaptureFixture
) -> None:
    """Its channel is still open at that moment."""
    begun = threading.Event()
    with blocking.Engine() as engine:

        def handler(channel: blocking.Channel) -> None:
            assert channel.state is State.OPEN
            engine._thread._open = False
            begun.set()
            channel.request(b"?")

        listener = engine.create_group().listen("tcp://127.0.0.1:0")
        beside = Beside(lambda: listener.serve(handler))
        hearing = Beside(partial(heard, group.connect(listener.address)))
        assert begun.wait(PATIENCE)
        engine.close()
        beside.result()
        hearing.result()
    (record,) = told(caplog)
    assert (record.levelno, record.exc_info) == (logging.INFO, None)
    assert record.getMessage().endswith("the engine was closed")


def test_a_bug_after_the_engine_was_closed_is_still_one(
    caplog: pytest.LogCaptureFixture, loop_factory: tofu.reactor.LoopFactory
) -> None:
    inside, closed = threading.Event(), threading.Event()

    def handler(channel: blocking.Channel) -> None:
        inside.set()
        assert closed.wait(PATIENCE)
        raise ZeroDivisionError("tidying up")

    with blocking.serve(handler, "tcp://127.0.0.1:0", loop_factory=loop_factory) as server:
        beside = Beside(server.serve_forever)
        client = blocking.connect(server.address, loop_factory=loop_factory)
        assert inside.wait(PATIENCE)
        closing = Beside(client.close)
        server.close()
        closing.result()
        closed.set()
        beside.result()
    (record,) = told(caplog)
    assert record.levelno == logging.ERROR


def test_a_decision_s_refusal_is_told_and_its_bug_is_logged(
    group: blocking.ChannelGroup, listener: blocking.Listener, caplog: pytest.LogCaptureFixture
) -> None:
    def decide(channel: blocking.Channel) -> None:
        if channel.hello.body == b"bug":
            raise ZeroDivisionError("a secret")
        raise tofu.Rejected("next door" * 10_000, Status.WRONG_ADDRESS)

    def handler(channel: blocking.Channel) -> None:
        raise AssertionError("it was not accepted")

    with serving(listener, handler, decide):
        with pytest.raises(tofu.ConnectFailed, match=r"next door.* \(wrong_address\)$"):
            group.connect(listener.address)
        assert told(caplog) == []
        with pytest.raises(tofu.ConnectFailed, match=r"the decision failed \(processing_failed\)$"):
            group.connect(listener.address, body=b"bug")
    (record,) = told(caplog)
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("the decision on <Channel ")


def test_a_decision_on_a_peer_that_has_left_ends_quietly(
    group: blocking.ChannelGroup, listener: blocking.Listener, caplog: pytest.LogCaptureFixture
) -> None:
    def decide(channel: blocking.Channel) -> None:
        while channel.state is State.HELLO_HEARD:
            time.sleep(0.001)
        if channel.hello.body == b"refused":
            raise tofu.Rejected("to nobody")

    def handler(channel: blocking.Channel) -> None:
        raise AssertionError("it has left")

    with serving(listener, handler, decide):
        for body in (b"refused", b"accepted"):
            with pytest.raises(tofu.ConnectFailed):
                group.connect(listener.address, body=body, timeout=0.05)
    assert told(caplog) == []


@pytest.mark.parametrize("leaving", [SystemExit, KeyboardInterrupt])
def test_what_ends_a_handler_s_thread_ends_its_channel_in_order_and_no_other(
    group: blocking.ChannelGroup,
    listener: blocking.Listener,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    leaving: type[BaseException],
) -> None:
    """As in any thread: SystemExit ends it silently, others call ``threading.excepthook``."""
    seen: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_value))

    def handler(channel: blocking.Channel) -> None:
        if channel.hello.body == b"leave":
            raise leaving
        for message in channel:
            channel.reply(message, message.body)

    with serving(listener, handler):
        with (
            group.connect(listener.address, body=b"leave") as client,
            pytest.raises(tofu.ChannelEnded),
        ):
            client.receive(PATIENCE)
        with group.connect(listener.address) as client:
            assert client.request(b"still here", timeout=PATIENCE).body == b"still here"
    assert [type(error) for error in seen] == [leaving]
    seen.clear()
    assert told(caplog) == []
