"""Whose doing it is when the application's own functions raise, and what is done about it.

For both faces: a handler means the same in a thread of its own.
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

_NAMED: Final = 3
"""Errors that are named of a group; the rest is counted."""


class Judged(Protocol):
    """A channel, of whichever face."""

    @property
    def number(self) -> int:
        """Its local number."""

    @property
    def state(self) -> State:
        """Where it is in its life."""

    @property
    def _closed_here(self) -> bool:
        """Whether it is closed, or being closed, on this side."""

    def abort(self) -> None:
        """Reset the connection."""


async def awaited(name: str, answer: Awaitable[object]) -> None:
    """Wait for what a function of the application's returned.

    Raises:
        TypeError: it returned what cannot be waited for.
    """
    if not inspect.isawaitable(answer):
        raise TypeError(f"{name} returned {answer!r:.80}: make it an async function")
    await answer


def handler_failed(channel: Judged, error: Exception) -> None:
    """Log what a handler raised; and reset its channel, unless it is not to blame for any of it."""
    if _is_free_of_faults(channel, error):
        logger.info("%r: %s", channel, _in_words(error))
    else:
        logger.error("the handler of %r failed", channel, exc_info=error)
        channel.abort()


def refusal(channel: Judged, error: Exception) -> Rejected:
    """What a peer is told when a decision raised: a reason that is meant for it, and no other."""
    if isinstance(error, Rejected):
        return error
    if _is_free_of_faults(channel, error):
        logger.info("%r: %s", channel, _in_words(error))
    else:
        logger.error("deciding on %r failed", channel, exc_info=error)
    return Rejected("the decision failed", Status.PROCESSING_FAILED)


def _in_words(error: Exception) -> str:
    """The errors that a group is made of, of which several tasks may have the same."""
    texts = list(dict.fromkeys(str(leaf) or repr(leaf) for leaf in _leaves(error)))
    return "; ".join(texts[:_NAMED]) + (f"; {len(texts) - _NAMED} more" if texts[_NAMED:] else "")


def _leaves(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error


def _is_free_of_faults(channel: Judged, error: Exception) -> bool:
    _, faults = ExceptionGroup("", [error]).split(lambda part: _is_no_fault(channel, part))
    return faults is None


def _is_no_fault(channel: Judged, error: BaseException) -> bool:
    """Whether it comes of an end: the peer was lost, broke an exchange off, or we are closing."""
    if isinstance(error, ExchangeFailed):
        return error.channel_number == channel.number
    ends = channel.state is State.CLOSED or channel._closed_here
    return isinstance(error, TofuError) and ends
