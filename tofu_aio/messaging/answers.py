"""What a channel has asked, and who gets the answer: requests, exchanges, and the mailbox."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from ..protocol.errors import TofuError, again
from ..protocol.message import Message
from ..protocol.op_code import OP_CODE_MASK, OpCode
from ..protocol.status import LEFT, Status
from .agreements import Extension
from .connection import Connection
from .exchange import Exchange
from .joining import Join
from .waking import Answered, answer

_REQUEST: Final = int(OpCode.REQUEST)
_RESPONSE: Final = int(OpCode.RESPONSE)
_MISSING: Final = object()


class Answers:
    """Gives each response to whoever asked for it.

    A response that nobody waits for any more is dropped and counted, however late it comes: it
    belongs to nothing here, which needs no memory of what was given up.

    Args:
        connection: the channel's.

    Attributes:
        requests: who waits for the response, by message id.
        counted: by message id, whose responses take permits: exchanges, and None for a request that
            the application posted, and whose response goes to the mailbox.
        late: responses that came after whoever asked had gone.
        warned: the log says already that responses wait behind unread messages.
    """

    __slots__ = ("_connection", "_joins", "counted", "late", "requests", "warned")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.requests: dict[int, asyncio.Future[Message]] = {}
        self.counted: dict[int, Exchange | None] = {}
        self._joins: dict[int, Join] = {}
        self.late = 0
        self.warned = False

    def sort(self, batch: list[Message], answered: Answered) -> None:
        """Give responses to those who asked, and leave the rest in the batch."""
        requests, joins = self.requests, self._joins
        rest = []
        for message in batch:
            proto, message_id = message._proto, message.message_id
            if proto & OP_CODE_MASK != _RESPONSE:
                rest.append(message)
                continue
            whole = proto == _RESPONSE and message_id not in joins
            response = requests.pop(message_id, None) if whole else None
            if response is None:
                if self._goes_to_mailbox(message, answered):
                    rest.append(message)
            elif response.done():  # cancelled, and the task has not run since
                self._drop(message)
            else:
                answer(response, message, answered)
        batch[:] = rest

    def give_up(self, message_id: int, response: asyncio.Future[Message]) -> None:
        """The caller has gone; the response may come later, or be here in this very moment."""
        if self.requests.pop(message_id, None) is None:
            if not response.cancelled() and response.exception() is None:
                self._drop(response.result())
            return
        self._end_join(message_id)
        self._take_back(message_id)

    def begin(self, exchange: Exchange) -> None:
        """Give it the parts that come."""
        self.counted[exchange.message_id] = exchange

    def forget(self, exchange: Exchange) -> None:
        """Nobody takes the parts of an exchange any more."""
        self.counted.pop(exchange.message_id, None)

    def close(self, error: TofuError) -> None:
        """This side closes: nothing more is received, not even what is here."""
        for exchange in self.counted.values():
            if exchange is not None:
                exchange.close(error)
        self.fail(error)

    def fail(self, error: TofuError) -> None:
        """No answer will come any more."""
        requests, self.requests = self.requests, {}
        for response in requests.values():
            if not response.done():
                response.set_exception(again(error))
        for message_id in list(self._joins):
            self._end_join(message_id)
        exchanges = [exchange for exchange in self.counted.values() if exchange is not None]
        self.counted.clear()
        for exchange in exchanges:
            exchange.lose(error)

    def _goes_to_mailbox(self, message: Message, answered: Answered) -> bool:
        """Whether this answers a posted request; else it is given to whoever waits, or dropped."""
        message_id = message.message_id
        response = self.requests.get(message_id)
        if response is not None:
            self._join(message, response, answered)
            return False
        exchange = self.counted.get(message_id, _MISSING)
        if exchange is not _MISSING and not message.more:
            del self.counted[message_id]
        if isinstance(exchange, Exchange):
            exchange.received(message)
        elif exchange is None:
            return True
        else:
            self._drop(message)
        return False

    def _join(self, part: Message, response: asyncio.Future[Message], answered: Answered) -> None:
        """A part of the response to a ``request()``."""
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
                    self._connection.joining, f"the response to request {message_id}", keep=False
                )
                self._joins[message_id] = join
            error = join.add(part)
            if error is not None:
                del self._joins[message_id], self.requests[message_id]
                response.set_exception(error)
                if not last:
                    self._take_back(message_id)
                return
            if not last:
                return
            del self._joins[message_id]
            part = join.whole(part)
        del self.requests[message_id]
        answer(response, part, answered)

    def _end_join(self, message_id: int) -> None:
        join = self._joins.pop(message_id, None)
        if join is not None:
            join.drop()

    def _take_back(self, message_id: int) -> None:
        """Tell the peer, if it wants to know, that nobody waits for this response any more."""
        if self._connection.peer_supports & Extension.CANCEL:
            with contextlib.suppress(TofuError):  # it cannot answer any more
                self._connection.put(_REQUEST, message_id, status=LEFT)

    def _drop(self, message: Message) -> None:
        self.late += 1
        message.release()
