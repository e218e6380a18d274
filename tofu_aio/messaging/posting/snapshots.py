"""A posted message is taken as it is, and its permit goes with what stands for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...protocol.errors import TofuError
from ...protocol.message import Message


@contextmanager
def handing_over(message: Message, own: Message) -> Iterator[None]:
    """Let the permit of the application's message go with its snapshot, unless that fails."""
    own._permit = message._take_permit()
    try:
        yield
    except TofuError:
        message._permit = own._take_permit()
        raise
