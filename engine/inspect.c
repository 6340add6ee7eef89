/*
 * inspect.c: answers questions about a stopped program: stack, variables, expressions.
 *
 * Runs in a fork of the stopped process that is thrown away, so nothing here has to be put back: tracing, the
 * hook and the exception in flight are put away, limits are raised, and the program's own code (reprs,
 * expressions) runs as it likes.
 */
#include "engine/local.h"
#include "engine/pure.h"
#include <structmember.h>
#include <time.h>

#define HEADROOM 1000 /* calls that a repr may make, even where the program has used up its own limit */

static void send(int type, const void *a, size_t alen, const void *b, size_t blen, const void *c, size_t clen)
{
    tf_state.core->item(type, a, alen, b, blen, c, clen);
}

/* Bytes that can always be made; NULL only without memory. */
static PyObject *encoded(PyObject *str)
{
    PyObject *bytes = PyUnicode_AsEncodedString(str, "utf-8", "backslashreplace");
    if (!bytes)
        PyErr_Clear();
    return bytes;
}

static PyObject *type_name(PyTypeObject *type, bool short_main)
{
    PyObject *name = PyObject_GetAttrString((PyObject *)type, "__qualname__");
    PyObject *module = PyObject_GetAttrString((PyObject *)type, "__module__");
    PyErr_Clear();
    PyObject *full = NULL;
    if (name && PyUnicode_Check(name)) {
        if (!module || !PyUnicode_Check(module) ||
            PyUnicode_CompareWithASCIIString(module, "builtins") == 0 ||
            (short_main && PyUnicode_CompareWithASCIIString(module, "__main__") == 0))
            full = Py_NewRef(name);
        else
            full = PyUnicode_FromFormat("%U.%U", module, name);
    }
    if (!full) {
        PyErr_Clear();
        full = PyUnicode_FromString(type->tp_name);
    }
    Py_XDECREF(name);
    Py_XDECREF(module);
    PyObject *bytes = full ? encoded(full) : NULL;
    Py_XDECREF(full);
    PyErr_Clear();
    return bytes;
}

/* Takes the raised exception. */
static PyObject *take_exception(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

/* "ValueError: no such order" */
static PyObject *error_text(PyObject *value)
{
    if (!value)
        return PyBytes_FromString("unknown error");
    PyObject *type = type_name(Py_TYPE(value), true), *text = NULL, *message = NULL;
    if (PyObject_IsInstance(value, PyExc_SyntaxError) == 1)
        text = PyObject_GetAttrString(value, "msg");
    PyErr_Clear();
    if (!text || !PyUnicode_Check(text)) {
        Py_XDECREF(text);
        text = PyObject_Str(value);
    }
    PyErr_Clear();
    message = text ? encoded(text) : PyBytes_FromString("<exception str() failed>");
    Py_XDECREF(text);
    PyObject *result = NULL;
    if (type && message && PyBytes_GET_SIZE(message))
        result = PyBytes_FromFormat("%s: ", PyBytes_AS_STRING(type));
    else if (type)
        result = Py_NewRef(type);
    if (result && message && PyBytes_GET_SIZE(message))
        PyBytes_Concat(&result, message); /* may hold NULs: no format */
    Py_XDECREF(type);
    Py_XDECREF(message);
    PyErr_Clear();
    return result ? result : PyBytes_FromString("MemoryError");
}

static PyObject *repr_of(PyObject *value)
{
    PyObject *repr = PyObject_Repr(value);
    PyObject *bytes = repr ? encoded(repr) : NULL;
    Py_XDECREF(repr);
    if (bytes)
        return bytes;
    PyObject *error = take_exception(), *text = error_text(error);
    PyObject *result = PyBytes_FromString("<repr raised ");
    if (result)
        PyBytes_ConcatAndDel(&result, text);
    if (result)
        PyBytes_ConcatAndDel(&result, PyBytes_FromString(">"));
    PyErr_Clear();
    Py_XDECREF(error);
    return result ? result : PyBytes_FromString("<repr raised MemoryError>");
}

static void send_value(int item, const char *name, size_t name_len, PyObject *value)
{
    PyObject *type = type_name(Py_TYPE(value), false), *repr = repr_of(value);
    if (type && repr)
        send(item, name, name_len, PyBytes_AS_STRING(type), (size_t)PyBytes_GET_SIZE(type) + 1,
             PyBytes_AS_STRING(repr), (size_t)PyBytes_GET_SIZE(repr));
    Py_XDECREF(type);
    Py_XDECREF(repr);
}

/* ---- Stack. */

/* leaves: the innermost function is about to, if the stop is at an exit. */
static void send_stack(tf_frame *f, bool leaves)
{
    for (; f; f = tf_frame_complete(f->previous)) {
        PyCodeObject *co = tf_frame_code(f);
        int line = tf_frame_line(f);
        uint32_t number = line > 0 ? (uint32_t)line : 0;
        PyObject *file = encoded(co->co_filename), *name = encoded(co->co_qualname);
        if (file && name)
            send(TF_ITEM_FRAME, &number, sizeof(number), PyBytes_AS_STRING(file),
                 (size_t)PyBytes_GET_SIZE(file) + 1, PyBytes_AS_STRING(name),
                 (size_t)PyBytes_GET_SIZE(name) + 1);
        Py_XDECREF(file);
        Py_XDECREF(name);
    }
    PyObject *value = tf_exit_value.value;
    if (!leaves)
        return;
    if (tf_exit_value.event == TF_UNWIND) {
        PyObject *type = value ? type_name(Py_TYPE(value), false) : PyBytes_FromString("");
        PyObject *str = value ? PyObject_Str(value) : NULL;
        PyErr_Clear();
        PyObject *text = str ? encoded(str) : PyBytes_FromString(value ? "<exception str() failed>" : "");
        if (type && text)
            send(TF_ITEM_RAISED, PyBytes_AS_STRING(type), (size_t)PyBytes_GET_SIZE(type) + 1,
                 PyBytes_AS_STRING(text), (size_t)PyBytes_GET_SIZE(text), NULL, 0);
    } else if (tf_exit_value.event >= 0 && value) {
        send_value(TF_ITEM_RETURNED, NULL, 0, value);
    }
}

/* ---- Threads. */

/* What threading calls the thread; NULL: it does not know it. New reference. */
static PyObject *name_of_thread(PyThreadState *ts)
{
    PyObject *modules = PyImport_GetModuleDict();
    PyObject *module = modules ? PyDict_GetItemString(modules, "threading") : NULL; /* borrowed */
    PyObject *active = module ? PyObject_GetAttrString(module, "_active") : NULL;
    PyObject *ident = PyLong_FromUnsignedLong(ts->thread_id);
    PyObject *thread = active && ident && PyDict_Check(active) ? PyDict_GetItem(active, ident) : NULL;
    PyObject *name = thread ? PyObject_GetAttrString(thread, "_name") : NULL;
    if (name && !PyUnicode_Check(name))
        Py_CLEAR(name);
    Py_XDECREF(active);
    Py_XDECREF(ident);
    PyErr_Clear();
    return name;
}

static void send_thread(PyThreadState *ts, uint32_t number, int32_t tid, bool runs)
{
    tf_frame *f = tf_frame_complete(tf_current_frame(ts));
    int at = f ? tf_frame_line(f) : 0;
    uint32_t is_this = runs, line = at > 0 ? (uint32_t)at : f ? 1 : 0;
    uint64_t id = (uint64_t)tid;
    char head[20];
    PyObject *known = name_of_thread(ts);
    PyObject *name = known ? encoded(known) : PyBytes_FromString("");
    PyObject *file = f ? encoded(tf_frame_code(f)->co_filename) : PyBytes_FromString("");
    PyObject *function = f ? encoded(tf_frame_code(f)->co_qualname) : PyBytes_FromString("");
    PyObject *texts = name && file && function
                          ? PyBytes_FromFormat("%s%c%s%c%s%c", PyBytes_AS_STRING(name), 0,
                                               PyBytes_AS_STRING(file), 0, PyBytes_AS_STRING(function), 0)
                          : NULL;
    memcpy(head, &number, 4);
    memcpy(head + 4, &is_this, 4);
    memcpy(head + 8, &id, 8);
    memcpy(head + 16, &line, 4);
    if (texts)
        send(TF_ITEM_THREAD, head, sizeof(head), PyBytes_AS_STRING(texts), (size_t)PyBytes_GET_SIZE(texts),
             NULL, 0);
    Py_XDECREF(known);
    Py_XDECREF(name);
    Py_XDECREF(file);
    Py_XDECREF(function);
    Py_XDECREF(texts);
    PyErr_Clear();
}

/* By number; those that have not begun to run have none yet. */
static void send_threads(PyThreadState *here)
{
    int64_t last = -1;
    for (;;) {
        PyThreadState *next = NULL;
        int64_t least = INT64_MAX;
        int32_t tid = 0, its;
        for (PyThreadState *ts = PyInterpreterState_ThreadHead(here->interp); ts;
             ts = PyThreadState_Next(ts)) {
            int64_t number = tf_thread_number(ts, &its);
            if (number > last && number < least) {
                next = ts;
                least = number;
                tid = its;
            }
        }
        if (!next)
            return;
        send_thread(next, (uint32_t)least, tid, next == here);
        last = least;
    }
}

/* ---- Variables. */

PyObject *tf_frame_local(tf_frame *f, PyCodeObject *co, int i)
{
    char kind = PyBytes_AS_STRING(co->co_localspluskinds)[i];
    PyObject *value = f->localsplus[i];
    if (kind & CO_FAST_FREE) {
        /* A generator that never ran has its free variables still in the function only. */
        PyObject *func = tf_frame_func(f);
        if (!value && func && PyFunction_Check(func)) {
            PyObject *closure = ((PyFunctionObject *)func)->func_closure;
            int first = co->co_nlocalsplus - co->co_nfreevars;
            if (closure && i >= first && i - first < PyTuple_GET_SIZE(closure))
                value = PyTuple_GET_ITEM(closure, i - first);
        }
        return value && PyCell_Check(value) ? PyCell_GET(value) : value;
    }
    if ((kind & CO_FAST_CELL) && value && PyCell_Check(value))
        return PyCell_GET(value);
    return value;
}

/* Calls see(name, value) for each variable of the frame, or each parameter, until it says false. */
typedef bool (*see_fn)(PyObject *name, PyObject *value, void *arg);

static void each_local(tf_frame *f, bool parameters, see_fn see, void *arg)
{
    PyCodeObject *co = tf_frame_code(f);
    int count = co->co_nlocalsplus;
    if (parameters)
        count = co->co_argcount + co->co_kwonlyargcount + ((co->co_flags & CO_VARARGS) != 0) +
                ((co->co_flags & CO_VARKEYWORDS) != 0);
    for (int i = 0; i < count; i++) {
        PyObject *value = tf_frame_local(f, co, i);
        if (!value)
            continue;
        Py_INCREF(value);
        bool go_on = see(PyTuple_GET_ITEM(co->co_localsplusnames, i), value, arg);
        Py_DECREF(value);
        if (!go_on)
            return;
    }
    if (parameters || (co->co_flags & CO_OPTIMIZED) || !f->f_locals)
        return;
    PyObject *items = PyMapping_Items(f->f_locals); /* a copy: reprs may change the namespace */
    if (!items) {
        PyErr_Clear();
        return;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items); i++) {
        PyObject *pair = PyList_GET_ITEM(items, i);
        if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2 ||
            !PyUnicode_Check(PyTuple_GET_ITEM(pair, 0)))
            continue;
        if (!see(PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1), arg))
            break;
    }
    Py_DECREF(items);
}

struct sending {
    bool function; /* of a function: every name; else without those that the machinery puts in */
    uint32_t from, number;
};

static bool send_local(PyObject *name, PyObject *value, void *arg)
{
    struct sending *s = arg;
    PyObject *text = encoded(name);
    if (!text)
        return true;
    const char *t = PyBytes_AS_STRING(text);
    Py_ssize_t len = PyBytes_GET_SIZE(text);
    bool dunder = len > 4 && t[0] == '_' && t[1] == '_' && t[len - 1] == '_' && t[len - 2] == '_';
    if ((s->function || !dunder) && s->number++ >= s->from) {
        PyObject *type = type_name(Py_TYPE(value), false);
        if (type)
            send(TF_ITEM_TRIES, t, (size_t)len + 1, PyBytes_AS_STRING(type),
                 (size_t)PyBytes_GET_SIZE(type) + 1, NULL, 0);
        Py_XDECREF(type);
        send_value(TF_ITEM_LOCAL, t, (size_t)len + 1, value);
    }
    Py_DECREF(text);
    return true;
}

/* ---- Expressions. */

static bool put_name(PyObject *name, PyObject *value, void *arg)
{
    if (PyDict_SetItem(arg, name, value) < 0)
        PyErr_Clear();
    return true;
}

/* The object that a question is about; borrowed. */
static PyObject *subject;

/* Is it in one of the collector's lists, or of a kind that need not be? Whatever memory this is. */
static bool is_tracked(PyObject *object)
{
    PyGC_Head *head = (PyGC_Head *)object - 1;
    if (!tf_state.core->mapped((uint64_t)(uintptr_t)head, sizeof(*head)))
        return false;
    uintptr_t next = head->_gc_next, previous = head->_gc_prev & ~(uintptr_t)3;
    if (!next) /* not tracked */
        return PyDict_CheckExact(object) || PyTuple_CheckExact(object);
    /* Later releases of 3.13 put the heads of the lists at any multiple of 4. */
    if (next % 4 || !tf_state.core->mapped(next, sizeof(PyGC_Head)) ||
        !tf_state.core->mapped(previous, sizeof(PyGC_Head)))
        return false;
    return (((PyGC_Head *)next)->_gc_prev & ~(uintptr_t)3) == (uintptr_t)head &&
           ((PyGC_Head *)previous)->_gc_next == (uintptr_t)head;
}

/*
 * The memory may be anything: not mapped, free, something else. An object that is gone has no references; one
 * that was never there is not in the lists of the garbage collector.
 */
PyObject *tf_object_at(uint64_t address, uint64_t type)
{
    if (!address || address % sizeof(void *) || !tf_state.core->mapped(address, sizeof(PyObject)))
        return NULL;
    PyObject *object = (PyObject *)(uintptr_t)address;
    return (uint64_t)(uintptr_t)Py_TYPE(object) == type && Py_REFCNT(object) > 0 && is_tracked(object)
               ? object
               : NULL;
}

/* One namespace for all: nested scopes of an expression (generators, lambdas) see globals only. */
static PyObject *merged_namespace(tf_frame *f, PyObject *globals, bool innermost)
{
    if (f && f->f_globals)
        globals = f->f_globals;
    PyObject *ns = globals && PyDict_Check(globals) ? PyDict_Copy(globals) : PyDict_New();
    if (!ns)
        return NULL;
    if (f)
        each_local(f, false, put_name, ns);
    PyObject *builtins = f && f->f_builtins ? f->f_builtins : PyEval_GetBuiltins();
    if (PyDict_SetItemString(ns, "__builtins__", builtins) < 0)
        PyErr_Clear();
    if (subject && PyDict_SetItemString(ns, "_", subject) < 0)
        PyErr_Clear();
    if (innermost && tf_exit_value.event >= 0 && tf_exit_value.value &&
        PyDict_SetItemString(ns, tf_exit_value.event == TF_UNWIND ? "__exception__" : "__return__",
                             tf_exit_value.value) < 0)
        PyErr_Clear();
    return ns;
}

static void send_error(const char *text, size_t len)
{
    send(TF_ITEM_ERROR, text, len, NULL, 0, NULL, 0);
}

static void send_raised(void)
{
    PyObject *error = take_exception(), *text = error_text(error);
    if (text)
        send_error(PyBytes_AS_STRING(text), (size_t)PyBytes_GET_SIZE(text));
    Py_XDECREF(text);
    Py_XDECREF(error);
}

static void flush(const char *name)
{
    PyObject *file = PySys_GetObject(name); /* borrowed, but the program may replace it meanwhile */
    if (!file || file == Py_None)
        return;
    Py_INCREF(file);
    Py_XDECREF(PyObject_CallMethod(file, "flush", NULL));
    PyErr_Clear();
    Py_DECREF(file);
}

/* New reference, or NULL with an exception. */
static PyObject *value_of(tf_frame *f, PyObject *globals, bool innermost, const char *text, size_t len)
{
    while (len && (*text == ' ' || *text == '\t' || *text == '\n' || *text == '\r')) {
        text++;
        len--;
    }
    if (memchr(text, 0, len)) {
        PyErr_SetString(PyExc_SyntaxError, "source code string cannot contain null bytes");
        return NULL;
    }
    PyObject *source = PyBytes_FromStringAndSize(text, (Py_ssize_t)len), *ns = NULL, *code = NULL,
             *value = NULL;
    if (!source)
        goto done;
    /* Await is let through the compiler to be told from other mistakes. */
    PyCompilerFlags flags = {.cf_flags =
                                 PyCF_ALLOW_TOP_LEVEL_AWAIT | PyCF_IGNORE_COOKIE | PyCF_SOURCE_IS_UTF8,
                             .cf_feature_version = PY_MINOR_VERSION};
    if (f)
        flags.cf_flags |= tf_frame_code(f)->co_flags & PyCF_MASK;
    code = Py_CompileStringExFlags(PyBytes_AS_STRING(source), "<timefork>", Py_eval_input, &flags, -1);
    if (!code)
        goto done;
    if (((PyCodeObject *)code)->co_flags & (CO_COROUTINE | CO_ASYNC_GENERATOR)) {
        PyErr_SetString(PyExc_SyntaxError,
                        "await is not supported in expressions: the event loop of the past stands still");
        goto done;
    }
    ns = merged_namespace(f, globals, innermost);
    if (ns)
        value = PyEval_EvalCode(code, ns, ns);
done:
    Py_XDECREF(source);
    Py_XDECREF(code);
    Py_XDECREF(ns);
    return value;
}

PyObject *tf_evaluate(tf_frame *frame, PyObject *globals, const char *text, size_t len)
{
    return value_of(frame, globals, true, text, len);
}

/* The value's repr in lines. Bytes; NULL if pprint cannot do it. */
static PyObject *pretty(PyObject *value)
{
    PyObject *module = PyImport_ImportModule("pprint");
    PyObject *text = module ? PyObject_CallMethod(module, "pformat", "(O)", value) : NULL;
    PyObject *bytes = text && PyUnicode_Check(text) ? encoded(text) : NULL;
    Py_XDECREF(module);
    Py_XDECREF(text);
    PyErr_Clear();
    return bytes;
}

static void send_pretty(PyObject *value)
{
    PyObject *text = pretty(value), *type = type_name(Py_TYPE(value), false);
    if (text && type)
        send(TF_ITEM_VALUE, PyBytes_AS_STRING(type), (size_t)PyBytes_GET_SIZE(type) + 1,
             PyBytes_AS_STRING(text), (size_t)PyBytes_GET_SIZE(text), NULL, 0);
    else
        send_value(TF_ITEM_VALUE, NULL, 0, value);
    Py_XDECREF(text);
    Py_XDECREF(type);
}

/* ---- Children of an object. */

struct children {
    enum { ITEMS_NONE, ITEMS_SEQUENCE, ITEMS_MAPPING, ITEMS_SET } kind;
    PyObject *items;      /* a list; of (key, value) for a mapping. NULL: none. Strong, as all here */
    PyObject *attributes; /* a list of (name, value) */
};

/* Raw pairs: what a subclass does with its items is not asked. */
static PyObject *dict_pairs(PyObject *dict)
{
    PyObject *pairs = PyList_New(0), *key, *value;
    Py_ssize_t at = 0;
    while (pairs && PyDict_Next(dict, &at, &key, &value)) {
        PyObject *pair = PyTuple_Pack(2, key, value);
        if (!pair || PyList_Append(pairs, pair) < 0)
            PyErr_Clear();
        Py_XDECREF(pair);
    }
    return pairs;
}

static void take_items(PyObject *o, struct children *c)
{
    if (PyList_Check(o)) {
        c->kind = ITEMS_SEQUENCE;
        c->items = PyList_GetSlice(o, 0, PyList_GET_SIZE(o));
    } else if (PyTuple_Check(o)) {
        c->kind = ITEMS_SEQUENCE;
        c->items = PyList_New(PyTuple_GET_SIZE(o));
        for (Py_ssize_t i = 0; c->items && i < PyTuple_GET_SIZE(o); i++)
            PyList_SET_ITEM(c->items, i, Py_NewRef(PyTuple_GET_ITEM(o, i)));
    } else if (PyDict_Check(o)) {
        c->kind = ITEMS_MAPPING;
        c->items = dict_pairs(o);
    } else if (PyAnySet_Check(o)) {
        c->kind = ITEMS_SET;
        c->items = PySequence_List(o);
    } else if (PyRange_Check(o) || strcmp(Py_TYPE(o)->tp_name, "collections.deque") == 0 ||
               strcmp(Py_TYPE(o)->tp_name, "array.array") == 0) {
        c->kind = ITEMS_SEQUENCE;
        c->items = PySequence_List(o);
    } else if (!PyType_Check(o) && PyMapping_Check(o) && PyObject_HasAttrString(o, "keys")) {
        c->kind = ITEMS_MAPPING;
        c->items = PyMapping_Items(o);
    }
    PyErr_Clear();
}

static void add_attribute(PyObject *list, PyObject *name, PyObject *value)
{
    PyObject *pair = PyTuple_Pack(2, name, value);
    if (!pair || PyList_Append(list, pair) < 0)
        PyErr_Clear();
    Py_XDECREF(pair);
}

/* Attributes that stand in slots, the base classes' first. */
static void take_slots(PyObject *o, PyObject *list)
{
    PyObject *mro = Py_TYPE(o)->tp_mro;
    for (Py_ssize_t i = mro ? PyTuple_GET_SIZE(mro) : 0; i-- > 0;) {
        PyTypeObject *type = (PyTypeObject *)PyTuple_GET_ITEM(mro, i);
        if (!PyType_Check((PyObject *)type) || !(type->tp_flags & Py_TPFLAGS_HEAPTYPE))
            continue;
        PyObject *dict = PyObject_GetAttrString((PyObject *)type, "__dict__");
        PyObject *pairs = dict ? PyMapping_Items(dict) : NULL;
        for (Py_ssize_t k = 0; pairs && k < PyList_GET_SIZE(pairs); k++) {
            PyObject *name = PyTuple_GET_ITEM(PyList_GET_ITEM(pairs, k), 0);
            PyObject *descr = PyTuple_GET_ITEM(PyList_GET_ITEM(pairs, k), 1);
            if (!Py_IS_TYPE(descr, &PyMemberDescr_Type) ||
                ((PyMemberDescrObject *)descr)->d_member->type != T_OBJECT_EX || !PyUnicode_Check(name))
                continue;
            PyObject *value = PyMember_GetOne((char *)o, ((PyMemberDescrObject *)descr)->d_member);
            if (value)
                add_attribute(list, name, value);
            Py_XDECREF(value);
            PyErr_Clear();
        }
        PyErr_Clear();
        Py_XDECREF(dict);
        Py_XDECREF(pairs);
    }
}

static void take_attributes(PyObject *o, struct children *c)
{
    bool public = PyType_Check(o) || PyModule_Check(o);
    c->attributes = PyList_New(0);
    PyObject *dict = PyObject_GetAttrString(o, "__dict__");
    PyErr_Clear();
    PyObject *pairs = dict && PyDict_Check(dict) ? dict_pairs(dict)
                      : dict && PyType_Check(o)  ? PyMapping_Items(dict)
                                                 : NULL;
    for (Py_ssize_t i = 0; c->attributes && pairs && i < PyList_GET_SIZE(pairs); i++) {
        PyObject *name = PyTuple_GET_ITEM(PyList_GET_ITEM(pairs, i), 0);
        PyObject *value = Py_NewRef(PyTuple_GET_ITEM(PyList_GET_ITEM(pairs, i), 1));
        bool shown = PyUnicode_Check(name);
        if (shown && public) {
            shown = PyUnicode_GET_LENGTH(name) && PyUnicode_ReadChar(name, 0) != '_';
            PyObject *got = shown ? PyObject_GetAttr(o, name) : NULL; /* not the descriptor itself */
            if (got)
                Py_SETREF(value, got);
        }
        if (shown)
            add_attribute(c->attributes, name, value);
        Py_DECREF(value);
        PyErr_Clear();
    }
    if (c->attributes && !public)
        take_slots(o, c->attributes);
    PyErr_Clear();
    Py_XDECREF(dict);
    Py_XDECREF(pairs);
}

/* Can the key be written as it is shown? */
static bool is_literal(PyObject *key, int depth)
{
    if (PyTuple_CheckExact(key) && depth < 8) {
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(key); i++)
            if (!is_literal(PyTuple_GET_ITEM(key, i), depth + 1))
                return false;
        return true;
    }
    return PyUnicode_CheckExact(key) || PyLong_CheckExact(key) || PyBool_Check(key) ||
           PyBytes_CheckExact(key) || key == Py_None;
}

/* Bytes. *value: borrowed. */
static PyObject *child(const struct children *c, Py_ssize_t number, PyObject **value)
{
    Py_ssize_t items = c->items ? PyList_GET_SIZE(c->items) : 0;
    PyObject *label = NULL, *key = NULL;
    if (number >= items) {
        PyObject *pair = PyList_GET_ITEM(c->attributes, number - items);
        PyObject *name = PyTuple_GET_ITEM(pair, 0);
        *value = PyTuple_GET_ITEM(pair, 1);
        label = PyUnicode_FromFormat(PyUnicode_IsIdentifier(name) ? ".%U" : "<attribute %R>", name);
    } else if (c->kind == ITEMS_MAPPING) {
        PyObject *pair = PyList_GET_ITEM(c->items, number);
        bool good = PyTuple_Check(pair) && PyTuple_GET_SIZE(pair) == 2;
        key = good ? PyTuple_GET_ITEM(pair, 0) : NULL;
        *value = good ? PyTuple_GET_ITEM(pair, 1) : pair;
    } else {
        *value = PyList_GET_ITEM(c->items, number);
        label = PyUnicode_FromFormat(c->kind == ITEMS_SET ? "<%zd>" : "[%zd]", number);
    }
    PyErr_Clear();
    PyObject *bytes = label ? encoded(label) : NULL;
    Py_XDECREF(label);
    if (key) { /* its repr may raise */
        PyObject *repr = repr_of(key);
        bool literal = is_literal(key, 0);
        bytes = PyBytes_FromString(literal ? "[" : "<key ");
        if (bytes)
            PyBytes_ConcatAndDel(&bytes, repr);
        if (bytes)
            PyBytes_ConcatAndDel(&bytes, PyBytes_FromString(literal ? "]" : ">"));
        PyErr_Clear();
    }
    return bytes ? bytes : PyBytes_FromString("<?>");
}

static void send_children(PyObject *value, uint32_t from, uint32_t count)
{
    struct children c = {0};
    take_items(value, &c);
    take_attributes(value, &c);
    uint64_t items = c.items ? (uint64_t)PyList_GET_SIZE(c.items) : 0;
    uint64_t total = items + (c.attributes ? (uint64_t)PyList_GET_SIZE(c.attributes) : 0);
    for (uint64_t i = from; i < total && i - from < count; i++) {
        PyObject *one = NULL, *label = child(&c, (Py_ssize_t)i, &one);
        PyObject *type = one ? type_name(Py_TYPE(one), false) : NULL;
        if (label && type) {
            const char *text = PyBytes_AS_STRING(label);
            size_t len = strlen(text) + 1; /* a repr may hold NUL bytes: the label ends there */
            send(TF_ITEM_TRIES, text, len, PyBytes_AS_STRING(type), (size_t)PyBytes_GET_SIZE(type) + 1, NULL,
                 0);
            send_value(TF_ITEM_CHILD, text, len, one);
        }
        Py_XDECREF(label);
        Py_XDECREF(type);
    }
    send(TF_ITEM_COUNT, &total, sizeof(total), NULL, 0, NULL, 0);
    Py_XDECREF(c.items);
    Py_XDECREF(c.attributes);
}

/* ---- Names, for completion. */

/* Those of `names` (any iterable) that were not sent before. */
static void send_names(PyObject *names, PyObject *seen)
{
    PyObject *list = names ? PySequence_List(names) : NULL;
    for (Py_ssize_t i = 0; list && i < PyList_GET_SIZE(list); i++) {
        PyObject *name = PyList_GET_ITEM(list, i);
        if (!PyUnicode_Check(name) || PySet_Contains(seen, name) != 0)
            continue;
        PyObject *text = encoded(name);
        if (text && PySet_Add(seen, name) == 0)
            send(TF_ITEM_NAME, PyBytes_AS_STRING(text), (size_t)PyBytes_GET_SIZE(text), NULL, 0, NULL, 0);
        Py_XDECREF(text);
    }
    PyErr_Clear();
    Py_XDECREF(list);
}

static void send_variables(tf_frame *f, bool innermost)
{
    PyObject *seen = PySet_New(NULL), *ns = merged_namespace(f, NULL, innermost), *locals = PyDict_New();
    PyObject *names = f && f->f_builtins ? f->f_builtins : PyEval_GetBuiltins();
    if (seen && ns && locals) {
        if (f)
            each_local(f, false, put_name, locals);
        send_names(locals, seen);
        send_names(ns, seen);
        if (names && PyModule_Check(names))
            names = PyModule_GetDict(names);
        send_names(names, seen);
    }
    PyErr_Clear();
    Py_XDECREF(seen);
    Py_XDECREF(ns);
    Py_XDECREF(locals);
}

static bool is_blank(const char *text, size_t len)
{
    while (len && (*text == ' ' || *text == '\t' || *text == '\n' || *text == '\r')) {
        text++;
        len--;
    }
    return len == 0;
}

/* ---- Programs. */

static void send_program(tf_frame *f, const char *text, size_t len)
{
    PyObject *program, *name = f && f->f_globals && PyDict_Check(f->f_globals)
                                   ? PyDict_GetItemString(f->f_globals, "__name__")
                                   : NULL; /* borrowed */
    bool local;
    enum tf_pure r = tf_pure_prepare(text, len, f, &program, &local);
    if (r == TF_PURE_RAISES)
        return; /* the exception is sent */
    PyErr_Clear();
    PyObject *module = name && PyUnicode_Check(name) ? encoded(name) : PyBytes_FromString("");
    struct tf_prepared head = {.bits = (r == TF_PURE_OK ? TF_PROGRAM_PURE : 0) |
                                       (local ? TF_PROGRAM_LOCAL : 0) |
                                       (f && f->owner == FRAME_OWNED_BY_GENERATOR ? TF_PROGRAM_GENERATOR : 0),
                               .frame = (uint64_t)(uintptr_t)f,
                               .program_len = program ? (uint32_t)PyBytes_GET_SIZE(program) : 0};
    PyObject *object, *place, *as_text;
    tf_pure_place(text, len, f, &object, &place, &as_text);
    PyObject *place_text = as_text ? encoded(as_text) : NULL;
    if (object && place_text) {
        head.object = (uint64_t)(uintptr_t)object;
        head.type = (uint64_t)(uintptr_t)Py_TYPE(object);
        head.place_len = (uint32_t)PyBytes_GET_SIZE(place);
    }
    PyObject *rest = PyBytes_FromFormat("%s", module ? PyBytes_AS_STRING(module) : "");
    PyBytes_ConcatAndDel(&rest, PyBytes_FromStringAndSize("", 1));
    if (program && rest)
        PyBytes_Concat(&rest, program);
    if (head.place_len && rest)
        PyBytes_Concat(&rest, place);
    if (place_text && rest)
        PyBytes_Concat(&rest, place_text);
    PyBytes_ConcatAndDel(&rest, PyBytes_FromStringAndSize("", 1));
    if (rest)
        send(TF_ITEM_PROGRAM, &head, sizeof(head), PyBytes_AS_STRING(rest), (size_t)PyBytes_GET_SIZE(rest),
             NULL, 0);
    PyErr_Clear();
    Py_XDECREF(program);
    Py_XDECREF(module);
    Py_XDECREF(object);
    Py_XDECREF(place);
    Py_XDECREF(as_text);
    Py_XDECREF(place_text);
    Py_XDECREF(rest);
}

/* What the program of an expression says, and what Python says: for the tests. */
static void send_comparison(tf_frame *f, const char *text, size_t len)
{
    static const char *const words[] = {"ok", "cannot", "raises"};
    struct tf_pure_scope scope = {.frame = f};
    PyObject *program;
    bool local, truth = false;
    uint64_t fingerprint = 0, python_fingerprint = 0;
    int python_truth = -1;
    char result[128];
    enum tf_pure fits = TF_PURE_CANNOT, r = tf_pure_prepare(text, len, f, &program, &local);
    if (r == TF_PURE_RAISES)
        return;
    if (r == TF_PURE_OK) {
        const uint8_t *p = (const uint8_t *)PyBytes_AS_STRING(program);
        size_t n = (size_t)PyBytes_GET_SIZE(program);
        fits = tf_pure_truth(p, n, &scope, &truth);
        r = tf_pure_fingerprint(p, n, &scope, &fingerprint);
    }
    PyObject *value = value_of(f, NULL, true, text, len);
    if (value) {
        python_fingerprint = tf_pure_object_fingerprint(value);
        python_truth = PyObject_IsTrue(value);
    }
    PyErr_Clear();
    int size =
        snprintf(result, sizeof(result), "%s %s %d %016llx %d %016llx", words[r], words[fits], truth,
                 (unsigned long long)fingerprint, python_truth, (unsigned long long)python_fingerprint);
    const char *type = value ? Py_TYPE(value)->tp_name : "";
    send(TF_ITEM_VALUE, type, strlen(type) + 1, result, (size_t)size, NULL, 0);
    Py_XDECREF(program);
}

/* ---- */

void tf_settle(PyThreadState *ts)
{
    (void)tf_raised_take(ts);
    tf_hook_remove();
    ts->tracing++; /* no events, neither ours nor the program's */
#if TF_PY311
    ts->cframe->use_tracing = 0;
    ts->recursion_limit += HEADROOM;
    ts->recursion_remaining += HEADROOM;
#else
    ts->py_recursion_limit += HEADROOM;
    ts->py_recursion_remaining += HEADROOM;
    ts->c_recursion_remaining += HEADROOM;
#endif
}

/* other: the thread whose stack f is on, when it is not the one that runs. */
static void answer(const struct tf_inspect_req *req, tf_frame *f, PyThreadState *other, const char *text,
                   size_t len)
{
    bool innermost = req->frame == 0 && other == NULL;
    PyObject *value = NULL;
    if (req->what >= TF_INSPECT_EVAL && req->what != TF_INSPECT_ARGS && req->what != TF_INSPECT_THREADS) {
        /* What the program has in its buffers is not the expression's output. */
        tf_state.core->mute(true);
        flush("stdout");
        flush("stderr");
        tf_state.core->mute(false);
    }
    switch (req->what) {
    case TF_INSPECT_STACK:
        send_stack(f, other == NULL);
        return;
    case TF_INSPECT_THREADS:
        send_threads(tf_this_thread());
        return;
    case TF_INSPECT_LOCALS:
    case TF_INSPECT_ARGS:
        if (f) {
            bool args = req->what == TF_INSPECT_ARGS;
            struct sending s = {.function = args || (tf_frame_code(f)->co_flags & CO_OPTIMIZED),
                                .from = req->from};
            each_local(f, args, send_local, &s);
        }
        return;
    case TF_INSPECT_PREPARE:
        send_program(f, text, len);
        break;
    case TF_INSPECT_PURE:
        send_comparison(f, text, len);
        break;
    case TF_INSPECT_NAMES:
        if (is_blank(text, len)) {
            send_variables(f, innermost);
            break;
        }
        /* fall through */
    default:
        value = value_of(f, NULL, innermost, text, len);
    }
    if (value && req->what == TF_INSPECT_EVAL)
        send_value(TF_ITEM_VALUE, NULL, 0, value);
    if (value && req->what == TF_INSPECT_PRETTY)
        send_pretty(value);
    if (value && req->what == TF_INSPECT_EXPAND) {
        send_value(TF_ITEM_VALUE, NULL, 0, value);
        send_children(value, req->from, req->count);
    }
    if (value && req->what == TF_INSPECT_NAMES) {
        PyObject *names = PyObject_Dir(value), *seen = PySet_New(NULL);
        if (names && seen)
            send_names(names, seen);
        Py_XDECREF(names);
        Py_XDECREF(seen);
    }
    if (PyErr_Occurred())
        send_raised();
    flush("stdout");
    flush("stderr");
    Py_XDECREF(value);
}

void tf_inspect(const struct tf_inspect_req *req, const char *text, size_t text_len)
{
    PyThreadState *ts = tf_thread_settle(), *whose = ts;
    char message[80];
    int32_t tid;
    if (ts && req->thread && tf_thread_number(ts, &tid) != (int64_t)req->thread - 1)
        whose = tf_thread_by_number(ts->interp, req->thread - 1);
    if (ts) { /* also while the interpreter is taken down */
        tf_settle(ts);
        tf_entering_link();
        tf_frame *f = whose ? tf_frame_complete(tf_current_frame(whose)) : NULL;
        if (req->what != TF_INSPECT_STACK)
            for (uint32_t n = req->frame; f && n; n--)
                f = tf_frame_complete(f->previous);
        if (req->object)
            subject = tf_object_at(req->object, req->type);
        if (!whose)
            send_error(message,
                       (size_t)snprintf(message, sizeof(message), "thread %u is not there", req->thread - 1));
        else if (req->object && !subject)
            send_error(message, (size_t)snprintf(message, sizeof(message), "the object is not there"));
        else if (f || req->frame == 0 || req->what == TF_INSPECT_STACK)
            answer(req, f, whose != ts ? whose : NULL, text, text_len);
        else
            send_error(message, (size_t)snprintf(message, sizeof(message),
                                                 "there is no function number %u on the stack", req->frame));
    } else if (req->what != TF_INSPECT_STACK && req->what != TF_INSPECT_LOCALS &&
               req->what != TF_INSPECT_ARGS && req->what != TF_INSPECT_THREADS) {
        send_error(message,
                   (size_t)snprintf(message, sizeof(message), "Python is not running yet, or no more"));
    }
    send(TF_ITEM_DONE, NULL, 0, NULL, 0, NULL, 0);
}
