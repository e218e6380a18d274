/* Messages, from the wire to their end. */

#pragma once
#include "objects.h"
#include "calls.h"

typedef struct __pyx_obj_8tofu_aio_4core_9_compiled_MessageFields tofu_message;

/* Messages are made and dropped by the million. Their type is a Python class, which Cython's own
   freelist does not serve. One that the garbage collector has finalized is not kept, because it
   would never be finalized again. */
static tofu_store tofu_messages;
static PyTypeObject *tofu_account, *tofu_pool, *tofu_counter;
static PyObject *tofu_permit;  /* what an account has for each permit of the pool */
static void (*tofu_release)(PyObject *);

/* Give back a permit of the pool that nobody waits for; whether it was one. Runs no Python code. */
static inline int tofu_give_back(PyObject *permit) {
    if (!TOFU_ALONE || Py_TYPE(permit) != tofu_account)
        return 0;
    PyObject *taken = TOFU_FIELDS(AccountFields, permit)->taken;
    PyObject *pool = (PyObject *)TOFU_FIELDS(AccountFields, permit)->pool;
    if (!PyList_CheckExact(taken) || Py_TYPE(pool) != tofu_pool)
        return 0;
    Py_ssize_t last = PyList_GET_SIZE(taken) - 1;
    PyObject *waiting = TOFU_FIELDS(PoolFields, pool)->suspended;
    PyObject *free = TOFU_FIELDS(PoolFields, pool)->free;
    if (last < ((PyListObject *)taken)->allocated / 2 - TOFU_KEPT
            || last < 0 || PyList_GET_ITEM(taken, last) != tofu_permit || !PyDict_CheckExact(waiting) || PyDict_GET_SIZE(waiting) || Py_TYPE(free) != tofu_counter)
        return 0;
    Py_SET_SIZE(taken, last);  /* memory it gives back when it is much, or with the reserve */
    Py_DECREF(tofu_permit);
    TOFU_FIELDS(Counter, free)->n++;
    return 1;
}

static void tofu_end_message(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    if (type == tofu_messages.type && !PyObject_GC_IsFinalized(self)) {
        tofu_message *message = (tofu_message *)self;
        PyObject_GC_UnTrack(self);
        if (message->__weakref__ != NULL)
            PyObject_ClearWeakRefs(self);
        if (message->_permit != Py_None && !tofu_give_back(message->_permit)) {
            Py_SET_REFCNT(self, 1);  /* as for a finalizer, or it would come here again */
            tofu_release(self);
            Py_SET_REFCNT(self, 0);
        }
        message->is_given = 0;
        tofu_clear(&message->_permit, 6);
        if (tofu_keep(&tofu_messages, self))
            return;
    }
    tofu_messages.dealloc(self);
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

/* A received message. Its body is copied, and its headers are the empty ones. */
static PyObject *tofu_received(PyObject *permit, int proto, PyObject *status, PyObject *number,
        unsigned long long id, PyObject *headers, const char *body, Py_ssize_t size) {
    PyObject *content = PyBytes_FromStringAndSize(body, size);
    PyObject *self = content == NULL ? NULL : tofu_new(&tofu_messages);
    if (self == NULL) {
        Py_XDECREF(content);
        return NULL;
    }
    tofu_message *message = (tofu_message *)self;
    Py_DECREF(message->body);
    message->body = content;
    tofu_set(&message->_permit, permit);
    tofu_set(&message->status, status);
    tofu_set(&message->channel_number, number);
    tofu_set(&message->headers, headers);
    message->id_ = id;
    message->_proto = proto;
    return self;
}

/* The interpreter reads a member much faster than an attribute that has a function. A member can
   be deleted, and is NULL then; asking for it raises AttributeError, as in plain Python. */
static struct PyMemberDef tofu_members[] = {
    {"body", T_OBJECT_EX, offsetof(tofu_message, body), 0, NULL},
    {"channel_number", T_OBJECT_EX, offsetof(tofu_message, channel_number), 0, NULL},
    {"headers", T_OBJECT_EX, offsetof(tofu_message, headers), 0, NULL},
    {"status", T_OBJECT_EX, offsetof(tofu_message, status), 0, NULL},
};
/* Whether Cython's code may read the members. */
static inline int tofu_is_whole(tofu_message *message) {
    return message->body && message->channel_number && message->headers && message->status;
}
static int tofu_make_members(PyTypeObject *base) {
    for (size_t i = 0; i < Py_ARRAY_LENGTH(tofu_members); i++) {
        PyObject *member = PyDescr_NewMember(base, &tofu_members[i]);
        if (member == NULL || PyDict_SetItemString(base->tp_dict, tofu_members[i].name, member) < 0) {
            Py_XDECREF(member);
            return -1;
        }
        Py_DECREF(member);
    }
    PyType_Modified(base);
    return 0;
}

/* Prepare Python's classes; ``release`` gives back any message's permit. */
static int tofu_prepare(PyTypeObject *message, PyTypeObject *channel, PyTypeObject *account,
        PyTypeObject *pool, PyTypeObject *counter, PyObject *permit, void (*release)(PyObject *)) {
    tofu_messages.type = message;
    tofu_messages.dealloc = message->tp_base->tp_dealloc;
    tofu_account = account;
    tofu_pool = pool;
    tofu_counter = counter;
    tofu_permit = Py_NewRef(permit);
    tofu_release = release;
    tofu_channel = channel;
    channel->tp_as_async->am_anext = tofu_anext;
    if (!TOFU_ALONE)
        return 0;
    message->tp_dealloc = tofu_dealloc_message;
    return tofu_make_members(message->tp_base);
}
