"""The peer's requests that need more than the mailbox: in parts, served, or cancelled."""

from __future__ import annotations

import contextlib
from asyncio import Task
from collections import OrderedDict, defaultdict
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Final, Protocol
from weakref import WeakSet

from anyio import CancelScope

from ...protocol.binary_header import HEADER_SIZE
from ...protocol.errors import AllocationFailed, ExchangeFailed, NotAllowed, TofuError
from ...protocol.message import Message
from ...protocol.op_code import OP_CODE_MASK, OpCode
from ...protocol.status import Status
from ...protocol.withdrawal import is_withdrawal
from ..connection.agreements import Extension
from ..connection.connection import Connection
from ..exchange import Exchange, failed
from ..limits import EXCHANGES_SERVED, OPEN_REQUESTS, TAKEN_BACK
from .joining import Join, whole_length
from .mailbox import Mailbox

_REQUEST: Final = int(OpCode.REQUEST)


class _Cancellable(Protocol):
    """A scope or a task."""

    def cancel(self) -> object:
        """Cancel it."""


class IncomingRequests:
    """The peer's requests that come in parts, or that it cancels ("takes back").

    Args:
        connection: the channel's.
        mailbox: the channel's.

    Attributes:
        parts: by message id, the joins of requests whose further parts are expected; None for a
            request whose parts are dropped.
        exchanges: by message id, the exchanges that serve requests of the peer.
        dropped: how many parts came after their exchange was left here, or their request refused.
    """

    __slots__ = (
        "_any_is_served",
        "_connection",
        "_joins",
        "_mailbox",
        "_room",
        "_scopes",
        "_served",
        "_streams",
        "_taken_back",
        "_too_many",
        "dropped",
        "exchanges",
        "parts",
    )

    def __init__(self, connection: Connection, mailbox: Mailbox[Message]) -> None:
        self._connection = connection
        self._mailbox = mailbox
        self.parts: dict[int, Join | None] = {}
        self.exchanges: dict[int, Exchange] = {}
        self.dropped = 0
        self._joins = 0  # how many of ``parts`` are joined
        self._too_many = False  # the peer exceeded OPEN_REQUESTS: drop all that it sends
        self._room = 0  # bytes of the joining room that incomplete requests have taken
        self._scopes: defaultdict[int, set[_Cancellable]] = defaultdict(set)
        self._streams = False  # the application has been given single parts
        self._any_is_served = False  # it also answers requests of one message with ``stream``
        # Exchanges that the peer has begun and the application has not left, whatever their ids.
        self._served: WeakSet[Exchange] = WeakSet()
        # Cancelled requests that the application has. It may ask about one at any time, or never.
        self._taken_back: OrderedDict[int, None] = OrderedDict()

    def sort(self, batch: list[Message]) -> None:
        """Give each part to its join or exchange, and leave the rest in the batch."""
        rest: list[Message] = []
        taken_back: dict[int, int] = {}  # by id, how many messages of ``rest`` came before that
        supports = self._connection.peer_supports
        for message in batch:
            if self._too_many:
                message.release()
                continue
            message_id = message.message_id
            exchange = self.exchanges.get(message_id)
            if not _is_request(message):
                rest.append(message)
            elif supports & Extension.CANCEL and _takes_back(message):
                taken_back[message_id] = len(rest)
                self._take_back(message)
            elif message_id in self.parts:
                rest += self._add(message)
            elif exchange is not None and exchange._receives:
                exchange._deliver(message)
            else:
                self._taken_back.pop(message_id, None)  # the peer uses the id again
                rest += self._begin(message)
        batch[:] = self._without(taken_back, rest) if taken_back else rest

    @property
    def busy(self) -> bool:
        """Whether a plain request needs a check here.

        It may be the last part of a request, reuse an id, or exceed the number of served
        exchanges, of which ``exchanges`` has only one for each id.
        """
        return bool(self.parts or self.exchanges or self._taken_back or self._served)

    def begin(self, exchange: Exchange, *, in_parts: bool) -> None:
        """Give an exchange the parts that come, and notify it if the peer cancels the request.

        Args:
            exchange: has the first part already.
            in_parts: whether further parts follow.
        """
        self._served.add(exchange)
        self._any_is_served |= not in_parts
        earlier = self.exchanges.get(exchange.message_id)
        if earlier is not None:
            earlier._taken_back(self._failed("the peer has used its message id again"))
        self.exchanges[exchange.message_id] = exchange
        if self.is_taken_back(exchange.message_id):
            exchange._taken_back(self._failed("the peer has cancelled its request"))

    def _failed(self, text: str) -> ExchangeFailed:
        """The error of an exchange that its peer has ended without a last part."""
        return ExchangeFailed(text, channel_number=self._connection.number)

    def forget(self, exchange: Exchange) -> None:
        """Drop the parts that still come for an exchange that was left."""
        self._served.discard(exchange)
        message_id = exchange.message_id
        if self.exchanges.get(message_id) is not exchange:
            return  # the channel has ended, or another exchange has the id now
        del self.exchanges[message_id]
        if exchange._receives:
            self._drop_parts(message_id)
            self._connection.reconsider()  # the message that waits may be a part of it

    def is_taken_back(self, message_id: int) -> bool:
        """Whether the peer has cancelled a request, as far as is known."""
        return message_id in self._taken_back

    def answered(self, message_id: int) -> bool:
        """Forget a request that is being answered; return whether the peer still wants that."""
        return self._taken_back.pop(message_id, self) is self

    def cancel_scope(
        self, message_id: int, *, cancelled: bool
    ) -> AbstractContextManager[CancelScope]:
        """A scope that is cancelled when the peer cancels the request or becomes unreachable."""
        return _RequestScope(self._scopes, message_id, cancelled=cancelled)

    def close(self, error: TofuError) -> None:
        """Close on this side: receive nothing more, not even parts that have arrived."""
        for exchange in self.exchanges.values():
            exchange._close(error)
        self.fail(error, unreachable=True)

    def fail(self, error: TofuError, *, unreachable: bool) -> None:
        """End all requests: no more parts come. If the peer is unreachable, cancel the work."""
        for join in self.parts.values():
            if join is not None:
                self._drop(join)
        self.parts.clear()
        self._joins = 0
        exchanges = list(self.exchanges.values())
        self.exchanges.clear()
        for exchange in exchanges:
            exchange._lose(error)
        if unreachable:
            self.cancel_scopes()

    def cancel_task(self, message_id: int, task: Task[object], *, cancelled: bool) -> None:
        """Cancel a task when the peer cancels the request or becomes unreachable."""
        if cancelled:
            task.cancel()
            return
        self._scopes[message_id].add(task)
        task.add_done_callback(partial(self._task_done, message_id))

    def _task_done(self, message_id: int, task: Task[object]) -> None:
        scopes = self._scopes[message_id]
        scopes.discard(task)
        if not scopes:
            del self._scopes[message_id]

    def cancel_scopes(self) -> None:
        """Cancel the work on all requests: no answer would reach the peer."""
        for scopes in list(self._scopes.values()):
            _cancel(scopes)

    # --- requests in parts ----------------------------------------------------------------

    def _begin(self, first: Message) -> list[Message]:
        """Handle the first message of a request; return what is for the application.

        A request that came in parts because it is long is joined. Others are the application's,
        unless the peer has as many exchanges in progress as it may: then the request is refused.
        """
        whole = first.more and self._connection.peer_supports & Extension.WHOLE
        length = whole_length(first) if whole else None
        if length is None:
            may_be_served = first.more or self._any_is_served
            if may_be_served and len(self._served) >= EXCHANGES_SERVED:
                self._refuse(first.message_id, _too_many_exchanges(), last=not first.more)
                first.release()
                return []
            self._streams |= first.more
            return [first]
        if self._joins >= OPEN_REQUESTS:
            self._too_many = True
            first.release()
            self._connection.closing.hang_up(
                NotAllowed(f"the peer sends more than {OPEN_REQUESTS} requests in parts at a time")
            )
            return []
        join = Join(self._connection.gate.joining, f"request {first.message_id}", keep=True)
        self.parts[first.message_id] = join
        self._joins += 1
        error = join.announced(length)
        if error is not None:
            self._refuse(first.message_id, error)
            first.release()
            return []
        self._connection.reconsider()  # the message that waits may be a part of it
        return self._add(first)

    def _add(self, part: Message) -> list[Message]:
        """Join a part; return the whole request if this was its last part."""
        message_id, last = part.message_id, not part.more
        join = self._end(message_id) if last else self.parts[message_id]
        if join is None:
            self.dropped += 1
            part.release()
            return []
        if last and part.status is not Status.SUCCESS:
            self._drop(join)  # the peer has broken off the request
            part.release()
            return []
        others = self._room - join.taken
        error = join.add(part, others)  # drops the join if it returns an error
        self._room = others if last else others + join.taken
        if error is not None:
            self._refuse(message_id, error, last=last)
            return []
        return [join.whole(part)] if last else []

    def _refuse(self, message_id: int, error: TofuError, *, last: bool = False) -> None:
        """Answer that a request cannot be received. The channel stays open."""
        connection = self._connection
        connection.gate.warnings.warn("a refused request", f"channel {connection.number}: {error}")
        with contextlib.suppress(TofuError):  # the channel has ended
            text = str(error).encode()
            connection.queue.enqueue_answer(OpCode.RESPONSE, message_id, text, status=error.status)
        if not last:
            self._end(message_id)
            self._drop_parts(message_id)

    def _end(self, message_id: int) -> Join | None:
        """Stop joining, or dropping, the parts of a request; return its join."""
        join = self.parts.pop(message_id, None)
        self._joins -= join is not None
        return join

    def _drop(self, join: Join) -> None:
        self._room -= join.taken
        join.drop()

    def _drop_parts(self, message_id: int) -> None:
        """Drop the further parts of a request. They may never come, so only some are expected."""
        self.parts[message_id] = None
        if len(self.parts) > OPEN_REQUESTS:
            oldest = next((key for key, join in self.parts.items() if join is None), None)
            if oldest is not None:
                del self.parts[oldest]

    # --- cancelled requests ---------------------------------------------------------------

    def _take_back(self, notice: Message) -> None:
        """Handle the peer's notice that it has cancelled a request: stop the work on it."""
        message_id = notice.message_id
        join = self._end(message_id)
        exchange = self.exchanges.get(message_id)
        if message_id in self._scopes:
            _cancel(self._scopes[message_id])
        if exchange is not None:
            exchange._taken_back(failed(notice))
        if join is not None:
            self._drop(join)
        else:
            self._taken_back[message_id] = None

    def _without(self, taken_back: dict[int, int], rest: list[Message]) -> list[Message]:
        """Drop the unread parts of cancelled requests that came before the notice."""
        wanted: list[Message] = []
        unread = self._mailbox.remove(
            lambda message: message.message_id in taken_back and _is_request(message)
        )
        for place, message in enumerate(rest):
            dropped = place < taken_back.get(message.message_id, 0) and _is_request(message)
            (unread if dropped else wanted).append(message)
        for message in unread:
            message.release()
            if not self._streams:  # otherwise the application may have the first parts of it
                self._taken_back.pop(message.message_id, None)
        while len(self._taken_back) > TAKEN_BACK:
            self._taken_back.popitem(last=False)
        return wanted


class _RequestScope(AbstractContextManager[CancelScope]):
    """A cancel scope that is registered with its request while it is entered.

    It is not a generator, because a generator's frame stays in the traceback of the exception that
    cancels it. Both would be kept, with the request, until garbage is collected, and a program that
    waits for the request's release may never get there.
    """

    def __init__(
        self, scopes: dict[int, set[_Cancellable]], message_id: int, *, cancelled: bool
    ) -> None:
        self._scopes = scopes
        self._message_id = message_id
        self._cancelled = cancelled
        self._scope = CancelScope()

    def __enter__(self) -> CancelScope:
        self._scope.__enter__()
        self._scopes[self._message_id].add(self._scope)
        if self._cancelled:
            self._scope.cancel()
        return self._scope

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        scopes = self._scopes[self._message_id]
        scopes.discard(self._scope)
        if not scopes:
            del self._scopes[self._message_id]
        return bool(self._scope.__exit__(exc_type, exc_value, traceback))


def _cancel(scopes: set[_Cancellable]) -> None:
    """Cancel the work on a request.

    A task is cancelled once: it may clean up in a ``finally`` that awaits, and must not be
    interrupted in that when the channel ends after the request was taken back.
    """
    for scope in list(scopes):
        scope.cancel()
        if isinstance(scope, Task):
            scopes.discard(scope)


def _takes_back(message: Message) -> bool:
    length = HEADER_SIZE + len(message.body) + len(message.headers.encode())
    return is_withdrawal(message._proto, message.status, length)


def _too_many_exchanges() -> TofuError:
    return AllocationFailed(
        f"the peer has begun {EXCHANGES_SERVED} exchanges that are not over, and may not begin more"
    )


def _is_request(message: Message) -> bool:
    return message._proto & OP_CODE_MASK == _REQUEST
