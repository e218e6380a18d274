# What a channel's methods return: awaitables that need no coroutine in the common case.

ctypedef int (*begin_in_c)(PyObject *) noexcept
ctypedef PyObject *(*wait_in_c)(PyObject *, int *) noexcept


cdef class ChannelFields:
    cdef public ConnectionFields _connection
    cdef public DispatcherFields _dispatcher
    cdef public MailboxFields _mailbox
    cdef public QueueFields _queue
    cdef public object _deferred_sends, _welcome


@cython.final
cdef class Call:
    """A call of a channel's method. It begins when it is awaited, like a coroutine.

    It is a ``collections.abc.Coroutine``, so ``create_task``, ``gather``, ``wait_for`` and task
    groups take it as one, and it is no future. What it cannot do at once, the coroutine of the
    Python method does, to which it then delegates.
    """

    cdef object __weakref__
    cdef ChannelFields channel  # None once it is over
    cdef object inner  # what it waits for: a waiter or a coroutine
    cdef object item, body, headers, extra
    cdef unsigned long long id_
    cdef Method method
    cdef bint begun, running

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)  # for Python; the interpreter has a faster way, see below

    def send(self, value):
        cdef int over = 0
        if value is not None and not self.begun:
            raise TypeError("can't send non-None value to a just-started coroutine")
        result = step(self, &over)
        if over:
            raise StopIteration if result is None else StopIteration(result)
        return result

    def throw(self, type, value=None, traceback=None):
        if self.running:
            raise ValueError("coroutine already executing")
        if self.channel is None:
            raise RuntimeError("cannot reuse already awaited coroutine")
        self.begun = True
        if self.inner is None:
            finish(self)
            raise type, value, traceback
        try:
            if isinstance(self.inner, Waiter):
                raise type, value, traceback
            self.running = True
            try:
                if value is None and traceback is None:
                    return self.inner.throw(type)
                return self.inner.throw(type, value, traceback)
            finally:
                self.running = False
        except BaseException as error:
            raise failed(self, error)

    def close(self):
        if self.running:
            raise ValueError("coroutine already executing")
        self.begun = True
        if self.channel is not None:
            inner, self.inner = self.inner, None
            finish(self)
            if inner is not None and not isinstance(inner, Waiter):
                inner.close()

    def __dealloc__(self):
        if not self.begun:
            # In C, because Python's modules may be gone when the interpreter exits.
            text = f"coroutine '{METHODS[<int>self.method]}' was never awaited"
            PyErr_WarnEx(RuntimeWarning, text.encode(), 1)

    @property
    def __name__(self):
        return METHODS[<int>self.method].rpartition(".")[2]

    @property
    def __qualname__(self):
        return METHODS[<int>self.method]

    @property
    def cr_await(self):
        return self.inner

    @property
    def cr_running(self):
        return self.running

    @property
    def cr_state(self):
        if not self.begun:
            return inspect.CORO_CREATED
        return inspect.CORO_CLOSED if self.channel is None else inspect.CORO_SUSPENDED

    @property
    def cr_suspended(self):
        return self.begun and self.channel is not None

    @property
    def cr_frame(self):
        return None

    @property
    def cr_code(self):
        return None

    def __repr__(self):
        return f"<coroutine object {self.__qualname__} at {id(self):#x}>"


cdef tuple METHODS = (
    "Channel.__anext__", "Channel.receive", "Channel.reply", "Channel.signal", "Channel.send",
    "Channel.request",
)


cdef object failed(Call call, object error):
    """The exception that the awaiting coroutine gets, now that this one was raised inside."""
    cdef ChannelFields channel = call.channel
    cdef Method method = call.method
    cdef object response = call.item, message_id
    if type(error) is StopIteration:
        finish(call)
        return error
    if channel is None:
        return error
    message_id = call.id_
    finish(call)
    if method == REQUEST and response is not None and isinstance(error, CancelledError):
        channel._dispatcher.pending.give_up(message_id, response)
    elif method <= RECEIVE and isinstance(error, ChannelEnded):
        channel._dispatcher.all_received()
        if method == NEXT:
            return StopAsyncIteration()
    return error


cdef object go_on(Call self, int *over):
    """Return a future to wait for, or the result and set ``over``."""
    try:
        return wait(self, self.channel, over)
    except BaseException as error:
        raised = failed(self, error)
        if raised is error:
            raise
        raise raised from None


cdef object wait(Call self, ChannelFields channel, int *over):
    """Return the next future to wait for, or the result and set ``over``."""
    cdef MailboxFields mailbox
    cdef Waiter waiter
    cdef PyObject *value = NULL
    cdef int state
    while True:
        if type(self.inner) is Waiter:
            waiter = <Waiter>self.inner
            if waiter.progress == PENDING:
                return waiter.block()
            self.inner = None
            result = waiter.value()
            if self.method > RECEIVE:
                finish(self)
                over[0] = 1
                return result
        elif self.inner is not None:
            state = iterate(self.inner, &value)
            result = <object>value
            Py_DECREF(result)
            if state:
                return result
            self.inner = None
            if self.method > RECEIVE:
                finish(self)
                over[0] = 1
                return result
        mailbox = channel._mailbox
        if not is_empty(mailbox.items):
            finish(self)
            over[0] = 1
            return take_first(mailbox) if type(mailbox.items) is Inbox else mailbox.items.popleft()
        arrival = next_arrival(mailbox)
        if channel._connection.suspension is not None:
            channel._connection.lend()
        # It is one of asyncio's if a signal handler has delivered something just now.
        self.inner = arrival if type(arrival) is Waiter else arrival.__await__()


cdef int begin(Call self) except -1:
    """Do what can be done without waiting; return whether that was all."""
    cdef ChannelFields channel = self.channel
    cdef QueueFields queue = channel._queue
    cdef DispatcherFields dispatcher
    cdef MessageFields message
    cdef unsigned long long id_
    cdef bint plain_case
    if self.method == REQUEST:
        begin_request(self, channel, queue)
        return False
    plain_case = not queue.congested and is_open(queue)
    if self.method == REPLY:
        if (
            plain_case and type(self.item) is Message and is_short(self.body)
            and type(self.extra) is Status
        ):
            message = <MessageFields>self.item
            id_ = id_of(message)
            if message._proto == 0 and id_:
                headers = encoded(self.headers) if self.headers else b""
                if not headers or not queue.congested and is_short(headers) and is_open(queue):
                    incoming = channel._dispatcher.incoming
                    if incoming is None or incoming.answered(id_):
                        put(queue, RESPONSE, id_, headers, self.body, self.extra, True)
                    message._proto = ANSWERED
                    return True
                self.headers = decoded(headers)  # they may be made only once
        self.inner = plain["Channel.reply"](
            channel, self.item, self.body, self.headers, status=self.extra
        )
    elif self.method == SIGNAL:
        if plain_case and is_short(self.body):
            headers = encoded(self.headers) if self.headers else b""
            if not headers or not queue.congested:
                put_any(queue, LAST_REGULAR, self.extra, headers, self.body, 0, True)
                return True
            self.headers = decoded(headers)  # they may be made only once
        self.inner = plain["Channel.signal"](
            channel, self.body, self.headers, message_id=self.extra
        )
    else:
        if plain_case and type(self.item) is Message and fits(<MessageFields>self.item):
            message_id = put_message(queue, <MessageFields>self.item, True)
            if not (<MessageFields>self.item)._proto & OP_CODE_MASK:
                dispatcher = channel._dispatcher
                if dispatcher.pending is None:
                    dispatcher.pending_requests()
                (<set?>dispatcher.pending.posted).add(message_id)
            return True
        self.inner = plain["Channel.send"](channel, self.item)
    self.item = self.body = self.headers = self.extra = None
    return False


cdef inline bint is_short(object body):
    return type(body) is bytes and PyBytes_GET_SIZE(body) <= 0xFFFF


cdef int begin_request(Call self, ChannelFields channel, QueueFields queue) except -1:
    """Channel.request without a time-out"""
    cdef DispatcherFields dispatcher = channel._dispatcher
    cdef PendingFields pending
    cdef bytes headers
    if not is_short(self.body) or not is_open(queue) or queue.congested and queue.blocked:
        self.inner = plain["Channel.request"](channel, self.body, self.headers)
        self.body = self.headers = None
        return 0
    if dispatcher.pending is None:
        dispatcher.pending_requests()
    pending = dispatcher.pending
    message_id = next(message_ids)  # as next_message_id, and faster
    if message_id in pending.requests:  # an id that the application has chosen
        self.inner = plain["Channel.request"](
            channel, self.body, self.headers, message_id=message_id
        )
        self.body = self.headers = None
        return 0
    self.id_ = message_id
    headers = encoded(self.headers) if self.headers else b""
    if headers and not (
        is_short(headers) and is_open(queue) and not (queue.congested and queue.blocked)
    ):
        # They are too long, or what made them has ended the channel, or filled the queue. They may
        # be made only once.
        self.inner = plain["Channel.request"](channel, self.body, decoded(headers))
        self.body = self.headers = None
        return 0
    response = new_waiter()
    put(queue, 0, self.id_, headers, self.body, 0, True)
    (<dict?>pending.requests)[message_id] = response
    if pending.posted or channel._connection.suspension is not None:
        dispatcher.requested(message_id)
    self.body = self.headers = None
    self.item = response
    self.inner = response
    return 0


class Result(StopIteration):
    """What carries the result of a ``Call`` to the interpreter."""

    __slots__ = ()

    @property
    def args(self):
        """As of any StopIteration."""
        return (self.value,)

    def __repr__(self):
        return f"StopIteration({self.value!r})"

    def __str__(self):
        return str(self.value)

    def __reduce__(self):
        return StopIteration, (self.value,)


keep_results(<PyTypeObject *>Result)
make_awaitable(
    <PyTypeObject *>Call, <PyTypeObject *>Inbox, <begin_in_c><void *>begin,
    <wait_in_c><void *>go_on,
)


@cython.final
cdef class ChannelMethod:
    """A method of a channel, which the interpreter finds and calls as quickly as a built-in one."""

    cdef dict __dict__
    cdef object __weakref__
    cdef object general  # the function that takes any arguments
    cdef object body, extra  # their defaults
    cdef PyTypeObject *owner
    cdef void *vectorcall
    cdef Method number
    cdef Py_ssize_t first, least, most  # the first argument's field, and how many there are

    def __init__(self, Method number, first, least, most, extra, general):
        self.vectorcall = <void *>call_method
        self.owner = <PyTypeObject *>ChannelFields
        self.number, self.first, self.least, self.most = number, first, least, most
        self.body, self.extra, self.general = b"", extra, general

    def __get__(self, instance, owner):
        return self if instance is None else MethodType(self, instance)

    def __reduce__(self):
        return self.__qualname__

    def __repr__(self):
        return f"<function {self.__qualname__} at {id(self):#x}>"


make_methods(<PyTypeObject *>ChannelMethod)
UNSET = object()


def next_message(ChannelFields self not None):
    return new_call(self, NEXT)


def receive_message(ChannelFields self not None):
    return new_call(self, RECEIVE)


def reply(ChannelFields self not None, request, body=b"", headers=None, *, status=UNSET, more=False):
    if status is UNSET:
        status = SUCCESS
    if more:
        return plain["Channel.reply"](self, request, body, headers, status=status, more=more)
    cdef Call call = new_call(self, REPLY)
    call.item = request
    call.body = body
    call.headers = headers
    call.extra = status
    return call


def signal(ChannelFields self not None, body=b"", headers=None, *, message_id=0):
    cdef Call call = new_call(self, SIGNAL)
    call.body = body
    call.headers = headers
    call.extra = message_id
    return call


def send(ChannelFields self not None, item):
    cdef Call call = new_call(self, SEND)
    call.item = item
    return call


def request(ChannelFields self not None, body=b"", headers=None, *, timeout=None, message_id=0):
    if timeout is not None or message_id:
        return plain["Channel.request"](
            self, body, headers, timeout=timeout, message_id=message_id
        )
    cdef Call call = new_call(self, REQUEST)
    call.body = body
    call.headers = headers
    return call
