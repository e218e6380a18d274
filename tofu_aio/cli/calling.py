"""What the commands that call services have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..messaging.options import ReconnectingClientOptions
from ..protocol.address import Address
from .errors import Failure
from .parameters import Headers
from .tls import tls_for

if TYPE_CHECKING:
    from ..service.client import Client
    from ..service.errors import ServiceError


def client_for(address: Address, headers: Headers) -> Client:
    """A client for one call after another to one address.

    Raises:
        Failure: the extra ``service`` is not installed, or a file for TLS cannot be used.
    """
    try:
        from .. import Client  # noqa: PLC0415 - msgspec may not be installed
    except ImportError as error:
        raise Failure(str(error)) from error
    options = cast("ReconnectingClientOptions", {**tls_for(address), "headers": headers})
    return Client(address, attempts=1, **options)


def as_json(value: object) -> str:
    """A value as JSON on one line, which cannot control the terminal."""
    import msgspec  # noqa: PLC0415

    text = msgspec.json.encode(value).decode()
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def failure_of(error: ServiceError) -> Failure:
    """The error of a call, with its details."""
    if error.details is None:
        return Failure(str(error))
    return Failure(f"{error}; details: {as_json(error.details)}")
