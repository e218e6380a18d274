"""What all that is closed has in common."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Closing:
    """A context manager whose end closes it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        raise NotImplementedError
