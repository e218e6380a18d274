"""A process that has no descriptor left, for real."""

from __future__ import annotations

import os
import sys
from typing import Self

import pytest

needs_a_limit = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no limit of descriptors worth reaching"
)


class Shortage:
    """Within it nothing can be opened, until something is released."""

    def __enter__(self) -> Self:
        import resource

        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._taken = [os.open(os.devnull, os.O_RDONLY)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._taken[0] + 1, self._limits[1]))
        self._take_all()
        return self

    def _take_all(self) -> None:
        while True:
            try:
                self._taken.append(os.dup(self._taken[0]))
            except OSError:
                return

    def release(self) -> None:
        """Let there be descriptors again."""
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)
        while self._taken:
            os.close(self._taken.pop())

    def __exit__(self, *exc_info: object) -> None:
        self.release()
