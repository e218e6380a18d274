"""What the handlers of a server raise, and what that means on either face."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import pytest

import tofu_aio as tofu
from tofu_aio import Message, OpCode, Status


def broken_off(number: int) -> tofu.ExchangeFailed:
    """What is raised where the peer of a channel breaks an exchange off."""
    part = Message(OpCode.RESPONSE, message_id=1)
    part.channel_number = number
    return tofu.ExchangeFailed("broken off", Status.PROCESSING_FAILED, part)


def ours(number: int) -> Exception:
    return broken_off(number)


def ours_among_tasks(number: int) -> Exception:
    return ExceptionGroup("tasks", [ExceptionGroup("inner", [broken_off(number)])])


def another_s(number: int) -> Exception:
    return broken_off(number - 1)


def nobody_s(number: int) -> Exception:
    return tofu.ExchangeFailed("nothing tells of which channel")


def ours_and_another_s(number: int) -> Exception:
    return ExceptionGroup("tasks", [broken_off(number), broken_off(number - 1)])


def ours_and_a_bug(number: int) -> Exception:
    return ExceptionGroup("tasks", [broken_off(number), ZeroDivisionError("a bug")])


def lost_elsewhere(number: int) -> Exception:
    return tofu.PeerDisconnected("of another channel")


def bug(number: int) -> Exception:
    return ZeroDivisionError("a bug")


Raised = Callable[[int], Exception]
"""Makes what a handler raises, of the number of its channel."""

THE_PEERS: Final[list[Raised]] = [ours, ours_among_tasks]
"""What the peer of an open channel has done."""

FAULTS: Final[list[Raised]] = [
    another_s,
    nobody_s,
    ours_and_another_s,
    ours_and_a_bug,
    lost_elsewhere,
    bug,
]
"""What it has not."""


def told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What the log was told of handlers and decisions; it must be of the one place for that."""
    records = [r for r in caplog.records if r.name.startswith("tofu_aio")]
    assert {r.name for r in records} <= {"tofu_aio"}
    return records
