/* What is done with objects faster than Cython does it. Included after Cython's structures. */

#include <stddef.h>
#include <structmember.h>

#define TOFU_FIELDS(class_, object) \
    ((struct __pyx_obj_8tofu_aio_4core_9_compiled_##class_ *)(object))

#define TOFU(number) __pyx_e_8tofu_aio_4core_9_compiled_##number

#define TOFU_BIG16(p) (((unsigned)(p)[0] << 8) | (p)[1])

static inline unsigned long long tofu_big64(const unsigned char *p) {
    unsigned long long value = 0;
    for (int i = 0; i < 8; i++) value = value << 8 | p[i];
    return value;
}

static inline void tofu_put_header(unsigned char *p, unsigned channel, unsigned proto,
        unsigned status, unsigned long long id, unsigned headers, unsigned body) {
    p[0] = channel >> 8; p[1] = channel; p[2] = proto; p[3] = status;
    for (int i = 0; i < 8; i++) p[4 + i] = (unsigned char)(id >> (56 - 8 * i));
    p[12] = headers >> 8; p[13] = headers; p[14] = body >> 8; p[15] = body;
}

/* --- threads --- */

/* Whether C code runs alone, as with the GIL. Otherwise a number that other threads change is
   changed in one step, as CPython counts references, and a reference that they read or change is
   changed and read while its object is locked, as by Cython's attributes. */
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

/* --- objects that are kept for the next use --- */

#define TOFU_KEPT 256
typedef struct {
    PyTypeObject *type;
    destructor dealloc;  /* of those that are not kept */
    Py_ssize_t count;
    PyObject *objects[TOFU_KEPT];
} tofu_store;

static PyObject *tofu_nothing;  /* the empty tuple */

static PyObject *tofu_new(tofu_store *store) {
    if (store->count) {
        PyObject *self = store->objects[--store->count];
#ifdef Py_REF_DEBUG
        PyObject_Init(self, store->type);
#else
        Py_SET_REFCNT(self, 1);  /* the rest it has kept, with the reference to its type */
#endif
        PyObject_GC_Track(self);
        return self;
    }
    return store->type->tp_new(store->type, tofu_nothing, NULL);
}

static int tofu_keep(tofu_store *store, PyObject *self) {
    if (store->count == TOFU_KEPT)
        return 0;
    store->objects[store->count++] = self;
#ifdef Py_REF_DEBUG
    if (store->type->tp_flags & Py_TPFLAGS_HEAPTYPE)
        Py_DECREF(store->type);
#endif
    return 1;
}

/* A field is never NULL, because Cython expects that; empty, it is None. Only those of a message that
   are members, see below, may be. */
static inline void tofu_set(PyObject **field, PyObject *value) {
    PyObject *old = *field;
    *field = Py_NewRef(value);
    Py_DECREF(old);
}

static inline void tofu_clear(PyObject **fields, int count) {
    for (int i = 0; i < count; i++) {
        PyObject *old = fields[i];
        if (old != Py_None) {
            fields[i] = Py_NewRef(Py_None);
            Py_XDECREF(old);
        }
    }
}

/* Lists that live for one read of a transport, with the memory for their items. While they are kept,
   the garbage collector does not know them: gc.freeze() would have it never look at them again. */
#define TOFU_ROOMY 64
static PyObject *tofu_lists[8];
static int tofu_lists_count;

static PyObject *tofu_new_list(void) {
    if (!tofu_lists_count)
        return PyList_New(0);
    PyObject *list = tofu_lists[--tofu_lists_count];
    PyObject_GC_Track(list);
    return list;
}
/* The caller drops its reference next; if there is no other, the list is kept, without its items. */
static void tofu_drop_list(PyObject *list) {
    if (!TOFU_ALONE || !PyList_CheckExact(list) || Py_REFCNT(list) != 1
            || ((PyListObject *)list)->allocated > TOFU_ROOMY)
        return;
    while (PyList_GET_SIZE(list)) {
        Py_ssize_t last = PyList_GET_SIZE(list) - 1;
        PyObject *item = PyList_GET_ITEM(list, last);
        Py_SET_SIZE(list, last);
        Py_DECREF(item);
    }
    if (tofu_lists_count < 8 && Py_REFCNT(list) == 1) {
        PyObject_GC_UnTrack(list);
        tofu_lists[tofu_lists_count++] = Py_NewRef(list);
    }
}

static PyObject *tofu_pop_last(PyObject *list) {
    Py_ssize_t last = PyList_GET_SIZE(list) - 1;
    PyObject *item = PyList_GET_ITEM(list, last);
    Py_SET_SIZE(list, last);
    return item;
}

/* As PyList_Append, but faster where the list has room. */
static inline int tofu_append(PyObject *list, PyObject *item) {
    Py_ssize_t size = PyList_GET_SIZE(list);
    if (!TOFU_ALONE || size >= ((PyListObject *)list)->allocated)
        return PyList_Append(list, item);
    Py_SET_SIZE(list, size + 1);
    PyList_SET_ITEM(list, size, Py_NewRef(item));
    return 0;
}

/* --- results of awaitables --- */

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
    if (result->args == NULL || !tofu_keep(&tofu_results, self)) {
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
    if (self != NULL) {
        tofu_set(&((tofu_waiter *)self)->_loop, loop);
        ((tofu_waiter *)self)->vectorcall = (void *)tofu_call_waiter;
    }
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
/* Take the first message out of a mailbox; NULL, without an error, if there is none. */
static PyObject *tofu_take_first(tofu_mailbox *mailbox) {
    PyObject *items = (PyObject *)mailbox == Py_None ? Py_None : mailbox->items;
    if (Py_TYPE(items) != tofu_inbox)
        return NULL;
    PyObject *list = TOFU_FIELDS(Inbox, items)->items;
    Py_ssize_t first = TOFU_FIELDS(Inbox, items)->first, size = PyList_GET_SIZE(list);
    if (first >= size)
        return NULL;
    PyObject *item = PyList_GET_ITEM(list, first);
    PyList_SET_ITEM(list, first, Py_NewRef(Py_None));
    TOFU_FIELDS(Inbox, items)->first = ++first;  /* small, the list goes with its inbox */
    if (first == size && size > TOFU_ROOMY) {
        TOFU_FIELDS(Inbox, items)->first = 0;
        PyList_SetSlice(list, 0, size, NULL);
    }
    return item;
}
/* Cython's functions add a traceback when they raise, which takes longer than all else here. So a
   call says in ``*over`` whether it has returned its result, and only ``tofu_next`` and
   ``tofu_send`` raise StopIteration, where the interpreter asks for it. */
static PyObject *tofu_step(PyObject *self, int *over) {
    tofu_call *call = (tofu_call *)self;
    if (!call->begun) {
        PyObject *result;
        call->begun = 1;
        if (call->method <= TOFU(RECEIVE)) {
            result = tofu_take_first(call->channel->_mailbox);
        } else {
            int done = tofu_begin(self);
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
    return tofu_wait(self, over);
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
        if ((PyObject *)call->channel != Py_None)
            tofu_finish(call);
        call->begun = 0;
        if (tofu_keep(&tofu_calls, self))
            return;
        PyObject_GC_Track(self);
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
    type->tp_flags |= Py_TPFLAGS_METHOD_DESCRIPTOR | Py_TPFLAGS_HAVE_VECTORCALL;
    PyType_Modified(type);
}

/* --- frames --- */

typedef struct __pyx_obj_8tofu_aio_4core_9_compiled_QueueFields tofu_queue;

/* Add a piece of ``size`` bytes to the queued ones; return where to write it. Short frames are put
   into one piece: only this queue knows it, so its end can move as far as it has room. ``limit`` is
   what a piece with a long body has at least. */
static unsigned char *tofu_room(tofu_queue *queue, Py_ssize_t size, Py_ssize_t limit) {
    PyObject *list = queue->frames, *piece = queue->last;
    Py_ssize_t count = PyList_CheckExact(list) ? PyList_GET_SIZE(list) : 0, used = 0;
    if (TOFU_ALONE && count && PyList_GET_ITEM(list, count - 1) == piece
            && Py_REFCNT(piece) == 2 && Py_SIZE(piece) + size < limit) {
        used = Py_SIZE(piece);
        size += used;
        if (size > queue->room) {
            PyObject *larger = PyBytes_FromStringAndSize(NULL, 2 * size);
            if (larger == NULL)
                return NULL;
            memcpy(PyBytes_AS_STRING(larger), PyBytes_AS_STRING(piece), used);
            queue->room = 2 * size;
            tofu_set(&queue->last, larger);
            PyList_SetItem(list, count - 1, larger);
            piece = larger;
        }
        Py_SET_SIZE(piece, size);
        PyBytes_AS_STRING(piece)[size] = 0;
        return (unsigned char *)PyBytes_AS_STRING(piece) + used;
    }
    piece = PyBytes_FromStringAndSize(NULL, size);
    if (piece == NULL)
        return NULL;
    if (!PyList_CheckExact(queue->frames)) {
        PyObject *fresh = tofu_new_list();
        if (fresh == NULL) {
            Py_DECREF(piece);
            return NULL;
        }
        if (!PyList_CheckExact(queue->frames))  /* else a finalizer has queued a frame meanwhile */
            tofu_set(&queue->frames, fresh);
        Py_DECREF(fresh);
    }
    int failed = tofu_append(queue->frames, piece);
    tofu_set(&queue->last, failed ? Py_None : piece);
    queue->room = size;
    Py_DECREF(piece);
    return failed ? NULL : (unsigned char *)PyBytes_AS_STRING(piece);
}

/* --- messages --- */

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

/* The interpreter reads a member much faster than an attribute that has a function. A member that
   was deleted is NULL, as a slot in Python. */
static struct PyMemberDef tofu_members[] = {
    {"body", T_OBJECT_EX, offsetof(tofu_message, body), 0, NULL},
    {"channel_number", T_OBJECT_EX, offsetof(tofu_message, channel_number), 0, NULL},
    {"headers", T_OBJECT_EX, offsetof(tofu_message, headers), 0, NULL},
    {"status", T_OBJECT_EX, offsetof(tofu_message, status), 0, NULL},
};
static inline int tofu_is_whole(tofu_message *message) {
    return message->body != NULL && message->headers != NULL && message->status != NULL;
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
