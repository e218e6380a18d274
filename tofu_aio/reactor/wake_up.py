"""Waking a loop that sleeps in `select`, from other threads and from signals."""

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

# Far more than one byte a turn and one a signal; what does not fit shows again in the next turn.
_WAKE_UP_BYTES = 4096

# Seconds until the self-pipe is tried to be renewed again, and so that calls from other threads may
# take until then.
_RENEWAL_RETRY = 1.0


class WakingLoop(SelectorLoop):
    """A selector loop that needs one wake-up for many calls, and survives its self-pipe's end.

    A forked child that inherits one gets a self-pipe of its own for it.
    """

    # Whether a byte is on its way through the self-pipe, so that no other is needed.
    _wake_up_pending = False

    def __init__(self, selector: BaseSelector | None = None) -> None:
        super().__init__(selector)
        _living.add(self)

    # A wake-up is never lost. Who asks for one has put its call in the queue before, and skips the
    # byte only if it sees `_wake_up_pending`. Then either a byte is still in the pipe or about to
    # be written, and `select` returns; or the loop is between emptying the pipe and clearing the
    # flag, after which it looks at the queue before it sleeps. The other way round (clear, then
    # empty) the loop could swallow the byte of a flag that was set in between, and sleep for ever.

    def _write_to_self(self) -> None:
        if self._wake_up_pending:
            return
        try:
            self._wake_up_pending = True
            # Read after the flag is set: the loop clears the flag after it renews the pipe.
            self._csock.send(b"\0")
        except (OSError, AttributeError):
            # The loop is closed or closing, or about to find the pipe broken and renew it.
            self._wake_up_pending = False
            if self._debug:
                _log.debug("cannot write to the self-pipe", exc_info=True)
        except BaseException:
            # A signal handler of the main thread raised here. Others may count on this byte.
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
            # Also where a signal handler raises: the byte may be gone.
            self._wake_up_pending = False
            # Locks the queue on a Python without the GIL, and so orders this before the look at it,
            # as whoever asks locks it to put its call in before the look at the flag.
            self._ready.rotate(0)

    def _renew_self_pipe(self) -> None:
        """Replace a self-pipe that someone has closed or shut down, which stays readable."""
        ssock, csock = self._ssock, self._csock
        try:
            self._make_self_pipe()
        except OSError as error:
            # No descriptor to spare. The old one says in every turn that it is broken.
            self._remove_reader(ssock.fileno())
            self.call_later(_RENEWAL_RETRY, self._renew_self_pipe)
            _log.warning(
                "the loop's self-pipe is broken and cannot be renewed (%s): trying again in %g s",
                error.strerror,
                _RENEWAL_RETRY,
            )
            return
        # Signals too come through this pipe; before the old one closes, so that none is lost.
        if getattr(self, "_signal_handlers", None):
            signal.set_wakeup_fd(self._csock.fileno())
        self._remove_reader(ssock.fileno())
        self._internal_fds -= 1
        ssock.close()
        csock.close()

    def _leave_parent(self) -> None:
        """In a forked child: have nothing in common with the parent's loop, and be of use."""
        if self._closed:
            return
        if self._thread_id != threading.get_ident():
            self._thread_id = None  # the thread that runs it is not here
        self._default_executor = None  # nor are those that it has had
        handles_signals = bool(getattr(self, "_signal_handlers", None))
        if handles_signals:
            signal.set_wakeup_fd(-1)
        self._close_self_pipe()
        self._make_self_pipe()
        if handles_signals:
            signal.set_wakeup_fd(self._csock.fileno())
        # A byte for what may be waiting, where a signal handler forked while `select` waits.
        self._wake_up_pending = False
        self._write_to_self()


# Python's handler of every signal writes to the self-pipe, and a child has its parent's until it
# gets its own. What was written before then would run the parent's handler in the parent. So what
# is sent to a child so early is kept by the kernel until then.


class _Masks(threading.local):
    """What signals the thread did not take before it began to fork; again for each fork in it."""

    def __init__(self) -> None:
        self.saved: list[set[int]] = []


_masks = _Masks()
_living = forks.inherited(WakingLoop._leave_parent)

if sys.platform != "win32":

    def _hold_signals_back() -> None:
        # What the thread takes is noted first: a handler that raises in here may cost the child
        # this protection, but the parent no signals.
        _masks.saved.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        signal.pthread_sigmask(signal.SIG_BLOCK, _handled())

    def _handled() -> set[int]:
        """The signals that loops handle, also while other threads make and close loops."""
        while True:
            with contextlib.suppress(RuntimeError):  # changed during iteration
                return {
                    number
                    for loop in list(_living)
                    for number in list(getattr(loop, "_signal_handlers", ()))
                }

    def _let_signals_through() -> None:
        saved = _masks.saved
        if saved:
            try:
                signal.pthread_sigmask(signal.SIG_SETMASK, saved[-1])
            finally:
                saved.pop()

    forks.at_fork(
        before=_hold_signals_back,
        after_in_parent=_let_signals_through,
        after_in_child=_let_signals_through,  # after what the living loops do
    )
