/*
 * tool.c: a tool of sys.monitoring that belongs to the engine (3.12 and later). Called between
 * tf_divert_begin() and tf_divert_end().
 */
#include "engine/local.h"

#if !TF_PY311

int tf_tool_take(PyInterpreterState *interp)
{
    int tool = 5;
    while (tool > 0 && interp->monitoring_tool_names[tool])
        tool--;
    if (interp->monitoring_tool_names[tool]) { /* the program uses all six: one of them has to give way */
        for (int e = 0; e < _PY_MONITORING_EVENTS; e++)
            interp->monitoring_callables[tool][e] = NULL;
    }
    return tool;
}

/* A function of sys.monitoring, borrowed. Not as an attribute: looking that up leaves its name in the cache
 * of type attributes, in the place of another, which may be freed with it. */
static PyObject *monitoring_function(const char *name)
{
    PyObject *monitoring = PySys_GetObject("monitoring"); /* borrowed */
    return monitoring && PyModule_Check(monitoring) ? PyDict_GetItemString(PyModule_GetDict(monitoring), name)
                                                    : NULL;
}

/* Calls sys.monitoring's own functions for the effect; the tables that they need are private to the
 * interpreter. */
bool tf_tool_set(int tool, PyCodeObject *co, int events)
{
    PyObject *function = monitoring_function(co ? "set_local_events" : "set_events");
    PyObject *number = PyLong_FromLong(tool), *set = PyLong_FromLong(events), *result = NULL;
    if (function && number && set) {
        PyObject *local[] = {number, (PyObject *)co, set}, *global[] = {number, set};
        result = co ? PyObject_Vectorcall(function, local, 3, NULL)
                    : PyObject_Vectorcall(function, global, 2, NULL);
    }
    bool ok = result != NULL;
    Py_XDECREF(number);
    Py_XDECREF(set);
    Py_XDECREF(result);
    return ok;
}

/* Asks the interpreter what was written behind its back. */
static bool tool_is_named(int tool, PyObject *name)
{
    PyObject *function = monitoring_function("get_tool"), *number = PyLong_FromLong(tool);
    PyObject *found = function && number ? PyObject_Vectorcall(function, &number, 1, NULL) : NULL;
    bool same = found == name;
    Py_XDECREF(found);
    Py_XDECREF(number);
    return same;
}

bool tf_tool_listen(PyInterpreterState *interp, int tool, int what, PyMethodDef *def, int *events)
{
    PyObject *callback = PyCFunction_New(def, NULL);
    if (!callback)
        return false;
    if (PyObject_GC_IsTracked(callback))
        PyObject_GC_UnTrack(callback);
    interp->monitoring_callables[tool][what] = callback;
    *events |= 1 << what;
    return true;
}

void tf_tool_name(PyInterpreterState *interp, int tool)
{
    interp->monitoring_tool_names[tool] = Py_NewRef(Py_Ellipsis);
    if (!tool_is_named(tool, Py_Ellipsis))
        tf_other_layout();
}

#endif
