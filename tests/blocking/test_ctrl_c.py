"""Calls that Ctrl-C interrupts."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

import pytest

import tofu_aio as tofu
from tests.blocking.conftest import PATIENCE, Beside
from tests.blocking.interrupting import Interrupted
from tests.blocking.processes import finished, posix, process
from tofu_aio import blocking
from tofu_aio.blocking.waiting import OneShotEvent

INTERRUPTED = {
    "receive": "channel.receive()",
    "request": "channel.request()",
    "accept": "listener.accept()",
    "group": "group.receive()",
    "connect": "group.connect(silent)",
    "send": """[channel.signal(bytes(65535)) for _ in iter(int, 1)]""",
}


@posix
@pytest.mark.parametrize("call", INTERRUPTED.values(), ids=INTERRUPTED)
def test_ctrl_c_ends_every_call_that_waits(listener: blocking.Listener, call: str) -> None:
    code = f"""
    import socket
    nobody = socket.create_server(("127.0.0.1", 0))
    silent = f"tcp://127.0.0.1:{{nobody.getsockname()[1]}}"
    engine = blocking.Engine()
    with engine, engine.create_group() as group, group.connect(address) as channel:
        listener = group.listen("tcp://127.0.0.1:0")
        def interrupt():
            thread = engine._thread
            before = None
            while before != (before := thread.call(
                lambda: (len(thread._calls.running), channel._channel._connection.queue.sent)
            )) or before[0] != 2:
                pass
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        threading.Thread(target=interrupt).start()
        try:
            {call}
        except KeyboardInterrupt:
            print("interrupted")
        channel.abort()
        assert engine.statistics().channels <= 2
    nobody.close()
    """
    with process(listener.address, code) as running:
        channel = listener.accept(PATIENCE)
        assert finished(running) == (0, "interrupted\n", "")
        channel.abort()


@posix
def test_ctrl_c_ends_a_close_that_waits_for_its_peer(listener: blocking.Listener) -> None:
    """The channel is aborted, and the process ends at once."""
    code = """
    def interrupt():
        while channel.state is not tofu.State.BYE_SENT:
            pass
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    channel = blocking.connect(address)
    threading.Thread(target=interrupt).start()
    try:
        channel._on_closed()  # closes the engine
    except KeyboardInterrupt:
        print("interrupted")
    """
    with process(listener.address, code) as running:
        channel = listener.receive_hello(PATIENCE)
        channel._channel._connection.queue.transport.pause_reading()  # type: ignore[union-attr]
        channel.accept()
        assert finished(running) == (0, "interrupted\n", "")
        channel.abort()


@posix
def test_an_interrupted_receive_loses_no_message(
    engine: blocking.Engine, group: blocking.ChannelGroup, listener: blocking.Listener
) -> None:
    """Messages and interrupts arrive in every order."""
    accepting = Beside(listener.accept)
    client = group.connect(listener.address)
    server = accepting.result()
    assert isinstance(server, blocking.Channel)
    count = 150
    received: list[int] = []
    interrupts = 0
    waiting = False
    taken = threading.Semaphore(0)
    main = threading.main_thread().ident
    assert main is not None

    def interrupt(*_: object) -> None:
        nonlocal interrupts
        if waiting:
            interrupts += 1
            raise Interrupted

    def send() -> None:
        for number in range(count):
            client.signal(b"%d" % number)
            signal.pthread_kill(main, signal.SIGUSR1)
            assert taken.acquire(timeout=PATIENCE)

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        sending = Beside(send)
        while len(received) < count:
            message = None
            try:
                waiting = True
                message = server.receive(PATIENCE)
                waiting = False
            except Interrupted:
                pass
            waiting = False
            if message is not None:
                received.append(int(message.body))
                taken.release()
        sending.result()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert received == list(range(count))
    assert interrupts
    client.abort()
    server.abort()


class OneInterrupt:
    """Interrupts a call in the main thread after the loop has its result.

    Attributes:
        due: whether the next call is interrupted.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.due = False
        wait = OneShotEvent.wait

        def interrupted(event: OneShotEvent) -> None:
            wait(event)
            if self.due and threading.current_thread() is threading.main_thread():
                self.due = False
                raise Interrupted

        monkeypatch.setattr(OneShotEvent, "wait", interrupted)

    def then_repeated(self, call: Callable[[], object]) -> object:
        """Make the call, which is interrupted, and make it again."""
        self.due = True
        with pytest.raises(Interrupted):
            call()
        assert not self.due
        return call()


@posix
def test_the_result_of_an_interrupted_call_is_not_lost(
    engine: blocking.Engine,
    group: blocking.ChannelGroup,
    listener: blocking.Listener,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupt = OneInterrupt(monkeypatch)
    before = engine.statistics().channels
    other = interrupt.then_repeated(lambda: group.listen("tcp://127.0.0.1:0"))
    assert isinstance(other, blocking.Listener)
    assert engine.statistics().channels == before + 1
    connecting = Beside(lambda: group.connect(listener.address, body=b"first"))
    server = interrupt.then_repeated(listener.accept)
    assert isinstance(server, blocking.Channel)
    client = connecting.result()
    assert isinstance(client, blocking.Channel)
    assert server.hello.body == b"first"
    client.signal(b"1")
    client.signal(b"2")
    first = interrupt.then_repeated(server.receive)
    assert isinstance(first, tofu.Message)
    assert (first.body, server.receive().body) == (b"1", b"2")
    group.update_receiver()
    update = interrupt.then_repeated(group.receive)
    assert isinstance(update, tofu.Message)
    assert update.status is tofu.Status.RECEIVER_UPDATE
    client.abort()
    server.abort()
    # A new channel cannot be returned by the next call, so it is reset.
    accepting = Beside(other.accept)
    interrupt.due = True
    with pytest.raises(Interrupted):
        group.connect(other.address)
    accepted = accepting.result()
    assert isinstance(accepted, blocking.Channel)
    with pytest.raises(tofu.PeerDisconnected):
        accepted.receive(PATIENCE)
    ends = time.monotonic() + PATIENCE
    while engine.statistics().channels != before + 1:
        assert time.monotonic() < ends
