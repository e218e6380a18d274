"""Arguments and options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

from ..messaging.limits import POOL_BYTES, POOL_MESSAGES
from ..protocol.address import Address, parse_address
from ..protocol.binary_header import HEADER_SIZE
from ..protocol.errors import InvalidAddress
from .transfer import PATIENCE

_SIZE: Final = re.compile(r"([0-9]{1,15})([KMGT]?)", re.IGNORECASE)

PATH: Final = click.Path(path_type=Path, readable=False)
"""A path that is judged by whoever opens it: that it cannot be read is no error of usage."""


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
        reason = f"{text!r} is no size: give a number of bytes, or 200M, or 4G"
        raise click.BadParameter(reason, context, parameter)
    return int(size[1]) << 10 * " KMGT".index(size[2].upper() or " ")


address_argument = click.argument("address", callback=_parsed)

pool_option = click.option(
    "--pool",
    type=click.IntRange(min=1, max=POOL_BYTES // HEADER_SIZE),
    metavar="N",
    default=POOL_MESSAGES,
    show_default=True,
    help="How many received messages may be in memory at once, of 8 MiB together. Beside them each "
    "channel may have one.",
)

size_option = click.option(
    "--max-size",
    callback=_bytes,
    metavar="SIZE",
    help="Take no larger file: bytes, or 200M, or 4G.",
)

secret_option = click.option(
    "--secret-file",
    type=PATH,
    metavar="FILE",
    help="A file with a secret that both sides share: it shows that the sender may send. It never "
    "travels, and it hides nothing.",
)

patience_option = click.option(
    "--timeout",
    "patience",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    default=PATIENCE,
    show_default=True,
    help="Give up after so long without any progress.",
)
