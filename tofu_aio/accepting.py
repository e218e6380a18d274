"""Errors of accept(2), for the servers of the loop and for the listeners of messaging."""

from __future__ import annotations

import errno
from typing import Final

LOST: Final = frozenset(
    getattr(errno, name)
    for name in (
        "ECONNABORTED",
        "ECONNRESET",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ENETDOWN",
        "ENETUNREACH",
        "ENONET",
        "ENOPROTOOPT",
        "EPROTO",
        "ETIMEDOUT",
    )
    if hasattr(errno, name)
)
"""Errors of a single pending connection, which has failed before it was accepted. The next one can
be accepted at once."""
