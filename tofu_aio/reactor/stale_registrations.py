"""Detecting stale registrations: those that have outlived their descriptor.

The kernel drops a registration when the last copy of the open file is closed, not when its number
is. If a copy lives on, for example in a forked child, the old file is still watched, under a number
that by now names nothing or another file. No call can reach such a stale registration, and its
events carry nothing but the number. Only a new poller is free of it.
"""

from __future__ import annotations

from typing import Final

DOUBTS_PER_DESCRIPTOR: Final = 4
"""Answers with doubtful numbers that cost as much, for each descriptor, as to tell a new poller
about it."""


class StaleRegistrations:
    """The numbers under which a poller may have a stale registration, and whether it has one.

    Attributes:
        suspects: numbers whose events must be confirmed before they are believed.
    """

    def __init__(self) -> None:
        self.suspects: set[int] = set()
        self._found = False
        self._doubtful_answers = 0

    def note_unexpected_event(self, fd: int) -> None:
        """Take note of an event that was not asked for.

        The first one may be a mistake of the system; a second one for the same number proves that
        there is a stale registration.
        """
        self._found |= fd in self.suspects
        self.suspects.add(fd)

    def confirm(self, reported: int, actual: int) -> int:
        """Return what to believe, given what was reported and what the descriptor itself answers.

        If they differ, there is a stale registration.
        """
        self._found |= actual != reported
        return actual

    def require_new_poller(self, descriptors: int) -> bool:
        """Return, after an answer, whether to replace the poller, with a call per descriptor.

        That is so if there is a stale registration, or if confirming events has already cost as
        much as a new poller would. A program that closes descriptors before it unregisters them
        leaves suspects without stale registrations, and each event must be looked at twice.
        """
        self._doubtful_answers += bool(self.suspects)
        return self._found or self._doubtful_answers > DOUBTS_PER_DESCRIPTOR * descriptors
