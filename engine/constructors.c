/*
 * constructors.c: closes the one short cut of Python 3.13 that does not ask for a frame hook.
 *
 * When a CALL of a plain class has run a few times, the interpreter specialises it to
 * CALL_ALLOC_AND_ENTER_INIT, which runs __init__ without an evaluation of its own: the hook would not see it.
 * The specialiser takes only classes whose tp_alloc is PyType_GenericAlloc, so classes get another tp_alloc
 * here, which calls PyType_GenericAlloc: those that exist when the hook is installed, and the others when
 * type.__new__ has made them. Instructions that were specialised before (by the imports at start-up) are
 * undone by giving the classes new version tags.
 *
 * Later versions of 3.13 do ask for the hook; there this changes nothing.
 */
#include "engine/local.h"

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

void tf_constructors_install(void)
{
    type_new = PyType_Type.tp_new;
    take_over_tree(&PyBaseObject_Type);
}

#endif
