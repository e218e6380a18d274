"""Interrupting a call at its n-th instruction, as a signal's handler would."""

from __future__ import annotations

import dis
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any, Final

PACKAGE: Final = "tofu_aio"

_CHECKS: Final = ("CALL", "JUMP_BACKWARD", "POP_JUMP_BACKWARD")
"""After which instructions CPython looks for signals, besides a function's beginning, RESUME: its
ceval.c and bytecodes.c say CHECK_EVAL_BREAKER or _CHECK_PERIODIC there. Intrinsics are no calls."""

_UNCHECKED: Final = ("RETURN", "PUSH_EXC_INFO", "CLEANUP_THROW")
"""Before which it does not, even after a call: that one raised, or its result is passed on."""


class Interrupted(BaseException):
    """What a signal's handler raises."""


def interrupt() -> None:
    """The handler that raises it."""
    raise Interrupted


class Interruption:
    """Runs a handler at the n-th point of a call, in the thread that makes it.

    A point is an instruction of the package before which CPython may run a signal's handler;
    nowhere else, for what cleans up after an exception cannot itself be interrupted. A call
    counts whether a Python function was called, whose return is no point today, or a built-in one.
    What finalizers do is none: what is raised there Python prints, and goes on.

    Args:
        at: which one; 0 for none.
        handler: by default it raises ``Interrupted``.

    Attributes:
        points: how many have been passed.
    """

    def __init__(self, at: int, handler: Callable[[], object] = interrupt) -> None:
        self.at = at
        self._handler = handler
        self.points = 0
        self._thread = threading.get_ident()
        self._before: dict[int, tuple[CodeType, str]] = {}  # by frame
        self._names: dict[CodeType, dict[int, str]] = {}

    def during(self, call: Callable[[], object]) -> None:
        """Make the call; raises what it and the handler do."""
        watching = self._monitored() if sys.version_info >= (3, 12) else self._traced()
        with watching:
            call()

    def _passed(self, frame: FrameType, offset: int) -> None:
        """An instruction is about to be executed."""
        code = frame.f_code
        if code not in self._names:
            self._names[code] = {each.offset: each.opname for each in dis.get_instructions(code)}
        name = self._names[code].get(offset, "")
        known, before = self._before.get(id(frame), (None, ""))
        self._before[id(frame)] = code, name
        looked = name == "RESUME" or (
            known is code and before.startswith(_CHECKS) and "INTRINSIC" not in before
        )
        if looked and not name.startswith(_UNCHECKED) and not _in_a_finalizer(frame):
            self.points += 1
            if self.points == self.at:
                self._handler()

    @contextmanager
    def _monitored(self) -> Iterator[None]:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]  # not in 3.11
        events, tool = monitoring.events, monitoring.DEBUGGER_ID

        def instruction(code: CodeType, offset: int) -> object:
            if PACKAGE not in code.co_filename:
                return monitoring.DISABLE
            if threading.get_ident() == self._thread:
                self._passed(sys._getframe(1), offset)
            return None

        monitoring.use_tool_id(tool, "interrupts")
        monitoring.register_callback(tool, events.INSTRUCTION, instruction)
        monitoring.set_events(tool, events.INSTRUCTION)
        try:
            yield
        finally:
            monitoring.set_events(tool, 0)
            monitoring.register_callback(tool, events.INSTRUCTION, None)
            monitoring.free_tool_id(tool)

    @contextmanager
    def _traced(self) -> Iterator[None]:
        def step(frame: FrameType, event: str, _: object) -> Any:
            if event == "opcode":
                self._passed(frame, frame.f_lasti)
            return step

        def begin(frame: FrameType, _event: str, _: object) -> Any:
            if PACKAGE not in frame.f_code.co_filename:
                return None
            frame.f_trace_opcodes = True
            return step

        before = sys.gettrace()
        sys.settrace(begin)
        try:
            yield
        finally:
            sys.settrace(before)


def _in_a_finalizer(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False
