"""Waking a loop that sleeps in `select`, from other threads and from signals."""

from __future__ import annotations

import contextlib
import logging
import signal

from tofu_aio.reactor.selector_loop import SelectorLoop

_log = logging.getLogger(__name__)

# Far more than one byte a turn and one a signal; what does not fit shows again in the next turn.
_WAKE_UP_BYTES = 4096


class WakingLoop(SelectorLoop):
    """A selector loop that needs one wake-up for many calls, and survives its self-pipe's end."""

    # Whether a byte is on its way through the self-pipe, so that no other is needed.
    _wake_up_pending = False

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
        self._make_self_pipe()
        # Signals too come through this pipe; before the old one closes, so that none is lost.
        if getattr(self, "_signal_handlers", None):
            signal.set_wakeup_fd(self._csock.fileno())
        self._remove_reader(ssock.fileno())
        self._internal_fds -= 1
        ssock.close()
        csock.close()
