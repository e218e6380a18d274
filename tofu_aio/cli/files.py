"""Reading and writing whole files. A file that is written appears complete or not at all."""

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
    """Check that the path leads to a file that can be sent.

    Raises:
        Failure: it is not a regular file. Opening a pipe, for example, would block.
        OSError: there is no such file.
    """
    if not path.is_file():
        path.stat()
        raise Failure(f"{click.format_filename(path)} is not a regular file: give the path of one")


def checked_target(path: Path, *, force: bool) -> Path:
    """Check that a file can be created at the path; return the path without symbolic links.

    A link to an existing file is followed if the file may be replaced. A link to a file that does
    not exist is refused: in a folder that other users can write to, one of them could decide where
    the file goes.

    Args:
        path: the path that the user gave.
        force: whether an existing file may be replaced.

    Raises:
        Failure: the file cannot be created there. This is found out before anything is received.
        OSError: the path cannot be examined.
    """
    name = click.format_filename(path)
    target = Path(os.path.realpath(path))
    try:
        mode = path.stat().st_mode  # fails for links that fs.protected_symlinks forbids
    except FileNotFoundError:
        if path.is_symlink():
            raise Failure(
                f"{name} is a symbolic link to a missing file: choose another name"
            ) from None
    else:
        if stat.S_ISDIR(mode):
            raise Failure(f"{name} is a folder: give the path of a file in it")
        if not stat.S_ISREG(mode):
            raise Failure(f"{name} exists and is not a regular file: choose another name")
        if not force:
            raise Failure(f"{name} exists: choose another name, or use --force to replace it")
    if not target.parent.is_dir():
        raise Failure(f"the folder of {name} does not exist: create it first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise Failure(f"the folder of {name} is not writable: choose another one")
    return target


@contextmanager
def whole_file(target: Path, *, force: bool) -> Iterator[BinaryIO]:
    """Open a file for writing that appears at ``target`` when the block succeeds.

    If the block raises, nothing is left.

    Raises:
        Failure: ``target`` was created or changed meanwhile, and must not be replaced.
        OSError: the file cannot be written.
    """
    # In the same folder, because only there a rename is atomic and never a copy.
    partial = target.with_name(f".tofu-{secrets.token_hex(8)}.part")
    replaced = _status(target)
    try:
        # While it is written, only its owner may read it: the replaced file may be private.
        with _created(partial, 0o666 if replaced is None else 0o600) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # some file systems report only now that they are full
        checked_target(target, force=force)
        if replaced is not None:
            _copy_ownership(replaced, partial)
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


def _copy_ownership(replaced: os.stat_result, path: Path) -> None:
    """Give a file the owner and the permissions of the one that it replaces."""
    if sys.platform != "win32":
        ours = path.stat()
        if (ours.st_uid, ours.st_gid) != (replaced.st_uid, replaced.st_gid):
            with contextlib.suppress(PermissionError):  # only root may give a file away
                os.chown(path, replaced.st_uid, replaced.st_gid)
    path.chmod(stat.S_IMODE(replaced.st_mode))
