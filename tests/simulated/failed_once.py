"""Seeds that have failed, each with what it found. They run whenever others do."""

from __future__ import annotations

from typing import Final

FAILED_ONCE: Final[dict[int, str]] = {
    6464: "the answer to a Bye came back with the status channel_closed, before channel_closed",
    17957: "a response and the answer to a Bye did so, both; on Python 3.11 only",
    1004018: "a network so slow that what another program kept made a channel wait for 300 s",
    6009743: "a connection that came, spoke and left in one turn, before the checks knew of it",
}
