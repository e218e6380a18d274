"""Children that a test forks, and holds back before any at-fork hook but this has run in them.

Import it before ``tofu_aio``: hooks run in the order in which they were registered.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator

_gates: list[int] = []


def _wait_at_the_gate() -> None:
    for gate in _gates:
        os.read(gate, 1)


os.register_at_fork(after_in_child=_wait_at_the_gate)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Whatever is forked inside begins to run when this ends, as on a busy machine."""
    gate, key = os.pipe()
    _gates.append(gate)
    try:
        yield
    finally:
        _gates.remove(gate)
        os.write(key, bytes(100))  # one for each child
        os.close(gate)
        os.close(key)


class Child:
    """A process that does one thing, and ends."""

    def __init__(self, deed: Callable[[], object]) -> None:
        self.pid = os.fork()
        if not self.pid:
            self._live(deed)

    def wait(self) -> int:
        """Wait for its end, and return its exit code."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _live(self, deed: Callable[[], object]) -> None:
        code = 1
        try:
            deed()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
