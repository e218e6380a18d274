"""The events that the demo's processes report, each as a line of JSON on standard output."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final, TypeAlias

import click


@dataclass(frozen=True)
class Listening:
    """The server is ready for connections."""

    address: str


@dataclass(frozen=True)
class Progress:
    """How many bytes were sent, and how many requests answered, so far."""

    sent: int
    answered: int


@dataclass(frozen=True)
class ServerReport:
    """The server's results."""

    sha256: str
    suspensions: int
    peak_memory: int


@dataclass(frozen=True)
class ClientReport:
    """The client's results. Times are in seconds."""

    sha256: str
    file_seconds: float
    burst_seconds: float
    median: float
    percentile_99: float
    suspensions: int
    peak_memory: int


Event: TypeAlias = Listening | Progress | ServerReport | ClientReport

_KINDS: Final = {kind.__name__: kind for kind in (Listening, Progress, ServerReport, ClientReport)}


def report(event: Event) -> None:
    """Write an event to standard output, where the demo reads it."""
    click.echo(json.dumps({"kind": type(event).__name__, **asdict(event)}))


def parse_event(line: bytes) -> Event:
    """The event that a line of output stands for."""
    fields = json.loads(line)
    event: Event = _KINDS[fields.pop("kind")](**fields)
    return event
