"""``tofu receive``: one file from ``tofu send``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import perf_counter
from typing import Final

import click
from rich.filesize import decimal

from ..messaging.channel import Channel
from ..messaging.engine import Engine
from ..messaging.listener import Listener
from ..protocol.address import Address
from ..protocol.errors import TofuError
from ..protocol.message import Message
from .errors import Failure, describe
from .files import checked_target, whole_file
from .output import transfer_progress, transferred
from .parameters import PATH, address_argument, patience_option
from .running import loop_option, run
from .transfer import Offer, confirm, offer_in, receive_file, refuse

_POOL: Final = 16
"""Messages in memory: a megabyte of parts, which is several reads from the socket."""

_OFFER_TIMEOUT: Final = 10.0
"""Seconds that a peer has to offer a file. Another one waits behind it."""


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
@patience_option
@loop_option
def receive(
    *, address: Address, output: Path, force: bool, pause: int, patience: float, loop: str
) -> None:
    """Take one file from 'tofu send'.

    Listens at ADDRESS for one sender, writes its file to FILE, and exits. While it arrives the
    file has a temporary name in the folder of FILE. It is renamed once it is complete and its
    SHA-256 is the sender's; otherwise it is removed.

    \b
    Examples:
      tofu receive tcp://*:7000 -o image.iso
      tofu receive uds:///tmp/tofu.sock -o image.iso --force

    Exit code 0 says that the whole file is there; 1 that nothing is, and one line on stderr why.
    """  # noqa: D301 - \b is click's mark for lines to be left as they are
    target = checked_target(output, force=force)
    offer, sha256, seconds = run(_receive(address, target, force, pause / 1000, patience), loop)
    click.echo(f"received {offer.name}: {transferred(offer.size, seconds)}")
    click.echo(f"SHA-256 {sha256}, the same on both sides")


async def _receive(
    address: Address, target: Path, force: bool, pause: float, patience: float
) -> tuple[Offer, str, float]:
    async with Engine(_POOL) as engine, engine.create_group() as group:
        listener = await group.listen(address)
        click.echo(f"listening on {listener.address}")
        channel, first, offer = await _first_offer(listener)
        click.echo(f"receiving {offer.name}: {decimal(offer.size)}")
        await listener.aclose()  # others learn at once that they are not wanted
        begin = perf_counter()
        async with channel:
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


async def _first_offer(listener: Listener) -> tuple[Channel, Message, Offer]:
    """The first peer that offers a file. Who does something else is sent away."""
    while True:
        channel = await listener.accept()
        try:
            async with asyncio.timeout(_OFFER_TIMEOUT):
                first = await channel.receive()
        except (TofuError, TimeoutError):
            channel.abort()
            continue
        offer = offer_in(first)
        if offer is not None:
            return channel, first, offer
        click.echo("a peer that offered no file was sent away")
        with first:
            await refuse(channel, first, "only files are taken here: use 'tofu send'")
        await channel.aclose()
