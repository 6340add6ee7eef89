/*
 * place.c: where a function is in the middle of itself, for a thread that has to give the GIL away there:
 * frame, instruction, and a fingerprint of what the function can see, so that two turns of a loop that differ
 * in anything that matters have different ones.
 *
 * The fingerprint is made of addresses and contents: objects have the same addresses when recording and when
 * replaying. Left out is what the two do not have in common: reference counts of objects that threads share,
 * and what native code may be writing without the GIL (the state of a compressor or a digest, the bytes of a
 * buffer). How much is looked at is bounded, in a fixed order.
 *
 * A second one is made of contents only, for searches, which have objects of their own and so move some of
 * the program's. What has an address in it is left out there, and so is the order of a set.
 *
 * Nothing is allocated, no code runs. The thread state may be detached: what is called here does not need it.
 */
#include "engine/compat.h"
#include <internal/pycore_dict.h>
#include <internal/pycore_long.h>
#include <internal/pycore_object.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "engine/local.h"
#include "engine/pure.h"

#define RAW_MAX 512         /* bytes of an object */
#define TABLE_MAX (1 << 16) /* bytes of a list's or dict's table */
#define DEPTH_MAX 3         /* objects in objects */
#define EACH_MAX 64         /* objects that one object refers to */
#define ALL_MAX 2000        /* objects in all */
#define GLOBALS_MAX 8       /* names that are asked for at each turn of a loop */
#define ITEMS_MAX 4096      /* items of a table, by value: the last */

/* Under the GIL: one at a time. Static, for the C stack may be nearly used up. */
static struct {
    XXH3_state_t hash;
    PyObject *names; /* co_names of the function */
    unsigned left;   /* objects that may still be looked at */
    bool addresses;  /* are they part of it? */
} look;

static void take(const void *bytes, size_t len)
{
    XXH3_64bits_update(&look.hash, bytes, len);
}

static void take_word(uint64_t word)
{
    take(&word, sizeof(word));
}

static void take_address(const void *at)
{
    if (look.addresses)
        take_word((uint64_t)(uintptr_t)at);
    else
        take_word(at != NULL);
}

static bool may_be_address(uint64_t word)
{
    return word >= 1 << 16 && word < 1ull << 47;
}

/* A structure of an object's: whatever stands there. */
static void take_raw(const void *bytes, size_t len)
{
    if (look.addresses) {
        take(bytes, len);
        return;
    }
    for (size_t at = 0; at + sizeof(uint64_t) <= len; at += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, (const char *)bytes + at, sizeof(word));
        take_word(may_be_address(word) ? 1 : word);
    }
}

/* From the start and, of what is too long, from the end. */
static void take_bounded(const void *bytes, size_t len, size_t max)
{
    take_word(len);
    if (len > max) {
        take((const char *)bytes + len - max / 2, max / 2);
        len = max / 2;
    }
    take(bytes, len);
}

/* Types whose objects are changed by native code that has given the GIL away. */
static bool changes_without_gil(PyTypeObject *type)
{
    static const char *const modules[] = {"zlib.", "_bz2.",    "_lzma.", "_hashlib.", "_md5.",  "_sha1.",
                                          "_sha",  "_blake2.", "_hmac.", "_ssl.",     "select."};
    for (size_t i = 0; i < sizeof(modules) / sizeof(modules[0]); i++)
        if (strncmp(type->tp_name, modules[i], strlen(modules[i])) == 0)
            return true;
    return false;
}

/* Large or executing things, and functions, whose version numbers depend on what the interpreter has
 * specialised: these have an address only. */
static bool has_only_address(PyObject *o)
{
    return PyType_Check(o) || PyFunction_Check(o) || PyCode_Check(o) || PyFrame_Check(o) ||
           PyTraceBack_Check(o);
}

static bool is_generator(PyObject *o)
{
    return PyGen_CheckExact(o) || PyCoro_CheckExact(o) || PyAsyncGen_CheckExact(o);
}

/* An item, by value if it is a number or a text. */
static uint64_t item_word(PyObject *o)
{
    if (!o)
        return 0;
    uint64_t word = 1;
    if (PyUnicode_CheckExact(o) && PyUnicode_IS_READY(o))
        word = XXH3_64bits(PyUnicode_DATA(o), (size_t)PyUnicode_GET_LENGTH(o) * (size_t)PyUnicode_KIND(o));
    else if (PyFloat_CheckExact(o))
        memcpy(&word, (const char *)(o + 1), sizeof(word));
    else if (PyLong_CheckExact(o))
        word = (uint64_t)TF_LONG_DIGIT(o) + 2;
    else if (PyBool_Check(o))
        word = o == Py_True ? 3 : 2;
    return word;
}

static void take_items(PyObject **items, size_t n)
{
    if (look.addresses) {
        take_bounded(items, n * sizeof(*items), TABLE_MAX);
        return;
    }
    take_word(n);
    for (size_t i = n > ITEMS_MAX ? n - ITEMS_MAX : 0; i < n; i++)
        take_word(item_word(items[i]));
}

static void take_set(PySetObject *set)
{
    size_t n = (size_t)set->mask + 1;
    if (look.addresses) {
        take_bounded(set->table, n * sizeof(setentry), TABLE_MAX);
        return;
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < n && i < ITEMS_MAX; i++)
        sum += item_word(set->table[i].key) * 0x9e3779b97f4a7c15ull;
    take_word(sum);
    take_word((uint64_t)set->used);
}

static void take_dict(PyDictObject *dict)
{
    PyDictKeysObject *keys = dict->ma_keys;
    size_t n = (size_t)keys->dk_nentries;
    take_word((uint64_t)dict->ma_used);
    take_address(keys);
    if (!look.addresses) {
        take_word(n);
        for (size_t i = n > ITEMS_MAX ? n - ITEMS_MAX : 0; i < n; i++)
            take_word(item_word(dict->ma_values       ? dict->ma_values->values[i]
                                : DK_IS_UNICODE(keys) ? DK_UNICODE_ENTRIES(keys)[i].me_value
                                                      : DK_ENTRIES(keys)[i].me_value));
        return;
    }
    if (dict->ma_values)
        take_bounded(dict->ma_values->values, n * sizeof(PyObject *), TABLE_MAX);
    else if (DK_IS_UNICODE(keys))
        take_bounded(DK_UNICODE_ENTRIES(keys), n * sizeof(PyDictUnicodeEntry), TABLE_MAX);
    else
        take_bounded(DK_ENTRIES(keys), n * sizeof(PyDictKeyEntry), TABLE_MAX);
}

/* The object itself, without what it refers to. */
static void take_object(PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    take_address(o);
    if (look.addresses)
        take_address(type);
    else
        take(type->tp_name, strlen(type->tp_name));
    if (PyUnicode_Check(o)) {
        size_t len = (size_t)PyUnicode_GET_LENGTH(o);
        if (PyUnicode_IS_READY(o))
            take_bounded(PyUnicode_DATA(o), len * (size_t)PyUnicode_KIND(o), RAW_MAX);
        return;
    }
    if (PyLong_Check(o) || PyBytes_Check(o)) { /* what follows the head: the digits, the bytes */
        size_t size = (size_t)type->tp_basicsize;
#if TF_PY311
        size_t items = (size_t)(Py_SIZE(o) < 0 ? -Py_SIZE(o) : Py_SIZE(o));
#else
        size_t items = PyLong_Check(o) ? (size_t)_PyLong_DigitCount((PyLongObject *)o) : (size_t)Py_SIZE(o);
#endif
        if (PyLong_CheckExact(o) || PyBytes_CheckExact(o))
            take_bounded((char *)o + sizeof(PyObject),
                         size - sizeof(PyObject) + items * (size_t)type->tp_itemsize, RAW_MAX);
        return;
    }
    if (PyDict_Check(o))
        take_dict((PyDictObject *)o);
    if (PyList_Check(o))
        take_items(((PyListObject *)o)->ob_item, (size_t)Py_SIZE(o));
    if (PyTuple_Check(o))
        take_items(((PyTupleObject *)o)->ob_item, (size_t)Py_SIZE(o));
    if (PyAnySet_Check(o))
        take_set((PySetObject *)o);
    if (has_only_address(o) || changes_without_gil(type))
        return;
    /* What else stands in a container is the interpreter's: versions, hashes. */
    if (!look.addresses && (PyDict_Check(o) || PyList_Check(o) || PyTuple_Check(o) || PyAnySet_Check(o)))
        return;
    if (is_generator(o)) { /* its frame is part of it, and holds what looking at it may have made */
        PyGenObject *gen = (PyGenObject *)o;
        int8_t state = gen->gi_frame_state;
        take(&state, sizeof(state));
        tf_frame *f = (tf_frame *)gen->gi_iframe;
        if (state < FRAME_COMPLETED) /* code does not move */
            take_word((uint64_t)(uintptr_t)tf_frame_instr(f));
        return;
    }
    size_t size = (size_t)type->tp_basicsize;
    if (size > RAW_MAX)
        size = RAW_MAX;
    if (size > sizeof(PyObject))
        take_raw((char *)o + sizeof(PyObject), size - sizeof(PyObject));
}

struct below {
    int depth;
    int left;
};

static void look_at(PyObject *o, int depth);

static int visit(PyObject *o, void *arg)
{
    struct below *below = arg;
    if (o && !has_only_address(o))
        look_at(o, below->depth);
    return --below->left <= 0;
}

static void look_at(PyObject *o, int depth)
{
    if (!look.left)
        return;
    look.left--;
    take_object(o);
    PyTypeObject *type = Py_TYPE(o);
    if (depth >= DEPTH_MAX || has_only_address(o) || changes_without_gil(type))
        return;
    struct below below = {depth + 1, EACH_MAX};
    /* What the function may ask such an object for are attributes; what else there is in a module is much. */
    if (look.names && (type->tp_flags & Py_TPFLAGS_HEAPTYPE || PyModule_Check(o)))
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(look.names) && i < EACH_MAX; i++) {
            PyObject *value = tf_pure_own_attribute(o, PyTuple_GET_ITEM(look.names, i));
            if (value && !has_only_address(value))
                look_at(value, depth + 1);
        }
    if (PyModule_Check(o) || PyFunction_Check(o) || (!look.addresses && PyAnySet_Check(o)))
        return;
    if (type->tp_traverse && PyObject_IS_GC(o))
        type->tp_traverse(o, visit, &below);
}

static uint64_t fingerprint(tf_frame *f, bool addresses)
{
    PyCodeObject *co = tf_frame_code(f);
    XXH3_64bits_reset(&look.hash);
    look.addresses = addresses;
    look.names = co->co_names;
    look.left = ALL_MAX;
    int depth = tf_code_depth_after(co, tf_frame_instr(f) - _PyCode_CODE(co));
    int known = co->co_nlocalsplus + (depth > 0 ? depth : 0);
    for (int i = 0; i < known; i++) {
        PyObject *o = f->localsplus[i];
        take_address(o);
        if (o)
            look_at(o, 0);
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(co->co_names); i++) {
        PyObject *o = NULL, *name = PyTuple_GET_ITEM(co->co_names, i);
        if (f->f_locals && f->f_locals != f->f_globals && PyDict_CheckExact(f->f_locals))
            o = tf_pure_dict_item(f->f_locals, name);
        if (!o && f->f_globals && PyDict_CheckExact(f->f_globals))
            o = tf_pure_dict_item(f->f_globals, name);
        take_address(o);
        if (o)
            look_at(o, 0);
    }
    return XXH3_64bits_digest(&look.hash);
}

static uint64_t mix(uint64_t h, const PyObject *object)
{
    uint64_t word = object ? (uint64_t)(uintptr_t)Py_TYPE(object) : 0, value = 0;
    if (object && (PyLong_CheckExact(object) || PyFloat_CheckExact(object)))
        memcpy(&value, (const char *)(object + 1),
               sizeof(value)); /* the size and the low digits; the number */
    if (object && PyLong_CheckExact(object))
        word ^= (uint64_t)TF_LONG_DIGIT(object) << 20;
    h = (h ^ word ^ value) * 0x9e3779b97f4a7c15ull;
    return h ^ h >> 29;
}

/* Of the variables: of what type they are, and the value of what is a number. No addresses: a search, whose
 * own objects may have moved some of the program's, goes by this alone. Asked at each turn of a loop. */
static uint64_t quick(tf_frame *f)
{
    PyCodeObject *co = tf_frame_code(f);
    uint64_t h = 0;
    for (int i = 0; i < co->co_nlocalsplus; i++)
        h = mix(h, f->localsplus[i]);
    /* So that a loop that changes global variables only is told from itself, too. */
    if (f->f_globals && PyDict_CheckExact(f->f_globals))
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(co->co_names) && i < GLOBALS_MAX; i++)
            h = mix(h, tf_pure_dict_item(f->f_globals, PyTuple_GET_ITEM(co->co_names, i)));
    return h;
}

void tf_place(struct tf_preempt *place, bool full)
{
    PyThreadState *ts = PyGILState_GetThisThreadState();
    tf_frame *f = ts ? tf_current_frame(ts) : NULL;
    while (f && tf_frame_is_entry(f))
        f = f->previous;
    place->frame = (uint64_t)(uintptr_t)f;
    place->instruction = f ? (uint64_t)(uintptr_t)tf_frame_instr(f) : 0;
    place->variables = f ? quick(f) : 0;
    place->fingerprint = f && full ? fingerprint(f, true) : 0;
    place->values = f && full ? fingerprint(f, false) : 0;
}

size_t tf_thread_name(void *frame, char *buf, size_t size)
{
    static const char path[] = "threading.py";
    char text[4096];
    if (size)
        buf[0] = 0;
    tf_frame *f = frame;
    if (!f)
        return 0;
    PyCodeObject *co = tf_frame_code(f);
    size_t len = tf_utf8(co->co_qualname, text, sizeof(text));
    if (len != strlen("Thread._bootstrap") || strcmp(text, "Thread._bootstrap") != 0)
        return 0;
    len = tf_utf8(co->co_filename, text, sizeof(text));
    if (len < strlen(path) || strcmp(text + len - strlen(path), path) != 0)
        return 0;
    PyObject *self = f->localsplus[0], *name = self ? tf_pure_named_attribute(self, "_name") : NULL;
    return name && PyUnicode_Check(name) ? tf_utf8(name, buf, size) : 0;
}
