"""What accept(2) says of failures: known to the loop's servers and to messaging's listeners."""

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
"""What a connection failed of before it was accepted: one should go on to the next."""
