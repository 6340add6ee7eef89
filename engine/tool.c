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

/* Calls sys.monitoring's own functions for the effect; the tables that they need are private to the
 * interpreter. */
bool tf_tool_set(int tool, PyCodeObject *co, int events)
{
    const char *name = co ? "set_local_events" : "set_events";
    PyObject *monitoring = PySys_GetObject("monitoring"); /* borrowed */
    PyObject *function = monitoring ? PyObject_GetAttrString(monitoring, name) : NULL;
    PyObject *number = PyLong_FromLong(tool), *set = PyLong_FromLong(events), *result = NULL;
    if (function && number && set) {
        PyObject *local[] = {number, (PyObject *)co, set}, *global[] = {number, set};
        result = co ? PyObject_Vectorcall(function, local, 3, NULL)
                    : PyObject_Vectorcall(function, global, 2, NULL);
    }
    bool ok = result != NULL;
    Py_XDECREF(function);
    Py_XDECREF(number);
    Py_XDECREF(set);
    Py_XDECREF(result);
    return ok;
}

/* Asks the interpreter what was written behind its back. */
static bool tool_is_named(int tool, PyObject *name)
{
    PyObject *monitoring = PySys_GetObject("monitoring"); /* borrowed */
    PyObject *found = monitoring ? PyObject_CallMethod(monitoring, "get_tool", "i", tool) : NULL;
    bool same = found == name;
    Py_XDECREF(found);
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
