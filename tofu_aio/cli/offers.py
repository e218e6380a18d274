"""Choosing among the files that senders offer: the first one that is acceptable."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

import click
from rich.filesize import decimal

from ..messaging.channel import Channel
from ..protocol.errors import TofuError
from ..protocol.message import Message
from .secret import CHALLENGE, PROOF, is_proof, new_challenge
from .transfer import Offer, parse_offer, reject_file

_TIMEOUT: Final = 10.0
"""Seconds that a peer has to offer a file."""

_MAX_SILENT: Final = 64
"""Connected peers that have not offered a file. Beyond this the one silent longest is aborted."""


class AcceptedOffer(NamedTuple):
    """An offer, and the channel and message that it came in."""

    channel: Channel
    first: Message
    offer: Offer


class Offers:
    """Handles all peers at once, until one of them has offered an acceptable file.

    Args:
        max_size: the largest acceptable file, in bytes; None for no limit.
        secret: the secret that the sender must have; None if anybody may send.

    Attributes:
        accepted: the first acceptable offer.
    """

    def __init__(self, max_size: int | None, secret: bytes | None) -> None:
        self._max_size = max_size
        self._secret = secret
        self._challenge = new_challenge()
        self._silent: dict[Channel, None] = {}  # in the order in which they connected
        self._done = asyncio.Event()
        self.accepted: asyncio.Future[AcceptedOffer] = asyncio.get_running_loop().create_future()

    async def accept_peer(self, channel: Channel) -> None:
        """Accept a peer's channel, and send the challenge if there is a secret."""
        channel.accept(headers=() if self._secret is None else {CHALLENGE: self._challenge})

    async def handle(self, channel: Channel) -> None:
        """Accept or reject what a peer offers; return when its channel may be closed."""
        first = await self._first_message(channel)
        if first is None:
            channel.abort()
            return
        reason = self._accept_or_object(channel, first)
        if reason is None:
            await self._done.wait()
        else:
            with first:
                await reject_file(channel, first, reason)

    def stop(self) -> None:
        """Stop waiting: abort the peers that have not offered a file."""
        self._done.set()
        for channel in self._silent:
            channel.abort()

    async def _first_message(self, channel: Channel) -> Message | None:
        self._silent[channel] = None
        if len(self._silent) > _MAX_SILENT:
            next(iter(self._silent)).abort()
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await channel.receive()
        except (TofuError, TimeoutError):
            return None
        finally:
            self._silent.pop(channel, None)

    def _accept_or_object(self, channel: Channel, first: Message) -> str | None:
        """Accept the offer, or return the reason for rejecting it."""
        offer = parse_offer(first)
        if offer is None:
            click.echo("rejected a peer that did not offer a file")
            return "this receiver accepts only files: use 'tofu send'"
        if not self._is_trusted(first, offer):
            click.echo("rejected a peer that does not have the secret")
            return "the secret is missing or wrong: use --secret-file with the receiver's secret"
        if self._max_size is not None and offer.size > self._max_size:
            click.echo(f"rejected {offer.name}: {decimal(offer.size)} is more than --max-size")
            return f"the file is too large: the receiver accepts at most {decimal(self._max_size)}"
        if self.accepted.done():
            return "another sender was first"
        self.accepted.set_result(AcceptedOffer(channel, first, offer))
        return None

    def _is_trusted(self, first: Message, offer: Offer) -> bool:
        if self._secret is None:
            return True
        return is_proof(first.headers.get(PROOF, ""), self._secret, self._challenge, offer)
