"""What both sides of a channel agree upon, read from a Hello and from its answer."""

from __future__ import annotations

import re
from enum import IntFlag
from functools import lru_cache
from typing import Final, NamedTuple

from ...protocol.text_headers import CONNECT_TO, HEARTBEAT, SUPPORTS, TextHeaders
from ..limits import CLIENT_HEARTBEAT_MIN, HEARTBEAT_MAX, HEARTBEAT_MIN


class Extension(IntFlag):
    """What a peer can do beyond the Zig library's protocol.

    The names, in lower case, are the tokens of ``~supports``.
    """

    CANCEL = 1
    """It takes notices that a request was cancelled."""
    WHOLE = 2
    """It joins a request or response that comes in parts."""
    DRAIN = 4
    """It takes the notice that the other side will close the channel."""


NO_EXTENSION: Final = Extension(0)


class Agreement(NamedTuple):
    """What a Hello, or the answer to one, says.

    Attributes:
        heartbeat: the interval that it asks for, in seconds; None if it asks for none.
        supports: the extensions of its sender.
    """

    heartbeat: float | None
    supports: Extension


NOTHING: Final = Agreement(None, NO_EXTENSION)

_NAMES: Final = {flag.name.lower().encode(): flag for flag in Extension if flag.name}

# All of these match the encoded headers: if every Hello's headers were decoded, any client could
# choose how much memory that takes. A line begins only after CR LF, since a value may contain a
# bare CR or LF. Repeats are possessive, atomic or bounded, so the time is linear.
_LINE: Final = rb"(?:\A|(?<=\r\n))[ \t]*+%s[ \t]*+:"
_ECHO: Final = re.compile(_LINE % CONNECT_TO.encode())
_HEARTBEAT: Final = re.compile(
    _LINE % HEARTBEAT.encode() + rb"[ \t]*+([0-9]{1,9}+)[ \t]*+\r\n",
)
_SUPPORTS: Final = re.compile(_LINE % SUPPORTS.encode() + rb"([a-z0-9_, \t-]{1,250}+)\r\n")

_USUAL: Final = re.compile(rb"(?>(?:~[^\r\n]*+\r\n)*)")
_USUAL_LENGTH: Final = 256

SUPPORTED: Final = {SUPPORTS: ",".join(name.decode() for name in _NAMES)}
"""The header that the engine adds to the Hellos and answers of stream channels."""


def agreed(headers: bytes, *, answer: bool) -> Agreement:
    """What a Hello, or the answer to one, agrees upon.

    A Zig server may accept a client by sending its Hello back, headers included. An answer that
    still carries ``~connect_to`` is such an echo. It says only what this side can do, so it agrees
    to nothing.

    Args:
        headers: encoded. Other headers are ignored.
        answer: whether they are the headers of an answer.
    """
    return (_remembered if _is_usual(headers) else _read)(headers, answer)


def agreed_interval(client: float | None, listener: float | None) -> float | None:
    """The interval of heartbeats that both sides keep, in seconds, from what each has asked for.

    It is the shorter one. But a client gets none below a second, unless the listener's own is.
    """
    if client is None:
        return listener
    if listener is None:
        return max(client, CLIENT_HEARTBEAT_MIN)
    return max(min(client, listener), min(listener, CLIENT_HEARTBEAT_MIN))


def shared(headers: TextHeaders) -> TextHeaders:
    """The same headers, as one object for all channels with an equal Hello.

    This saves memory, because each channel keeps its peer's Hello.
    """
    encoded = headers.encode()
    return _decoded(encoded) if _is_usual(encoded) else headers


def _is_usual(headers: bytes) -> bool:
    """Whether headers are short and only the engine's own.

    Most Hellos have such headers, and all clients of a listener send the same ones, so the parsed
    form is cached. Headers that an application has added, for example a token, are not cached.
    """
    return len(headers) <= _USUAL_LENGTH and _USUAL.fullmatch(headers) is not None


def _read(headers: bytes, answer: bool) -> Agreement:
    if answer and _ECHO.search(headers):
        return NOTHING
    return Agreement(_heartbeat(headers), _supports(headers))


_remembered: Final = lru_cache(maxsize=32)(_read)
_decoded: Final = lru_cache(maxsize=32)(TextHeaders.decode)


def _heartbeat(headers: bytes) -> float | None:
    """The interval in seconds; None if there is none, or if it is out of range."""
    asked = _HEARTBEAT.search(headers)
    seconds = int(asked[1]) / 1000 if asked is not None else 0.0
    return seconds if HEARTBEAT_MIN <= seconds <= HEARTBEAT_MAX else None


def _supports(headers: bytes) -> Extension:
    """The extensions that are known here. Later versions may name others."""
    found = _SUPPORTS.search(headers)
    supports = NO_EXTENSION
    for token in found[1].split(b",") if found is not None else ():
        supports |= _NAMES.get(token.strip(), NO_EXTENSION)
    return supports
