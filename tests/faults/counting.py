"""How much the harnesses did, for the summary at the end of the run."""

from __future__ import annotations

import os
from collections import Counter
from typing import Final

COUNTS: Final[Counter[str]] = Counter()
"""What was done, by its name: how often."""

FULL: Final = os.environ.get("TOFU_FAULTS") == "full"
"""Do all of everything: ``nox -s faults``. Otherwise what the usual run has time for."""
