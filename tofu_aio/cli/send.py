"""``tofu send``: send a file to ``tofu receive``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import perf_counter
from typing import BinaryIO, Final

import click

from ..messaging.channel import Channel
from ..messaging.engine import Engine
from ..messaging.group import ChannelGroup
from ..protocol.address import Address
from ..protocol.errors import ConnectFailed, UdsPathNotFound
from .errors import Failure
from .files import check_source
from .output import transfer_progress, transferred
from .parameters import PATH, address_argument, progress_timeout_option, secret_option
from .running import loop_option, run
from .secret import CHALLENGE, PROOF, proof_of, read_secret
from .transfer import Offer, offer_for, send_file

_RETRY: Final = 0.1
"""Seconds between attempts to connect to a receiver that does not listen yet."""


@click.command()
@click.argument("file", type=PATH)
@address_argument
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=5.0,
    show_default=True,
    help="Time to wait for the receiver to start listening.",
)
@secret_option
@progress_timeout_option
@loop_option
def send(
    *,
    file: Path,
    address: Address,
    wait: float,
    secret_file: Path | None,
    progress_timeout: float,
    loop: str,
) -> None:
    """Send a file to 'tofu receive'.

    Sends FILE in parts and in constant memory, no matter how large the file or how slow the
    receiver is. At the end both sides compare its SHA-256.

    \b
    Examples:
      tofu send image.iso tcp://192.0.2.7:7000
      tofu send image.iso uds:///tmp/tofu.sock

    Exit code: 0 if the receiver has the complete file on disk, 1 if not. In that case a line on
    stderr gives the reason.
    """  # noqa: D301 - \b tells click not to rewrap the paragraph
    check_source(file)
    secret = None if secret_file is None else read_secret(secret_file)
    with file.open("rb") as opened:
        offer = offer_for(file)
        sending = _send(
            opened, offer, address, wait=wait, secret=secret, progress_timeout=progress_timeout
        )
        begin = perf_counter()
        sha256 = run(sending, loop)
    click.echo(f"sent {offer.name}: {transferred(offer.size, perf_counter() - begin)}")
    click.echo(f"SHA-256 {sha256}, the same on both sides")


async def _send(
    file: BinaryIO,
    offer: Offer,
    address: Address,
    *,
    wait: float,
    secret: bytes | None,
    progress_timeout: float,
) -> str:
    async with Engine() as engine, engine.create_group() as group:
        channel = await _connect(group, address, wait)
        try:
            headers = _proof(channel, secret, offer)
            with transfer_progress(offer.name, offer.size) as advance:
                sha256 = await send_file(
                    channel,
                    file,
                    offer,
                    advance,
                    headers=headers,
                    progress_timeout=progress_timeout,
                )
        except BaseException:
            channel.abort()  # a Bye would have to wait until a slow receiver has read everything
            raise
        await channel.aclose()
        return sha256


def _proof(channel: Channel, secret: bytes | None, offer: Offer) -> dict[str, str]:
    """The headers that prove to the receiver that this sender has the secret."""
    challenge = channel.hello.headers.get(CHALLENGE)
    if secret is None and challenge is None:
        return {}
    if secret is None:
        raise Failure("the receiver requires a secret: give the file with it to --secret-file")
    if challenge is None:
        raise Failure(
            "the receiver does not ask for a secret, so it may be the wrong one: nothing was sent; "
            "check ADDRESS, or leave out --secret-file"
        )
    return {PROOF: proof_of(secret, challenge, offer)}


async def _connect(group: ChannelGroup, address: Address, wait: float) -> Channel:
    now = asyncio.get_running_loop().time
    give_up = now() + wait
    while True:
        try:
            return await group.connect(address)
        except (ConnectFailed, UdsPathNotFound) as error:
            absent = isinstance(error.__cause__, ConnectionRefusedError | FileNotFoundError)
            if not absent or now() >= give_up:
                raise
        await asyncio.sleep(_RETRY)
