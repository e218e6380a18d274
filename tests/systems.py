"""What the system beneath the tests is, where it is neither what it seems nor as others."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

import pytest


def _is_wine() -> bool:
    if sys.platform != "win32":
        return False
    import ctypes

    return hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")


WINE = _is_wine()
"""Whether this is a Python for Windows on another system."""

keeps_what_came_before_a_reset = pytest.mark.skipif(
    sys.platform == "win32", reason="on Windows a reset takes what was not read yet"
)

needs_resets = pytest.mark.skipif(
    WINE, reason="Wine tells of a reset as of the orderly end of a connection"
)


def needs_tracing() -> None:
    """Skip a test that traces memory where that cannot be done."""
    if WINE and on_winloop():
        pytest.skip("under Wine winloop waits for ever while memory is traced")


def _is_of_the_proactor(context: Mapping[str, object]) -> bool:
    """Whether a loop heard of what it does itself: nobody asks its task how an accept failed."""
    return "IocpProactor.accept" in repr(context.get("future"))


def heard_by_loop() -> list[dict[str, Any]]:
    """What the running loop hears of from now on: what a callback raises only reaches its log."""
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: None if _is_of_the_proactor(context) else heard.append(context)
    )
    return heard


def on_a_proactor() -> bool:
    """Whether the running loop is asyncio's usual one on Windows."""
    return sys.platform == "win32" and isinstance(
        asyncio.get_running_loop(), asyncio.ProactorEventLoop
    )


def on_winloop() -> bool:
    """Whether that runs this."""
    return type(asyncio.get_running_loop()).__module__.startswith("winloop")


def skip_where_writes_are_whole() -> None:
    """Skip a test of how much a peer has taken where a transport does not know it of a part."""
    if on_a_proactor() or on_winloop():
        pytest.skip("its transports tell what was taken only once all of a write was")
