"""``tofu receive``: one file from ``tofu send``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Final

import click
from rich.filesize import decimal

from ..messaging.engine import Engine
from ..messaging.listener import Listener
from ..protocol.address import Address
from .errors import Failure, describe
from .files import checked_target, whole_file
from .offers import Offers
from .output import transfer_progress, transferred
from .parameters import PATH, address_argument, patience_option, secret_option, size_option
from .running import loop_option, run
from .secret import read_secret
from .transfer import Offer, confirm, receive_file, refuse

_POOL: Final = 16
"""Messages in memory: a megabyte of parts, which is several reads from the socket."""


@click.command()
@address_argument
@click.option(
    "--output",
    "-o",
    type=PATH,
    required=True,
    metavar="FILE",
    help="Where the file goes. It appears there whole or not at all.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.option(
    "--pause",
    type=click.IntRange(0, 10_000),
    default=0,
    metavar="MS",
    help="Wait so many milliseconds after each part of 60 KiB, to see the sender held back.",
)
@size_option
@secret_option
@patience_option
@loop_option
def receive(
    *,
    address: Address,
    output: Path,
    force: bool,
    pause: int,
    max_size: int | None,
    secret_file: Path | None,
    patience: float,
    loop: str,
) -> None:
    """Take one file from 'tofu send'.

    Listens at ADDRESS, takes the first file that somebody offers, writes it to FILE, and exits.
    Without --secret-file that is whoever can reach ADDRESS, with any file of any size. While it
    arrives the file has a temporary name in the folder of FILE. It is renamed once it is complete
    and its SHA-256 is the sender's; otherwise it is removed.

    \b
    Examples:
      tofu receive tcp://*:7000 -o image.iso --secret-file secret --max-size 4G
      tofu receive uds:///tmp/tofu.sock -o image.iso --force

    Exit code 0 says that the whole file is there; 1 that nothing is, and one line on stderr why.
    """  # noqa: D301 - \b is click's mark for lines to be left as they are
    target = checked_target(output, force=force)
    secret = None if secret_file is None else read_secret(secret_file)
    receiving = _receive(
        address,
        target,
        force=force,
        pause=pause / 1000,
        max_size=max_size,
        secret=secret,
        patience=patience,
    )
    offer, sha256, seconds = run(receiving, loop)
    click.echo(f"received {offer.name}: {transferred(offer.size, seconds)}")
    click.echo(f"SHA-256 {sha256}, the same on both sides")


async def _receive(
    address: Address,
    target: Path,
    *,
    force: bool,
    pause: float,
    max_size: int | None,
    secret: bytes | None,
    patience: float,
) -> tuple[Offer, str, float]:
    async with Engine(_POOL) as engine, engine.create_group() as group:
        listener = await group.listen(address)
        click.echo(f"listening on {listener.address}")
        offers = Offers(max_size, secret)
        async with _hearing(listener, offers) as hearing:
            await asyncio.wait((offers.taken, hearing), return_when=asyncio.FIRST_COMPLETED)
            if not offers.taken.done():
                await hearing  # which has failed
            channel, first, offer = offers.taken.result()
            click.echo(f"receiving {offer.name}: {decimal(offer.size)}")
            await listener.aclose()  # nobody else is wanted
            begin = perf_counter()
            try:
                with (
                    transfer_progress(offer.name, offer.size) as advance,
                    whole_file(target, force=force) as file,
                ):
                    sha256 = await receive_file(
                        channel, first, file.write, advance, pause=pause, patience=patience
                    )
            except (Failure, OSError) as error:
                await refuse(channel, first, describe(error))
                raise
            await confirm(channel, first, sha256)
        return offer, sha256, perf_counter() - begin


@asynccontextmanager
async def _hearing(listener: Listener, offers: Offers) -> AsyncIterator[asyncio.Task[None]]:
    """Hear all who come. At its end the sender has been told Bye; if interrupted, it is reset."""
    hearing = asyncio.create_task(listener.serve(offers.hear, decide=offers.welcome))
    try:
        yield hearing
    except asyncio.CancelledError:
        hearing.cancel()
        raise
    finally:
        offers.end()
        await listener.aclose()
        with contextlib.suppress(asyncio.CancelledError):
            await hearing
