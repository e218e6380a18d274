"""The file of a Unix socket: who may connect to it, and who may put it where it is."""

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
"""What the lock's file is called, after the socket's."""

_MODE_MAX: Final = 0o777

_DESCRIPTORS: Final = "/proc/self/fd"
"""Where Linux has a link for each descriptor, if /proc is mounted."""


class SocketFile:
    """The file of a Unix socket that was just bound, wherever the process goes from there.

    Args:
        path: as it was bound; a relative one means the working directory of now.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)  # noqa: PTH100 - Path.absolute keeps what is after ".."
        # Tells it from a later one at its path, until the socket is closed: as long as that is
        # bound no other file can have its number.
        self._identity = os.lstat(path)

    def remove(self) -> None:
        """Remove it, if it is still the socket's own. Before that is closed."""
        remove_if_same(self._path, self._identity)


def file_of(address: Address) -> SocketFile | None:
    """The file of a socket that was just bound to an address, if it has one."""
    if isinstance(address, UdsAddress) and not address.abstract:
        return SocketFile(address.path)
    return None


def remove_if_same(path: str, identity: os.stat_result) -> None:
    """Remove the file unless another has taken its place since it was looked at."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.lstat(path), identity):
            Path(path).unlink()


def checked_mode(mode: int, address: Address) -> int:
    """The permissions of the file of a socket at an address.

    Raises:
        TypeError: it is no whole number; True and False are none.
        ValueError: there are other bits in it, as in 600, which is not 0o600.
        WrongAddress: there is no file.
    """
    if not isinstance(address, UdsAddress):
        raise WrongAddress(f"{address}: only the file of a Unix socket has a mode")
    if address.abstract:
        raise WrongAddress(
            f"{address}: an abstract name has no file, and so no mode: every user of this machine "
            "may connect. Use uds:///path, or look at channel.peer.credentials"
        )
    right = "give 0o600 for the owner alone, say, or 0o660 for a group too"
    if isinstance(mode, bool) or not isinstance(mode, int):
        raise TypeError(f"mode is {mode!r}, no whole number: {right}")
    if not 0 <= mode <= _MODE_MAX:
        raise ValueError(f"mode is {mode}, {oct(mode)}, beyond {oct(_MODE_MAX)}: {right}")
    return mode


def set_mode(path: str, mode: int) -> None:
    """Set the permissions of a socket's file, whatever the umask, and of no other file.

    Between bind(2) and listen(2), when nobody can connect yet.

    Raises:
        OSError: the system refuses it; or something else has been put there.
    """
    # Where others may write to the folder, a link to another file could be there by now.
    if sys.platform == "linux":  # which has no lchmod(2)
        file = os.open(path, os.O_PATH | _NO_LINK)
        try:
            if not stat.S_ISSOCK(os.fstat(file).st_mode):
                raise FileExistsError(errno.EEXIST, "somebody has put another file in its place")
            _chmod(file, mode)
        finally:
            os.close(file)
    else:
        Path(path).lchmod(mode)


def _chmod(file: int, mode: int) -> None:
    """Set the mode by a descriptor that is good for nothing else, which fchmod(2) refuses."""
    try:
        Path(f"{_DESCRIPTORS}/{file}").chmod(mode)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise OSError(
            errno.ENOTSUP,
            "mode= needs /proc, which is not there: mount it, or leave mode= out and set the umask",
        ) from error


@contextlib.contextmanager
def removed_on_failure(path: str) -> Iterator[None]:
    """Remove the file of a socket that was just bound if what else there is to do fails."""
    identity = os.lstat(path)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # what has failed before says more
            remove_if_same(path, identity)
        raise


@contextlib.contextmanager
def alone_at(address: UdsAddress) -> Iterator[None]:
    """Be the only one of its kind who looks at a path and puts a socket there. Never waits.

    To find a file that nobody listens on, to remove it and to listen oneself are several steps.
    Two that took them at the same time would both listen, and one would never be found: the second
    removes what the first has just put there. Not even its number tells it from the stale one, for
    file systems give a number out again at once.

    So there is a file beside it, for this moment, that is locked by flock(2). Should the process
    die the kernel unlocks it; then it stays, and whoever comes next takes it, and removes it.

    Raises:
        BlockingIOError: another one is at it, maybe in this process.
        ListenFailed: there is a file of that name that is no such lock, or is another user's.
        OSError: the system has no room for it, or allows nothing there.
    """
    # As it is bound: a process need not be allowed to search the folders above its own.
    path = address.path + _LOCK_SUFFIX
    lock = _locked(path, address)
    try:
        yield
    finally:
        try:
            # While it is locked: who opened it before sees then that it locks nothing any more. So
            # it does not matter either if a child, forked in this moment, keeps it open.
            remove_if_same(path, os.fstat(lock))
        finally:
            os.close(lock)


def _locked(path: str, address: UdsAddress) -> int:
    while True:
        lock = _opened(path, address)
        try:
            _lock(lock)
            found = os.fstat(lock)
            if found.st_size or not stat.S_ISREG(found.st_mode):
                raise ListenFailed(
                    f"cannot listen on {address}: {path} should be an empty file, a lock, and is "
                    "left alone: choose another path or remove it"
                )
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.lstat(path), found):
                    return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)  # whoever had it has removed it: it keeps nobody out any more


def _opened(path: str, address: UdsAddress) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o600)
    except PermissionError as error:
        if not os.path.lexists(path):
            raise
        text = (
            f"cannot listen on {address}: {path} is another user's lock: if that user is not "
            "about to listen there, remove it"
        )
        raise failure(ListenFailed, text, [error]) from error
