# What a task waits for.

cdef enum Progress:
    PENDING, FINISHED, FAILED, CANCELLED


@cython.final
cdef class Waiter:
    """A future that a channel completes, with those methods that tasks and Python's code here use.

    Tasks take any object for a future that has ``_asyncio_future_blocking``. One of asyncio's own
    takes several Python calls to make, and as many to complete.
    """

    cdef void *vectorcall
    cdef public bint _asyncio_future_blocking
    cdef Progress progress
    cdef readonly object _loop  # what tasks ask for if there is no method ``get_loop``
    cdef object outcome  # the result, the exception, or the message of a cancellation
    cdef object callback, context  # the first one, mostly that of the task
    cdef list others  # more of them, or None

    def __cinit__(self):
        self.vectorcall = <void *>call_waiter

    @property
    def __class__(self):
        # anyio asks whether a task waits for one of asyncio's, and cancels only what is not done.
        return asyncio.Future

    def done(self):
        return self.progress != PENDING

    def cancelled(self):
        return self.progress == CANCELLED

    @property
    def add_done_callback(self):
        """What is called to add one: the object itself, because a bound method takes longer."""
        return self

    def cancel(self, msg=None):
        return self.progress == PENDING and self.finish(CANCELLED, msg)

    def set_result(self, result):
        self.finish(FINISHED, result)

    def set_exception(self, error):
        self.finish(FAILED, error)

    def result(self):
        return self.value()

    def exception(self):
        if self.progress == FAILED:
            return self.outcome
        self.value()

    def __await__(self):
        return self

    def __next__(self):
        if self.progress == PENDING:
            return self.block()
        result = self.value()
        raise StopIteration if result is None else StopIteration(result)

    def __repr__(self):
        return f"<Waiter {('pending', 'finished', 'failed', 'cancelled')[<int>self.progress]}>"

    cdef object value(self):
        """The result. Raises the exception, or that it was cancelled or has none yet."""
        if self.progress == FINISHED:
            return self.outcome
        if self.progress == FAILED:
            raise self.outcome
        if self.progress == PENDING:
            raise InvalidStateError("it is not done")
        raise CancelledError() if self.outcome is None else CancelledError(self.outcome)

    cdef object block(self):
        """Return what a task waits for."""
        if self._asyncio_future_blocking:
            raise RuntimeError("await wasn't used with future")
        self._asyncio_future_blocking = True
        return self

    cdef bint finish(self, Progress progress, object outcome) except -1:
        """Be done, and have the callbacks called in the next turn."""
        if self.progress != PENDING:
            raise InvalidStateError("it is done")
        wake_ups = []
        self.complete(progress, outcome, wake_ups)
        for context, fn, future in wake_ups:
            self._loop.call_soon(fn, future, context=context)
        return True

    cdef int complete(self, Progress progress, object outcome, list wake_ups) except -1:
        """Be done, and leave it to the caller to call the callbacks."""
        self.progress = progress
        self.outcome = outcome
        if self.callback is not None:
            # A task asks what wakes it only whether that has failed, and asks its own class of
            # futures faster. The result it gets from this one when it goes on.
            future = DONE if progress == FINISHED else self
            append(wake_ups, (self.context, self.callback, future))
            self.callback = self.context = None
            if self.others is not None:
                others, self.others = self.others, None
                for context, fn in others:
                    wake_ups.append((context, fn, future))
        return 0


class _NoLoop:
    """For a future that has no callbacks."""

    def get_debug(self):
        return False


DONE = asyncio.Future(loop=_NoLoop())
DONE.set_result(None)


def add_callback(Waiter self, fn, *, context=None):
    if context is None:
        context = copy_context()
    if self.progress != PENDING:
        self._loop.call_soon(fn, self, context=context)
    elif self.callback is None:
        self.callback = fn
        self.context = context
    else:
        self.others = self.others or []
        self.others.append((context, fn))


make_waiters(<PyTypeObject *>Waiter, add_callback)


cdef inline Waiter new_waiter():
    return waiter_of(get_running_loop())
