"""Interrupt a call at its n-th instruction, as a signal handler would."""

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
"""The instructions after which CPython checks for signals, besides RESUME, which begins a function:
those with CHECK_EVAL_BREAKER or _CHECK_PERIODIC in its ceval.c and bytecodes.c. Calls of intrinsics
do not count."""

_UNCHECKED: Final = ("RETURN", "PUSH_EXC_INFO", "CLEANUP_THROW")
"""The instructions before which it does not check, even after a call: the call raised, or its
result is passed on."""


class Interrupted(BaseException):
    """What the signal handler raises."""


def interrupt() -> None:
    """A signal handler that raises ``Interrupted``."""
    raise Interrupted


class Interruption:
    """Runs a handler at the n-th point of a call, in the thread that makes the call.

    A point is an instruction of the package before which CPython may run a signal handler. Code
    that cleans up after an exception has none, because it cannot be interrupted. The instruction
    after a call counts as a point for Python functions, too, although CPython checks for signals
    only after built-in ones. Finalizers have no points: Python prints what they raise, and
    continues.

    Args:
        at: the number of the point; 0 for none.
        handler: by default it raises ``Interrupted``.

    Attributes:
        points: how many points have been passed.
    """

    def __init__(self, at: int, handler: Callable[[], object] = interrupt) -> None:
        self.at = at
        self._handler = handler
        self.points = 0
        self._thread = threading.get_ident()
        self._before: dict[int, tuple[CodeType, str]] = {}  # by frame
        self._names: dict[CodeType, dict[int, str]] = {}

    def during(self, call: Callable[[], object]) -> None:
        """Make the call; raises what the call or the handler raises."""
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
