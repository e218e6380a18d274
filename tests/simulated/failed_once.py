"""Seeds that have failed once, each with the error that it found. They run before all others."""

from __future__ import annotations

from typing import Final

FAILED_ONCE: Final[dict[int, str]] = {
    6464: "the answer to a Bye came back with the status channel_closed, before channel_closed",
    17957: "the same for a response and the answer to a Bye; on Python 3.11 only",
    1004018: "on a slow network another program kept its messages, so a channel waited for 300 s",
    6009743: "a connection was accepted, sent and closed in one turn, before the checks knew of it",
}
