"""Listening on a service: a member of the queue group of all its listeners."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from ...protocol.address import NatsAddress
from ...protocol.errors import InvalidAddress
from ..releasing import note_releasing
from ..socket_attributes import Attributes
from ..transport import Acceptor, Arrivals
from .chunk import DECLINE, OPEN, Chunk, split
from .credit import Window
from .limits import REJOIN_PAUSES
from .link import Link
from .links import joined
from .opening import PREFIX
from .stream import NatsStream

if TYPE_CHECKING:
    from .client import Message

logger = logging.getLogger("tofu_aio.listener")

_GROUP: Final = "tofu"
"""The queue group. The broker gives each request to one of its members."""


class NatsAcceptor(Acceptor):
    """Accepts the clients of a service, together with all other listeners of that service.

    While it is full it is no member of the queue group, so that others get the next clients. If the
    broker is lost, it tries to join again until it is stopped.

    Args:
        address: of the service.
        context: for TLS to the broker.
    """

    def __init__(self, address: NatsAddress, context: ssl.SSLContext | None) -> None:
        self.address: NatsAddress = address
        self._context = context
        self._subject = PREFIX + address.service
        self._loop = asyncio.get_running_loop()
        self._arrivals: Arrivals | None = None
        self._link: Link | None = None
        self._subscription: object = None
        self._early: list[tuple[Link, Message]] = []  # before the start
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._joining: asyncio.Task[None] | None = None  # again, after a loss
        self._stopped = False
        self._closed = False

    async def join(self) -> None:
        """Join the queue group.

        Raises:
            NoBroker: no broker can be used.
            OSError, nats.errors.Error: the broker refuses it, or is lost.
        """
        link = await joined(self.address, self._context)
        try:
            self._subscription = await self._subscribed(link, patient=False)
        except BaseException:
            if self._arrivals is None:  # it will never start
                self._stopped = True
                self._take_early()
            await link.part()
            raise
        self._link = link
        link.watchers.add(self._lost)

    def start(self, arrivals: Arrivals) -> None:
        """Start to accept clients."""
        self._arrivals = arrivals
        arrivals.watch(self._changed.set)
        self._take_early()
        self._task = self._loop.create_task(self._hold(), name=f"tofu listen {self.address}")

    def attributes(self) -> Attributes:
        """Return none: there is no socket."""
        return {}

    def stop(self) -> None:
        """Take no more clients. Those that ask meanwhile are told to ask again."""
        self._stopped = True
        self._changed.set()
        if self._joining is not None:
            self._joining.cancel()
        if self._task is not None and not self._task.done():
            note_releasing(self._task)

    def close(self) -> None:
        """Stop, and drop connections without a Hello."""
        if not self._closed:
            self._closed = True
            self.stop()
            if self._arrivals is not None:
                self._arrivals.close()

    async def wait_closed(self) -> None:
        """Wait until it has left the queue group, and the broker if nothing else uses that."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def leave_to_parent(self) -> None:
        """Count as closed in a forked child."""
        self._stopped = self._closed = True

    # --- the queue group ------------------------------------------------------------------

    async def _hold(self) -> None:
        """Be a member of the queue group, whenever there is a broker and room for a client."""
        try:
            while not self._stopped:
                self._changed.clear()
                link = self._link
                if link is None:
                    await self._rejoin()
                elif link.cut_by is not None:
                    self._link = self._subscription = None
                    await link.part()
                elif self._full is (self._subscription is not None):
                    await self._enter_or_leave(link)
                else:
                    await self._changed.wait()
        finally:
            await self._left()

    @property
    def _full(self) -> bool:
        return self._arrivals is not None and self._arrivals.full

    async def _enter_or_leave(self, link: Link) -> None:
        subscription, self._subscription = self._subscription, None
        try:
            if subscription is not None:
                await link.unsubscribe(subscription)
            else:
                # Channels must not be lost because the loop or the broker is busy for a while.
                self._subscription = await self._subscribed(link, patient=True)
        except Exception as error:
            if link.cut_by is None:
                link.cut(error)  # then it joins again, perhaps another broker

    async def _subscribed(self, link: Link, *, patient: bool) -> object:
        take = partial(self._asked, link)
        return await link.subscribe(self._subject, _GROUP, take, patient=patient)

    async def _left(self) -> None:
        link, subscription = self._link, self._subscription
        if link is None:
            return
        link.watchers.discard(self._lost)
        try:
            if subscription is not None:
                await link.unsubscribe(subscription)
        except Exception as error:
            logger.debug("%s: leaving the queue group failed: %s", self.address, error)
        finally:
            self._link = self._subscription = None
            await link.part()

    def _lost(self, error: Exception) -> None:
        """Handle that the connection to the broker is lost."""
        if not self._stopped:
            logger.warning(
                "%s: nobody can connect: %s; trying again until there is a broker",
                self.address,
                error,
            )
        self._changed.set()

    async def _join_unless_stopped(self) -> None:
        """Join, or end without a link: whoever stops this does not wait for brokers."""
        name = f"tofu listen again {self.address}"
        joining = self._joining = self._loop.create_task(self.join(), name=name)
        try:
            await asyncio.wait([joining])
        finally:
            self._joining = None
            joining.cancel()
        if not joining.cancelled():
            joining.result()

    async def _rejoin(self) -> None:
        """Try to join until it works, or this is stopped."""
        since = self._loop.time()
        pause, longest = REJOIN_PAUSES
        while not self._stopped:
            try:
                await self._join_unless_stopped()
            except Exception as error:
                logger.debug("%s: still no broker: %s", self.address, error)
            else:
                if self._link is None:
                    return
                logger.warning(
                    "%s: clients can connect again, after %.1f s",
                    self.address,
                    self._loop.time() - since,
                )
                return
            try:
                async with asyncio.timeout(pause * random.uniform(0.5, 1)):  # noqa: S311
                    while not self._stopped:
                        self._changed.clear()
                        await self._changed.wait()
            except TimeoutError:
                pause = min(2 * pause, longest)

    # --- clients --------------------------------------------------------------------------

    def _take_early(self) -> None:
        early, self._early = self._early, []
        for link, message in early:
            self._asked(link, message)

    def _asked(self, link: Link, message: Message) -> None:
        """Take a client, or have it ask another listener."""
        found = split(message.reply)
        if found is None or found[1].kind != OPEN:
            return  # it is not from a client
        if self._arrivals is None and not self._stopped:
            self._early.append((link, message))
            return
        inbox, what = found
        arrivals, protocol = self._arrivals, None
        if not self._stopped and arrivals is not None and not arrivals.full:
            taken: Callable[[], object] = int  # nothing is to be done for a fork
            protocol = arrivals.expect(self._peer(inbox), taken)
        if protocol is None:
            link.post(inbox, "0", Chunk(DECLINE, 0))
            return
        window = Window(link.budget)
        stream = NatsStream.accepted(link, inbox, what.value, window)
        stream.start(protocol)  # now, so that it counts

    def _peer(self, inbox: str) -> NatsAddress | None:
        """Return the address of a client: its inbox."""
        try:
            return NatsAddress(self.address.brokers, inbox, self.address.tls)
        except InvalidAddress:
            return None
