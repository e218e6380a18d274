"""What the system beneath the tests is, where it is neither what it seems nor as others."""

from __future__ import annotations

import sys


def _is_wine() -> bool:
    if sys.platform != "win32":
        return False
    import ctypes

    return hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")


WINE = _is_wine()
"""Whether this is a Python for Windows on another system."""
