"""Spans of OpenTelemetry, and the trace context in the headers of calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

import tofu_aio as tofu
from tests.messaging.peers import until
from tests.service.observed import images, served

trace = pytest.importorskip("opentelemetry.trace")
sdk = pytest.importorskip("opentelemetry.sdk.trace")
export = pytest.importorskip("opentelemetry.sdk.trace.export")
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")


class Traced:
    """Tracing whose spans can be looked at."""

    def __init__(self) -> None:
        self._exporter = memory.InMemorySpanExporter()
        self.provider = sdk.TracerProvider()
        self.provider.add_span_processor(export.SimpleSpanProcessor(self._exporter))
        self.tracing = tofu.Tracing(self.provider)

    def spans(self, kind: trace.SpanKind) -> list[sdk.ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.kind is kind]

    async def span(self, kind: trace.SpanKind) -> sdk.ReadableSpan:
        """The only span of a kind, once it has ended."""
        await until(lambda: bool(self.spans(kind)))
        (span,) = self.spans(kind)
        return span


@pytest.fixture
def traced() -> Iterator[Traced]:
    traced = Traced()
    yield traced
    traced.provider.shutdown()


@pytest.fixture
async def client(traced: Traced) -> AsyncIterator[tofu.Client]:
    """A client of a service, both with tracing."""
    service = images()
    service.use(traced.tracing.middleware)

    @service.handler("nested")
    async def nested() -> int:
        with traced.provider.get_tracer("test").start_as_current_span("inner"):
            return 1

    async with served(service) as address:
        around = traced.tracing.around_call
        async with tofu.Client(address, around_call=around) as client:
            yield client


async def call(client: tofu.Client) -> None:
    await client.call("double", 1)


async def stream(client: tofu.Client) -> None:
    assert [item async for item in client.stream("count", 2, item=int)] == [0, 1]


async def upload(client: tofu.Client) -> None:
    await client.upload("total", [1, 2], result=int)


@pytest.mark.parametrize(("use", "name"), [(call, "double"), (stream, "count"), (upload, "total")])
async def test_the_two_sides_of_a_call_are_one_trace(
    client: tofu.Client, traced: Traced, use: object, name: str
) -> None:
    with traced.provider.get_tracer("test").start_as_current_span("outer") as outer:
        await use(client)  # type: ignore[operator]
    here = await traced.span(trace.SpanKind.CLIENT)
    there = await traced.span(trace.SpanKind.SERVER)
    assert here.name == there.name == name
    assert here.parent.span_id == outer.get_span_context().span_id
    assert there.parent.span_id == here.context.span_id
    assert there.context.trace_id == here.context.trace_id == outer.get_span_context().trace_id
    for span in (here, there):
        assert span.attributes["rpc.system.name"] == "tofu"
        assert span.attributes["rpc.method"] == name
        assert span.attributes["rpc.response.status_code"] == "ok"
        assert span.status.status_code is trace.StatusCode.UNSET
    assert here.attributes["server.address"] == there.attributes["client.address"] == "127.0.0.1"
    assert here.attributes["server.port"] > 0


async def test_spans_of_a_handler_are_children_of_its_own(
    client: tofu.Client, traced: Traced
) -> None:
    await client.call("nested")
    inner = await traced.span(trace.SpanKind.INTERNAL)
    assert inner.parent.span_id == (await traced.span(trace.SpanKind.SERVER)).context.span_id


async def test_the_state_of_a_trace_travels(client: tofu.Client, traced: Traced) -> None:
    parent = trace.SpanContext(
        1,
        2,
        is_remote=True,
        trace_flags=trace.TraceFlags(1),
        trace_state=trace.TraceState([("a", "b")]),
    )
    token = trace.context_api.attach(trace.set_span_in_context(trace.NonRecordingSpan(parent)))
    await client.call("double", 1)
    trace.context_api.detach(token)
    there = await traced.span(trace.SpanKind.SERVER)
    assert there.context.trace_state.get("a") == "b"
    assert there.context.trace_id == 1


async def test_a_refusal_is_an_error_of_the_caller(client: tofu.Client, traced: Traced) -> None:
    with pytest.raises(tofu.ServiceError):
        await client.call("fail", "not_found")
    here = await traced.span(trace.SpanKind.CLIENT)
    there = await traced.span(trace.SpanKind.SERVER)
    for span in (here, there):
        assert span.attributes["rpc.response.status_code"] == "not_found"
    assert here.status.status_code is trace.StatusCode.ERROR
    assert here.status.description == "not_found: because"
    assert here.attributes["error.type"] == "not_found"
    assert there.status.status_code is trace.StatusCode.UNSET
    assert "error.type" not in there.attributes


@pytest.mark.parametrize("code", ["internal", "unavailable"])
async def test_a_code_of_failure_is_an_error_of_the_service_too(
    client: tofu.Client, traced: Traced, code: str
) -> None:
    with pytest.raises(tofu.ServiceError):
        await client.call("fail", code)
    there = traced.spans(trace.SpanKind.SERVER)[0]
    assert there.status.status_code is trace.StatusCode.ERROR
    assert there.attributes["error.type"] == code


async def test_a_bug_is_recorded_where_it_is(client: tofu.Client, traced: Traced) -> None:
    with pytest.raises(tofu.ServiceError):
        await client.call("fail", "")
    there = await traced.span(trace.SpanKind.SERVER)
    assert there.status.status_code is trace.StatusCode.ERROR
    assert there.attributes["error.type"] == "RuntimeError"
    assert there.attributes["rpc.response.status_code"] == "internal"
    (event,) = there.events
    assert event.attributes["exception.message"] == "a bug"
    assert (await traced.span(trace.SpanKind.CLIENT)).attributes["error.type"] == "internal"


async def test_a_deadline_is_an_error_of_both(client: tofu.Client, traced: Traced) -> None:
    with pytest.raises(TimeoutError):
        await client.call("wait", headers={"timeout-ms": "20"})  # the service finds out first
    here = await traced.span(trace.SpanKind.CLIENT)
    assert here.attributes["rpc.response.status_code"] == "deadline_exceeded"
    assert here.attributes["error.type"] == "TimeoutError"
    there = await traced.span(trace.SpanKind.SERVER)
    assert there.attributes["rpc.response.status_code"] == "deadline_exceeded"
    for span in (here, there):
        assert span.status.status_code is trace.StatusCode.ERROR


async def test_leaving_a_stream_is_no_error(client: tofu.Client, traced: Traced) -> None:
    items = client.stream("count", 1000, item=int)
    await anext(items)
    await items.aclose()
    here = await traced.span(trace.SpanKind.CLIENT)
    assert here.attributes["rpc.response.status_code"] == "cancelled"
    assert here.status.status_code is trace.StatusCode.UNSET


async def test_a_caller_that_gives_up_is_no_error(client: tofu.Client, traced: Traced) -> None:
    calling = asyncio.create_task(client.call("wait"))
    await until(lambda: client.counts.running == 1)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    here = await traced.span(trace.SpanKind.CLIENT)
    assert here.status.status_code is trace.StatusCode.UNSET


@pytest.mark.parametrize("context", ["nonsense", "00-0-0-0", "\udcff"])
async def test_a_trace_context_that_makes_no_sense_is_left_out(
    traced: Traced, context: str
) -> None:
    service = images()
    service.use(traced.tracing.middleware)
    async with served(service) as address, tofu.Client(address) as client:
        await client.call("double", 1, headers={"traceparent": context, "tracestate": ",,="})
    assert (await traced.span(trace.SpanKind.SERVER)).parent is None


async def test_two_addresses_are_not_taken_for_one(traced: Traced) -> None:
    async with served(images()) as one, served(images()) as other:
        around = traced.tracing.around_call
        async with tofu.Client(one, other, around_call=around) as client:
            await client.call("double", 1)
    assert "server.address" not in (await traced.span(trace.SpanKind.CLIENT)).attributes


async def test_a_unix_socket_is_an_address_too(traced: Traced, socket_path: str) -> None:
    service = images()
    service.use(traced.tracing.middleware)
    async with tofu.Engine() as engine, engine.create_group() as group:
        async with await group.listen(f"uds://{socket_path}") as listener:
            serving = asyncio.create_task(listener.serve(service.handle))
            around = traced.tracing.around_call
            async with tofu.Client(listener.address, around_call=around) as client:
                await client.call("double", 1)
        await serving
    here = await traced.span(trace.SpanKind.CLIENT)
    assert here.attributes["server.address"] == f"uds://{socket_path}"
    assert "client.address" not in (await traced.span(trace.SpanKind.SERVER)).attributes
