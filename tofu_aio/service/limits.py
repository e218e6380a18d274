"""The limits of services that no option sets, and the defaults of those that one does."""

from __future__ import annotations

from typing import Final

CONCURRENCY: Final = 256
"""Default for the calls that a service runs at once."""

STREAMS: Final = 1024
"""Default for the streams that a service sends at once."""

DRAIN: Final = 30.0
"""Default for the seconds that calls have to end when the service stops."""

LEAVING_TIME: Final = 1.0
"""Seconds that peers have to leave once they were told that the service is shutting down. A call
that they send meanwhile is served. After that a channel without calls is closed, and a call that is
on its way at that moment fails."""
