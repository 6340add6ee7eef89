/* The floor under every recorder of calls: a PEP 523 frame evaluator that does nothing but call the
 * interpreter's own. bench/rivals.py builds it for each Python, with that Python's headers, and
 * bench/programs/floor.py imports it before the program. It is no part of the build.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

static PyObject *evaluate(PyThreadState *thread, struct _PyInterpreterFrame *frame, int throwing)
{
    return _PyEval_EvalFrameDefault(thread, frame, throwing);
}

static PyObject *install(PyObject *module, PyObject *none)
{
    (void)module;
    (void)none;
#if PY_VERSION_HEX >= 0x030C0000
    // With a frame evaluator each Python call counts as one of C, of which 3.12 allows some hundreds:
    // programs go deeper.
    PyThreadState_Get()->c_recursion_remaining = 1 << 20;
#endif
    _PyInterpreterState_SetEvalFrameFunc(PyInterpreterState_Get(), evaluate);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"install", install, METH_NOARGS, "Put the empty frame evaluator in front of the interpreter's."}, {0}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "timefork_floor", .m_size = -1,
                                        .m_methods = methods};

PyMODINIT_FUNC PyInit_timefork_floor(void)
{
    return PyModule_Create(&definition);
}
