"""Which of several brokers is used: the first that works."""

from __future__ import annotations

import asyncio
import ssl
from random import shuffle

from ...protocol.address import NatsAddress, TcpAddress
from ..happy_eyeballs import race
from ..releasing import note_releasing
from .client import Client
from .failures import NoBroker, explain
from .limits import BROKER_DELAY


async def first_broker(address: NatsAddress, context: ssl.SSLContext | None) -> Client:
    """Return a connection to one of the brokers of an address, which are tried in any order.

    The next one is tried when the previous one has failed, or has not answered for a moment. The
    first that works is kept, and the others are given up.

    Raises:
        NoBroker: none of them can be used.
    """

    async def attempt(broker: TcpAddress) -> Client:
        client = Client(broker, address)
        await client.open(context)
        return client

    brokers = list(address.brokers)
    shuffle(brokers)
    raced = await race(brokers, attempt, BROKER_DELAY, Exception, _discard)
    client, failures = raced
    if client is not None:
        return client
    raise NoBroker(
        "; ".join(
            f"{broker.host}:{broker.port}: {explain(error)}" if brokers[1:] else explain(error)
            for broker, error in failures
        )
    )


def _discard(client: Client) -> None:
    """Close a connection that another one was faster than."""
    closing = asyncio.get_running_loop().create_task(client.close(), name="tofu close broker")
    note_releasing(closing)
