"""Packages that are not for every Python, and the tests that need them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

import pytest

WITHOUT_MSGSPEC: Final = (
    "services and clients need msgspec, which does not compile for Python 3.13 without the GIL"
)

needs_msgspec = pytest.mark.skipif(find_spec("msgspec") is None, reason=WITHOUT_MSGSPEC)
