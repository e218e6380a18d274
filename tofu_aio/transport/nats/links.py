"""The connections to brokers that are in use, for all channels to share."""

from __future__ import annotations

import asyncio
import ssl
from typing import TypeAlias
from weakref import WeakKeyDictionary

from ... import forks
from ...protocol.address import NatsAddress
from .link import Link

_Key: TypeAlias = tuple[object, ...]

_links: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Key, Link]] = WeakKeyDictionary()

forks.at_fork(after_in_child=_links.clear)


async def joined(address: NatsAddress, context: ssl.SSLContext | None) -> Link:
    """Return a connection to the brokers of an address, whose user the caller is from now on.

    All users in one event loop with the same brokers, proof of identity and ``context`` share one.

    Raises:
        NoBroker: no broker can be used.
    """
    of_loop = _links.setdefault(asyncio.get_running_loop(), {})
    key = (
        frozenset(address.brokers),
        address.tls,
        address.user,
        address.password,
        address.token,
        address.credentials,
        context,
    )
    link = of_loop.get(key)
    if link is None:

        def closed(closing: Link) -> None:
            if of_loop.get(key) is closing:
                del of_loop[key]

        link = of_loop[key] = Link(address, context, closed)
    await link.join()
    return link
