"""What the demo's processes tell it, each as a line of JSON on their standard output."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final, TypeAlias

import click


@dataclass(frozen=True)
class Listening:
    """The server can be reached."""

    address: str


@dataclass(frozen=True)
class Progress:
    """So many bytes were sent, and requests answered, so far."""

    sent: int
    answered: int


@dataclass(frozen=True)
class ServerReport:
    """All that the server has to say at its end."""

    sha256: str
    suspensions: int
    peak_memory: int


@dataclass(frozen=True)
class ClientReport:
    """All that the client has to say at its end. Times are in seconds."""

    sha256: str
    file_seconds: float
    burst_seconds: float
    median: float
    percentile_99: float
    suspensions: int
    peak_memory: int


Event: TypeAlias = Listening | Progress | ServerReport | ClientReport

_KINDS: Final = {kind.__name__: kind for kind in (Listening, Progress, ServerReport, ClientReport)}


def tell(event: Event) -> None:
    """Say it to the demo, if that is who reads standard output."""
    click.echo(json.dumps({"kind": type(event).__name__, **asdict(event)}))


def heard(line: bytes) -> Event:
    """The event that a line tells."""
    fields = json.loads(line)
    event: Event = _KINDS[fields.pop("kind")](**fields)
    return event
