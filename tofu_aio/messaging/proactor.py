"""What asyncio's proactor loop, the usual one on Windows, does otherwise than the others."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_ERRNO: Final = {
    64: errno.ECONNRESET,  # ERROR_NETNAME_DELETED
    121: errno.ETIMEDOUT,  # ERROR_SEM_TIMEOUT
    1225: errno.ECONNREFUSED,  # ERROR_CONNECTION_REFUSED
    1231: errno.ENETUNREACH,  # ERROR_NETWORK_UNREACHABLE
    1232: errno.EHOSTUNREACH,  # ERROR_HOST_UNREACHABLE
    1236: errno.ECONNABORTED,  # ERROR_CONNECTION_ABORTED
}


@contextmanager
def usual_errno() -> Iterator[None]:
    """Raise errors of the network with the number that they have on every other loop.

    A completion port brings the system's own numbers, and Python takes each that is not a socket's
    for EINVAL, whatever it says.
    """
    try:
        yield
    except OSError as error:
        number = _ERRNO.get(getattr(error, "winerror", None) or 0)
        if number is None:
            raise
        raise OSError(number, error.strerror) from error
