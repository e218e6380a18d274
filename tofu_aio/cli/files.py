"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from .errors import Failure


def check_source(path: Path) -> None:
    """Check that there is a file to send.

    Raises:
        Failure: it is not a regular one; opening a pipe, say, would wait for its other end.
        OSError: there is nothing.
    """
    if not path.is_file():
        path.stat()
        raise Failure(f"{click.format_filename(path)} is not a regular file: name one")


def checked_target(path: Path, *, force: bool) -> Path:
    """Where a file that is to appear at this path will really be.

    A symbolic link to a file is followed, if the file may be replaced. One that leads nowhere is
    not: in a folder that others may write to, one of them would choose where the file goes.

    Args:
        path: as the user gave it.
        force: a file that is there may be replaced.

    Raises:
        Failure: the file cannot appear there; known before anything was received for it.
        OSError: nor can any other; it says why.
    """
    name = click.format_filename(path)
    target = Path(os.path.realpath(path))
    try:
        mode = path.stat().st_mode  # the kernel follows no link that it distrusts
    except FileNotFoundError:
        if path.is_symlink():
            raise Failure(f"{name} is a link to nothing: choose another name") from None
    else:
        if stat.S_ISDIR(mode):
            raise Failure(f"{name} is a folder: name a file in it")
        if not stat.S_ISREG(mode):
            raise Failure(f"{name} is not a regular file, and is left alone: choose another name")
        if not force:
            raise Failure(f"{name} exists: choose another name, or replace it with --force")
    if not target.parent.is_dir():
        raise Failure(f"the folder of {name} does not exist: create it first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise Failure(f"nothing may be written to the folder of {name}: choose another one")
    return target


@contextmanager
def whole_file(target: Path, *, force: bool) -> Iterator[BinaryIO]:
    """A file to write, which is at ``target`` once the block has ended well; else nothing is left.

    Raises:
        Failure: something else is at ``target`` by then.
        OSError: it cannot be written.
    """
    # Beside the target, for a rename within a folder is atomic and never a copy.
    partial = target.with_name(f".tofu-{secrets.token_hex(8)}.part")
    replaced = _status(target)
    try:
        # Nobody may read it who may not read the one that it replaces.
        with _created(partial, 0o666 if replaced is None else 0o600) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # some file systems tell only now that they are full
        checked_target(target, force=force)
        if replaced is not None:
            _belong_as(replaced, partial)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _created(path: Path, mode: int) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, mode), "wb")


def _belong_as(replaced: os.stat_result, path: Path) -> None:
    """Give a file the owner and the rights of the one that it replaces."""
    if sys.platform != "win32":
        ours = path.stat()
        if (ours.st_uid, ours.st_gid) != (replaced.st_uid, replaced.st_gid):
            with contextlib.suppress(PermissionError):  # only root may give a file away
                os.chown(path, replaced.st_uid, replaced.st_gid)
    path.chmod(stat.S_IMODE(replaced.st_mode))
