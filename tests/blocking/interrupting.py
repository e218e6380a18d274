"""Interrupting a call at its n-th instruction, as a signal's exception would."""

from __future__ import annotations

import dis
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any, Final

PACKAGE: Final = "tofu_aio"

_NO_CALL: Final = ("LOAD_", "STORE_", "PUSH_", "POP_", "COPY", "SWAP", "NOP", "CACHE", "RETURN")
"""What no signal is looked for after, and so raised before the next instruction. CPython looks for
them after whatever may call something, at a function's beginning, and at a jump back."""


class Interrupted(BaseException):
    """What a signal's handler raises."""


class Interruption:
    """Raises at the n-th point of a call, in the thread that makes it.

    A point is an instruction of the package before which CPython may raise what a signal's handler
    raises. Returning is none: it is one step with what the caller does next. Nor is what finalizers
    do: what is raised there Python prints, and goes on.

    Args:
        at: which one; 0 for none.

    Attributes:
        points: how many have been passed.
    """

    def __init__(self, at: int) -> None:
        self.at = at
        self.points = 0
        self._thread = threading.get_ident()
        self._before: dict[int, tuple[CodeType, str]] = {}  # by frame
        self._names: dict[CodeType, dict[int, str]] = {}

    def during(self, call: Callable[[], object]) -> None:
        """Make the call; raises what it does, and ``Interrupted``."""
        watching = self._monitored() if sys.version_info >= (3, 12) else self._traced()
        with watching:
            call()

    def _passed(self, frame: FrameType, offset: int) -> None:
        """An instruction is about to be executed."""
        code = frame.f_code
        if code not in self._names:
            self._names[code] = {each.offset: each.opname for each in dis.get_instructions(code)}
        name = self._names[code].get(offset, "")
        known, before = self._before.get(id(frame), (None, "CALL"))
        self._before[id(frame)] = code, name
        if name.startswith("RETURN") or (known is code and before.startswith(_NO_CALL)):
            return
        if not _in_a_finalizer(frame):
            self.points += 1
            if self.points == self.at:
                raise Interrupted

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
