"""Error messages: one line that names the cause and, if there is one, the remedy."""

from __future__ import annotations

import errno
from typing import Final

import click

from ..protocol.errors import TofuError

_MESSAGES: Final = {
    errno.ENOENT: "no such file or folder: check the path",
    errno.EISDIR: "this is a folder: give the path of a file",
    errno.ENOTDIR: "a part of the path is not a folder: check the path",
    errno.EACCES: "permission denied: check the permissions of the file and its folder",
    errno.EPERM: "the system does not permit this",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.ENOSPC: "the disk is full: free some space, or choose another folder",
    errno.EDQUOT: "your disk quota is used up: free some space, or choose another folder",
    errno.EFBIG: "the file would exceed the file size limit: see `ulimit -f`",
    errno.ENAMETOOLONG: "the file name is too long: choose a shorter one",
    errno.EMFILE: "this process has too many open files: raise `ulimit -n`",
}


class Failure(Exception):
    """Ends a command with exit code 1. The text is the message for the user."""


def describe(error: BaseException) -> str:
    """The message for an error, which says what to do about it."""
    if isinstance(error, TofuError) or not isinstance(error, OSError):
        return str(error) or type(error).__name__
    cause = _MESSAGES.get(error.errno or 0) or error.strerror or str(error) or type(error).__name__
    if error.filename is None:
        return cause
    return f"{click.format_filename(error.filename)}: {cause}"


def printable(text: str) -> str:
    """Replace the characters of foreign text that cannot be printed safely.

    Control characters could control the terminal, and surrogates cannot be encoded.
    """
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def print_error(command: str, text: str) -> None:
    """Print the error message of a command on stderr, as one line."""
    click.echo(f"{command}: {printable(' '.join(text.split()))}", err=True)
