"""Arguments and options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, TypeAlias

import click

from ..messaging.limits import POOL_BYTES, POOL_MESSAGES
from ..protocol.address import Address, parse_address
from ..protocol.binary_header import HEADER_SIZE
from ..protocol.errors import InvalidAddress, TofuError
from ..protocol.text_headers import TextHeaders
from .transfer import PROGRESS_TIMEOUT

Headers: TypeAlias = tuple[tuple[str, str], ...]

_SIZE: Final = re.compile(r"([0-9]{1,15})([KMGT]?)", re.IGNORECASE)

PATH: Final = click.Path(path_type=Path, readable=False)
"""A path. The command checks it, because an unreadable file is not a usage error."""


def _parsed(context: click.Context, parameter: click.Parameter, text: str) -> Address:
    try:
        return parse_address(text)
    except InvalidAddress as error:
        raise click.BadParameter(str(error), context, parameter) from error


def _bytes(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    size = _SIZE.fullmatch(text)
    if size is None:
        reason = f"{text!r} is not a size: give a number of bytes, or for example 200M or 4G"
        raise click.BadParameter(reason, context, parameter)
    return int(size[1]) << 10 * " KMGT".index(size[2].upper() or " ")


def _headers(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> Headers:
    headers = []
    for text in texts:
        name, colon, value = text.partition(":")
        if not colon:
            reason = f"{text!r} is not a header: give a name, a colon and a value, as in token:abc"
            raise click.BadParameter(reason, context, parameter)
        headers.append((name.strip(), value.strip()))
    try:
        TextHeaders(headers)
    except TofuError as error:
        raise click.BadParameter(str(error), context, parameter) from error
    return tuple(headers)


address_argument = click.argument("address", callback=_parsed)

pool_option = click.option(
    "--pool",
    type=click.IntRange(min=1, max=POOL_BYTES // HEADER_SIZE),
    metavar="N",
    default=POOL_MESSAGES,
    show_default=True,
    help="Number of received messages that may be in memory at the same time, of at most 8 MiB in "
    "total. In addition, each channel may hold one message.",
)

headers_option = click.option(
    "--header",
    "-H",
    "headers",
    multiple=True,
    callback=_headers,
    metavar="NAME:VALUE",
    help="A header for each request, and for the Hello that opens the channel. Can be repeated.",
)

size_option = click.option(
    "--max-size",
    callback=_bytes,
    metavar="SIZE",
    help="Reject larger files. A number of bytes, or for example 200M or 4G.",
)

secret_option = click.option(
    "--secret-file",
    type=PATH,
    metavar="FILE",
    help="A file with a secret that both sides share. It proves that the sender may send. The "
    "secret is not transmitted, and nothing is encrypted.",
)

progress_timeout_option = click.option(
    "--timeout",
    "progress_timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    default=PROGRESS_TIMEOUT,
    show_default=True,
    help="Give up after this time without progress.",
)
