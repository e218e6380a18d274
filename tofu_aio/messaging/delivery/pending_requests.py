"""The requests that a channel has made, and where each response goes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from ...core import PendingFields, fast
from ...protocol.errors import TofuError, again
from ...protocol.message import Message
from ...protocol.op_code import OP_CODE_MASK, OpCode
from ...protocol.status import LEFT, Status
from ...protocol.withdrawal import WITHDRAWAL
from ..connection.agreements import Extension
from ..connection.connection import Connection
from ..exchange import Exchange
from ..limits import EXCHANGES_BEGUN
from .joining import Join
from .slots import Slots
from .wake_up import WakeUps, complete

_RESPONSE: Final = int(OpCode.RESPONSE)
_FEW: Final = 4
"""Messages for which making a set takes longer than checking each of them."""


class PendingRequests(PendingFields):
    """Gives each response to its request: a ``request()``, an exchange, or the mailbox.

    A late response, whose request was cancelled or has timed out, is dropped and counted. It is
    recognized because nothing here waits for it, so cancelled requests need not be remembered.

    Args:
        connection: the channel's.

    Attributes:
        requests: by message id, the future that waits for the response.
        exchanges: by message id, the exchange that takes the parts of the response.
        posted: ids of requests that the application has posted. The mailbox gets their responses.
            The id of a request that is never answered stays here until the channel ends.
        slots: for exchanges that have begun and are not over.
        late: how many late responses, or parts of them, were dropped.
        warned: whether the log has a warning that responses wait behind unread messages.
    """

    __slots__ = ()

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.requests: dict[int, asyncio.Future[Message]] = {}
        self.exchanges: dict[int, Exchange] = {}
        self.posted: set[int] = set()
        self.slots = Slots(EXCHANGES_BEGUN, connection.number)
        self._joins: dict[int, Join] = {}
        self.late = 0
        self.warned = False

    @property
    def busy(self) -> bool:
        """Whether a response may be for something other than ``requests``."""
        return bool(self.posted or self.exchanges)

    @fast
    def sort(self, batch: list[Message], wake_ups: WakeUps) -> None:
        """Give responses to their requests, and leave the rest in the batch."""
        requests, joins, posted = self.requests, self._joins, self.posted
        if len(batch) > _FEW and not requests and not self.exchanges:
            # A short cut of the loop below, for programs that post requests and receive responses.
            ids = {message.message_id for message in batch if message._proto == _RESPONSE}
            if len(ids) == len(batch) and ids <= posted:
                posted -= ids
                return
        rest = []
        for message in batch:
            proto, message_id = message._proto, message.message_id
            if proto != _RESPONSE or message_id in joins:
                if proto & OP_CODE_MASK != _RESPONSE or self._takes_part(message, wake_ups):
                    rest.append(message)
                continue
            response = requests.pop(message_id, None)
            if response is not None:
                if response.done():  # cancelled, and the task has not run since
                    self._drop(message)
                else:
                    complete(response, message, wake_ups)
            elif message_id in posted:
                posted.remove(message_id)
                rest.append(message)
            elif message_id in self.exchanges:
                self.exchanges.pop(message_id)._deliver(message)
            else:
                self._drop(message)
        batch[:] = rest

    def give_up(self, message_id: int, response: asyncio.Future[Message]) -> None:
        """Forget a cancelled request. Its response may come later, or have just arrived."""
        if self.requests.pop(message_id, None) is None:
            if not response.cancelled() and response.exception() is None:
                self._drop(response.result())
            return
        self._end_join(message_id)
        self._expect_strays()
        self._take_back(message_id)

    def abandon(self, message_id: int) -> None:
        """Forget a request that was not sent completely."""
        self.requests.pop(message_id, None)
        self._end_join(message_id)
        self._expect_strays()

    def begin(self, exchange: Exchange) -> None:
        """Give an exchange the parts of its response from now on."""
        self.exchanges[exchange.message_id] = exchange

    def forget(self, exchange: Exchange) -> None:
        """Drop the parts for an exchange from now on."""
        self.exchanges.pop(exchange.message_id, None)
        if exchange._receives:
            self._expect_strays()

    def close(self, error: TofuError) -> None:
        """Close on this side: receive nothing more, not even parts that have arrived."""
        for exchange in self.exchanges.values():
            exchange._close(error)
        self.fail(error)

    def fail(self, error: TofuError) -> None:
        """Fail all requests: no response will come any more."""
        requests = list(self.requests.values())
        self.requests.clear()
        for response in requests:
            if not response.done():
                response.set_exception(again(error))
        for message_id in list(self._joins):
            self._end_join(message_id)
        self.posted.clear()
        exchanges = list(self.exchanges.values())
        self.exchanges.clear()
        for exchange in exchanges:
            exchange._lose(error)

    def _takes_part(self, part: Message, wake_ups: WakeUps) -> bool:
        """Give a part of a response to its request; return whether it is for the mailbox.

        A last part comes here only if it is to be joined.
        """
        message_id = part.message_id
        response = self.requests.get(message_id)
        if response is not None:
            self._join(part, response, wake_ups)
        elif message_id in self.posted:
            return True
        elif message_id in self.exchanges:
            self.exchanges[message_id]._deliver(part)
        else:
            self._drop(part)
        return False

    def _join(self, part: Message, response: asyncio.Future[Message], wake_ups: WakeUps) -> None:
        """Join a part of the response to a ``request()``."""
        message_id, last = part.message_id, not part.more
        if response.done():  # cancelled, and the task has not run since
            self._drop(part)
            return
        failed = part.status is not Status.SUCCESS
        if failed and last:
            self._end_join(message_id)
        else:
            join = self._joins.get(message_id)
            if join is None:
                join = Join(
                    self._connection.gate.joining,
                    f"the response to request {message_id}",
                    keep=False,
                )
                self._joins[message_id] = join
            error = join.add(part)
            if error is not None:
                del self._joins[message_id], self.requests[message_id]
                self._expect_strays()
                response.set_exception(error)
                if not last:
                    self._take_back(message_id)
                return
            if not last:
                return
            del self._joins[message_id]
            part = join.whole(part)
        del self.requests[message_id]
        complete(response, part, wake_ups)

    def _end_join(self, message_id: int) -> None:
        join = self._joins.pop(message_id, None)
        if join is not None:
            join.drop()

    def _expect_strays(self) -> None:
        """Let parts of a forgotten response pass without permits; one may wait for them now."""
        connection = self._connection
        if connection.decoder.exempt is not None:
            connection.decoder.exempt.strays = True
        connection.reconsider()

    def _take_back(self, message_id: int) -> None:
        """Notify the peer, if it supports that, that a request was cancelled."""
        if self._connection.peer_supports & Extension.CANCEL:
            with contextlib.suppress(TofuError):  # the peer cannot answer any more
                self._connection.queue.enqueue(WITHDRAWAL, message_id, status=LEFT)

    def _drop(self, message: Message) -> None:
        self.late += 1
        message.release()
