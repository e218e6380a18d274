"""What a channel has asked, and who gets the answer: requests, exchanges, and the mailbox."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

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
"""Messages for which it takes longer to make a set than to look at each."""


class PendingRequests:
    """Gives each response to whoever asked for it.

    A response that nobody waits for any more is dropped and counted, however late it comes: it
    belongs to nothing here, which needs no memory of what was given up.

    Args:
        connection: the channel's.

    Attributes:
        requests: who waits for the response, by message id.
        exchanges: who takes the parts of the response, likewise.
        posted: ids of requests that the application posted: the mailbox gets their responses. One
            that is never answered stays here until the channel ends.
        slots: for the exchanges that have begun and are not over.
        late: responses that came after whoever asked had gone.
        warned: the log says already that responses wait behind unread messages.
    """

    __slots__ = (
        "_connection",
        "_joins",
        "exchanges",
        "late",
        "posted",
        "requests",
        "slots",
        "warned",
    )

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
        """Whether a response may be for something else than ``requests``."""
        return bool(self.posted or self.exchanges)

    def sort(self, batch: list[Message], wake_ups: WakeUps) -> None:
        """Give responses to those who asked, and leave the rest in the batch."""
        requests, joins, posted = self.requests, self._joins, self.posted
        if len(batch) > _FEW and not requests and not self.exchanges:
            # The same as below, for programs that post requests and receive what comes.
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
                self.exchanges.pop(message_id).deliver(message)
            else:
                self._drop(message)
        batch[:] = rest

    def give_up(self, message_id: int, response: asyncio.Future[Message]) -> None:
        """The caller has gone; the response may come later, or be here in this very moment."""
        if self.requests.pop(message_id, None) is None:
            if not response.cancelled() and response.exception() is None:
                self._drop(response.result())
            return
        self._end_join(message_id)
        self._expect_strays()
        self._take_back(message_id)

    def abandon(self, message_id: int) -> None:
        """A request was not sent to its end: nobody waits for the response."""
        self.requests.pop(message_id, None)
        self._end_join(message_id)
        self._expect_strays()

    def begin(self, exchange: Exchange) -> None:
        """Give it the parts that come."""
        self.exchanges[exchange.message_id] = exchange

    def forget(self, exchange: Exchange) -> None:
        """Nobody takes the parts of an exchange any more."""
        self.exchanges.pop(exchange.message_id, None)
        if exchange.receives:
            self._expect_strays()

    def close(self, error: TofuError) -> None:
        """This side closes: nothing more is received, not even what is here."""
        for exchange in self.exchanges.values():
            exchange.close(error)
        self.fail(error)

    def fail(self, error: TofuError) -> None:
        """No answer will come any more."""
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
            exchange.lose(error)

    def _takes_part(self, part: Message, wake_ups: WakeUps) -> bool:
        """Whether the mailbox takes this part of a response; else it went to who waits for it.

        The last part comes here only if it is to be joined.
        """
        message_id = part.message_id
        response = self.requests.get(message_id)
        if response is not None:
            self._join(part, response, wake_ups)
        elif message_id in self.posted:
            return True
        elif message_id in self.exchanges:
            self.exchanges[message_id].deliver(part)
        else:
            self._drop(part)
        return False

    def _join(self, part: Message, response: asyncio.Future[Message], wake_ups: WakeUps) -> None:
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
        """What comes of a response belongs to nothing from now on, and maybe waits already."""
        connection = self._connection
        if connection.decoder.exempt is not None:
            connection.decoder.exempt.strays = True
        connection.reconsider()

    def _take_back(self, message_id: int) -> None:
        """Tell the peer, if it wants to know, that nobody waits for this response any more."""
        if self._connection.peer_supports & Extension.CANCEL:
            with contextlib.suppress(TofuError):  # it cannot answer any more
                self._connection.queue.enqueue(WITHDRAWAL, message_id, status=LEFT)

    def _drop(self, message: Message) -> None:
        self.late += 1
        message.release()
