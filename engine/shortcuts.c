/*
 * shortcuts.c: closes the short cuts of single versions that do not ask whether there is a frame hook. The
 * interpreter would run a Python function without an evaluation of its own, and the hook would not see it.
 *
 * 3.13: CALL_ALLOC_AND_ENTER_INIT. When a CALL of a plain class has run a few times, it is specialised to
 * enter __init__ directly. The specialiser takes only classes whose tp_alloc is PyType_GenericAlloc, so
 * classes get another tp_alloc here, which calls PyType_GenericAlloc: those that exist when the hook is
 * installed, and the others when type.__new__ has made them. Instructions that were specialised before (by
 * the imports at start-up) are undone by giving the classes new version tags. Later versions of 3.13 do ask
 * for the hook; there this changes nothing.
 *
 * 3.11 before 3.11.7: BINARY_SUBSCR_GETITEM enters __getitem__ directly. The instruction has 16 bits for the
 * version of the function, and is not specialised for functions with greater versions. Versions are given out
 * one after the other, so 65,536 of them are used up here (about 10 ms), by letting one call be specialised
 * for one function again and again.
 *
 * All of this happens at start-up, in the same way when recording and when replaying.
 */
#include "engine/local.h"
#if TF_PY311
#include <internal/pycore_code.h>
#include <opcode.h>
#endif

#if TF_PY313

static newfunc type_new; /* type.__new__ itself */

static PyObject *alloc(PyTypeObject *type, Py_ssize_t items)
{
    return PyType_GenericAlloc(type, items);
}

bool tf_constructor_is_simple(PyTypeObject *type)
{
    return type->tp_alloc == alloc && type->tp_new == PyBaseObject_Type.tp_new &&
           PyType_HasFeature(type, Py_TPFLAGS_INLINE_VALUES);
}

static void take_over(PyTypeObject *type)
{
    if (PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE) && type->tp_alloc == PyType_GenericAlloc)
        type->tp_alloc = alloc;
}

static PyObject *new_type(PyTypeObject *metatype, PyObject *args, PyObject *kwargs)
{
    PyObject *type = type_new(metatype, args, kwargs);
    if (type && PyType_Check(type))
        take_over((PyTypeObject *)type);
    return type;
}

/* The class and all classes below it. A class with several bases is met several times: harmless. */
static void take_over_tree(PyTypeObject *type)
{
    if (type->tp_new == type_new)
        type->tp_new = new_type;
    if (type->tp_alloc == PyType_GenericAlloc && PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE)) {
        take_over(type);
        PyType_Modified(type);
    }
    PyObject *unbound =
        PyDict_GetItemString(PyType_Type.tp_dict ? PyType_Type.tp_dict : PyType_GetDict(&PyType_Type),
                             "__subclasses__"); /* type's own: a metaclass may have another */
    PyObject *below = unbound ? PyObject_CallOneArg(unbound, (PyObject *)type) : NULL;
    if (below && PyList_Check(below))
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(below); i++)
            take_over_tree((PyTypeObject *)PyList_GET_ITEM(below, i));
    Py_XDECREF(below);
    PyErr_Clear();
}

void tf_shortcuts_close(void)
{
    type_new = PyType_Type.tp_new;
    take_over_tree(&PyBaseObject_Type);
}

#elif TF_PY311

/* Lets go of the versions of __getitem__ functions that have one already, in the class and all classes below
 * it. */
static void forget_versions(PyTypeObject *type)
{
    PyObject *getitem = type->tp_dict ? PyDict_GetItemString(type->tp_dict, "__getitem__") : NULL;
    if (getitem && PyFunction_Check(getitem))
        ((PyFunctionObject *)getitem)->func_version = 0;
    PyObject *unbound = PyDict_GetItemString(PyType_Type.tp_dict, "__subclasses__");
    PyObject *below = unbound ? PyObject_CallOneArg(unbound, (PyObject *)type) : NULL;
    if (below && PyList_Check(below))
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(below); i++)
            forget_versions((PyTypeObject *)PyList_GET_ITEM(below, i));
    Py_XDECREF(below);
    PyErr_Clear();
}

static bool use_up_versions(PyObject *caller, PyObject *callee)
{
    PyCodeObject *co = (PyCodeObject *)((PyFunctionObject *)caller)->func_code;
    for (int i = 0; i < 20; i++) /* until it is quickened */
        Py_XDECREF(PyObject_CallNoArgs(caller));
    _Py_CODEUNIT *call = NULL;
    for (Py_ssize_t i = 0; i < Py_SIZE(co) && !call;) {
        uint8_t op = tf_code_opcode(co, i);
        if (op == CALL)
            call = _PyCode_CODE(co) + i;
        i += 1 + tf_code_caches(op);
    }
    for (int i = 0; call && i < 1 << 17; i++) {
        if (((PyFunctionObject *)callee)->func_version > UINT16_MAX)
            return true;
        ((PyFunctionObject *)callee)->func_version = 0;
        *call = _Py_MAKECODEUNIT(CALL_ADAPTIVE, _Py_OPARG(*call));
        ((_PyCallCache *)(call + 1))->counter = 0;
        Py_XDECREF(PyObject_CallNoArgs(caller));
    }
    return false;
}

void tf_shortcuts_close(void)
{
    if (Py_Version >= 0x030b07f0)
        return;
    PyObject *ns = PyDict_New();
    PyObject *done =
        ns ? PyRun_String("def callee(): pass\ndef caller(): callee()\n", Py_file_input, ns, ns) : NULL;
    PyObject *caller = done ? PyDict_GetItemString(ns, "caller") : NULL;
    PyObject *callee = done ? PyDict_GetItemString(ns, "callee") : NULL;
    if (!caller || !callee || !use_up_versions(caller, callee))
        Py_FatalError("timefork: __getitem__ cannot be made visible in this version of Python 3.11");
    Py_DECREF(done);
    Py_DECREF(ns);
    forget_versions(&PyBaseObject_Type);
}

#else

void tf_shortcuts_close(void)
{
}

#endif
