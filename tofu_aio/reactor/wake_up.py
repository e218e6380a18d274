"""Waking up a loop that waits in `select`, from other threads and from signals."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
from selectors import BaseSelector

from tofu_aio import forks
from tofu_aio.reactor.selector_loop import SelectorLoop

_log = logging.getLogger(__name__)

# Far more than one byte for a turn and one for each signal. The rest is read in the next turn.
_WAKE_UP_BYTES = 4096

# Seconds until the next attempt to replace a broken self-pipe. Until then calls from other threads
# do not wake up the loop.
_RENEWAL_RETRY = 1.0


class WakingLoop(SelectorLoop):
    """A selector loop that needs one wake-up for many calls, and can replace its self-pipe.

    In a forked child the loop gets a self-pipe of its own.
    """

    # Whether there is a byte in the self-pipe already, so that no other one is needed.
    _wake_up_pending = False

    def __init__(self, selector: BaseSelector | None = None) -> None:
        super().__init__(selector)
        _living.add(self)

    # No wake-up is lost. A caller puts its call into the queue first, and skips the byte only if it
    # sees `_wake_up_pending`. In that case either a byte is in the pipe or about to be written, and
    # `select` returns; or the loop is between emptying the pipe and clearing the flag, and looks
    # at the queue afterwards, before it waits. In the other order (clear, then empty) the loop
    # could remove the byte of a flag that was set in between, and wait for ever.

    def _write_to_self(self) -> None:
        if self._wake_up_pending:
            return
        try:
            self._wake_up_pending = True
            # `_csock` is read after the flag is set. The loop replaces it, then clears the flag.
            self._csock.send(b"\0")
        except (OSError, AttributeError):
            # The loop is closed or closing, or it is about to find the pipe broken and replace it.
            self._wake_up_pending = False
            if self._debug:
                _log.debug("the self-pipe cannot be written to", exc_info=True)
        except BaseException:
            # A signal handler has raised here, in the main thread. Other threads may rely on the
            # byte.
            self._wake_up_pending = False
            with contextlib.suppress(OSError, AttributeError):
                self._csock.send(b"\0")
            raise

    def _read_from_self(self) -> None:
        try:
            data = self._ssock.recv(_WAKE_UP_BYTES)
            if data:
                self._process_self_data(data)
            else:
                self._renew_self_pipe()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._renew_self_pipe()
        finally:
            # Even if a signal handler raises, because the byte may have been read.
            self._wake_up_pending = False
            # Without the GIL, this locks the queue, so that the flag is cleared before the loop
            # looks at the queue. Callers lock the queue too, to add their call before they look at
            # the flag.
            self._ready.rotate(0)

    def _renew_self_pipe(self) -> None:
        """Replace a self-pipe that was closed or shut down, and would stay readable for ever."""
        ssock, csock = self._ssock, self._csock
        try:
            self._make_self_pipe()
        except OSError as error:
            # There is no free descriptor. The old pipe would be reported in every turn.
            self._remove_reader(ssock.fileno())
            self.call_later(_RENEWAL_RETRY, self._renew_self_pipe)
            _log.warning(
                "the loop's self-pipe is broken and cannot be replaced (%s): calls from other "
                "threads and signals may be delayed; trying again in %g s",
                error.strerror,
                _RENEWAL_RETRY,
            )
            return
        # Signals use this pipe as well. It is changed before the old one closes, so none is lost.
        if getattr(self, "_signal_handlers", None):
            signal.set_wakeup_fd(self._csock.fileno())
        self._remove_reader(ssock.fileno())
        self._internal_fds -= 1
        ssock.close()
        csock.close()

    def _leave_parent(self) -> None:
        """In a forked child, stop sharing anything with the parent's loop, and stay usable."""
        if self._closed:
            return
        if self._thread_id != threading.get_ident():
            self._thread_id = None  # The thread that runs the loop does not exist here.
        self._default_executor = None  # Nor do the threads of the executor.
        handles_signals = bool(getattr(self, "_signal_handlers", None))
        if handles_signals:
            signal.set_wakeup_fd(-1)
        self._close_self_pipe()
        self._make_self_pipe()
        if handles_signals:
            signal.set_wakeup_fd(self._csock.fileno())
        # A byte for calls that may be queued, in case a signal handler has forked during `select`.
        self._wake_up_pending = False
        self._write_to_self()


# Python's C handler writes each signal to the self-pipe, and a child has the pipe of its parent
# until it gets its own. What is written before then would run the parent's handler in the parent.
# So signals are blocked around a fork, and the kernel keeps those that a child gets early.


class _Masks(threading.local):
    """The signals that a thread had blocked before it began to fork, for each fork in progress."""

    def __init__(self) -> None:
        self.saved: list[set[int]] = []


_masks = _Masks()
_living = forks.inherited(WakingLoop._leave_parent)

if sys.platform != "win32":

    def _block_handled_signals() -> None:
        # The mask is saved first. If a signal handler raises here, the child may lose this
        # protection, but the parent loses no signals.
        _masks.saved.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        signal.pthread_sigmask(signal.SIG_BLOCK, _handled())

    def _handled() -> set[int]:
        """The signals that loops handle. Other threads may make and close loops meanwhile."""
        while True:
            with contextlib.suppress(RuntimeError):  # changed during iteration
                return {
                    number
                    for loop in list(_living)
                    for number in list(getattr(loop, "_signal_handlers", ()))
                }

    def _restore_signal_mask() -> None:
        saved = _masks.saved
        if saved:
            try:
                signal.pthread_sigmask(signal.SIG_SETMASK, saved[-1])
            finally:
                saved.pop()

    forks.at_fork(
        before=_block_handled_signals,
        after_in_parent=_restore_signal_mask,
        after_in_child=_restore_signal_mask,  # after `_leave_parent` of the living loops
    )
