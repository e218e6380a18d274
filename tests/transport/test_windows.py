"""Errors of Windows' completion ports get the same errno as on other systems."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable

import pytest

from tofu_aio.transport.windows import usual_errno


def windows_error(number: int) -> OSError:
    """An error as the proactor raises it: Python converts other than socket errors to EINVAL."""
    if sys.platform == "win32":
        return OSError(None, "in the system's words", None, number)
    error = OSError(errno.EINVAL, "in the system's words")
    error.winerror = number  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (59, errno.ECONNRESET),
        (64, errno.ECONNRESET),
        (1225, errno.ECONNREFUSED),
        (1231, errno.ENETUNREACH),
        (10057, errno.ECONNABORTED),
    ],
)
def test_it_has_the_usual_number(number: int, expected: int) -> None:
    with pytest.raises(OSError, match="in the system's words") as caught, usual_errno():
        raise windows_error(number)
    assert caught.value.errno == expected


def test_it_has_the_usual_type() -> None:
    with pytest.raises(ConnectionRefusedError), usual_errno():
        raise windows_error(1225)


@pytest.mark.parametrize(
    "make", [lambda: windows_error(87), lambda: OSError(errno.EMFILE, "full"), lambda: OSError("?")]
)
def test_others_are_left_alone(make: Callable[[], OSError]) -> None:
    error = make()
    with pytest.raises(OSError, match=r".") as caught, usual_errno():
        raise error
    assert caught.value is error
