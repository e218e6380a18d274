"""Failures as one line that names the cause and, where there is one, the cure."""

from __future__ import annotations

import errno
from typing import Final

import click

from ..protocol.errors import TofuError

_CURES: Final = {
    errno.ENOENT: "there is no such file or folder: check the path",
    errno.EISDIR: "it is a folder: name a file",
    errno.ENOTDIR: "a part of the path is not a folder",
    errno.EACCES: "permission denied: check the rights of the file and its folder",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.ENOSPC: "the disk is full: make room, or choose another folder",
    errno.EDQUOT: "your quota is used up: make room, or choose another folder",
    errno.EFBIG: "the file would be larger than is allowed here: see `ulimit -f`",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.EMFILE: "this process has too many open files: raise `ulimit -n`",
}


class Failure(Exception):
    """What ends a command with exit code 1. Its text is for people."""


def describe(error: BaseException) -> str:
    """An error in words that say what to do about it."""
    if isinstance(error, TofuError) or not isinstance(error, OSError):
        return str(error) or type(error).__name__
    cause = _CURES.get(error.errno or 0) or error.strerror or str(error) or type(error).__name__
    if error.filename is None:
        return cause
    return f"{click.format_filename(error.filename)}: {cause}"


def printable(text: str) -> str:
    """Text from elsewhere, made harmless.

    A terminal obeys control characters, and a surrogate has no encoding.
    """
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def complain(command: str, text: str) -> None:
    """Say on stderr what went wrong with a command, in one line."""
    click.echo(f"{command}: {printable(' '.join(text.split()))}", err=True)
