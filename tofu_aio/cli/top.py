"""``tofu top``: what a service does, refreshed each second."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol

import click
from rich.console import Console, RenderableType
from rich.live import Live

from ..protocol.address import Address
from ..service.errors import ServiceError
from .calling import as_json, client_for, failure_of
from .errors import Failure
from .parameters import Headers, address_argument, headers_option
from .running import loop_option, run
from .tls import tls_options

if TYPE_CHECKING:
    from ..service.client import Client
    from ..service.statistics import ServiceStatistics

STATISTICS: Final = "tofu.statistics"
"""The built-in handler that tells what the service does."""

_EACH: Final = 1.0
"""Seconds between two looks at the service."""

_PATIENCE: Final = 10.0
"""Seconds that the service has to answer."""


@click.command()
@address_argument
@click.option(
    "--once", is_flag=True, help="Print one table and end. Its rates are since the start."
)
@click.option(
    "--json", "as_lines", is_flag=True, help="Print the statistics as JSON, one line each second."
)
@headers_option
@tls_options
@loop_option
def top(*, address: Address, once: bool, as_lines: bool, headers: Headers, loop: str) -> None:
    """Watch a service.

    Shows the calls of the tofu.Service at ADDRESS by name, its channels, its pool and its loop,
    and refreshes them each second until Ctrl-C. The median and the 99th percentile of the durations
    are upper bounds, for the last second. The service must be made with
    tofu.Service(statistics=True).

    \b
    Examples:
      tofu top tcp://127.0.0.1:7000
      tofu top --once uds:///run/app.sock
      tofu top --json tcp://127.0.0.1:7000 | jq .engine.pool_free

    Exit code: 0 after --once or Ctrl-C, 1 if the service does not answer. In that case a line on
    stderr gives the reason.
    """  # noqa: D301 - \b tells click not to rewrap the paragraph
    client = client_for(address, headers)
    with suppress(KeyboardInterrupt):  # the usual way to stop
        run(_top(client, address, headers, once=once, as_lines=as_lines), loop)


async def _top(
    client: Client, address: Address, headers: Headers, *, once: bool, as_lines: bool
) -> None:
    from .top_tables import view  # noqa: PLC0415 - msgspec may not be installed

    before: ServiceStatistics | None = None
    console = Console(highlight=False, markup=False)
    async with client:
        with _shown(console, live=not (once or as_lines)) as show:
            while True:
                now = await _ask(client, headers)
                if as_lines:
                    click.echo(as_json(now))
                else:
                    show(view(str(address), now, before))
                if once:
                    return
                before = now
                await asyncio.sleep(_EACH)


async def _ask(client: Client, headers: Headers) -> ServiceStatistics:
    from ..service.statistics import ServiceStatistics  # noqa: PLC0415

    try:
        return await client.call(
            STATISTICS, result=ServiceStatistics, timeout=_PATIENCE, headers=headers
        )
    except ServiceError as error:
        raise failure_of(error) from error
    except TimeoutError as error:
        raise Failure(f"the service did not answer within {_PATIENCE:g} s") from error


class _Show(Protocol):
    def __call__(self, view: RenderableType, /) -> None: ...


@contextmanager
def _shown(console: Console, *, live: bool) -> Iterator[_Show]:
    """Show one view in place of the other on a terminal, and otherwise one after the other."""
    if not (live and console.is_terminal):
        yield console.print
        return
    with Live(console=console, auto_refresh=False, screen=True) as display:
        yield lambda view: display.update(view, refresh=True)
