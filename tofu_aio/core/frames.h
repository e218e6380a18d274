/* The bytes of frames. */

#pragma once
#include "objects.h"

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

/* Take back the last ``size`` bytes that were given to write a frame to. */
static void tofu_take_back(tofu_queue *queue, Py_ssize_t size) {
    PyObject *list = queue->frames, *piece = PyList_GET_ITEM(list, PyList_GET_SIZE(list) - 1);
    if (Py_SIZE(piece) == size) {
        tofu_set(&queue->last, Py_None);
        Py_DECREF(tofu_pop_last(list));
    } else {
        Py_SET_SIZE(piece, Py_SIZE(piece) - size);
        PyBytes_AS_STRING(piece)[Py_SIZE(piece)] = 0;
    }
}
