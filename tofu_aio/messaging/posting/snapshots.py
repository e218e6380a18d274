"""Handing the permit of a posted message to its snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...protocol.errors import TofuError
from ...protocol.message import Message


@contextmanager
def handing_over(message: Message, own: Message) -> Iterator[None]:
    """Move the permit of the application's message to its snapshot.

    If the block raises a TofuError, the message gets its permit back.
    """
    own._permit = message._take_permit()
    try:
        yield
    except TofuError:
        message._permit = own._take_permit()
        raise
