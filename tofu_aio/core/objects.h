/* What is done with objects faster than Cython does it: threads, what is kept for the next use, lists.
   This and the other headers are included after Cython's structures. */

#pragma once

#include <stddef.h>
#include <structmember.h>

#define TOFU_FIELDS(class_, object) \
    ((struct __pyx_obj_8tofu_aio_4core_9_compiled_##class_ *)(object))

#define TOFU(number) __pyx_e_8tofu_aio_4core_9_compiled_##number

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

/* A field is never NULL, because Cython expects that; empty, it is None. Only the members of a
   message are NULL after they were deleted. */
static inline void tofu_set(PyObject **field, PyObject *value) {
    PyObject *old = *field;
    *field = Py_NewRef(value);
    Py_XDECREF(old);
}

static inline void tofu_clear(PyObject **fields, int count) {
    for (int i = 0; i < count; i++)
        if (fields[i] != Py_None)
            tofu_set(&fields[i], Py_None);
}

/* Lists that live for one read of a transport, with the memory for their items. */
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
        PyObject_GC_UnTrack(list);  /* or gc.freeze() would keep it, and what it will have, for good */
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
