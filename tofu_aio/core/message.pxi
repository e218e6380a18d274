# Messages. Those that were released are kept for the next ones.


cdef class MessageFields:
    cdef object __weakref__
    cdef public object _permit, body, channel_number, headers, status
    cdef object id_given  # as Python has set it, which may be anything
    cdef unsigned long long id_  # as it came from the wire, unless it is given
    cdef bint is_given
    cdef public int _proto

    def __del__(self):
        release(self)  # nothing else may give it back if a finalizer saves the message

    @property
    def message_id(self):
        if not self.is_given:
            return self.id_
        lock(self)
        given = self.id_given
        unlock()
        return given

    @message_id.setter
    def message_id(self, value):
        lock(self)
        self.id_given = value
        self.is_given = True
        unlock()


cdef inline unsigned long long id_of(MessageFields message) except? 0:
    """The message's id if it can be sent, or 0."""
    if not message.is_given:
        return message.id_
    if not ALONE or type(message.id_given) is not int:  # without the GIL, Python reads it
        return 0
    try:
        return message.id_given
    except OverflowError:
        return 0


def release_message(MessageFields self not None):
    release(self)


def _take_permit(MessageFields self not None):
    lock(self)
    permit, self._permit = self._permit, None
    unlock()
    return permit


cdef int release(MessageFields self) except -1:
    """Message.release. A finalizer calls it too, and then Python's names may be gone."""
    lock(self)
    permit, self._permit = self._permit, None
    unlock()
    if permit is not None:
        give_back(permit)
    return 0


cdef void release_at_last(PyObject *message) noexcept:
    """``release`` while a message ends. Errors are reported as those of any finalizer."""
    cdef PyObject *type_
    cdef PyObject *value
    cdef PyObject *traceback
    PyErr_Fetch(&type_, &value, &traceback)
    release_last(<MessageFields>message)
    PyErr_Restore(type_, value, traceback)


cdef void release_last(MessageFields message) noexcept:
    release(message)
