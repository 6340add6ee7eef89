/*
 * inspect.c: answers questions about a stopped program: stack, variables, expressions.
 *
 * Runs in a fork of the stopped process that is thrown away, so nothing here has to be put back: tracing, the
 * hook and the exception in flight are put away, limits are raised, and the program's own code (reprs,
 * expressions) runs as it likes.
 */
#include "engine/local.h"

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

static void send_stack(tf_frame *f)
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

/* ---- Variables. */

/* The value of fast local number i, borrowed; NULL if unbound. */
static PyObject *fast_local(tf_frame *f, PyCodeObject *co, int i, char kind)
{
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

/* Calls see(name, value) for each variable of the frame, until it says false. */
typedef bool (*see_fn)(PyObject *name, PyObject *value, void *arg);

static void each_local(tf_frame *f, see_fn see, void *arg)
{
    PyCodeObject *co = tf_frame_code(f);
    for (int i = 0; i < co->co_nlocalsplus; i++) {
        PyObject *value = fast_local(f, co, i, PyBytes_AS_STRING(co->co_localspluskinds)[i]);
        if (!value)
            continue;
        Py_INCREF(value);
        bool go_on = see(PyTuple_GET_ITEM(co->co_localsplusnames, i), value, arg);
        Py_DECREF(value);
        if (!go_on)
            return;
    }
    if ((co->co_flags & CO_OPTIMIZED) || !f->f_locals)
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

/* One namespace for all: nested scopes of an expression (generators, lambdas) see globals only. */
static PyObject *merged_namespace(tf_frame *f, PyObject *globals)
{
    if (f && f->f_globals)
        globals = f->f_globals;
    PyObject *ns = globals && PyDict_Check(globals) ? PyDict_Copy(globals) : PyDict_New();
    if (!ns)
        return NULL;
    if (f)
        each_local(f, put_name, ns);
    PyObject *builtins = f && f->f_builtins ? f->f_builtins : PyEval_GetBuiltins();
    if (PyDict_SetItemString(ns, "__builtins__", builtins) < 0)
        PyErr_Clear();
    if (tf_exit_value.event >= 0 && tf_exit_value.value &&
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

PyObject *tf_evaluate(tf_frame *f, PyObject *globals, const char *text, size_t len)
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
    ns = merged_namespace(f, globals);
    if (ns)
        value = PyEval_EvalCode(code, ns, ns);
done:
    Py_XDECREF(source);
    Py_XDECREF(code);
    Py_XDECREF(ns);
    return value;
}

static void evaluate(tf_frame *f, const char *text, size_t len)
{
    PyObject *value = tf_evaluate(f, NULL, text, len);
    if (value)
        send_value(TF_ITEM_VALUE, NULL, 0, value);
    if (PyErr_Occurred())
        send_raised();
    flush("stdout");
    flush("stderr");
    Py_XDECREF(value);
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

void tf_inspect(const struct tf_inspect_req *req, const char *text, size_t text_len)
{
    int what = (int)req->what;
    PyThreadState *ts = tf_this_thread();
    if (ts) { /* also while the interpreter is taken down */
        tf_settle(ts);
        tf_frame *f = tf_frame_complete(tf_current_frame(ts));
        if (what == TF_INSPECT_STACK)
            send_stack(f);
        else if (what == TF_INSPECT_EVAL)
            evaluate(f, text, text_len);
        else if (what == TF_INSPECT_LOCALS && f) {
            struct sending s = {.function = tf_frame_code(f)->co_flags & CO_OPTIMIZED, .from = req->from};
            each_local(f, send_local, &s);
        }
    } else if (what == TF_INSPECT_EVAL) {
        static const char message[] = "Python is not running yet, or no more";
        send_error(message, sizeof(message) - 1);
    }
    send(TF_ITEM_DONE, NULL, 0, NULL, 0, NULL, 0);
}
