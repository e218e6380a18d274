"""What becomes of the blocking face when its process ends, forks, or is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import tofu_aio as tofu
from tests.blocking.conftest import PATIENCE, Beside
from tofu_aio import OpCode, blocking
from tofu_aio.blocking.waiting import OneShotEvent

BEGINNING = """
import asyncio, logging, os, signal, sys, threading, time
import tofu_aio as tofu
from tofu_aio import blocking

address = sys.argv[1]
# In development mode a callback that took 0.1 s is a warning, and on a busy machine any may be.
logging.getLogger("asyncio").setLevel(logging.ERROR)
"""

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither forks nor SIGINT")


@contextmanager
def process(address: tofu.Address, code: str) -> Iterator[subprocess.Popen[str]]:
    """A Python of its own that runs the code, told the address of the test's listener."""
    program = BEGINNING + textwrap.dedent(code)
    running = subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program, str(address)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with running:
        try:
            yield running
        finally:
            running.kill()


def finished(running: subprocess.Popen[str]) -> tuple[int, str, str]:
    """What the process has left."""
    out, err = running.communicate(timeout=PATIENCE * 2)
    return running.returncode, out, err


LEFT_OPEN = {
    "a channel": """
        channel = blocking.connect(address)
        channel.signal(b"sent")
    """,
    "everything": """
        engine = blocking.Engine().__enter__()
        group = engine.create_group()
        listener = group.listen("tcp://localhost:0")
        channel = group.connect(address)
        channel.signal(b"sent")
        other = blocking.Engine().__enter__()
    """,
    "a thread that waits": """
        channel = blocking.connect(address)
        channel.signal(b"sent")
        for waiting in (channel.receive, channel.request):
            threading.Thread(target=waiting, daemon=True).start()
        while channel._thread.call(lambda: len(channel._thread._calls.running)) < 3:
            pass
    """,
    "a thread that goes on after the main one": """
        channel = blocking.connect(address)
        def go_on():
            threading.main_thread().join()
            channel.signal(b"sent")
        threading.Thread(target=go_on).start()
    """,
    "what the program closes itself at exit": """
        import atexit
        def before():
            channel.signal(b"sent")
        def after():
            channel.close()
            try:
                channel.receive()
            except tofu.ShutdownStarted:
                pass
        atexit.register(after)
        channel = blocking.connect(address)
        atexit.register(before)
    """,
    "a name that is being looked up": """
        import socket
        asked = threading.Event()
        def never(*_, **__):
            asked.set()
            time.sleep(0.3)  # the main thread has ended long before
            raise OSError("too late")
        channel = blocking.connect(address)
        channel.signal(b"sent")
        socket.getaddrinfo = never
        def listen():
            try:
                blocking.Engine().__enter__().create_group().listen("tcp://name:0")
            except tofu.TofuError:
                pass
        threading.Thread(target=listen, daemon=True).start()
        asked.wait()
    """,
}


@pytest.mark.parametrize("code", LEFT_OPEN.values(), ids=LEFT_OPEN)
def test_a_process_ends_whatever_it_left_open(listener: blocking.Listener, code: str) -> None:
    """It prints nothing, and its peers have all that it sent, and its Bye."""
    with process(listener.address, code) as running:
        channel = listener.accept(PATIENCE)
        received = [message.body for message in channel if message.op_code is OpCode.SIGNAL]
        assert received == [b"sent"]
        assert finished(running) == (0, "", "")
        channel.close()


OUTLIVING = """
    entered = threading.Event()

    def work():
        with blocking.Engine() as engine, engine.create_group() as group:
            entered.set()  # some Pythons start no thread after the main thread has ended
            threading.main_thread().join()
            group.listen("tcp://127.0.0.1:0").close()
            with group.connect(address) as channel:
                channel.signal(b"connected")

    threading.Thread(target=work).start()
    entered.wait()
"""


def test_a_thread_that_outlives_the_main_thread_goes_on(listener: blocking.Listener) -> None:
    """``concurrent.futures``, and so every loop's executor, takes no work from it any more."""
    with process(listener.address, OUTLIVING) as running:
        with listener.accept(PATIENCE) as channel, channel.receive(PATIENCE) as message:
            assert message.body == b"connected"
        assert finished(running) == (0, "", "")


STARTING_THREADS = """
    def work():
        threading.main_thread().join()
        threading.Thread(target=print, args=("started",)).start()

    threading.Thread(target=work).start()
"""

STARTING_ANEW = """
    name = address.replace("127.0.0.1", "localhost")  # which takes a thread to look up

    def work():
        threading.main_thread().join()
        with blocking.connect(name) as channel:
            channel.signal(b"connected")
        for channel in blocking.reconnecting(name, headers=lambda: {"Made": "in a thread"}):
            channel.signal(b"reconnected")
            break

    threading.Thread(target=work).start()
"""


def test_a_thread_that_outlives_the_main_thread_may_begin_anew(listener: blocking.Listener) -> None:
    with process(listener.address, STARTING_THREADS) as running:
        if finished(running)[1] != "started\n":
            pytest.skip("this Python starts no threads once its main thread has ended")
    with process(listener.address, STARTING_ANEW) as running:
        for wanted in (b"connected", b"reconnected"):
            with listener.accept(PATIENCE) as channel, channel.receive(PATIENCE) as message:
                assert message.body == wanted
        assert finished(running) == (0, "", "")


@posix
def test_a_child_has_nothing_of_its_parent(listener: blocking.Listener) -> None:
    code = """
    import warnings
    warnings.simplefilter("ignore")  # of a fork with threads, and of what the child leaves open
    engine = blocking.Engine()
    with engine, engine.create_group() as group, group.connect(address) as channel:
        child = os.fork()
        if child == 0:
            for call in (channel.receive, channel.request, engine.create_group, group.receive):
                try:
                    call()
                except RuntimeError as error:
                    assert "the engine belongs to the parent of this forked process: create" in str(error)
                else:
                    raise AssertionError
            with blocking.connect(address, body=b"child") as own:
                own.signal(b"of the child")
            sys.exit(7)  # leaves the with statements
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        channel.signal(b"of the parent")
    """
    with process(listener.address, code) as running:
        parent = listener.accept(PATIENCE)
        with listener.accept(PATIENCE) as child:
            assert [message.body for message in child] == [b"of the child"]
        assert [message.body for message in parent] == [b"of the parent"]
        parent.close()
        assert finished(running) == (0, "", "")


@posix
def test_an_engine_made_before_a_fork_is_of_use_to_the_child_that_enters_it(
    listener: blocking.Listener,
) -> None:
    code = """
    import threading
    engine = blocking.Engine()
    child = os.fork()
    if child == 0:
        with engine, engine.create_group() as group, group.connect(address) as channel:
            channel.signal(b"of the child")
        assert threading.enumerate() == [threading.main_thread()]
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    with engine, engine.create_group() as group, group.connect(address) as channel:
        channel.signal(b"of the parent")
    """
    with process(listener.address, code) as running:
        for wanted in (b"of the child", b"of the parent"):
            with listener.accept(PATIENCE) as channel:
                assert [message.body for message in channel] == [wanted]
        assert finished(running) == (0, "", "")


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
def test_ctrl_c_ends_whatever_waits(listener: blocking.Listener, call: str) -> None:
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
                lambda: (len(thread._calls.running), channel._channel._connection.sent)
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
    """What is left is aborted, and the process ends at once."""
    code = """
    def interrupt():
        while channel.state is not tofu.State.BYE_SENT:
            pass
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    channel = blocking.connect(address)
    threading.Thread(target=interrupt).start()
    try:
        channel._on_closed()  # the engine, with all that it has
    except KeyboardInterrupt:
        print("interrupted")
    """
    with process(listener.address, code) as running:
        channel = listener.accept(PATIENCE)
        channel._channel._connection._transport.pause_reading()  # type: ignore[union-attr]
        assert finished(running) == (0, "interrupted\n", "")
        channel.abort()


class Interrupted(BaseException):
    """What the handler of the signal raises here."""


@posix
def test_an_interrupted_receive_loses_no_message(
    engine: blocking.Engine, group: blocking.ChannelGroup, listener: blocking.Listener
) -> None:
    """Messages and interrupts fall together in every way there is."""
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


@posix
def test_what_an_interrupted_call_brought_is_not_lost(
    engine: blocking.Engine,
    group: blocking.ChannelGroup,
    listener: blocking.Listener,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The interrupt comes after the loop has done it and before the thread has it."""
    wait = OneShotEvent.wait
    falls = True

    def interrupted(self: OneShotEvent) -> None:
        nonlocal falls
        wait(self)
        if falls and threading.current_thread() is threading.main_thread():
            falls = False
            raise Interrupted

    monkeypatch.setattr(OneShotEvent, "wait", interrupted)

    def once_more(call: object) -> object:
        nonlocal falls
        falls = True
        with pytest.raises(Interrupted):
            call()  # type: ignore[operator]
        assert not falls
        return call()  # type: ignore[operator]

    falls = False
    before = engine.statistics().channels
    other = once_more(lambda: group.listen("tcp://127.0.0.1:0"))
    assert isinstance(other, blocking.Listener)
    assert engine.statistics().channels == before + 1
    falls = False
    connecting = Beside(lambda: group.connect(listener.address, body=b"first"))
    server = once_more(listener.accept)
    assert isinstance(server, blocking.Channel)
    client = connecting.result()
    assert isinstance(client, blocking.Channel)
    assert server.hello.body == b"first"
    client.signal(b"1")
    client.signal(b"2")
    first = once_more(server.receive)
    assert isinstance(first, tofu.Message)
    assert (first.body, server.receive().body) == (b"1", b"2")
    group.update_receiver()
    update = once_more(group.receive)
    assert isinstance(update, tofu.Message)
    assert update.status is tofu.Status.RECEIVER_UPDATE
    client.abort()
    server.abort()
    # What is brought to nobody, and cannot be given to the next, is undone.
    accepting = Beside(other.accept)
    falls = True
    with pytest.raises(Interrupted):
        group.connect(other.address)
    accepted = accepting.result()
    assert isinstance(accepted, blocking.Channel)
    with pytest.raises(tofu.PeerDisconnected):
        accepted.receive(PATIENCE)
    ends = time.monotonic() + PATIENCE
    while engine.statistics().channels != before + 1:
        assert time.monotonic() < ends


def test_the_environment_needs_no_threads_of_ours_to_import() -> None:
    code = "import threading, tofu_aio.blocking; print(threading.active_count())"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=os.environ,
    )
    assert (run.stdout, run.stderr) == ("1\n", "")
