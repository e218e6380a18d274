"""What happened in a run, in order: to be read by a person, and compared byte by byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

_SHOWN: Final = 60
"""Lines of a trace that a failure shows: what led to it is seldom further back."""


class Trace:
    """The events of one run: virtual time, who, and what.

    ``str`` of it is the whole text, one line an event; ``len`` counts them.

    Args:
        clock: the virtual time, in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._events: list[tuple[float, str, str, str]] = []

    def add(self, who: str, what: str, detail: object = "") -> None:
        """Note that something happened now."""
        # In words already: an exception that was kept would keep all that its traceback knows.
        self._events.append((self._clock(), who, what, str(detail)))

    def last(self, count: int = _SHOWN) -> str:
        """The last events."""
        cut = len(self._events) - count
        head = f"... {cut} events before\n" if cut > 0 else ""
        return head + "\n".join(_line(event) for event in self._events[-count:])

    def __iter__(self) -> Iterator[str]:
        return map(_line, self._events)

    def __len__(self) -> int:
        return len(self._events)

    def __str__(self) -> str:
        return "\n".join(self)


def _line(event: tuple[float, str, str, str]) -> str:
    time, who, what, detail = event
    return f"{time:12.6f} {who:<12} {what} {detail}".rstrip()
