/* What ``await`` and ``async for`` do with a channel: calls, what they wait for, and their results. */

#pragma once
#include "objects.h"

/* --- results --- */

/* Since Python 3.12 ``await`` takes a result only out of a StopIteration. Making one takes longer
   than decoding a message, and nobody but the interpreter sees it, which drops it at once. So they
   are kept, and are of a subclass whose ``args`` are made when somebody asks for them. */
static tofu_store tofu_results;

static void tofu_dealloc_result(PyObject *self) {
    PyStopIterationObject *result = (PyStopIterationObject *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(result->value);
    if (result->traceback || result->context || result->cause || result->dict || result->notes)
        type->tp_clear(self);
    result->suppress_context = 0;
    if (type != tofu_results.type || result->args != tofu_nothing
            || !tofu_keep(&tofu_results, self)) {
        Py_CLEAR(result->args);
        type->tp_free(self);
        Py_DECREF(type);
    }
}
static void tofu_stop(PyObject *value) {
#if PY_VERSION_HEX >= 0x030C0000
    PyObject *result = tofu_new(&tofu_results);
    if (result != NULL) {
        Py_XSETREF(((PyStopIterationObject *)result)->value, Py_NewRef(value));
        PyErr_SetRaisedException(result);
    }
#else
    PyErr_SetObject(PyExc_StopIteration, value);
#endif
}
static void tofu_keep_results(PyTypeObject *type) {
    tofu_nothing = PyTuple_New(0);
    tofu_results.type = type;
    if (TOFU_ALONE)
        type->tp_dealloc = tofu_dealloc_result;
}

static int tofu_iterate(PyObject *iterator, PyObject **value) {
    PySendResult result = PyIter_Send(iterator, Py_None, value);
    return result == PYGEN_ERROR ? -1 : result == PYGEN_NEXT;
}

/* --- what a task waits for --- */

typedef struct __pyx_obj_8tofu_aio_4core_9_compiled_Waiter tofu_waiter;

static tofu_store tofu_waiters;
static PyObject *tofu_add_callback;
static PyObject *tofu_names;  /* as asyncio passes them: ("context",) */

/* As a task adds its own callback; the rest does a function. */
static PyObject *tofu_call_waiter(PyObject *self, PyObject *const *args, size_t nargsf,
        PyObject *names) {
    tofu_waiter *waiter = (tofu_waiter *)self;
    if (TOFU_ALONE && names != tofu_names && names != NULL && PyTuple_GET_SIZE(names) == 1
            && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "context") == 0)
        Py_XSETREF(tofu_names, Py_NewRef(names));
    if (PyVectorcall_NARGS(nargsf) == 1 && names == tofu_names && names != NULL
            && args[1] != Py_None && waiter->progress == TOFU(PENDING) && waiter->callback == Py_None) {
        tofu_set(&waiter->callback, args[0]);
        tofu_set(&waiter->context, args[1]);
        return Py_NewRef(Py_None);
    }
    PyObject *method = PyMethod_New(tofu_add_callback, self);
    PyObject *result = method ? PyObject_Vectorcall(method, args, nargsf, names) : NULL;
    Py_XDECREF(method);
    return result;
}
static PyObject *tofu_new_waiter(PyObject *loop) {
    PyObject *self = tofu_new(&tofu_waiters);
    if (self != NULL)
        tofu_set(&((tofu_waiter *)self)->_loop, loop);
    return self;
}
static void tofu_dealloc_waiter(PyObject *self) {
    tofu_waiter *waiter = (tofu_waiter *)self;
    PyObject_GC_UnTrack(self);
    tofu_clear(&waiter->_loop, 5);
    waiter->progress = TOFU(PENDING);
    waiter->_asyncio_future_blocking = 0;
    if (!tofu_keep(&tofu_waiters, self)) {
        PyObject_GC_Track(self);
        tofu_waiters.dealloc(self);
    }
}
static void tofu_make_waiters(PyTypeObject *type, PyObject *add_callback) {
    tofu_waiters.type = type;
    tofu_waiters.dealloc = type->tp_dealloc;
    tofu_add_callback = Py_NewRef(add_callback);
    type->tp_vectorcall_offset = offsetof(tofu_waiter, vectorcall);
    type->tp_call = PyVectorcall_Call;
    type->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL;
    if (TOFU_ALONE)
        type->tp_dealloc = tofu_dealloc_waiter;
    PyType_Modified(type);
}

/* --- calls of a channel's methods --- */

typedef struct __pyx_obj_8tofu_aio_4core_9_compiled_Call tofu_call;
typedef struct __pyx_obj_8tofu_aio_4core_9_compiled_MailboxFields tofu_mailbox;
typedef struct __pyx_obj_8tofu_aio_4core_9_compiled_Inbox tofu_inbox_fields;

static tofu_store tofu_calls;
static PyTypeObject *tofu_inbox, *tofu_channel;
static int (*tofu_begin)(PyObject *call);
static PyObject *(*tofu_wait)(PyObject *call, int *over);

static PyObject *tofu_new_call(PyObject *channel, int method) {
    PyObject *self = tofu_new(&tofu_calls);
    if (self != NULL) {
        tofu_set((PyObject **)&((tofu_call *)self)->channel, channel);
        ((tofu_call *)self)->method = method;
    }
    return self;
}
/* It is over, and keeps nothing alive any more. */
static void tofu_finish(tofu_call *call) {
    tofu_clear((PyObject **)&call->channel, 6);
}
static void tofu_drop_items(tofu_inbox_fields *inbox) {
    PyObject *items = inbox->items;
    if (items != NULL)
        tofu_drop_list(items);
}
/* Move all items of a list into an empty one. */
static void tofu_move(PyObject *from, PyObject *to) {
    PyListObject *full = (PyListObject *)from, *empty = (PyListObject *)to;
    PyObject **items = empty->ob_item;
    Py_ssize_t allocated = empty->allocated;
    empty->ob_item = full->ob_item;
    empty->allocated = full->allocated;
    Py_SET_SIZE(to, PyList_GET_SIZE(from));
    full->ob_item = items;
    full->allocated = allocated;
    Py_SET_SIZE(from, 0);
}
/* Take the first item out; there must be one. */
static PyObject *tofu_pop_first(tofu_inbox_fields *inbox) {
    PyObject *list = inbox->items, *item = PyList_GET_ITEM(list, inbox->first);
#ifdef Py_GIL_DISABLED
    Py_INCREF(item);  /* another thread may be reading the list, for statistics */
    PyList_SetItem(list, inbox->first, Py_NewRef(Py_None));
#else
    PyList_SET_ITEM(list, inbox->first, Py_NewRef(Py_None));
#endif
    /* A small list goes with its inbox. */
    if (++inbox->first == PyList_GET_SIZE(list) && inbox->first > TOFU_ROOMY) {
        PyList_SetSlice(list, 0, inbox->first, NULL);
        inbox->first = 0;
    }
    return item;
}
/* Take the first message out of a mailbox; NULL, without an error, if there is none. */
static PyObject *tofu_take_first(tofu_mailbox *mailbox) {
    PyObject *items = (PyObject *)mailbox == Py_None ? Py_None : mailbox->items;
    tofu_inbox_fields *inbox = (tofu_inbox_fields *)items;
    if (Py_TYPE(items) != tofu_inbox || !PyList_CheckExact(inbox->items)
            || inbox->first >= PyList_GET_SIZE(inbox->items))
        return NULL;
    return tofu_pop_first(inbox);
}
/* Cython's functions add a traceback when they raise, which takes longer than all else here. So a
   call says in ``*over`` whether it has returned its result, and only ``tofu_next`` and
   ``tofu_send`` raise StopIteration, where the interpreter asks for it. */
static PyObject *tofu_step(PyObject *self, int *over) {
    tofu_call *call = (tofu_call *)self;
    if (call->running) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return NULL;
    }
    if ((PyObject *)call->channel == Py_None) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return NULL;
    }
    if (!call->begun) {
        PyObject *result;
        call->begun = 1;
        if (call->method <= TOFU(RECEIVE)) {
            result = tofu_take_first(call->channel->_mailbox);
        } else {
            call->running = 1;  /* headers, for example, may run any code */
            int done = tofu_begin(self);
            call->running = 0;
            if (done < 0) {
                tofu_finish(call);
                return NULL;
            }
            result = done ? Py_NewRef(Py_None) : NULL;
        }
        if (result != NULL) {
            tofu_finish(call);
            *over = 1;
            return result;
        }
    }
    if (Py_TYPE(call->inner) == tofu_waiters.type) {
        tofu_waiter *waiter = (tofu_waiter *)call->inner;
        if (waiter->progress == TOFU(PENDING) && !waiter->_asyncio_future_blocking) {
            waiter->_asyncio_future_blocking = 1;
            return Py_NewRef(waiter);
        }
        if (waiter->progress == TOFU(FINISHED)) {
            PyObject *result = call->method > TOFU(RECEIVE)
                ? Py_NewRef(waiter->outcome) : tofu_take_first(call->channel->_mailbox);
            if (result != NULL) {
                tofu_finish(call);
                *over = 1;
                return result;
            }
        }
    }
    call->running = 1;
    PyObject *result = tofu_wait(self, over);
    call->running = 0;
    return result;
}
static PyObject *tofu_next(PyObject *self) {
    int over = 0;
    PyObject *value = tofu_step(self, &over);
    if (over && value != NULL) {
        if (value != Py_None)
            tofu_stop(value);
        Py_CLEAR(value);
    }
    return value;
}
static PySendResult tofu_send(PyObject *self, PyObject *sent, PyObject **result) {
    int over = 0;
    *result = tofu_step(self, &over);
    return *result == NULL ? PYGEN_ERROR : over ? PYGEN_RETURN : PYGEN_NEXT;
}
static void tofu_dealloc_call(PyObject *self) {
    tofu_call *call = (tofu_call *)self;
    if (call->begun && call->__weakref__ == NULL && tofu_calls.count < TOFU_KEPT) {
        PyObject_GC_UnTrack(self);
        if ((PyObject *)call->channel != Py_None || call->inner != Py_None)
            tofu_finish(call);
        if (tofu_keep(&tofu_calls, self)) {
            call->begun = 0;
            return;
        }
        PyObject_GC_Track(self);  /* what it held was kept meanwhile */
    }
    tofu_calls.dealloc(self);
}
/* ``async for`` asks the type, and would find Python's wrapper of ``__anext__`` there. */
static PyObject *tofu_anext(PyObject *channel) {
    return tofu_new_call(channel, TOFU(NEXT));
}
static PyObject *tofu_itself(PyObject *awaitable) {
    return Py_NewRef(awaitable);
}
static void tofu_make_awaitable(PyTypeObject *type, PyTypeObject *inbox, int (*begin)(PyObject *),
        PyObject *(*wait)(PyObject *, int *)) {
    tofu_inbox = inbox;
    tofu_begin = begin;
    tofu_wait = wait;
    type->tp_iternext = tofu_next;
    type->tp_as_async->am_send = tofu_send;
    type->tp_as_async->am_await = tofu_itself;
    tofu_calls.type = type;
    tofu_calls.dealloc = type->tp_dealloc;
    if (TOFU_ALONE)
        type->tp_dealloc = tofu_dealloc_call;
    PyType_Modified(type);
}

/* A method that is called with positional arguments only makes its call here. */
static PyObject *tofu_call_method(PyObject *callable, PyObject *const *args, size_t nargsf,
        PyObject *names) {
    struct __pyx_obj_8tofu_aio_4core_9_compiled_ChannelMethod *method =
        TOFU_FIELDS(ChannelMethod, callable);
    Py_ssize_t count = PyVectorcall_NARGS(nargsf) - 1;
    if (names != NULL || count < method->least || count > method->most
            || (Py_TYPE(args[0]) != tofu_channel && !PyObject_TypeCheck(args[0], method->owner)))
        return PyObject_Vectorcall(method->general, args, nargsf, names);
    PyObject *self = tofu_new_call(args[0], method->number);
    if (self == NULL)
        return NULL;
    PyObject **fields = &TOFU_FIELDS(Call, self)->item;
    for (Py_ssize_t i = 0; i < count; i++)
        tofu_set(&fields[method->first + i], args[1 + i]);
    if (method->first + count < 2)
        tofu_set(&fields[1], method->body);
    if (method->extra != Py_None)
        tofu_set(&fields[3], method->extra);
    return self;
}
static void tofu_make_methods(PyTypeObject *type) {
    type->tp_vectorcall_offset =
        offsetof(struct __pyx_obj_8tofu_aio_4core_9_compiled_ChannelMethod, vectorcall);
    type->tp_call = PyVectorcall_Call;
    type->tp_flags |= Py_TPFLAGS_METHOD_DESCRIPTOR | Py_TPFLAGS_HAVE_VECTORCALL;
    PyType_Modified(type);
}
