/* What is done with objects faster than Cython does it. Included after Cython's structures. */

#include <stddef.h>
#include <structmember.h>

#define TOFU_FIELDS(class_, object) \
    ((struct __pyx_obj_8tofu_aio_4core_9_compiled_##class_ *)(object))

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
        PyObject_Init(self, store->type);
        PyObject_GC_Track(self);
        return self;
    }
    return store->type->tp_new(store->type, tofu_nothing, NULL);
}

static int tofu_keep(tofu_store *store, PyObject *self) {
    if (store->count == TOFU_KEPT)
        return 0;
    store->objects[store->count++] = self;
    return 1;
}

/* A field is never NULL, because Cython expects that; empty, it is None. */
static inline void tofu_set(PyObject **field, PyObject *value) {
    PyObject *old = *field;
    *field = Py_NewRef(value);
    Py_DECREF(old);
}

static inline void tofu_clear(PyObject **fields, int count) {
    for (int i = 0; i < count; i++)
        if (fields[i] != Py_None)
            tofu_set(&fields[i], Py_None);
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
    }
    Py_DECREF(type);
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

/* Cython's functions add a traceback when they raise, which takes longer than all else here. So an
   awaitable's step says in ``*over`` whether it has returned its result, and only these two
   functions raise StopIteration, where the interpreter asks for it. */
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

/* --- calls of a channel's methods --- */

static tofu_store tofu_calls;

static PyObject *tofu_new_call(PyObject *channel, int method) {
    PyObject *self = tofu_new(&tofu_calls);
    if (self != NULL) {
        tofu_set((PyObject **)&TOFU_FIELDS(Call, self)->channel, channel);
        TOFU_FIELDS(Call, self)->method = method;
    }
    return self;
}
static void tofu_dealloc_call(PyObject *self) {
    struct __pyx_obj_8tofu_aio_4core_9_compiled_Call *call = TOFU_FIELDS(Call, self);
    if (call->begun && call->__weakref__ == NULL && tofu_calls.count < TOFU_KEPT) {
        PyObject_GC_UnTrack(self);
        tofu_clear((PyObject **)&call->channel, 6);
        call->begun = 0;
        if (tofu_keep(&tofu_calls, self))
            return;
        PyObject_GC_Track(self);
    }
    tofu_calls.dealloc(self);
}
/* ``async for`` asks the type, and would find Python's wrapper of ``__anext__`` there. */
static PyObject *tofu_anext(PyObject *channel) {
    return tofu_new_call(channel, 0);
}
static PyObject *tofu_itself(PyObject *awaitable) {
    return Py_NewRef(awaitable);
}
static void tofu_make_awaitable(PyTypeObject *type, PyObject *(*step)(PyObject *, int *)) {
    tofu_step = step;
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
            || !PyObject_TypeCheck(args[0], method->owner))
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
    PyObject *pool = TOFU_FIELDS(AccountFields, permit)->pool;
    if (!PyList_CheckExact(taken) || Py_TYPE(pool) != tofu_pool)
        return 0;
    Py_ssize_t last = PyList_GET_SIZE(taken) - 1;
    PyObject *waiting = TOFU_FIELDS(PoolFields, pool)->suspended;
    PyObject *free = TOFU_FIELDS(PoolFields, pool)->free;
    /* A list that has become much shorter is left to Python, which gives memory back. */
    if (last < ((PyListObject *)taken)->allocated / 2 || PyList_GET_ITEM(taken, last) != tofu_permit
            || !PyDict_CheckExact(waiting) || PyDict_GET_SIZE(waiting) || Py_TYPE(free) != tofu_counter)
        return 0;
    Py_SET_SIZE(taken, last);
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
        if (tofu_keep(&tofu_messages, self)) {
            Py_DECREF(type);
            return;
        }
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
   be deleted, and is empty then. */
static struct PyMemberDef tofu_members[] = {
    {"body", T_OBJECT_EX, offsetof(tofu_message, body), 0, NULL},
    {"channel_number", T_OBJECT_EX, offsetof(tofu_message, channel_number), 0, NULL},
    {"headers", T_OBJECT_EX, offsetof(tofu_message, headers), 0, NULL},
    {"status", T_OBJECT_EX, offsetof(tofu_message, status), 0, NULL},
};
static int tofu_set_attribute(PyObject *self, PyObject *name, PyObject *value) {
    int result = PyObject_GenericSetAttr(self, name, value);
    if (value == NULL)
        for (size_t i = 0; i < Py_ARRAY_LENGTH(tofu_members); i++) {
            PyObject **field = (PyObject **)((char *)self + tofu_members[i].offset);
            if (*field == NULL)
                *field = Py_NewRef(Py_None);
        }
    return result;
}
static int tofu_make_members(PyTypeObject *type, PyTypeObject *base) {
    for (size_t i = 0; i < Py_ARRAY_LENGTH(tofu_members); i++) {
        PyObject *member = PyDescr_NewMember(base, &tofu_members[i]);
        if (member == NULL || PyDict_SetItemString(base->tp_dict, tofu_members[i].name, member) < 0) {
            Py_XDECREF(member);
            return -1;
        }
        Py_DECREF(member);
    }
    base->tp_setattro = type->tp_setattro = tofu_set_attribute;
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
    channel->tp_as_async->am_anext = tofu_anext;
    if (!TOFU_ALONE)
        return 0;
    message->tp_dealloc = tofu_dealloc_message;
    return tofu_make_members(message, message->tp_base);
}
