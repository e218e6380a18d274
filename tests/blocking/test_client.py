"""The blocking client of services: on every loop, with real sockets."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Protocol

import pytest

import tofu_aio as tofu
from tests.blocking.conftest import PATIENCE, Beside
from tests.blocking.processes import finished, posix, process
from tests.blocking.services import Service, acquired, served
from tofu_aio import blocking
from tofu_aio.reactor import LoopFactory


@pytest.fixture
def service() -> Service:
    """The handlers."""
    return Service()


@pytest.fixture
def address(service: Service, loop_factory: LoopFactory) -> Iterator[tofu.Address]:
    """Where they are served."""
    with served(service, loop_factory) as address:
        yield address


@pytest.fixture
def client(address: tofu.Address, loop_factory: LoopFactory) -> Iterator[blocking.Client]:
    """A client of them."""
    with blocking.Client(address, loop_factory=loop_factory) as client:
        yield client


# --- calls --------------------------------------------------------------------------------


def test_calls_streams_and_uploads_return_what_handlers_do(client: blocking.Client) -> None:
    assert client.call("double", 4, result=int, timeout=PATIENCE) == 8
    assert client.call("double", 4) == 8
    assert list(client.stream("count", 200, item=int)) == list(range(200))
    assert client.upload("total", range(200), result=int) == sum(range(200))
    assert client.upload("first", [b"a", b"b"], result=bytes) == b"a"
    assert client.upload("total", iter([]), result=int) == 0
    numbers = iter(range(200))
    assert list(client.stream("squares", numbers, item=int)) == [each**2 for each in range(200)]


def test_an_error_of_a_call_has_its_code_and_its_details(client: blocking.Client) -> None:
    with pytest.raises(tofu.ServiceError, match="not today") as refused:
        client.call("refuse")
    assert (refused.value.code, refused.value.details) == ("no_way", {"until": 7})
    with pytest.raises(tofu.ServiceError, match="no handler 'nothing'"):
        list(client.stream("nothing", item=int))
    with pytest.raises(tofu.ServiceError, match="no handler 'nothing'"):
        client.upload("nothing", [1], result=int)
    with pytest.raises(tofu.InvalidMessage, match="Expected `str`, got `int`"):
        client.call("double", 2, result=str)
    with pytest.raises(TypeError, match=r"use client\.stream"):
        client.call("count", 2)
    for nonsense in ("text", b"bytes", {"a": 1}, 7):
        with pytest.raises(TypeError, match="give an iterable"):
            client.upload("total", nonsense, result=int)  # type: ignore[arg-type]
    assert client.call("double", 4) == 8


def test_a_call_that_takes_too_long_is_cancelled_at_its_service(
    client: blocking.Client, service: Service
) -> None:
    with pytest.raises(TimeoutError):
        client.call("wait", timeout=0.05)
    acquired(service.cancelled)
    stream = client.stream("drip", item=int, timeout=0.1)
    with pytest.raises(TimeoutError):
        list(stream)
    acquired(service.cancelled)
    for nonsense in (-1, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            client.stream("drip", item=int, timeout=nonsense)


def test_a_stream_that_is_left_is_cancelled_at_its_service(
    client: blocking.Client, service: Service
) -> None:
    for number in client.stream("drip", item=int):
        assert number == 0
        break
    acquired(service.cancelled)
    stream = client.stream("drip", item=int)
    assert next(stream) == 0
    inner = stream.gi_frame.f_locals["stream"]
    stream.close()
    assert inner.ag_frame is None, "it has ended already"
    acquired(service.cancelled)
    assert list(stream) == []
    client.stream("drip", item=int)  # never begun


def test_a_stream_that_is_forgotten_in_a_cycle_is_cancelled_too(
    client: blocking.Client, service: Service
) -> None:
    """Even if the garbage is collected in the thread of a loop, where no call may wait."""
    cycle: list[object] = [client.stream("drip", item=int)]
    next(cycle[0])  # type: ignore[call-overload]
    cycle.append(cycle)
    del cycle

    async def collect() -> None:
        gc.collect()

    client._thread.run(collect)
    acquired(service.cancelled)


# --- items of the calling thread ----------------------------------------------------------


def test_the_items_of_an_upload_are_taken_in_the_calling_thread(client: blocking.Client) -> None:
    threads = set()

    def numbers() -> Iterator[int]:
        for number in range(5):
            threads.add(threading.current_thread())
            # The iterable may use the client.
            yield client.call("double", number, result=int)

    assert client.upload("total", numbers(), result=int) == 20
    assert list(client.stream("squares", numbers(), item=int)) == [0, 4, 16, 36, 64]
    assert threads == {threading.current_thread()}


def test_an_error_of_the_items_ends_the_call_on_both_sides(
    client: blocking.Client, service: Service
) -> None:
    def failing() -> Iterator[int]:
        yield 1
        if uploading:
            acquired(service.waiting)  # it has arrived
        raise LookupError("mine")

    uploading = True

    with pytest.raises(LookupError, match="mine"):
        client.upload("total", failing(), result=int)
    acquired(service.cancelled)
    assert isinstance(service.failures[0], tofu.ExchangeFailed | asyncio.CancelledError)
    uploading = False
    with pytest.raises(LookupError, match="mine"):
        list(client.stream("squares", failing(), item=int))
    assert client.call("double", 4) == 8


def test_an_upload_waits_for_its_receiver_and_loses_nothing(client: blocking.Client) -> None:
    parts = (bytes(60_000) for _ in range(200))
    assert client.upload("size", parts, result=int) == 200 * 60_000


def test_an_upload_takes_no_more_items_once_the_handler_has_returned(
    client: blocking.Client,
) -> None:
    """It would go on for ever."""
    endless = iter(lambda: bytes(60_000), None)
    assert client.upload("first", endless, result=bytes) == bytes(60_000)


# --- stubs --------------------------------------------------------------------------------


class Numbers(Protocol):
    """An interface with plain methods."""

    def double(self, number: int) -> int: ...
    def count(self, number: int) -> Iterator[int]: ...
    def total(self, numbers: Iterable[int]) -> int: ...
    def squares(self, numbers: Iterable[int]) -> Iterator[int]: ...
    def wait(self) -> None: ...


class AsyncNumbers(Protocol):
    """The same one as an async client needs it."""

    async def double(self, number: int) -> int: ...
    def count(self, number: int) -> AsyncIterator[int]: ...


def test_a_stub_has_plain_methods(client: blocking.Client) -> None:
    numbers = client.bind(Numbers, timeout=PATIENCE)
    assert numbers.double(4) == 8
    assert list(numbers.count(3)) == [0, 1, 2]
    assert numbers.total([1, 2]) == 3
    assert list(numbers.squares([1, 2])) == [1, 4]
    with pytest.raises(TimeoutError):
        client.bind(Numbers, timeout=0.05).wait()
    shared = client.bind(AsyncNumbers)
    assert shared.double(4) == 8  # type: ignore[comparison-overlap]
    assert list(shared.count(3)) == [0, 1, 2]  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="takes a class"):
        client.bind(len)


# --- threads ------------------------------------------------------------------------------


def test_threads_share_a_client(client: blocking.Client) -> None:
    def use(start: int) -> None:
        for number in range(start, start + 8):
            assert client.call("double", number) == 2 * number
            assert list(client.stream("count", 3, item=int)) == [0, 1, 2]
            assert client.upload("total", range(number), result=int) == sum(range(number))

    for thread in [Beside(lambda start=start: use(start)) for start in range(0, 120, 20)]:
        thread.result()


def test_a_call_from_a_handler_s_thread_ends_with_the_handler_s_own_call(
    client: blocking.Client, service: Service
) -> None:
    @service.handler("nested")
    async def nested() -> float | None:
        return await asyncio.to_thread(client.call, "left", result=float)

    assert client.call("left") is None
    left = client.call("nested", result=float, timeout=1000)
    assert 900 < left < 1001  # uvloop rounds its time
    assert client.call("left") is None


WAITING: dict[str, Callable[[blocking.Client], object]] = {
    "call": lambda client: client.call("wait"),
    "stream": lambda client: list(client.stream("drip", item=int)),
}


@pytest.mark.parametrize("waiting", ["call", "stream"])
def test_a_client_is_closed_while_another_thread_calls(
    client: blocking.Client, service: Service, waiting: str
) -> None:
    other = Beside(lambda: WAITING[waiting](client))
    acquired(service.waiting)
    client.close()
    with pytest.raises((tofu.ChannelClosed, tofu.ShutdownStarted)):
        other.result()
    acquired(service.cancelled)
    client.close()
    with pytest.raises(tofu.ShutdownStarted):
        client.call("double", 4)
    with pytest.raises(tofu.ShutdownStarted):
        client.stream("count", 4, item=int)
    with pytest.raises(tofu.ShutdownStarted):
        client.upload("total", [1], result=int)


def test_a_client_is_closed_while_another_thread_uploads(
    client: blocking.Client, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        acquired(service.waiting)
        client.close()
        yield 2

    with pytest.raises((tofu.ChannelClosed, tofu.ShutdownStarted)):
        client.upload("total", numbers(), result=int)
    acquired(service.cancelled)
    gc.collect()
    assert not caplog.records, "asyncio reports a task whose error nobody asked for"


def test_a_client_is_refused_in_a_thread_that_runs_a_loop(client: blocking.Client) -> None:
    async def call() -> None:
        with pytest.raises(RuntimeError, match="would block it"):
            client.call("double", 4)
        with pytest.raises(RuntimeError, match="would block it"):
            blocking.Client("tcp://127.0.0.1:1")

    asyncio.run(call())
    assert client.call("double", 4) == 8


# --- groups and channels ------------------------------------------------------------------


def test_a_client_uses_the_engine_of_its_group(
    group: blocking.ChannelGroup, engine: blocking.Engine, address: tofu.Address
) -> None:
    threads = threading.active_count()
    with blocking.Client(address, group=group) as client:
        assert client.call("double", 4) == 8
        assert threading.active_count() == threads
    assert engine.statistics().channels == 0
    with pytest.raises(tofu.ChannelClosed):
        client.call("double", 4)
    forgotten = blocking.Client(address, group=group)
    assert forgotten.call("double", 4) == 8


def test_a_client_calls_the_peer_of_a_channel(
    group: blocking.ChannelGroup, address: tofu.Address
) -> None:
    with group.connect(address) as channel:
        with blocking.Client(channel) as client:
            assert client.call("double", 4) == 8
        assert channel.request(headers={"call": "tofu.health"}).body
    with (
        blocking.Engine() as other,
        other.create_group() as others,
        pytest.raises(ValueError, match="several engines"),
    ):
        blocking.Client(channel, group=others)


def test_nonsense_is_told_at_once_and_leaves_no_thread() -> None:
    with pytest.raises(tofu.InvalidAddress):
        blocking.Client("nowhere")
    with pytest.raises(TypeError, match="needs an address"):
        blocking.Client()
    with pytest.raises(TypeError, match="time_out"):
        blocking.Client("tcp://127.0.0.1:1", time_out=3)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="call_timeout"):
        blocking.Client("tcp://127.0.0.1:1", call_timeout=-3)


def test_functions_for_headers_may_block(
    service: Service, address: tofu.Address, client: blocking.Client
) -> None:
    @service.handler("hello")
    async def hello(call: tofu.Call) -> str:
        return call.hello["token"]

    def headers() -> dict[str, str]:
        return {"token": str(client.call("double", 4))}

    with blocking.Client(address, headers=headers) as other:
        assert other.call("hello") == "8"


# --- processes ----------------------------------------------------------------------------

SERVER = """
service = tofu.Service()

@service.handler("wait")
async def wait():
    print("waiting", flush=True)
    await asyncio.Event().wait()

@service.handler("drip")
async def drip():
    yield 0
    print("waiting", flush=True)
    await asyncio.Event().wait()

@service.handler("total")
async def total(numbers: __import__("collections").abc.AsyncIterator[int]) -> int:
    async for number in numbers:
        print("waiting", flush=True)

tofu.run(service.serve(address))
"""


@pytest.mark.parametrize("kind", ["call", "stream", "upload"])
def test_a_server_is_killed_and_another_one_takes_over(
    loop_factory: LoopFactory, service: Service, socket_path: str, kind: str
) -> None:
    address = tofu.parse_address(f"uds://{socket_path}")
    with blocking.Client(address, loop_factory=loop_factory) as client:
        with process(address, SERVER) as running:
            assert running.stdout is not None

            def numbers() -> Iterator[int]:
                yield 1
                assert running.stdout is not None
                assert running.stdout.readline() == "waiting\n"
                running.kill()
                running.wait(PATIENCE)
                yield from iter(lambda: 1, None)

            def until_listening() -> None:
                while True:
                    try:
                        client.call("tofu.health", timeout=PATIENCE)
                    except (tofu.ConnectFailed, tofu.UdsPathNotFound):
                        continue
                    return

            until_listening()
            if kind == "upload":
                with pytest.raises((tofu.PeerDisconnected, tofu.ChannelEnded)):
                    client.upload("total", numbers(), result=int)
            else:
                other = Beside(lambda: WAITING[kind](client))
                assert running.stdout.readline() == "waiting\n"
                running.kill()
                with pytest.raises((tofu.PeerDisconnected, tofu.ChannelEnded)):
                    other.result()
        with served(service, loop_factory, address):
            until_listening()
            assert client.call("double", 4) == 8
            assert list(client.stream("count", 2, item=int)) == [0, 1]
            assert client.upload("total", [1, 2], result=int) == 3


INTERRUPTED = {
    "call": "client.call('wait')",
    "stream": "list(client.stream('drip', item=int))",
    "upload": "client.upload('total', numbers(), result=int)",
}


@posix
@pytest.mark.parametrize("kind", INTERRUPTED)
def test_ctrl_c_ends_a_call_and_its_handler(
    service: Service, address: tofu.Address, kind: str
) -> None:
    code = f"""
    def numbers():
        yield 1
        print("waiting", flush=True)
        while True:
            time.sleep(0.01)  # Python would handle a signal that comes just before it after it
    with blocking.Client(address) as client:
        client.call("double", 4)
        print("ready", flush=True)
        try:
            {INTERRUPTED[kind]}
        except KeyboardInterrupt:
            print("interrupted")
        assert client.call("double", 4) == 8
    """
    with process(address, code) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        if kind == "upload":
            assert running.stdout.readline() == "waiting\n"
        acquired(service.waiting)
        running.send_signal(signal.SIGINT)
        assert finished(running) == (0, "interrupted\n", "")
        acquired(service.cancelled)


@posix
def test_a_child_needs_a_client_of_its_own(service: Service, address: tofu.Address) -> None:
    code = """
    import warnings
    warnings.simplefilter("ignore")  # a fork with threads; what the child leaves open
    with blocking.Client(address) as client:
        assert client.call("double", 4) == 8
        child = os.fork()
        if child == 0:
            try:
                client.call("double", 4)
            except RuntimeError as error:
                assert "belongs to the parent of this forked process" in str(error)
            with blocking.Client(address) as own:
                assert own.call("double", 5) == 10
            sys.exit(7)  # leaves the with statement
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert client.call("double", 6) == 12
    """
    with process(address, code) as running:
        assert finished(running) == (0, "", "")


LEFT_OPEN = {
    "a client": "pass",
    "a thread that waits": """
    threading.Thread(target=client.call, args=("wait",), daemon=True).start()
    while len(client._thread._calls.running) < 1:
        pass
    """,
    "a stream": """
    stream = client.stream("drip", item=int)
    assert next(stream) == 0
    """,
}


@pytest.mark.parametrize("left", LEFT_OPEN.values(), ids=LEFT_OPEN)
def test_a_client_that_was_not_closed_is_closed_at_exit(
    service: Service, address: tofu.Address, left: str
) -> None:
    code = f"""
    client = blocking.Client(address)
    assert client.call("double", 4) == 8
    {left}
    """
    with process(address, code) as running:
        assert finished(running) == (0, "", "")
