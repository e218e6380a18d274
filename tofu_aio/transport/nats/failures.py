"""Error messages for brokers that cannot be used: what went wrong, and what to do about it."""

from __future__ import annotations

import re
import ssl
from typing import Final, NamedTuple

from ..failures import explain as explain_system
from .limits import BROKER_TIMEOUT

_REFUSED: Final = "the broker refuses this user, password, token or credentials: check them"

_INSTALL: Final = "install it with pip install 'tofu-aio[nats]'"

_EXPLANATIONS: Final = {
    "authorization violation": _REFUSED,
    "offers no tls": "the broker offers no TLS: configure it, or use nats:// without ssl",
    "empty response": "what listens there is no NATS broker: check host and port",
    "unknown protocol": "what listens there is no NATS broker: check host and port",
    "json parse error": "what listens there is no NATS broker: check host and port",
    "maximum connections exceeded": "the broker has as many connections as it allows: raise its "
    "max_connections",
}


_KINDS: Final[dict[type[BaseException], str]] = {
    # The end of the connection may overtake the error that the broker has sent before.
    ConnectionResetError: "the broker has closed the connection; perhaps " + _REFUSED,
    BrokenPipeError: "the broker has closed the connection; perhaps " + _REFUSED,
    TimeoutError: f"no NATS broker has answered there within {BROKER_TIMEOUT} s: check host and "
    "port",
    ConnectionRefusedError: "nobody is listening there: start the broker first",
}


_NOT_PERMITTED: Final = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"')


class Refusal(NamedTuple):
    """What a broker does not permit.

    Attributes:
        what: ``publish`` or ``subscription``.
        subject: that it is about, in lower case.
        error: what to raise.
    """

    what: str
    subject: str
    error: PermissionError


def refusal(error: Exception) -> Refusal | None:
    """Return what the broker does not permit, if it is this that nats-py reports."""
    found = _NOT_PERMITTED.search(str(error).lower())
    if found is None:
        return None
    what, subject = found.groups()
    text = f"the broker does not permit {what} to {subject!r}"
    return Refusal(what, subject, PermissionError(text))


class NoBroker(Exception):
    """No broker can be used. The text says why, for each of them."""


def _missing(package: str) -> str:
    if package == "nkeys":
        return f"a credentials file needs the package nkeys: {_INSTALL}"
    return f"NATS needs the package nats-py: {_INSTALL}"


def explain(error: BaseException) -> str:
    """Explain why a broker cannot be used."""
    if isinstance(error, ImportError):
        return _missing((error.name or "").partition(".")[0])
    if isinstance(error, ssl.SSLError):
        return f"TLS with the broker has failed: {error.reason or error}"
    for kind, explanation in _KINDS.items():
        if isinstance(error, kind):
            return explanation
    if isinstance(error, OSError):
        return explain_system(error)
    text = str(error).removeprefix("nats: ").strip("'") or type(error).__name__
    found = [explanation for key, explanation in _EXPLANATIONS.items() if key in text.lower()]
    return found[0] if found else text
