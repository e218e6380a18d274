"""What happens when a handler or a decision function of the application raises.

The asyncio API and the blocking API share these rules.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Iterator
from typing import Final, Protocol

from ...protocol.errors import ExchangeFailed, Rejected, TofuError
from ...protocol.lifecycle import State
from ...protocol.status import Status

logger = logging.getLogger("tofu_aio")

_QUOTED: Final = 3
"""How many errors of a group are quoted in the log; the others are only counted."""


class HandledChannel(Protocol):
    """A channel of the asyncio API or of the blocking API."""

    @property
    def number(self) -> int:
        """The local channel number."""

    @property
    def state(self) -> State:
        """The state of its lifecycle."""

    @property
    def _closed_here(self) -> bool:
        """Whether it is closed, or being closed, on this side."""

    def abort(self) -> None:
        """Reset the connection."""


async def awaited(name: str, answer: Awaitable[object]) -> None:
    """Await what a function of the application has returned.

    Raises:
        TypeError: it is not awaitable.
    """
    if not inspect.isawaitable(answer):
        raise TypeError(f"{name} returned {answer!r:.80}: make it an async function")
    await answer


def handler_failed(channel: HandledChannel, error: Exception) -> None:
    """Log what a handler raised, and reset its channel if the exception is a fault of the handler.

    It is not if it merely reports the end of the channel or of an exchange.
    """
    if _is_expected(channel, error):
        logger.info("%r: %s", channel, _in_words(error))
    else:
        logger.error("the handler of %r failed", channel, exc_info=error)
        channel.abort()


def refusal(channel: HandledChannel, error: Exception) -> Rejected:
    """Return the refusal to send to the peer after a decision function raised.

    Only the text of a ``Rejected`` is meant for the peer.
    """
    if isinstance(error, Rejected):
        return error
    if _is_expected(channel, error):
        logger.info("%r: %s", channel, _in_words(error))
    else:
        logger.error("the decision on %r failed", channel, exc_info=error)
    return Rejected("the decision failed", Status.PROCESSING_FAILED)


def _in_words(error: Exception) -> str:
    """Return the texts of an error, or of those in a group, each text only once."""
    texts = list(dict.fromkeys(str(leaf) or repr(leaf) for leaf in _leaves(error)))
    more = f"; {len(texts) - _QUOTED} more" if texts[_QUOTED:] else ""
    return "; ".join(texts[:_QUOTED]) + more


def _leaves(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error


def _is_expected(channel: HandledChannel, error: Exception) -> bool:
    _, faults = ExceptionGroup("", [error]).split(lambda part: _reports_end(channel, part))
    return faults is None


def _reports_end(channel: HandledChannel, error: BaseException) -> bool:
    """Return whether an error merely reports an end.

    It does if the peer was lost or has ended an exchange, or if this side is closing the channel.
    """
    if isinstance(error, ExchangeFailed):
        return error.channel_number == channel.number
    ends = channel.state is State.CLOSED or channel._closed_here
    return isinstance(error, TofuError) and ends
