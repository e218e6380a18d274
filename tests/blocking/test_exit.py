"""What the interpreter does at exit with engines that were left open."""

from __future__ import annotations

import pytest

from tests.blocking.conftest import PATIENCE
from tests.blocking.processes import finished, process
from tofu_aio import OpCode, blocking

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
    """It prints nothing, and its peers get everything that it sent, and its Bye."""
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
    """``concurrent.futures``, and so every loop's executor, accepts no work from it any more."""
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
    name = address.replace("127.0.0.1", "localhost")  # a name that a thread looks up

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
