# Messages in, frames out.


cdef class QueueFields:
    cdef public DecoderFields _decoder
    cdef public object _owner, _waiting, carried, frames, number, transport
    cdef public Py_ssize_t _given, _nbytes, _untaken, high_water, sent, watched_from
    cdef public Py_ssize_t _written
    cdef public bint _long, _turn_taken, _writing, congested, paused
    cdef object last  # the piece that the next short frame may be added to
    cdef Py_ssize_t room  # the bytes that it can have


def flush(QueueFields self not None):
    flush_frames(self)


cdef int flush_frames(QueueFields self) except -1:
    """FrameQueue.flush"""
    transport = self.transport
    while self.frames:
        if transport is None or self.paused or self._writing:
            return 0
        if self._long or transport.is_closing():
            self.last = None
            plain["FrameQueue.flush"](self)
            return 0
        self._writing = True
        try:
            frames, self.frames = self.frames, ()
            self.last = None
            self._given += self._nbytes
            self._nbytes = 0
            self._written = self.sent
            if self.carried:
                self.release_carried()
            transport.write(frames[0] if len(frames) == 1 else b"".join(frames))
            drop_list(frames)
        finally:
            self._writing = False
    return 0


cdef inline bint is_open(QueueFields self) except -1:
    """Whether regular messages can be sent without asking ``judge``."""
    if self._decoder.state is not OPEN:
        return False
    owner = self._owner
    return ((<ConnectionFields>owner).end if type(owner) is Connection else owner.end) is None


cdef int put(QueueFields self, unsigned proto, unsigned long long id_, bytes headers, bytes body,
             unsigned status, bint at_once) except -1:
    """The main part of SendQueue.enqueue: queue a frame whose parts fit into it."""
    cdef Py_ssize_t headers_len = PyBytes_GET_SIZE(headers), body_len = PyBytes_GET_SIZE(body)
    cdef Py_ssize_t copied = body_len if body_len < SHORT else 0
    cdef unsigned number = self.number  # may raise, and then nothing is queued
    cdef unsigned char *start = room(self, 16 + headers_len + copied, LONG)
    put_header(start, number, proto, status, id_, headers_len, body_len)
    memcpy(start + 16, PyBytes_AS_STRING(headers), headers_len)
    memcpy(start + 16 + headers_len, PyBytes_AS_STRING(body), copied)
    if not copied and body_len:
        try:
            append(<list>self.frames, body)
        except MemoryError:
            take_back(self, 16 + headers_len)  # or the peer would take the next frame for the body
            raise
        if body_len >= LONG:
            self._long = True
    self.sent += 1
    self._nbytes += 16 + headers_len + body_len
    if self._nbytes >= self.watched_from:
        self._attend(at_once)
    return 0


def enqueue(QueueFields self not None, proto, message_id=0, headers=b"", body=b"", status=0,
            bint at_once=False):
    return put_any(self, proto, message_id, headers, body, status, at_once)


cdef object put_any(QueueFields self, object proto, object message_id, object headers, object body,
                    object status, bint at_once):
    """SendQueue.enqueue"""
    cdef unsigned long long id_ = 0
    cdef long proto_ = -1, status_ = -1
    if (
        type(body) is bytes and PyBytes_GET_SIZE(body) <= 0xFFFF
        and type(headers) is bytes and PyBytes_GET_SIZE(headers) <= 0xFFFF
        and isinstance(proto, int) and isinstance(status, int)  # no floats
        and is_open(self)
    ):
        try:
            proto_ = proto
            if 0 <= proto_ <= 0xFF:
                if not message_id and proto_ & OP_CODE_MASK != RESPONSE:
                    message_id = next(message_ids)
                if isinstance(message_id, int):
                    id_ = message_id
                status_ = status
        except OverflowError:
            pass  # Python's method says what is wrong with it
        if id_ and 0 <= status_ <= 0xFF:
            put(self, proto_, id_, headers, body, status_, at_once)
            return message_id
    return plain["SendQueue.enqueue"](self, proto, message_id, headers, body, status, at_once)


def enqueue_message(QueueFields self not None, message, bint at_once=False):
    """SendQueue.enqueue_message"""
    if type(message) is Message and fits(<MessageFields>message) and is_open(self):
        return put_message(self, <MessageFields>message, at_once)
    return plain["SendQueue.enqueue_message"](self, message, at_once)


cdef inline bint fits(MessageFields message) except -1:
    """Whether the message is a regular one that ``put_message`` can send, as far as it goes."""
    return (
        ALONE and is_whole(message)  # or another thread may set what is read here
        and message._proto & SENT_BITS & OP_CODE_MASK <= LAST_REGULAR
        and (not message.is_given or type(message.id_given) is int)  # its truth runs no code
        and type(message.body) is bytes
        and PyBytes_GET_SIZE(message.body) <= 0xFFFF
        and type(message.headers) is TextHeaders
        and (message.headers is EMPTY_HEADERS or is_short(message.headers._encoded))
        and type(message.status) is Status
    )


cdef object put_message(QueueFields self, MessageFields message, bint at_once):
    """The main part of SendQueue.enqueue_message; return the message's id as sent."""
    cdef unsigned long long id_
    cdef int proto = message._proto & SENT_BITS
    message_id = message.message_id
    id_ = id_of(message)
    if not message_id and proto & OP_CODE_MASK != RESPONSE:
        id_ = message_id = next(message_ids)
    if not id_:
        return plain["SendQueue.enqueue_message"](self, message, at_once)
    put(
        self, proto, id_, b"" if message.headers is EMPTY_HEADERS else message.headers._encoded,
        message.body, message.status, at_once,
    )
    if message._permit is not None:
        self._carry_permit(message)
    return message_id
