"""Addresses that nothing else uses."""

from __future__ import annotations

import socket
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

HAS_UNIX: Final = hasattr(socket, "AF_UNIX")

LONGEST_PATH: Final = 100
"""Bytes. The path of a Unix socket may have 103 on macOS, and 107 on Linux (unix(7))."""


@contextmanager
def tcp_address() -> Generator[str]:
    """A free TCP port of this machine, for a listener that has to know its port in advance.

    On Linux nobody else is given the port while the block runs, because it stays bound; and it can
    be listened on, because every listener sets SO_REUSEADDR (socket(7)). Elsewhere a bound port
    cannot be listened on, so there it is free only in all likelihood.
    """
    with socket.socket() as bound:
        if sys.platform == "linux":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        if sys.platform != "linux":
            bound.close()
        yield f"tcp://127.0.0.1:{port}"


@contextmanager
def unix_address() -> Generator[str]:
    """A path for a Unix socket, short enough for every system. Its folder is removed afterwards."""
    folder = tempfile.gettempdir()
    if len(folder.encode()) + len("/tofu_xxxxxxxx/s") > LONGEST_PATH:
        folder = "/tmp"  # noqa: S108 - a folder of its own is made in it
    with tempfile.TemporaryDirectory(prefix="tofu_", dir=folder) as own:
        yield f"uds://{Path(own, 's')}"
