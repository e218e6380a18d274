"""The headers of a call and of its result. docs/design/service.md describes each of them.

A call is a REQUEST with these headers, and its result a RESPONSE, so any tofu peer can make calls.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final, NamedTuple

from ..protocol.text_headers import HeadersLike, TextHeaders
from .errors import INVALID_ARGUMENT, ServiceError

CALL: Final = "call"
"""On a request: the name of the handler."""
CODE: Final = "code"
"""On the response of a failed call: what kind of failure it is, for programs."""
CONTENT_TYPE: Final = "content-type"
"""The encoding of a payload, for example ``application/json``."""
EPOCH: Final = "epoch"
"""On the first part of a subscription, which has no item: the id of the topic's present run."""
LENGTH: Final = "length"
"""On the first part of an item that is longer than one part: its size in bytes."""
MISSED: Final = "missed"
"""On an item of a subscription: how many messages before it the subscriber does not get."""
SEQUENCE: Final = "seq"
"""On an item of a subscription: its number. On the first part: the number of the message before."""
STREAM: Final = "stream"
"""On the first part of a streamed result: each of the parts is an item, or a piece of one."""
TIMEOUT: Final = "timeout-ms"
"""On a request: how many milliseconds its caller waits for the result, a whole number."""

_MAX_TIMEOUT: Final = 10**12
"""The longest accepted ``timeout-ms``, about 31 years: a longer one is a mistake."""

_MAX_CACHED: Final = 256
"""Bytes of headers whose parsed form is remembered. A client sends the same ones again and again.
Longer ones, or those that differ from call to call, would only displace others."""


class CallHeaders(NamedTuple):
    """What the headers of a request say.

    Attributes:
        name: of the handler; "" if there is none.
        content_type: of the payload; "" if there is none.
        timeout: in seconds; None if the caller waits for any time.
        error: why the headers make no sense; None if they do.
    """

    name: str
    content_type: str
    timeout: float | None
    error: ServiceError | None


def read(headers: TextHeaders) -> CallHeaders:
    """Read the headers of a request."""
    encoded = headers.encode()
    return (_remembered if len(encoded) <= _MAX_CACHED else _read)(encoded)


def _read(encoded: bytes) -> CallHeaders:
    headers = TextHeaders.decode(encoded)
    timeout, error = None, None
    text = headers.get(TIMEOUT)
    if text is not None:
        if text.isascii() and text.isdigit() and len(text) < len(str(_MAX_TIMEOUT)):
            timeout = int(text) / 1000
        else:
            error = ServiceError(
                INVALID_ARGUMENT,
                f"the header {TIMEOUT} is {text[:40]!r}: it must be a whole number of "
                "milliseconds, such as 1500",
            )
    return CallHeaders(headers.get(CALL, ""), headers.get(CONTENT_TYPE, ""), timeout, error)


_remembered: Final = lru_cache(maxsize=1024)(_read)


@lru_cache(maxsize=1024)
def _of_call(name: str, content_type: str) -> TextHeaders:
    """The headers of a request; remembered, because encoding them takes longer than sending."""
    return TextHeaders({CALL: name, CONTENT_TYPE: content_type} if content_type else {CALL: name})


def of_outgoing(
    name: str, content_type: str, others: HeadersLike, added: HeadersLike
) -> TextHeaders:
    """The headers of a call that a client makes.

    Args:
        name: of the handler.
        content_type: of the payload; "" if it has none.
        others: the program's own headers.
        added: those of its hook.
    """
    own = _of_call(name, content_type)
    if not others and not added:
        return own
    return TextHeaders([*own.pairs, *TextHeaders(others).pairs, *TextHeaders(added).pairs])


def timed(headers: TextHeaders, seconds: float | None) -> TextHeaders:
    """The same headers, and how long the caller waits.

    Args:
        headers: of the call.
        seconds: rounded up to milliseconds, so that the handler is not cut short. None for any
            time.
    """
    if seconds is None or seconds == math.inf:
        return headers
    milliseconds = min(max(0, math.ceil(seconds * 1000)), _MAX_TIMEOUT - 1)
    encoded = headers.encode()
    return (_timed if len(encoded) <= _MAX_CACHED else _with_timeout)(encoded, milliseconds)


def _with_timeout(encoded: bytes, milliseconds: int) -> TextHeaders:
    # It comes first, and so it counts: a handler may pass the headers of its own call on.
    return TextHeaders.decode(f"{TIMEOUT}:{milliseconds}\r\n".encode() + encoded)


_timed: Final = lru_cache(maxsize=1024)(_with_timeout)
