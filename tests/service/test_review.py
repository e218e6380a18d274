"""Programs that lost a call, hung, or stopped a service for others."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

import anyio
import pytest

import tofu_aio as tofu
from tests.messaging.peers import RawPeer, connection_of, turns, until
from tests.service.serving import answer_to, call_frame, failure_of, served
from tofu_aio.protocol.errors import again
from tofu_aio.service.headers import _timed, of_outgoing, timed


async def test_what_another_service_refuses_is_not_this_handler_s_answer() -> None:
    """The call was begun, so the client must not repeat it; and the text is not for its caller."""
    behind, before, begun = tofu.Service(), tofu.Service(), []

    @behind.handler("store")
    async def store() -> None:
        raise tofu.ServiceError("unavailable", "db01.internal is away")

    async with served(behind) as there, there.client() as inner:

        @before.handler("charge")
        async def charge() -> None:
            begun.append(1)
            await inner.call("store")

        async with served(before) as here, here.client() as client:
            error = await failure_of(client.call("charge"))
    assert (error.code, error.text) == ("internal", "processing failed")
    assert begun == [1]


async def test_requests_that_have_arrived_are_served_while_draining() -> None:
    service, gate, begun = tofu.Service(), asyncio.Event(), asyncio.Event()

    @service.handler("job")
    async def job(number: int) -> int:
        begun.set()
        if number == 0:
            await gate.wait()
        if number == 2:
            await asyncio.sleep(0.01)  # the others end without waiting
        return number

    limits = {"concurrency": 2, "channel_concurrency": 1}
    async with served(service, limits=limits) as there, there.client() as client:
        calls = [asyncio.create_task(client.call("job", number)) for number in range(4)]
        await begun.wait()
        draining = [asyncio.create_task(service.drain()) for _ in range(2)]
        await until(lambda: service.draining)
        gate.set()
        assert await asyncio.gather(*calls) == [0, 1, 2, 3]
        await asyncio.gather(*draining)


async def test_callers_that_take_no_answers_keep_no_slot_of_the_service() -> None:
    service = tofu.Service()

    @service.handler("big")
    async def big() -> bytes:
        return bytes(4_000_000)

    @service.handler("small")
    async def small() -> int:
        return 1

    limits = {"concurrency": 4, "channel_concurrency": 2}
    async with served(service, limits=limits) as there, tofu.Engine() as engine:
        group, slow, channels = engine.create_group(), [], []
        for _ in range(2):
            channel = await group.connect(there.address)
            channels.append(channel)
            slow += [asyncio.create_task(channel.request(headers={"call": "big"})) for _ in "12"]
            await asyncio.sleep(0)
            connection_of(channel).queue.transport.pause_reading()
        await until(lambda: service.handlers["big"].running == 4)
        async with there.client() as client:
            assert await client.call("small", result=int, timeout=30) == 1
        for channel in channels:
            channel.abort()
        await asyncio.wait(slow)
        assert all(request.exception() for request in slow)


async def test_a_peer_that_takes_no_answers_gets_no_more_calls_begun() -> None:
    service = tofu.Service()

    @service.handler("big", unbounded=True)
    async def big() -> bytes:
        return bytes(100_000)

    async with served(service) as there, tofu.Engine() as engine:
        channel = await engine.create_group().connect(there.address)
        connection_of(channel).queue.transport.pause_reading()

        async def flood() -> None:
            while True:
                await channel.send(tofu.Message(tofu.OpCode.REQUEST, headers={"call": "big"}))

        flooding = asyncio.create_task(flood())
        await until(lambda: service.handlers["big"].running >= 64)
        for _ in range(50):
            await asyncio.sleep(0)
            # On Python 3.11 also those that had not begun when the 64th answer had to wait, for
            # which the pool has room.
            assert service.handlers["big"].running <= 64 + 64
        flooding.cancel()
        channel.abort()
        await until(lambda: not service.handlers["big"].running)


async def test_uploads_take_no_slots_of_calls() -> None:
    service = tofu.Service()

    @service.handler("store")
    async def store(parts: AsyncIterator[bytes]) -> int:
        return sum([len(part) async for part in parts])

    @service.handler("ping")
    async def ping() -> int:
        return 1

    gate = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"1"
        await gate.wait()

    async with served(service, limits={"concurrency": 2}) as there, there.client() as client:
        uploads = [asyncio.create_task(client.upload("store", slowly(), result=int)) for _ in "123"]
        await until(lambda: service.handlers["store"].running == 3)
        assert await client.call("ping", result=int) == 1
        gate.set()
        assert await asyncio.gather(*uploads) == [1, 1, 1]


class NoException(BaseException):
    """As the outcomes of pytest are."""


async def test_every_way_to_fail_is_answered() -> None:
    service = tofu.Service()

    @service.handler("text")
    async def text() -> None:
        raise tofu.ServiceError("bad", ValueError("x"))  # type: ignore[arg-type]

    @service.handler("base")
    async def base() -> None:
        raise NoException

    async with served(service) as there, there.client() as client:
        for name in ("text", "base"):
            error = await failure_of(client.call(name, timeout=30))
            assert error.code == "internal"


async def cancelled_inside() -> AsyncIterator[bytes]:
    yield b"1"
    task = asyncio.ensure_future(asyncio.sleep(60))
    task.cancel()
    await task


async def fails_when_stopped() -> AsyncIterator[bytes]:
    yield b"1"
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        raise ValueError("while cleaning up")


async def test_an_upload_ends_however_its_items_do() -> None:
    service = tofu.Service()

    @service.handler("all")
    async def take_all(parts: AsyncIterator[bytes]) -> int:
        return len([part async for part in parts])

    @service.handler("first")
    async def first(parts: AsyncIterator[bytes]) -> int:
        return len(await anext(parts))

    async with served(service) as there, there.client() as client:
        with pytest.raises(asyncio.CancelledError):
            await client.upload("all", cancelled_inside(), result=int, timeout=30)
        assert await client.upload("first", fails_when_stopped(), result=int) == 1
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.upload("all", fails_when_stopped(), result=int)


async def test_a_time_out_of_the_items_keeps_its_text() -> None:
    service = tofu.Service()

    @service.handler("all")
    async def take_all(parts: AsyncIterator[bytes]) -> int:
        return len([part async for part in parts])

    async def items() -> AsyncIterator[bytes]:
        yield b"1"
        raise TimeoutError

    async with served(service) as there, there.client() as client:
        error = await failure_of(client.upload("all", items(), result=int))
    assert isinstance(error, TimeoutError)
    assert str(error) == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals between processes")
async def test_a_signal_stops_all_services_of_a_process() -> None:
    before = signal.getsignal(signal.SIGTERM)
    services = [tofu.Service() for _ in range(2)]
    async with anyio.create_task_group() as tasks:
        for service in services:
            await tasks.start(service.serve, "tcp://127.0.0.1:0")
        os.kill(os.getpid(), signal.SIGTERM)
    assert all(service.draining for service in services)
    assert signal.getsignal(signal.SIGTERM) is before


async def test_bytes_in_any_encoding_are_answered() -> None:
    service = tofu.Service()

    @service.handler("size")
    async def size(image: bytes) -> int:
        return len(image)

    @service.handler("find")
    async def find(name: str) -> bytes | None:
        return name.encode() or None

    async with served(service) as there, there.client() as client, tofu.Engine() as engine:
        async with engine.create_group().connect(there.address) as channel:
            headers = {"call": "size", "content-type": "image/png"}
            with await channel.request(b"123", headers) as answer:
                assert (answer.status, answer.body) == (tofu.Status.SUCCESS, b"3")
        assert await client.call("find", "a", result=bytes | None) == b"a"  # type: ignore[call-overload]
        assert await client.call("find", "", result=bytes | None) is None  # type: ignore[call-overload]


async def test_a_service_may_be_tried_again_after_a_resource_has_failed() -> None:
    from contextlib import asynccontextmanager

    service, failing = tofu.Service(), [OSError("no database")]

    @service.resource("service")
    @asynccontextmanager
    async def database() -> AsyncIterator[int]:
        if failing:
            raise failing.pop()
        yield 1

    with pytest.raises(OSError, match="no database"):
        await service.serve("tcp://127.0.0.1:0")
    async with anyio.create_task_group() as tasks:
        await tasks.start(service.serve, "tcp://127.0.0.1:0")
        with pytest.raises(RuntimeError, match="served already"):
            await service.serve("tcp://127.0.0.1:0", concurrency=1)
        assert service.slots.free > 1
        service.stop()


async def test_tasks_that_a_handler_leaves_behind_are_not_bound_by_its_deadline() -> None:
    service, left = tofu.Service(), []
    gate = asyncio.Event()

    @service.handler("echo")
    async def echo(number: int) -> int:
        return number

    async with served(service) as there, there.client() as client:

        async def later() -> object:
            await gate.wait()
            return await client.call("echo", 7)

        @service.handler("begin")
        async def begin() -> None:
            left.append(asyncio.create_task(later()))

        await client.call("begin", timeout=0.2)
        await asyncio.sleep(0.25)  # its deadline passes
        gate.set()
        assert await left[0] == 7


def test_methods_that_cannot_work_are_named() -> None:
    class Wrong:
        async def watch(self) -> AsyncIterator[int]: ...

    class Plain:
        def get(self) -> int:
            return 1

    client = tofu.Client("tcp://127.0.0.1:1")
    with pytest.raises(TypeError, match=r"Wrong.watch must be 'def'"):
        client.bind(Wrong)
    with pytest.raises(TypeError, match=r"Plain.get must be 'async def'"):
        client.bind(Plain)


async def test_a_subscriber_of_a_quiet_topic_leaves_nothing_behind() -> None:
    topic = tofu.Topic()
    for _ in range(3):
        waiting = asyncio.ensure_future(anext(topic.subscribe(item=int)))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    assert not topic._sleeping


# --- the call path, once it was made faster -----------------------------------------------------


class Lock:
    """A resource."""


def echoing() -> tofu.Service:
    service = tofu.Service()

    @service.handler("echo")
    async def echo(number: int) -> int:
        return number

    return service


async def test_a_drain_that_begins_among_many_calls_answers_all_of_them() -> None:
    service, ran = tofu.Service(), 0
    draining: list[asyncio.Task[None]] = []

    @service.handler("count")
    async def count() -> None:
        nonlocal ran
        ran += 1
        if ran == 5:
            draining.extend(asyncio.create_task(each.drain()) for each in service._sessions)

    async with served(service, pool_messages=1024) as there:
        with await RawPeer.introduced(there.listener.address) as peer:
            calls = (call_frame("count", message_id=number) for number in range(1, 101))
            await peer.send(b"".join(calls))
            answers = [await peer.message() for _ in range(100)]
        assert {answer.op_code for answer in answers} == {tofu.OpCode.RESPONSE}
        await asyncio.wait(draining)
    assert ran == 100


async def test_a_call_that_is_given_up_while_it_waits_for_its_turn_leaves_nothing() -> None:
    """Its task is cancelled at once: on Python 3.11 before it has begun."""
    service, gate, running = tofu.Service(), asyncio.Event(), asyncio.Event()

    @service.handler("wait")
    async def wait() -> None:
        running.set()
        await gate.wait()

    async with (
        served(service, limits={"concurrency": 1}) as there,
        there.group.connect(there.address) as channel,
    ):
        first = asyncio.create_task(channel.request(headers={"call": "wait"}))
        await running.wait()
        async with channel.stream(headers={"call": "wait"}) as second:
            await second.send(b"part")
            (session,) = service._sessions
            await until(lambda: session._waits)
        incoming = session._channel._dispatcher.incoming
        assert incoming is not None
        await until(lambda: incoming._taken_back)
        gate.set()
        assert (await first).status is tofu.Status.SUCCESS
        await until(lambda: not session._waits)
        await turns(3)
        assert not incoming.exchanges


async def test_a_handler_that_is_cancelled_by_its_own_side_is_answered() -> None:
    service, tasks = tofu.Service(), []

    @service.handler("wait")
    async def wait() -> None:
        tasks.append(asyncio.current_task())
        await asyncio.Event().wait()

    async with served(service) as there, there.client() as client:
        call = asyncio.create_task(client.call("wait"))
        await until(lambda: tasks)
        tasks[0].cancel()
        error = await failure_of(call)
        assert (error.code, error.text) == ("cancelled", "the handler was cancelled")


async def test_the_time_of_a_call_is_its_own_even_if_it_passes_headers_on() -> None:
    service = tofu.Service()

    @service.handler("left")
    async def left(call: tofu.Call) -> float:
        assert call.remaining is not None
        return call.remaining

    async with served(service) as there, there.client() as client:
        passed_on = tofu.TextHeaders({"timeout-ms": "50"})
        seconds = await client.call("left", result=float, timeout=100, headers=passed_on)
        assert 50 < seconds <= 100


@pytest.mark.usefixtures("in_order")
async def test_an_instance_that_refuses_is_not_asked_again_while_another_works() -> None:
    refusing, working, gate = tofu.Service(), echoing(), asyncio.Event()
    asked = 0

    @refusing.handler("echo")
    async def refuse(number: int) -> None:
        nonlocal asked
        asked += 1
        raise tofu.ServiceError("unavailable", "warming up")

    @working.handler("wait")
    async def wait() -> None:
        await gate.wait()

    async with (
        served(refusing) as first,
        served(working) as second,
        tofu.Client(first.address, second.address) as client,
    ):
        busy = client._endpoints._all[1]
        link = await busy.open()
        under_way = asyncio.create_task(link.channel.request(headers={"call": "wait"}))
        busy.in_flight += 1  # so the one that refuses is the better choice
        for number in range(4):
            assert await client.call("echo", number, result=int) == number
        assert asked == 4
        busy.in_flight -= 1
        gate.set()
        await under_way


async def test_attempts_are_counted_when_an_address_is_left_alone() -> None:
    dead = [f"tcp://127.0.0.1:{port}" for port in (1, 2)]
    for stream in (False, True):
        longest = tofu.Backoff(random=max)  # a short pause could be over in the meantime
        async with tofu.Client(*dead, attempts=1, backoff=longest) as client:
            away = client._endpoints._all[0]
            for _ in range(40):  # it has been away for some time
                now, away.breaker.until = asyncio.get_running_loop().time(), 0.0
                away.breaker.unreachable(tofu.ConnectFailed("away"), now)
            if stream:
                await failure_of(anext(client.stream("echo", 1, item=int)))
            else:
                await failure_of(client.call("echo", 1))
            assert client.counts.retries <= 1
            assert client._endpoints._all[0].breaker._pauses <= 41


async def test_long_headers_of_calls_are_not_kept() -> None:
    before = _timed.cache_info().currsize
    for number in range(5):
        told = timed(of_outgoing("echo", "", {"token": f"{number}" * 1000}, ()), 1.5)
        assert told["timeout-ms"] == "1500"
    assert _timed.cache_info().currsize == before


async def test_errors_of_several_calls_do_not_share_their_notes() -> None:
    error = tofu.ConnectFailed("nobody")
    error.add_note("of the first")
    copied = again(error)
    copied.add_note("of the second")
    assert error.__notes__ == ["of the first"]

    topic = tofu.Topic(2, slow="disconnect")
    subscriptions = [topic.subscribe(item=int, after=0) for _ in range(2)]
    topic.publish(1)
    for events in subscriptions:
        await anext(events)
    for number in range(2, 6):
        topic.publish(number)
    caught = [await failure_of(anext(events)) for events in subscriptions]
    assert caught[0] is not caught[1]


async def test_a_failed_call_leaves_no_cycle_that_keeps_its_payload() -> None:
    service, payloads = tofu.Service(), []

    @service.handler("fail")
    async def fail(body: bytes) -> None:
        raise tofu.ServiceError("not_found", "no")

    class Marker:
        pass

    async def failing(client: tofu.Client) -> None:
        marker = Marker()
        payloads.append(weakref.ref(marker))
        with pytest.raises(tofu.ServiceError):
            await client.call("fail", b"x")

    async with served(service) as there, there.client() as client:
        gc.collect()
        gc.disable()
        try:
            await failing(client)
            assert payloads[0]() is None
        finally:
            gc.enable()


async def test_a_stream_s_channel_is_made_in_a_context_of_its_own() -> None:
    tenant: ContextVar[str] = ContextVar("tenant", default="-")

    @contextmanager
    def around(_: tofu.Channel) -> Iterator[None]:
        token = tenant.set("channel")
        yield
        tenant.reset(token)

    async with served(echoing()) as there, there.client(around_channel=around) as client:
        tenant.set("caller")
        assert [n async for n in client.stream("echo", 1, item=int)] == [1]
        assert await client.call("echo", 1) == 1
        assert tenant.get() == "caller"


async def test_a_channel_whose_resource_is_being_opened_is_drained_and_stopped_too() -> None:
    service, opening, gate = echoing(), asyncio.Event(), asyncio.Event()

    @service.resource("channel")
    @asynccontextmanager
    async def lock() -> AsyncIterator[Lock]:
        opening.set()
        await gate.wait()
        yield Lock()

    async with anyio.create_task_group() as tasks:
        (address,) = await tasks.start(service.serve, "tcp://127.0.0.1:0")
        async with tofu.Client(address) as client:
            call = asyncio.create_task(client.call("echo", 1, result=int))
            await opening.wait()
            (session,) = service._sessions
            await until(lambda: len(session._channel._mailbox.items) == 1)
            draining = asyncio.create_task(session.drain())
            await asyncio.sleep(0)
            gate.set()
            assert await call == 1
            await draining
        service.stop()


async def test_stopping_what_is_not_served_does_nothing() -> None:
    async with served(echoing()) as there, there.client() as client:
        assert await client.call("echo", 1) == 1
        there.service.stop()
        there.service.stop()
        assert await client.call("echo", 2) == 2


async def test_a_source_of_metrics_that_is_added_twice_counts_once() -> None:
    prometheus = pytest.importorskip("prometheus_client")
    service = echoing()
    async with served(service) as there, there.client() as client:
        await client.call("echo", 1)
        collector = tofu.PrometheusCollector(service)
        collector.add(service)
        registry = prometheus.CollectorRegistry()
        registry.register(collector)
        kind = {"name": "echo", "code": "ok"}
        assert registry.get_sample_value("tofu_calls_total", kind) == 1


async def test_a_time_out_of_the_program_s_own_function_is_not_that_of_connecting() -> None:
    def token() -> dict[str, str]:
        raise TimeoutError("the token service is slow")

    async with served(echoing()) as there, there.client(headers=token) as client:
        error = await failure_of(client.call("echo", 1))
        assert "the token service is slow" in str(error)


async def test_a_handler_may_return_a_message_as_it_is() -> None:
    service = tofu.Service()

    @service.handler("relay")
    async def relay(request: tofu.Message) -> tofu.Message:
        return tofu.Message(tofu.OpCode.RESPONSE, request.body.upper(), {"etag": "5"})

    async with served(service) as there, there.client() as client:
        assert await client.call("relay", b"abc", result=bytes) == b"ABC"
        with await RawPeer.introduced(there.listener.address) as peer:
            answer = await answer_to(peer, call_frame("relay", b"abc"))
            assert (answer.body, dict(answer.headers)) == (b"ABC", {"etag": "5"})


async def test_a_resource_that_comes_too_late_is_refused() -> None:
    service = echoing()

    class Database:
        pass

    async with service:
        with pytest.raises(RuntimeError, match="add its resources before that"):

            @service.resource("service")
            @asynccontextmanager
            async def database() -> AsyncIterator[Database]:
                yield Database()
