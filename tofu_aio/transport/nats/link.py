"""A connection to a broker, which all channels to the same brokers share."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, cast

from ...forks import inherited
from ...protocol.address import NatsAddress
from ..releasing import note_releasing
from .chunk import CLOSE, DECLINE, END, PROBE, RESET, Chunk, split
from .credit import Budget
from .failures import NoBroker, explain, refusal
from .limits import SOCKET_BUFFER
from .probing import PROBE_TOKEN, Probes
from .stream import NatsStream

if TYPE_CHECKING:
    from nats.aio.subscription import Subscription

    from .client import Client, Message

_NO_RECEIVER: Final = "503"
_LAST_KINDS: Final = frozenset({CLOSE, DECLINE, END, PROBE, RESET})
"""Kinds of chunks that a channel which exists no more need not be told of."""


class Member(Protocol):
    """What has an inbox: a stream, or a client's request to open one."""

    peer: str

    def arrived(self, inbox: str, what: Chunk, payload: bytes) -> None:
        """Take a chunk that the peer with this inbox has sent."""

    def unheard(self) -> None:
        """Handle that a chunk had no receiver."""

    def lose(self, error: Exception) -> None:
        """End, because the broker refuses what is sent."""

    def cut(self, error: Exception) -> None:
        """End, because the connection is lost."""


class Link:
    """One connection to one of several brokers.

    Args:
        address: of the brokers, with the proof of identity.
        context: for TLS; None for the default one, if the broker demands TLS.
        closed: called when no more users should join.

    Attributes:
        budget: the credit of all streams together.
        cut_by: why it is lost, or must not be used; None while it may be.
        inbox: the subject of all inboxes, without their tokens.
        loop: the event loop.
        most: bytes of the payload of one message.
        refused: the subjects that the broker does not let this program subscribe to.
        watchers: called, each once, when the connection is lost.
    """

    def __init__(
        self, address: NatsAddress, context: ssl.SSLContext | None, closed: Callable[[Link], None]
    ) -> None:
        self._address = address
        self._context = context
        self._closed = closed
        self.loop = asyncio.get_running_loop()
        self.budget = Budget()
        self.cut_by: Exception | None = None
        self.inbox = ""
        self.most = 0
        self.refused: set[str] = set()
        self.watchers: set[Callable[[Exception], None]] = set()
        self._members: dict[str, Member] = {}
        self._probes = Probes(self.loop, self.post)
        self._tokens = 0
        self._users = 0
        self._client: Client | None = None
        self._posted: deque[tuple[str, str]] = deque()  # subject and reply
        self._marked: dict[NatsStream, None] = {}
        self._scheduled = False  # a flush is
        self._ending = False
        self._orderly = False  # a stream was closed, and what it has sent is to arrive
        self._left: list[Callable[[], object]] = []  # called when it is closed
        self._draining: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._opening = self.loop.create_task(self._open(), name=f"tofu broker of {address}")
        _living.add(self)

    # --- users ----------------------------------------------------------------------------

    async def join(self) -> None:
        """Become a user, once it is connected. Each user calls ``leave`` or ``part`` once.

        Raises:
            NoBroker: no broker can be used. The caller is no user then.
        """
        self._users += 1
        try:
            await asyncio.wait([self._opening])
            error = self._opening.exception()
            if isinstance(error, NoBroker):
                raise NoBroker(str(error)) from error
            if error is not None:
                raise error
            if self.cut_by is not None:
                raise NoBroker(str(self.cut_by)) from self.cut_by
        except BaseException:
            self.quit()
            if self._closing is not None:
                await asyncio.wait([self._closing])
            raise

    def add(self, member: Member) -> str:
        """Return the token of a new inbox for a member, which is a user from now on."""
        self._users += 1
        self._tokens += 1
        token = f"{self._tokens:x}"
        self.replace(token, member)
        return token

    def replace(self, token: str, member: Member) -> None:
        """Let another member have an inbox."""
        self._members[token] = member
        if isinstance(member, NatsStream):
            self._probes.add(member)

    def leave(self, token: str, left: Callable[[], object]) -> None:
        """Forget an inbox, and call ``left`` in a later turn: when all is closed, if it is last."""
        member = self._members.pop(token)
        if isinstance(member, NatsStream):
            self._marked.pop(member, None)
            self._probes.discard(member)
        self._part(left)

    def quit(self) -> None:
        """Stop being a user, while there are others."""
        self._part(lambda: None)

    async def part(self) -> None:
        """Stop being a user; if it was the last one, wait until the connection is closed."""
        parted = self.loop.create_future()
        self._part(partial(_done, parted))
        await parted

    def _part(self, left: Callable[[], object]) -> None:
        self._users -= 1
        if self._users:
            self.loop.call_soon(left)
            return
        self._closed(self)
        self._left.append(left)
        if self._closing is None:
            self._closing = self.loop.create_task(self._close(), name="tofu close broker")
            note_releasing(self._closing)

    # --- the connection -------------------------------------------------------------------

    async def _open(self) -> None:
        """Connect to the first broker that can be used."""
        try:
            from .brokers import first_broker  # noqa: PLC0415 - nats-py may not be installed
        except ImportError as error:
            raise NoBroker(explain(error)) from error
        client = self._client = await first_broker(self._address, self._context)
        self.inbox, self.most = client.inbox, client.max_payload
        client.hand_over(self._arrived, self._failed, self._over)

    async def _close(self) -> None:
        """Close the connection, in bounded time, and then tell those who have left."""
        self._opening.cancel()
        await asyncio.wait([self._opening])
        if not self._opening.cancelled():
            self._opening.exception()  # nats-py may fail instead of being cancelled
        self._flush()
        client = self._client
        try:
            if client is not None:
                if self._orderly and self.cut_by is None:
                    await self._deliver(client)
                self._ending = True
                await client.close()
        finally:
            if client is not None:
                client.abort()  # at once, if this task was cancelled
            for left in self._left:
                self.loop.call_soon(left)

    async def _deliver(self, client: Client) -> None:
        """Wait until the broker has what was sent last, unless nobody waits for that any more."""
        if self._draining is not None:
            self._draining.cancel()
            await asyncio.wait([self._draining])
        client.send(self._outgoing())
        self._draining = self.loop.create_task(client.delivered(), name="tofu deliver")
        await asyncio.wait([self._draining])

    def hurry(self) -> None:
        """Do not wait until what was sent has arrived, if the connection is about to be closed."""
        self._orderly = False
        if self._closing is not None and self._client is not None:
            if self._draining is not None:
                self._draining.cancel()
            self._client.abort()

    def _over(self) -> None:
        if not self._ending:
            self.cut(ConnectionResetError("the connection to the broker was lost"))

    def cut(self, error: Exception) -> None:
        """Lose the connection, and with it all channels."""
        if self.cut_by is not None:
            return
        self.cut_by = error
        self._closed(self)
        if self._draining is not None:
            self._draining.cancel()
        for member in list(self._members.values()):
            member.cut(error)
        watchers, self.watchers = self.watchers, set()
        for watch in watchers:
            watch(error)

    def leave_to_parent(self) -> None:
        """Be of no use in a forked child: the connection is the parent's."""
        self._closed(self)
        self.cut_by = ConnectionResetError("the connection to the broker is the parent process's")
        self._ending = True

    def _failed(self, error: Exception) -> None:
        """Handle an error that nats-py reports."""
        refused = refusal(error)
        if refused is None:
            return  # if the connection is over, that is reported as well
        if refused.what == "publish":
            for member in list(self._members.values()):
                if member.peer.lower() == refused.subject:
                    member.lose(refused.error)
        elif refused.subject.startswith(self.inbox.lower()):
            self.cut(refused.error)
        else:
            self.refused.add(refused.subject)

    # --- messages -------------------------------------------------------------------------

    async def subscribe(
        self, subject: str, queue: str, take: Callable[[Message], None], *, patient: bool
    ) -> object:
        """Subscribe as a member of a queue group, and return the subscription.

        ``patient``: a broker that does not answer in time is no error.

        Raises:
            PermissionError: the broker does not permit it.
            NatsError: the connection is lost, or the broker does not answer in time.
        """
        client = self._client
        assert client is not None
        self.refused.discard(subject.lower())
        found = await client.enter(subject, queue, take, patient=patient)
        if subject.lower() in self.refused:
            client.forget(found)
            raise PermissionError(f"the broker does not permit to listen on {subject!r}")
        return found

    async def unsubscribe(self, subscription: object) -> None:
        """Unsubscribe. Messages that were on their way are still taken before this returns.

        Raises:
            NatsError: the connection is lost.
        """
        if self.cut_by is None:
            assert self._client is not None
            await self._client.give_up(cast("Subscription", subscription))

    def post(self, inbox: str, token: str, what: Chunk) -> None:
        """Send a chunk without payload, apart from the order of any stream."""
        self._posted.append((inbox, f"{self.inbox}.{token}.{what.tail()}"))
        self._schedule()

    def mark(self, stream: NatsStream) -> None:
        """Send the chunks of a stream at the end of this turn."""
        self._marked[stream] = None
        self._schedule()

    def _arrived(self, message: Message) -> None:
        """Give a message to its inbox."""
        token, _, rest = message.subject[len(self.inbox) + 1 :].partition(".")
        member = self._members.get(token)
        if rest:
            if (message.headers or {}).get("Status") == _NO_RECEIVER:
                self._unheard(token, rest)
            return
        found = split(message.reply)
        if found is None:
            return  # it is not from a peer
        inbox, what = found
        if member is not None:
            member.arrived(inbox, what, message.data)
        elif what.kind not in _LAST_KINDS:
            self.post(inbox, token, Chunk(RESET, 0))

    def _unheard(self, token: str, tail: str) -> None:
        """Handle that a chunk of this side had no receiver."""
        member, number = self._members.get(token), tail[1:]
        if member is not None:
            member.unheard()
        elif token == PROBE_TOKEN and number.isdecimal():
            self._probes.unheard(int(number))

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Send what is to be sent, once a turn, unless the broker takes nothing."""
        self._scheduled = False
        client = self._client
        if client is None or self.cut_by is not None or self._draining is not None:
            return
        try:
            client.send(self._outgoing())
        except OSError as error:
            self.cut(ConnectionResetError(f"nothing can be sent to the broker: {error}"))
            return
        if client.buffered > SOCKET_BUFFER:
            self._draining = self.loop.create_task(self._drain(client), name="tofu to broker")
        elif self._posted or self._marked:
            self._schedule()

    async def _drain(self, client: Client) -> None:
        """Wait until the broker has taken what it was sent, and then go on."""
        try:
            await client.drained()
        except OSError:
            return  # the loss is reported as well
        finally:
            self._draining = None
        self._flush()

    def _outgoing(self) -> Iterator[tuple[str, str, bytes]]:
        """Yield the subject, the reply and the payload of messages, up to a bound."""
        while self._posted:
            yield *self._posted.popleft(), b""
        size = 0
        while self._marked and size < SOCKET_BUFFER:
            stream = next(iter(self._marked))
            del self._marked[stream]
            base = f"{self.inbox}.{stream.token}."
            for tail, payload in stream.chunks():
                size += len(payload)
                yield stream.peer, base + tail, payload
            self._orderly = self._orderly or stream.is_closing()


def _done(parted: asyncio.Future[None]) -> None:
    if not parted.done():  # else its task was cancelled
        parted.set_result(None)


_living = inherited(Link.leave_to_parent)
