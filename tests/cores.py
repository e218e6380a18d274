"""Which core the tests run, and whether it is the one that they are meant to run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tofu_aio.core import WHY_PLAIN

CORE = "plain" if WHY_PLAIN else "compiled"
DESCRIBED = f"plain Python: {WHY_PLAIN}" if WHY_PLAIN else "compiled"


def wrong_core() -> str | None:
    """Return what is wrong with the core that runs, or None."""
    expected = os.environ.get("TOFU_EXPECT_CORE", CORE)
    if expected != CORE:
        return f"TOFU_EXPECT_CORE is {expected}, but the core that runs is {DESCRIBED}"
    if not WHY_PLAIN and is_outdated(Path(str(sys.modules["tofu_aio.core._compiled"].__file__))):
        return (
            "the compiled core is older than its source: run 'pip install --no-deps --editable .' "
            "again, or set TOFU_AIO_PURE=1"
        )
    return None


def is_outdated(built: Path) -> bool:
    """Whether an extension module is older than a source that lies beside it."""
    sources = (path for path in built.parent.iterdir() if path.suffix in {".pyx", ".pxi", ".h"})
    return any(source.stat().st_mtime > built.stat().st_mtime for source in sources)
