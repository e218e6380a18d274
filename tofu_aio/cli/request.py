"""``tofu request``: call a handler of a service."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ..protocol.address import Address
from ..service.errors import ServiceError
from .calling import as_json, client_for, failure_of
from .errors import Failure
from .parameters import Headers, address_argument, headers_option
from .running import loop_option, run
from .tls import tls_options

if TYPE_CHECKING:
    from ..service.client import Client

NAMES: Final = "tofu.names"
"""The built-in handler that lists the names of all handlers."""


@click.command()
@address_argument
@click.argument("name", required=False)
@click.option(
    "--data",
    "-d",
    metavar="JSON|@FILE|-",
    help="The payload: JSON, or @ with the name of a file that has it, or - for standard input. By "
    "default there is none.",
)
@headers_option
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Time to wait for the whole result. The handler is cancelled then. No limit by default.",
)
@click.option(
    "--upload", is_flag=True, help="Send the payload as a stream: each line of it is an item."
)
@click.option("--list", "lists", is_flag=True, help="List the names of all handlers instead.")
@tls_options
@loop_option
def request(
    *,
    address: Address,
    name: str | None,
    data: str | None,
    headers: Headers,
    timeout: float | None,
    upload: bool,
    lists: bool,
    loop: str,
) -> None:
    """Call a handler of a service.

    Calls the handler NAME of the tofu.Service at ADDRESS, and prints the result as JSON on one
    line. If the result is a stream, prints each item on a line, as soon as it arrives. Prints bytes
    as they are.

    \b
    Examples:
      tofu request tcp://127.0.0.1:7000 --list
      tofu request tcp://127.0.0.1:7000 resize -d '{"width": 100}'
      tofu request tcp://127.0.0.1:7000 store --upload -d @items.jsonl
      tofu request --tls tcp://example.org:7000 tofu.health -H token:s3cret

    Exit code: 0 if there was a result, 1 if not. In that case a line on stderr gives the reason:
    for an error of the service its code, its text and its details.
    """  # noqa: D301 - \b tells click not to rewrap the paragraph
    if lists:
        if name is not None or data is not None or upload:
            raise click.UsageError("--list calls no handler: leave out NAME, --data and --upload")
        name = NAMES
    elif name is None:
        raise click.UsageError("Missing argument 'NAME': give the name of a handler, or --list")
    elif upload and data is None:
        raise click.UsageError("--upload needs --data, whose lines are the items")
    payload = None if data is None else _read(data)
    client = client_for(address, headers)
    items = _items(payload, upload=upload)
    run(_request(client, name, items, headers, timeout, upload=upload, lists=lists), loop)


async def _request(
    client: Client,
    name: str,
    items: Sequence[object],
    headers: Headers,
    timeout: float | None,
    *,
    upload: bool,
    lists: bool,
) -> None:
    payload = _each(items) if upload else next(iter(items), None)
    try:
        async with client:
            # A result that is no stream is one item.
            results = client.stream(name, payload, item=object, timeout=timeout, headers=headers)
            async for result in results:
                _show(result, lists=lists)
    except ServiceError as error:
        raise failure_of(error) from error
    except TimeoutError as error:
        limit = "in time" if timeout is None else f"within {timeout:g} s"
        raise Failure(f"no result {limit}: give it more time with --timeout") from error


def _show(result: object, *, lists: bool) -> None:
    if isinstance(result, bytes):
        click.echo(result, nl=False)
    elif lists and isinstance(result, list):
        for name in result:
            click.echo(name if isinstance(name, str) and name.isprintable() else as_json(name))
    else:
        click.echo(as_json(result))


async def _each(items: Sequence[object]) -> AsyncIterator[object]:
    for item in items:
        yield item


def _read(data: str) -> bytes:
    """The payload that ``--data`` names."""
    if data == "-":
        return sys.stdin.buffer.read()
    if data.startswith("@"):
        return Path(data[1:]).read_bytes()
    return data.encode("utf-8", "surrogateescape")


def _items(payload: bytes | None, *, upload: bool) -> list[object]:
    """The payload, or its items, checked and otherwise left as they are.

    Raises:
        Failure: it is not JSON.
    """
    import msgspec  # noqa: PLC0415 - it may not be installed

    if payload is None:
        return []
    pieces = [line for line in payload.splitlines() if line.strip()] if upload else [payload]
    for number, piece in enumerate(pieces, 1):
        try:
            msgspec.json.decode(piece)
        except (msgspec.DecodeError, RecursionError) as error:
            where = f"line {number} of the payload" if upload else "the payload"
            raise Failure(f"{where} is not JSON: {error}") from error
    return [msgspec.Raw(piece) for piece in pieces]
