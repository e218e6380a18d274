"""In asyncio's debug mode: where and when the application received each message."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from pathlib import Path
from typing import Final, NamedTuple, cast
from weakref import WeakKeyDictionary

from ...core import Inbox
from ...protocol.message import Message

_BETWEEN: Final = (str(Path(__file__).parents[1]), str(Path(asyncio.__file__).parent))
"""Folders of code that stands between the application's line and ``popleft``."""


class Receipt(NamedTuple):
    """Where the application received a message, and when by its loop's clock."""

    place: str
    time: float


_INBOX: Final = cast("type[deque[Message]]", Inbox)

RECEIPTS: Final[WeakKeyDictionary[Message, Receipt]] = WeakKeyDictionary()


def inbox() -> type[deque[Message]]:
    """The type of deque for an inbox; in debug mode one that notes where messages are received."""
    return _NotedMessages if asyncio.get_running_loop().get_debug() else _INBOX


class _NotedMessages(deque[Message]):
    def popleft(self) -> Message:
        message = super().popleft()
        RECEIPTS[message] = Receipt(_place(), asyncio.get_running_loop().time())
        return message


def _place() -> str:
    """The innermost line of the application."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_BETWEEN):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
