"""The events of a run, in order, for people to read and for tests to compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

_SHOWN: Final = 60
"""Lines of a trace that a failure shows. The cause is rarely further back."""


class Trace:
    """The events of one run, each with its virtual time, its subject, and what happened.

    ``str(trace)`` is the whole text, with a line for each event. ``len(trace)`` is their number.

    Args:
        clock: the virtual time, in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._events: list[tuple[float, str, str, str]] = []

    def add(self, who: str, what: str, detail: object = "") -> None:
        """Record that something happened now."""
        # As text, because an exception would keep alive everything in its traceback.
        self._events.append((self._clock(), who, what, str(detail)))

    def last(self, count: int = _SHOWN) -> str:
        """The text of the last events."""
        cut = len(self._events) - count
        head = f"... {cut} earlier events\n" if cut > 0 else ""
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
