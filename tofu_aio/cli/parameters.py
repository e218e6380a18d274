"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from ..messaging.limits import POOL_MESSAGES
from ..protocol.address import Address, parse_address
from ..protocol.errors import InvalidAddress
from .transfer import PATIENCE

PATH: Final = click.Path(path_type=Path, readable=False)
"""A path that is judged by whoever opens it: that it cannot be read is no error of usage."""


def _parsed(context: click.Context, parameter: click.Parameter, text: str) -> Address:
    try:
        return parse_address(text)
    except InvalidAddress as error:
        raise click.BadParameter(str(error), context, parameter) from error


address_argument = click.argument("address", callback=_parsed)

pool_option = click.option(
    "--pool",
    type=click.IntRange(min=1),
    metavar="N",
    default=POOL_MESSAGES,
    show_default=True,
    help="How many received messages may be in memory at once; each up to 131,086 bytes.",
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
