"""Handlers of all kinds, called by clients; and whatever is wrong with the handlers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import tofu_aio as tofu
from tests.messaging.peers import turns, until
from tests.service.serving import Job, failure_of, served


def sample() -> tofu.Service:
    service = tofu.Service()

    @service.handler("resize")
    async def resize(job: Job) -> Job:
        return Job(job.width * 2, job.name.upper())

    @service.handler("echo")
    async def echo(payload: object) -> object:
        await asyncio.sleep(0)
        return payload

    @service.handler("raw")
    async def raw(payload: bytes) -> bytes:
        return payload

    @service.handler("nothing")
    async def nothing() -> None: ...

    @service.handler("maybe")
    async def maybe(number: int | None) -> int | None:
        return number

    @service.handler("optional")
    async def optional(number: int = 7) -> int:
        return number

    @service.handler("watch")
    async def watch(count: int) -> AsyncIterator[Job]:
        for number in range(count):
            yield Job(number, "x" * (number * 40_000))

    @service.handler("chunks")
    async def chunks(sizes: list[int]) -> AsyncIterator[bytes]:
        for size in sizes:
            yield bytes(size)

    @service.handler("store")
    async def store(parts: AsyncIterator[bytes]) -> int:
        return sum([len(part) async for part in parts])

    @service.handler("sum")
    async def total(parts: AsyncIterator[Job]) -> int:
        return sum([part.width async for part in parts])

    @service.handler("double")
    async def double(parts: AsyncIterator[int]) -> AsyncIterator[int]:
        async for part in parts:
            yield 2 * part

    return service


async def items(*values: object) -> AsyncIterator[object]:
    for value in values:
        yield value


async def test_each_kind_of_call(transport_address: str) -> None:
    async with served(sample(), transport_address) as there, there.client() as client:
        assert await client.call("resize", Job(3, "a"), result=Job) == Job(6, "A")
        assert await client.call("resize", {"width": 3}) == {"width": 6, "name": "JOB"}
        assert await client.call("echo", {"a": [1]}) == {"a": [1]}
        assert await client.call("raw", b"\x00\xff", result=bytes) == b"\x00\xff"
        assert await client.call("raw", b"", result=bytes) == b""
        assert await client.call("nothing") is None
        assert await client.call("nothing", result=type(None)) is None
        assert await client.call("maybe", None, result=int | None) is None
        assert await client.call("maybe", 3, result=int | None) == 3
        assert await client.call("optional", result=int) == 7
        assert await client.call("optional", 3, result=int) == 3
        large = b"x" * 1_000_000
        assert await client.call("raw", large, result=bytes) == large
        assert await client.upload("store", [b"a" * 100_000, b"b"], result=int) == 100_001
        assert await client.upload("store", items(b"a", b""), result=int) == 1
        assert await client.upload("store", [], result=int) == 0
        assert await client.upload("sum", [Job(1), Job(2, "x" * 100_000)], result=int) == 3
        jobs = [job async for job in client.stream("watch", 5, item=Job)]
        assert jobs == [Job(number, "x" * (number * 40_000)) for number in range(5)]
        assert [job async for job in client.stream("watch", 0, item=Job)] == []
        parts = [part async for part in client.stream("chunks", [0, 1, 70_000], item=bytes)]
        assert b"".join(parts) == bytes(70_001)
        doubled = client.stream("double", items(1, 2, 3), item=int)
        assert [number async for number in doubled] == [2, 4, 6]
        assert [job async for job in client.stream("resize", Job(1), item=Job)] == [Job(2, "JOB")]


@pytest.mark.parametrize("codec", [tofu.JSON, tofu.MSGPACK], ids=repr)
async def test_both_encodings_to_one_service(codec: tofu.Codec) -> None:
    async with served(sample()) as there, there.client(codec=codec) as client:
        assert await client.call("resize", Job(3, "a"), result=Job) == Job(6, "A")
        assert [job.width async for job in client.stream("watch", 3, item=Job)] == [0, 1, 2]
        assert await client.upload("sum", [Job(1), Job(2)], result=int) == 3


async def test_built_in_handlers() -> None:
    async with served(sample()) as there, there.client() as client:
        names = await client.call("tofu.names", result=list[str])
        assert {"resize", "tofu.health", "tofu.names"} <= set(names)
        assert names == sorted(names)
        assert await client.call("tofu.health") == {"status": "serving"}


# --- registering --------------------------------------------------------------------------------


def test_a_name_is_registered_once() -> None:
    service = sample()
    with pytest.raises(ValueError, match="there is a handler 'resize' already"):
        service.handler("resize")(lambda: None)


@pytest.mark.parametrize("name", ["", " resize", "resize\n"])
def test_a_name_has_no_blanks_around_it(name: str) -> None:
    with pytest.raises(ValueError, match="the name of a handler is"):
        sample().handler(name)


async def test_a_service_without_addresses_says_so() -> None:
    with pytest.raises(TypeError, match="an address"):
        await asyncio.wait_for(sample().serve(), 10)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"concurrency": 0}, "concurrency is 0"),
        ({"channel_concurrency": 0}, "channel_concurrency is 0"),
        ({"streams": -1}, "streams is -1"),
        ({"drain": -1}, "drain is -1"),
        ({"no_such_option": 1}, "no_such_option"),
    ],
    ids=str,
)
async def test_options_without_meaning_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        await sample().serve("tcp://127.0.0.1:0", **options)


# --- handlers that fail -------------------------------------------------------------------------


def failing() -> tofu.Service:
    service = tofu.Service()

    @service.handler("bug")
    async def bug(text: str) -> str:
        raise ZeroDivisionError("a secret " + text)

    @service.handler("known")
    async def known(text: str) -> str:
        raise tofu.ServiceError("not_found", "no such " + text, {"tried": [text]})

    @service.handler("strange")
    async def strange(text: str) -> str:
        raise tofu.ServiceError("not_found", "caf\u00e9", {"unencodable": object()})

    @service.handler("long")
    async def long(text: str) -> str:
        raise tofu.ServiceError("long", "x" * 200_000)

    @service.handler("long details")
    async def long_details(text: str) -> str:
        raise tofu.ServiceError("long", "text", "x" * 200_000)

    @service.handler("wrong")
    async def wrong(text: str) -> int:
        return text  # type: ignore[return-value]

    @service.handler("unencodable")
    async def unencodable(text: str) -> object:
        return object()

    @service.handler("endless depth")
    async def depth(text: str) -> object:
        value: list[object] = []
        value.append(value)
        return value

    @service.handler("own timeout")
    async def own_timeout(text: str) -> str:
        raise TimeoutError("the database")

    @service.handler("group")
    async def group(text: str) -> str:
        raise ExceptionGroup("several", [ValueError("a"), tofu.ServiceError("x")])

    @service.handler("no stream")
    async def no_stream(text: str) -> AsyncIterator[int]:
        return 5  # type: ignore[return-value]

    @service.handler("wrong item")
    async def wrong_item(text: str) -> AsyncIterator[bytes]:
        yield b"good"
        yield "bad"  # type: ignore[misc]

    @service.handler("breaks off")
    async def breaks_off(text: str) -> AsyncIterator[int]:
        yield 1
        yield 2
        raise ZeroDivisionError("a secret")

    @service.handler("ends with an error")
    async def ends_with(text: str) -> AsyncIterator[int]:
        yield 1
        raise tofu.ServiceError("moved", "elsewhere", [1])

    @service.handler("cancels itself")
    async def cancels_itself(text: str) -> str:
        raise asyncio.CancelledError

    @service.handler("fine")
    async def fine(text: str) -> str:
        return text

    return service


@pytest.mark.parametrize(
    "name",
    ["bug", "wrong", "unencodable", "endless depth", "own timeout", "group", "no stream"],
)
async def test_a_fault_fails_its_own_call_and_tells_the_caller_nothing(
    name: str, errors: list[logging.LogRecord]
) -> None:
    async with served(failing()) as there, there.client() as client:
        others = [asyncio.create_task(client.call("fine", str(n), result=str)) for n in range(5)]
        error = await failure_of(client.call(name, "text"))
        assert isinstance(error, tofu.ServiceError), error
        assert (error.code, error.text, error.details) == ("internal", "processing failed", None)
        assert await asyncio.gather(*others) == ["0", "1", "2", "3", "4"]
    (record,) = errors
    assert repr(name) in record.getMessage()
    assert record.exc_info


async def test_a_service_error_arrives_whole(errors: list[logging.LogRecord]) -> None:
    async with served(failing()) as there, there.client() as client:
        error = await failure_of(client.call("known", "thing"))
        assert isinstance(error, tofu.ServiceError)
        assert (error.code, error.text) == ("not_found", "no such thing")
        assert error.details == {"tried": ["thing"]}
        assert error.status is tofu.Status.PROCESSING_FAILED
    assert not errors


async def test_a_service_error_that_cannot_be_encoded_arrives_without_details(
    errors: list[logging.LogRecord],
) -> None:
    async with served(failing()) as there, there.client() as client:
        error = await failure_of(client.call("strange", "thing"))
        assert isinstance(error, tofu.ServiceError)
        assert (error.code, error.text, error.details) == ("not_found", "caf\u00e9", None)
    (record,) = errors
    assert "details" in record.getMessage()


async def test_a_service_error_may_be_long() -> None:
    async with served(failing()) as there, there.client() as client:
        error = await failure_of(client.call("long", "thing"))
        assert isinstance(error, tofu.ServiceError)
        assert (error.code, len(error.text)) == ("long", 65_535)


async def test_details_that_are_too_long_are_left_out(errors: list[logging.LogRecord]) -> None:
    async with served(failing()) as there, there.client() as client:
        error = await failure_of(client.call("long details", "thing"))
        assert isinstance(error, tofu.ServiceError)
        assert (error.code, error.text, error.details) == ("long", "text", None)
    (record,) = errors
    assert len(record.getMessage()) < 1000


async def read(client: tofu.Client, name: str, item: type) -> tuple[list[object], BaseException]:
    read: list[object] = []

    async def reading() -> None:
        async for value in client.stream(name, "text", item=item):
            read.append(value)  # noqa: PERF401

    return read, await failure_of(reading())


@pytest.mark.parametrize(
    ("name", "item", "before", "code"),
    [
        ("wrong item", bytes, [b"good"], "internal"),
        ("breaks off", int, [1, 2], "internal"),
        ("ends with an error", int, [1], "moved"),
    ],
)
async def test_a_stream_that_fails_is_never_taken_for_a_whole_one(
    name: str, item: type, before: list[object], code: str, errors: list[logging.LogRecord]
) -> None:
    async with served(failing()) as there, there.client() as client:
        found, error = await read(client, name, item)
        assert found == before
        assert isinstance(error, tofu.ServiceError)
        assert error.code == code
        assert error.details == ([1] if code == "moved" else None)
        assert await client.call("fine", "text") == "text"


async def test_a_handler_that_cancels_itself_fails_its_call() -> None:
    async with served(failing()) as there, there.client() as client:
        error = await failure_of(client.call("cancels itself", "text", timeout=10))
        assert isinstance(error, tofu.ServiceError), error
        assert await client.call("fine", "text") == "text"


# --- bounds -------------------------------------------------------------------------------------


class Gate:
    """A service whose handlers wait until they are let through."""

    def __init__(self) -> None:
        self.service = tofu.Service()
        self.open = asyncio.Event()
        self.running = 0
        self.most = 0
        self.cancelled = 0

        @self.service.handler("wait")
        async def wait(number: int) -> int:
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                await self.open.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            finally:
                self.running -= 1
            return number

        @self.service.handler("ticks")
        async def ticks(number: int) -> AsyncIterator[int]:
            self.running += 1
            try:
                yield number
                await self.open.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            finally:
                self.running -= 1


async def test_no_more_calls_run_than_allowed_and_all_are_answered(transport_address: str) -> None:
    gate = Gate()
    async with (
        served(gate.service, transport_address, limits={"concurrency": 3}) as there,
        there.client() as one,
        there.client() as other,
    ):
        calls = [
            asyncio.create_task(client.call("wait", n, result=int))
            for n in range(20)
            for client in (one, other)
        ]
        await until(lambda: gate.running == 3)
        await turns(20)
        assert gate.running == 3
        gate.open.set()
        assert await asyncio.gather(*calls) == [n for n in range(20) for _ in (0, 1)]
        assert gate.most == 3


async def test_one_channel_leaves_room_for_others() -> None:
    gate = Gate()
    limits = {"concurrency": 10, "channel_concurrency": 2}
    async with served(gate.service, limits=limits) as there, there.client() as greedy:
        calls = [asyncio.create_task(greedy.call("wait", n)) for n in range(10)]
        await until(lambda: gate.running == 2)
        async with there.client() as other:
            call = asyncio.create_task(other.call("wait", 1))
            await until(lambda: gate.running == 3)
            assert await other.call("tofu.health") == {"status": "serving"}
            gate.open.set()
            await asyncio.gather(call, *calls)


async def test_a_full_service_answers_health_checks_of_others() -> None:
    gate = Gate()
    async with (
        served(gate.service, limits={"concurrency": 1}) as there,
        there.client() as busy,
        there.client() as monitor,
    ):
        calls = [asyncio.create_task(busy.call("wait", n)) for n in range(5)]
        await until(lambda: gate.running == 1)
        for _ in range(3):
            health = await monitor.call("tofu.health", timeout=10)
            assert health == {"status": "serving"}
        gate.open.set()
        await asyncio.gather(*calls)


async def test_one_stream_too_many_is_refused() -> None:
    gate = Gate()
    async with served(gate.service, limits={"streams": 2}) as there, there.client() as client:
        streams = [client.stream("ticks", n, item=int) for n in range(2)]
        assert [await anext(stream) for stream in streams] == [0, 1]
        error = await failure_of(anext(client.stream("ticks", 3, item=int)))
        assert isinstance(error, tofu.ServiceError)
        assert (error.code, error.text) == ("resource_exhausted", "too many streams are open")
        await streams[0].aclose()
        await until(lambda: there.service.streams.free == 1)
        third = client.stream("ticks", 4, item=int)
        assert await anext(third) == 4
        gate.open.set()
        for stream in (streams[1], third):
            assert [item async for item in stream] == []


async def test_a_call_that_waits_too_long_for_its_turn_is_refused() -> None:
    gate = Gate()
    async with served(gate.service, limits={"concurrency": 1}) as there, there.client() as client:
        first = asyncio.create_task(client.call("wait", 1))
        await until(lambda: gate.running)
        # The channel's own, so that the service's refusal is seen and not the client's time-out.
        channel = await there.group.connect(there.listener.address)
        async with channel:
            answer = await channel.request(
                b"1", {"call": "wait", "content-type": "application/json", "timeout-ms": "10"}
            )
        assert answer.headers["code"] == "deadline_exceeded"
        assert answer.body == b"the call waited too long for its turn"
        gate.open.set()
        await first
        assert there.service.counts.refusals == {"deadline_exceeded": 1}
        assert there.service.counts.queued > 0


# --- closing while calls run --------------------------------------------------------------------


async def test_a_listener_that_is_closed_lets_running_calls_end() -> None:
    gate = Gate()
    async with served(gate.service) as there, there.client() as client:
        call = asyncio.create_task(client.call("wait", 1, result=int))
        await until(lambda: gate.running)
        await there.listener.aclose()
        await turns(5)
        gate.open.set()
        assert await call == 1
        await there.serving


async def test_serve_that_is_cancelled_cancels_calls_and_leaves_nothing() -> None:
    gate = Gate()
    free = gate.service.slots.free, gate.service.streams.free
    started: asyncio.Future[list[tofu.Address]] = asyncio.get_running_loop().create_future()

    class Status:
        def started(self, value: Any = None) -> None:
            started.set_result(value)

    serving = asyncio.create_task(
        gate.service.serve("tcp://127.0.0.1:0", concurrency=2, streams=2, task_status=Status())
    )
    (address,) = await started
    client = tofu.Client(address)
    stream = client.stream("ticks", 1, item=int)
    assert await anext(stream) == 1
    calls = [asyncio.create_task(client.call("wait", n)) for n in range(5)]
    await until(lambda: gate.running == 2)
    serving.cancel()
    await asyncio.wait([serving])
    assert serving.cancelled()
    assert gate.running == 0
    assert gate.service.counts.running == 0
    assert (gate.service.slots.free, gate.service.streams.free) == (2, 2)
    assert free == (256, 1024)
    for call in calls:
        assert isinstance(await failure_of(call), tofu.TofuError)
    assert isinstance(await failure_of(anext(stream)), tofu.TofuError)
    await client.aclose()


async def test_a_service_can_be_served_again() -> None:
    service = sample()
    for _ in range(2):
        async with anyio_group() as tasks:
            (address,) = await tasks.start(service.serve, "tcp://127.0.0.1:0")
            async with tofu.Client(address) as client:
                assert await client.call("echo", 1) == 1
                assert await client.call("tofu.health") == {"status": "serving"}
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def anyio_group() -> AsyncIterator[Any]:
    import anyio

    async with anyio.create_task_group() as tasks:
        yield tasks


async def test_several_addresses_at_once(socket_path: str) -> None:
    async with anyio_group() as tasks:
        addresses = await tasks.start(
            lambda **told: sample().serve(
                "tcp://127.0.0.1:0", f"uds://{socket_path}", mode=0o600, **told
            )
        )
        assert len(addresses) == 2
        for address in addresses:
            async with tofu.Client(address) as client:
                assert await client.call("echo", 1) == 1
        tasks.cancel_scope.cancel()


# --- the other side of a channel ------------------------------------------------------------------


async def test_both_sides_of_one_channel_call_each_other(group: tofu.ChannelGroup) -> None:
    def named(name: str) -> tofu.Service:
        service = tofu.Service()

        @service.handler("who")
        async def who(number: int) -> str:
            return f"{name} {number}"

        @service.handler("count")
        async def count(number: int) -> AsyncIterator[str]:
            for n in range(number):
                yield f"{name} {n}"

        return service

    here, there = named("here"), named("there")
    async with await group.listen("tcp://127.0.0.1:0") as listener:
        one, other = await asyncio.gather(group.connect(listener.address), listener.accept())
    serving = [asyncio.create_task(here.handle(one)), asyncio.create_task(there.handle(other))]
    async with tofu.Client(one) as asks_there, tofu.Client(other) as asks_here:

        async def ask(client: tofu.Client, name: str) -> None:
            answers = await asyncio.gather(*(client.call("who", n) for n in range(50)))
            assert answers == [f"{name} {n}" for n in range(50)]
            counted = [each async for each in client.stream("count", 50, item=str)]
            assert counted == answers

        await asyncio.gather(ask(asks_there, "there"), ask(asks_here, "here"))
    await asyncio.gather(one.aclose(), other.aclose())
    for task in serving:
        await asyncio.wait([task])
        error = task.exception()
        assert error is None or isinstance(error, tofu.TofuError)
    assert here.counts.running == there.counts.running == 0


async def test_a_handler_calls_back_over_the_channel_that_it_was_called_on() -> None:
    service = tofu.Service()

    @service.handler("ask back")
    async def ask_back(question: str, call: tofu.Call) -> str:
        async with tofu.Client(call.channel) as back:
            return await back.call("answer", question, result=str)

    here = tofu.Service()

    @here.handler("answer")
    async def answer(question: str) -> str:
        return question + "!"

    async with served(service) as there:
        async with there.group.connect(there.listener.address) as channel:
            serving = asyncio.create_task(here.handle(channel))
            async with tofu.Client(channel) as client:
                assert await client.call("ask back", "why", result=str) == "why!"
        await asyncio.wait([serving])
        assert isinstance(serving.exception(), tofu.TofuError | None)


async def test_who_calls_a_client_that_serves_nothing_is_told_so() -> None:
    """The channels of a client with addresses have no handlers: nobody may wait for one."""
    service = tofu.Service()

    @service.handler("ask back")
    async def ask_back(question: str, call: tofu.Call) -> str:
        async with tofu.Client(call.channel) as back:
            error = await failure_of(back.call("answer", question, timeout=10))
            assert isinstance(error, tofu.ServiceError), error
            return error.code

    async with served(service) as there, there.client() as client:
        assert await client.call("ask back", "why", result=str) == "unimplemented"
        streamed = [code async for code in client.stream("ask back", "why", item=str)]
        assert streamed == ["unimplemented"]


async def test_handlers_that_wait_for_another_call_need_no_slot() -> None:
    service, opened = tofu.Service(), asyncio.Event()

    @service.handler("wait", unbounded=True)
    async def wait() -> None:
        await opened.wait()

    @service.handler("open")
    async def open_() -> None:
        opened.set()

    limits = {"concurrency": 1, "channel_concurrency": 1}
    async with served(service, limits=limits) as there, there.client() as client:
        waiting = [asyncio.create_task(client.call("wait")) for _ in range(3)]
        await until(lambda: service.handlers["wait"].running == 3)
        await client.call("open")
        await asyncio.gather(*waiting)
