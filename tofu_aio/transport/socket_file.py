"""The file of a Unix socket: its permissions, and the lock that guards its creation."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..protocol.address import Address, UdsAddress
from ..protocol.errors import ListenFailed, WrongAddress
from .failures import failure

if sys.platform != "win32":
    import fcntl

    _NO_LINK: Final = os.O_NOFOLLOW

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

else:  # this Python has no Unix sockets there
    _NO_LINK: Final = 0

    def _lock(_: int) -> None:
        raise OSError(errno.ENOTSUP, "this system has no flock(2)")


_LOCK_SUFFIX: Final = ".tofu-lock"
"""The name of the lock file is the socket's path with this suffix."""

_MODE_MAX: Final = 0o777

_DESCRIPTORS: Final = "/proc/self/fd"
"""The folder where Linux has a link for each file descriptor, if /proc is mounted."""


class SocketFile:
    """The file of a Unix socket that was just bound.

    It stays the same file if the process changes its working directory later.

    Args:
        path: as it was bound. A relative path refers to the current working directory.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)  # noqa: PTH100 - Path.absolute keeps what is after ".."
        # Distinguishes the file from a later one at the same path. While the socket is bound, no
        # other file can have the same inode number.
        self._identity = os.lstat(path)

    def remove(self) -> None:
        """Remove the file, if it is still that of this socket.

        To be called before the socket is closed.
        """
        remove_if_same(self._path, self._identity)


def file_of(address: Address) -> SocketFile | None:
    """Return the file of a socket that was just bound to an address; None if there is none."""
    if isinstance(address, UdsAddress) and not address.abstract:
        return SocketFile(address.path)
    return None


def remove_if_same(path: str, identity: os.stat_result) -> None:
    """Remove a file, unless another file has replaced it since ``identity`` was read."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.lstat(path), identity):
            Path(path).unlink()


def checked_mode(mode: int, address: Address) -> int:
    """Check the permissions for the file of a socket, and return them.

    Raises:
        TypeError: ``mode`` is not an integer; True and False do not count as one.
        ValueError: it has other bits than permissions, like the decimal 600 in place of 0o600.
        WrongAddress: an address of this kind has no file.
    """
    if not isinstance(address, UdsAddress):
        raise WrongAddress(f"{address}: only the file of a Unix socket has a mode")
    if address.abstract:
        raise WrongAddress(
            f"{address}: an abstract name has no file, and so no mode: every user of this machine "
            "may connect. Use uds:///path, or check channel.peer.credentials"
        )
    right = f"give 0 to {oct(_MODE_MAX)}, for example 0o600 (only the owner) or 0o660 (a group too)"
    if isinstance(mode, bool) or not isinstance(mode, int):
        raise TypeError(f"mode is {mode!r}, not an integer: {right}")
    if not 0 <= mode <= _MODE_MAX:
        raise ValueError(f"mode is {mode}, which is {oct(mode)}: {right}")
    return mode


def set_mode(path: str, mode: int) -> None:
    """Set the permissions of a socket's file, regardless of the umask.

    To be called between bind(2) and listen(2), when nothing can connect yet. No other file is ever
    changed.

    Raises:
        OSError: the system refuses the change, or another file is at the path.
    """
    # If other users may write to the folder, one of them may have put a link there by now.
    if sys.platform == "linux":  # which has no lchmod(2)
        file = os.open(path, os.O_PATH | _NO_LINK)
        try:
            if not stat.S_ISSOCK(os.fstat(file).st_mode):
                raise FileExistsError(errno.EEXIST, "another file has replaced the socket's file")
            _chmod(file, mode)
        finally:
            os.close(file)
    else:
        Path(path).lchmod(mode)


def _chmod(file: int, mode: int) -> None:
    """Set the mode through an O_PATH descriptor, which fchmod(2) refuses."""
    try:
        Path(f"{_DESCRIPTORS}/{file}").chmod(mode)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise OSError(
            errno.ENOTSUP,
            "mode= needs /proc, which is not mounted: mount it, or leave out mode= and set the "
            "umask",
        ) from error


@contextlib.contextmanager
def removed_on_failure(path: str) -> Iterator[None]:
    """Remove the file of a socket that was just bound if the block raises."""
    identity = os.lstat(path)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is more useful
            remove_if_same(path, identity)
        raise


@contextlib.contextmanager
def locked_path(address: UdsAddress) -> Iterator[None]:
    """Hold the lock of a path while checking it and creating a socket there. Never waits.

    Finding a stale file, removing it and listening are separate steps. If two listeners did them at
    the same time, both would listen, but nothing could connect to the first: the second would have
    removed the file that the first had just created. Not even the inode number distinguishes that
    file from the stale one, because file systems reuse inode numbers at once.

    So a lock file exists beside the socket during these steps, locked with flock(2). If the process
    dies, the kernel releases the lock; the file stays, and the next listener locks and removes it.

    Raises:
        BlockingIOError: another listener, perhaps in this process, holds the lock.
        ListenFailed: the file of that name is not a lock file, or belongs to another user.
        OSError: the lock file cannot be created.
    """
    # The path as it is bound: a process may lack the permission to search the parent folders.
    path = address.path + _LOCK_SUFFIX
    lock = _acquire_lock(path, address)
    try:
        yield
    finally:
        try:
            # Remove it while it is locked: a process that opened it before will notice that the
            # file is gone, and that its lock is void. For the same reason it does not matter if a
            # child, forked at this moment, keeps it open.
            remove_if_same(path, os.fstat(lock))
        finally:
            os.close(lock)


def _acquire_lock(path: str, address: UdsAddress) -> int:
    while True:
        lock = _open_lock_file(path, address)
        try:
            _lock(lock)
            found = os.fstat(lock)
            if found.st_size or not stat.S_ISREG(found.st_mode):
                raise ListenFailed(
                    f"cannot listen on {address}: {path} is not an empty lock file, and is left "
                    "alone: choose another path or remove it"
                )
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.lstat(path), found):
                    return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)  # its previous holder has removed the file: the lock is void


def _open_lock_file(path: str, address: UdsAddress) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o600)
    except PermissionError as error:
        if not os.path.lexists(path):
            raise
        text = (
            f"cannot listen on {address}: {path} is the lock file of another user: remove it, "
            "unless that user is about to listen there"
        )
        raise failure(ListenFailed, text, [error]) from error
