# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: binding=True, embedsignature=False, auto_pickle=False, infer_types=False
# cython: freethreading_compatible=True
"""The compiled core: fields as C structures, and the hot methods for the common case.

Each function here stands for the Python method of the same name, does what that does, and calls
it, through ``plain``, for what is rare. Comments about why things are done in this order are there,
not here.

An object belongs to the thread of one loop, which alone changes it. But any thread may release a
message, set and read its attributes, and read statistics.
"""

import asyncio
import inspect
from asyncio import CancelledError, InvalidStateError, current_task
from contextvars import copy_context

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_WarnEx
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF
from libc.string cimport memcpy

cdef class MessageFields  # its fields are in message.pxi


cdef extern from *:
    """
    #define TOFU_BIG16(p) (((unsigned)(p)[0] << 8) | (p)[1])
    static inline unsigned long long tofu_big64(const unsigned char *p) {
        unsigned long long value = 0;
        for (int i = 0; i < 8; i++) value = value << 8 | p[i];
        return value;
    }
    /* Whether C code runs alone, as with the GIL. Otherwise a number that other threads change is
       changed in one step, as CPython counts references, and a reference that they read or change
       is changed and read while its object is locked, as by Cython's attributes. */
    #ifdef Py_GIL_DISABLED
    #define TOFU_ALONE 0
    #define TOFU_LOCK(object) { PyCriticalSection section; PyCriticalSection_Begin(&section, object)
    #define TOFU_UNLOCK() PyCriticalSection_End(&section); }
    static inline void tofu_add(Py_ssize_t *number, Py_ssize_t more) {
        _Py_atomic_add_ssize(number, more);
    }
    static inline int tofu_take(Py_ssize_t *number) {
        Py_ssize_t seen = _Py_atomic_load_ssize(number);
        while (seen > 0)
            if (_Py_atomic_compare_exchange_ssize(number, &seen, seen - 1))
                return 1;
        return 0;
    }
    #else
    #define TOFU_ALONE 1
    #define TOFU_LOCK(object)
    #define TOFU_UNLOCK()
    static inline void tofu_add(Py_ssize_t *number, Py_ssize_t more) {
        *number += more;
    }
    static inline int tofu_take(Py_ssize_t *number) {
        return *number < 1 ? 0 : ((*number)--, 1);
    }
    #endif
    /* Since Python 3.12 ``await`` takes a result only out of a StopIteration. Making one takes longer
       than decoding a message, and nobody but the interpreter sees it, which drops it at once. So
       one is kept, of a subclass whose ``args`` are made when somebody asks for them. */
    static PyTypeObject *tofu_result;
    static PyObject *tofu_kept_result;
    static void tofu_dealloc_result(PyObject *self) {
        PyTypeObject *type = Py_TYPE(self);
        PyObject_GC_UnTrack(self);
        type->tp_clear(self);
        if (tofu_kept_result == NULL) {
            tofu_kept_result = self;
        } else {
            Py_CLEAR(((PyStopIterationObject *)self)->args);
            type->tp_free(self);
        }
        Py_DECREF(type);
    }
    static void tofu_stop(PyObject *value) {
    #if PY_VERSION_HEX >= 0x030C0000
        PyStopIterationObject *result = (PyStopIterationObject *)tofu_kept_result;
        if (result != NULL) {
            tofu_kept_result = NULL;
            PyObject_Init((PyObject *)result, tofu_result);
            PyObject_GC_Track(result);
        } else {
            result = (PyStopIterationObject *)tofu_result->tp_alloc(tofu_result, 0);
            if (result == NULL)
                return;
        }
        result->args = PyTuple_New(0);  /* always the same one */
        result->value = Py_NewRef(value);
        PyErr_SetRaisedException((PyObject *)result);
    #else
        PyErr_SetObject(PyExc_StopIteration, value);
    #endif
    }
    static void tofu_keep_result(PyTypeObject *type) {
        tofu_result = type;
        if (TOFU_ALONE)
            type->tp_dealloc = tofu_dealloc_result;
    }

    /* Cython's functions add a traceback when they raise, which takes longer than all else here.
       So an awaitable's step says in ``*over`` whether it has returned its result, and only these
       two functions raise StopIteration, where the interpreter asks for it. */
    static PyObject *(*tofu_step)(PyObject *awaitable, int *over);
    static PyObject *tofu_next(PyObject *awaitable) {
        int over = 0;
        PyObject *value = tofu_step(awaitable, &over);
        if (over && value != NULL) {
            if (value != Py_None)
                tofu_stop(value);
            Py_CLEAR(value);
        }
        return value;
    }
    static PySendResult tofu_send(PyObject *awaitable, PyObject *sent, PyObject **result) {
        int over = 0;
        *result = tofu_step(awaitable, &over);
        return *result == NULL ? PYGEN_ERROR : over ? PYGEN_RETURN : PYGEN_NEXT;
    }
    static int tofu_iterate(PyObject *iterator, PyObject **value) {
        PySendResult result = PyIter_Send(iterator, Py_None, value);
        return result == PYGEN_ERROR ? -1 : result == PYGEN_NEXT;
    }
    static void tofu_make_awaitable(PyTypeObject *type, PyObject *(*step)(PyObject *, int *)) {
        tofu_step = step;
        type->tp_iternext = tofu_next;
        type->tp_as_async->am_send = tofu_send;
        PyType_Modified(type);
    }
    /* Messages are made and dropped by the million, so some are kept. Their type is a Python class,
       which Cython's own freelist does not serve. One that the garbage collector has finalized is
       not kept, because it would never be finalized again. */
    #define TOFU_KEPT 256
    static PyTypeObject *tofu_message;
    static PyObject *tofu_nothing;
    static destructor tofu_dealloc_fields;
    static void (*tofu_forget)(PyObject *);
    static PyObject *tofu_kept[TOFU_KEPT];
    static int tofu_kept_count;
    static void tofu_end_message(PyObject *self) {
        PyTypeObject *type = Py_TYPE(self);
        if (type == tofu_message && !PyObject_GC_IsFinalized(self)) {
            PyObject **weak = (PyObject **)((char *)self + type->tp_weaklistoffset);
            PyObject_GC_UnTrack(self);
            if (*weak != NULL)
                PyObject_ClearWeakRefs(self);
            Py_SET_REFCNT(self, 1);  /* as for a finalizer, or it would come here again */
            tofu_forget(self);
            Py_SET_REFCNT(self, 0);
            if (tofu_kept_count < TOFU_KEPT) {
                tofu_kept[tofu_kept_count++] = self;
                Py_DECREF(type);
                return;
            }
        }
        tofu_dealloc_fields(self);
        Py_DECREF(type);
    }
    /* A message may be the last to hold another, and so on: a chain of any length must not use up the
       stack. The interpreter's way to put the end off takes a while, so it begins late. */
    #define TOFU_NESTED 32
    static void tofu_dealloc_message(PyObject *self) {
        static int nested;
        if (nested < TOFU_NESTED) {
            nested++;
            tofu_end_message(self);
            nested--;
            return;
        }
        PyObject_GC_UnTrack(self);
        Py_TRASHCAN_BEGIN(self, tofu_dealloc_message)
        tofu_end_message(self);
        Py_TRASHCAN_END
    }
    static PyObject *tofu_new_message(void) {
        if (tofu_kept_count) {
            PyObject *self = tofu_kept[--tofu_kept_count];
            PyObject_Init(self, tofu_message);
            PyObject_GC_Track(self);
            return self;
        }
        return tofu_message->tp_new(tofu_message, tofu_nothing, NULL);
    }
    /* ``async for`` asks the type, and would find Python's wrapper of ``__anext__`` there. */
    static void tofu_set_anext(PyTypeObject *type, PyObject *(*next)(PyObject *)) {
        type->tp_as_async->am_anext = next;
    }
    static void tofu_keep_messages(PyTypeObject *type, void (*forget)(PyObject *)) {
        tofu_message = type;
        tofu_nothing = PyTuple_New(0);  /* there is always one */
        tofu_forget = forget;
        tofu_dealloc_fields = type->tp_base->tp_dealloc;
        if (TOFU_ALONE)
            type->tp_dealloc = tofu_dealloc_message;
    }
    static inline void tofu_put_header(unsigned char *p, unsigned channel, unsigned proto,
            unsigned status, unsigned long long id, unsigned headers, unsigned body) {
        p[0] = channel >> 8; p[1] = channel; p[2] = proto; p[3] = status;
        for (int i = 0; i < 8; i++) p[4 + i] = (unsigned char)(id >> (56 - 8 * i));
        p[12] = headers >> 8; p[13] = headers; p[14] = body >> 8; p[15] = body;
    }
    """
    bint ALONE "TOFU_ALONE"
    void lock "TOFU_LOCK"(object changed)
    void unlock "TOFU_UNLOCK"()
    void add "tofu_add"(Py_ssize_t *number, Py_ssize_t more)
    bint take "tofu_take"(Py_ssize_t *number)
    unsigned TOFU_BIG16(const unsigned char *p) nogil
    unsigned long long tofu_big64(const unsigned char *p) nogil
    int tofu_iterate(object iterator, PyObject **value) except -1
    MessageFields new_message "tofu_new_message"()
    void tofu_keep_messages(PyTypeObject *type, void (*forget)(PyObject *) noexcept)
    void tofu_keep_result(PyTypeObject *type)
    void tofu_set_anext(PyTypeObject *type, PyObject *(*next)(PyObject *) noexcept)
    void tofu_make_awaitable(PyTypeObject *type, PyObject *(*step)(PyObject *, int *) noexcept)
    void tofu_put_header(unsigned char *p, unsigned channel, unsigned proto, unsigned status,
                         unsigned long long id, unsigned headers, unsigned body) nogil

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
    "Channel.__anext__": next_message,
    "Channel.receive": receive_message,
    "Channel.reply": reply,
    "Channel.request": request,
    "Channel.send": send,
    "Channel.signal": signal,
})
