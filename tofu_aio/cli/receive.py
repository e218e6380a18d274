"""``tofu receive``: receive one file from ``tofu send``."""

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
from .parameters import (
    PATH,
    address_argument,
    progress_timeout_option,
    secret_option,
    size_option,
)
from .running import loop_option, run
from .secret import read_secret
from .transfer import Offer, confirm, receive_file, reject_file

_POOL: Final = 16
"""Messages in memory: a megabyte of parts, which several reads from the socket fill."""

_LONGEST: Final = 30 * 86_400.0
"""Seconds that a transfer may take. It ends much earlier if it makes no progress."""


@click.command()
@address_argument
@click.option(
    "--output",
    "-o",
    type=PATH,
    required=True,
    metavar="FILE",
    help="Where to write the file. It appears there only once it is complete.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.option(
    "--pause",
    type=click.IntRange(0, 10_000),
    default=0,
    metavar="MS",
    help="Wait this many milliseconds after each part of 60 KiB, to watch the sender slow down.",
)
@size_option
@secret_option
@progress_timeout_option
@loop_option
def receive(
    *,
    address: Address,
    output: Path,
    force: bool,
    pause: int,
    max_size: int | None,
    secret_file: Path | None,
    progress_timeout: float,
    loop: str,
) -> None:
    """Receive one file from 'tofu send'.

    Listens on ADDRESS, accepts the first file that a peer offers, writes it to FILE, and exits.
    Anyone who can reach ADDRESS can send a file; use --secret-file to restrict who may send, and
    --max-size to limit its size. The file is written under a temporary name in the folder of FILE,
    and renamed once it is complete and its SHA-256 matches the sender's. Otherwise it is removed.

    \b
    Examples:
      tofu receive tcp://*:7000 -o image.iso --secret-file secret --max-size 4G
      tofu receive uds:///tmp/tofu.sock -o image.iso --force

    Exit code: 0 if FILE is complete, 1 if not. In that case FILE is unchanged, and a line on stderr
    gives the reason.
    """  # noqa: D301 - \b tells click not to rewrap the paragraph
    target = checked_target(output, force=force)
    secret = None if secret_file is None else read_secret(secret_file)
    receiving = _receive(
        address,
        target,
        force=force,
        pause=pause / 1000,
        max_size=max_size,
        secret=secret,
        progress_timeout=progress_timeout,
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
    progress_timeout: float,
) -> tuple[Offer, str, float]:
    async with Engine(_POOL) as engine, engine.create_group() as group:
        listener = await group.listen(address)
        click.echo(f"listening on {listener.address}")
        offers = Offers(max_size, secret)
        async with _serving(listener, offers) as serving:
            await asyncio.wait((offers.accepted, serving), return_when=asyncio.FIRST_COMPLETED)
            if not offers.accepted.done():
                await serving  # it has failed, and raises the reason
            channel, first, offer = offers.accepted.result()
            click.echo(f"receiving {offer.name}: {decimal(offer.size)}")
            async with _accepting_no_more(listener):
                begin = perf_counter()
                try:
                    with (
                        transfer_progress(offer.name, offer.size) as advance,
                        whole_file(target, force=force) as file,
                    ):
                        sha256 = await receive_file(
                            channel,
                            first,
                            file.write,
                            advance,
                            pause=pause,
                            progress_timeout=progress_timeout,
                        )
                except (Failure, OSError) as error:
                    await reject_file(channel, first, describe(error))
                    raise
                await confirm(channel, first, sha256)
        return offer, sha256, perf_counter() - begin


@asynccontextmanager
async def _accepting_no_more(listener: Listener) -> AsyncIterator[None]:
    """Refuse new peers during the block. The channels of the others go on."""
    draining = asyncio.create_task(listener.drain(_LONGEST))
    try:
        yield
    finally:
        draining.cancel()
        await asyncio.wait([draining])


@asynccontextmanager
async def _serving(listener: Listener, offers: Offers) -> AsyncIterator[asyncio.Task[None]]:
    """Handle all peers during the block.

    Afterwards the channels are closed with a Bye; if the block is cancelled, they are reset.
    """
    serving = asyncio.create_task(listener.serve(offers.handle, decide=offers.accept_peer))
    try:
        yield serving
    except asyncio.CancelledError:
        serving.cancel()
        raise
    finally:
        offers.stop()
        await listener.aclose()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
