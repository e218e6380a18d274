"""``tofu demo``: two processes exchange a file and many requests, and a table shows the results."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..protocol.binary_header import HEADER_SIZE
from . import demo_events
from .children import Child, premature_exit
from .demo_events import ClientReport, Listening, ServerReport
from .demo_peers import BODY
from .doctor import HAS_UDS
from .errors import Failure, printable
from .files import check_source
from .measuring import milliseconds
from .parameters import PATH
from .running import loop_option
from .transfer import PART

_DEFAULT_FILE: Final = Path(__file__).with_name("transfer.py")

_POOL: Final = 16
"""Messages in memory: so few that reading is suspended visibly often."""

_MANY_PARTS: Final = 64
"""The number of parts into which a small file is split, so that it takes more than a few."""


@dataclass(frozen=True)
class _Plan:
    """The options of the command."""

    file: Path
    size: int
    messages: int
    window: int
    pool: int
    loop: str

    @property
    def part_size(self) -> int:
        """Bytes of the file in one message."""
        return max(1, min(PART, math.ceil(self.size / _MANY_PARTS)))

    @property
    def parts(self) -> int:
        """How many parts the file has."""
        return max(1, math.ceil(self.size / self.part_size))


@dataclass(frozen=True)
class _Outcome:
    """The results over one transport."""

    transport: str
    client: ClientReport
    server: ServerReport


@click.command()
@click.argument("file", type=PATH, default=_DEFAULT_FILE, metavar="[FILE]")
@click.option(
    "--messages",
    type=click.IntRange(min=1),
    metavar="N",
    default=20_000,
    show_default=True,
    help="Number of requests.",
)
@click.option(
    "--window",
    type=click.IntRange(1, 10_000),
    metavar="N",
    default=64,
    show_default=True,
    help="Number of requests in flight at the same time.",
)
@click.option(
    "--pool",
    type=click.IntRange(min=1),
    metavar="N",
    default=_POOL,
    show_default=True,
    help="Number of received messages that each process may hold in memory.",
)
@loop_option
def demo(*, file: Path, messages: int, window: int, pool: int, loop: str) -> None:
    """Watch two processes exchange a file and messages.

    Starts a server and a client on this machine and connects them over TCP, then over a Unix
    socket. The client sends FILE in parts, then makes requests that the server answers. The default
    FILE is a source file of this package. Nothing is left behind.

    For each transport a table shows throughput, latencies under load, the peak memory of both
    processes, how often reading was suspended because the pool of received messages was empty, and
    the SHA-256 of the file, which both sides compute.

    \b
    Examples:
      tofu demo
      tofu demo image.iso
      tofu demo --loop uvloop --messages 100000 --pool 4

    Exit code: 0 if both sides computed the same SHA-256, 1 if anything failed.
    """  # noqa: D301 - \b tells click not to rewrap the paragraph
    check_source(file)
    plan = _Plan(file, file.stat().st_size, messages, window, pool, loop)
    with tempfile.TemporaryDirectory(prefix="tofu") as folder:
        outcomes = [_exchange("TCP", "tcp://127.0.0.1:0", plan)]
        if HAS_UDS:
            outcomes.append(_exchange("Unix socket", f"uds://{folder}/s", plan))
    Console(markup=False, highlight=False).print(_table(plan, outcomes))
    if not HAS_UDS:
        click.echo("Unix socket: skipped, because this Python does not support it on this system")


def _exchange(transport: str, address: str, plan: _Plan) -> _Outcome:
    """Run a server and a client that communicate over one transport."""
    common = ["--pool", str(plan.pool), "--loop", plan.loop]
    work = ["--messages", str(plan.messages), "--window", str(plan.window)]
    work += ["--part-size", str(plan.part_size)]
    with Child("server", "demo-server", address, *common) as server:
        listening = server.next_event()
        if not isinstance(listening, Listening):
            raise premature_exit(server)
        arguments = ["demo-client", *work, *common, "--", str(plan.file), listening.address]
        with Child("client", *arguments) as client, _bars(transport, plan) as show:
            sent = client.next_event()
            while isinstance(sent, demo_events.Progress):
                show(sent)
                sent = client.next_event()
            received = server.next_event()
            if not (isinstance(sent, ClientReport) and isinstance(received, ServerReport)):
                raise premature_exit(server, client)
            show(demo_events.Progress(plan.size, plan.messages))
    if sent.sha256 != received.sha256:
        raise Failure(
            f"{transport}: the client sent a file with SHA-256 {sent.sha256}, and the server "
            f"received one with SHA-256 {received.sha256}"
        )
    return _Outcome(transport, sent, received)


@contextmanager
def _bars(transport: str, plan: _Plan) -> Iterator[Callable[[demo_events.Progress], None]]:
    """Show progress bars for the file and the requests, on stderr if that is a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<22}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        file = progress.add_task(f"{transport}: file", total=max(1, plan.size))
        burst = progress.add_task(f"{transport}: requests", total=plan.messages)

        def show(event: demo_events.Progress) -> None:
            progress.update(file, completed=event.sent)
            progress.update(burst, completed=event.answered)

        yield show


def _table(plan: _Plan, outcomes: list[_Outcome]) -> Table:
    name = printable(plan.file.name)
    table = Table(title=f"{name} in parts, then {plan.window} requests at a time")
    table.add_column("")
    for outcome in outcomes:
        table.add_column(outcome.transport, justify="right")

    def row(label: str, cell: Callable[[_Outcome], str]) -> None:
        table.add_row(label, *map(cell, outcomes))

    row("file", lambda _: decimal(plan.size))
    row("  messages (parts)", lambda _: f"{plan.parts:,}")
    row("  time", lambda o: f"{o.client.file_seconds:.3f} s")
    row("  SHA-256, both sides", lambda o: f"{o.client.sha256[:12]}...")
    table.add_section()
    row("requests", lambda _: f"{plan.messages:,}")
    row("  messages, both ways", lambda _: f"{2 * plan.messages:,}")
    row("  bytes, both ways", lambda _: decimal(2 * plan.messages * (HEADER_SIZE + len(BODY))))
    row("  messages per second", lambda o: f"{2 * plan.messages / o.client.burst_seconds:,.0f}")
    row("  latency p50", lambda o: milliseconds(o.client.median))
    row("  latency p99", lambda o: milliseconds(o.client.percentile_99))
    table.add_section()
    row("peak memory, server", lambda o: decimal(o.server.peak_memory))
    row("peak memory, client", lambda o: decimal(o.client.peak_memory))
    row("reads suspended, server", lambda o: f"{o.server.suspensions:,} times")
    row("reads suspended, client", lambda o: f"{o.client.suspensions:,} times")
    return table
