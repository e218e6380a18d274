"""What a channel has asked, and who gets the answer: requests, exchanges, and those given up."""

from __future__ import annotations

import asyncio
from typing import Final

from ..protocol.errors import InvalidMoreUsage, TofuError, again
from ..protocol.message import Message
from ..protocol.op_code import OP_CODE_MASK, OpCode
from .exchange import Exchange
from .waking import Answered, answer

ABANDONED: Final = 1024
"""Requests given up whose responses are still recognized and dropped. An older one, should its
response come after all, is received like any other message."""

_REQUEST: Final = int(OpCode.REQUEST)
_RESPONSE: Final = int(OpCode.RESPONSE)


class Answers:
    """Sorts out what came for somebody who waits for it.

    Attributes:
        requests: who waits for the response, by message id.
        late: responses that came after whoever asked had gone.
    """

    __slots__ = ("_abandoned", "_exchanges", "late", "requests")

    def __init__(self) -> None:
        self.requests: dict[int, asyncio.Future[Message]] = {}
        # By message id: our own exchanges; by its negative: the peer's, who counts for itself.
        self._exchanges: dict[int, Exchange] = {}
        self._abandoned: dict[int, None] = {}  # likewise, the oldest first
        self.late = 0

    @property
    def wanted(self) -> bool:
        """Whether any message that comes may be for somebody."""
        return bool(self.requests or self._exchanges or self._abandoned)

    def exchanging(self, key: int) -> bool:
        """Whether an exchange of ours has this message id, or one of the peer's its negative."""
        return key in self._exchanges

    def sort(self, batch: list[Message], answered: Answered) -> None:
        """Give the answers to those who asked, and leave the rest in the batch."""
        requests = self.requests
        rest = []
        for message in batch:
            whole = message._proto == _RESPONSE  # and without more
            response = requests.pop(message.message_id, None) if whole else None
            if response is None:
                if not self._is_for_somebody(message):
                    rest.append(message)
            elif response.done():  # cancelled, and the task has not run since
                self._drop(message)
            else:
                answer(response, message, answered)
        batch[:] = rest

    def give_up(self, message_id: int, response: asyncio.Future[Message]) -> None:
        """The caller has gone; the response may come later, or be here in this very moment."""
        if self.requests.pop(message_id, None) is not None:
            self._abandon(message_id)
        elif not response.cancelled() and response.exception() is None:
            self._drop(response.result())

    def begin(self, exchange: Exchange) -> None:
        """Give it the parts that come."""
        self._exchanges[_key(exchange)] = exchange

    def forget(self, exchange: Exchange) -> None:
        """Nobody takes the parts of an exchange any more."""
        if self._exchanges.pop(_key(exchange), None) is not None and exchange.begun:
            self._abandon(_key(exchange))

    def close(self, error: TofuError) -> None:
        """This side closes: nothing more is received, not even what is here."""
        for exchange in self._exchanges.values():
            exchange.close(error)
        self.fail(error)

    def fail(self, error: TofuError) -> None:
        """No answer will come any more."""
        requests, self.requests = self.requests, {}
        for response in requests.values():
            if not response.done():
                response.set_exception(again(error))
        exchanges, self._exchanges = self._exchanges, {}
        for exchange in exchanges.values():
            exchange.lose(error)

    def _is_for_somebody(self, message: Message) -> bool:
        """Whether this is for a request or an exchange, which has it now, or has gone."""
        op_code, message_id = message._proto & OP_CODE_MASK, message.message_id
        if op_code != _RESPONSE:
            return op_code == _REQUEST and self._continues(message, -message_id)
        response = self.requests.pop(message_id, None)
        if response is None:
            return self._continues(message, message_id)
        # It comes in parts, which request() has no place for.
        self._abandon(message_id)
        if response.done():  # cancelled, and the task has not run since
            self._drop(message)
        else:
            message.release()
            response.set_exception(
                InvalidMoreUsage(
                    f"the response to request {message_id} comes in parts: "
                    "use stream() instead of request()"
                )
            )
        return True

    def _continues(self, message: Message, key: int) -> bool:
        """Whether this is a part of an exchange, which has it now, or of what was given up."""
        exchange = self._exchanges.get(key)
        if exchange is not None:
            if not message.more:
                del self._exchanges[key]
            exchange.received(message)
        elif key in self._abandoned:
            if not message.more:
                del self._abandoned[key]
            self._drop(message)
        else:
            return False
        return True

    def _abandon(self, key: int) -> None:
        self._abandoned[key] = None
        if len(self._abandoned) > ABANDONED:
            del self._abandoned[next(iter(self._abandoned))]

    def _drop(self, message: Message) -> None:
        self.late += 1
        message.release()


def _key(exchange: Exchange) -> int:
    """What its parts are found by."""
    return exchange.message_id if exchange.asks else -exchange.message_id
