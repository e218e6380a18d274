"""Seeds that have failed, each with what it found. They run whenever others do."""

from __future__ import annotations

from typing import Final

FAILED_ONCE: Final[dict[int, str]] = {
    6464: "the answer to a Bye came back as channel_closed, which came again as the last word",
    17957: "so did a response, with the answer to the Bye behind it; on Python 3.11 alone, then",
}
