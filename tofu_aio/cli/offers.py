"""Which of the files that peers offer is taken: the first that may be. All are heard at once."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

import click
from rich.filesize import decimal

from ..messaging.channel import Channel
from ..protocol.errors import TofuError
from ..protocol.message import Message
from .secret import CHALLENGE, PROOF, is_proof, new_challenge
from .transfer import Offer, offer_in, refuse

_TIMEOUT: Final = 10.0
"""Seconds that a peer has to offer a file."""

_HEARD: Final = 64
"""Peers that may be here without an offer. Beyond that who has been silent longest is sent away."""


class Taken(NamedTuple):
    """An offer, and where it came from."""

    channel: Channel
    first: Message
    offer: Offer


class Offers:
    """Hears peers until one of them has offered a file that may be taken.

    Args:
        max_size: bytes that it may have; None for any number.
        secret: what the peer must have too; None if anybody may send.

    Attributes:
        taken: the first.
    """

    def __init__(self, max_size: int | None, secret: bytes | None) -> None:
        self._max_size = max_size
        self._secret = secret
        self._challenge = new_challenge()
        self._silent: dict[Channel, None] = {}
        self._done = asyncio.Event()
        self.taken: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()

    async def welcome(self, channel: Channel) -> None:
        """Accept a peer, and say what it has to prove."""
        channel.accept(headers=() if self._secret is None else {CHALLENGE: self._challenge})

    async def hear(self, channel: Channel) -> None:
        """Take what it offers, or send it away; return when its channel may be closed."""
        first = await self._first_message(channel)
        if first is None:
            channel.abort()
            return
        reason = self._objection(channel, first)
        if reason is None:
            await self._done.wait()
        else:
            with first:
                await refuse(channel, first, reason)

    def end(self) -> None:
        """Hear nobody any more; who waited for its turn is sent away."""
        self._done.set()
        for channel in self._silent:
            channel.abort()

    async def _first_message(self, channel: Channel) -> Message | None:
        self._silent[channel] = None
        if len(self._silent) > _HEARD:
            next(iter(self._silent)).abort()
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await channel.receive()
        except (TofuError, TimeoutError):
            return None
        finally:
            self._silent.pop(channel, None)

    def _objection(self, channel: Channel, first: Message) -> str | None:
        """Take the offer, or say why not."""
        offer = offer_in(first)
        if offer is None:
            click.echo("a peer that offered no file was sent away")
            return "only files are taken here: use 'tofu send'"
        if not self._is_trusted(first, offer):
            click.echo("a peer that does not have the secret was sent away")
            return "it wants a secret that you do not have: see --secret-file"
        if self._max_size is not None and offer.size > self._max_size:
            click.echo(f"{offer.name} is too large: {decimal(offer.size)}")
            return f"it may have at most {decimal(self._max_size)}"
        if self.taken.done():
            return "another file came first"
        self.taken.set_result(Taken(channel, first, offer))
        return None

    def _is_trusted(self, first: Message, offer: Offer) -> bool:
        if self._secret is None:
            return True
        return is_proof(first.headers.get(PROOF, ""), self._secret, self._challenge, offer)
