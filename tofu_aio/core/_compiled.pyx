# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: nonecheck=True, binding=True, embedsignature=False, auto_pickle=False, infer_types=False
# cython: freethreading_compatible=True, preliminary_late_includes_cy28=True
"""The compiled core: fields as C structures, and the hot methods for the common case.

Each function here stands for the Python method of the same name, does what that does, and calls
it, through ``plain``, for what is rare. Comments about why things are done in this order are there,
not here.

An object belongs to the thread of one loop, which alone changes it. But any thread may release a
message, set and read its attributes, and read statistics.
"""

import asyncio
import inspect
from asyncio import CancelledError, InvalidStateError
from contextvars import copy_context
from types import MethodType

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.list cimport PyList_Insert
from cpython.exc cimport PyErr_WarnEx
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF
from libc.string cimport memcpy

cdef enum Method:
    NEXT, RECEIVE, REPLY, SIGNAL, SEND, REQUEST

cdef class MessageFields  # what they consist of is in the files that are included below
cdef class PoolFields
cdef class DecoderFields
cdef class QueueFields
cdef class MailboxFields
cdef class DispatcherFields
cdef class GateFields
cdef class ConnectionFields
cdef class Call
cdef class Waiter
cdef class Inbox

cdef extern from "objects.h":
    bint ALONE "TOFU_ALONE"
    void lock "TOFU_LOCK"(object changed)
    void unlock "TOFU_UNLOCK"()
    void add "tofu_add"(Py_ssize_t *number, Py_ssize_t more)
    bint take "tofu_take"(Py_ssize_t *number)
    list new_list "tofu_new_list"()
    void drop_list "tofu_drop_list"(object items)
    object pop_last "tofu_pop_last"(list items)
    int append "tofu_append"(list items, object item) except -1

cdef extern from "calls.h":
    void drop_items "tofu_drop_items"(Inbox inbox)
    object pop_first "tofu_pop_first"(Inbox inbox)
    void move "tofu_move"(list items, list empty)
    object take_first "tofu_take_first"(MailboxFields mailbox)
    object call_waiter "tofu_call_waiter"(PyObject *, PyObject **, size_t, PyObject *)
    Waiter waiter_of "tofu_new_waiter"(object loop)
    Call new_call "tofu_new_call"(object channel, int method)
    object step "tofu_step"(object call, int *over)
    void finish "tofu_finish"(Call call)
    object call_method "tofu_call_method"(PyObject *, PyObject **, size_t, PyObject *)
    int iterate "tofu_iterate"(object iterator, PyObject **value) except -1
    void keep_results "tofu_keep_results"(PyTypeObject *type)
    void make_waiters "tofu_make_waiters"(PyTypeObject *type, object add_callback)
    void make_methods "tofu_make_methods"(PyTypeObject *type)
    void make_awaitable "tofu_make_awaitable"(
        PyTypeObject *type, PyTypeObject *inbox, int (*begin)(PyObject *) noexcept,
        PyObject *(*wait)(PyObject *, int *) noexcept
    )

cdef extern from "frames.h":
    unsigned big16 "TOFU_BIG16"(const unsigned char *p) nogil
    unsigned long long big64 "tofu_big64"(const unsigned char *p) nogil
    void put_header "tofu_put_header"(
        unsigned char *p, unsigned channel, unsigned proto, unsigned status, unsigned long long id,
        unsigned headers, unsigned body
    ) nogil
    unsigned char *room "tofu_room"(
        QueueFields queue, Py_ssize_t size, Py_ssize_t limit
    ) except NULL
    void take_back "tofu_take_back"(QueueFields queue, Py_ssize_t size)

cdef extern from "messages.h":
    MessageFields received "tofu_received"(
        object permit, int proto, object status, object number, unsigned long long id_,
        object headers, const char *body, Py_ssize_t size
    )
    bint give_back_plainly "tofu_give_back"(object permit)
    bint is_whole "tofu_is_whole"(MessageFields message)
    int prepare "tofu_prepare"(
        PyTypeObject *message, PyTypeObject *channel, PyTypeObject *account, PyTypeObject *pool,
        PyTypeObject *counter, object permit, void (*release)(PyObject *) noexcept
    ) except -1

cdef extern from "Python.h":
    Py_buffer *PyMemoryView_GET_BUFFER(object view)
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    void PyErr_Fetch(PyObject **type, PyObject **value, PyObject **traceback)
    void PyErr_Restore(PyObject *type, PyObject *value, PyObject *traceback)
    const Py_ssize_t PY_SSIZE_T_MAX

include "tables.pxi"
include "pool.pxi"
include "message.pxi"
include "decoder.pxi"
include "queue.pxi"
include "inbox.pxi"
include "waiter.pxi"
include "delivery.pxi"
include "connection.pxi"
include "channel.pxi"

_table.update({
    "Account.release": release_account,
    "Message.release": release_message,
    "Message._take_permit": _take_permit,
    "Decoder.feed": feed,
    "Decoder._parse": _parse,
    "FrameQueue.flush": flush,
    "SendQueue.enqueue": enqueue,
    "SendQueue.enqueue_message": enqueue_message,
    "Mailbox.arrival": arrival,
    "Mailbox.deliver": deliver_items,
    "complete": complete,
    "run_wake_ups": run_wake_ups,
    "PendingRequests.sort": sort,
    "Dispatcher.deliver": deliver,
    "Connection.get_buffer": get_buffer,
    "Connection.buffer_updated": buffer_updated,
    "Connection.data_received": data_received,
    "Connection._receive": _receive,
    "Channel.__anext__": ChannelMethod(NEXT, 0, 0, 0, None, next_message),
    "Channel.receive": ChannelMethod(RECEIVE, 0, 0, 0, None, receive_message),
    "Channel.reply": ChannelMethod(REPLY, 0, 1, 3, None, reply),
    "Channel.request": ChannelMethod(REQUEST, 1, 0, 2, None, request),
    "Channel.send": ChannelMethod(SEND, 0, 1, 1, None, send),
    "Channel.signal": ChannelMethod(SIGNAL, 1, 0, 2, 0, signal),
})
