"""Error messages."""

from __future__ import annotations

import errno

import pytest

import tofu_aio as tofu
from tofu_aio.cli.errors import Failure, describe, print_error, printable


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Failure("no luck"), "no luck"),
        (tofu.ListenFailed("cannot listen"), "cannot listen"),
        (tofu.PeerDisconnected(), "peer disconnected"),
        (TimeoutError("too late"), "too late"),
        (OSError(errno.ENOSPC, "x"), "the disk is full: free some space, or choose another folder"),
        (
            OSError(errno.ENOENT, "x", "a\nb"),
            "a\nb: no such file or folder: check the path",
        ),
        (OSError(errno.ENOENT, "x", b"a"), "a: no such file or folder: check the path"),
        (OSError(errno.EXDEV, "another device"), "another device"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_each_error_says_what_to_do(error: Exception, words: str) -> None:
    assert describe(error) == words


def test_an_error_is_one_printable_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("tofu x", "a\nb\r\n\tc \x1b[31m \udcff")
    assert capsys.readouterr() == ("", "tofu x: a b c \ufffd[31m \ufffd\n")


def test_text_in_any_script_is_printable() -> None:
    assert printable("豆腐 ü\x7f") == "豆腐 ü\ufffd"
