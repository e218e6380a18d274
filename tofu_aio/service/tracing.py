"""Spans of OpenTelemetry for the calls of clients and services.

The W3C trace context travels in the headers ``traceparent`` and ``tracestate`` of each call, so the
spans of all programs that a request passes through belong to one trace. Names and attributes are
those of OpenTelemetry's semantic conventions for RPC.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.span import Span

from ..protocol.address import TcpAddress
from .call import Call, Next
from .errors import (
    CANCELLED,
    DEADLINE_EXCEEDED,
    INTERNAL,
    OK,
    UNAVAILABLE,
    UNIMPLEMENTED,
    ServiceError,
)
from .outgoing import OutgoingCall, code_of
from .reporting import is_over

_SYSTEM: Final = "rpc.system.name"
_METHOD: Final = "rpc.method"
_CODE: Final = "rpc.response.status_code"

_SERVER_FAULTS: Final = frozenset({INTERNAL, UNAVAILABLE, UNIMPLEMENTED, DEADLINE_EXCEEDED})
"""Codes that mean a failure of the service. With the others it tells its caller something, which
is the caller's failure, if it is one."""


class Tracing:
    """Makes spans for calls, on the side of a service, of a client, or both.

        tracing = tofu.Tracing()
        service.use(tracing.middleware)
        client = tofu.Client("tcp://a:7000", around_call=tracing.around_call)

    A span has the name of the handler, and the attributes ``rpc.system.name``, ``rpc.method`` and
    ``rpc.response.status_code``. The span of a failed call has the status ERROR and ``error.type``.
    On the side of the service, a ``ServiceError`` counts as a failure only if its code is
    ``internal``, ``unavailable``, ``unimplemented`` or ``deadline_exceeded``; any other code tells
    the caller something.

    Args:
        tracer_provider: makes the spans; the global one by default.
    """

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("tofu_aio", tracer_provider=tracer_provider)
        self._propagator = TraceContextTextMapPropagator()

    async def middleware(self, call: Call, following: Next) -> object:
        """Middleware for ``Service.use``: a span around each call, a child of the caller's.

        It is the current span of the handler, so those that the handler makes are its children.
        """
        with self._tracer.start_as_current_span(
            call.name,
            context=self._propagator.extract(call.headers),
            kind=SpanKind.SERVER,
            attributes=_attributes(call.name),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            address = call.peer.address
            if isinstance(address, TcpAddress):
                span.set_attributes({"client.address": address.host, "client.port": address.port})
            try:
                result = await following(call)
            except BaseException as error:
                code = code_of(error)
                if code == CANCELLED and is_over(call.deadline):
                    code = DEADLINE_EXCEEDED
                tells = isinstance(error, ServiceError) and code not in _SERVER_FAULTS
                _fail(span, code, None if tells else error)
                raise
            span.set_attribute(_CODE, OK)
            return result

    @contextmanager
    def around_call(self, call: OutgoingCall) -> Iterator[None]:
        """A hook for ``Client(around_call=...)``: a span around each call, stream and upload.

        It is a child of the current span. It does not become the current one itself: the items of a
        stream are processed by the program while the stream goes on.
        """
        span = self._tracer.start_span(
            call.name, kind=SpanKind.CLIENT, attributes=_attributes(call.name)
        )
        self._propagator.inject(call.headers, trace.set_span_in_context(span))
        if len(call.addresses) == 1:
            span.set_attributes(_server(call.addresses[0]))
        try:
            yield
        except BaseException as error:
            _fail(span, code_of(error), error)
            raise
        else:
            span.set_attribute(_CODE, OK)
        finally:
            span.end()


def _attributes(name: str) -> dict[str, str]:
    return {_SYSTEM: "tofu", _METHOD: name}


def _server(address: str) -> dict[str, str | int]:
    """The attributes of an address that a client was given."""
    host, colon, port = address.removeprefix("tcp://").rpartition(":")
    if not address.startswith("tcp://") or not colon:
        return {"server.address": address}
    return {"server.address": host, "server.port": int(port)}


def _fail(span: Span, code: str, error: BaseException | None) -> None:
    """Set the code, and the error if it is one of this side. Giving up is no error."""
    span.set_attribute(_CODE, code)
    if error is None or code == CANCELLED:
        return
    own = isinstance(error, ServiceError)
    span.set_attribute("error.type", code if own else type(error).__qualname__)
    span.set_status(Status(StatusCode.ERROR, str(error) or code))
    if not own:
        span.record_exception(error)
