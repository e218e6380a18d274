"""`select`'s kqueue on Linux, after kqueue(2) of FreeBSD and macOS, for real sockets and pipes.

A stand-in for the `select` module in `tofu_aio.reactor.pollers.kqueue`. What it keeps to:

* One note for each pair of number and filter; EV_ADD of one that is there gives it new user data
  and enables it, EV_DELETE, EV_ENABLE and EV_DISABLE of one that is not fail with ENOENT.
* Closing a number drops its notes, whether or not a copy of the file lives on.
* All changes are made, in order, before events are looked for. One that fails, or has EV_RECEIPT,
  is answered by an EV_ERROR event where there is room; otherwise its error ends the call, with
  what follows it undone. An answer with EV_ERROR events has no others, and comes without a wait.
* With no room for events the call never waits.
* Ready notes form a queue. What is handed out goes to its tail, as level triggering says; what is
  no longer true when its turn comes is dropped.
* A filter sets EV_EOF when its direction has ended.
* A signal ends the wait with EINTR. As `select.kqueue.control` does, Python's handlers then run and
  the whole call is made again, with its changes, for the rest of the time (PEP 475).
* A forked child does not inherit the queue: there its descriptor is bad, and closing it fails.

What is true of a file is asked of ppoll(2) when events are looked for. So notes become ready in the
order of registration where they do so between two calls. Left out: EV_CLEAR and EV_DISPATCH, the
`data` and `fflags` of events, and filters other than READ, WRITE and TIMER.
"""

from __future__ import annotations

import ctypes
import errno
import math
import os
import select
import stat
import threading
import time
from dataclasses import dataclass

KQ_FILTER_READ = -1
KQ_FILTER_WRITE = -2
KQ_FILTER_TIMER = -7

KQ_EV_ADD = 0x0001
KQ_EV_DELETE = 0x0002
KQ_EV_ENABLE = 0x0004
KQ_EV_DISABLE = 0x0008
KQ_EV_ONESHOT = 0x0010
KQ_EV_RECEIPT = 0x0040
KQ_EV_ERROR = 0x4000
KQ_EV_EOF = 0x8000

_ACTIONS = KQ_EV_ADD | KQ_EV_DELETE | KQ_EV_ENABLE | KQ_EV_DISABLE | KQ_EV_ONESHOT | KQ_EV_RECEIPT

_READABLE = select.POLLIN | select.POLLRDHUP | select.POLLHUP | select.POLLERR
_READ_ENDED = select.POLLRDHUP | select.POLLHUP | select.POLLERR
_WRITABLE = select.POLLOUT | select.POLLHUP | select.POLLERR
_WRITE_ENDED = select.POLLHUP | select.POLLERR

# The greatest time that fits Python's 64-bit nanoseconds.
_LONGEST = 2**63 / 1e9


@dataclass
class kevent:  # noqa: N801
    ident: int
    filter: int = KQ_FILTER_READ
    flags: int = KQ_EV_ADD
    fflags: int = 0
    data: int = 0
    udata: int = 0

    def __post_init__(self):
        if not isinstance(self.ident, int):
            self.ident = self.ident.fileno()


@dataclass
class Note:
    """What the kernel keeps of one pair of number and filter."""

    event: kevent
    file: tuple[int, int] | None
    due: float
    disabled: bool = False


class kqueue:  # noqa: N801
    def __init__(self):
        # Its own descriptor, by which a change ends the wait of another thread.
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._process = os.getpid()
        self._notes = {}
        self._queue = {}
        self._kernel = threading.RLock()  # changes are made, and notes handed out, one at a time

    def __del__(self):
        if not self.closed:
            os.close(self._fd)

    @property
    def closed(self):
        return self._fd is None

    def fileno(self):
        if self.closed:
            raise ValueError("I/O operation on closed kqueue object")
        return self._fd

    def close(self):
        if not self.closed:
            os.close(self._fd)
            self._fd = None
            self._check_process()

    def control(self, changelist, maxevents, timeout=None, /):
        self.fileno()
        if maxevents < 0:
            raise ValueError(f"Length of eventlist must be 0 or positive, got {maxevents}")
        rest = _seconds(timeout)
        changes = [] if changelist is None else list(changelist)
        if not all(isinstance(change, kevent) for change in changes):
            raise TypeError("changelist must be an iterable of select.kevent objects")
        deadline = None if rest is None else time.monotonic() + rest
        while True:
            try:
                return self._call(changes, maxevents, rest)
            except InterruptedError:
                # Python's signal handlers have run, and none has raised.
                if deadline is not None:
                    rest = deadline - time.monotonic()
                    if rest < 0:
                        return []

    def closes(self, number):
        """Take note of a close that its traces will not show: the file gets its number back."""
        for key in [key for key in self._notes if key[0] == number and key[1] != KQ_FILTER_TIMER]:
            self._drop(key)

    # kevent(2).

    def _call(self, changes, room, timeout):
        self._check_process()
        outcomes = []
        for change in changes:
            with self._kernel:
                error = self._make(change)
            if error and len(outcomes) == room:
                raise OSError(error, os.strerror(error))
            if (error or change.flags & KQ_EV_RECEIPT) and len(outcomes) < room:
                outcomes.append(
                    kevent(change.ident, change.filter, KQ_EV_ERROR, 0, error, change.udata)
                )
        if changes:
            os.eventfd_write(self._fd, 1)
        if outcomes or not room:
            return outcomes
        return self._wait(room, timeout)

    def _check_process(self):
        if os.getpid() != self._process:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def _make(self, change):
        """Make one change; return its error, or 0."""
        assert not change.flags & ~_ACTIONS, "a flag that this fake does not know"
        file = None
        if change.filter != KQ_FILTER_TIMER:
            file = _identity(change.ident)
            if file is None:
                return errno.EBADF
        key = change.ident, change.filter
        self._drop_if_closed(key)
        note = self._notes.get(key)
        if change.flags & KQ_EV_DELETE:
            if note is None:
                return errno.ENOENT
            self._drop(key)
            return 0
        if note is None:
            if not change.flags & KQ_EV_ADD:
                return errno.ENOENT
            if change.filter == KQ_FILTER_WRITE and _is_regular(change.ident):
                return errno.EINVAL
            note = self._notes[key] = Note(change, file, time.monotonic() + change.data / 1000)
        note.event = kevent(*key, change.flags & KQ_EV_ONESHOT, 0, 0, change.udata)
        if change.flags & (KQ_EV_ADD | KQ_EV_ENABLE):
            note.disabled = False
        if change.flags & KQ_EV_DISABLE:
            note.disabled = True
        return 0

    def _drop(self, key):
        del self._notes[key]
        self._queue.pop(key, None)

    def _drop_if_closed(self, key):
        note = self._notes.get(key)
        if note is not None and note.file is not None and _identity(key[0]) != note.file:
            self._drop(key)

    def _drop_closed(self):
        for key in list(self._notes):
            self._drop_if_closed(key)

    def _wait(self, room, timeout):
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        rest = 0
        while True:
            notes, answers = self._look(rest)
            with self._kernel:
                events = self._hand_out(self._ready(notes, answers), room)
            now = time.monotonic()
            if events or now >= deadline:
                return events
            notes = list(self._notes.items())
            due = [note.due for key, note in notes if key[1] == KQ_FILTER_TIMER]
            rest = max(min([deadline, *due]) - now, 0)

    def _look(self, rest):
        """Wait until a note may be ready; return the notes, and what their files answer."""
        with self._kernel:
            self._drop_closed()
            notes = {key: note for key, note in list(self._notes.items()) if not note.disabled}
        asked = {self._fd: select.POLLIN}
        for number, filter_ in notes:
            if filter_ == KQ_FILTER_READ and not _is_regular(number):
                asked[number] = asked.get(number, 0) | select.POLLIN | select.POLLRDHUP
            elif filter_ == KQ_FILTER_WRITE:
                asked[number] = asked.get(number, 0) | select.POLLOUT
        answers = _ppoll(asked, rest)
        if answers.get(self._fd):
            os.eventfd_read(self._fd)
        return notes, answers

    def _ready(self, notes, answers):
        """Return which of the notes are ready, with their flags."""
        # What was closed or changed meanwhile by another thread is not reported.
        self._drop_closed()
        ready = {}
        for key, note in notes.items():
            number, filter_ = key
            answer = answers.get(number, 0)
            if self._notes.get(key) is not note or note.disabled:
                continue
            if filter_ == KQ_FILTER_TIMER:
                true, ended = time.monotonic() >= note.due, False
            elif filter_ == KQ_FILTER_WRITE:
                true, ended = answer & _WRITABLE, answer & _WRITE_ENDED
            elif _is_regular(number):
                true, ended = os.lseek(number, 0, os.SEEK_CUR) != os.fstat(number).st_size, False
            else:
                true, ended = answer & _READABLE, answer & _READ_ENDED
            if true:
                ready[key] = KQ_EV_EOF if ended else 0
        return ready

    def _hand_out(self, ready, room):
        """Take what fits from the queue's head and put it back at the tail."""
        for key in ready:
            self._queue.setdefault(key)
        events = []
        for key in list(self._queue):
            if key not in ready:
                del self._queue[key]
            elif len(events) < room:
                event = self._notes[key].event
                flags = event.flags | ready[key]
                events.append(kevent(*key, flags, 0, 0, event.udata))
                self._queue[key] = self._queue.pop(key)
                if flags & KQ_EV_ONESHOT:
                    self._drop(key)
        return events


def _identity(number):
    """Return what tells an open file from the next one under its number; None if it is closed."""
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_regular(number):
    return stat.S_ISREG(os.fstat(number).st_mode)


def _seconds(timeout):
    """Return a timeout as `select.kqueue.control` takes it, rounded up to nanoseconds."""
    if timeout is None:
        return None
    if not isinstance(timeout, (int, float)):
        raise TypeError(
            f"timeout argument must be a number or None, got {type(timeout).__name__!r}"
        )
    if math.isnan(timeout):
        raise ValueError("Invalid value NaN (not a number)")
    if abs(timeout) >= _LONGEST:
        raise OverflowError("timestamp too large to convert to C PyTime_t")
    if timeout < 0:
        raise ValueError("timeout must be positive or None")
    return timeout


class _Pollfd(ctypes.Structure):
    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


class _Timespec(ctypes.Structure):
    _fields_ = (("sec", ctypes.c_long), ("nsec", ctypes.c_long))


_libc = ctypes.CDLL(None, use_errno=True)


def _ppoll(asked, seconds):
    """ppoll(2): `select.poll` would hide that a signal came. InterruptedError tells."""
    entries = (_Pollfd * len(asked))(*((number, mask, 0) for number, mask in asked.items()))
    timeout = None
    if seconds != math.inf:
        nanoseconds = math.ceil(seconds * 1e9)
        timeout = ctypes.byref(_Timespec(*divmod(nanoseconds, 1_000_000_000)))
    if _libc.ppoll(entries, ctypes.c_ulong(len(entries)), timeout, None) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return {entry.fd: entry.revents for entry in entries}
